from __future__ import annotations

import os
import socket
import threading
from types import SimpleNamespace

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.preflight import host_facts
from ansible_collections.cht.k3s.plugins.module_utils.preflight.host_facts import Host

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:0016 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 2
"""
TCP6 = """  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:280A 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 3
"""


@pytest.fixture
def root(tmp_path):
    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    write("sys/class/dmi/id/product_serial", "VMware-42 0e\n")
    write("sys/class/dmi/id/product_uuid", "420E3F11\n")
    write("etc/os-release", 'ID=ubuntu\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n# comment\n')
    write("proc/meminfo", "MemTotal:        8192000 kB\nSwapTotal:       2048000 kB\nHugePages_Total:       0\n")
    write("proc/net/tcp", TCP)
    write("proc/net/tcp6", TCP6)
    return tmp_path


def test_facts_come_from_the_machines_own_files(root):
    host = Host(str(root))
    assert host.firmware() == {"product_serial": "VMware-42 0e", "product_uuid": "420e3f11"}
    assert host.system()["os_version"] == "22.04"
    assert host.system()["os_name"] == "Ubuntu 22.04.5 LTS"
    assert host.size()["memory_mb"] == 8000 and host.size()["swap_mb"] == 2000


IPV4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
IPV6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "


@pytest.mark.parametrize(("four", "six", "found"), [
    ("eth0\t00000000\t010012C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", "", True),
    # A route to its own network only; one that is down; one to half of all addresses.
    ("eth0\t000012C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", "", False),
    ("eth0\t00000000\t010012C6\t0002\t0\t0\t0\t00000000\t0\t0\t0\n", "", False),
    ("eth0\t00000000\t010012C6\t0003\t0\t0\t0\t00000080\t0\t0\t0\n", "", False),
    ("", IPV6 + "fd000000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n", True),
    # What each machine has: unreachable, by lo.
    ("", IPV6 + "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n", False), ("", "", False),
])
def test_a_default_route_is_one_that_is_up(root, four, six, found):
    (root / "proc/net/route").write_text(IPV4 + four)
    (root / "proc/net/ipv6_route").write_text(six)
    assert Host(str(root)).default_route() is found


def test_where_no_program_runs_is_told(root, monkeypatch):
    """A path that is not there yet is judged by the file system that it will be on."""
    (root / "var/lib").mkdir(parents=True)
    (root / "usr/local/bin").mkdir(parents=True)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_NOEXEC | os.ST_NODEV if path.endswith("/var/lib") else os.ST_NODEV))
    assert Host(str(root)).noexec(host_facts.PROGRAMS) == ["/var/lib/rancher/k3s"]


@pytest.mark.parametrize(("mounts", "version"), [
    ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", 2),
    ("tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n", 1),
    ("proc /proc proc rw 0 0\n", 0),
])
def test_the_version_of_cgroups_is_what_is_mounted(root, mounts, version):
    (root / "proc/self").mkdir()
    (root / "proc/self/mounts").write_text(mounts)
    assert Host(str(root)).cgroups() == {"cgroup_version": version, "cgroup_v1_configured": False}
    folder = root / "var/lib/rancher/k3s/agent/etc/kubelet.conf.d"
    folder.mkdir(parents=True)
    (folder / "10-own.conf").write_text("kind: KubeletConfiguration\nfailCgroupV1: false\n")
    assert Host(str(root)).cgroups()["cgroup_v1_configured"]
    (folder / "20-json.conf").write_text('{"kind": "KubeletConfiguration",\n "failCgroupV1": true}\n')
    assert not Host(str(root)).cgroups()["cgroup_v1_configured"]


def test_only_listening_ports_count(root):
    host = Host(str(root))
    assert host.listening() == {6443, 10250}
    assert host.ports_in_use([10250, 22, 6443]) == [6443, 10250]


def test_missing_files_are_no_error(tmp_path):
    host = Host(str(tmp_path))
    assert host.firmware() == {"product_serial": "", "product_uuid": ""}
    assert host.system()["os_id"] == ""
    assert host.ports_in_use([1]) == []


def test_free_space_of_a_path_that_is_not_there_yet_is_its_parents(root):
    disk = Host(str(root)).disks(["/var/lib/rancher"])[0]
    assert disk["path"] == "/var/lib/rancher" and disk["size_gb"] > 0


def test_a_unit_tells_that_k3s_is_installed(root):
    assert not Host(str(root)).k3s_installed()
    unit = root / "etc/systemd/system/k3s-agent.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("")
    assert Host(str(root)).k3s_installed()
    assert Host(str(root)).k3s_foreign() == ["/etc/rancher/k3s/config.yaml is not there, so it runs with k3s' defaults"]


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=server.accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]


def test_a_listening_port_is_reached_and_a_refusal_proves_the_way(listener):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    results = host_facts.reach(
        [
            {"host": "127.0.0.1", "port": listener},
            {"host": "127.0.0.1", "port": closed},
            {"host": "127.0.0.1", "port": closed, "refused_ok": True},
        ],
        5,
    )
    assert [result["ok"] for result in results] == [True, False, True]
    assert results[1]["error"] == "connection refused"
    assert host_facts.reach([], 5) == []


def test_the_errors_of_connections_are_told_apart(monkeypatch):
    def fail(error):
        def connect(*_args, **_kwargs):
            raise error

        monkeypatch.setattr(socket, "create_connection", connect)
        return host_facts.reach_one("h", 1, 2)["error"]

    assert fail(socket.gaierror(-2, "Name or service not known")).startswith("name not resolved")
    assert "no answer within 2 s" in fail(socket.timeout())
    assert fail(OSError(113, "No route to host")) == "No route to host"
