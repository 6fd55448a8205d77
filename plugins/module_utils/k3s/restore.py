# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a snapshot back on one server, and make room for joining anew on the others."""

from __future__ import annotations

import json
import os
import re

from . import encryption, state
from .files import CONFIG_DIR, CONFIG_PATH, DATA_DIR, HEADER, check_token, same_token, split_token
from .journal import find_cause, message_of, tail
from .system import TEMPORARY, NodeError, System
from .unit import SERVICES
from .yamltext import dump

# Holds the token: for a reset k3s takes it from nothing else but the command line, the environment or server/token.
RESET_CONFIG = CONFIG_DIR + "/cluster-reset.yaml"
# What earlier releases of this collection gave it in.
RESET_TOKEN = CONFIG_DIR + "/cluster-reset.token"
DB = DATA_DIR + "/server/db"
RESET_FLAG = DB + "/reset-flag"
ETCD = DB + "/etcd"
# What a reset makes on an empty server; half of it would be taken for data of its own by the next one.
SERVER = DATA_DIR + "/server"
PASSWD = SERVER + "/cred/passwd"
# A reset writes them with the token that it was given before it has opened the snapshot with it, and with others than today's k3s would not start.
KEEP = ("token", "cred", "tls")
MADE = (ETCD, *(f"{SERVER}/{name}" for name in KEEP))
# There while a reset runs, and after one that was killed: what it changes as it was, and what there was.
KEPT = SERVER + "/before-reset"
THERE = KEPT + "/there.json"
# There while a restore is under way: servers with data of before and after it must not find each other.
PENDING = CONFIG_DIR + "/restore-pending"
DONE = "Managed etcd cluster membership has been reset"
# Keys that say how the node joined: a reset is refused with `server`, and gets its token apart. With S3 on, k3s would look
# for the snapshot there.
_JOINING = re.compile(r"^(server|cluster-init|token|token-file|etcd-s3)[ \t]*:.*\n?", re.MULTILINE)


