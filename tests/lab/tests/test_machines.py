"""Real machines and a real vcsim: what the rest of the tests stand on."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
from lab_support import LAB_DIR, Lab, environment

NODES = "control-plane-1,agent-1"
FIND = """
import os, ssl
from pyVim.connect import SmartConnect, Disconnect
from pyVmomi import vim
context = ssl.create_default_context(cafile=os.environ["VMWARE_CA_PATH"])
service = SmartConnect(host=os.environ["VMWARE_HOST"], user=os.environ["VMWARE_USER"], pwd=os.environ["VMWARE_PASSWORD"], sslContext=context)
vm = service.content.searchIndex.FindByUuid(None, "420e3f21-8a5c-4d11-9b77-c0de00000021", True, False)
devices = {type(item).__name__.split(".")[-1] for item in vm.config.hardware.device}
print(vm.name, vm.guest.hostName, vm.guest.net[0].ipAddress[0], vm.guest.net[0].macAddress, vm.config.version, vm.runtime.powerState,
      {o.key: o.value for o in vm.config.extraConfig}["disk.EnableUUID"], "ParaVirtualSCSIController" in devices, vm.parent.name)
Disconnect(service)
"""


@pytest.fixture(scope="module")
def up(lab: Lab) -> Lab:
    """A lab with two machines, whose start is interrupted once first."""
    with subprocess.Popen(
        [LAB_DIR / "lab", "up", "--nodes", NODES], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        time.sleep(1.2)
        process.send_signal(signal.SIGINT)
    lab("up", "--nodes", NODES)
    return lab


def ssh(lab: Lab, node: str, command: str) -> str:
    return lab("ssh", node, command).stdout.strip()


def test_a_machine_looks_like_the_vm(up: Lab) -> None:
    assert ssh(up, "agent-1", "hostname; id -un; systemctl is-system-running; sudo id -u") == "agent-1\nops\nrunning\n0"
    assert ssh(up, "agent-1", "sudo cat /sys/class/dmi/id/product_serial") == "VMware-42 0e 3f 21 8a 5c 4d 11-9b 77 c0 de 00 00 00 21"
    assert ssh(up, "agent-1", "sudo cat /sys/class/dmi/id/product_uuid") == "420e3f21-8a5c-4d11-9b77-c0de00000021"
    assert ssh(up, "agent-1", "cat /sys/class/net/eth0/address") == "00:50:56:0c:00:15"


def test_no_way_leads_out(up: Lab) -> None:
    """A machine has a default route, and nothing behind it."""
    assert "default via 198.18.0.2" in ssh(up, "agent-1", "ip route")
    assert up("ssh", "agent-1", "timeout 3 bash -c 'echo > /dev/tcp/192.0.2.1/80'", check=False).returncode != 0
    assert up("exec", "--", "ip", "route").stdout.split() == ["198.18.0.0/24", "dev", "br-lab", "proto", "kernel", "scope", "link", "src", "198.18.0.2"]


def test_a_second_up_changes_nothing(up: Lab) -> None:
    before = ssh(up, "agent-1", "cat /proc/sys/kernel/random/boot_id; ps -o lstart= -p 1")
    started = time.monotonic()
    assert "0 machines started" in up("up", "--nodes", NODES).stderr
    assert time.monotonic() - started < 10
    assert ssh(up, "agent-1", "cat /proc/sys/kernel/random/boot_id; ps -o lstart= -p 1") == before


def test_vcenter_shows_the_vm_and_counts_logins(up: Lab) -> None:
    up("vcenter", "reset")
    words = up("exec", "--", "python", "-c", FIND).stdout.split()
    assert words == ["agent-1", "agent-1", "198.18.0.21", "00:50:56:0c:00:15", "vmx-19", "poweredOn", "TRUE", "True", "k3s"]
    report = json.loads(up("vcenter", "logins").stdout)
    assert (report["logins"], report["failed"], report["logouts"], report["open"]) == (1, 0, 1, 0)
    up("vcenter", "password", "n€w \"'\\pass")
    words = up("exec", "--", "python", "-c", FIND).stdout.split()
    assert words[0] == "agent-1", "`lab exec` knows the new password"
    old = up("exec", "--", "env", "VMWARE_PASSWORD=old", "python", "-c", FIND, check=False)
    assert "InvalidLogin" in old.stderr
    assert json.loads(up("vcenter", "logins").stdout)["failed"] == 1


def test_a_stopped_machine_keeps_its_disk_and_a_wiped_one_does_not(up: Lab) -> None:
    ssh(up, "agent-1", "echo kept > ~/file; sudo touch /var/lib/rancher/kept")
    up("vm", "stop", "agent-1")
    assert "poweredOff" in up("exec", "--", "python", "-c", FIND.replace("vm.guest.net[0].ipAddress[0], vm.guest.net[0].macAddress, ", "")).stdout
    up("vm", "start", "agent-1")
    assert ssh(up, "agent-1", "cat ~/file; ls /var/lib/rancher") == "kept\nkept"
    up("vm", "kill", "agent-1")
    up("vm", "start", "agent-1")
    assert ssh(up, "agent-1", "cat ~/file") == "kept"
    up("vm", "wipe", "agent-1")
    assert ssh(up, "agent-1", "ls ~ /var/lib/rancher") == "/home/ops:\n\n/var/lib/rancher:"


def test_a_reboot_comes_back(up: Lab) -> None:
    before = ssh(up, "agent-1", "cat /proc/sys/kernel/random/boot_id")
    up("ssh", "agent-1", "sudo systemctl reboot", check=False)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        result = up("ssh", "agent-1", "cat /proc/sys/kernel/random/boot_id", check=False)
        if result.returncode == 0 and result.stdout.strip() != before:
            break
        time.sleep(0.5)
    else:
        pytest.fail("the machine did not come back")
    assert ssh(up, "agent-1", "systemctl is-system-running --wait; cat /sys/class/dmi/id/sys_vendor") == "running\nVMware, Inc."


def test_pause_and_cut(up: Lab) -> None:
    up("vm", "pause", "agent-1")
    with pytest.raises(subprocess.TimeoutExpired):
        up("ssh", "agent-1", "true", timeout=3)
    up("vm", "resume", "agent-1")
    assert ssh(up, "agent-1", "echo back") == "back"
    up("net", "cut", "agent-1")
    assert "1 received" not in up("ssh", "control-plane-1", "ping -c1 -W1 198.18.0.21", check=False).stdout
    up("net", "heal", "agent-1")
    up("net", "cut", "agent-1", "control-plane-1")
    assert "1 received" not in up("ssh", "control-plane-1", "ping -c1 -W1 198.18.0.21", check=False).stdout
    assert ssh(up, "agent-1", "echo other ways are open") == "other ways are open"
    up("net", "heal", "agent-1", "control-plane-1")
    assert "1 received" in up("ssh", "control-plane-1", "ping -c1 -W1 198.18.0.21").stdout


def test_vcenter_can_be_away(up: Lab) -> None:
    up("vcenter", "stop")
    assert up("exec", "--", "python", "-c", FIND, check=False).returncode != 0
    up("vcenter", "start")
    assert up("exec", "--", "python", "-c", FIND).returncode == 0


def test_the_console_takes_whatever_is_written_to_it(up: Lab) -> None:
    script = "yes a line for the console | head -c 300000 > /dev/console && echo written"
    assert ssh(up, "agent-1", f"sudo timeout 20 sh -c {shlex.quote(script)}") == "written"


def test_a_node_pulls_and_runs_an_image(up: Lab) -> None:
    """containerd takes what the registry gives, and the stub answers."""
    script = """
