"""The official manifests: pinned as released, and each one taken by the patcher with the roles' defaults and with every option of theirs.

A manifest is at hand when it is among those in data/, lies in shared/upstream beside the checkout, or differs from one of these by no more than
the few lines below: its pinned digest proves then that it was rebuilt byte for byte. What is not at hand is skipped by name.
"""
from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.cht.k3s.plugins.module_utils import versions
from ansible_collections.cht.k3s.plugins.module_utils.manifest import cpi, csi
from ansible_collections.cht.k3s.plugins.module_utils.manifest.source import documents
from ansible_collections.cht.k3s.plugins.module_utils.manifest.vcenters import SettingsError

ROOT = Path(__file__).parents[5]
DATA = ROOT / "tests" / "unit" / "data" / "manifests"
BESIDE = ROOT.parent / "shared" / "upstream"
PINNED = {"cpi": versions.CPI_MANIFESTS, "csi": versions.CSI_MANIFESTS}
ROWS = [(part, version) for part in PINNED for version in dict.fromkeys(getattr(row, part) for row in versions.SETS)]
# The manifests that CI can't rebuild from those in data/.
ELSEWHERE = {("csi", "3.0.2"), ("csi", "3.5.1")}
# Nobody has images of CSI 2.7.3 and 3.0.3.
WITHOUT_IMAGES = {"2.7.3", "3.0.3"}
REPOSITORIES = {
    "cpi": ("gcr.io/cloud-provider-vsphere/cpi/release/manager", "registry.k8s.io/cloud-pv-vsphere/cloud-provider-vsphere"),
    "csi": ("gcr.io/cloud-provider-vsphere/csi/release/", "registry.k8s.io/csi-vsphere/"),
}
DENSITY = '  "high-pv-node-density": "false" # When enabled, increases the MAX_VOLUMES_PER_NODE from 59 to 255 for guest cluster nodes\n'


def as_csi_3_7_0(text: str) -> str:
    """A switch less."""
    return text.replace('  "csi-transaction-support": "false"\n', "")


def as_csi_3_7_1(text: str) -> str:
    """A switch in the place of the variable that said how many volumes a node may have."""
    text = re.sub(r'            - name: MAX_VOLUMES_PER_NODE\n              value: "59".*\n', "", as_csi_3_7_0(text))
    place = '  "pv-to-backingdiskobjectid-mapping": "false"\n'
    return text.replace(place, place + DENSITY)


def rebuilt(part: str, text: str, version: str) -> Iterator[str]:
    """What the manifest of another version might be."""
    for repository in REPOSITORIES[part]:
        if part == "cpi":
            yield re.sub(r"image: \S+", f"image: {repository}:v{version}", text)
            continue
        renamed = re.sub(r"image: \S+/(driver|syncer):\S+", rf"image: {repository}\1:v{version}", text)
        yield from (renamed, as_csi_3_7_0(renamed), as_csi_3_7_1(renamed))


@functools.cache
def at_hand() -> dict[str, bytes]:
    """Digest -> manifest."""
    files = [*DATA.glob("*.manifest"), *BESIDE.glob("c*/*.yaml")]
    found = {hashlib.sha256(content).hexdigest(): content for content in (path.read_bytes() for path in files)}
    wanted = {part: {version: digest for version, digest in pinned.items() if digest not in found} for part, pinned in PINNED.items()}
    for part, missing in wanted.items():
        for path in sorted(DATA.glob(f"{part}-*.manifest")):
            text = path.read_text(encoding="utf-8")
            for version, digest in missing.items():
                for content in (guess.encode() for guess in rebuilt(part, text, version)):
                    if hashlib.sha256(content).hexdigest() == digest:
                        found[digest] = content
    return found


def manifest(part: str, version: str) -> list[dict[str, Any]]:
    content = at_hand().get(PINNED[part][version])
    if content is None:
        pytest.skip(f"the official manifest of {part.upper()} {version} is not at hand: it belongs in {BESIDE.relative_to(ROOT.parent)}/{part}")
    return documents(content, f"{part} {version}")


def role_settings(part: str, version: str, **variables: Any) -> dict[str, Any]:
    """What the role hands to the patcher, rendered by Ansible from its own files; variables differ from the defaults."""
    loader, found = DataLoader(), {}
    for role in ("k3s", "vsphere", part):
        for folder in ("defaults", "vars"):
            path = ROOT / "roles" / role / folder / "main.yml"
            if path.exists():
                found.update(loader.load_from_file(str(path), cache="none", trusted_as_template=True))
    found.update({
        f"{part}_version": version, "k3s_version": f"v1.{versions.SETS[-1].kubernetes.partition('.')[2]}.0+k3s1", "hostvars": {},
        "vsphere_hostname": "vcenter.example.org", "vsphere_username": "k3s@vsphere.local", "vsphere_password": "secret-secret",
        "groups": {"control_plane": ["one", "two", "three"]}, **variables,
    })
    settings = Templar(loader, variables=found).template(found["__cpi_settings" if part == "cpi" else "__csi_static_settings"])
    return {str(key): value for key, value in settings.items()}


