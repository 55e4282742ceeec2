"""requests-cache's own suites of storages and backends, run on KVCache."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from httpbin import app
from werkzeug.serving import WSGIRequestHandler, make_server

from kvdict.emulator import Server
from tests.processes import Program

from . import needs, source
from .process import EACH, Runs, passed, running, start

pytestmark = [*needs("requests-cache"), pytest.mark.xdist_group("requests-cache")]


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


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, server: Server, httpbin: str) -> Iterator[Runs]:
    def begin(mode: str) -> Program[str]:
        """Start it in the folder whose package `tests` is that of requests-cache."""
        folder = source("requests-cache")
        return start("requests_cache_suites", mode, server, folder=folder, HTTPBIN_URL=httpbin)

    with running(request, begin) as runs:
        yield runs


@pytest.mark.parametrize("mode", EACH)
def test_the_suites_of_requests_cache_pass(mode: str, runs: Runs) -> None:
    assert passed(runs[mode]) >= 132
