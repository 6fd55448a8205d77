# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: county_files
short_description: Read a folder with one file for each county
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Reads every C(.yml) and C(.yaml) file of a folder, in the order of their names. Each file is one county; its name is that of the file
    unless it says otherwise. Files encrypted with ansible-vault are decrypted, and so are single values (C(!vault)).
  - Values are templates, as in C(group_vars); C(!unsafe) is none.
  - A file that can't be read, whose templates can't be filled in, that holds no county, or that is the second one of a county, becomes an entry
    which the check of definitions refuses by the file's name, so that it does not keep the other counties from being done.
  - A relative path starts at the folder of the inventory.
options:
  _terms:
    description: The folders. An empty one is passed over.
    required: true
    type: list
    elements: str
  counties:
    description: Counties that are known already; they come first.
    type: list
    elements: raw
    default: []
  missing:
    description:
      - What a folder that does not exist is. V(fail) ends the task. V(tell) makes an entry without a name of it, for what only reads and is
        to say what is wrong with the list.
    type: str
    choices: [fail, tell]
    default: fail
"""

EXAMPLES = r"""
- name: Deploy the counties of a folder
  cht.k3s.cht_projects:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    projects: "{{ query('cht.k3s.county_files', inventory_dir ~ '/counties') }}"
"""

RETURN = r"""
_list:
  description: The counties.
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible.template import Templar

from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import UNREADABLE
from ansible_collections.cht.k3s.plugins.module_utils.inputs import folder_of
from ansible_collections.cht.k3s.plugins.plugin_utils.origin import place_of

# What Ansible makes of `!vault`, by release.
_ENCRYPTED = ("EncryptedString", "AnsibleVaultEncryptedUnicode")


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        self._filler = self._templar or Templar(loader=self._loader, variables=variables or {})
        counties: list[Any] = list(self.get_option("counties"))
        for term in filter(None, terms):
            folder = Path(folder_of((variables or {}).get("ansible_inventory_sources") or [], self._loader.get_basedir()), str(term)).expanduser()
            if not folder.is_dir():
                why = f"the folder of counties {folder} does not exist: correct the path (cht_project_dir)"
                if self.get_option("missing") == "fail":
                    raise AnsibleError(why)
                counties.append({"name": "", UNREADABLE: why})
                continue
            known: dict[str, Path] = {}
            for path in sorted(folder.iterdir()):
                if path.suffix in (".yml", ".yaml") and not path.name.startswith("."):
                    county = self._read(path)
                    other = known.setdefault(str(county["name"]), path)
                    counties.append(county if other is path else {"name": county["name"], UNREADABLE: f"is in two files, {other} and {path}: keep one"})
        return counties

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            content = self._load(path)
        except AnsibleError as error:
            # Its first line only: those below it quote the file, which may hold a password.
            why, place = str(error.message).strip().split("\n", maxsplit=1)[0], place_of(getattr(error, "obj", None))
            return {"name": path.stem, UNREADABLE: f"the file {path} can't be read: {why}{f' ({place})' if place else ''}"}
        if isinstance(content, dict):
            wrong: list[str] = []
            content = self._plain(content, "", wrong)
            return {"name": path.stem, UNREADABLE: f"the file {path}: {'; '.join(wrong)}"} if wrong else {"name": path.stem, **content}
        what = "is empty" if content is None else f"holds a {'list' if isinstance(content, list) else 'text'}, not keys and values"
        return {"name": path.stem, UNREADABLE: f"the file {path} {what}: one file is one county"}

    def _load(self, path: Path) -> Any:
        try:
            return self._loader.load_from_file(str(path), trusted_as_template=True)
        except TypeError:  # before ansible-core 2.19, where whatever is not marked as unsafe is a template
            return self._loader.load_from_file(str(path))

    def _plain(self, value: Any, name: str, wrong: list[str]) -> Any:
        """A value with templates filled in and vaulted parts read, as in group variables; each one that can't be is told, and where it is."""
        if isinstance(value, dict):
            return {key: self._plain(inner, f"{name}.{key}" if name else str(key), wrong) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._plain(inner, f"{name}[{number}]", wrong) for number, inner in enumerate(value)]
        try:
            if type(value).__name__ in _ENCRYPTED:
                # A password is no template, whatever is in it.
                return str(value)
            return self._filler.template(value) if isinstance(value, str) else value
        except AnsibleError as error:
            place = place_of(value)
            why = str(error.message).strip().split("\n", maxsplit=1)[0]
            wrong.append(f"{name} can't be filled in: {why}{f' ({place})' if place else ''}")
            return None