class Restorer:
    """One run of k3s_restore on one server. The service must be stopped: this is checked, not done."""

    def __init__(self, system: System, binary: str, check_mode: bool = False) -> None:
        self.system = system
        self.binary = binary
        self.check_mode = check_mode

    def _refuse_while_running(self) -> None:
        unit = self.system.unit(SERVICES["server"])
        if unit.running and not self.check_mode:
            raise NodeError("k3s.service is running on this server. Stop it on all servers first (k3s_join with state stopped).")

    def begin(self, what: str) -> dict:
        """Say on this server that a restore is under way: until the end neither k3s_join nor a reboot starts it.

        `marked_before` tells of an earlier restore that was not finished: then the servers may hold different data already.
        """
        text, before = f"{what}\n", self.system.read(PENDING)
        enabled = self._enabled()
        if not self.check_mode:
            self._sweep()
            if before != text:
                self.system.write(PENDING, text, 0o600)
            if enabled:
                self._systemctl("disable")
        return {"changed": before != text or enabled, "marked_before": before is not None}

    def give_up(self) -> dict:
        """The data is as it was: the server may start with it, also after a reboot."""
        changed = self.system.exists(PENDING)
        if changed and not self.check_mode:
            self._sweep()
            self._put_back()
            if self.system.unit(SERVICES["server"]).loaded and not self._enabled():
                self._systemctl("enable")
            self.system.remove(PENDING)
        return {"changed": changed}

    def _enabled(self) -> bool:
        return self.system.unit(SERVICES["server"]).enabled in ("enabled", "enabled-runtime")

    def _systemctl(self, verb: str) -> None:
        done = self.system.systemctl(verb, f"{SERVICES['server']}.service")
        if done.rc != 0:
            raise NodeError(f"systemctl {verb} {SERVICES['server']}.service failed: {(done.err or done.out).strip()}")

    def reset(self, snapshot: str, token: str, config: dict, timeout: int) -> dict:
        """Put the snapshot back and make this server the only member."""
        self._refuse_while_running()
        # In check mode it was not copied.
        if not self.check_mode and not self.system.exists(snapshot):
            raise NodeError(f"The snapshot {snapshot} is not on this server.")
        problem = check_token(token)
        if problem:
            raise NodeError(f"The token for the snapshot cannot be right: {problem}. It is the one of the time of the snapshot.")
        if any(mount.path == ETCD for mount in self.system.mounts()):
            raise NodeError(
                f"{ETCD} is a mount point, and k3s moves that folder aside when it puts a snapshot back, which fails. Mount the disk at {DB},"
                " with its content in the folder etcd, and run again."
            )
        if self.check_mode:
            return {"changed": True}
        text = self.system.read(CONFIG_PATH)
        if text is None:
            # Data without a configuration of ours would be taken for somebody else's.
            text = HEADER + dump(config)
            self.system.write(CONFIG_PATH, text, 0o600)
        text = _JOINING.sub("", text)
        # As the data was encrypted when it was saved: with another setting k3s could not read its Secrets, or would make a key for each server.
        has = encryption.of_snapshot(self.system, snapshot)
        text = encryption.with_setting(text, has)
        self._sweep()
        self._keep()
        # A reset that was done, but never started, would block this one.
        self.system.remove(RESET_FLAG)
        try:
            self.system.write(RESET_CONFIG, f"{text.rstrip()}\n{dump({'token': split_token(token)[1]})}", 0o600)
            done = self.system.run(
                [self.system.path(self.binary), "server", f"--config={RESET_CONFIG}", "--cluster-reset", f"--cluster-reset-restore-path={snapshot}"],
                timeout=timeout,
            )
        finally:
            self._sweep()
        lines = (done.out + "\n" + done.err).splitlines()
        if done.rc != 0 or not any(DONE in line for line in lines):
            cause = find_cause(lines)
            why = f"{cause.summary}. Remedy: {cause.remedy}. {cause.line}" if cause else " | ".join(tail(lines)) or f"exit code {done.rc}"
            self._put_back()
            raise NodeError(f"The snapshot was not put back: {why}. This server's data is as it was.")
        # One that was changed after the snapshot does not open this data: k3s would not start with it.
        if self.system.exists(state.SERVER_TOKEN) and not same_token(self.system.read(state.SERVER_TOKEN), token):
            self.system.write(state.SERVER_TOKEN, token.strip() + "\n", 0o600)
        settings = self.system.read(CONFIG_PATH)
        if settings is not None and encryption.setting(self.system) != has:
            self.system.write(CONFIG_PATH, encryption.with_setting(settings, has), 0o600)
        self._let_go()
        self.system.remove(PENDING)
        return {"changed": True, "said": [message_of(line) for line in lines if DONE in line][0]}

    def _sweep(self) -> None:
        """Nothing that holds the token stays, whatever became of a reset; one that was killed while it wrote leaves a file of another name."""
        for path in (RESET_CONFIG, RESET_TOKEN, *(f"{CONFIG_DIR}/{name}" for name in self.system.listdir(CONFIG_DIR) if name.startswith(TEMPORARY))):
            self.system.remove(path)

    def _keep(self) -> None:
        """Copies of what a reset changes, with their times, by which k3s tells whether the datastore or the file is newer."""
        # Of one that was killed: this server's data is that from before it.
        self._put_back()
        half = KEPT + ".half"
        self.system.remove(half)
        self.system.make_folder(half, 0o700)
        for name in KEEP:
            self.system.copy(f"{SERVER}/{name}", f"{half}/{name}")
        there = {"made": [path for path in MADE if self.system.exists(path)], "db": self.system.listdir(DB), "server": self.system.listdir(SERVER)}
        self.system.write(half + "/" + os.path.basename(THERE), json.dumps(there), 0o600)
        self.system.rename(half, KEPT)

    def _let_go(self) -> None:
        """The copies are of no use any more. In one step, as half of them would be put back by the next run."""
        if self.system.exists(KEPT):
            self.system.remove(KEPT + ".half")
            self.system.rename(KEPT, KEPT + ".half")
        self.system.remove(KEPT + ".half")

    def _put_back(self) -> None:
        """This server's data as it was before the reset: what k3s moved away or wrote anew comes back, what was not there goes."""
        text = self.system.read(THERE)
        if text is None:
            return
        there = json.loads(text)
        moved = [name for name in self.system.listdir(DB) if name.startswith("etcd-old-") and name not in there["db"]]
        if moved:
            self.system.remove(ETCD)
            self.system.rename(f"{DB}/{moved[0]}", ETCD)
        for name in KEEP:
            if self.system.exists(f"{KEPT}/{name}"):
                self.system.remove(f"{SERVER}/{name}")
                self.system.copy(f"{KEPT}/{name}", f"{SERVER}/{name}")
        for path in MADE:
            if path not in there["made"]:
                self.system.remove(path)
        for name in self.system.listdir(SERVER):
            # A reset saves the certificates that it replaces, those of a snapshot that was not put back among them.
            if re.match(r"tls-\d+\Z", name) and name not in there["server"]:
                self.system.remove(f"{SERVER}/{name}")
        self.system.remove(RESET_FLAG)
        self._let_go()

    def clear(self) -> dict:
        """Move this server's data aside, so that it joins the restored one as a new member."""
        self._refuse_while_running()
        if not self.check_mode:
            self._sweep()
            # As the first server of an earlier run it may have a reset behind it that was killed.
            self._put_back()
        # Keys that were made, and a token that was changed, after the snapshot are newer than the datastore, and k3s would not start with them.
        for path in (encryption.CONFIGURATION, encryption.STATE, PASSWD):
            if self.system.exists(path) and not self.check_mode:
                self.system.rename(path, f"{path}.before-restore")
        if not self.system.exists(DB):
            # Not enabled: without data it could begin a cluster of its own after a reboot. k3s_join enables it when it joins.
            changed = self.system.exists(PENDING)
            if changed and not self.check_mode:
                self.system.remove(PENDING)
            return {"changed": changed}
        aside = f"{DB}-old-{int(self.system.now())}"
        disks = [mount.path for mount in self.system.mounts() if mount.path == DB or mount.path.startswith(DB + "/")]
        if disks:
            # A mount point can't be moved: what is on each of its file systems moves aside on it.
            aside = f"{DB}/db-old-{int(self.system.now())}"
        if not self.check_mode:
            if disks:
                self._move_within(DB, disks, os.path.basename(aside))
            else:
                self.system.rename(DB, aside)
            self.system.remove(PENDING)
        return {"changed": True, "moved_to": aside}

    def _move_within(self, folder: str, disks: list, aside: str) -> None:
        """Everything in a folder into a new one inside it, but for earlier ones, mount points and the way to them."""
        for name in self.system.listdir(folder):
            path = f"{folder}/{name}"
            if any(disk == path or disk.startswith(path + "/") for disk in disks):
                self._move_within(path, disks, aside)
            elif not name.startswith("db-old-") and name != "lost+found":
                self.system.make_folder(f"{folder}/{aside}", 0o700)
                self.system.rename(path, f"{folder}/{aside}/{name}")
