# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the stand-in's tests. LAB_K3S=/path/to/k3s runs the contract against another binary, like a real one."""
from __future__ import annotations

import os
import pathlib
import sys
import zipfile

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE.parents[1])]

from cht_lab import tools  # noqa: E402


@pytest.fixture(scope="session")
def binary(tmp_path_factory):
    real = os.environ.get("LAB_K3S")
    if real:
        return pathlib.Path(real)
    import build
    place = tmp_path_factory.mktemp("bin") / "k3s"
    build.build(tools.K3S_VERSION, place)
    return place


def pytest_configure(config):
    config.addinivalue_line("markers", "standin(why): shows what only the stand-in has")


@pytest.fixture(autouse=True)
def of_the_standin_alone(request, binary):
    """Told by the file itself: the stand-in is an archive of Python."""
    marker = request.node.get_closest_marker("standin")
    if marker and not zipfile.is_zipfile(binary):
        pytest.skip(f"{binary} is not the stand-in: {marker.args[0]}")


@pytest.fixture(scope="session")
def programs():
    place = tools.TOOLS["kubernetes"].folder
    assert (place / "kube-apiserver").exists(), f"{place}: the Kubernetes programs are not built; run `make setup`"
    return place


@pytest.fixture(scope="module")
def make_host(tmp_path_factory, binary, programs):
    assert os.geteuid() == 0, "the contract's tests need root: network and mount namespaces"
    from hosts import Host, Network
    folder = tmp_path_factory.mktemp("hosts")
    network = Network(f"k3st{os.getpid() % 10000}")
    made = []

    def make(name):
        host = Host(network, folder, name, 10 + len(made), binary, programs)
        made.append(host)
        return host
    yield make
    for host in made:
        host.stop()
    for host in made:
        host.remove()
    network.remove()
