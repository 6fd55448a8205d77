from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from ansible_collections.cht.k3s.plugins.filter.node_urls import node_urls
from ansible_collections.cht.k3s.plugins.module_utils.http_probe import Endpoint, Prober


class Server(HTTPServer):
    """Answers 503 to the first request, then what the Host header says."""

    seen: list[str]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # noqa: N802
        self.server.seen.append(self.headers["Host"])
        self.send_response(503 if len(self.server.seen) == 1 else 404)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def test_it_asks_again_until_there_is_an_answer() -> None:
    server = Server(("127.0.0.1", 0), Handler)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answers = Prober(timeout=10, delay=0.01).wait([Endpoint(f"http://127.0.0.1:{server.server_port}/", "county.example.org")])
    server.shutdown()
    server.server_close()
    assert [(a.ok, a.status, a.tries) for a in answers] == [(True, 404, 2)]
    assert server.seen == ["county.example.org"] * 2


def test_silence_is_reported_with_its_cause() -> None:
    answer = Prober(timeout=0).wait([Endpoint("http://127.0.0.1:1/")])[0]
    assert not answer.ok and answer.status is None and "refused" in answer.error


def test_urls_of_nodes() -> None:
    hostvars = {"a": {"ansible_host": "198.18.0.11"}, "b": {"ansible_host": "2001:db8::1"}}
    assert node_urls(["a", "b"], hostvars, ["http"]) == [{"url": "http://198.18.0.11/"}, {"url": "http://[2001:db8::1]/"}]
