"""Where the lab keeps things. Nothing of it lies in the checkout."""

from __future__ import annotations

import os
from pathlib import Path

LAB_DIR = Path(__file__).resolve().parent.parent
PROJECT = LAB_DIR.parent.parent
# Two labs can run side by side: each has its own name, and with it its own namespaces, cgroups and state.
NAME = os.environ.get("LAB_NAME", "chtlab")
STATE = Path(os.environ.get("LAB_STATE", "/var/lib/cht-k3s-lab" if NAME == "chtlab" else f"/var/lib/cht-k3s-lab-{NAME}"))
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cht-k3s"
TOOLS = CACHE / "tools"

RUN = STATE / "run"
LOGS = STATE / "log"
NODES = STATE / "nodes"
SECRETS = STATE / "secrets"
VCENTER = STATE / "vcenter"
MIRROR = STATE / "mirror"
# Shared by all machines, as a datastore is.
VOLUMES = STATE / "volumes"

# Ansible's shared SSH connections: they end with the lab, and two labs with the same addresses have their own.
SSH_CONTROL = STATE / "ssh"
SSH_KEY = SECRETS / "id_ed25519"
KNOWN_HOSTS = STATE / "known_hosts"
CA_CERT = STATE / "ca.pem"
HOSTS_FILE = STATE / "hosts"
RESOLV_FILE = STATE / "resolv.conf"
DESCRIPTION = STATE / "description.yml"


def ensure() -> None:
    """Make the state folders; keys and passwords get a folder that only root can read."""
    for folder in (STATE, RUN, LOGS, NODES, VCENTER, MIRROR, VOLUMES):
        folder.mkdir(parents=True, exist_ok=True)
    SECRETS.mkdir(mode=0o700, exist_ok=True)
