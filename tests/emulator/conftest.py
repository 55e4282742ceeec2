"""Fixtures: a clock, and the emulator behind an adapter or a socket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import requests

from kvdict.emulator import Emulator, EmulatorAdapter, Knobs, Server, Store, serve

from .home import EMBEDDED, Clock, Home, Space


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def knobs() -> Knobs | None:
    """None; a module whose tests turn knobs has its own."""
    return None


@pytest.fixture
def token() -> str | None:
    """None; a module whose tests need a token has its own."""
    return None


@pytest.fixture
def emulator(clock: Clock, knobs: Knobs | None, token: str | None) -> Iterator[Emulator]:
    store = Store(None, clock=clock)
    yield Emulator(store, knobs=knobs, token=token, clock=clock)
    store.close()


class Relay:
    """Passes requests on to whichever application is in charge; one server does for all tests."""

    app: Emulator

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        return self.app(environ, start)


@pytest.fixture(scope="session")
def served() -> Iterator[tuple[Relay, Server]]:
    relay = Relay()
    with serve(relay) as server:
        yield relay, server


@pytest.fixture(params=["adapter", "socket"])
def home(
    request: pytest.FixtureRequest,
    emulator: Emulator,
    clock: Clock,
    served: tuple[Relay, Server],
) -> Iterator[Home]:
    with requests.Session() as session:
        session.trust_env = False
        if request.param == "adapter":
            session.mount("http://kvdict.invalid/", EmulatorAdapter(emulator))
            yield Home(session, EMBEDDED, emulator, clock)
            return
        relay, server = served
        relay.app = emulator
        yield Home(session, server.url, emulator, clock)


@pytest.fixture
def space(home: Home) -> Space:
    return home.create()
