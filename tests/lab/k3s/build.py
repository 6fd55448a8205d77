# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack the stand-in into one executable file: build.py --version v1.35.4+k3s1 --output FILE."""
from __future__ import annotations

import argparse
import hashlib
import pathlib
import re
import zipapp
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
MAIN = "import sys\n\nfrom standin.cli import main\n\nsys.exit(main(sys.argv))\n"


def build(version: str, output: pathlib.Path, kubernetes: str = "") -> None:
    """The same sources and version give the same bytes, so that checksums stay."""
    match = re.match(r"^v(\d+\.\d+\.\d+)\+k3s\d+$", version)
    if not match:
        raise SystemExit(f"--version {version}: expected vX.Y.Z+k3sN")
    files = {}
    for path in sorted((HERE / "standin").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            files[str(path.relative_to(HERE))] = path.read_bytes()
    digest = hashlib.sha256(b"".join(files.values())).hexdigest()[:8]
    files["standin/stamp.py"] = (f'VERSION = "{version}"\nCOMMIT = "{digest}"\nKUBERNETES = "{kubernetes or match.group(1)}"\n').encode()
    files["__main__.py"] = MAIN.encode()
    output.parent.mkdir(parents=True, exist_ok=True)
    packed = output.with_name(output.name + ".zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name])
    zipapp.create_archive(packed, output, interpreter="/usr/bin/env python3")
    packed.unlink()
    output.chmod(0o755)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", required=True, help="version to report, vX.Y.Z+k3sN")
    parser.add_argument("--kubernetes", default="", help="version of the Kubernetes programs, when it differs from the reported one")
    parser.add_argument("--output", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    build(arguments.version, arguments.output, arguments.kubernetes)


if __name__ == "__main__":
    main()
