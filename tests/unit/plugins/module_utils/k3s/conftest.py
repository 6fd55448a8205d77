# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fake node as fixtures."""
from __future__ import annotations

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.k3s import join, state
from k3s_fakes import FakeApi, FakeSystem, make_node


@pytest.fixture
def api(monkeypatch):
    fake = FakeApi()
    monkeypatch.setattr(state, "server_api", lambda system, timeout=5.0: fake)
    monkeypatch.setattr(state, "agent_api", lambda system, timeout=5.0: fake)
    return fake


@pytest.fixture
def system(tmp_path, monkeypatch, api):
    fake = FakeSystem(tmp_path)
    name = fake.hostname().lower()

    def download(target, release_url, version, checksum, environment, path):
        target.put(path, "binary", 0o755)
        target.version = version
        return "0" * 64

    monkeypatch.setattr(join, "download", download)
    fake.on_start = lambda: api.objects is not None and api.objects.setdefault(name, make_node(name))
    return fake
