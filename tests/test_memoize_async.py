"""`kv.memoize` for coroutine functions: the event loop never waits for KV."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

import kvdict
from kvdict import KVNamespace
from tests.slow import Slow
from tests.world import World

Spent = Callable[[KVNamespace[Any], Callable[[], Any]], float]


@pytest.fixture
def kv() -> Iterator[KVNamespace[Any]]:
    with kvdict.open("memory://") as namespace:
        yield namespace


@pytest.fixture
def slow() -> Iterator[Slow]:
    with Slow().served() as service:
        yield service


class Counted:
    """A coroutine function that counts its calls, and waits until it is let go."""

    def __init__(self, *, held: bool = False) -> None:
        self._numbers = itertools.count(1)
        self.calls = 0
        self._held = held
        self.entered = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self) -> int:
        self.calls += 1
        number = next(self._numbers)
        if self._held:
            self.entered.set()
            await self.go.wait()
        return number


def test_a_coroutine_function_is_awaited_once_for_the_same_arguments(
    kv: KVNamespace[Any], spent: Spent
) -> None:
    made = Counted()

    @kv.memoize()
    async def f(a: int, b: int = 2) -> list[int]:
        """Count."""
        return [await made()]

    async def main() -> None:
        first = await f(1)
        first.append(5)
        assert await f(1, 2) == await f(b=2, a=1) == [1]
        assert await f(2) == [2]
        await f.invalidate(1)
        assert await f(1) == [3]
        assert await f.refresh(1) == [4]
        assert await f(1) == [4]
        assert f.cache_info() == (3, 3, 0)
        assert await f.__wrapped__(1) == [5]
        await f.clear()
        assert not kv

    asyncio.run(main())
    assert f.__doc__ == "Count."
    assert list(inspect.signature(f).parameters) == ["a", "b"]
    assert spent(kv, lambda: asyncio.run(f(1))) == 2
    assert spent(kv, lambda: asyncio.run(f(1))) == 1


def knowing() -> Iterator[Any]:
    """Yield the functions of this Python that know what is marked as a coroutine function."""
    if sys.version_info < (3, 14):
        yield pytest.param(asyncio.iscoroutinefunction, id="asyncio")
    if sys.version_info >= (3, 12):  # there is no mark before
        yield pytest.param(inspect.iscoroutinefunction, id="inspect")


@pytest.mark.parametrize("knows", list(knowing()))
def test_frameworks_that_ask_know_it_for_a_coroutine_function(
    kv: KVNamespace[Any], knows: Callable[[object], bool]
) -> None:
    @dataclass
    class Shop:
        @kv.memoize()
        async def price(self) -> int:
            return 1

        @kv.memoize()
        def size(self) -> int:
            return 1

    assert knows(Shop.price)
    assert knows(Shop().price)
    assert not knows(Shop.size)
    assert not knows(Shop().size)


def test_parameters_may_have_any_name(kv: KVNamespace[Any]) -> None:
    numbers = itertools.count(1)

    @kv.memoize
    async def f(self: int) -> Any:
        return [self, next(numbers)]

    async def use() -> None:
        assert await f(self=5) == await f(self=5) == [5, 1]
        assert await f.refresh(self=5) == [5, 2]
        await f.invalidate(self=5)
        assert await f(self=5) == [5, 3]

    asyncio.run(use())


def test_methods_that_are_coroutines(kv: KVNamespace[Any]) -> None:
    made = Counted()

    @dataclass
    class Shop:
        name: str

        @kv.memoize
        async def price(self) -> list[Any]:
            return [self.name, await made()]

        @kv.memoize(5)
        @classmethod
        async def size(cls) -> list[Any]:
            return [cls.__name__, await made()]

    async def main() -> None:
        assert await Shop("a").price() == await Shop("a").price() == ["a", 1]
        assert await Shop("b").price() == ["b", 2]
        await Shop("a").price.invalidate()
        assert await Shop("a").price() == ["a", 3]
        assert await Shop.size() == await Shop("a").size() == ["Shop", 4]

    asyncio.run(main())


# The event loop is never held up


async def asked(slow: Slow) -> None:
    """Run on until the service has a request: a loop that is held up never gets there."""
    while not slow.requests:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("ttl", [None, 5])
@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("buffer", [False, True])
def test_a_service_that_hangs_does_not_hold_up_the_loop(
    slow: Slow, monkeypatch: pytest.MonkeyPatch, ttl: float | None, cache: bool, buffer: bool
) -> None:
    monkeypatch.setattr("kvdict.breaker.PATIENCE", 60)
    kv = slow.open(buffer=buffer, cache=cache)

    @kv.memoize(ttl, prefix="f:")
    async def f(n: int) -> int:
        return n

    kv["f:1"] = 1
    kv.flush()
    kv.refresh("f:1")
    if cache:
        kv.prefetch(["f:1"])  # without metadata, so that a deadline has to be asked for

    async def main() -> None:
        calls = asyncio.gather(f(1), f(2), f(3), f.refresh(4), f.invalidate(5), f.clear())
        await asked(slow)
        slow.answer()
        assert list(await calls)[:4] == [1, 2, 3, 4]

    with slow.hanging():
        asyncio.run(main())
    assert not slow.given_up


def test_a_write_that_hangs_does_not_hold_up_the_loop(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvdict.breaker.PATIENCE", 60)
    kv = slow.open(buffer=False)
    with ExitStack() as stack:

        @kv.memoize()
        async def f() -> int:
            stack.enter_context(slow.hanging())
            return 1

        async def main() -> None:
            call = asyncio.create_task(f())
            await asked(slow)
            slow.answer()
            assert await call == 1

        asyncio.run(main())
    assert not slow.given_up
    assert f.cache_info() == (0, 1, 0)


def test_a_service_that_hangs_costs_a_coroutine_its_patience(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvdict.breaker.PATIENCE", 0.3)
    kv = slow.open(buffer=False)

    @kv.memoize(prefix="f:")
    async def f(n: int) -> int:
        return n

    async def main() -> None:
        assert list(await asyncio.gather(f(1), f(2), f(3), f.refresh(4))) == [1, 2, 3, 4]
        assert await f(2) == 2

    with slow.hanging():
        asyncio.run(main())
    assert not slow.given_up
    assert f.cache_info().errors >= 2


def test_a_deadline_that_was_not_read_is_asked_for() -> None:
    with kvdict.open("memory://", cache=True) as kv:
        made = Counted()

        @kv.memoize(0.05, prefix="f:")
        async def f() -> int:
            return await made()

        async def main() -> None:
            assert await f() == 1
            kv.refresh("f:")
            kv.prefetch(["f:"])
            await asyncio.sleep(0.06)
            assert await f() == 2

        asyncio.run(main())


def test_what_is_at_hand_costs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    with kvdict.open("memory://", cache=True) as kv:

        @kv.memoize(5)
        async def f() -> int:
            return 1

        async def main() -> None:
            await f()
            monkeypatch.setattr(asyncio, "to_thread", None)
            assert await f() == 1

        asyncio.run(main())


def test_without_kv_the_coroutine_is_awaited_and_errors_are_counted() -> None:
    def away(method: str, url: str) -> None:
        raise ValueError("no route")

    world = World()
    made = Counted()

    @world.kv.memoize()
    async def f() -> int:
        return await made()

    @world.kv.memoize(on_error="raise")
    async def strict() -> int:
        return await made()

    world.adapter.before = away
    assert asyncio.run(f()) == 1
    assert f.cache_info() == (0, 1, 2)
    for work in (strict, strict.refresh, f.invalidate, f.clear):
        with pytest.raises(kvdict.TransportError, match="no route"):
            asyncio.run(work())


# One flight


def test_64_tasks_make_one_call_and_2_requests(kv: KVNamespace[Any], spent: Spent) -> None:
    made = Counted()

    @kv.memoize()
    async def f() -> list[int]:
        return [await made()]

    async def main() -> None:
        results = await asyncio.gather(*(f() for _ in range(64)))
        assert results == [[1]] * 64
        assert len({id(result) for result in results}) == 64

    assert spent(kv, lambda: asyncio.run(main())) == 2
    assert made.calls == 1
    assert f.cache_info() == (63, 1, 0)


def test_who_gives_up_waiting_does_not_take_the_result_from_the_others(
    kv: KVNamespace[Any],
) -> None:
    made = Counted(held=True)

    @kv.memoize()
    async def f() -> int:
        return await made()

    async def main() -> None:
        first, second = asyncio.create_task(f()), asyncio.create_task(f())
        await made.entered.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        third = asyncio.create_task(f())
        await asyncio.sleep(0)
        made.go.set()
        assert list(await asyncio.gather(second, third)) == [1, 1]

    asyncio.run(main())


def test_a_call_that_all_have_given_up_is_remembered_all_the_same(kv: KVNamespace[Any]) -> None:
    made = Counted(held=True)

    @kv.memoize(prefix="f:")
    async def f() -> int:
        return await made()

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(f(), 0.01)
        await made.entered.wait()
        made.go.set()
        assert await f() == 1

    asyncio.run(main())
    assert kv["f:"] == 1


def test_an_exception_that_nobody_waits_for_is_not_complained_about(kv: KVNamespace[Any]) -> None:
    made = Counted(held=True)
    complaints: list[Any] = []

    @kv.memoize()
    async def f() -> None:
        await made()
        raise LookupError("gone")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(f(), 0.01)
        made.go.set()
        with pytest.raises(LookupError):
            await f()

    asyncio.run(main())
    assert complaints == []


def test_all_who_wait_get_the_exception_and_the_next_call_is_made_anew(
    kv: KVNamespace[Any],
) -> None:
    made = Counted()

    @kv.memoize()
    async def f() -> str:
        if await made() == 1:
            raise LookupError("gone")
        return "here"

    async def main() -> None:
        results = await asyncio.gather(*(f() for _ in range(8)), return_exceptions=True)
        assert [str(error) for error in results] == ["gone"] * 8
        assert await f() == "here"

    asyncio.run(main())


def test_a_call_that_is_cancelled_before_it_begins_is_made_anew(kv: KVNamespace[Any]) -> None:
    made = Counted()

    @kv.memoize()
    async def f() -> int:
        return await made()

    async def main() -> None:
        waiting = asyncio.create_task(f())
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert await f() == 1

    asyncio.run(main())


def test_a_coroutine_that_awaits_itself_does_not_wait_for_itself(kv: KVNamespace[Any]) -> None:
    made = Counted()

    @kv.memoize()
    async def f() -> list[int]:
        number = await made()
        return [number, *(await asyncio.gather(f()))[0]] if number < 3 else [number]

    async def main() -> None:
        assert await asyncio.wait_for(f(), 10) == [1, 2, 3]
        assert await f() == [1, 2, 3]

    asyncio.run(main())


def test_recursion_works(kv: KVNamespace[Any]) -> None:
    @kv.memoize()
    async def fib(n: int) -> int:
        return n if n < 2 else sum(await asyncio.gather(fib(n - 1), fib(n - 2)))

    async def main() -> None:
        assert await asyncio.wait_for(fib(20), 30) == 6765
        assert fib.cache_info().misses == 21

    asyncio.run(main())


def test_a_task_that_outlives_the_call_it_came_from_is_served_as_any_other(
    kv: KVNamespace[Any],
) -> None:
    made = Counted()
    go = asyncio.Event()
    later: list[asyncio.Task[list[int]]] = []

    async def call_later() -> list[int]:
        await go.wait()
        return await f()

    @kv.memoize()
    async def f() -> list[int]:
        later.append(asyncio.create_task(call_later()))
        return [await made()]

    async def main() -> None:
        assert await f() == [1]
        go.set()
        assert await later[0] == [1]

    asyncio.run(main())


def test_several_event_loops(kv: KVNamespace[Any]) -> None:
    both = threading.Barrier(4)

    @kv.memoize()
    async def f() -> int:
        return 1

    async def main() -> list[int]:
        both.wait(10)
        return list(await asyncio.gather(f(), f()))

    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(asyncio.run, main()) for _ in range(4)]
        assert [run.result(10) for run in runs] == [[1, 1]] * 4
    assert 1 <= f.cache_info().misses <= 4
    assert asyncio.run(f()) == 1


def test_a_loop_that_stopped_with_a_call_under_way_does_not_hold_up_another(
    kv: KVNamespace[Any],
) -> None:
    made = Counted(held=True)

    @kv.memoize()
    async def f() -> int:
        return await made() if made.calls == 0 else 2

    first = asyncio.new_event_loop()
    try:
        waiting = first.create_task(f())
        first.run_until_complete(made.entered.wait())
        assert asyncio.run(asyncio.wait_for(f(), 10)) == 2
        made.go.set()
        assert first.run_until_complete(waiting) == 1
    finally:
        first.run_until_complete(first.shutdown_default_executor())
        first.close()


@pytest.mark.parametrize("forget", ["invalidate", "clear", "refresh"])
@pytest.mark.parametrize("run", ["call", "refresh"])
def test_what_is_forgotten_during_a_call_is_not_remembered_by_it(
    kv: KVNamespace[Any], forget: str, run: str
) -> None:
    made = Counted()

    @kv.memoize()
    async def f() -> int:
        number = await made()
        if number == 1:
            await getattr(f, forget)()
        return number

    async def main() -> None:
        assert await (f() if run == "call" else f.refresh()) == 1
        assert await f() == 2

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin later")
def test_tasks_that_begin_at_once() -> None:
    with kvdict.open("memory://", cache=True) as kv:
        made = Counted()

        @kv.memoize()
        async def f() -> int:
            return await made()

        async def main() -> None:
            factory = getattr(asyncio, "eager_task_factory")  # noqa: B009 - not in 3.11's types
            asyncio.get_running_loop().set_task_factory(factory)
            assert list(await asyncio.gather(f(), f())) == [1, 1]
            assert list(await asyncio.gather(f(), f())) == [1, 1]
            await f.invalidate()
            assert await f() == 2
            assert await f() == 2
            assert not f._calls

        asyncio.run(main())


def test_a_cancelled_refresh_leaves_what_was(kv: KVNamespace[Any]) -> None:
    made = Counted()

    @kv.memoize()
    async def f() -> int:
        number = await made()
        if number > 1:
            await asyncio.Event().wait()
        return number

    async def main() -> None:
        assert await f() == 1
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(f.refresh(), 0.01)
        assert await f() == 1
        assert not f._calls

    asyncio.run(main())
