# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of versions: which k3s goes with which vSphere CPI and CSI, and where their parts come from.

To support a new release add a row to SETS, its manifests' digests to the tables below, and, for a new minor of the CSI
driver, the range of Kubernetes minors that its release notes give to CSI_KUBERNETES. DEFAULT follows when the row's
Kubernetes has run in the lab.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


class VersionError(ValueError):
    """A version that can't be understood or is not in the table."""


@dataclass(frozen=True)
class VersionSet:
    """Parts that are known to work together."""

    kubernetes: str
    k3s: str
    cpi: str
    csi: str
    # The oldest release of the minor before that a server may be upgraded from, and why; any when empty.
    upgrade_from: str = ""
    upgrade_reason: str = ""


# Oldest first. k3s, CPI, CSI: the newest patch release. CPI: same minor as Kubernetes; CSI: see CSI_KUBERNETES. The last
# images of CSI 2.7 and 3.0 that anybody has are those of 2.7.2 and 3.0.2. CSI 3.8, the first for Kubernetes 1.36, is not
# released: until it is, row 1.36 has one whose vendor does not promise that minor, which preflight reports as version-set.
SETS: tuple[VersionSet, ...] = (
    VersionSet("1.25", "v1.25.16+k3s4", "1.25.3", "2.7.2"),
    VersionSet("1.26", "v1.26.15+k3s1", "1.26.2", "3.0.2"),
    VersionSet("1.27", "v1.27.16+k3s1", "1.27.0", "3.3.1"),
    VersionSet("1.28", "v1.28.15+k3s1", "1.28.1", "3.3.1"),
    VersionSet("1.29", "v1.29.15+k3s1", "1.29.2", "3.3.1"),
    VersionSet("1.30", "v1.30.14+k3s2", "1.30.2", "3.3.1"),
    VersionSet("1.31", "v1.31.14+k3s1", "1.31.1", "3.5.1"),
    VersionSet("1.32", "v1.32.13+k3s1", "1.32.3", "3.5.1"),
    VersionSet("1.33", "v1.33.13+k3s2", "1.33.1", "3.6.3"),
    VersionSet(
        "1.34", "v1.34.11+k3s1", "1.34.0", "3.6.3",
        "v1.33.7+k3s3", "its etcd 3.6 refuses a cluster with members that an etcd before 3.5.26 left behind (k3s-io/k3s#13485)",
    ),
    VersionSet("1.35", "v1.35.4+k3s1", "1.35.1", "3.7.3"),
    VersionSet("1.36", "v1.36.4+k3s1", "1.36.0", "3.7.3"),
)

# The row of an empty k3s_version: the newest that the vendors allow and whose very Kubernetes runs in the lab, so its k3s
# may be older than the newest patch release.
DEFAULT = "1.35"

# Minor of the CSI driver -> first and last Kubernetes minor, as its release notes say.
CSI_KUBERNETES: dict[str, tuple[str, str]] = {
    "2.7": ("1.23", "1.25"),
    "3.0": ("1.24", "1.27"),
    "3.3": ("1.27", "1.30"),
    "3.4": ("1.30", "1.32"),
    "3.5": ("1.31", "1.33"),
    "3.6": ("1.32", "1.34"),
    "3.7": ("1.33", "1.35"),
    "3.8": ("1.34", "1.36"),
}

# k3s releases that die while a node waits for the cloud provider, with the release that repairs them.
BROKEN_K3S: dict[str, str] = {
    "1.29.4": "ends every 90 s while a node is uninitialised (k3s-io/k3s#10068); use 1.29.6 or newer",
    "1.29.5": "ends every 90 s while a node is uninitialised (k3s-io/k3s#10068); use 1.29.6 or newer",
}

VCENTER_MINIMUM = "6.7.3"

