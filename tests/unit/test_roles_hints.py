"""Where a role waits for pods, it says which of its variables names another image."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"


def waits(role: str) -> list[dict[str, Any]]:
    tasks = [task for file in sorted((ROLES / role / "tasks").glob("*.yml")) for task in yaml.safe_load(file.read_text(encoding="utf-8")) or []]
    return [task["cht.k3s.kube_rollout"] for task in tasks if "cht.k3s.kube_rollout" in task]


@pytest.mark.parametrize(("role", "number"), [("cpi", 1), ("csi", 3)])
def test_an_image_that_can_not_be_pulled_comes_with_the_override(role: str, number: int) -> None:
    defaults = set(yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text(encoding="utf-8")))
    found = waits(role)
    assert len(found) >= number
    for entry in found:
        named = set(re.findall(rf"{role}_\w+", entry["hint"]))
        assert len(named) >= 2 and named <= defaults and f"{role}_image_registry" in named, entry["hint"]
