# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left to do until the Secrets are encrypted, or have another key: decided from what every server has, so that a run goes on where
another one stopped.

Encrypting takes k3s' way for a cluster that runs: an empty configuration on one server, the flag on all, a key. In between the other servers
can't read Secrets until they are restarted, but what they write stays readable. Rotating takes the older way in three steps, in which every
server knows both keys: with `rotate-keys` a Secret that is written through a server with the old key, after the old key was dropped, would be lost.
"""

from __future__ import annotations

import re

ENABLE, ADD_KEY = "enable", "rotate-keys"
ROTATION = ("prepare", "rotate", "reencrypt")
# What is left of a rotation, by the stage that k3s tells. Only a pass over the servers is ''.
LEFT = {"prepare": ["", "rotate", "reencrypt"], "rotate": ["", "reencrypt"]}
FINAL = ("start", "reencrypt_finished")


def decide(answers: dict, servers: list, rotate: bool = False) -> dict:
    """The plan for all servers.

    answers: server -> what k3s_secrets_encryption gave, or None where it could not be asked
    """
    plan: dict = {"problem": "", "leader": "", "operations": [], "before": _before(answers)}
    plan["problem"] = _unfit(answers, servers)
    if plan["problem"]:
        return plan
    flagged = [server for server in servers if answers[server]["flag"]]
    if not flagged:
        prepared = [server for server in servers if answers[server]["kind"] == "identity"]
        plan.update(leader=(prepared or servers)[0], operations=[ENABLE, ADD_KEY])
        return plan
    leader, problem = _newest({server: answers[server] for server in flagged})
    plan.update(leader=leader, problem=problem)
    if problem:
        return plan
    first = answers[leader]
    whole = len(flagged) == len(servers) and all(answers[server]["hash"] == first["hash"] for server in servers)
    if first["kind"] == "identity":
        plan["operations"] = [ADD_KEY] if whole else ["", ADD_KEY]
    elif first["stage"] in LEFT:
        plan["operations"] = LEFT[first["stage"]]
    elif not whole:
        plan["operations"] = [""]
    elif rotate and first["provider"] != "aescbc":
        plan["problem"] = (
            f"The key is one of the provider {first['provider']}, which k3s rotates only in a way in which a Secret that is written meanwhile may be"
            " lost (`k3s secrets-encrypt rotate-keys`). Nothing was changed."
        )
    elif rotate:
        plan["operations"] = list(ROTATION)
    return plan


def _before(answers: dict) -> str:
    kinds = {(facts["kind"] if facts["flag"] else "none") for facts in answers.values() if facts}
    return "encrypted" if kinds == {"encrypted"} else "plain" if kinds <= {"none", "identity"} else "mixed"


def _unfit(answers: dict, servers: list) -> str:
    """Why the servers are not in a state to begin anything with."""
    silent = [server for server in servers if not answers.get(server)]
    if silent:
        return f"{', '.join(silent)} could not be asked. Every server has to be up for this: see it with site.yml first. Nothing was changed."
    for server in servers:
        facts = answers[server]
        if facts["problem"]:
            return f"{server}: {facts['problem']}. Bring it in order with site.yml first. Nothing was changed."
        if facts["kind"] == "damaged":
            return f"{server}: k3s' encryption-config.json can't be read. Nothing was changed."
        if facts["flag"] and facts["kind"] == "disabled":
            return (
                f"{server}: encryption was switched off with `k3s secrets-encrypt disable`, which is left alone. `k3s secrets-encrypt enable` there, a"
                " restart of each server, and `k3s secrets-encrypt reencrypt --force --skip` switch it on again. Nothing was changed."
            )
        if facts["flag"] and facts["kind"] == "none":
            return f"{server}: it is set to encrypt Secrets and runs without; site.yml restarts it. Nothing was changed."
    versions = sorted({answers[server]["version"] for server in servers})
    if len(versions) > 1:
        return f"The servers run several releases ({', '.join(versions)}). Finish the upgrade first (playbooks/upgrade.yml). Nothing was changed."
    return ""


def _newest(found: dict) -> tuple:
    """(the server whose configuration the others have to take, why that can't be told)."""
    by_hash: dict = {}
    for server, facts in found.items():
        by_hash.setdefault(facts["hash"], server)
    leaders = list(by_hash.values())
    if len(leaders) == 1:
        return leaders[0], ""
    if len(leaders) == 2:
        for one, other in (leaders, leaders[::-1]):
            if _follows(found[one], found[other]):
                return other, ""
    return "", (
        f"{', '.join(leaders)} encrypt Secrets with keys that do not follow from one another, so each of them can read only what it wrote itself. Most"
        " likely secrets-encryption was set by hand on a cluster that was begun without. Restore the last backup from before"
        " (playbooks/restore.yml). Nothing was changed."
    )


def _follows(before: dict, after: dict) -> bool:
    """One server's configuration is what the next operation of k3s makes of the other's."""
    kept = set(before["keys"]) <= set(after["keys"])
    if before["kind"] == "identity":
        return after["kind"] == "encrypted" and after["stage"] in FINAL and len(after["keys"]) == 1 and _made(after) > ""
    if after["stage"] == "prepare":
        return before["stage"] in FINAL and kept and len(after["keys"]) == len(before["keys"]) + 1
    if after["stage"] == "rotate":
        return before["stage"] == "prepare" and kept
    return after["stage"] == "reencrypt_finished" and (
        set(after["keys"]) < set(before["keys"]) if before["stage"] == "rotate" else before["stage"] in FINAL and _made(after) > _made(before))


def _made(facts: dict) -> str:
    """When the key in use was made: k3s writes it into the name of each but the first."""
    match = re.search(r"\d{4}-\d\d-\d\dT\S+\Z", facts["keys"][0] if facts["keys"] else "")
    return match.group(0) if match else ""
