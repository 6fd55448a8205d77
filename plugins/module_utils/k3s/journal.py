# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why k3s does not come up, read from its journal.

The texts are those of k3s 1.25 to 1.37; where a release words one anew, the pattern has both.
`final` causes never go away by waiting: the join stops at once when it sees one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from .system import System

# A final cause must be said for this long: a peer that is just starting may refuse a good token for a moment. Said once, it proves nothing.
PERSISTENT = 12.0
# It is still said when it was within this time: k3s tries again every 5 to 10 seconds.
RECENT = 15.0


@dataclass(frozen=True)
class Cause:
    """A known reason and what to do about it."""

    id: str
    summary: str
    remedy: str
    line: str
    final: bool


@dataclass(frozen=True)
class _Known:
    id: str
    pattern: re.Pattern
    summary: str
    remedy: str
    final: bool


def _known(cause: str, pattern: str, summary: str, remedy: str, final: bool = False) -> _Known:
    return _Known(cause, re.compile(pattern, re.IGNORECASE), summary, remedy, final)


# In order of precedence: a specific text stands before one that others contain.
KNOWN = (
    _known(
        "ca-hash", r"token CA hash does not match the Cluster CA certificate hash",
        "the token belongs to another cluster, or this cluster was built anew",
        "give the token of this cluster (k3s_token, or leave it out so that it is read from a server); if this node was part of another"
        " cluster, remove it first (state absent)", True),
    _known(
        "token-malformed", r"invalid token CA hash length|invalid token format|token must not be empty|(K3S_TOKEN|token) is required to join a cluster"
        r"|--token is required|failed to normalize (server )?token",
        "the token is missing or malformed",
        "set k3s_token to the text of /var/lib/rancher/k3s/server/token of a server, or leave it out so that it is read from there", True),
    _known(
        "token-changed", r"bootstrap data already found and encrypted with different token",
        "the token was changed, but the datastore is encrypted with the old one",
        "put the old token back into k3s_token; a token is changed with `k3s token rotate` only", True),
    _known(
        "sqlite", r"etcd disabled|etcd datastore disabled",
        "the server that was asked keeps its data in SQLite, not in etcd, so no other server can join it",
        "take its datastore to etcd first (playbooks/migrate_datastore.yml), or keep it the only server", True),
    _known(
        "duplicate-member", r"duplicate node name found, please use a unique name",
        "etcd still has a member of this node's name",
        "delete the old node with `kubectl delete node NAME`, which removes its etcd member, and run again", True),
    _known(
        "node-password", r"Node password rejected, duplicate hostname",
        "another machine joined under this host name, or this machine was rebuilt",
        "if the machine was rebuilt: `kubectl delete node NAME` (its secret NAME.node-password.k3s in kube-system goes too) and run again;"
        " if two machines have the name, rename one", True),
    _known(
        "configuration-mismatch", r"critical configuration (value )?mismatch",
        "settings that must be equal on all servers differ on this one",
        "make cluster-cidr, service-cidr, cluster-dns, cluster-domain, disable-*, egress-selector-mode, flannel-* and secrets-encryption"
        " the same on all servers; the journal line names the key on newer releases", True),
    _known(
        "encryption-newer", r"encryption-(config|state)\.json\b.*newer than datastore",
        "the encryption of Secrets was being changed here when k3s was stopped, so the datastore does not know this server's newest key",
        "do not remove the file: it may hold the only key of Secrets that were written last. Copy it off the server, then restore the snapshot that"
        " playbooks/secrets_encryption.yml made before it began (playbooks/restore.yml)", True),
    _known(
        "files-newer", r"newer than datastore and could cause a cluster outage",
        "files of this server are newer than what the datastore holds of them, as after a restore that failed half-way or with other data",
        "see that the token is that of the datastore, then move the files that the line names away and run again: k3s writes them anew from"
        " the datastore", True),
    _known(
        "clock", r"certificate has expired or is not yet valid",
        "the clock of this node or of a server is wrong",
        "bring time synchronisation in order on this node and the servers (timedatectl), then run again", False),
    _known(
        "peer-refuses", r"Unable to reconcile with remote datastore: .*not authorized",
        "the server that this one asks at its start does not take its token; this server goes on with its own data",
        "one of the two has not been restarted since the token was changed: run playbooks/rotate.yml --tags token again, with the same k3s_new_token"),
    # A server that tells of somebody else's wrong token is well itself.
    _known(
        "wrong-token", r"401 Unauthorized|not authorized",
        "the servers do not accept the token",
        "correct k3s_token (the password of the cluster's servers), or leave it out so that it is read from a server", True),
    _known(
        "reset-with-server", r"cannot perform cluster-reset while server URL is set",
        "cluster-reset needs a configuration without `server`",
        "remove `server` from /etc/rancher/k3s/config.yaml before the reset", True),
    _known(
        "peer-exists", r"Peer URLs already exists",
        "etcd still has a member with this server's address, under another name",
        "see which (`kubectl get nodes -o wide`, `kubectl get nodes -o yaml | grep etcd.k3s.cattle.io/node-address`), delete that old node with"
        " `kubectl delete node NAME`, which removes its member, and run again; two machines must not have one address", True),
    _known(
        "learner", r"too many learner members?\b",
        "another server is joining etcd, or a dead one never finished",
        "wait for the other server to become a voter (condition EtcdIsVoter), or remove the dead learner with `kubectl delete node NAME`"),
    _known(
        "removed-alone", r"tombstone file has been detected but",
        "this server was taken out of etcd, and its configuration names no server to join",
        "remove the node (playbooks/remove_node.yml) and run site.yml, with which it joins anew", True),
    _known(
        "not-a-member", r"this server is a not a member of the etcd cluster|not a member of the etcd cluster",
        "this server's etcd member was removed, or its node-ip changed",
        "put the old k3s_node_ip back; or stop k3s on this node, remove /var/lib/rancher/k3s/server/db and run site.yml, with which it joins anew", True),
    # etcd's own words; k3s ends with them every few seconds.
    _known(
        "raft-log-lost", r"tocommit\(\d+\) is out of range|state\.commit \d+ is out of range|Was the raft log corrupted, truncated, or lost",
        "this server's data is older than the cluster knows it to be: its disk was put back to a VM snapshot or a backup, or was damaged",
        "never put one server's disk back. With a majority of the others well: `kubectl delete node NAME` for this one, move"
        " /var/lib/rancher/k3s/server/db away on it, and run site.yml, with which it joins anew; where all servers were put back: playbooks/restore.yml", True),
    _known(
        "etcd-corrupt", r"checkInitialHashKV failed|found data inconsistency with peers|CORRUPT alarm must be disarmed manually",
        "the data of this server's etcd member is not that of the others",
        "restart no other server now, and copy the newest snapshot off the servers. With both others well: `kubectl delete node NAME` for this one, move"
        " /var/lib/rancher/k3s/server/db away on it, and run site.yml, with which it joins anew; where another server says this, too:"
        " playbooks/restore.yml with a snapshot from before", True),
    _known(
        "etcd-no-space", r"mvcc: database space exceeded|alarm:NOSPACE|NOSPACE disarm failed|failed to report and disarm etcd alarms",
        "etcd's database has reached its quota (2 GiB where control_plane_etcd_args has no quota-backend-bytes), and etcd takes no more writes",
        "find what fills it (`kubectl get events -A | wc -l`, large Secrets and ConfigMaps of releases), delete that, and restart k3s on one server after the"
        " other: each defragments and clears the alarm at its start; quota-backend-bytes=4294967296 in control_plane_etcd_args gives room for it"),
    _known(
        "not-promoted", r"has not yet been promoted from learner to voting member|Learner \S+ stalled",
        "the etcd member of this server does not catch up",
        "open TCP 2379 and 2380 between the servers and check the speed of this server's disk"),
    _known(
        "reset-done", r"cluster membership was previously reset, please remove the cluster-reset flag",
        "cluster-reset is still among the settings, and this server was reset already",
        "remove cluster-reset from /etc/rancher/k3s/config.yaml, config.yaml.d and the unit's arguments, and start k3s", True),
    _known(
        "migration", r"failed to migrate content from sqlite to etcd",
        "the data was not moved from SQLite to etcd, or not all of it",
        "do not start k3s by hand: run playbooks/migrate_datastore.yml again, which goes on with it or puts SQLite back", True),
    _known(
        "no-bootstrap-data", r"no bootstrap data found in datastore",
        "an earlier first start was interrupted",
        "on a server that joins others remove /var/lib/rancher/k3s/server/db and run again", True),
    _known(
        "second-process", r"file already locked",
        "another k3s server runs on this machine and has the data",
        "see which (`ps -ef | grep 'k3s server'`): a second unit, or a process that was left over; end it"),
    _known(
        "port-in-use", r"bind: address already in use|address already in use",
        "a port that k3s needs is taken by another process",
        "see who listens (`ss -ltnp`): a second k3s unit, a leftover process of an earlier one, or another service", False),
    _known(
        "server-url", r"only https:// URLs are supported, invalid scheme|Error: --server is required",
        "the server's URL is missing or wrong", "k3s_server_url must be https://HOST:6443", True),
    # Only after "clock": an authority that has expired is said with the same words before it.
    _known(
        "ca-cert", r"CA cert validation failed",
        "what answers at the server's URL shows a certificate that is not of the authority which it hands out",
        "k3s_server_url must lead to the servers themselves: a load balancer must pass TCP 6443 through and not end TLS, and no server of another cluster"
        " may be behind it"),
    _known(
        "memory-cgroup", r"failed to find memory cgroup",
        "the kernel has no memory controller",
        "add cgroup_enable=memory cgroup_memory=1 to the kernel's command line and reboot", True),
    # On cgroup v1 k3s only warns of the cpuset.
    _known(
        "cgroup-controller", r"failed to find (cpu|cpuset) cgroup \(v2\)|pids cgroup controller not found",
        "the kernel has not all controllers that k3s needs (cpu, cpuset, memory, pids)",
        "see `cat /sys/fs/cgroup/cgroup.controllers`: take cgroup_disable= off the kernel's command line and reboot, or give the machine a kernel that has"
        " them", True),
    _known(
        "cgroup-v1", r"kubelet is configured to not run on a host using cgroup v1",
        "this release needs cgroup v2",
        "boot the machine with systemd.unified_cgroup_hierarchy=1 (a current release of the system), or add fail-cgroupv1=false to"
        " control_plane_kubelet_args and agent_kubelet_args", True),
    _known(
        "cpi-taint-timeout", r"(timed out waiting for|failed to wait for) \S*node\.cloudprovider\.kubernetes\.io/uninitialized taint",
        "the cloud provider has not initialised the node, and k3s gave up: after 15 minutes, 1.29.4 and 1.29.5 at once",
        "apply the role cpi, and see why its pod on the servers does not initialise the node; with 1.29.4 or 1.29.5 use another patch release"),
    _known(
        "ccm-rbac", r"failed to wait for cloud-controller-manager RBAC",
        "the API server has not made the roles of k3s' own cloud controller in time",
        "see whether etcd and the API server of this server are well; k3s starts anew by itself"),
    _known(
        "panic", r"server panicked: |level=fatal msg=\"(kubelet|kube-proxy|apiserver|scheduler|controller-manager|cloud-controller-manager) panic: ",
        "k3s failed with a fault of its own",
        "see the lines before it (`journalctl -u k3s`); go back to the release that ran, or on to a newer patch release"),
    _known(
        "cluster-cidr", r"failed to mark cidr\[\S+ at idx \[\d+\] as occupied",
        "the cluster was begun with another range of pod addresses than cluster-cidr says",
        "set k3s_cluster_cidr to the range that the cluster has (`kubectl get nodes -o jsonpath={.items[*].spec.podCIDR}`)", True),
    _known(
        "address-family", r"must share the same IP version",
        "addresses of different families are mixed",
        "k3s_node_ip, k3s_cluster_cidr and k3s_service_cidr must be of one family", True),
    _known(
        "kernel-defaults", r"invalid kernel flag: ",
        "protect-kernel-defaults is set, but the kernel has other values",
        "run the role node with node_kernel_hardening, which writes them", True),
    # k3s unpacks its programs below its data; before 1.27 it says nothing but the two words.
    _known(
        "noexec", r"exec /var/lib/rancher/\S+ failed: permission denied|exec /var/lib/rancher/\S+: permission denied|level=fatal msg=\"permission denied\"",
        "programs cannot run from /var/lib/rancher: its file system is mounted noexec",
        "mount a file system without noexec at /var/lib/rancher, or take noexec off that of /var (/etc/fstab, then `mount -o remount,exec /var`), and run"
        " again", True),
    _known(
        "no-default-route",
        r"no default routes found in|unable to select an IP from default routes|unable to find default route|failed to get default interface",
        "the machine has no default route, which k3s, flannel and kube-proxy need also where nothing outside is to be reached",
        "give it a default route that survives a restart (netplan, ifupdown, NetworkManager); its gateway need not answer", True),
    _known(
        "token-file", r"Waiting for (\S+ to be available|file \S+ to be created)|Timeout while trying to read the file",
        "k3s waits for a file named in its configuration, four minutes at each start",
        "create the file or correct its path in config.yaml (token-file, agent-token-file)"),
    _known(
        "unknown-flag", r"flag provided but not defined|Incorrect Usage|unknown flag: --",
        "k3s or one of its components does not know an argument it was given",
        "remove it from the *_args variables or config.yaml; the line names it", True),
    _known(
        "unreachable",
        r"failed to get CA certs|Failed to validate connection to cluster"
        r"|https://(?!127\.0\.0\.1|\[::1\]|localhost)\S+ .*(connection refused|i/o timeout|no route to host|no such host|EOF)[\"' ]*$",
        "the server named in config.yaml does not answer",
        "see that the server runs and that this node reaches it on TCP 6443 (firewall, DNS, load balancer)"),
    # While the API server starts this is said, too: it explains only what nothing else does.
    _known(
        "register-forbidden", r"Unable to register node\b.*(is forbidden|is not allowed to modify|Unauthorized)",
        "the API server does not let this kubelet register its Node: its certificate is that of another name or of another cluster",
        "if k3s_node_name or the host name was changed, put the old one back, or `kubectl delete node OLDNAME`; else move"
        " /var/lib/rancher/k3s/agent/client-kubelet.* away and run again, and the certificate is made anew"),
    _known(
        "register-invalid", r"Unable to register node\b.*(is invalid|Invalid value|admission webhook)",
        "the API server refuses the Node as the kubelet describes it",
        "the line says what: correct labels, taints or provider ID (agent_labels, agent_taints, k3s_provider_id), or the webhook that it names"),
    _known(
        "disk-full", r"no space left on device",
        "the disk is full", "make room below /var/lib/rancher/k3s, then run again"),
    _known(
        "cpi-taint", r"waiting for removal of node\.cloudprovider\.kubernetes\.io/uninitialized taint",
        "the cloud provider has not initialised the node yet",
        "apply the role cpi; the agent's start ends after that"),
    _known(
        "register", r"Unable to register node\b(?!.*connection refused)",
        "the kubelet could not register its Node with the API server yet",
        "see the end of the line: on a server whether its API server and etcd are up, on an agent whether it reaches the servers on TCP 6443"),
    # Every start may say this for a moment.
    _known(
        "no-quorum", r"Failed to test (etcd|data store) connection: (.*: )?etcdserver: no leader",
        "etcd has no leader: fewer than a majority of its members run, or they do not reach each other",
        "start k3s on the other servers and open TCP 2379 and 2380 between them; where a majority is lost for good: playbooks/restore.yml"),
)


