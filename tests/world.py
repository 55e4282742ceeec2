"""A namespace over an emulator that tests hold in their hands: faults, time, interruptions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from requests import PreparedRequest, Response

import kvdict
from kvdict import ReadCache, WriteBuffer
from kvdict.backing import Backing
from kvdict.client import Client
from kvdict.codecs import JSON, Codec, encode
from kvdict.emulator import Emulator, EmulatorAdapter, Knobs, Store
from kvdict.emulator.store import Pair
from kvdict.home import Home
from kvdict.local import LOCAL_ACCOUNT, LOCAL_BASE_URL
from kvdict.transport import Transport
from kvdict.writes import Write, expiry_of

Before = Callable[[str, str], None]
"""What is called with the method and URL of each request."""

REPEATABLE = settings(
    deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
"""How the state machines run: the same steps each time, however slow the machine is."""
EXAMPLES = [pytest.param(5, id="few"), pytest.param(30, id="many", marks=pytest.mark.slow)]
"""How many walks a state machine takes, in the fast part and in the slow one."""


class CallingAdapter(EmulatorAdapter):
    """Calls back before and after each request: who listens may hold it up, or act in between."""

    def __init__(self, emulator: Emulator, before: Before | None) -> None:
        super().__init__(emulator)
        self.before = before
        self.after: Before | None = None

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        if self.before:
            self.before(str(request.method), str(request.url))
        response = super().send(request, *args, **options)
        if self.after:
            self.after(str(request.method), str(request.url))
        return response


class World:
    """An emulator with faults, and a namespace in it whose waits only turn a clock.

    `skew` is how far our own clock is before the service's, `time`.
    """

    def __init__(
        self,
        parallel: bool = False,
        before: Before | None = None,
        buffer: dict[str, Any] | None = None,
        cache: dict[str, Any] | None = None,
        read_ahead: bool = True,
        skew: float = 0.0,
        codec: Codec[Any] = JSON,
    ) -> None:
        self.time = 1_800_000_000.0
        self.store = Store(None)
        self.knobs = Knobs(clock=lambda: self.time)
        self.emulator = Emulator(self.store, knobs=self.knobs)
        self.adapter = CallingAdapter(self.emulator, before)
        home = Home(
            "memory://",
            self._client(self.adapter, skew),
            local=not parallel,
            address=lambda title: f"memory://?namespace={title}",
            reopen=None,
            options={},
            close=self.store.close,
        )
        created, title = home.client.create_namespace("model"), "model"
        options = {"write_through": True} if buffer is None else buffer
        own = WriteBuffer(clock=lambda: self.time, **options)
        reads = None if cache is None else self.make_cache(**cache)
        backing = Backing(home, created.id, title, own, reads, reads_ahead=read_ahead)
        self.kv = kvdict.KVNamespace(backing, codec)
        self.other = self._client(EmulatorAdapter(self.emulator), 0.0)

    def make_cache(self, **options: Any) -> ReadCache:
        """Return a cache in this world's time, without chance unless it is given."""
        return ReadCache(timer=lambda: self.time, **{"chance": lambda: 0.0, **options})

    def pass_time(self, seconds: float) -> None:
        self.time += seconds

    @property
    def requests(self) -> float:
        """How many requests the namespace has made."""
        return self.kv.stats()["requests"]

    def put_elsewhere(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Store a pair as another machine does."""
        expiry = expiry_of(key, self.time, ttl, None)
        self.other.put_value(self.kv.id, Write(key, encode(self.kv.codec, key, value), expiry))

    def fill(self, pairs: Mapping[str, bytes]) -> None:
        """Store many pairs, as they are stored, without a request."""
        rows = ((key, Pair(data, None, None)) for key, data in pairs.items())
        self.store.put_many(LOCAL_ACCOUNT, self.kv.id, rows)

    def delete_elsewhere(self, key: str) -> None:
        """Delete a pair as another machine does."""
        self.other.delete_value(self.kv.id, key)

    def _client(self, adapter: EmulatorAdapter, skew: float) -> Client:
        transport = Transport(
            LOCAL_BASE_URL,
            adapter=adapter,
            max_wait=1e9,
            clock=lambda: self.time,
            wall=lambda: self.time + skew,
            sleep=self.pass_time,
        )
        return Client(transport, LOCAL_ACCOUNT)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Let other threads run until something is so."""
    pause = threading.Event()
    for _ in range(10_000):
        if is_so():
            return
        pause.wait(0.001)
    raise AssertionError("it never came to be")


@contextmanager
def buffered_worlds(*, parallel: bool = False, **common: Any) -> Iterator[Callable[..., World]]:
    """Give how to make worlds whose buffer is flushed by the test alone; all are let go of."""
    worlds = []

    def make_world(**options: Any) -> World:
        world = World(parallel=parallel, buffer={**common, **options})
        worlds.append(world)
        return world

    yield make_world
    for world in worlds:
        world.adapter.before = None
        world.kv.buffer.pending.clear()
        world.kv.close()
