"""Ctrl-C at any moment: no lock stays taken, and nobody waits for what will not come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

import kvdict
from kvdict.budget import RateBudget
from kvdict.changes import Change
from kvdict.flights import Flight, Slots
from kvdict.journal import Journal
from kvdict.latch import Latch
from tests.interrupts import at_every_moment, is_free, is_interrupted, is_signalled
from tests.journal.support import put
from tests.world import World

pytestmark = pytest.mark.usefixtures("collector_rests")  # it would be interrupted, and say so


def test_an_interrupted_assignment_leaves_the_buffer_free() -> None:
    buffer = kvdict.WriteBuffer(max_age=1e9)
    with kvdict.open("memory://", buffer=buffer) as kv:
        free = [is_free(buffer.lock) for _ in at_every_moment(lambda: kv.update(k="v"))]
        assert len(free) > 50
        assert all(free)
        kv.flush()
        assert kv["k"] == "v"


def test_an_interrupted_flush_leaves_the_buffer_free() -> None:
    buffer = kvdict.WriteBuffer(max_age=1e9)
    with kvdict.open("memory://", buffer=buffer) as kv:
        kv["k"] = "v"
        for _ in at_every_moment(kv.flush):
            assert is_free(buffer.lock)
            kv["k"] = "v"
        assert kv.stats()["pending"] == 0


def test_an_interrupted_flush_on_threads_leaves_the_buffer_free() -> None:
    world = World(buffer={"max_age": 1e9, "settle": 0, "key_interval": 0}, parallel=True)
    world.kv["k"] = "v"
    for _ in at_every_moment(world.kv.flush):
        assert is_free(world.kv.buffer.lock)
        world.kv["k"] = "v"
    assert world.kv.stats()["pending"] == 0


def test_an_interrupted_request_leaves_the_allowance_free() -> None:
    budget = RateBudget(per_second=None)
    budget.release({})  # compiles patterns, once

    def ask() -> None:
        budget.acquire(1, "name")
        budget.release({}, "name")

    for _ in at_every_moment(ask):
        assert is_free(budget._lock)
        budget.release(None, "name")  # as who is interrupted does
    assert budget.in_flight == 0


def test_an_interrupted_start_of_a_flight_leaves_its_place_free() -> None:
    slots = Slots(2)
    for _ in at_every_moment(lambda: Flight(str, slots).result()):
        assert is_free(slots._lock)
    assert [Flight(lambda: 1, slots).result() for _ in range(3)] == [1, 1, 1]


def test_an_interrupt_of_work_that_found_no_thread_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", refuse)
    slots = Slots(2)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            Flight(interrupt, slots)
    assert Flight(lambda: 1, slots).result() == 1


def test_who_is_interrupted_while_waiting_may_wait_again_and_keeps_nobody() -> None:
    latch = Latch()
    assert [latch.wait(0) for _ in at_every_moment(lambda: latch.wait(0))].count(False)
    latch.open()
    latch.open()
    for _ in at_every_moment(latch.wait):
        assert latch.wait()
    assert latch.wait()


def test_an_interrupted_record_leaves_the_journal_free(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", namespace="n", durability="power")
    journal.stands_for = lambda change: True
    change = put(1, "k")
    record: Callable[[Change], None] = journal.record
    for _ in at_every_moment(lambda: record(change)):
        assert is_free(journal._lock)
        assert is_free(journal._queueing)
        assert journal._writer is None
    journal.close()


def test_a_signal_handler_may_flush_at_any_moment_of_a_journaled_assignment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvdict.journal.LOST", 0.001)
    options = {"max_age": 1e9, "settle": 0, "key_interval": 0, "journal": tmp_path / "journal"}
    world = World(buffer=options, parallel=True)
    world.kv.buffer.clock = time.monotonic  # or a flush that is held up would wait for ever
    journal = world.kv._unchecked_backing.flusher.journal
    assert journal
    for moment in count(1):
        world.kv["before"] = moment
        if not is_signalled(lambda: world.kv.update(k="v"), moment, lambda: world.kv.flush(9)):
            break
        world.kv.flush(9)
        assert journal.pending == 0
    assert moment > 50
    world.kv.close()


def test_a_signal_handler_may_close_at_any_moment_of_a_journaled_assignment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvdict.journal.LOST", 0.001)
    for moment in count(1):
        place = tmp_path / str(moment)
        options = {"max_age": 1e9, "settle": 0, "key_interval": 0, "journal": place}
        world = World(buffer=options, parallel=True)

        def assign(world: World = world) -> None:
            with suppress(kvdict.ClosedError):
                world.kv["k"] = "v"

        def close(world: World = world) -> None:
            world.kv._unchecked_backing.flusher.stop(1e6)  # a close that is held up goes on
            world.kv.close()

        if moment % 2:
            world.kv["before"] = "v"  # starts a thread, which is else started meanwhile
        if not is_signalled(assign, moment, close):
            break
        world.kv.buffer.pending.clear()
    world.kv.close()
    assert moment > 30  # Python 3.13.0 traces calls alone


def test_what_an_interrupted_close_leaves_open_the_next_one_closes(tmp_path: Path) -> None:
    with kvdict.Account(tmp_path / "app.db") as account:

        def opened() -> kvdict.KVNamespace[object]:
            buffer = kvdict.WriteBuffer(max_age=1e9, journal=tmp_path / "journal")
            return account.open("default", buffer=buffer)

        account.create("default")
        kv = opened()
        for moment in count(1):
            if not is_interrupted(kv.close, moment):
                break
            kv.close()
            kv = opened()  # or the journal would be in use
        assert moment > 50  # Python 3.13.0 traces calls alone