# The line with which a start ends; what the other components say around it is often its consequence.
_ENDING = re.compile(r"level=fatal|Shutdown request received: |server panicked: ")


def _known_of(line: str) -> _Known | None:
    return next((known for known in KNOWN if known.pattern.search(line)), None)


def find_cause(lines: list) -> Cause | None:
    """The best explanation: the line with which k3s ended, else final causes first, then by precedence, with the newest line that shows it."""
    return _best([line for line in lines if _ENDING.search(line)]) or _best(lines)


def _best(lines: list) -> Cause | None:
    newest: dict = {}
    for line in lines:
        known = _known_of(line)
        if known:
            newest[known.id] = line
    found = [known for known in KNOWN if known.id in newest]
    found.sort(key=lambda known: not known.final)
    if not found:
        return None
    known = found[0]
    return Cause(known.id, known.summary, known.remedy, message_of(newest[known.id]), known.final)


_MESSAGE = re.compile(r'\bmsg="(?P<text>(?:[^"\\]|\\.)*)"')


def message_of(line: str) -> str:
    """The message of a log line of k3s or etcd, without time and level."""
    if match := _MESSAGE.search(line):
        # Some of k3s' own texts end in a line feed, which stands there in two characters.
        return match.group("text").replace('\\"', '"').removesuffix("\\n")
    entry = _etcd_entry(line)
    if entry:
        return ": ".join(str(entry[key]) for key in ("msg", "error") if entry.get(key))
    return line.strip()