CPI_MANIFEST_URL = "https://raw.githubusercontent.com/kubernetes/cloud-provider-vsphere"
CSI_MANIFEST_URL = "https://raw.githubusercontent.com/kubernetes-sigs/vsphere-csi-driver"

# Version -> SHA-256 of the manifest in the tag of that version. A version without one is refused; see manifest/source.py.
CPI_MANIFESTS: dict[str, str] = {
    "1.25.0": "cb604362a499d9d684c47f321890093db1f87040937d25244c6979371fee51fc",
    "1.25.1": "4d615cd005ee8601e0f22bd693b21868e52466949073da2bcac667be8aace52f",
    "1.25.2": "c9d4cb5a41909718d02a38d7711940a3fdc5596577a61961246a7a5bc2a9ebdb",
    "1.25.3": "045c51dee2de020bdd0611a957d29c4b8b9fa129ff5fee4e9ab1a15711f90c5a",
    "1.26.0": "a5ddbc3782e6d44afc02e12f5759c7a46e1e114936a18cdb0f1d5cfdc0708495",
    "1.26.1": "1a667fbf63a473610a2078e8366050d1d67d93553c5d7aaad4c2438a85e1912f",
    "1.26.2": "85b60da0f9d875787f789804ea483d7d88a14128a79ba4f26c09c981ca044d09",
    "1.27.0": "2bac2345f2c42e60edd14902939dc2779b3fdada3a893defcd3ca7de10f63151",
    "1.28.0": "1dc8da849c12783f98e80d306c4e0e3975052586c33922c1dfdf230489246a75",
    "1.28.1": "3ad632e1c762b475ccb4fc2555bdcff69d35e3f0b45ebdfa38d9877da34efbee",
    "1.29.0": "51e7689723532656ea5fa66768cc81f1f675a916299c357302f272a8201fdb3b",
    "1.29.1": "5825eb21d0b32351a8b13214942d075a80d18e3beefa3dac2594346a20c2e8db",
    "1.29.2": "ef54d0ab13b1658db48bc4d67dc3cf0617957d1688b020c78ad6a1575da3c98e",
    "1.30.0": "7fe6614bea223cdd08eda1db41958e8e5a39a5e2bdf1f15dd11e5b4a8e26ef31",
    "1.30.1": "7fe6614bea223cdd08eda1db41958e8e5a39a5e2bdf1f15dd11e5b4a8e26ef31",
    "1.30.2": "fa46cbf0565cd1951e1f1a72ea436b11cce79d1478d583b1bcfe80bd072f01d6",
    "1.31.0": "61502c21b95c619ddf8c8e8db908caa1af5ec59446de404726eb2c6aa240d116",
    "1.31.1": "9070460c8cab39c8ddd65ad363ec0fc5e487382f4a40a503c606b48a1038d36e",
    "1.32.1": "074da32ffa75a1a395637ecace67f2f950de2303e72ed7d99bafb86bee433bd3",
    "1.32.2": "1a2ac93269b5e59540e9c3a63085126971fb49643e73a6905035959a099890c6",
    "1.32.3": "a4a772349dffbafc16ee9c6bef7da66315a0a9c09c56a540b21bb8735d8d005d",
    "1.33.0": "266be45e6f2e36831e8ea4b41a68ab0dd1a8e953dfecece438b98fb2bcdc56ac",
    "1.33.1": "d941af210343686ca907b73ec4eba5b9b69d009ac8fc4064b7e89dc90b084650",
    "1.34.0": "9def747cdb1c6a68e718206127c41fa56d7bcb450b4980de2c4b85d0d16824c7",
    "1.35.0": "a1f640c7ac13ee4e6c50944c136d08794e120d73a80e06b0a52ec777dc8aa2e6",
    "1.35.1": "725597e9909df9674cebb1dfeea358a8d732fc4fa57719b49893ef051d981eac",
    "1.36.0": "ec84c52165cf4517110be6d50edf2204c4cb8ab65794229a700cc3e36247b1e7",
}

