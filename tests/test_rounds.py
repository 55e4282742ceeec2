"""Rounds: how many requests are under way, when a round ends, and who tells of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kvdict
from kvdict.emulator.knobs import Fault
from kvdict.flights import MAX_REQUESTS
from tests.world import World, buffered_worlds, wait_until

NEVER = 1e9


@pytest.fixture
def make() -> Iterator[Callable[..., World]]:
    """Return how to make worlds that send several chunks at once, when they are told to."""
    with buffered_worlds(parallel=True, max_age=NEVER) as make_world:
        yield make_world


def fill(world: World, chunks: int) -> None:
    """Let so many writes wait, each for a request of its own."""
    world.kv._unchecked_backing.flusher.rounds._chunker._max_pairs = 1
    world.kv.update({f"{number:02}": number for number in range(chunks)})


class Held:
    """Requests that are held up on their way until they are let go."""

    def __init__(self, world: World) -> None:
        self.most = self.now = 0
        self._lock = threading.Lock()
        self._let_go = threading.Event()
        world.adapter.before = self.before
        world.adapter.after = self.after

    def before(self, *_: str) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        assert self._let_go.wait(60)

    def after(self, *_: str) -> None:
        with self._lock:
            self.now -= 1

    def let_go(self) -> None:
        self._let_go.set()


def test_a_round_ends_at_its_deadline_while_more_chunks_wait_for_a_place(make: Any) -> None:
    world = make()
    fill(world, MAX_REQUESTS + 3)
    held = Held(world)
    raised: list[kvdict.FlushError] = []

    def flush() -> None:
        with pytest.raises(kvdict.FlushError) as caught:
            world.kv.flush(timeout=50)
        raised.append(caught.value)

    flushing = threading.Thread(target=flush)
    flushing.start()
    wait_until(lambda: held.now == MAX_REQUESTS)
    world.pass_time(50)
    flushing.join(30)
    held.let_go()
    flushing.join(30)
    assert raised[0].pending == MAX_REQUESTS + 3
    wait_until(lambda: held.now == 0 and not world.kv.buffer.sealed)
    assert sorted(world.kv.buffer.pending) == ["08", "09", "10"], "they were not sent"
    assert world.kv.flush().sent == 3
    assert held.most == MAX_REQUESTS


def test_after_a_failure_no_further_chunk_of_the_round_is_sent() -> None:
    with buffered_worlds(max_age=NEVER) as make:
        world = make()
        fill(world, 5)
        sent: list[str] = []
        world.adapter.before = lambda method, url: sent.append(url)
        world.knobs.planned.append(Fault("524"))
        world.kv._unchecked_backing.flusher.rounds.make(everything=True)
        assert len(sent) == 1
        assert world.kv.stats()["pending"] == 5


def test_one_at_a_time_is_sent_by_the_thread_that_flushes() -> None:
    with buffered_worlds(max_age=NEVER) as make:
        world = make()
        fill(world, 3)
        threads: list[int] = []
        world.adapter.before = lambda method, url: threads.append(threading.get_ident())
        world.kv.flush()
        assert threads == [threading.get_ident()] * 3


def test_on_flush_is_told_how_many_writes_this_round_stored(make: Any) -> None:
    told: list[int] = []
    world = make(on_flush=lambda result: told.append(result.sent), key_interval=0)
    for pairs in ({"a": 1, "b": 2}, {"a": 3}, {"a": 4, "b": 5, "c": 6}):
        world.kv.update(pairs)
        world.kv.flush()
    assert told == [2, 1, 3]


def test_callbacks_are_called_by_the_thread_that_flushes(make: Any) -> None:
    threads: list[int] = []
    world = make(on_error=lambda error: threads.append(threading.get_ident()))
    fill(world, 3)
    for change in world.kv.buffer.pending.values():
        object.__setattr__(change.write, "metadata", '"' + "x" * 2000 + '"')
    with pytest.raises(kvdict.FlushError):
        world.kv.flush()
    assert threads == [threading.get_ident()] * 3
