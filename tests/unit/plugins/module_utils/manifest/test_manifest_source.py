"""What is downloaded is what was pinned; what nothing is pinned for is said."""
from __future__ import annotations

import hashlib

import pytest
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
    text = source.unpinned_warning("https://example.org/m.yaml", DIGEST, "cpi_manifest_checksum")
    assert "no SHA-256 is known for its version" in text and f"It has {DIGEST}; set cpi_manifest_checksum to it" in text
    assert "keep a copy of the file" in source.unpinned_warning("https://example.org/m.yaml", DIGEST)


def test_the_docs_name_the_pinned_versions() -> None:
    """docs/cpi_csi.md says which: those of the table, no more and no fewer."""
    cpi = [row.cpi for row in versions.SETS if versions.cpi_manifest(row.cpi)["sha256"]]
    csi = sorted({row.csi for row in versions.SETS if versions.csi_manifest(row.csi)["sha256"]})
    assert (cpi[0], cpi[-1], len(cpi)) == ("1.25.0", "1.31.0", 7) and csi == ["2.7.2", "3.3.1", "3.6.2"]