def patch(part: str, found: list[dict[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    return cpi.objects(found, settings) if part == "cpi" else csi.objects(found, {"cluster_id": "one", **settings})


def containers(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for item in found if item["kind"] in ("Deployment", "DaemonSet") for entry in item["spec"]["template"]["spec"]["containers"]}


def switches(found: list[dict[str, Any]]) -> dict[str, str]:
    return next(item for item in found if item["metadata"]["name"] == csi.FEATURES)["data"]  # type: ignore[no-any-return]


def has_variable(found: list[dict[str, Any]]) -> bool:
    return any(entry["name"] == "MAX_VOLUMES_PER_NODE" for entry in containers(found)["vsphere-csi-node"]["env"])


# --- pinned ----------------------------------------------------------------------------------------------------------


def test_the_table_has_the_digests_of_the_releases() -> None:
    listing = BESIDE / "DIGESTS.tsv"
    if not listing.exists():
        pytest.skip(f"{listing.relative_to(ROOT.parent)} is not beside the checkout")
    expected: dict[tuple[str, str], str] = {}
    for line in listing.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            part, version, tag, path, digest, _here = line.split("\t")
            if "-" not in version and not path.endswith("namespace.yaml") and "volumegroupsnapshot" not in path:
                expected[(part, f"{tag}/{path}")] = digest
    known = {("cpi", entry["path"]): entry["sha256"] for entry in map(versions.cpi_manifest, versions.CPI_MANIFESTS)}
    known.update({("csi", entry["path"]): entry["sha256"] for entry in map(versions.csi_manifest, versions.CSI_MANIFESTS)})
    for version in versions.SNAPSHOT_SETUP:
        known.update({("snapshotter", entry["path"]): entry["sha256"] for entry in versions.snapshot_manifests(version)})
    assert known == expected


@pytest.mark.parametrize("row", versions.SETS, ids=lambda row: row.kubernetes)
def test_every_row_is_pinned_at_its_newest_patch_release(row: versions.VersionSet) -> None:
    def newest(pinned: dict[str, str], version: str) -> str:
        same = [name for name in pinned if versions.minor(name) == versions.minor(version) and name not in WITHOUT_IMAGES]
        return max(same, key=lambda name: int(name.rpartition(".")[2]))

    assert (row.cpi, row.csi) == (newest(versions.CPI_MANIFESTS, row.cpi), newest(versions.CSI_MANIFESTS, row.csi))
    found = versions.describe(row.k3s)
    pinned = [found["cpi_manifest"], found["csi_manifest"], *found["snapshot_manifests"]]
    assert all(re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]) for entry in pinned)


def test_the_checkout_alone_holds_the_rows() -> None:
    missing = {(part, version) for part, version in ROWS if PINNED[part][version] not in at_hand()}
    assert missing <= ELSEWHERE


# --- patched ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("part", "version"), ROWS, ids="-".join)
def test_a_row_with_the_roles_defaults(part: str, version: str) -> None:
    found = manifest(part, version)
    after = patch(part, found, role_settings(part, version))
    images = {name: entry["image"] for name, entry in containers(after).items()}
    if part == "cpi":
        assert images == {"vsphere-cloud-controller-manager": versions.cpi_image(version)}
    else:
        assert (images["vsphere-csi-node"], images["vsphere-syncer"]) == tuple(versions.csi_images(version).values())
        assert switches(after) == switches(found)
        assert has_variable(after) == has_variable(found)


@pytest.mark.parametrize(("part", "version"), ROWS, ids="-".join)
def test_a_row_with_every_option_of_the_role(part: str, version: str) -> None:
    found, plain = manifest(part, version), role_settings(part, version)
    vcenter = {"hostname": "one.example.org", "username": "k3s@vsphere.local", "password": "secret-secret", "port": 8443, "datacenters": ["DC"]}
    shared = {f"{part}_vcenters": [vcenter, {**vcenter, "hostname": "two.example.org", "validate_certs": False}], f"{part}_image_registry": "m.example/x"}
    if part == "cpi":
        options = {
            "cpi_image": "example.org/cpi:1", "cpi_labels": {"region": "r", "zone": "z"}, "cpi_nodes": {"internal_network_subnet_cidr": "192.0.2.0/24"},
            "cpi_ip_family": ["ipv4"], "cpi_log_level": 7,
        }
    else:
        options = {
            "csi_cluster_distribution": "other", "csi_images": {**plain["images"], "csi-attacher": "example.org/attacher:1"}, "csi_replicas": 2,
            "csi_kubelet_root": "/srv/kubelet", "csi_feature_states": {"trigger-csi-fullsync": True}, "csi_max_snapshots": 5, "csi_max_volumes": 255,
            "csi_topology_categories": ["k8s-zone"],
        }
    given = role_settings(part, version, **shared, **options)
    same = {key for key in given if given[key] == plain[key]}
    assert same == {"version"}, "an option of the role is missing here"
    after = patch(part, found, given)
    parts = containers(after)
    assert all(entry["image"].startswith("m.example/x/") for entry in parts.values())
    if part == "cpi":
        assert "--v=7" in parts["vsphere-cloud-controller-manager"]["args"]
        config = next(item for item in after if item["kind"] == "ConfigMap")["data"]["vsphere.conf"]
        assert all(word in config for word in ("two.example.org", "region: r", "192.0.2.0/24", "ipv4"))
    else:
        node, written = parts["vsphere-csi-node"], next(item for item in after if item["metadata"]["name"] == csi.SECRET)["stringData"]["csi-vsphere.conf"]
        assert parts["csi-attacher"]["image"] == "m.example/x/attacher:1" and "--strict-topology" in parts["csi-provisioner"]["args"]
        assert any(mount["mountPath"] == "/srv/kubelet" for mount in node["volumeMounts"])
        assert all(word in written for word in ('"other"', '"5"', '"k8s-zone"', "two.example.org"))
        assert switches(after)["trigger-csi-fullsync"] == "true"
        limit = next((entry["value"] for entry in node["env"] if entry["name"] == "MAX_VOLUMES_PER_NODE"), None)
        assert (limit, switches(after).get("high-pv-node-density")) in (("255", None), (None, "true"))


def _others() -> list[Path]:
    pinned = {digest for table in PINNED.values() for digest in table.values()}
    files = [path for path in sorted(BESIDE.glob("c*/v*.yaml")) if "namespace" not in path.name]
    return [path for path in files if hashlib.sha256(path.read_bytes()).hexdigest() not in pinned]


def test_manifests_outside_the_table_with_the_roles_defaults() -> None:
    """Release candidates, and files of other tags: whoever gives the digest can install them."""
    if not _others():
        pytest.skip("no manifest outside the table is beside the checkout")
    for path in _others():
        part, version = path.parent.name, path.name.split("-vsphere")[0].removeprefix("v")
        version = version if version.count(".") > 1 else f"{version}.0"
        assert patch(part, documents(path.read_bytes(), path.name), role_settings(part, version)), path.name


# --- volumes on a node -----------------------------------------------------------------------------------------------


def test_the_usual_number_of_volumes_needs_nothing_where_the_variable_is_gone() -> None:
    found, settings = manifest("csi", "3.7.3"), role_settings("csi", "3.7.3")
    assert settings["max_volumes"] == 59 and not has_variable(found)
    assert patch("csi", found, settings) == patch("csi", found, {**settings, "max_volumes": None})


def test_many_volumes_are_a_switch_where_the_variable_is_gone() -> None:
    found, settings = manifest("csi", "3.7.3"), role_settings("csi", "3.7.3", csi_max_volumes=255)
    assert switches(patch("csi", found, settings))["high-pv-node-density"] == "true"
    templates = [
        next(item for item in patch("csi", found, {**settings, "max_volumes": number}) if item["kind"] == "DaemonSet")["spec"]["template"]
        for number in (59, 255)
    ]
    assert templates[0]["metadata"] != templates[1]["metadata"], "the pods have to read the switch"
    with pytest.raises(SettingsError, match="takes back with high-pv-node-density: false"):
        patch("csi", found, {**settings, "feature_states": {"high-pv-node-density": False}})
    own = patch("csi", found, {**settings, "max_volumes": 59, "feature_states": {"high-pv-node-density": True}})
    assert switches(own)["high-pv-node-density"] == "true", "the default takes nothing back that was asked for"


@pytest.mark.parametrize("number", [1, 58, 60, 100, 256])
def test_any_other_number_of_volumes_is_refused_with_the_reason(number: int) -> None:
    words = f"csi_max_volumes is {number}.*MAX_VOLUMES_PER_NODE was removed in 3.7.1.*Set csi_max_volumes to 59 or 255"
    with pytest.raises(SettingsError, match=words):
        patch("csi", manifest("csi", "3.7.3"), role_settings("csi", "3.7.3", csi_max_volumes=number))
    node = containers(patch("csi", manifest("csi", "3.7.0"), role_settings("csi", "3.7.0", csi_max_volumes=number)))["vsphere-csi-node"]
    assert {"name": "MAX_VOLUMES_PER_NODE", "value": str(number)} in node["env"], "3.7.0 still takes any"


def test_a_manifest_without_any_switch_is_no_other_shape() -> None:
    found = manifest("csi", "3.7.3")
    next(item for item in found if item["metadata"]["name"] == csi.FEATURES).pop("data")
    assert switches(patch("csi", found, role_settings("csi", "3.7.3"))) == {}
    with pytest.raises(SettingsError, match="unknown feature x; this version has none"):
        patch("csi", found, role_settings("csi", "3.7.3", csi_feature_states={"x": True}))
    with pytest.raises(SettingsError, match="Set csi_max_volumes to 59\\."):
        patch("csi", found, role_settings("csi", "3.7.3", csi_max_volumes=255))
