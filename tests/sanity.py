"""Run `ansible-test sanity` on a copy of what git knows, where its bootstrap cannot be downloaded.

ansible-test works on a collection below a folder ansible_collections/NAMESPACE/NAME and makes a virtual environment
for each of its tools. It fetches a pip bootstrap script for that; on a machine that only reaches a package index the
fetch fails, so a script that does the same with pip's wheel from the index is put into ansible-test's cache first.
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cht-k3s"
PIP = "24.2"
# ansible-test copies the script elsewhere before it runs it, hence the wheel's full path; the two options are the
# download's own and unknown to pip.
BOOTSTRAP = '''\
import runpy
import sys

WHEEL = {wheel!r}
arguments = [a for a in sys.argv[1:] if a not in ("pip=={pip}", "--no-setuptools", "--no-wheel")]
sys.path.insert(0, WHEEL)
sys.argv = ["pip", "install", *arguments, WHEEL]
runpy.run_module("pip", run_name="__main__")
'''


def prepare_bootstrap() -> None:
    """Put the bootstrap script of ansible-test where it looks before it downloads."""
    folder = Path.home() / ".ansible" / "test" / "cache"
    script = folder / f"get_pip_{PIP.replace('.', '_')}.py"
    if script.exists() and next(folder.glob(f"pip-{PIP}-*.whl"), None):
        return
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), f"pip=={PIP}"], check=True)
    wheel = next(folder.glob(f"pip-{PIP}-*.whl"))
    script.write_text(BOOTSTRAP.format(pip=PIP, wheel=str(wheel)))


def export(folder: Path) -> Path:
    """Copy the files that git knows to a collections path of their own; return the collection's folder."""
    target = folder / "ansible_collections" / "cht" / "k3s"
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    subprocess.run(["git", "add", "-A"], cwd=target, check=True)
    return target


def main() -> int:
    prepare_bootstrap()
    with tempfile.TemporaryDirectory(prefix="sanity-", dir=CACHE) as folder:
        return check(export(Path(folder)))


def check(target: Path) -> int:
    """Run ansible-test in the collection's folder; its exit code."""
    ignores = [path.name for path in (target / "tests" / "sanity").glob("ignore-*.txt")]
    if ignores:
        print(f"there must be no ignores: {', '.join(ignores)}")
        return 1
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    argv = ["ansible-test", "sanity", "--requirements", "--color", "no", "--python", python, *sys.argv[1:]]
    return subprocess.run(argv, cwd=target, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
