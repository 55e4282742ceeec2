"""A clean environment, no network but loopback, and namespaces in every home."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import kvdict
from kvdict.emulator import Emulator, Knobs, Server, Store, serve

ACCOUNT = "a" * 32
HOMES = (
    "memory", "file", "served", "through", "buffered", "journaled", "stale",
    "cached", "cached-stale", "cached-journaled",
)  # fmt: skip
AMPLE = 1_000_000, 300.0
"""An allowance that all tests together do not spend: who heeds it would wait for the next."""
SCRUBBED = ("CLOUDFLARE_", "KVDICT_", "CF_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

Opener = Callable[..., kvdict.KVNamespace[Any]]


@contextmanager
def serving(*, token: str | None = None, **knobs: Any) -> Iterator[tuple[Server, Knobs]]:
    """Serve an empty emulator, with knobs to turn."""
    turned = Knobs(**knobs)
    with (
        closing(Store(None)) as store,
        serve(Emulator(store, token=token, knobs=turned)) as running,
    ):
        yield running, turned


def account_of(server: Server, account: str = ACCOUNT) -> str:
    """Return the WHERE of an account on a served emulator; behind a slash stands a title."""
    return f"kv+{server.url.removesuffix('/client/v4')}/{account}"


def pytest_configure() -> None:
    """Heed Ctrl-C, which a shell has what it runs in the background ignore.

    And have what the programs of tests import compiled once, not by each of hundreds.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Have more workers than cores: many tests wait, for a process or for an answer."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is slow unless it is asked for, whatever else is chosen by -m."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    for item in slow:
        item.add_marker(pytest.mark.timeout(900))
    if "slow" in config.option.markexpr:
        return
    items[:] = [item for item in items if not item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> None:
    for name in list(os.environ):
        if name.upper().startswith(SCRUBBED) and name != "KVDICT_WRANGLER":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.getbasetemp()))


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "::1", "localhost"}:
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def collector_rests() -> Iterator[None]:
    """Keep finalizers out of a test that parses to the end of the stack: there they would fail."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep coverage out of child processes.

    It imports what it needs itself, and an interrupt within it leaves a lock of its own taken.
    """
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving(rate_limit=AMPLE) as (running, _):
        yield running


@pytest.fixture(scope="session")
def stale_server() -> Iterator[Server]:
    """Serve as KV does on a bad day: reads, listings and misses lag by half a minute."""
    with serving(stale_reads=30, list_lag=30, cache_misses=30, rate_limit=AMPLE) as (running, _):
        yield running


@pytest.fixture
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Return how to name a new namespace in one of the homes."""

    def name(home: str) -> str:
        if home in {"memory", "buffered", "journaled", "cached", "cached-journaled"}:
            return f"memory://{uuid.uuid4().hex}"
        if home == "file":
            return f"sqlite:///{tmp_path}/{uuid.uuid4().hex}.db"
        server = "stale_server" if "stale" in home else "server"
        running: Server = request.getfixturevalue(server)
        return f"{account_of(running)}/test-{uuid.uuid4().hex}"

    return name


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_kv(home: str, address: Callable[[str], str], tmp_path: Path) -> Iterator[Opener]:
    """Return how to open new namespaces in each home; all are closed at the end."""
    opened = []
    buffers = {"through": False, "buffered": True}

    def open_new(**options: Any) -> kvdict.KVNamespace[Any]:
        options.setdefault("buffer", buffers.get(home))
        options.setdefault("cache", home.startswith("cached"))
        if home.endswith("journaled"):
            journal = tmp_path / f"{uuid.uuid4().hex}.journal"
            options["buffer"] = kvdict.WriteBuffer(journal=journal)
        kv = kvdict.open(address(home), create=True, **options)
        opened.append(kv)
        return kv

    yield open_new
    for kv in opened:
        kv.close()


@pytest.fixture
def kv(open_kv: Opener) -> kvdict.KVNamespace[Any]:
    """Give an empty namespace in each home."""
    return open_kv()


@pytest.fixture
def spent() -> Callable[[kvdict.KVNamespace[Any], Callable[[], Any]], float]:
    """Return how to count the requests that a call makes."""

    def count(kv: kvdict.KVNamespace[Any], call: Callable[[], Any]) -> float:
        before = kv.stats()["requests"]
        call()
        return kv.stats()["requests"] - before

    return count