def _etcd_entry(line: str) -> dict:
    """A line of etcd, which is an object in JSON; empty for all others."""
    _before, brace, rest = line.partition("{")
    try:
        entry = json.loads(brace + rest) if '"level":' in rest else {}
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


_LOUD = re.compile(r"""level=(fatal|error|warning)|^[EFW]\d{4} |"level":"(fatal|panic|error|warn)\"""")


def tail(lines: list, count: int = 5) -> list:
    """The last warnings and errors, or simply the last lines; first the one with which k3s ended, which others may follow."""
    loud = [line for line in lines if _LOUD.search(line)] or lines
    ending = [line for line in lines if _ENDING.search(line)][-1:]
    last = [line for line in loud[-count:] if line not in ending]
    return list(dict.fromkeys(message_of(line) for line in [*ending, *last[-(count - len(ending)):]]))


class Journal:
    """What a unit says from a moment on, by its starts. Each message is read once, however many there are."""

    def __init__(self, system: System, service: str, since: float) -> None:
        self._system, self._service, self._since = system, service, since
        self._cursor = ""
        # start -> its entries, in their order; the last one runs, or ran last
        self.starts: dict = {}

    def read(self) -> None:
        """Take in what was said since the last time."""
        for entry in self._system.journal(self._service, self._since, self._cursor):
            start = entry.start or next(reversed(self.starts), "")
            self.starts.setdefault(start, []).append(entry)
            self._cursor = entry.cursor

    def lines(self) -> list:
        """The messages of the last two starts: one that has just begun has said little."""
        return [entry.text for start in list(self.starts)[-2:] for entry in self.starts[start]]

    def final_cause(self, now: float, ended: bool) -> Cause | None:
        """A cause that waiting cannot cure: two starts in a row ended with it, or the running one says it again and again.

        ended: the last start is over
        """
        order = list(self.starts)
        over = order if ended else order[:-1]
        causes = [find_cause([entry.text for entry in self.starts[start]]) for start in over[-2:]]
        if len(causes) == 2 and all(cause and cause.final for cause in causes) and causes[0].id == causes[1].id:
            return causes[1]
        times: dict = {}
        for entry in self.starts[order[-1]] if order else []:
            known = _known_of(entry.text)
            if known and known.final:
                first = times.get(known.id, (entry.time,))[0]
                times[known.id] = (first, entry.time, entry.text)
        for known in KNOWN:
            first, last, text = times.get(known.id, (0.0, 0.0, ""))
            if last - first >= PERSISTENT and now - last <= RECENT:
                return _best([text])
        return None
