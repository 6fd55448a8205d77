# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of versions: which k3s goes with which vSphere CPI and CSI, and where their parts come from.

To support a new release add a row to SETS, its manifests' digests to the two tables below, and, for a new minor of the
CSI driver, the range of Kubernetes minors that its release notes give to CSI_KUBERNETES.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
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


# Oldest first. k3s: the newest patch release of the minor; CPI: same minor; CSI: see CSI_KUBERNETES.
SETS: tuple[VersionSet, ...] = (
    VersionSet("1.25", "v1.25.16+k3s4", "1.25.0", "2.7.2"),
    VersionSet("1.26", "v1.26.15+k3s1", "1.26.0", "3.0.2"),
    VersionSet("1.27", "v1.27.16+k3s1", "1.27.0", "3.3.1"),
    VersionSet("1.28", "v1.28.15+k3s1", "1.28.0", "3.3.1"),
    VersionSet("1.29", "v1.29.15+k3s1", "1.29.0", "3.3.1"),
    VersionSet("1.30", "v1.30.14+k3s2", "1.30.1", "3.3.1"),
    VersionSet("1.31", "v1.31.14+k3s1", "1.31.0", "3.5.0"),
    VersionSet("1.32", "v1.32.13+k3s1", "1.32.2", "3.5.0"),
    VersionSet("1.33", "v1.33.13+k3s2", "1.33.0", "3.6.2"),
    VersionSet("1.34", "v1.34.11+k3s1", "1.34.0", "3.6.2"),
    VersionSet("1.35", "v1.35.8+k3s1", "1.35.1", "3.7.3"),
    VersionSet("1.36", "v1.36.4+k3s1", "1.36.0", "3.8.0"),
)

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

# Version -> (git tag that holds its manifest, SHA-256 of the file). The folder is named after the minor. Every tag
# carries the manifests of the older minors too; those up to 1.31 are pinned as they are in tag v1.31.0.
_CPI_MANIFESTS: dict[str, tuple[str, str]] = {
    "1.25.0": ("v1.31.0", "7fe270ea279642a4096b2e26894a6a804c49aef550571b49a709550d96ba73d4"),
    "1.26.0": ("v1.31.0", "a5ddbc3782e6d44afc02e12f5759c7a46e1e114936a18cdb0f1d5cfdc0708495"),
    "1.27.0": ("v1.31.0", "2bac2345f2c42e60edd14902939dc2779b3fdada3a893defcd3ca7de10f63151"),
    "1.28.0": ("v1.31.0", "497ad26348b33f30c8ef0fff9f35c81d0ebc0ea2ad05c981b13779b68bce93e7"),
    "1.29.0": ("v1.31.0", "6892b555c9fea845a07e83c2ad862bbed787c027196aeebbe9790c1605e25c9b"),
    "1.30.1": ("v1.31.0", "13dfa5ce98928e1d042e54bf628337fae1507ce60e36d3cdb1e312f5fd81a8a9"),
    "1.31.0": ("v1.31.0", "61502c21b95c619ddf8c8e8db908caa1af5ec59446de404726eb2c6aa240d116"),
}

_CSI_MANIFESTS: dict[str, str] = {
    "2.7.2": "2076ae2909435aff676e1061aa6a95ec58a1d0f46b2f7a26d103e3ee4e9d1a01",
    "3.3.1": "87e8ff7e3f63aad08d2ca5650b35ee60e65ec83b6cc98b3f2c95637f3eb426ed",
    "3.6.2": "1d9ded87eb571c27229dfb0ba11ed234459be6267f2fed4060db9893b54956b0",
}

# The sidecars of each CSI minor, by the name of their container, as its manifest has them.
CSI_SIDECARS: dict[str, dict[str, str]] = {
    "2.7": {"csi-attacher": "v3.5.0", "csi-resizer": "v1.6.0", "livenessprobe": "v2.8.0", "csi-provisioner": "v3.3.0", "csi-snapshotter": "v6.0.1",
            "csi-node-driver-registrar": "v2.6.2"},
    "3.3": {"csi-attacher": "v4.5.1", "csi-resizer": "v1.10.1", "livenessprobe": "v2.12.0", "csi-provisioner": "v4.0.1", "csi-snapshotter": "v7.0.2",
            "csi-node-driver-registrar": "v2.10.1"},
    "3.6": {"csi-attacher": "v4.9.0", "csi-resizer": "v1.12.0", "livenessprobe": "v2.15.0", "csi-provisioner": "v4.0.1", "csi-snapshotter": "v8.2.0",
            "csi-node-driver-registrar": "v2.13.0"},
    "3.8": {"csi-attacher": "v4.10.0", "csi-resizer": "v2.0.0", "livenessprobe": "v2.17.0", "csi-provisioner": "v4.0.1", "csi-snapshotter": "v8.4.0",
            "csi-node-driver-registrar": "v2.14.0"},
}

