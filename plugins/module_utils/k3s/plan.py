# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which server a node joins, or whether it begins the cluster: decided from what every server said about itself.

The first server of the inventory has no special place: one that lost its data joins the others like any new one.
"""

from __future__ import annotations

from .clusters import judge
from .release import version_key

# How many minor releases an agent may be behind its server, by the server's: two, and three since Kubernetes 1.28.
SKEW, SKEW_SINCE = 3, 28


def shown_url(address: str) -> str:
    """The supervisor's URL at an address."""
    return f"https://[{address}]:6443" if ":" in address else f"https://{address}:6443"


def release_problem(host: str, server: bool, version: str, via: str, running: str) -> str:
    """Why a machine must not join at this release; '' when it may. A member's own release is judged by k3s_join."""
    wanted, there = version_key(version), version_key(running)
    if not wanted or not there or wanted == there:
        return ""
    if server:
        return (
            f"{via} runs k3s {running}, and k3s_version is {version}. A server joins only with the release that runs: set k3s_version to {running},"
            f" and move all of them with playbooks/upgrade.yml afterwards. Nothing was changed on {host}."
        )
    if wanted > there:
        return (
            f"{via} runs k3s {running}, and no agent may be newer, but k3s_version is {version}. Set it to {running}, or upgrade the servers first"
            f" (playbooks/upgrade.yml). Nothing was changed on {host}."
        )
    allowed = SKEW if there[1] >= SKEW_SINCE else SKEW - 1
    if there[1] - wanted[1] > allowed:
        return (
            f"{via} runs k3s {running}, and an agent may be at most {allowed} minor releases older, but k3s_version is {version}."
            f" Set k3s_version to {running}. Nothing was changed on {host}."
        )
    return ""


def starting(answers: dict, member: str = "", need: str = "healthy") -> dict:
    """server -> what it said, of those worth waiting for because none is as needed yet; {} for a `member`, which needs no other."""
    if any((info or {}).get(need) for info in answers.values()) or (answers.get(member) or {}).get("datastore"):
        return {}
    return {name: info.get("reason") or "not healthy" for name, info in answers.items() if info and info.get("starting")}


def decide(
    answers: dict, urls: dict, host: str, server: bool, alone: bool, first: str, fixed_url: str = "", token: str = "", check_mode: bool = False,
    version: str = "",
) -> dict:
    """The plan for one host.

    answers: server -> what k3s_server_info gave, or None where it could not be asked (servers that were not asked are left out)
    urls: server -> its URL, for all servers
    alone: no other host acts at the same time
    first: the server that begins the cluster in a check-mode run, where nothing comes to be
    version: the release that the host joins with; not compared when empty, as in an upgrade
    """
    own = answers.get(host) if server else None
    healthy = [name for name in urls if name != host and (answers.get(name) or {}).get("healthy")]
    healthy.sort(key=lambda name: not answers[name].get("well"))
    plan = {"servers": [], "cluster_init": False, "token": token, "problem": "", "via": "", "version": "", "encryption": "", "settings": None}
    plan["peers"] = [urls[name] for name in urls if name != host] if server else []
    plan["problem"] = judge(answers, list(urls)).problem
    if plan["problem"]:
        return plan

    if healthy:
        plan["via"] = healthy[0]
        plan["version"] = (answers[healthy[0]] or {}).get("version") or ""
        plan["encryption"] = (answers[healthy[0]] or {}).get("encryption") or ""
        plan["settings"] = (answers[healthy[0]] or {}).get("settings")
        plan["token"] = (answers[healthy[0]] or {}).get("token") or token
    ordered = healthy + [name for name in urls if name not in healthy and name != host]
    plan["servers"] = [fixed_url] if fixed_url and not server else [urls[name] for name in ordered]

    if own and own.get("datastore"):
        # A member: joining is history, and no other one is asked to forget it. Only a token that was given is compared with its datastore.
        plan.update(token=token, via="")
        return plan
    if server and own is None:
        plan["problem"] = f"{host} could not be asked about its datastore, so nothing is decided for it. Run the module k3s_server_info on it to see why."
        return plan
    if healthy:
        plan["problem"] = release_problem(host, server, version, plan["via"], plan["version"])
        return plan

    silent = [name for name in urls if name in answers and answers[name] is None]
    down = [name for name in urls if (answers.get(name) or {}).get("datastore")]
    if down:
        reasons = "; ".join(f"{name}: {answers[name].get('reason') or 'not healthy'}" for name in down)
        plan["problem"] = (
            f"A cluster exists (a datastore is on {', '.join(down)}), but no server answers, so {host} can join none and must not begin a second one."
            f" {reasons}. "
            + (f"{', '.join(silent)} cannot be reached: etcd needs {len(urls) // 2 + 1} of the {len(urls)} servers, so bring these back first;" if silent
               else f"Run the role control_plane on {', '.join(down)} first,")
            + " or restore the cluster from a backup (playbooks/restore.yml)."
        )
    elif silent:
        plan["problem"] = (
            f"No server that answers has a cluster, and {', '.join(silent)} cannot be reached, so it is unknown whether a cluster exists."
            f" Make {', '.join(silent)} reachable, or take it out of the inventory if it is gone for good."
        )
    elif check_mode:
        plan["cluster_init"] = server and host == first
        plan["servers"] = [] if plan["cluster_init"] else [fixed_url if fixed_url and not server else urls[first]]
    elif not server:
        plan["problem"] = f"No server has a cluster yet, so {host} has none to join. Run the role control_plane first."
    elif not alone:
        plan["problem"] = "No cluster exists yet and several servers are set up at once; each would begin its own. Run the play with serial: 1."
    else:
        plan["cluster_init"] = True
        plan["servers"] = []
    return plan
