"""The table of versions holds together, and says no where it has to."""
from __future__ import annotations

import re

import pytest
from ansible_collections.cht.k3s.plugins.module_utils import versions


@pytest.mark.parametrize("row", versions.SETS, ids=lambda row: row.kubernetes)
def test_every_set_is_compatible(row: versions.VersionSet) -> None:
    # Until a CSI for Kubernetes 1.36 is released, its row says what is wrong with it.
    expected = ["CSI 3.7.3 supports Kubernetes 1.33 to 1.35, not 1.36"] if row.kubernetes == "1.36" else []
    assert versions.compatible(row.k3s, row.cpi, row.csi) == expected
    assert versions.minor(row.k3s) == row.kubernetes
    assert re.fullmatch(r"v\d+\.\d+\.\d+\+k3s\d+", row.k3s)


def test_sets_are_in_order_without_a_gap() -> None:
    numbers = [int(row.kubernetes.split(".")[1]) for row in versions.SETS]
    assert numbers == list(range(25, numbers[-1] + 1))


def test_the_default_is_the_newest_row_that_the_vendors_allow() -> None:
    found = versions.describe()
    assert (found["k3s"], found["cpi"], found["csi"], found["problems"]) == ("v1.35.4+k3s1", "1.35.1", "3.7.3", [])
    newer = versions.SETS[versions.SETS.index(versions.default()) + 1:]
    assert all(versions.compatible(row.k3s, row.cpi, row.csi) for row in newer), "a newer row became possible: run its Kubernetes in the lab, and move DEFAULT"
    assert versions.describe("v1.34.4+k3s1")["k3s"] == "v1.34.4+k3s1"


def test_the_guides_set() -> None:
    found = versions.describe("v1.25.14+k3s1")
    assert (found["cpi"], found["csi"], found["problems"]) == ("1.25.3", "2.7.2", [])
    assert found["cpi_manifest"]["path"] == "v1.25.3/releases/v1.25/vsphere-cloud-controller-manager.yaml"


@pytest.mark.parametrize(("version", "wanted"), [
    ("v1.34.4+k3s1", "1.34.4"), ("v1.34.4-k3s1", "1.34.4"), ("3.7.3", "3.7.3"), ("v3.8.0-rc.1", "3.8.0-rc.1"),
])
def test_a_plain_version(version: str, wanted: str) -> None:
    assert versions.plain(version) == wanted


def test_a_candidate_is_not_taken_for_the_release() -> None:
    assert versions.csi_manifest("3.8.0-rc.1") == {"path": "v3.8.0-rc.1/manifests/vanilla/vsphere-csi-driver.yaml", "sha256": ""}


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
