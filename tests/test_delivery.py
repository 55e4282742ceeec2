"""The delivery of a chunk: what is sent when it is too large, lost, refused or stored in part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from requests import PreparedRequest, ReadTimeout, Response

import kvdict
from kvdict.emulator.knobs import Fault
from tests.wire.support import Reply, refused, response_of
from tests.world import World, buffered_worlds

NEVER = 1e9


@pytest.fixture
def make() -> Iterator[Callable[..., World]]:
    """Return how to make worlds whose chunks are sent one by one, where nothing settles."""
    with buffered_worlds(max_age=NEVER) as make_world:
        yield make_world


def send(world: World) -> list[str]:
    """Send what is pending, each pair once unless its chunk is cut; return what was answered."""
    answered: list[str] = []
    world.adapter.after = lambda method, url: answered.append(f"{method} {what(url)}")
    world.kv._unchecked_backing.flusher.rounds.make(everything=True)
    return answered


def what(url: str) -> str:
    """Return what a request is about: `bulk`, `bulk/delete` or `values/KEY`."""
    return "/".join(url.partition("?")[0].partition("/namespaces/")[2].split("/")[1:])


def meet(world: World, *errors: BaseException | None) -> list[str]:
    """Let the next requests meet these errors instead of an answer; return what they are about."""
    left, asked = list(errors), list[str]()

    def before(_method: str, url: str) -> None:
        asked.append(what(url))
        error = left.pop(0) if left else None
        if error:
            raise error

    world.adapter.before = before
    return asked


def refuse(monkeypatch: pytest.MonkeyPatch, world: World, *refusals: Reply) -> None:
    """Let the next requests be answered so."""
    left, usual = list(refusals), world.adapter.send

    def answer(request: PreparedRequest, *args: Any, **options: Any) -> Response:
        return response_of(left.pop(0), request) if left else usual(request, *args, **options)

    monkeypatch.setattr(world.adapter, "send", answer)


def outcomes(world: World) -> Any:
    return world.kv._unchecked_backing.flusher.outcomes


@pytest.mark.parametrize(("passed", "method"), [(59.5, "PUT"), (60, "DELETE")])
def test_a_pair_is_put_until_its_deadline_and_deleted_from_then_on(
    make: Any, passed: float, method: str
) -> None:
    world = make()
    world.kv.put("k", 1, expiration_ttl=60)
    world.pass_time(passed)
    assert send(world) == [f"{method} values/k"]


def test_a_chunk_has_ten_million_bytes_at_most(make: Any) -> None:
    world = make(max_bytes=100_000_000)
    world.kv.update({str(number): "x" * 4_000_000 for number in range(3)})
    assert send(world) == ["PUT bulk", "PUT values/2"]
    assert world.kv.stats()["requests_saved"] == 1


def test_a_request_saved_is_a_write_that_had_none_of_its_own(make: Any) -> None:
    world = make()
    world.kv.update(a=1, b=2, c=3)
    send(world)
    assert world.kv.stats()["requests_saved"] == 2
    world.kv["d"] = 4
    send(world)
    assert world.kv.stats()["requests_saved"] == 2


def test_after_a_lost_answer_another_write_of_each_key_waits_though_its_half_was_stored(
    make: Any,
) -> None:
    world = make()
    world.kv.update(a=1, b=2)
    world.knobs.planned.append(Fault("524"))
    assert send(world) == ["PUT bulk", "PUT values/a", "PUT values/b"]
    world.kv.update(a=3, b=4)
    assert send(world) == []
    assert world.kv.buffer.held_for() == 120
    world.pass_time(120)
    assert send(world) == ["PUT bulk"]


@pytest.mark.parametrize(("first", "held"), [(524, 120), (413, 0)])
def test_a_loss_is_remembered_for_the_parts_of_a_part(
    make: Any, monkeypatch: pytest.MonkeyPatch, first: int, held: float
) -> None:
    world = make()
    world.kv.update(a=1, b=2, c=3, d=4)
    refuse(monkeypatch, world, refused(first), refused(413))
    assert send(world) == ["PUT values/a", "PUT values/b", "PUT bulk"]
    world.kv.update(a=5, b=6, c=7, d=8)
    assert world.kv.buffer.held_for() == held


def test_after_an_answer_the_next_write_of_a_key_waits_for_nothing(make: Any) -> None:
    world = make()
    for number in range(3):
        world.kv.update(a=number, b=number)
        assert send(world) == ["PUT bulk"]


@pytest.mark.parametrize(
    ("write", "asked"),
    [
        (lambda kv: kv.update(a=1), ["values/a"]),
        (lambda kv: kv.delete("a"), ["values/a"]),
        (lambda kv: kv.update(a=1, b=1), ["bulk", "values/a"]),
        (lambda kv: kv.delete_many(["a", "b"]), ["bulk/delete", "values/a"]),
    ],
    ids=["put", "delete", "put many", "delete many"],
)
def test_what_was_lost_is_not_sent_again_before_it_is_seen_whether_something_newer_came(
    make: Any, write: Any, asked: list[str]
) -> None:
    world = make()
    write(world.kv)
    told = meet(world, *[ReadTimeout("no answer")] * len(asked))
    send(world)
    assert told == asked
    world.pass_time(1)  # the next try is not before
    world.kv["a"] = "newer"
    assert send(world) in ([], ["PUT values/b"], ["DELETE values/b"])
    assert world.kv.buffer.held_for() == 119


@pytest.mark.parametrize(("status", "held"), [(500, 0), (502, 0), (504, 120), (524, 120)])
def test_only_a_write_of_unknown_outcome_keeps_another_one_waiting(
    make: Any, monkeypatch: pytest.MonkeyPatch, status: int, held: float
) -> None:
    world = make()
    world.kv["k"] = 1
    with monkeypatch.context() as patch:
        refuse(patch, world, *[refused(status)] * 50)
        send(world)
    world.kv["k"] = 2
    assert world.kv.buffer.held_for() == held


def test_what_is_left_of_a_chunk_stays_pending_when_a_part_of_it_fails(make: Any) -> None:
    world = make()
    world.kv.update(a=1, b=2, c=3, d=4)
    told = meet(world, ReadTimeout("no answer"), ValueError("a token that cannot be had"))
    send(world)
    assert len(told) == 2
    assert list(world.kv.buffer.pending) == ["a", "b", "c", "d"]
    assert not world.kv.buffer.sealed
    assert world.kv.flush().sent == 4


def test_a_search_for_refused_pairs_takes_64_requests_beside_those_of_the_refused(
    make: Any,
) -> None:
    world = make()
    world.kv.update({f"{number:04}": number for number in range(1000)})
    for change in world.kv.buffer.pending.values():
        object.__setattr__(change.write, "key", "x" * 600)  # what no check of ours let through
    requests = len(send(world))
    failed = world.kv.stats()["failed"]
    assert failed > 0
    assert requests == 64 + failed + 1
    assert len(world.kv.buffer.pending) == 1000 - failed
    world.kv.buffer.pending.clear()
    with pytest.raises(kvdict.FlushError):
        world.kv.flush()


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_pair_that_is_named_is_sent_apart_from_all_others(
    make: Any, monkeypatch: pytest.MonkeyPatch, quote: str
) -> None:
    world = make()
    world.kv.update(a=1, b=2, c=3, d=4)
    refuse(monkeypatch, world, refused(400, 10012, f"the value of {quote}b{quote} is not valid"))
    assert send(world) == ["PUT values/b", "PUT bulk"]


@pytest.mark.parametrize(
    ("code", "failed"),
    [(code, 1) for code in (10012, 10023, 10024, 10030, 10033, 10034, 10042, 10047, 10147)]
    + [(10026, 0)],
)
def test_a_write_is_given_up_if_the_code_says_that_it_is_to_blame(
    make: Any, monkeypatch: pytest.MonkeyPatch, code: int, failed: int
) -> None:
    world = make()
    world.kv["k"] = 1
    refuse(monkeypatch, world, refused(400, code))
    send(world)
    assert world.kv.stats()["failed"] == failed
    assert world.kv.stats()["pending"] == 1 - failed
    outcomes(world).start_again()


def test_deletions_that_did_not_reach_all_storage_are_sent_again(make: Any) -> None:
    told: list[str] = []
    world = make(on_error=lambda error: told.append(str(error)))
    world.fill(dict.fromkeys("abcd", b"1"))
    world.kv.delete_many(list("abcd"))
    world.knobs.planned.append(Fault("partial"))
    assert world.kv.flush(timeout=100).sent == 4
    assert list(world.kv) == []
    assert world.kv.stats()["flush_retries"] == 1
    assert told == ["2 writes were not stored everywhere"]


def test_the_wait_grows_with_each_failure_and_begins_anew_once_all_was_stored(make: Any) -> None:
    world = make()

    def wait_after_a_partial_one() -> float:
        world.kv.update({str(number): number for number in range(8)})
        world.knobs.planned.append(Fault("partial"))
        send(world)
        wait: float = outcomes(world).resume_at - world.time
        world.time = outcomes(world).resume_at
        return wait

    assert [wait_after_a_partial_one() for _ in range(3)] == [0.5, 1.0, 2.0]
    send(world)
    assert wait_after_a_partial_one() == 0.5


@pytest.mark.parametrize(("left", "kept"), [(60, 0), (59, 61), (30, 61)])
def test_a_pair_that_the_service_keeps_past_its_deadline_is_hidden_for_as_long(
    make: Any, left: float, kept: float
) -> None:
    world = make()
    world.kv.put("k", 1, expiration_ttl=60)
    world.pass_time(60 - left)
    world.kv.flush()
    if kept:
        world.pass_time(kept - 1.5)
        assert world.kv.client.get_value(world.kv.id, "k").data == b"1"
        assert "k" not in world.kv
        world.pass_time(1)
        assert world.kv.buffer.get("k")
        world.pass_time(0.5)
    assert world.kv.buffer.get("k") is None


def test_a_refused_pair_leaves_the_journal_too(tmp_path: Path) -> None:
    def open_it() -> kvdict.KVNamespace[Any]:
        buffer = kvdict.WriteBuffer(journal=tmp_path / "k.journal", max_age=NEVER)
        return kvdict.open(tmp_path / "k.db", buffer=buffer)

    kv = open_it()
    kv["bad"] = 1
    object.__setattr__(kv.buffer.pending["bad"].write, "metadata", '"' + "x" * 2000 + '"')
    with pytest.raises(kvdict.FlushError, match="Metadata"):
        kv.flush()
    kv.close()
    with open_it() as again:
        assert again.stats()["pending"] == 0


def test_a_journal_that_cannot_forget_is_told_of_and_stops_nothing(
    make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Exception] = []
    world = make(journal=tmp_path / "k.journal", on_error=told.append)
    world.kv.update(a=1, b=2)
    world.kv._unchecked_backing.flusher.journal._connection.execute(
        "CREATE TRIGGER broken BEFORE DELETE ON writes BEGIN SELECT RAISE(ABORT, 'no disk'); END"
    )
    assert world.kv.flush().sent == 2
    assert world.kv.stats()["pending"] == 0
    (error,) = told
    assert isinstance(error, kvdict.JournalError)
    assert "no disk" in str(error)
    assert "2 writes were accepted, and not taken off the journal" in caplog.text
    assert "no disk" in caplog.text


def test_a_log_that_cannot_be_brought_home_is_told_of_and_stops_nothing(
    make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvdict.journal.CHECKPOINT", 0)
    told: list[Exception] = []
    world = make(journal=tmp_path / "k.journal", on_error=told.append)
    world.kv["k"] = 1
    connection = world.kv._unchecked_backing.flusher.journal._connection
    connection.execute("PRAGMA query_only = ON")
    assert world.kv.flush().sent == 1
    connection.execute("PRAGMA query_only = OFF")
    assert [type(error) for error in told] == [kvdict.JournalError] * 2
    assert "not taken off the journal" in caplog.text
    assert "the journal could not be brought up to date" in caplog.text
    assert world.kv.stats()["pending"] == 0


def test_what_a_token_callable_raises_is_the_cause_and_keeps_the_write_pending() -> None:
    def broken() -> str:
        raise ValueError("no token today")

    buffer = kvdict.WriteBuffer(max_age=NEVER)
    kv = kvdict.open("b" * 32, account_id="a" * 32, token=broken, buffer=buffer)
    kv.update(a=1, b=2)
    with pytest.raises(kvdict.FlushError, match="2 writes are pending: .*no token today") as caught:
        kv.flush()
    assert isinstance(caught.value.__cause__, ValueError)
    assert kv.stats()["pending"] == 2
    buffer.pending.clear()
    kv.close()