CSI_MANIFESTS: dict[str, str] = {
    "2.7.0": "1c57874aae6683f8760cdeba22c4003a824773790b0b63b76f2a76d2510479db",
    "2.7.1": "43da577fe80e2a4ca45a3a0d37168aea801d74a2c4fba8bd974141d069fd9527",
    "2.7.2": "2076ae2909435aff676e1061aa6a95ec58a1d0f46b2f7a26d103e3ee4e9d1a01",
    "2.7.3": "7e206b46581649910a81fe8ef14139120b2cd3bdf95d34d64db7444be0455127",
    "3.0.0": "72913f86cde8ad33bf00cd608d5f0ac87ca9e4e0f31be36cda4ce3dc9c225379",
    "3.0.1": "dca0e66105331a0aeed6eb52a4afca298e8b6c40d3131b0a45cbac0a9725a962",
    "3.0.2": "9589d692328a38745510d1e5b52d0a481ac195d31197d3403db598d21b283197",
    "3.0.3": "e4db6f5df9aefb12a2f9cd34d6d10742645fd3c07d6d391989cccd4ab7def9be",
    "3.1.0": "1a9b237a7117a5d6e29a9d9170deb22fd54dc264a73bd953aab43df9709d587b",
    "3.1.1": "a40a76a2b694ed82851c4ede93461ea8f1b9abad2a32ff686cdf9954830b8e62",
    "3.1.2": "f4cd50ef15f98fd94fa5b417252e693c56ee32623ecc074f2229e4e570bd2df2",
    "3.2.0": "f2ccb7d3a1911c1e11b2ab2d77e46ca78ed4f9711fbe2955248e3723e1564881",
    "3.3.0": "3655b759c7f0a8c420bf04b9c71907df4a67a419ca2c5ea12f7fdf0d5fa445be",
    "3.3.1": "87e8ff7e3f63aad08d2ca5650b35ee60e65ec83b6cc98b3f2c95637f3eb426ed",
    "3.4.0": "4f012be6ab3bf8ad113927133aa4bcffd5a248149a5bf1e6191c2d89f740972a",
    "3.5.0": "834d05d1548e43601d4e265b02c71c1d9ecb3b8286a428b8149f6b83ddee24b0",
    "3.5.1": "fd622609a34fc5d91fb701d7e5631ef2caca5c70152321b826ba3add0fd32d8c",
    "3.6.0": "6b49a13a433511aa23bb454e7559fbc09270fb40b964469e6a8433622b3a9907",
    "3.6.1": "6b001428af34b91faedd38a400bf3276d4f5dee5d57473177f6d55bfa39aa774",
    "3.6.2": "1d9ded87eb571c27229dfb0ba11ed234459be6267f2fed4060db9893b54956b0",
    "3.6.3": "e5b3730805beca9544976cb1b6c2e6fdf65c82c170c2e1077a8056eea686965d",
    "3.7.0": "985cf3473ff76d37a1001e1b5e93d9703775c34202826b8940c080f9cb9181a0",
    "3.7.1": "caacf2ede49cee822fce2623d7c754a05f60294f50a0900ce2a7ebaaa6463a60",
    "3.7.2": "4bf33cf26f4e4ff1b09a160ab17e3e88162a0ab756cdcd68064a8b02292be92a",
    "3.7.3": "594c5769f14de0bd89309edca0c15e29efb73bd7e727833965e0ee41dac38531",
}

