"""A worker of Ansible that meets one filter of a collection imports every filter of it, so none may import much."""
from __future__ import annotations

import ast
from pathlib import Path

import pytest

FILTERS = sorted((Path(__file__).resolve().parents[3] / "plugins" / "filter").glob("*.py"))


@pytest.mark.parametrize("path", FILTERS, ids=lambda path: path.stem)
def test_a_filter_imports_the_collection_only_where_it_is_called(path: Path) -> None:
    top = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [node.module or "" for node in top if isinstance(node, ast.ImportFrom)]
    names += [a.name for node in top if isinstance(node, ast.Import) for a in node.names]
    assert not [name for name in names if name.startswith("ansible_collections") or name in ("yaml", "pyVmomi")]
