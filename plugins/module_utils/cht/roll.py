# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes of a county's CouchDB are changed one after the other, and API starts once.

API ends whenever its feeds from CouchDB break, and with one copy of each shard they break with any node. Left running it would end with each node, and
wait in CrashLoopBackOff longer than the nodes need. So it is stopped first and comes back when all nodes are ready.
"""

from __future__ import annotations

import copy
import time
import typing as t
from functools import partial

from ansible_collections.cht.k3s.plugins.module_utils.cht.pause import is_database, service_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.rollout import deployment_ready, judge
from ansible_collections.cht.k3s.plugins.module_utils.kube.apply import Item
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import DEPLOYMENTS, PODS

Object = dict[str, t.Any]
Send = t.Callable[[Item], None]

_INTERVAL = 1.0


class Roller:
    """Puts the Deployments of counties into an order.

    C(live) are the Deployments of all counties by namespace, as they were before, C(wanted) those that are to be, by county. C(timeout) is the time
    that one node has to become ready.
    """

    def __init__(
        self, client: Client, live: dict[str, list[Object]], wanted: dict[str, list[Object]], timeout: float,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self.client = client
        self.live = live
        self.wanted = wanted
        self.timeout = timeout
        self.sleep = sleep

    def arrange(self, items: list[Item], send: Send) -> list[t.Callable[[], None]]:
        """Return a job for each county whose nodes follow one another, and one for each other item."""
        jobs: list[t.Callable[[], None]] = []
        by_county: dict[str, list[Item]] = {}
        for item in items:
            if item.kind == "Deployment":
                by_county.setdefault(item.group, []).append(item)
            else:
                jobs.append(partial(send, item))
        for county, found in by_county.items():
            if self._needs_order(found):
                jobs.append(partial(self._roll, county, found, send))
            else:
                jobs.extend(partial(send, item) for item in found)
        return jobs

    def _needs_order(self, items: list[Item]) -> bool:
        """Tell whether nodes of a whole cluster change. Where one of them is down already, the others may wait for it: all are changed at once."""
        nodes = [item for item in items if is_database(service_of(item.body))]
        if len(nodes) < 2 or any(item.live is None for item in nodes):
            return False
        present = [item for item in self.live.get(nodes[0].namespace, []) if is_database(service_of(item))]
        return all(deployment_ready(item) for item in present)

    def _roll(self, county: str, items: list[Item], send: Send) -> None:
        nodes = sorted((item for item in items if is_database(service_of(item.body))), key=lambda item: item.name)
        rest = [item for item in items if item not in nodes and service_of(item.body) != "api"]
        api = next((item for item in items if service_of(item.body) == "api"), None) or self._api(county)
        problem = self._stop(api, send) if api is not None else ""
        for node in nodes:
            if problem:
                node.result = "skipped"
                continue
            send(node)
            problem = node.error or self._await(node)
        for item in [*rest, *([api] if api is not None else [])]:
            # Also after a node that did not come up: API and haproxy wait for it, and nobody has to start them when it does.
            send(item)
        lost = api.error if api is not None and api not in items else ""
        if (problem or lost) and not any(node.error for node in nodes):
            left = ", ".join(node.name for node in nodes if node.result == "skipped")
            next(node for node in reversed(nodes) if node.result != "skipped" or node is nodes[0]).fail(
                "; ".join(text for text in (problem, left and f"not changed: {left}", lost) if text)
            )

    def _api(self, county: str) -> Item | None:
        """API of a county of which only CouchDB changes."""
        body = next((item for item in self.wanted.get(county, []) if service_of(item) == "api"), None)
        return Item(county, copy.deepcopy(body), DEPLOYMENTS, 0) if body is not None else None

    def _stop(self, api: Item, send: Send) -> str:
        """Stop API with the template that it will have, and return what stood against it."""
        body = copy.deepcopy(api.body)
        body["spec"]["replicas"] = 0
        stop = Item(api.group, body, api.resource, api.wave, live=api.live)
        send(stop)
        return stop.error

    def _await(self, node: Item) -> str:
        """Wait until a node is ready; return why it is not."""
        deadline = time.monotonic() + self.timeout
        last = ""
        while True:
            try:
                live = self.client.find(DEPLOYMENTS.path(node.name, node.namespace))
                if live is not None and deployment_ready(live):
                    return ""
                last = ""
            except ApiError as error:
                last = error.message
            if time.monotonic() >= deadline:
                break
            self.sleep(_INTERVAL)
        return f"is not ready after {self.timeout:.0f} s{self._why(node, last)}"

    def _why(self, node: Item, last: str) -> str:
        if last:
            return f" ({last})"
        try:
            pods = list(self.client.items(PODS.collection(node.namespace), {"labelSelector": f"cht.service={service_of(node.body)}"}))
            obstacle = judge([node.body], pods).obstacle
        except ApiError as error:
            obstacle = error.message
        return f" ({obstacle})" if obstacle else ""
