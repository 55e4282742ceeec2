"""What is recorded comes back, what is forgotten does not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kvdict.errors import ClosedError, ConfigError, JournalError
from kvdict.journal import Journal
from kvdict.journalfile import CHECKPOINT
from kvdict.journalrows import Replay
from kvdict.writes import Expiry, Write
from tests.journal.conftest import Opener
from tests.journal.support import NAMESPACE, deletion, put, run, shown


def reopened(journal: Journal, open_journal: Opener, **options: Any) -> Replay:
    journal.close()
    return open_journal(journal.folder or journal.path, **options).replay()


def test_a_new_journal_has_nothing_to_replay(open_journal: Opener) -> None:
    journal = open_journal()
    assert journal.replay() == Replay()
    assert (journal.pending, journal.last_number) == (0, 0)


def test_the_latest_change_of_each_key_comes_back_in_order(open_journal: Opener) -> None:
    journal = open_journal()
    for change in (put(1, "a", b"old"), put(2, "b"), put(3, "a", b"new"), deletion(4, "c")):
        journal.record(change)
    assert journal.pending == 3
    replay = reopened(journal, open_journal)
    assert list(shown(replay).items()) == [("b", "value"), ("a", "new"), ("c", None)]


@pytest.mark.parametrize(
    "write",
    [
        Write("k", b""),
        Write("k", b"\x00\xff" * 500),
        Write("k", b"v" * 3_000_000),
        Write("k", b"v", Expiry(5e9)),
        Write("k", b"v", Expiry(5e9 + 0.123456, absolute=True), '{"a":[1,"é\\u0000"]}'),
        Write("k", b"v", metadata="null"),
        Write("k\x00\n\U0001f600 ", b"v"),
        Write("é" * 256, b"v"),
    ],
)
def test_a_put_comes_back_as_it_was(open_journal: Opener, write: Write) -> None:
    journal = open_journal()
    change = put(1, write.key)
    change.write = write
    journal.record(change)
    assert reopened(journal, open_journal).writes == [(write.key, write)]


def test_numbers_go_on_above_those_replayed(open_journal: Opener) -> None:
    journal = open_journal()
    journal.record(put(7, "a"))
    journal.record(put(9, "b"))
    journal.close()
    assert open_journal().last_number == 9


def test_a_replay_is_given_once(open_journal: Opener) -> None:
    journal = open_journal()
    journal.record(put(1, "a"))
    journal.close()
    again = open_journal()
    assert shown(again.replay()) == {"a": "value"}
    assert again.replay() == Replay()
    assert again.pending == 1


def test_what_was_forgotten_does_not_come_back(open_journal: Opener) -> None:
    journal = open_journal()
    changes = [put(number, f"k{number}") for number in range(1, 1000)]
    for change in changes:
        journal.record(change)
    journal.forget(change for change in changes if change.number != 500)
    assert journal.pending == 1
    assert shown(reopened(journal, open_journal)) == {"k500": "value"}


@contextmanager
def trouble(journal: Journal) -> Iterator[None]:
    """Let nothing be written to the journal, as on a full disk."""
    assert journal._connection
    journal._connection.execute("PRAGMA query_only = ON")
    yield
    if journal._connection:
        journal._connection.execute("PRAGMA query_only = OFF")


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda journal: journal.record(put(9, "other")), id="record"),
        pytest.param(lambda journal: journal.forget([put(9, "other")]), id="forget"),
        pytest.param(Journal.checkpoint, id="checkpoint"),
        pytest.param(Journal.close, id="close"),
    ],
)
def test_what_could_not_be_forgotten_is_with_the_next_call(
    open_journal: Opener, durability: str, call: Callable[[Journal], None]
) -> None:
    journal = open_journal(durability=durability)
    changes = [put(1, "a"), put(2, "b"), put(3, "c")]
    for change in changes:
        journal.record(change)
    with trouble(journal):
        for change in changes[:2]:
            with pytest.raises(JournalError, match="read-only"):
                journal.forget([change])
    assert journal.pending == 3
    call(journal)
    assert shown(reopened(journal, open_journal)).keys() - {"other"} == {"c"}


def test_what_could_not_be_forgotten_leaves_a_newer_change_of_its_key(
    open_journal: Opener,
) -> None:
    journal = open_journal()
    journal.record(put(1, "a", b"old"))
    with trouble(journal), pytest.raises(JournalError):
        journal.forget([put(1, "a")])
    journal.record(put(2, "a", b"new"))
    assert shown(reopened(journal, open_journal)) == {"a": "new"}


def test_a_writer_does_not_wait_for_thousands_of_changes_that_could_not_be_forgotten(
    open_journal: Opener,
) -> None:
    journal = open_journal()
    changes = [put(number, f"k{number}") for number in range(1, 501)]
    for change in changes:
        journal.record(change)
    with trouble(journal), pytest.raises(JournalError):
        journal.forget(changes)
    pending = []
    for number in range(501, 505):
        journal.record(put(number, "other"))
        pending.append(journal.pending)
    assert pending == [301, 101, 1, 1]


def test_a_change_is_recorded_though_another_one_still_cannot_be_forgotten(
    open_journal: Opener,
) -> None:
    journal = open_journal()
    journal.record(put(1, "a"))
    assert journal._connection
    journal._connection.execute(
        "CREATE TEMP TRIGGER broken BEFORE DELETE ON writes BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(JournalError):
        journal.forget([put(1, "a")])
    journal.record(put(2, "b"))
    journal.checkpoint()
    assert list(shown(reopened(journal, open_journal))) == ["a", "b"]


def test_forgetting_a_change_leaves_a_newer_one_of_its_key(open_journal: Opener) -> None:
    journal = open_journal()
    older, newer = put(1, "a", b"old"), put(2, "a", b"new")
    journal.record(older)
    journal.record(newer)
    journal.forget([older])
    assert shown(reopened(journal, open_journal)) == {"a": "new"}


def test_forgetting_a_change_takes_an_older_one_of_its_key_along(open_journal: Opener) -> None:
    journal = open_journal()
    journal.record(put(1, "a"))
    journal.forget([put(2, "a")])
    assert not journal.pending


def test_an_older_change_that_comes_late_does_not_replace_a_newer_one(open_journal: Opener) -> None:
    journal = open_journal()
    journal.record(put(2, "a", b"new"))
    journal.record(put(1, "a", b"old"))
    assert shown(reopened(journal, open_journal)) == {"a": "new"}


def test_a_change_that_was_accepted_before_it_was_recorded_is_left_out(
    open_journal: Opener,
) -> None:
    journal = open_journal()
    journal.stands_for = lambda change: change.number > 1
    journal.record(put(1, "a"))
    journal.record(put(2, "b"))
    assert list(shown(reopened(journal, open_journal))) == ["b"]


def test_a_replayed_change_is_forgotten_by_the_number_that_it_has_since(
    open_journal: Opener,
) -> None:
    journal = open_journal()
    journal.record(put(5, "a"))
    journal.close()
    again = open_journal()
    again.forget([put(again.last_number + 1, "a")])
    assert not again.pending


def test_a_put_past_its_deadline_is_dropped_and_said(
    open_journal: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(wall=lambda: 1000.0)
    journal.record(put(1, "gone", expiry=Expiry(1100.0)))
    journal.record(put(2, "here", expiry=Expiry(1100.1)))
    replay = reopened(journal, open_journal, wall=lambda: 1100.0)
    assert replay.dropped == ["gone"]
    assert list(shown(replay)) == ["here"]
    assert "1 are past their deadline: 'gone'" in caplog.text
    caplog.clear()
    journal = open_journal(wall=lambda: 1000.0, path=journal.path + "2")
    assert not journal.replay().dropped


def test_what_was_dropped_or_failed_is_not_replayed_again(open_journal: Opener) -> None:
    journal = open_journal(wall=lambda: 1000.0)
    journal.record(put(1, "gone", expiry=Expiry(1100.0)))
    journal.record(put(2, "old"))
    journal.close()
    again = open_journal(wall=lambda: 1200.0, max_age=100)
    again.replay()
    assert not again.pending
    assert reopened(again, open_journal) == Replay()


def test_changes_older_than_max_age_fail_with_the_reason(open_journal: Opener) -> None:
    times = iter([1000.0, 1300.0])
    journal = open_journal(wall=lambda: next(times))
    journal.record(put(1, "old"))
    journal.record(deletion(2, "new"))
    replay = reopened(journal, open_journal, wall=lambda: 1400.0, max_age=100)
    assert replay.failed == {"old": "written 400 s ago, journal_max_age is 100 s"}
    assert replay.writes == [("new", None)]


@pytest.mark.parametrize("durability", ["process", "power"])
def test_threads_record_and_forget_at_once(open_journal: Opener, durability: str) -> None:
    journal = open_journal(durability=durability)
    numbers = count(1)

    def work(name: str) -> None:
        for turn in range(100):
            change = put(next(numbers), f"{name}{turn % 10}", str(turn).encode())
            journal.record(change)
            if turn < 95:
                journal.forget([change])

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"{name}{turn % 10}": str(turn) for name in "abcdef" for turn in range(95, 100)}
    assert shown(reopened(journal, open_journal)) == expected


@pytest.mark.parametrize("durability", ["process", "power"])
def test_threads_that_record_at_the_same_time_share_a_commit(
    open_journal: Opener, durability: str
) -> None:
    journal = open_journal(durability=durability)
    first = threading.Event()

    def wall() -> float:
        is_first = not first.is_set()
        first.set()
        while is_first and len(journal._queue) < 8:
            pass
        return 0.0

    journal._wall = wall
    leader = threading.Thread(target=journal.record, args=(put(1, "k1"),))
    leader.start()
    first.wait()
    others = [
        threading.Thread(target=journal.record, args=(put(number, f"k{number}"),))
        for number in range(2, 9)
    ]
    for thread in others:
        thread.start()
    for thread in (leader, *others):
        thread.join()
    assert journal.pending == 8
    assert journal.commits <= 2


def test_a_handler_that_records_inside_a_record_is_on_disk_when_it_returns(
    open_journal: Opener,
) -> None:
    journal = open_journal()
    inner = iter([put(2, "handler")])

    def wall() -> float:
        for change in inner:
            journal.record(change)
            assert journal.pending == 2  # what it interrupted came along
        return 0.0

    journal._wall = wall
    journal.record(put(1, "interrupted"))
    assert shown(reopened(journal, open_journal)) == {"interrupted": "value", "handler": "value"}


def test_a_thread_whose_call_was_lost_does_not_hold_up_others_for_ever(
    open_journal: Opener,
) -> None:
    journal = open_journal(durability="power")
    journal._writer = -1  # as an interrupt leaves it at a moment at which nothing can be done
    journal.record(put(1, "k"))
    assert shown(reopened(journal, open_journal)) == {"k": "value"}


def test_the_log_is_brought_home_and_begins_anew(open_journal: Opener, place: Path) -> None:
    journal = open_journal()
    log = place.with_name(place.name + "-wal")
    sizes = []
    for number in range(1, 41):
        journal.record(put(number, "k", b"v" * (CHECKPOINT // 4)))
        journal.checkpoint()
        sizes.append(log.stat().st_size)
    assert max(sizes) < 3 * CHECKPOINT
    assert len(reopened(journal, open_journal).writes) == 1


def test_a_checkpoint_without_need_does_nothing(open_journal: Opener, place: Path) -> None:
    journal = open_journal()
    journal.record(put(1, "k"))
    before = place.read_bytes()
    journal.checkpoint()
    assert place.read_bytes() == before


def test_large_values_are_not_in_the_way_of_others(tmp_path: Path) -> None:
    """With little memory to be had, which SQLite asks for to read a large value past a page."""
    said = run(
        """
