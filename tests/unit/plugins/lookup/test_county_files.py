# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder with a file for each county: one bad file is one bad county."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader, lookup_loader
from ansible.utils.collection_loader import AnsibleCollectionConfig

from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import UNREADABLE, read_counties

if not AnsibleCollectionConfig.collection_finder:
    init_plugin_loader()
GOOD = "host: good.health.example\nversion: 4.22.0\n"
BAD = {
    "tab": ("host: a.health.example\n\tpassword: secret-word\n", "can't be read"),
    "two": (f"---\n{GOOD}---\n{GOOD}", "can't be read"),
    "vault": ("$ANSIBLE_VAULT;1.2;AES256;other\n6162\n", "can't be read"),
    "rows": ("- host: a.health.example\n", "holds a list, not keys and values: one file is one county"),
    "void": ("", "is empty: one file is one county"),
}


def test_a_file_that_can_t_be_read_is_that_county_s_problem_alone(tmp_path: Path) -> None:
    (tmp_path / "good.yml").write_text(GOOD)
    (tmp_path / ".hidden.yml").write_text("\t")
    for name, (text, dummy) in BAD.items():
        (tmp_path / f"{name}.yml").write_text(text)
    lookup = lookup_loader.get("cht.k3s.county_files", loader=DataLoader())
    found = lookup.run([str(tmp_path), ""], {}, counties=[{"name": "first"}])
    assert [entry["name"] for entry in found] == ["first", "good", "rows", "tab", "two", "vault", "void"]
    counties, problems = read_counties(found[1:], None)
    assert [county.name for county in counties] == ["good"]
    said = {problem.county: problem.message for problem in problems}
    assert sorted(said) == sorted(BAD)
    for name, (dummy, why) in BAD.items():
        assert f"{tmp_path}/{name}.yml" in said[name] and why in said[name], said[name]
    assert "secret-word" not in str(problems)


def test_a_folder_that_is_not_there_ends_a_change_and_is_told_by_a_report(tmp_path: Path) -> None:
    lookup = lookup_loader.get("cht.k3s.county_files", loader=DataLoader())
    with pytest.raises(AnsibleError, match="does not exist: correct the path"):
        lookup.run([str(tmp_path / "gone")], {})
    first, missing = lookup.run([str(tmp_path / "gone")], {}, counties=[{"name": "first"}], missing="tell")
    assert first == {"name": "first"} and missing["name"] == "" and f"{tmp_path}/gone does not exist" in missing[UNREADABLE]
