"""The command line of the lab."""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from . import description as descriptions
from . import image, k3s, network, node, paths, tools
from .description import Description, Vm
from .shell import LabError, run, say

SSH = ["-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]


@contextmanager
def exclusive() -> Iterator[None]:
    """Only one command changes the lab at a time."""
    paths.ensure()
    with open(paths.STATE / ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def current() -> Description:
    """The description that the running lab was made from."""
    if not paths.DESCRIPTION.exists():
        raise LabError("the lab is not up: run `tests/lab/lab up`")
    return descriptions.load(paths.DESCRIPTION)


def _selected(description: Description, names: str | None) -> list[Vm]:
    if not names:
        return list(description.nodes)
    return [description.node(name) for name in names.split(",")]


def environment(description: Description) -> dict[str, str]:
    """What a program in the lab finds in its environment: the same variables that AWX' vCenter credential sets, and the lab's own."""
    from . import vcenter as center  # pylint: disable=import-outside-toplevel

    user = description.vcenter.users[0]
    collections = os.environ.get("ANSIBLE_COLLECTIONS_PATH") or str(paths.CACHE / "collections")
    venv = paths.CACHE / "venv" / "bin"
    return {
        "VMWARE_HOST": description.vcenter.address,
        "VMWARE_PORT": str(description.vcenter.port),
        "VMWARE_USER": user.name,
        "VMWARE_PASSWORD": center.passwords(description)[user.name],
        "VMWARE_VALIDATE_CERTS": "true",
        "VMWARE_CA_PATH": str(paths.CA_CERT),
        "LAB_NAME": paths.NAME,
        "LAB_K3S_VERSION": k3s.releases().new,
        "LAB_STATE": str(paths.STATE),
        "LAB_SSH_KEY": str(paths.SSH_KEY),
        "LAB_KNOWN_HOSTS": str(paths.KNOWN_HOSTS),
        "ANSIBLE_COLLECTIONS_PATH": collections,
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(paths.SSH_CONTROL),
        "PATH": f"{venv}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}",
    }


def up(args: argparse.Namespace) -> int:
    """Start what does not run yet."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root: network namespaces, mounts and machines")
    for program in ("systemd-nspawn", "ip", "nsenter", "ssh-keygen", "mount"):
        if shutil.which(program) is None:
            raise LabError(f"{program} is not installed: apt-get install systemd-container iproute2 util-linux openssh-client")
    started = time.monotonic()
    source = Path(args.description).resolve() if args.description else (paths.DESCRIPTION if paths.DESCRIPTION.exists() else paths.LAB_DIR / "lab.yml")
    description = descriptions.load(source)
    wanted = [] if args.vms_only else _selected(description, args.nodes)
    image.ensure()
    for name in (*tools.NEEDED, *args.tool, *(["csi", "snapshotter"] if description.csi == "real" else [])):
        tools.ensure(name)
    from . import mirror  # pylint: disable=import-outside-toplevel

    mirror.fetch(description.csi == "real")
    with exclusive():
        if source != paths.DESCRIPTION:
            _keep_description(description)
            description = current()
        node.leftovers({vm.name for vm in description.vms})
        node.keys(description)
        node.host_limits(True)
        paths.HOSTS_FILE.write_text(node.hosts_file(description), encoding="utf-8")
        paths.RESOLV_FILE.write_text("", encoding="utf-8")
        network.up(description)
        network.enter()
        say(f"lab: network ready at {time.monotonic() - started:.1f} s")
        from . import services  # pylint: disable=import-outside-toplevel

        services.up(description)
        say(f"lab: vCenter and mirror ready at {time.monotonic() - started:.1f} s")
        off = [vm for vm in wanted if vm.powered_on and not node.running(vm)]
        for vm in off:
            node.start(vm, description)
        node.wait([vm for vm in wanted if vm.powered_on and not node.paused(vm)])
        if not args.vms_only:
            services.power(description)
    say(f"lab: {len(off)} machines started, {len(wanted)} reachable at {time.monotonic() - started:.1f} s")
    return 0


def _keep_description(description: Description) -> None:
    """Note the description with everything filled in, so that a later change of the file does not change a running lab."""
    paths.DESCRIPTION.write_text(descriptions.dump(description), encoding="utf-8")


def down(args: argparse.Namespace) -> int:
    """Take away everything: machines, vCenter, mirror, namespaces, mounts and, without --keep, the disks."""
    with exclusive():
        from . import services  # pylint: disable=import-outside-toplevel

        for socket in paths.SSH_CONTROL.glob("*"):
            run(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "lab"], check=False)
        services.stop_csi()
        names = {item.name for item in paths.NODES.iterdir()} if paths.NODES.is_dir() else set()
        names |= node.cgroups.leftovers()
        ghosts = [Vm(name=name, bios_uuid="", instance_uuid="") for name in sorted(names)]
        with ThreadPoolExecutor(max_workers=12) as pool:
            list(pool.map(node.stop if args.keep else node.kill, ghosts))
        services.down()
        network.down()
        node.host_limits(False)
        if not args.keep:
            shutil.rmtree(paths.STATE, ignore_errors=True)
    return 0


def status(_args: argparse.Namespace) -> int:
    """What runs."""
    description = current()
    from . import services  # pylint: disable=import-outside-toplevel

    for line in services.status():
        print(line)
    for vm in description.vms:
        state = "vCenter only" if not vm.node else "off" if not node.running(vm) else "paused" if node.paused(vm) else "on"
        print(f"{vm.name:20} {vm.ip:16} {vm.role or '-':14} {state}")
    return 0


def _into(description: Description) -> None:
    network.enter()
    network.private_files([(paths.HOSTS_FILE, "/etc/hosts"), (paths.RESOLV_FILE, "/etc/resolv.conf")])
    os.environ.update(environment(description))


def ssh(args: argparse.Namespace) -> int:
    """Log in to a machine as Ansible does."""
    description = current()
    vm = description.node(args.node)
    _into(description)
    command = ["ssh", *SSH, "-i", str(paths.SSH_KEY), "-o", f"UserKnownHostsFile={paths.KNOWN_HOSTS}", f"ops@{vm.ip}", *args.command]
    os.execvp("ssh", command)


def kubectl(args: argparse.Namespace) -> int:
    """kubectl with the kubeconfig of the first server whose API answers, or else of the first that has one."""
    description = current()
    places = [(vm, node.folder(vm) / "merged/etc/rancher/k3s/k3s.yaml") for vm in description.nodes if vm.role == "control_plane" and node.running(vm)]
    servers = [(vm, config) for vm, config in places if config.exists()]
    if not servers:
        raise LabError("no server has a kubeconfig yet: build the cluster with playbooks/site.yml")
    _into(description)
    vm, config = next((server for server in servers if node.serves(server[0])), servers[0])
    target = paths.SECRETS / "kubeconfig"
    # In one step: another kubectl may be reading it.
    part = target.with_name(f"kubeconfig.{os.getpid()}")
    part.touch(mode=0o600)
    part.write_text(config.read_text(encoding="utf-8").replace("127.0.0.1", vm.ip), encoding="utf-8")
    part.replace(target)
    program = str(tools.program("kubectl"))
    os.execv(program, [program, f"--kubeconfig={target}", *args.arguments[1:]])


def execute(args: argparse.Namespace) -> int:
    """Run a command inside the lab's network."""
    description = current()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise LabError("lab exec -- COMMAND: a command is missing")
    _into(description)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise LabError(f"{command[0]}: {error.strerror}") from error


def env(_args: argparse.Namespace) -> int:
    """Print the environment of `exec` for a shell."""
    import shlex  # pylint: disable=import-outside-toplevel

    for name, value in environment(current()).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def vm_verb(args: argparse.Namespace) -> int:
    """Stop, kill, pause, resume, start or wipe a machine."""
    with exclusive():
        description = current()
        vm = description.node(args.name)
        network.enter()
        from . import services  # pylint: disable=import-outside-toplevel

        if args.action == "stop":
            node.stop(vm)
        elif args.action == "kill":
            node.kill(vm)
        elif args.action in {"pause", "resume"}:
            if not node.running(vm):
                raise LabError(f"{vm.name} is off")
            node.cgroups.freeze(vm.name, args.action == "pause")
        elif args.action == "start":
            node.start(vm, description)
            node.wait([vm])
        else:
            was_on = node.running(vm)
            node.wipe(vm)
            if was_on:
                node.start(vm, description)
                node.wait([vm])
        services.power(description, [vm])
    return 0


def net(args: argparse.Namespace) -> int:
    """Cut or heal a machine's network."""
    with exclusive():
        description = current()
        vm = description.node(args.node)
        peer = description.node(args.peer) if args.peer else None
        (network.cut if args.action == "cut" else network.heal)(vm, peer)
    return 0


def vcenter(args: argparse.Namespace) -> int:
    """Change or ask vCenter."""
    from . import services  # pylint: disable=import-outside-toplevel

    description = current()
    with exclusive():
        network.enter()
        for line in services.vcenter(description, args.action, args.value, args.user):
            print(line)
    return 0


def logs(args: argparse.Namespace) -> int:
    """A machine's journal, or a log of the lab itself."""
    if args.name and (paths.NODES / args.name).is_dir():
        os.execvp("journalctl", ["journalctl", "--no-pager", "-D", str(paths.NODES / args.name / "merged/var/log/journal"), *args.arguments])
    for file in sorted(paths.LOGS.glob(f"{args.name or '*'}.log")):
        print(f"==> {file} <==")
        print("".join(file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[-200:]))
    return 0


def parser() -> argparse.ArgumentParser:
    """Every verb with its arguments."""
    top = argparse.ArgumentParser(prog="lab", description="The lab of the collection cht.k3s; see tests/lab/README.md.")
    verbs = top.add_subparsers(dest="verb", required=True)

    def verb(name: str, function, text: str) -> argparse.ArgumentParser:
        item = verbs.add_parser(name, help=text, description=text)
        item.set_defaults(function=function)
        return item

    item = verb("up", up, "start the lab, or what is missing of it")
    item.add_argument("--description", help="YAML description; default: the one of the running lab, else tests/lab/lab.yml")
    item.add_argument("--nodes", help="only these machines, separated by commas")
    item.add_argument("--tool", action="append", default=[], choices=sorted(tools.TOOLS), help="programs to make as well, that not every lab needs")
    item.add_argument("--vms-only", action="store_true", help="vCenter and mirror only, no machine")
    item = verb("down", down, "remove everything that the lab made")
    item.add_argument("--keep", action="store_true", help="keep the disks for the next `up`")
    verb("status", status, "what runs")
    item = verb("ssh", ssh, "log in to a machine, or run a command there")
    item.add_argument("node")
    item.add_argument("command", nargs=argparse.REMAINDER)
    item = verb("kubectl", kubectl, "kubectl against the cluster")
    item.add_argument("arguments", nargs=argparse.REMAINDER)
    item = verb("exec", execute, "run a command inside the lab's network: lab exec -- COMMAND")
    item.add_argument("command", nargs=argparse.REMAINDER)
    verb("env", env, "print the environment that `exec` sets")
    item = verb("vm", vm_verb, "do something to a machine")
    item.add_argument("action", choices=["stop", "kill", "pause", "resume", "start", "wipe"])
    item.add_argument("name")
    item = verb("net", net, "cut or heal a machine's network, or the way between two")
    item.add_argument("action", choices=["cut", "heal"])
    item.add_argument("node")
    item.add_argument("peer", nargs="?")
    item = verb("vcenter", vcenter, "change or ask vCenter")
    item.add_argument("action", choices=["password", "delay", "deny", "allow", "logins", "sessions", "drop", "reset", "stop", "start", "restart"])
    item.add_argument("value", nargs="?", help="the new password, milliseconds of delay, or the privileges to deny, separated by commas")
    item.add_argument("--user", help="whose password; default: the first user of the description")
    item = verb("logs", logs, "a machine's journal, or the lab's own logs")
    item.add_argument("name", nargs="?")
    item.add_argument("arguments", nargs=argparse.REMAINDER)
    return top


def main(argv: Sequence[str]) -> int:
    """Entry point; a LabError is a message, not a traceback."""
    if argv and argv[0] == "kubectl":
        argv = ["kubectl", "--", *argv[1:]]  # argparse would take kubectl's leading options for its own
    args = parser().parse_args(argv)
    try:
        return args.function(args)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output, such as `head`, has seen enough.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # pylint: disable=consider-using-with
        return 0
    except KeyboardInterrupt:
        print("lab: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
