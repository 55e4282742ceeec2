"""requests-cache's own suites of storages and backends, run on KVCache."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from httpbin import app
from werkzeug.serving import WSGIRequestHandler, make_server

from kvdict.emulator import Server

from . import needs, source
from .process import EACH, passed

pytestmark = needs("requests-cache")


class Silent(WSGIRequestHandler):
    """Serves without a line for each request."""

    def log_request(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def httpbin() -> Iterator[str]:
    """Serve what the suites ask for."""
    running = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.port}"
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.mark.parametrize("mode", EACH)
def test_the_suites_of_requests_cache_pass(mode: str, server: Server, httpbin: str) -> None:
    """In the folder whose package `tests` is that of requests-cache."""
    folder = source("requests-cache")
    count = passed("requests_cache_suites", mode, server, folder=folder, HTTPBIN_URL=httpbin)
    assert count >= 132