# The snapshot-controller, for every Kubernetes minor of the table. Its CRDs come from the tag of its client library.
SNAPSHOTTER = "8.2.0"
SNAPSHOT_MANIFEST_URL = "https://raw.githubusercontent.com/kubernetes-csi/external-snapshotter"
# Version -> digests of the files of snapshot_manifests(), in that order.
_SNAPSHOT_MANIFESTS: dict[str, tuple[str, ...]] = {
    "8.2.0": (
        "75e6565aac2c0f2949ed13ea884bbaa388cb7be576b558b709cf1168e011828d",
        "895a3c1e73b60f06a0deb566dd123d01bdf1b2efc5d5ff5231ff8bbcf42dafc7",
        "b032116e987fb1d7d93cec7d942833adeb9d95c9bdc7e00c10b280c2fe4a6c33",
        "99c4ac480b6c9563be0d85599e29cc7b68b25a82d250b0e789726727551e8d38",
        "faf5c93e57bcbfb0f5831a0ca93d869764980f3d113c8379a7ccb6464d5f910c",
    ),
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
    """'1.34.4' of 'v1.34.4+k3s1'."""
    return re.sub(r"[+-].*$", "", str(version)).lstrip("v")


def newest() -> VersionSet:
    return SETS[-1]


def for_k3s(version: str | None = None) -> VersionSet:
    """The set for this k3s version (its minor counts), or the newest one."""
    if not version:
        return newest()
    wanted = minor(version)
    for row in SETS:
        if row.kubernetes == wanted:
            return row
    known = f"{SETS[0].kubernetes} to {SETS[-1].kubernetes}"
    raise VersionError(f"There is no tested set of versions for k3s {version} (known: {known}); set k3s_version, or cpi_version and csi_version too.")


def compatible(k3s: str, cpi: str, csi: str) -> list[str]:
    """Why these three don't belong together; empty when they do."""
    problems = []
    kubernetes = minor(k3s)
    if minor(cpi) != kubernetes:
        problems.append(f"CPI {cpi} is made for Kubernetes {minor(cpi)}, not {kubernetes}")
    span = CSI_KUBERNETES.get(minor(csi))
    if span is None:
        problems.append(f"CSI {csi} is in no tested set")
    elif not _number(span[0]) <= _number(kubernetes) <= _number(span[1]):
        problems.append(f"CSI {csi} supports Kubernetes {span[0]} to {span[1]}, not {kubernetes}")
    if plain(k3s) in BROKEN_K3S:
        problems.append(f"k3s {k3s} {BROKEN_K3S[plain(k3s)]}")
    return problems


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
    tag, digest = _CPI_MANIFESTS.get(number, (f"v{number}", ""))
    return {"path": f"{tag}/releases/v{minor(version)}/vsphere-cloud-controller-manager.yaml", "sha256": digest}


def csi_manifest(version: str) -> dict[str, str]:
    """The same for CSI's manifest. The namespace stands in a file of its own upstream; we make it ourselves."""
    number = plain(version)
    return {"path": f"v{number}/manifests/vanilla/vsphere-csi-driver.yaml", "sha256": _CSI_MANIFESTS.get(number, "")}


def snapshot_manifests(version: str = SNAPSHOTTER) -> list[dict[str, str]]:
    """Paths below the base URL, and digests, of the three CRDs and the two files of the snapshot-controller."""
    number = plain(version)
    crds = [f"snapshot.storage.k8s.io_volumesnapshot{part}.yaml" for part in ("classes", "contents", "s")]
    paths = [f"refs/tags/client/v{number}/client/config/crd/{name}" for name in crds]
    paths += [f"v{number}/deploy/kubernetes/snapshot-controller/{part}-snapshot-controller.yaml" for part in ("rbac", "setup")]
    digests = _SNAPSHOT_MANIFESTS.get(number, ("",) * len(paths))
    return [{"path": path, "sha256": digest} for path, digest in zip(paths, digests)]


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
            base = newest()  # what was not given is only a guess then, and compatible() says that it does not fit
        row = VersionSet(base.kubernetes, k3s or base.k3s, plain(cpi or base.cpi), plain(csi or base.csi))
    return {
        **asdict(row),
        "cpi_image": cpi_image(row.cpi),
        "cpi_manifest": cpi_manifest(row.cpi),
        "csi_images": csi_images(row.csi),
        "csi_manifest": csi_manifest(row.csi),
        "snapshotter": plain(snapshotter or SNAPSHOTTER),
        "snapshot_image": f"registry.k8s.io/sig-storage/snapshot-controller:v{plain(snapshotter or SNAPSHOTTER)}",
        "snapshot_manifests": snapshot_manifests(snapshotter or SNAPSHOTTER),
        "csi_sidecars": CSI_SIDECARS.get(minor(row.csi), {}),
        "problems": compatible(row.k3s, row.cpi, row.csi),
    }
