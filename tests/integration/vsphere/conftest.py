"""vCenters for the tests of this folder, and ways to run modules and the inventory plugin against them."""
from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.testing import patch_module_args
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader

sys.path.insert(0, str(Path(__file__).parent))

from vcenter import ROOT, Vcenter  # noqa: E402

DESCRIPTION = ROOT / "tests" / "lab" / "lab.yml"
FAULTS = ROOT / "tests" / "lab" / "descriptions" / "faults.yml"


@pytest.fixture(scope="session", autouse=True)
def _plugins() -> None:
    with warnings.catch_warnings():
        # tests/conftest.py has made the collection known already.
        warnings.simplefilter("ignore")
        init_plugin_loader()


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vcenter]:
    """The lab's own vCenter. Tests that use it change nothing in it."""
    with Vcenter(tmp_path_factory.mktemp("good"), DESCRIPTION) as vcenter:
        vcenter.tag("cht-role", {"server": [f"control-plane-{n}" for n in (1, 2, 3)], "worker": [f"agent-{n}" for n in range(1, 10)]})
        yield vcenter


@pytest.fixture
def vcenter(good: Vcenter) -> Vcenter:
    """The same, counting anew."""
    good.ledger.reset()
    return good


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Vcenter]:
    """A vCenter that the test may change."""
    with Vcenter(tmp_path, DESCRIPTION) as vcenter:
        yield vcenter


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vcenter]:
    """The lab's vCenter with one fault in each VM."""
    with Vcenter(tmp_path_factory.mktemp("faulty"), FAULTS) as vcenter:
        yield vcenter


Runner = Callable[..., dict[str, Any]]


@pytest.fixture
def module() -> Runner:
    """Run a module as Ansible does, except that it is this process; returns its result."""

    def run(name: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
        code = importlib.import_module(f"ansible_collections.cht.k3s.plugins.modules.{name}")
        output = io.StringIO()
        given = {**arguments, "_ansible_check_mode": check, "_ansible_diff": True}
        with patch_module_args(given), contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            code.main()
        return json.loads(output.getvalue().strip().splitlines()[-1])

    return run


class Inventory:
    """What became of an inventory source."""

    def __init__(self, path: Path) -> None:
        self.manager = InventoryManager(loader=DataLoader(), sources=[str(path)], parse=False)
        # With any_unparsed_is_failed (this checkout's ansible.cfg) Ansible stops here; without it, it goes on.
        with contextlib.suppress(AnsibleError):
            self.manager.parse_sources(cache=True)

    @property
    def hosts(self) -> list[str]:
        return sorted(host.name for host in self.manager.get_hosts())

    def group(self, name: str) -> list[str]:
        return sorted(self.manager.get_groups_dict().get(name, []))

    def host(self, name: str) -> dict[str, Any]:
        return self.manager.get_host(name).get_vars()

    @property
    def error(self) -> str:
        return str(self.manager.groups["all"].get_vars().get("vsphere_inventory_error", ""))


@pytest.fixture
def inventory(tmp_path: Path) -> Callable[..., Inventory]:
    """Read an inventory file with these options."""

    def read(source: Vcenter | None, **options: Any) -> Inventory:
        connection = source.options if source else {}
        path = tmp_path / "test.vsphere.yml"
        path.write_text(yaml.safe_dump({"plugin": "cht.k3s.vsphere", **connection, **options}))
        return Inventory(path)

    return read
