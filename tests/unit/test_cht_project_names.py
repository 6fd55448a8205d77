# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of counties as people write them on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jinja2.nativetypes import NativeEnvironment

from ansible_collections.cht.k3s.plugins.filter.as_list import as_list

VARIABLES = yaml.safe_load((Path(__file__).resolve().parents[2] / "roles/cht_project/vars/main.yml").read_text())
NAMED = ("change_password", "downgrade", "remove", "remove_data", "backup", "backup_remove")


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize(("given", "expected"), [("a, b", ["a", "b"]), ("a,b,", ["a", "b"]), ("", []), (["a", "b"], ["a", "b"])])
def test_names_may_have_spaces_between_them(name: str, given: object, expected: list[str]) -> None:
    environment = NativeEnvironment()
    environment.filters["cht.k3s.as_list"] = as_list
    template = environment.from_string(VARIABLES[f"__cht_project_{name}"])
    assert template.render({f"cht_project_{name}": given}) == expected
