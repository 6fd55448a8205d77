"""prepare_vms.yml on a running cluster: nodes are emptied before their VMs are switched off, and come back into use."""
from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import pytest
from support.lab import Lab

AGENT, SERVER = "agent-1", "control-plane-1"
# Run inside the lab's network, where its vCenter is.
RECONFIGURE = """
import os, sys
from pyVim.connect import SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim
service = SmartConnect(host=os.environ["VMWARE_HOST"], user=os.environ["VMWARE_USER"], pwd=os.environ["VMWARE_PASSWORD"], disableSslCertValidation=True)
content = service.content
view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
options = [vim.option.OptionValue(key="disk.EnableUUID", value=sys.argv[1])]
for machine in view.view:
    if machine.name in sys.argv[2:]:
        WaitForTask(machine.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=options)))
"""


@pytest.fixture
def disk_uuid(lab: Lab) -> Iterator[Callable[[str], None]]:
    """Set disk.EnableUUID of two VMs, and put it back."""

    def change(value: str) -> None:
        process = lab.start(sys.executable, "-c", RECONFIGURE, value, AGENT, SERVER)
        output, _errors = process.communicate(timeout=120)
        assert process.returncode == 0, output

    yield change
    change("TRUE")


def unschedulable(lab: Lab) -> list[str]:
    """Nodes that are cordoned."""
    return [node["metadata"]["name"] for node in lab.kubectl("get", "nodes")["items"] if node["spec"].get("unschedulable")]


def test_nodes_are_emptied_one_at_a_time_and_taken_back(lab: Lab, disk_uuid: Callable[[str], None]) -> None:
    nodes = json.loads(lab("kubectl", "get", "nodes", "-o", "json"))["items"]
    assert {AGENT, SERVER} <= {node["metadata"]["name"] for node in nodes}, "this test needs the cluster of the scenario `site`"
    assert unschedulable(lab) == []
    disk_uuid("FALSE")
    arguments = ("-e", "vm_prepare_power_cycle=hard", "-e", "vm_prepare_power_timeout=120", "--limit", f"{SERVER},{AGENT}")
    predicted = lab.playbook(*arguments, "--check", playbook="playbooks/prepare_vms.yml", name="prepare-check").expect()
    assert unschedulable(lab) == []
    done = lab.playbook(*arguments, playbook="playbooks/prepare_vms.yml", name="prepare").expect()
    steps = [
        (task["host"], task["action"].rpartition(".")[2], task["result"].get("changed", False))
        for task in done.tasks
        if task["action"].endswith(("k3s_drain", "vsphere_disk_uuid")) and task["status"] != "skipped" and "Correct the machine" not in task["task"]
    ]
    # The first two only look and correct the others. Then each machine: emptied, switched, taken back, and only then the next.
    alone = [step for step in steps if step[0] in (AGENT, SERVER)][-6:]
    assert alone == [
        (host, action, True) for host in (SERVER, AGENT) for action in ("k3s_drain", "vsphere_disk_uuid", "k3s_drain")
    ]
    assert unschedulable(lab) == []
    # What would change is looked up for all machines at once: in any order.
    assert sorted(change.partition(":")[0] for change in predicted.changed if "UUID" in change) == sorted((SERVER, AGENT))
    again = lab.playbook(*arguments, playbook="playbooks/prepare_vms.yml", name="prepare-again").expect()
    assert again.changed == []


def test_a_node_that_an_interrupted_run_emptied_is_taken_back(lab: Lab) -> None:
    lab("kubectl", "cordon", AGENT)
    lab("kubectl", "annotate", "node", AGENT, "k3s.cht/cordoned-by=vm_prepare")
    # No server is within the limit, and is asked nevertheless.
    run = lab.playbook("-e", "vm_prepare_power_cycle=hard", "--limit", AGENT, playbook="playbooks/prepare_vms.yml", name="prepare-heals").expect()
    assert [change.endswith("Take the node back into use") for change in run.changed] == [True] and unschedulable(lab) == []
