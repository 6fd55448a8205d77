"""The documentation of every plugin is YAML. ansible-test sanity says so as well, minutes later."""
from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
NAMES = ("DOCUMENTATION", "EXAMPLES", "RETURN")


@pytest.mark.parametrize("file", sorted(PLUGINS.rglob("*.py")), ids=lambda file: str(file.relative_to(PLUGINS)))
def test_the_documentation_is_yaml(file: Path) -> None:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id in NAMES and isinstance(node, ast.Assign):
            assert list(yaml.safe_load_all(ast.literal_eval(node.value))), target.id