set -e
PATH=/opt/lab/parts/containerd:/opt/lab/parts/runc:$PATH
mkdir -p /run/t /var/lib/rancher/t
containerd config default | sed 's,/var/lib/containerd,/var/lib/rancher/t,; s,/run/containerd,/run/t/c,' > /run/t/c.toml
containerd -c /run/t/c.toml -a /run/t/c.sock > /run/t/log 2>&1 &
for i in $(seq 50); do [ -S /run/t/c.sock ] && break; sleep 0.1; done
ctr -a /run/t/c.sock image pull --plain-http 198.18.0.2:5000/medic/cht-couchdb:4.22.0 > /run/t/pull 2>&1
export CONTAINERD_ADDRESS=/run/t/c.sock
ctr run --rm --net-host --env COUCHDB_USER=a --env COUCHDB_PASSWORD=b 198.18.0.2:5000/medic/cht-couchdb:4.22.0 a < /dev/null > /run/t/out 2>&1 &
for i in $(seq 100); do curl -sf -u a:b localhost:5984/_node/_local/_config/cht/version && break; sleep 0.1; done
ctr -a /run/t/c.sock task kill -s TERM a < /dev/null
wait %2
kill %1; wait %1 || true
rm -rf /var/lib/rancher/t /run/t
"""
    assert ssh(up, "agent-1", f"sudo bash -c {shlex.quote(script)}") == '"4.22.0"'


def test_the_mirror_serves_what_the_roles_ask_for(up: Lab) -> None:
    for path in (
        "k3s/v1.35.4%2Bk3s1/sha256sum-amd64.txt",
        "cpi/v1.36.0/releases/v1.36/vsphere-cloud-controller-manager.yaml",
        "csi/v3.3.1/manifests/vanilla/vsphere-csi-driver.yaml",
    ):
        assert up("exec", "--", "curl", "-sf", "-o", "/dev/null", f"http://198.18.0.2:8080/{path}").returncode == 0


def test_kubectl_says_when_there_is_no_cluster(up: Lab) -> None:
    result = up("kubectl", "get", "nodes", check=False)
    assert result.returncode == 1 and "site.yml" in result.stderr


def test_state_is_private() -> None:
    secrets = Path("/var/lib/cht-k3s-lab-labtest/secrets")
    assert secrets.stat().st_mode & 0o077 == 0
