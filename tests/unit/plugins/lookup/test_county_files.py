# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder with a file for each county: one bad file is one bad county."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.plugins.loader import init_plugin_loader, lookup_loader
from ansible.template import Templar
from ansible.utils.collection_loader import AnsibleCollectionConfig

from ansible_collections.cht.k3s.plugins.filter.cht_project_problems import cht_project_problems
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import UNREADABLE, read_counties

if not AnsibleCollectionConfig.collection_finder:
    init_plugin_loader()
try:
    from ansible.parsing.vault import VaultSecretsContext
except ImportError:  # before ansible-core 2.19
    VaultSecretsContext = None
SECRETS = [("default", VaultSecret(b"key"))]
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


def lookup_with(**variables: object) -> object:
    loader = DataLoader()
    loader.set_vault_secrets(SECRETS)
    # A run of Ansible has it; it can be set once.
    if VaultSecretsContext is not None and VaultSecretsContext.current(optional=True) is None:
        VaultSecretsContext.initialize(VaultSecretsContext(SECRETS))
    return lookup_loader.get("cht.k3s.county_files", loader=loader, templar=Templar(loader=loader, variables=variables))


def test_values_are_templates_as_in_group_variables(tmp_path: Path) -> None:
    secret = VaultLib([("default", VaultSecret(b"key"))]).encrypt("pass{{word}}", VaultSecret(b"key")).decode().replace("\n", "\n    ")
    (tmp_path / "nairobi.yml").write_text(
        "host: '{{ name }}.{{ domain }}'\ncouchdb: {nodes: '{{ number }}'}\nraw: !unsafe '{{ domain }}'\n"
        f"credentials:\n  password: !vault |\n    {secret}\nshared: '{{{{ vault_shared.password }}}}'\n"
    )
    lookup = lookup_with(name="n", domain="health.example", number=3, vault_shared={"password": "x"})
    (county,) = lookup.run([str(tmp_path)], {})
    assert county == {
        "name": "nairobi", "host": "n.health.example", "couchdb": {"nodes": 3}, "raw": "{{ domain }}", "shared": "x",
        "credentials": {"password": "pass{{word}}"},
    }


def test_what_can_t_be_filled_in_is_told_with_its_place_and_is_that_county_s_problem_alone(tmp_path: Path) -> None:
    (tmp_path / "good.yml").write_text(GOOD)
    (tmp_path / "bad.yml").write_text("host: a.health.example\ncouchdb:\n  storage: '{{ nobody.knows }}'\n")
    bad, good = lookup_with().run([str(tmp_path)], {})
    assert good["host"] == "good.health.example"
    assert "couchdb.storage can't be filled in: 'nobody' is undefined" in bad[UNREADABLE] and f"({tmp_path}/bad.yml:3:12)" in bad[UNREADABLE]


def test_a_value_that_can_t_be_decrypted_is_told_without_it(tmp_path: Path) -> None:
    secret = VaultLib([("default", VaultSecret(b"other"))]).encrypt("secret-word", VaultSecret(b"other")).decode().replace("\n", "\n  ")
    (tmp_path / "bad.yml").write_text(f"host: !vault |\n  {secret}\n")
    (bad,) = lookup_with().run([str(tmp_path)], {})
    assert "host can't be filled in" in bad[UNREADABLE] and "secret-word" not in str(bad)


@pytest.mark.parametrize("second", ["nairobi.yaml", "other.yml"])
def test_two_files_of_one_county_are_named(tmp_path: Path, second: str) -> None:
    (tmp_path / "nairobi.yml").write_text(GOOD)
    (tmp_path / second).write_text(f"name: nairobi\n{GOOD}")
    found = lookup_with().run([str(tmp_path)], {})
    counties, problems = read_counties(found, None)
    assert counties == [], "nobody knows which of the two is meant"
    assert {problem.county for problem in problems} == {"nairobi"}
    assert all(str(tmp_path / name) in problems[0].message for name in ("nairobi.yml", second))


def test_errors_name_file_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "broken.yml").write_text("host: a.health.example\nversion: [1\n")
    (tmp_path / "kisumu.yml").write_text("host: kisumu.health.example\nversion: 4.22.0\ncouchdb:\n  storge: 4Gi\n")
    (tmp_path / "nairobi.yml").write_text("version: newest\nhost: nairobi.health.example\n")
    said = cht_project_problems(lookup_with().run([str(tmp_path)], {}))
    assert f"({tmp_path}/broken.yml:3:1)" in said[0], said
    assert any("storge" in line and line.endswith(f"({tmp_path}/kisumu.yml:4:3)") for line in said), said
    assert any("nairobi" in line and line.endswith(f"({tmp_path}/nairobi.yml:1:1)") for line in said), said
