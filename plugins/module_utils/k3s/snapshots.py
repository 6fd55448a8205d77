# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of etcd on a server."""

from __future__ import annotations

import re

from . import datastore
from .files import CONFIG_PATH, DATA_DIR
from .release import installed_version, version_key
from .system import NodeError, System
from .yamltext import top_level


# What the API server of one that is well says for a moment, as when another member of etcd goes or comes: it is asked again for so long.
PASSING = ("storage is (re)initializing", "apiserver not ready", "etcdserver: leader changed", "etcdserver: request timed out", "server is currently unable")
PASSING_SECONDS = 60.0


def directory(system: System) -> str:
    """Where k3s keeps its snapshots."""
    return top_level(system.read(CONFIG_PATH)).get("etcd-snapshot-dir") or DATA_DIR + "/server/db/snapshots"


def listed(system: System, base: str = "") -> list:
    """The snapshots on this server, oldest first; with `base` only those of that name."""
    found = []
    folder = directory(system)
    for name in system.listdir(folder):
        match = re.match(r"(?P<base>.+)-(?P<time>\d{9,})(\.zip)?\Z", name)
        if match and (not base or f"{match.group('base')}-".startswith(base)):
            found.append({"name": name, "path": f"{folder}/{name}", "time": int(match.group("time"))})
    return sorted(found, key=lambda snapshot: (snapshot["time"], snapshot["name"]))


# Releases that send the command to the server that config.yaml names for joining (k3s-io/k3s#10513): minor -> the first one and the first one
# without it. Before, and after, there is no such flag.
_ELSEWHERE = {(1, 27): (13, 16), (1, 28): (9, 12), (1, 29): (4, 7), (1, 30): (0, 3)}


def here(version: str, config: dict) -> list:
    """The arguments by which a snapshot is made on this server."""
    key = version_key(version)
    first, fixed = _ELSEWHERE.get(key[:2], (0, 0))
    if not key or not first <= key[2] < fixed:
        return []
    return ["--server", f"https://127.0.0.1:{config.get('https-listen-port') or 6443}"]


def save(system: System, binary: str, base: str, timeout: int) -> dict:
    """Save one now, and make sure that it is there and not empty."""
    if datastore.kind(system) == "sqlite":
        raise NodeError(
            f"This server keeps its data in SQLite ({datastore.SQLITE}), of which k3s makes no snapshots. playbooks/migrate_datastore.yml takes it to etcd;"
            " until then a backup is a copy of /var/lib/rancher/k3s/server/db and of /var/lib/rancher/k3s/server/token, made while k3s is stopped."
            " Nothing was done."
        )
    before = {snapshot["name"] for snapshot in listed(system, base)}
    place = here(installed_version(system, binary), top_level(system.read(CONFIG_PATH)))
    deadline = system.now() + PASSING_SECONDS
    while True:
        done = system.run([system.path(binary), "etcd-snapshot", "save", "--name", base, *place], timeout=timeout)
        new = [snapshot for snapshot in listed(system, base) if snapshot["name"] not in before]
        if (done.rc == 0 and new) or system.now() >= deadline or not any(text in done.err + done.out for text in PASSING):
            break
        system.sleep(5)
    if done.rc != 0 or not new:
        said = (done.err or done.out).strip().splitlines()
        if said and "not authorized" in said[-1]:
            raise NodeError(
                "No snapshot was made: k3s on this server does not take its own token, so the token was changed and this server not restarted since."
                " Run playbooks/rotate.yml --tags token again, with the same k3s_new_token, or restart k3s.service here. Nothing else was done."
            )
        raise NodeError(
            f"No snapshot was made: `k3s etcd-snapshot save` gave {done.rc}: {said[-1] if said else 'nothing'}."
            " The server must be healthy, with room on its disk; nothing else was done."
        )
    return dict(new[-1], sha256=system.sha256(new[-1]["path"]))


def prune(system: System, binary: str, base: str, keep: int, timeout: int, check_mode: bool = False) -> list:
    """Delete all but the newest snapshots of a name on this server; k3s prunes only those that it makes on schedule. Gives their names."""
    old = [snapshot["name"] for snapshot in listed(system, base + "-")][:-max(keep, 1)]
    if not old or check_mode:
        return old
    place = here(installed_version(system, binary), top_level(system.read(CONFIG_PATH)))
    done = system.run([system.path(binary), "etcd-snapshot", "delete", *place, *old], timeout=timeout)
    left = [snapshot["name"] for snapshot in listed(system, base + "-") if snapshot["name"] in old]
    if left:
        said = (done.err or done.out).strip().splitlines()
        raise NodeError(
            f"Old snapshots were not deleted: `k3s etcd-snapshot delete` gave {done.rc}: {said[-1] if said else 'nothing'}. The new one is saved;"
            f" on this server these are left over: {', '.join(left)}."
        )
    return old