# The snapshot-controller, for every Kubernetes minor of the table.
SNAPSHOTTER = "8.2.0"
SNAPSHOT_MANIFEST_URL = "https://raw.githubusercontent.com/kubernetes-csi/external-snapshotter"
# Digests of the first four files of snapshot_manifests(), the same in all versions below, and of the last by version.
_SNAPSHOT_COMMON = (
    "75e6565aac2c0f2949ed13ea884bbaa388cb7be576b558b709cf1168e011828d",
    "895a3c1e73b60f06a0deb566dd123d01bdf1b2efc5d5ff5231ff8bbcf42dafc7",
    "b032116e987fb1d7d93cec7d942833adeb9d95c9bdc7e00c10b280c2fe4a6c33",
    "99c4ac480b6c9563be0d85599e29cc7b68b25a82d250b0e789726727551e8d38",
)
SNAPSHOT_SETUP: dict[str, str] = {
    "8.2.0": "faf5c93e57bcbfb0f5831a0ca93d869764980f3d113c8379a7ccb6464d5f910c",
    "8.2.1": "a2985308839d7809cf60bff2df51b2e440bb4ef9498385fad3049a786b8d04a4",
    "8.3.0": "7a0b228f8570917dae9556f9540b9ba0fd0267f365ffc486826184fc5832488f",
    "8.4.0": "7a0b228f8570917dae9556f9540b9ba0fd0267f365ffc486826184fc5832488f",
    "8.5.0": "bab025e1fed9199c5d827f64febb572dd8b746928e48d656312a215bede74d92",
    "8.6.0": "920166ff9001203e9def2504903eb196cd1da55d520f022807cc6ac82ef8eeba",
}

# This project was deleted in September 2024, with all its images.
DELETED_REGISTRY = "gcr.io/cloud-provider-vsphere/"


def minor(version: str) -> str:
    """'1.34' of 'v1.34.4+k3s1'."""
    match = re.match(r"v?(\d+)\.(\d+)(?:[.+-]|$)", str(version))
    if not match:
        raise VersionError(f"The version {version!r} can't be understood; expected something like v1.34.4+k3s1 or 3.3.1.")
    return f"{match.group(1)}.{match.group(2)}"


def _number(minor_version: str) -> tuple[int, int]:
    first, second = minor_version.split(".")
    return int(first), int(second)


def plain(version: str) -> str:
    """'1.34.4' of 'v1.34.4+k3s1'; '3.8.0-rc.1' stays."""
    return re.sub(r"(\+.*|-k3s\d+)$", "", str(version)).lstrip("v")


def default() -> VersionSet:
    """The row of an empty k3s_version."""
    return next(row for row in SETS if row.kubernetes == DEFAULT)


def for_k3s(version: str | None = None) -> VersionSet:
    """The set for this k3s version (its minor counts), or the default one."""
    if not version:
        return default()
    row = row_of(version)
    if row is not None:
        return row
    known = f"{SETS[0].kubernetes} to {SETS[-1].kubernetes}"
    raise VersionError(f"There is no tested set of versions for k3s {version} (known: {known}); set k3s_version, or cpi_version and csi_version too.")


def row_of(k3s: str) -> VersionSet | None:
    """The row of this k3s version's minor; None when it has none."""
    wanted = minor(k3s)
    return next((row for row in SETS if row.kubernetes == wanted), None)


def conflicts(k3s: str, cpi: str, csi: str) -> dict[str, str]:
    """Which of these three does not belong to the others, and why; empty when they do."""
    found = {}
    kubernetes = minor(k3s)
    if minor(cpi) != kubernetes:
        found["cpi"] = f"CPI {cpi} is made for Kubernetes {minor(cpi)}, not {kubernetes}"
    span = CSI_KUBERNETES.get(minor(csi))
    if span is None:
        found["csi"] = f"CSI {csi} is in no tested set"
    elif not _number(span[0]) <= _number(kubernetes) <= _number(span[1]):
        found["csi"] = f"CSI {csi} supports Kubernetes {span[0]} to {span[1]}, not {kubernetes}"
    if plain(k3s) in BROKEN_K3S:
        found["k3s"] = f"k3s {k3s} {BROKEN_K3S[plain(k3s)]}"
    return found


def compatible(k3s: str, cpi: str, csi: str) -> list[str]:
    """Why these three don't belong together; empty when they do."""
    return list(conflicts(k3s, cpi, csi).values())


