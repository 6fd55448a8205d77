"""The table of versions holds together, and says no where it has to."""
from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.cht.k3s.plugins.module_utils import versions

MANIFESTS = Path(__file__).parents[2] / "data" / "manifests"


@pytest.mark.parametrize("row", versions.SETS, ids=lambda row: row.kubernetes)
def test_every_set_is_compatible(row: versions.VersionSet) -> None:
    assert versions.compatible(row.k3s, row.cpi, row.csi) == []
    assert versions.minor(row.k3s) == row.kubernetes
    assert re.fullmatch(r"v\d+\.\d+\.\d+\+k3s\d+", row.k3s)


def test_sets_are_in_order_without_a_gap() -> None:
    numbers = [int(row.kubernetes.split(".")[1]) for row in versions.SETS]
    assert numbers == list(range(25, numbers[-1] + 1))


def test_the_newest_is_the_default() -> None:
    assert versions.describe()["k3s"] == versions.SETS[-1].k3s
    assert versions.describe("v1.34.4+k3s1")["k3s"] == "v1.34.4+k3s1"


def test_the_guides_set() -> None:
    found = versions.describe("v1.25.14+k3s1")
    assert (found["cpi"], found["csi"], found["problems"]) == ("1.25.0", "2.7.2", [])
    assert found["cpi_manifest"]["path"] == "v1.31.0/releases/v1.25/vsphere-cloud-controller-manager.yaml"


@pytest.mark.parametrize(("k3s", "cpi", "csi", "words"), [
    ("v1.34.4+k3s1", "1.31.0", "3.6.2", ["CPI 1.31.0 is made for Kubernetes 1.31, not 1.34"]),
    ("v1.34.4+k3s1", "1.34.0", "3.3.1", ["CSI 3.3.1 supports Kubernetes 1.27 to 1.30, not 1.34"]),
    ("v1.34.4+k3s1", "1.31.0", "2.7.2", ["CPI 1.31.0", "CSI 2.7.2"]),
    ("v1.29.4+k3s1", "1.29.0", "3.3.1", ["k3s-io/k3s#10068"]),
    ("v1.30.1+k3s1", "1.30.1", "9.9.9", ["CSI 9.9.9 is in no tested set"]),
])
def test_what_does_not_fit_is_named(k3s: str, cpi: str, csi: str, words: list[str]) -> None:
    problems = versions.compatible(k3s, cpi, csi)
    assert len(problems) == len(words)
    for word, problem in zip(words, problems):
        assert word in problem


def test_an_unknown_minor_needs_the_versions_given() -> None:
    with pytest.raises(versions.VersionError, match="1.25 to"):
        versions.describe("v1.99.0+k3s1")
    assert versions.describe("v1.99.0+k3s1", "1.99.0", "9.0.0")["cpi_image"].endswith(":v1.99.0")
    assert versions.describe("v1.99.0+k3s1", cpi="1.99.0")["cpi"] == "1.99.0"


@pytest.mark.parametrize("text", ["", "latest", "1", "v1.x", "one.two"])
def test_a_version_that_is_none(text: str) -> None:
    with pytest.raises(versions.VersionError, match="can't be understood"):
        versions.minor(text)


@pytest.mark.parametrize("row", versions.SETS, ids=lambda row: row.kubernetes)
def test_no_image_of_the_deleted_project(row: versions.VersionSet) -> None:
    found = versions.describe(row.k3s)
    for image in (found["cpi_image"], *found["csi_images"].values()):
        assert not image.startswith("gcr.io/")
        assert image.count("/") >= 1 and ":v" in image


def test_pinned_digests_are_those_of_the_released_files() -> None:
    checked = 0
    for row in versions.SETS:
        pinned = {
            f"cpi-v{versions.minor(row.cpi)}": versions.cpi_manifest(row.cpi)["sha256"], f"csi-v{row.csi}": versions.csi_manifest(row.csi)["sha256"],
        }
        for name, digest in pinned.items():
            file = MANIFESTS / f"{name}.manifest"
            if file.exists() and digest:
                assert hashlib.sha256(file.read_bytes()).hexdigest() == digest, name
                checked += 1
    assert checked >= 10


@pytest.mark.parametrize("minor", ["2.7", "3.3", "3.6"])
def test_sidecars_are_those_of_the_manifest(minor: str) -> None:
    file = next(MANIFESTS.glob(f"csi-v{minor}.*.manifest"))
    images = {
        container["image"].rpartition("/")[2]
        for document in yaml.safe_load_all(file.read_text())
        if document and document["kind"] in ("Deployment", "DaemonSet") and "windows" not in document["metadata"]["name"]
        for container in document["spec"]["template"]["spec"]["containers"]
    }
    assert {f"{name}:{tag}" for name, tag in versions.CSI_SIDECARS[minor].items()} == {image for image in images if not image.startswith(("driver", "syncer"))}
