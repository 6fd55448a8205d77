# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each server keeps the cluster's Secrets, for the report: what the servers said, and what k3s wrote on the Nodes of those that said nothing."""

from __future__ import annotations

import typing as t

Object = dict[str, t.Any]

ANNOTATION = "k3s.io/encryption-config-hash"
STATES = {
    "encrypted": "encrypted", "identity": "prepared, not encrypted yet", "disabled": "switched off", "none": "switched on, not in force yet",
    "damaged": "its configuration is damaged",
}
_NEXT = "ansible-playbook cht.k3s.secrets_encryption"
# Between two steps of playbooks/secrets_encryption.yml.
UNFINISHED = ("prepare", "rotate", "reencrypt_request", "reencrypt_active")


def servers(nodes: list[Object], answers: list[Object]) -> list[Object]:
    """One row for each server: its state, k3s' stage and the hash of its configuration, empty where nothing is encrypted."""
    told = {answer["node"]: answer for answer in answers if "kind" in answer and answer.get("node")}
    rows = []
    for node in nodes:
        name = node["metadata"]["name"]
        stage, _dash, digest = str((node["metadata"].get("annotations") or {}).get(ANNOTATION) or "").partition("-")
        answer = told.get(name)
        if answer is None:
            rows.append({"server": name, "state": "not asked", "stage": stage, "hash": digest})
        elif not answer["flag"]:
            # What is written on its Node is of former times.
            rows.append({"server": name, "state": "not encrypted", "stage": "", "hash": ""})
        else:
            rows.append({"server": name, "state": STATES.get(answer["kind"], answer["kind"]), "stage": stage, "hash": answer["hash"] or digest})
    return rows


def problems(rows: list[Object]) -> list[Object]:
    """What about them needs somebody's eye."""
    by_hash: dict[str, list[str]] = {}
    for row in rows:
        if row["state"] != "not asked" or row["hash"]:
            by_hash.setdefault(row["hash"], []).append(row["server"])
    if len(by_hash) > 1:
        sides = "; ".join(f"{', '.join(names)}: {digest[:8] or 'none'}" for digest, names in by_hash.items())
        return [{"level": "bad", "what": "Secrets", "text": (
            f"the servers have different encryption configurations ({sides}), so not every server can read every Secret"), "next": _NEXT}]
    begun = [row["server"] for row in rows if row["stage"] in UNFINISHED or row["state"] in (STATES["identity"], STATES["none"])]
    if begun:
        return [{"level": "warning", "what": "Secrets", "text": f"their encryption was begun and not finished on {', '.join(begun)}", "next": _NEXT}]
    return []
