"""The API server goes away in the middle: the run waits for it and ends well."""
from __future__ import annotations

import threading
import time
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.kube.apply import apply_groups, connect

from apiserver import ApiServer


def namespace_with_maps(name: str, count: int) -> list[dict[str, Any]]:
    maps = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}", "namespace": name}, "data": {"a": "x" * 2000}}
        for number in range(count)
    ]
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, *maps]


def test_a_restarting_server_is_waited_for() -> None:
    groups = [{"name": f"g{number}", "objects": namespace_with_maps(f"g{number}", 40)} for number in range(20)]
    with ApiServer() as server:
        def restart() -> None:
            time.sleep(0.5)
            server.stop_api()
            time.sleep(1)
            server.start_api()

        thread = threading.Thread(target=restart)
        client = connect(str(server.kubeconfig), timeout=60)
        thread.start()
        outcome = apply_groups(client, groups)
        thread.join()
        assert not outcome.failed, outcome.message()
        assert apply_groups(client, groups).count("unchanged") == 20 * 41
