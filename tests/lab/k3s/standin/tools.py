# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""k3s etcd-snapshot, token and certificate: small commands that ask the running server."""
from __future__ import annotations

import json
import pathlib
import secrets
import string
import subprocess
import time

from . import config, flags, lab, log, token
from .config import Options
from .log import Fatal
from .remote import Remote, RemoteError
from .snapshot import object_name


def run(command: str, arguments: list[str]) -> int:
    table = {"etcd-snapshot": snapshot, "token": tokens, "certificate": certificate, "secrets-encrypt": encryption}
    if command not in table:
        print(f"No help topic for '{command}'")
        return 3
    return table[command](arguments)


def encryption(arguments: list[str]) -> int:
    action, rest = split(arguments, ("status", "enable", "disable", "prepare", "rotate", "rotate-keys", "reencrypt"))
    # config.yaml is for server, agent and etcd-snapshot: `server` in it does not lead this command elsewhere.
    options = config.load(flags.ENCRYPT, ["--config=/dev/null", *rest], quiet=True)
    if not action:
        print("NAME:\n   k3s secrets-encrypt - Control secrets encryption and keys rotation")
        return 0
    remote = connect(options)
    if action == "status":
        try:
            show_encryption(remote.json("/v1-k3s/encrypt/status"), options["output"])
        except RemoteError as err:
            raise Fatal(f"Error: see server log for details: {err}") from None
        return 0
    body: dict = {"enable": action == "enable"}
    if action not in ("enable", "disable"):
        stage = {"rotate-keys": "rotate_keys", "reencrypt": "reencrypt_active"}.get(action, action)
        body = {"stage": stage, "force": options["force"], "skip": options["skip"]}
    post(remote, "/v1-k3s/encrypt/config", body, "PUT")
    print({"enable": "secrets-encryption enabled", "disable": "secrets-encryption disabled", "rotate-keys": "keys rotated, reencryption finished",
           "reencrypt": "reencryption started"}.get(action, f"{action} completed successfully"))
    return 0


def show_encryption(status: dict, output: str) -> None:
    if output == "json":
        print(json.dumps(status, indent="\t"))
        return
    if status.get("enable") is None:
        print("Encryption Status: Disabled, no configuration file found")
        return
    print(f"Encryption Status: {'Enabled' if status['enable'] else 'Disabled'}")
    print(f"Current Rotation Stage: {status['stage']}")
    print(f"Server Encryption Hashes: {'All hashes match' if status.get('hashmatch') else status.get('hasherror', '')}\n")
    rows = [("Active", "Key Type", "Name"), ("------", "--------", "----")]
    rows += [(" *", *status["activekey"].split(" ", 1))] if status["activekey"] else []
    rows += [("", *name.split(" ", 1)) for name in status.get("inactivekeys", [])]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, (6, 8, 4))).rstrip())


def split(arguments: list[str], names: tuple[str, ...]) -> tuple[str, list[str]]:
    for index, item in enumerate(arguments):
        if item in names:
            return item, arguments[:index] + arguments[index + 1:]
    return "", arguments


def connect(options: Options, prefix: str = "") -> Remote:
    """The local server, as its own `server` user."""
    folder = pathlib.Path(options["data-dir"]) / "server"
    given = options[f"{prefix}token"] or ""
    if not given:
        try:
            given = (folder / "token").read_text(encoding="utf-8")
        except OSError as err:
            raise Fatal(f"Error: {err.strerror.lower() if err.strerror else err}: {folder / 'token'}") from None
    remote = Remote(options[f"{prefix}server"] or "https://127.0.0.1:6443")
    try:
        remote.validate(token.parse(given, "server"))
    except (RemoteError, token.TokenError) as err:
        raise Fatal(f"Error: see server log for details: {err}") from None
    return remote


def post(remote: Remote, path: str, body: dict, verb: str = "POST") -> dict:
    try:
        data = remote.request(verb, path, json.dumps(body).encode(), {"Content-Type": "application/json"}, timeout=300)
    except RemoteError as err:
        raise Fatal(f"Error: see server log for details: {err}") from None
    return json.loads(data) if data else {}


