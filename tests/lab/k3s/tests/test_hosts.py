# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small machines leave nothing behind, whatever runs on them: a program of any name that does not end by itself."""
from __future__ import annotations

import signal

import pytest
from hosts import Host

# As k3s does: it shares its port, renames itself, and leaves a child behind.
STUBBORN = """#!/usr/bin/env python3
import ctypes, signal, socket, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ctypes.CDLL(None).prctl(15, b"renamed", 0, 0, 0)
subprocess.Popen(["sleep", "600"], start_new_session=True)
with socket.socket() as listener:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", 6443))
    listener.listen()
    print("listens", flush=True)
    time.sleep(600)
"""
LISTENS = "ss -ltnH 'sport = :6443'"


@pytest.fixture(scope="module")
def stubborn(make_host, tmp_path_factory) -> Host:
    host = make_host("stubborn")
    host.binary = tmp_path_factory.mktemp("stubborn") / "a-k3s-of-mine"
    host.binary.write_text(STUBBORN, encoding="utf-8")
    host.binary.chmod(0o755)
    return host


def test_what_is_not_refused_in_time_is_ended(stubborn: Host) -> None:
    with pytest.raises(AssertionError, match="did not end within"):
        stubborn.refused("server", seconds=2)
    assert stubborn.sh(LISTENS) == "", "a server that is left over would answer for the next test"


def test_a_signal_goes_to_the_launcher_alone_whatever_it_is_called(stubborn: Host) -> None:
    daemon = stubborn.start("server")
    daemon.wait_line("listens")
    stubborn.kill("KILL")
    assert daemon.wait_exit(10) == 128 + signal.SIGKILL or daemon.process.returncode == -signal.SIGKILL
    assert "sleep 600" in stubborn.sh("ps -eo args")


def test_a_stopped_machine_is_empty(stubborn: Host) -> None:
    daemon = stubborn.start("server")
    daemon.wait_line("listens")
    stubborn.stop()
    assert stubborn.sh(LISTENS) == "" and "sleep 600" not in stubborn.sh("ps -eo args")


def test_a_machine_has_a_default_route(stubborn: Host) -> None:
    assert stubborn.sh("ip -4 route show default").startswith("default via ")
