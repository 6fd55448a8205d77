# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether UDP passes between machines on which nothing listens yet: one answers for a while, the others ask. Standard library only."""
from __future__ import annotations

import os
import select
import socket
import time

# What is sent back; anything else, like VXLAN of other nodes, is not.
ASK, ANSWER, STOP = b"cht.k3s preflight?", b"cht.k3s preflight!", b"cht.k3s preflight stop"
# A whole frame of the pod network: a way that carries only small packets is no way.
SIZE = 1400


def _socket(family: int) -> socket.socket:
    found = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return found


def bind(port: int) -> list:
    """Sockets of both families; none where the port is taken, as by flannel."""
    found: list = []
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            one = _socket(family)
        except OSError:
            continue
        try:
            one.bind((address, port))
        except OSError:
            one.close()
            if family == socket.AF_INET:
                return []
            continue
        found.append(one)
    return found


def answer(sockets: list, seconds: float) -> None:
    """Answer until the time is over or the machine itself says that it is enough."""
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            for ready in select.select(sockets, [], [], max(0.0, end - time.monotonic()))[0]:
                data, sender = ready.recvfrom(2 * SIZE)
                if data == STOP and sender[0] in ("127.0.0.1", "::1"):
                    return
                if data.startswith(ASK):
                    try:
                        ready.sendto(ANSWER + data[len(ASK):], sender)
                    except OSError:
                        continue
    finally:
        for one in sockets:
            one.close()


def listen(port: int, seconds: float) -> bool:
    """Answer in a process of its own, which ends by itself; False where the port is taken."""
    sockets = bind(port)
    if not sockets:
        return False
    child = os.fork()
    if child:
        for one in sockets:
            one.close()
        os.waitpid(child, 0)
        return True
    try:
        os.setsid()
        if os.fork() == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)
            answer(sockets, seconds)
    finally:
        os._exit(0)


def stop(port: int) -> None:
    """End the process that answers here."""
    with _socket(socket.AF_INET) as asking:
        asking.sendto(STOP, ("127.0.0.1", port))


def ask(hosts: list, port: int, timeout: float, tries: int = 3) -> dict:
    """Host -> '' where a whole packet came back, else why not. All are asked at once, each several times, as UDP may lose one."""
    waiting, errors = {}, {}
    for host in hosts:
        try:
            family, _kind, _protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            one = _socket(family)
            one.connect(address)
            waiting[host] = one
        except OSError as error:
            errors[host] = error.strerror or str(error)
    wanted = ANSWER + b"." * (SIZE - len(ASK))
    try:
        for attempt in range(tries):
            for host, one in list(waiting.items()):
                _send(host, one, errors)
            end = time.monotonic() + timeout / tries
            while waiting and time.monotonic() < end:
                readable = select.select(list(waiting.values()), [], [], max(0.0, end - time.monotonic()))[0]
                for host, one in list(waiting.items()):
                    if one in readable and _heard(one, wanted, errors, host):
                        errors[host] = ""
                        waiting.pop(host).close()
            if not waiting:
                break
    finally:
        for one in waiting.values():
            one.close()
    return {host: errors.get(host, f"no answer within {timeout:g} s (a firewall drops it?)") for host in hosts}


def _send(host: str, one: socket.socket, errors: dict) -> None:
    try:
        one.send(ASK + b"." * (SIZE - len(ASK)))
    except OSError as error:
        errors[host] = error.strerror or str(error)


def _heard(one: socket.socket, wanted: bytes, errors: dict, host: str) -> bool:
    try:
        return one.recv(2 * SIZE) == wanted
    except OSError as error:
        errors[host] = error.strerror or str(error)
        return False
