# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""UDP is tried with packets that are real, on this machine's own addresses."""
from __future__ import annotations

import socket
import threading
import time

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.preflight import udp


@pytest.fixture
def port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_who_answers_is_heard_until_it_is_stopped(port):
    assert udp.listen(port, 30), "in a process of its own"
    assert udp.ask(["127.0.0.1", "localhost"], port, 3)["127.0.0.1"] == ""
    assert not udp.listen(port, 30), "the port is taken"
    udp.stop(port)
    end = time.monotonic() + 5
    while time.monotonic() < end and not (free := udp.bind(port)):
        time.sleep(0.05)
    assert free, "flannel can have it"
    for one in free:
        one.close()


def test_it_ends_by_itself(port):
    begin = time.monotonic()
    udp.answer(udp.bind(port), 0.2)
    assert 0.1 < time.monotonic() - begin < 5


def test_silence_and_names_that_are_none_are_told(port):
    answers = udp.ask(["127.0.0.1", "no.such.name.invalid"], port, 0.3)
    assert "no answer within 0.3 s" in answers["127.0.0.1"] or "refused" in answers["127.0.0.1"]
    assert answers["no.such.name.invalid"] != ""


def test_an_answer_that_was_cut_is_none(port):
    """A way for small packets only is not the pod network's."""
    (cutting, *more) = udp.bind(port)

    def cut():
        for _try in range(3):
            _data, sender = cutting.recvfrom(4096)
            cutting.sendto(udp.ANSWER, sender)

    thread = threading.Thread(target=cut, daemon=True)
    thread.start()
    assert udp.ask(["127.0.0.1"], port, 0.6)["127.0.0.1"] != ""
    for one in (cutting, *more):
        one.close()
