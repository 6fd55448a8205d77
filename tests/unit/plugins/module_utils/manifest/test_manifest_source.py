"""What is downloaded is what was pinned; what nothing is pinned for is said."""
from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.cht.k3s.plugins.module_utils import versions
from ansible_collections.cht.k3s.plugins.module_utils.manifest import source
from ansible_collections.cht.k3s.plugins.module_utils.manifest.source import ManifestError

CONTENT = b"kind: ConfigMap"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("pinned", ["", DIGEST, DIGEST.upper(), f"sha256:{DIGEST}"])
def test_the_digest_is_compared_and_returned(pinned: str) -> None:
    assert source.check_digest(CONTENT, pinned, "https://example.org/m.yaml", "cpi_manifest_checksum") == DIGEST


def test_another_digest_names_both_and_the_variable() -> None:
    with pytest.raises(ManifestError, match=f"SHA-256 {DIGEST}, expected 00.*or set cpi_manifest_checksum if") as caught:
        source.check_digest(CONTENT, "00", "https://example.org/m.yaml", "cpi_manifest_checksum")
    assert "https://example.org/m.yaml" in str(caught.value)
    with pytest.raises(ManifestError, match="set the checksum variable if"):
        source.check_digest(CONTENT, "00", "m.yaml")


def test_what_is_not_pinned_says_what_to_pin() -> None:
    text = source.unpinned("https://example.org/m.yaml", DIGEST, "cpi_manifest_checksum")
    assert "its version is not in the table" in text and f"What came has {DIGEST}." in text and "set cpi_manifest_checksum to that digest" in text
    assert "name a file that you keep a copy of" in source.unpinned("https://example.org/m.yaml", DIGEST)


ROOT = Path(__file__).parents[5]
DOCS = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "tests" / "lab" / "README.md", *(ROOT / "roles").glob("*/README.md")])


def variables(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "inventories" / name / "group_vars" / "all" / "main.yml").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_the_docs_name_the_pinned_versions() -> None:
    """docs/cpi_csi.md has the table, row by row, and says what is pinned; no page names a CPI or CSI that is not, or another default."""
    page = (ROOT / "docs" / "cpi_csi.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (1\.\d+) \| (\S+) \| (\S+) \| (\S+) \|$", page, re.MULTILINE)
    assert rows == [(row.kubernetes, row.k3s, row.cpi, row.csi) for row in versions.SETS]
    for name, pinned in (("CPI", versions.CPI_MANIFESTS), ("CSI", versions.CSI_MANIFESTS), ("the snapshot-controller", versions.SNAPSHOT_SETUP)):
        known = list(pinned)
        assert f"of {name} from {known[0]} to {known[-1]}" in page.replace("\n", " ")
    for path in DOCS:
        text = path.read_text(encoding="utf-8")
        for part, pinned in (("CPI", versions.CPI_MANIFESTS), ("CSI", versions.CSI_MANIFESTS)):
            named = set(re.findall(rf"\b{part} (\d+\.\d+\.\d+)\b", text)) - {"3.8.0"}
            assert not named - set(pinned), path
        for default in re.findall(r"k3s_version` means (v\S+\+k3s\d+)|\| (\S+), the default \|", text):
            assert "".join(default) == versions.default().k3s, path
    assert "k3s_version` means " in page and ", the default |" in (ROOT / "docs" / "k3s.md").read_text(encoding="utf-8")


def test_every_oldest_release_to_upgrade_from_is_in_the_docs() -> None:
    limits = [row.upgrade_from for row in versions.SETS if row.upgrade_from]
    assert limits
    for name in ("cpi_csi", "k3s"):
        text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        assert all(limit in text for limit in limits), name


def test_the_inventories_pin_what_the_table_says() -> None:
    assert variables("example")["k3s_version"] == versions.default().k3s
    guide = variables("guide")
    assert versions.compatible(guide["k3s_version"], guide["cpi_version"], guide["csi_version"]) == []


def test_the_lab_accepts_only_the_difference_that_the_docs_name() -> None:
    lab = variables("lab")
    # The release is that of the lab's mirror, of the stand-in unless another k3s was given.
    release = re.search(r"v\d[^']+", lab["k3s_version"])
    assert release
    found = versions.conflicts(release.group(), lab["cpi_version"], lab["csi_version"])
    accepted = [entry for entry in lab.get("preflight_accept") or [] if entry.startswith("version-set")]
    assert accepted == [f"version-set:{part}" for part in found]
    page = (ROOT / "docs" / "cpi_csi.md").read_text(encoding="utf-8")
    paragraph = re.search(r"^- The lab, `inventories/lab`.*\n(?:  .*\n)*", page, re.MULTILINE)
    for part in found:
        assert paragraph and f"{part.upper()} {lab[f'{part}_version']}" in paragraph.group(), part