import sqlite3
journal = Journal(sys.argv[1], namespace=NAMESPACE)
numbers = iter(range(1, 10**6))
keys = [f"k{number:04d}" for number in range(1000)]
for key in keys:
    journal.record(put(next(numbers), key))
for key in keys[::250]:
    journal.record(put(next(numbers), f"{key}-large", b"x" * 20_000_000))
journal.record(put(next(numbers), "k0000"))  # SQLite keeps the value that it was told last
sqlite3.connect(":memory:").execute("PRAGMA hard_heap_limit = 16000000")
changes = [put(next(numbers), key) for key in keys]
for change in changes:
    journal.record(change)
journal.forget(changes)
say(journal.pending)
journal.close()
""",
        tmp_path / "journal",
    )
    assert said == [4]


def test_writers_do_not_wait_for_thousands_of_forgotten_changes(open_journal: Opener) -> None:
    journal = open_journal()
    changes = [put(number, f"k{number}") for number in range(1, 2001)]
    for change in changes:
        journal.record(change)
    before = journal.commits
    journal.forget(changes)
    assert journal.commits - before == 10


def test_a_closed_journal_refuses_records_and_passes_over_the_rest(open_journal: Opener) -> None:
    journal = open_journal()
    change = put(1, "a", b"v" * CHECKPOINT)  # so much that a checkpoint is due
    journal.record(change)
    journal.close()
    journal.close()
    with pytest.raises(ClosedError, match="this write is not in it"):
        journal.record(put(2, "b"))
    journal.forget([change])
    journal.checkpoint()
    assert journal.pending == 1
    assert list(shown(open_journal().replay())) == ["a"]


def test_the_repr_says_what_there_is(open_journal: Opener, place: Path) -> None:
    journal = open_journal(durability="power")
    journal.record(put(1, "a"))
    about = f"{str(place)!r} of {NAMESPACE!r}, durability 'power'"
    assert repr(journal) == f"<Journal {about}, open, 1 pending>"
    journal.close()
    assert repr(journal) == f"<Journal {about}, closed, 1 pending>"


@pytest.mark.parametrize(
    "options",
    [{"durability": "disk"}, {"max_age": 0}, {"max_age": -1}, {"max_age": True}],
)
def test_options_that_make_no_sense_are_refused(
    open_journal: Opener, place: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        open_journal(**options)
    assert not place.exists()
