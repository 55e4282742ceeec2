"""Clocks that jump, a machine that sleeps, a name server that is away, crowds and masses."""

from __future__ import annotations

import runpy
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

import kvdict
from kvdict import ReadCache, WriteBuffer, clock
from kvdict.clock import ServiceClock, since_boot, steady_wall
from kvdict.codecs import BYTES
from kvdict.emulator import Emulator, Store, serve
from tests.conftest import account_of
from tests.wire.support import Reply, Seen, Time, ok
from tests.world import World

from .support import KV, namespace_on

HOUR = 3600.0


class Kept:
    """A service that keeps what it is sent, and answers by a clock of its own."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.writes: list[Seen] = []
        self.away: BaseException | None = None

    def __call__(self, seen: Seen) -> Reply | BaseException:
        if self.away:
            return self.away
        if seen.method == "GET":
            return Reply(404, b"")
        self.writes.append(seen)
        count = len(seen.json) if seen.path.endswith(("bulk", "delete")) else 1
        return ok({"successful_key_count": count, "unsuccessful_keys": []})


# Clocks


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_machine_whose_clock_is_set_goes_on_in_its_own_time(
    monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    now = time.time()
    before = steady_wall()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    assert abs(steady_wall() - before) < 60
    assert abs(ServiceClock().now() - before) < 60
    monkeypatch.undo()


def test_what_waits_to_be_sent_lives_by_that_clock() -> None:
    """Else an hour forward would make a deletion of a pair that has half an hour to live."""
    with kvdict.open("memory://") as kv:
        assert kv.client.transport.clock.wall is steady_wall


def test_the_cache_goes_by_a_clock_that_goes_on_while_the_machine_sleeps() -> None:
    assert ReadCache().timer is since_boot


@pytest.mark.parametrize(
    ("missing", "passed"),
    [([], 30), (["CLOCK_BOOTTIME"], 20), (["CLOCK_BOOTTIME", "CLOCK_MONOTONIC"], 10)],
)
def test_of_the_machine_s_clocks_the_one_that_stands_still_least_is_taken(
    monkeypatch: pytest.MonkeyPatch, missing: list[str], passed: float
) -> None:
    """Linux has all three, macOS two, Windows one: elsewhere they are as they are told to be here.

    Each has told 500 s when the module is loaded, and then goes on at its own pace.
    """
    told = {"boot": 500.0, "monotonic": 500.0, "plain": 500.0, "wall": 1_800_000_000.0}
    with monkeypatch.context() as machine:
        machine.setattr(time, "CLOCK_BOOTTIME", "boot", raising=False)
        machine.setattr(time, "CLOCK_MONOTONIC", "monotonic", raising=False)
        for name in missing:
            machine.delattr(time, name)
        machine.setattr(time, "clock_gettime", told.__getitem__, raising=False)
        machine.setattr(time, "monotonic", lambda: told["plain"])
        machine.setattr(time, "time", lambda: told["wall"])
        loaded = runpy.run_path(clock.__file__)
        assert loaded["steady_wall"]() == 1_800_000_000
        told.update(boot=530, monotonic=520, plain=510, wall=1_900_000_000)
        assert loaded["since_boot"]() == 500 + passed
        assert loaded["steady_wall"]() == 1_800_000_000 + passed


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_cached_pair_ends_by_the_service_s_clock_whatever_ours_is_set_to(jump: float) -> None:
    world = World(cache={"ttl": 10 * HOUR}, skew=jump)
    world.kv.put("k", 1, expiration_ttl=100)
    assert world.kv["k"] == 1
    world.pass_time(90)
    assert world.kv["k"] == 1
    world.pass_time(20)
    assert "k" not in world.kv


def test_a_machine_that_sleeps_for_an_hour_sends_on_waking_what_waited() -> None:
    """The monotonic clock stands still; the service's goes on."""
    mine = Time()
    service = Kept(mine)
    buffer = WriteBuffer(clock=mine, max_age=HOUR * 10)
    kv = namespace_on(service, time=mine, buffer=buffer)
    kv.put("k", "v", expiration_ttl=2 * HOUR)
    wall = mine.wall
    mine.wall = lambda: wall() + HOUR  # type: ignore[method-assign] # the sleep
    kv._backing.clock.wall = mine.wall
    kv.close()
    assert [seen.method for seen in service.writes] == ["PUT"]
    assert service.writes[0].query in {"expiration_ttl=3600", "expiration_ttl=3599"}


