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
    unless it says otherwise. Files encrypted with ansible-vault are decrypted.
  - A file that can't be read, or that holds no county, becomes an entry which the check of definitions refuses by the file's name, so that
    it does not keep the other counties from being done.
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

from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import UNREADABLE
from ansible_collections.cht.k3s.plugins.module_utils.inputs import folder_of


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        counties: list[Any] = list(self.get_option("counties"))
        for term in filter(None, terms):
            folder = Path(folder_of((variables or {}).get("ansible_inventory_sources") or [], self._loader.get_basedir()), str(term)).expanduser()
            if not folder.is_dir():
                why = f"the folder of counties {folder} does not exist: correct the path (cht_project_dir)"
                if self.get_option("missing") == "fail":
                    raise AnsibleError(why)
                counties.append({"name": "", UNREADABLE: why})
                continue
            for path in sorted(folder.iterdir()):
                if path.suffix in (".yml", ".yaml") and not path.name.startswith("."):
                    counties.append(self._read(path))
        return counties

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            content = self._loader.load_from_file(str(path))
        except AnsibleError as error:
            # Its first line only: those below it quote the file, which may hold a password.
            why = str(error.message).strip().split("\n", maxsplit=1)[0]
            return {"name": path.stem, UNREADABLE: f"the file {path} can't be read: {why}"}
        if isinstance(content, dict):
            return {"name": path.stem, **content}
        what = "is empty" if content is None else f"holds a {'list' if isinstance(content, list) else 'text'}, not keys and values"
        return {"name": path.stem, UNREADABLE: f"the file {path} {what}: one file is one county"}
