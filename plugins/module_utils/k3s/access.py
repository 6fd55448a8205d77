# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access to the API from the controller, from what the servers answered."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .clusters import judge


@dataclass
class Problem:
    """Why there is no access. `exists`: a cluster is known or possible, so its absence is an error even in check mode."""

    message: str
    exists: bool


def answers_by_server(results: list) -> dict:
    """server -> its last answer, or None where it could not be asked; servers that the loop did not reach are left out.

    The item of a loop in rounds is a list that ends in the server's name.
    """
    answers = {}
    for entry in results:
        if entry.get("item") is None or entry.get("skipped"):
            continue
        usable = "datastore" in entry and not entry.get("unreachable")
        answers[_server_of(entry)] = dict(entry) if usable else None
    return answers


def _server_of(entry: dict) -> str:
    item = entry.get("item")
    return str(item[-1] if isinstance(item, (list, tuple)) else item)


def choose(results: list, servers: list, way_out: bool = False) -> tuple:
    """(server, its answer, None) of the first one that is well, else healthy, or (None, None, Problem).

    Servers of two clusters give none, but for what is a `way_out` of that: it gets the cluster that is the inventory's, where that can be told,
    and the Problem with it.
    """
    answers = answers_by_server(results)
    verdict = judge(answers, servers)
    if verdict.problem and not way_out:
        return None, None, Problem(verdict.problem, True)
    # The API of one that ends and starts again answers in between, too; it is asked only where no other does.
    for server in sorted(servers, key=lambda name: not (answers.get(name) or {}).get("well")):
        info = answers.get(server)
        if verdict.right and server not in verdict.right:
            continue
        if info and info.get("healthy") and info.get("kubeconfig"):
            return server, info, Problem(verdict.problem, True) if verdict.problem else None
    if not servers:
        return None, None, Problem("The inventory has no servers (group control_plane), so there is no API to reach. Check the inventory.", True)
    last = {_server_of(entry): entry for entry in results if not entry.get("skipped")}
    lines = [
        f"{server}: {entry.get('reason') or 'no credentials'}" if "datastore" in entry else f"{server}: could not be asked ({first_line(entry.get('msg'))})"
        for server, entry in last.items()
    ]
    exists = any(info is None or info.get("datastore") for info in answers.values())
    return None, None, Problem(
        "No server gives access to the API. " + "; ".join(lines)
        + ". Run the role control_plane first, or set k3s_kubeconfig to a kubeconfig of the cluster.", exists,
    )


def first_line(message) -> str:
    lines = str(message or "no message").strip().splitlines()
    return lines[0] if lines else "no message"


def with_server(kubeconfig: str, url: str) -> str:
    """The kubeconfig with the server's address in place of the loopback one."""
    return re.sub(r"^([ \t]*server:[ \t]*)\S+[ \t]*$", lambda match: match.group(1) + url, kubeconfig, count=1, flags=re.MULTILINE)


def with_names(kubeconfig: str, name: str) -> str:
    """The kubeconfig with the cluster's name where k3s writes `default`."""
    return re.sub(r"^([ \t-]*(?:name|cluster|user|current-context):[ \t]*)default[ \t]*$", lambda match: match.group(1) + name, kubeconfig, flags=re.MULTILINE)
