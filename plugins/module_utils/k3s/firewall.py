# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open ports in the firewall that is active on a machine, ufw or firewalld. None is switched on, and no rule of others is touched."""

from __future__ import annotations

import re

from .system import NodeError, System

UFW = "/etc/ufw/ufw.conf"


class Firewall:
    """`rules` are (source address, port, protocol); `networks` are trusted as a whole; `public` are TCP ports for everybody."""

    def __init__(self, system: System, rules: list, networks: list, public: list) -> None:
        self.system = system
        self.rules = rules
        self.networks = networks
        self.public = public

    def active(self) -> str:
        """'ufw', 'firewalld' or ''."""
        # Its file first: ufw itself takes a third of a second to say that it is off.
        if "ENABLED=yes" in (self.system.read(UFW) or "").splitlines() and "Status: active" in self.system.run(["ufw", "status"]).out:
            return "ufw"
        if self.system.run(["firewall-cmd", "--state"]).out.strip() == "running":
            return "firewalld"
        return ""

    def missing(self, kind: str) -> list:
        """The commands that are needed, each as a list of words."""
        return self._ufw() if kind == "ufw" else self._firewalld() if kind == "firewalld" else []

    def apply(self, kind: str, commands: list) -> None:
        for words in commands:
            done = self.system.run(words)
            if done.rc != 0:
                raise NodeError(f"`{' '.join(words)}` gave {done.rc}: {(done.err or done.out).strip()}. Correct the firewall, or set node_firewall: false.")
        if kind == "firewalld" and commands:
            self.system.run(["firewall-cmd", "--reload"])

    def _ufw(self) -> list:
        added = {re.sub(r"\s+comment\s+'.*'\Z", "", line.strip()) for line in self.system.run(["ufw", "show", "added"]).out.splitlines()}
        wanted = [["allow", f"{port}/tcp"] for port in self.public]
        wanted += [["allow", "from", source, "to", "any", "port", str(port), "proto", protocol] for source, port, protocol in self.rules]
        for network in self.networks:
            wanted += [["allow", "from", network], ["route", "allow", "from", network], ["route", "allow", "to", network]]
        return [["ufw", *words] for words in wanted if " ".join(["ufw", *words]) not in added]

    def _firewalld(self) -> list:
        wanted = [("--zone=trusted", "source", network) for network in self.networks]
        wanted += [("", "port", f"{port}/tcp") for port in self.public]
        wanted += [
            ("", "rich-rule", f'rule family="{"ipv6" if ":" in source else "ipv4"}" source address="{source}" port port="{port}" protocol="{protocol}" accept')
            for source, port, protocol in self.rules
        ]
        commands = []
        for zone, what, value in wanted:
            base = ["firewall-cmd", "--permanent", *([zone] if zone else [])]
            if self.system.run([*base, f"--query-{what}={value}"]).rc != 0:
                commands.append([*base, f"--add-{what}={value}"])
        return commands