def snapshot(arguments: list[str]) -> int:
    action, rest = split(arguments, ("save", "ls", "list", "l", "delete", "prune"))
    options = config.load(flags.SNAPSHOT, rest)
    remote = connect(options, "etcd-")
    if action in ("", "save"):
        body = {"operation": "save", "name": options["name"], "compress": options["snapshot-compress"] or options["etcd-snapshot-compress"],
                "dir": options["dir"] or options["etcd-snapshot-dir"] or ""}
        for name in post(remote, "/db/snapshot", body)["created"]:
            log.info(f"Snapshot {name} saved.")
        return 0
    if action == "delete":
        if not options.rest:
            raise Fatal("Error: no snapshots given for removal")
        done = post(remote, "/db/snapshot", {"operation": "delete", "names": options.rest})
        for name in done["deleted"]:
            log.info(f"Snapshot {name} deleted.")
        for name in done["missing"]:
            log.warning(f"Snapshot {name} not found.")
        return 0
    if action == "prune":
        body = {"operation": "prune", "name": options["name"], "retention": options["snapshot-retention"]}
        for name in post(remote, "/db/snapshot", body)["deleted"]:
            log.info(f"Snapshot {name} deleted.")
        return 0
    rows = post(remote, "/db/snapshot", {"operation": "list"})["items"]
    if options["output"] == "json":
        items = [{"metadata": {"name": object_name(row)},
                  "spec": {"snapshotName": row["name"], "nodeName": row["nodeName"], "location": row["location"]},
                  "status": {"size": str(row["size"]), "creationTime": row["created"], "readyToUse": True}} for row in rows]
        print(json.dumps({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
        return 0
    table = [("Name", "Location", "Size", "Created")] + [(row["name"], row["location"], str(row["size"]), row["created"]) for row in rows]
    widths = [max(len(row[index]) for row in table) + 1 for index in range(4)]
    for row in table:
        print("".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    return 0


def kubectl(arguments: list[str], data: str | None = None) -> str:
    command = [lab.program("kubectl"), "--kubeconfig=/etc/rancher/k3s/k3s.yaml", *arguments]
    done = subprocess.run(command, input=data, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Fatal(f"Error: {done.stderr.strip()}")
    return done.stdout


def seconds(text: str) -> int:
    units = {"s": 1, "m": 60, "h": 3600}
    total, number = 0, ""
    for char in text:
        if char.isdigit():
            number += char
        elif char in units and number:
            total += int(number) * units[char]
            number = ""
        else:
            raise Fatal(f'Error: invalid value "{text}" for flag -ttl: parse error')
    return total + int(number or 0)


def tokens(arguments: list[str]) -> int:
    action, rest = split(arguments, ("create", "list", "delete", "generate", "rotate"))
    options = config.load(flags.TOKEN, rest, quiet=True)
    letters = string.ascii_lowercase + string.digits
    fresh = "".join(secrets.choice(letters) for position in range(6)) + "." + "".join(secrets.choice(letters) for position in range(16))
    if action == "generate":
        print(fresh)
    elif action == "create":
        print(create_token(options, fresh))
    elif action == "list":
        list_tokens()
    elif action == "delete":
        for name in options.rest:
            ident = name.split("::")[-1].partition(".")[0]
            kubectl(["-n", "kube-system", "delete", "secret", f"bootstrap-token-{ident}"])
            print(f'bootstrap token "{ident}" deleted')
    elif action == "rotate":
        remote = connect(options)
        post(remote, "/v1-k3s/token", {"newToken": options["new-token"] or ""}, "PUT")
        print("Token rotated, restart k3s nodes with new token")
    else:
        print("NAME:\n   k3s token - Manage tokens\n\nCOMMANDS:\n   create delete generate list rotate")
    return 0


def create_token(options: Options, fresh: str) -> str:
    given = options.rest[0] if options.rest else fresh
    ident, _sep, secret = given.partition(".")
    data = {"token-id": ident, "token-secret": secret, "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:k3s:default-node-token"}
    ttl = seconds(options["ttl"])
    if ttl:
        data["expiration"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ttl))
    if options["description"]:
        data["description"] = options["description"]
    body = {"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token", "stringData": data,
            "metadata": {"name": f"bootstrap-token-{ident}", "namespace": "kube-system"}}
    kubectl(["create", "-f", "-"], json.dumps(body))
    pem = (pathlib.Path(options["data-dir"]) / "server/tls/server-ca.crt").read_bytes()
    return f"K10{token.ca_hash(pem)}::{given}"


def list_tokens() -> None:
    import base64
    found = json.loads(kubectl(["-n", "kube-system", "get", "secrets", "--field-selector=type=bootstrap.kubernetes.io/token", "-o", "json"]))
    print("TOKEN     TTL       EXPIRES                USAGES           DESCRIPTION")
    for item in found["items"]:
        data = {key: base64.b64decode(value).decode() for key, value in item["data"].items()}
        print(f"{data['token-id']}    -         {data.get('expiration', '<never>')}   authentication,signing   {data.get('description', '<none>')}")


def certificate(arguments: list[str]) -> int:
    action, rest = split(arguments, ("check", "rotate", "rotate-ca"))
    options = config.load(flags.CERTIFICATE, rest, quiet=True)
    data = pathlib.Path(options["data-dir"])
    found = sorted([*data.glob("server/tls/*.crt"), *data.glob("server/tls/etcd/*.crt"), *data.glob("agent/*.crt")])
    if action == "check":
        print("FILENAME  SUBJECT  USAGES  EXPIRES  RESIDUAL TIME  STATUS" if options["output"] == "table" else "", end="\n")
        for place in found:
            done = subprocess.run(["openssl", "x509", "-in", str(place), "-noout", "-enddate", "-subject"], capture_output=True, text=True, check=False)
            facts = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
            print(f"{place.name}  {facts.get('subject', '').strip()}  {facts.get('notAfter', '')}  OK")
        return 0
    if action == "rotate":
        cas = {"server-ca.crt", "client-ca.crt", "request-header-ca.crt", "peer-ca.crt"}
        for place in found:
            if place.name not in cas:
                place.unlink()
        log.info("Successfully backed up certificates, please restart k3s server or agent to rotate certificates")
        return 0
    raise Fatal("Error: not imitated by the lab's k3s stand-in")
