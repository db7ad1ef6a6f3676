"""Whether the hub can be reached."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from kdspec.engine.machine import hub_access
from kdspec.engine.machine.hub_access import state


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(405)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def address():
    server = HTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_any_answer_means_that_it_can_be_reached(address):
    assert state({"HF_ENDPOINT": address}) == "reachable"


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_nothing_is_asked(name):
    assert state({name: "1", "HF_ENDPOINT": "http://127.0.0.1:1"}) == f"offline: {name} is set"


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://127.0.0.1:port", "nonsense", "https://"])
def test_no_answer_is_named(address):
    assert state({"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"}).startswith(f"not reachable: {address}")


def test_a_host_whose_name_is_not_found_for_long_is_not_waited_for(monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(hub_access, "_SECONDS", 0.05)
    monkeypatch.setattr(hub_access, "_ask", lambda address: go_on.wait(10) and "reachable")
    assert state({"HF_ENDPOINT": "http://slow"}) == "not reachable: http://slow has not answered in 0.05 seconds"
    go_on.set()
