"""Which k3s the lab has: the stand-in under some releases, or the files that LAB_K3S and LAB_K3S_OLD (one to upgrade from) name."""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import paths, tools
from .shell import LabError, run

# The release of a new cluster, the one to upgrade from, the next minor, and an old one for what is refused.
STANDIN = (tools.K3S_VERSION, tools.K3S_OLD_VERSION, tools.K3S_NEXT_VERSION, "v1.25.14+k3s1")
# `k3s --version`: the name of the file that was called, then the release.
_SHOWN = re.compile(r"^.+ version (v\d\S+) \(", re.MULTILINE)


@dataclass(frozen=True)
class Releases:
    """The release of a new cluster, the one to upgrade from and the next one; '' where there is none."""

    new: str
    old: str
    next: str = ""


def version_of(file: str | Path) -> str:
    """What a given binary says that it is."""
    shown = run([file, "--version"]).stdout
    said = _SHOWN.search(shown)
    if not said:
        raise LabError(f"{file}: `--version` says {shown.strip()!r}, which is no release of k3s")
    return said[1]


def given() -> dict[str, Path]:
    """The files of the environment, by their release."""
    files = [Path(os.environ[name]) for name in ("LAB_K3S", "LAB_K3S_OLD") if os.environ.get(name)]
    if files and not os.environ.get("LAB_K3S"):
        raise LabError("LAB_K3S_OLD is the release to upgrade from; LAB_K3S must name the one of a new cluster")
    return {version_of(file): file for file in files}


def standin() -> bool:
    """Told by the files themselves: the stand-in is an archive of Python."""
    return all(zipfile.is_zipfile(file) for file in given().values())


def releases() -> Releases:
    """As the environment asks; where it does not, as the lab that is up has it."""
    found = list(given())
    if not found and _note().exists():
        found = json.loads(_note().read_text(encoding="utf-8"))
    found = found or list(STANDIN)
    return Releases(*found[:3], *[""] * (2 - len(found)))


def _note() -> Path:
    return paths.MIRROR / "k3s.json"


def lay_out(put: Callable[[str, bytes], None]) -> None:
    """Give `put` each release with its program, and note which they are."""
    files = given()
    for version, file in files.items():
        put(version, file.read_bytes())
    built = tools.kubernetes_versions() if not files else []
    for version in STANDIN if not files else ():
        output = paths.MIRROR / "k3s.build"
        own = version.removeprefix("v").partition("+")[0]
        kubernetes = own if own in built else tools.TOOLS["kubernetes"].version
        run([sys.executable, "-B", paths.LAB_DIR / "k3s" / "build.py", "--version", version, "--kubernetes", kubernetes, "--output", output])
        put(version, output.read_bytes())
        output.unlink()
    _note().parent.mkdir(parents=True, exist_ok=True)
    _note().write_text(json.dumps(list(files) or list(STANDIN)), encoding="utf-8")