def test_a_window_that_passed_in_its_sleep_is_waited_for_once_at_most() -> None:
    budget_time = Time()
    budget = kvdict.RateBudget(clock=budget_time, sleep=budget_time.sleep)
    headers = {"Ratelimit": '"default";r=0;t=300', "Ratelimit-Policy": '"default";q=1200;w=300'}
    budget.acquire(0)
    budget.release(headers)
    assert budget.acquire(10) == pytest.approx(300)
    assert budget.acquire(400) is None  # it slept the 300 s
    assert budget_time.now == pytest.approx(1300)


# A name server that is away


def test_five_minutes_without_names_lose_nothing_and_do_not_hammer() -> None:
    mine = Time()
    service = Kept(mine)
    service.away = socket.gaierror(-3, "Temporary failure in name resolution")
    told: list[Exception] = []
    buffer = WriteBuffer(clock=mine, max_age=10 * HOUR, on_error=told.append)
    kv = namespace_on(service, time=mine, buffer=buffer)
    for number in range(100):
        kv[f"k{number}"] = "v"
    with pytest.raises(kvdict.FlushError) as caught:
        kv.flush(timeout=300)
    assert caught.value.pending == 100
    assert mine.now >= 1300
    asked = kv.stats()["requests"]
    assert 10 <= asked <= 80
    assert all("name resolution" in str(error) for error in told)
    assert kv["k7"] == "v"
    service.away = None
    kv.close()
    assert sum(len(seen.json) for seen in service.writes) == 100


# Crowds


@pytest.mark.parametrize("threads", [100, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("home", ["file", "served"])
def test_a_crowd_of_threads_on_one_handle_loses_nothing(
    tmp_path: Any, home: str, threads: int
) -> None:
    errors: list[BaseException] = []
    with closing(Store(None)) as store, serve(Emulator(store)) as server:
        where = f"{account_of(server)}/crowd" if home == "served" else f"sqlite:///{tmp_path}/kv.db"
        with kvdict.open(where, create=True, cache=True) as kv:
            start = threading.Barrier(threads)

            def work(number: int) -> None:
                try:
                    start.wait(60)
                    kv[f"k{number}"] = number
                    assert kv[f"k{number}"] == number
                    assert kv.setdefault("shared", number) in range(threads)
                    assert f"missing{number % 7}" not in kv
                except BaseException as error:
                    errors.append(error)

            crowd = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
            for thread in crowd:
                thread.start()
            for thread in crowd:
                thread.join(120)
            assert errors == []
            kv.flush()
            assert len(kv) == threads + 1
            assert sum(value for key, value in kv.items() if key != "shared") == sum(range(threads))


@pytest.mark.slow
@pytest.mark.parametrize("buffered", [False, True])
def test_a_value_of_25_mib_among_ten_thousand_pairs_is_stored_in_bounded_memory(
    buffered: bool,
) -> None:
    most = "v" * (25 * 1024 * 1024)

    def pairs() -> Iterator[tuple[str, str]]:
        for number in range(10_000):
            yield f"k{number:05}", most if number == 5000 else "v"

    with closing(Store(None)) as store, serve(Emulator(store)) as server:
        where = f"{account_of(server)}/large"
        with kvdict.open(where, create=True, codec="text", buffer=buffered) as kv:
            before = kv.stats()["requests"]
            kv.put_many(pairs())
            kv.flush()
            assert kv.stats()["requests"] - before <= 6
            assert len(kv) == 10_000
            kv.refresh("k05000")
            assert kv["k05000"] == most
            found = dict(kv.items())
            assert found["k05000"] == most
            assert len(found) == 10_000


def test_the_largest_values_are_stored_one_a_request_in_bounded_memory() -> None:
    """In parts of 10 MB, of which one value may be more."""
    most = b"v" * (25 * 1024 * 1024)
    sizes: list[int] = []

    def answer(seen: Seen) -> Reply:
        sizes.append(len(seen.body))
        return ok({"successful_key_count": 1, "unsuccessful_keys": []})

    kv: KV = namespace_on(answer, codec=BYTES)
    tracemalloc.start()
    kv.put_many((f"k{number}", most) for number in range(4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sizes == [len(most)] * 4
    assert peak < 20 * len(most)