def cpi_image(version: str) -> str:
    """The CPI's image: the community's own registry has it from 1.28 on; before, a mirror is all that is left."""
    if _number(minor(version)) >= (1, 28):
        return f"registry.k8s.io/cloud-pv-vsphere/cloud-provider-vsphere:v{plain(version)}"
    return f"docker.io/rancher/mirrored-cloud-provider-vsphere-cpi-release-manager:v{plain(version)}"


def csi_images(version: str) -> dict[str, str]:
    """Images of the driver and the syncer; see cpi_image."""
    if _number(minor(version)) >= (3, 3) or plain(version) in ("3.1.2", "3.2.0"):
        return {name: f"registry.k8s.io/csi-vsphere/{name}:v{plain(version)}" for name in ("driver", "syncer")}
    return {name: f"docker.io/rancher/mirrored-cloud-provider-vsphere-csi-release-{name}:v{plain(version)}" for name in ("driver", "syncer")}


def cpi_manifest(version: str) -> dict[str, str]:
    """Path below the base URL, and digest ('' when it is not known) of the CPI's manifest."""
    number = plain(version)
    return {"path": f"v{number}/releases/v{minor(version)}/vsphere-cloud-controller-manager.yaml", "sha256": CPI_MANIFESTS.get(number, "")}


def csi_manifest(version: str) -> dict[str, str]:
    """The same for CSI's manifest. The namespace stands in a file of its own upstream; we make it ourselves."""
    number = plain(version)
    return {"path": f"v{number}/manifests/vanilla/vsphere-csi-driver.yaml", "sha256": CSI_MANIFESTS.get(number, "")}


def snapshot_manifests(version: str = SNAPSHOTTER) -> list[dict[str, str]]:
    """Paths below the base URL, and digests, of the three CRDs and the two files of the snapshot-controller."""
    number = plain(version)
    paths = [f"client/config/crd/snapshot.storage.k8s.io_volumesnapshot{part}.yaml" for part in ("classes", "contents", "s")]
    paths += [f"deploy/kubernetes/snapshot-controller/{part}-snapshot-controller.yaml" for part in ("rbac", "setup")]
    setup = SNAPSHOT_SETUP.get(number, "")
    digests = (*_SNAPSHOT_COMMON, setup) if setup else ("",) * len(paths)
    return [{"path": f"v{number}/{path}", "sha256": digest} for path, digest in zip(paths, digests)]


def describe(k3s: str | None = None, cpi: str | None = None, csi: str | None = None, snapshotter: str | None = None) -> dict[str, Any]:
    """The set for a k3s version with all that follows from it; the other parts may be given to differ from the table."""
    if k3s and cpi and csi:
        row = VersionSet(minor(k3s), k3s, plain(cpi), plain(csi))
    else:
        try:
            base = for_k3s(k3s)
        except VersionError:
            if not cpi and not csi:
                raise
            base = default()  # what was not given is only a guess then, and compatible() says that it does not fit
        row = VersionSet(base.kubernetes, k3s or base.k3s, plain(cpi or base.cpi), plain(csi or base.csi))
    return {
        "kubernetes": row.kubernetes,
        "k3s": row.k3s,
        "cpi": row.cpi,
        "csi": row.csi,
        "cpi_image": cpi_image(row.cpi),
        "cpi_manifest": cpi_manifest(row.cpi),
        "csi_images": csi_images(row.csi),
        "csi_manifest": csi_manifest(row.csi),
        "snapshotter": plain(snapshotter or SNAPSHOTTER),
        "snapshot_image": f"registry.k8s.io/sig-storage/snapshot-controller:v{plain(snapshotter or SNAPSHOTTER)}",
        "snapshot_manifests": snapshot_manifests(snapshotter or SNAPSHOTTER),
        "problems": compatible(row.k3s, row.cpi, row.csi),
    }
