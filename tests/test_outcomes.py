"""What is told of writes that were sent: when they are tried again, what is raised, and once."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from requests import PreparedRequest, Response

import kvdict
from kvdict.emulator.knobs import Fault
from tests.wire.support import Reply, refused, response_of
from tests.world import World, buffered_worlds

NEVER = 1e9


@pytest.fixture
def make() -> Iterator[Callable[..., World]]:
    """Return how to make worlds that send when they are told to."""
    with buffered_worlds(max_age=NEVER) as make_world:
        yield make_world


def send(world: World) -> None:
    world.kv._unchecked_backing.flusher.rounds.make(everything=True)


def outcomes(world: World) -> Any:
    return world.kv._unchecked_backing.flusher.outcomes


def spoil(world: World, *keys: str) -> None:
    """Let pending pairs be refused, each by itself."""
    for key in keys:
        metadata = '"' + "x" * 2000 + '"'  # what no check of ours let through
        object.__setattr__(world.kv.buffer.pending[key].write, "metadata", metadata)


@pytest.mark.parametrize(
    ("reply", "wait"),
    [
        (refused(429, 10048), 86_400 - 1_800_000_000 % 86_400),  # the day's quota
        (refused(429, 971, headers={"Retry-After": "77"}), 77),
        (refused(404, 10013), 30),
        (refused(524), 0.5),
    ],
    ids=["quota", "asked for", "for a person", "may pass"],
)
def test_it_is_tried_again_when_that_may_help(
    make: Any, monkeypatch: pytest.MonkeyPatch, reply: Reply, wait: float
) -> None:
    world = make()

    def answer(request: PreparedRequest, *_args: Any, **_options: Any) -> Response:
        return response_of(reply, request)

    with monkeypatch.context() as patch:
        patch.setattr(world.adapter, "send", answer)
        world.kv["k"] = 1
        send(world)
    assert outcomes(world).resume_at == world.time + wait
    assert world.kv.stats()["flush_retries"] == 1
    outcomes(world).retry_now()
    assert outcomes(world).resume_at <= world.time
    assert world.kv.flush().sent == 1


def test_no_wait_is_longer_than_half_a_minute_however_often_it_fails(make: Any) -> None:
    world = make()
    waits = []
    for _ in range(14):
        world.kv["k"] = 1
        world.knobs.planned.append(Fault("524"))
        world.pass_time(120)
        send(world)
        waits.append(outcomes(world).resume_at - world.time)
        world.time = outcomes(world).resume_at
    assert waits == [0.5, 1, 2, 4, 8, 16] + [30] * 8


@pytest.mark.parametrize(
    ("code", "level"), [(None, logging.WARNING), (10013, logging.ERROR)], ids=["passes", "stays"]
)
def test_what_stays_pending_is_logged_and_told(
    make: Any, caplog: pytest.LogCaptureFixture, code: int | None, level: int
) -> None:
    told: list[Exception] = []
    world = make(on_error=told.append)
    world.kv.update(a=1, b=2)
    if code:
        world.kv.client.delete_namespace(world.kv.id)
    else:
        world.knobs.planned.extend([Fault("524")] * 2)
    send(world)
    outcomes(world).pass_on()
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.levelno == level
    assert record.getMessage() == f"2 writes are still pending: {told[0]}"
    assert len(told) == 1
    assert isinstance(told[0], kvdict.NotFoundError if code else kvdict.ServerError)


def test_a_complaint_that_was_mended_by_itself_refuses_no_write(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make()
    world.kv.update(a=1, b=2)

    def refuse(request: PreparedRequest, *_: Any, **__: Any) -> Response:
        return response_of(refused(403, 10000), request)

    with monkeypatch.context() as patch:
        patch.setattr(world.adapter, "send", refuse)
        send(world)
    assert isinstance(outcomes(world).alarm, kvdict.AuthError)
    world.pass_time(60)
    send(world)
    world.kv["next"] = 3
    assert world.kv.flush().sent == 1


def test_what_is_logged_counts_all_that_waits_not_one_request_of_it(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world = make()
    world.kv["gone"] = 1
    send(world)
    world.kv.update(a=1, b=2)
    del world.kv["gone"]  # in a request of its own
    world.knobs.planned.extend([Fault("524")] * 2)
    send(world)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage().startswith("3 writes are still pending: ")


def test_a_refused_write_is_logged_and_told_with_the_reason(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Exception] = []
    world = make(on_error=told.append)
    world.kv["bad"] = 1
    spoil(world, "bad")
    with pytest.raises(kvdict.FlushError):
        world.kv.flush()
    assert [record.getMessage() for record in caplog.records if record.name == "kvdict"] == [
        f"the write of key 'bad' was refused: {told[0]}"
    ]


def test_an_error_names_three_refused_keys_what_is_pending_and_all_in_its_attributes(
    make: Any,
) -> None:
    world = make()
    world.kv.update(dict.fromkeys("abcde", 1))
    spoil(world, *"abcd")
    send(world)
    assert world.kv.stats()["failed"] == 4
    with pytest.raises(kvdict.FlushError) as caught:
        world.kv["more"] = 1
    error = caught.value
    assert str(error).count(" was refused: ") == 3
    assert str(error).endswith("; this write was not taken; write again")
    assert list(error.failed) == list("abcd")
    assert error.pending == 0
    assert error.keys == tuple("abcd")
    assert world.kv.stats()["failed"] == 0
    world.kv["more"] = 1


def test_what_is_both_refused_and_pending_again_is_named_once(make: Any) -> None:
    world = make()
    world.kv["k"] = 1
    spoil(world, "k")
    send(world)
    world.kv.buffer.add("k", None)
    world.kv.buffer.add("j", None)
    with pytest.raises(
        kvdict.FlushError, match=r"'k' was refused: .*; 2 writes are pending: "
    ) as caught:
        world.kv["more"] = 1
    assert caught.value.keys == ("k", "j")
    assert caught.value.pending == 2
    assert caught.value.__cause__ is None


def test_what_was_raised_where_nobody_heard_it_is_raised_again(make: Any) -> None:
    world = make()
    world.kv.update(a=1, b=2)
    spoil(world, "a")
    with pytest.raises(kvdict.FlushError) as first:
        world.kv.flush()
    world.kv["c"] = 3
    spoil(world, "c")
    send(world)
    outcomes(world).tell_again(first.value)
    with pytest.raises(kvdict.FlushError) as again:
        world.kv.flush()
    assert again.value.failed.keys() == {"a", "c"}
    assert again.value.failed["a"] == first.value.failed["a"]


def test_a_cause_that_nobody_heard_of_is_raised_again_unless_a_newer_one_is(make: Any) -> None:
    world = make()
    older, newer = kvdict.FlushError("older"), kvdict.NotFoundError("newer")
    older.__cause__ = kvdict.AuthError("older")
    outcomes(world).tell_again(older)
    with pytest.raises(kvdict.FlushError, match="^older; this write") as caught:
        world.kv["k"] = 1
    assert caught.value.__cause__ is older.__cause__
    outcomes(world).alarm = newer
    outcomes(world).tell_again(older)
    assert outcomes(world).alarm is newer


def test_a_flush_that_is_late_names_what_is_pending_and_takes_no_report_away(make: Any) -> None:
    world = make()
    world.kv.update(a=1, b=2)
    with pytest.raises(kvdict.FlushError) as caught:
        outcomes(world).raise_if_late(world.kv.buffer.number, 12.3456)
    assert str(caught.value) == (
        "2 writes are pending: 'a', 'b'; not all was sent within 12.3 s; flush again"
    )
    world.knobs.planned.extend([Fault("524")] * 2)
    send(world)
    with pytest.raises(kvdict.FlushError, match=r"within 1 s \(PUT .*524"):
        outcomes(world).raise_if_late(world.kv.buffer.number, 1)
    world.time = outcomes(world).resume_at
    send(world)
    outcomes(world).raise_if_late(world.kv.buffer.number, 1)
    world.kv["c"] = 1
    with pytest.raises(kvdict.FlushError, match="within 1 s; flush again"):
        outcomes(world).raise_if_late(world.kv.buffer.number, 1)


def test_its_statistics_count_from_nothing(make: Any) -> None:
    world = make()
    names = ["flushes", "requests_saved", "flush_retries", "failed"]
    assert [world.kv.stats()[name] for name in names] == [0, 0, 0, 0]
    send(world)
    assert world.kv.stats()["flushes"] == 0
    world.kv.update(a=1, b=2, c=3)
    send(world)
    assert [world.kv.stats()[name] for name in names] == [1, 2, 0, 0]
    world.kv["k"] = 1
    world.knobs.planned.append(Fault("524"))
    send(world)
    assert [world.kv.stats()[name] for name in names] == [1, 1, 1, 0]


def test_only_the_thread_that_calls_a_callback_is_told_nothing_meanwhile(make: Any) -> None:
    seen: list[bool] = []

    def ask() -> None:
        seen.append(outcomes(world).is_told_here)

    def flushed(_result: kvdict.FlushResult) -> None:
        ask()
        other = threading.Thread(target=ask)
        other.start()
        other.join()

    world = make(on_flush=flushed)
    world.kv["k"] = 1
    world.kv.flush()
    ask()
    assert seen == [True, False, False]


def test_who_asks_to_be_told_nothing_is_told_nothing(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world = make()
    world.kv["k"] = 1
    assert world.kv.flush().sent == 1
    assert caplog.records == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_is_told_nothing_of_the_parents_writes(make: Any) -> None:
    world = make()
    world.kv["bad"] = 1
    spoil(world, "bad")
    send(world)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 2 if outcomes(world).failed else 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with pytest.raises(kvdict.FlushError):
        world.kv.flush()
