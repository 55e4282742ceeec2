"""Ctrl-C and signal handlers at any moment leave a journal consistent."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from kvdict.changes import Change
from kvdict.errors import JournalError
from kvdict.journal import Journal
from tests.journal.conftest import Opener
from tests.journal.support import put, shown

ROUNDS = 1500

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")


@contextmanager
def alarms(handler: Callable[[], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_free(journal: Journal, change: Change) -> bool:
    """Tell whether another thread can record: no lock was left taken."""
    thread = threading.Thread(target=journal.record, args=(change,), daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


def in_another_thread(call: Callable[[], None]) -> None:
    """Call while this thread, in a signal handler as it were, waits for it."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def here(call: Callable[[], None]) -> None:
    """Call as a signal handler does."""
    call()


@pytest.mark.parametrize("somewhere", [here, in_another_thread])
@pytest.mark.parametrize("others", [0, 1])
def test_a_change_that_a_handler_had_accepted_while_it_was_recorded_is_forgotten(
    open_journal: Opener, somewhere: Callable[[Callable[[], None]], None], others: int
) -> None:
    journal = open_journal()
    change = put(1, "k")
    for number in range(others):
        journal._queue[2 + number] = put(2 + number, "other")  # as of a thread that waits
    accepted: list[Change] = []

    def stands_for(asked: Change) -> bool:
        if asked is not change:
            return True
        if not accepted:
            accepted.append(change)
            somewhere(lambda: journal.forget([change]))
            somewhere(journal.checkpoint)
            return True
        return False

    journal.stands_for = stands_for
    journal.record(change)
    assert accepted
    journal.close()
    assert list(shown(open_journal().replay())) == ["other"] * others


def test_the_log_is_not_brought_home_in_the_middle_of_a_commit(
    open_journal: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvdict.journal.CHECKPOINT", 0)
    journal = open_journal()
    assert journal._connection
    journal._connection.execute("BEGIN IMMEDIATE")  # as a handler finds it
    journal.checkpoint()
    assert journal._connection.in_transaction
    journal._connection.execute("COMMIT")
    journal.checkpoint()


def test_who_checkpoints_does_not_wait_for_who_is_interrupted_at_a_record(
    open_journal: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvdict.journal.CHECKPOINT", 0)
    journal = open_journal()
    others = iter([journal.checkpoint])

    def wall() -> float:
        for call in others:
            in_another_thread(call)
        return 0.0

    journal._wall = wall
    journal.record(put(1, "k"))
    assert next(others, None) is None
    assert journal.pending == 1


@pytest.mark.usefixtures("collector_rests")  # it calls back, and swallows an interrupt there
@pytest.mark.parametrize("durability", ["process", "power"])
def test_an_interrupt_leaves_the_journal_consistent(open_journal: Opener, durability: str) -> None:
    journal = open_journal(durability=durability)
    chance = random.Random(7)
    numbers = count(1)
    acknowledged: dict[str, str] = {}
    doubtful: dict[str, set[str | None]] = {}
    interrupted = 0

    def interrupt() -> None:
        raise KeyboardInterrupt

    def work(change: Change, forgotten: list[Change]) -> None:
        nonlocal interrupted
        done = False
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 120e-6))
            journal.record(change)
            done = True
            journal.forget(forgotten)
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        text = change.write.data.decode() if change.write else ""
        if done:
            acknowledged[change.key] = text
            doubtful.pop(change.key, None)
        else:
            doubtful.setdefault(change.key, set()).add(text)

    with alarms(interrupt):
        for turn in range(ROUNDS):
            key = f"k{turn % 20}"
            extras = [put(next(numbers), f"extra{n}") for n in range(3)]
            try:
                work(put(next(numbers), key, str(turn).encode()), extras)
            except KeyboardInterrupt:
                doubtful.setdefault(key, set()).add(str(turn))
    assert interrupted > ROUNDS / 20
    assert is_free(journal, put(next(numbers), "last"))
    journal.close()
    found = shown(open_journal().replay())
    assert found.pop("last") == "value"
    for key, text in acknowledged.items():
        assert found[key] in {text, *doubtful.get(key, ())}, key


@pytest.mark.parametrize("durability", ["process", "power"])
def test_what_a_signal_handler_records_is_on_disk_whatever_it_interrupted(
    open_journal: Opener, durability: str
) -> None:
    journal = open_journal(durability=durability)
    chance = random.Random(8)
    numbers = count(1)
    handled: list[str] = []

    def handle() -> None:
        change = put(next(numbers), f"handled{len(handled)}")
        journal.record(change)
        connection = journal._connection
        assert connection
        assert not connection.in_transaction
        handled.append(change.key)

    recorded: set[str] = set()
    with alarms(handle):
        for turn in range(ROUNDS):
            forgotten = [put(next(numbers), f"forgotten{n}") for n in range(3)]
            for change in forgotten:
                journal._queue[change.number] = change  # as of threads that wait
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 120e-6))
            journal.record(put(next(numbers), f"k{turn}"))
            journal.forget(forgotten)
            recorded.add(f"k{turn}")
    assert len(handled) > ROUNDS / 20
    journal.close()
    assert set(shown(open_journal().replay())) == recorded | set(handled)


def test_a_signal_handler_that_finds_no_room_takes_nothing_along_of_what_it_interrupted(
    open_journal: Opener,
) -> None:
    journal = open_journal()
    for name in range(4):
        journal.record(put(1, f"k{name}", b"before"))
    connection = journal._connection
    assert connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    chance = random.Random(9)
    numbers = count(2)
    refused = 0

    def handle() -> None:
        nonlocal refused
        with pytest.raises(JournalError, match="has no room left"):
            journal.record(put(next(numbers), "large", b"v" * 100_000))
        refused += 1

    with alarms(handle):
        for turn in range(ROUNDS):
            text = str(turn)
            changes = [put(next(numbers), f"k{name}", text.encode()) for name in range(4)]
            for change in changes[1:]:
                journal._queue[change.number] = change  # as of threads that wait
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 120e-6))
            journal.record(changes[0])
            signal.setitimer(signal.ITIMER_REAL, 0)
            stored = connection.execute("SELECT value FROM writes ORDER BY key").fetchall()
            waiting = {change.key for change in journal._queue.values()}
            for name, (value,) in enumerate(stored):
                assert f"k{name}" in waiting or value == text.encode(), turn
            for change in changes[1:]:
                journal.record(change)
    assert refused > ROUNDS / 20
