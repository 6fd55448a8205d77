# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LAB_K3S=FILE is all that it takes to run the contract against another binary: here the stand-in as a file of another name."""
from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import build
from cht_lab import tools

HERE = pathlib.Path(__file__).resolve().parent


def test_the_contract_holds_for_a_given_file(tmp_path):
    given = tmp_path / "a-k3s-of-mine"
    build.build(tools.K3S_VERSION, given)
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "--color=no", "-p", "no:cacheprovider", str(HERE / "test_contract.py")]
    done = subprocess.run(command, env={**os.environ, "LAB_K3S": str(given)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert re.search(r"\b[4-9]\d passed", done.stdout) and "skipped" not in done.stdout
