"""Build a whole cluster in the lab and show it: what `make demo` runs.

Starts the lab, runs playbooks/site.yml against it as a user would, then prints nodes, CPI, CSI, storage classes and
projects as the API reports them, and the time of each role.
"""
from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAB = str(ROOT / "tests" / "lab" / "lab")
VIEWS = (
    ("Nodes: three servers with etcd, nine agents, each known to vSphere by its BIOS UUID",
     ("get", "nodes", "-o", "custom-columns=NODE:.metadata.name,READY:.status.conditions[?(@.type=='Ready')].status,"
      "ETCD VOTER:.status.conditions[?(@.type=='EtcdIsVoter')].status,PROVIDER ID:.spec.providerID,"
      "ADDRESS:.status.addresses[?(@.type=='InternalIP')].address,VERSION:.status.nodeInfo.kubeletVersion")),
    ("Cloud provider (CPI): the real program in the manifest's own DaemonSet",
     ("-n", "kube-system", "get", "daemonset/vsphere-cloud-controller-manager", "-o", "wide")),
    ("Storage driver (CSI): the official manifest, patched",
     ("-n", "vmware-system-csi", "get", "deployments,daemonsets,pods")),
    ("Storage classes", ("get", "storageclass")),
    ("Projects", ("get", "deployments,services,ingresses,persistentvolumeclaims", "-A", "-l", "app.kubernetes.io/part-of=cht")),
)


def step(title: str, *argv: str) -> int:
    print(f"\n### {title}", flush=True)
    begin = time.monotonic()
    code = subprocess.run(argv, cwd=ROOT, check=False).returncode
    print(f"({time.monotonic() - begin:.0f} s)", flush=True)
    return code


def main() -> int:
    begin = time.monotonic()
    if step("Start the lab", LAB, "up"):
        return 1
    code = step("Run playbooks/site.yml", LAB, "exec", "--", "env", "ANSIBLE_CALLBACKS_ENABLED=ansible.posix.profile_roles",
                "ansible-playbook", "-i", "inventories/lab", "playbooks/site.yml")
    for title, argv in VIEWS:
        code = step(title, LAB, "kubectl", *argv) or code
    print(f"\n{'The cluster stands' if code == 0 else 'Something failed, see above'}: {time.monotonic() - begin:.0f} s in all. "
          "Look around with `tests/lab/lab kubectl ...` and `tests/lab/lab ssh agent-1`; `make clean` takes it away.")
    return code


if __name__ == "__main__":
    sys.exit(main())
