"""Make this checkout importable as ansible_collections.cht.k3s, whatever folder it lies in."""
from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest
from ansible.utils.collection_loader import _collection_finder
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]


def _install() -> None:
    link = Path(tempfile.mkdtemp(prefix="cht-k3s-tests-")) / "ansible_collections" / "cht" / "k3s"
    link.parent.mkdir(parents=True)
    link.symlink_to(ROOT)
    paths = [str(link.parents[2]), *[p for p in os.environ.get("ANSIBLE_COLLECTIONS_PATH", "").split(":") if p]]
    _collection_finder._AnsibleCollectionFinder(paths=[*paths, *sys.path])._install()  # pylint: disable=protected-access


_install()
# A busy machine is no failure: how long one example takes proves nothing here.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "extensive: another way to the same place, which `make test` leaves to `make test-all`")
