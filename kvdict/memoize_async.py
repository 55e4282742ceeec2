"""Coroutine functions whose results are kept in a namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import partial
from typing import Any, ParamSpec, TypeVar

from kvdict.kept import Bound, Call, Kept, mark_coroutine
from kvdict.remembered import Remembered, Result

P = ParamSpec("P")
R = TypeVar("R")


class TaskCall(Call):
    """One call under way, for which tasks of one event loop wait."""

    task: asyncio.Task[Result]


outer: ContextVar[frozenset[TaskCall]] = ContextVar("outer", default=frozenset())
"""The calls that this code is a part of, which it must not wait for."""


class AsyncMemoized(Kept[P, R, TaskCall]):
    """A coroutine function whose results are kept in KV; the event loop never waits for KV."""

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, R]],
        remembered: Remembered,
        key: Callable[P, str] | None,
    ) -> None:
        super().__init__(function, remembered, key)
        mark_coroutine(self, function)

    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the remembered result, or await the function, once for all who ask the same.

        "All" are those of one event loop.
        """
        key = self._key_for(args, kwargs)
        mine = TaskCall(asyncio.get_running_loop())
        call = self._join(key, mine)
        if call is mine:
            self._start(key, mine, partial(self.__wrapped__, *args, **kwargs))
        elif call in outer.get():  # the function awaits itself
            self._remembered.misses += 1
            again: R = await self.__wrapped__(*args, **kwargs)
            return again
        else:
            self._remembered.hits += 1
        # Shielded: who gives up waiting does not take the result from the others.
        value: R = (await asyncio.shield(call.task)).value()
        return value

    async def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await the function and remember the result in place of an older one: 1 request."""
        key = self._key_for(args, kwargs)
        mine = TaskCall(shared=False)
        try:
            self._replace(key, mine)
            result = self._remembered.made(key, await self.__wrapped__(*args, **kwargs))
            await asyncio.to_thread(self._remembered.keep, key, result, mine)
        finally:
            self._end(key, mine)
        value: R = result.value()
        return value

    async def invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget one result, and do not keep that of a call under way: 1 request."""
        key = self._key_for(args, kwargs)
        self._leave(key)
        await asyncio.to_thread(self._remembered.forget, key)

    async def clear(self) -> None:
        """Forget all results of the function: n / 1000 + n / 10,000 requests."""
        self._leave_all()
        await asyncio.to_thread(self._remembered.clear)

    def __get__(
        self, instance: object, owner: type | None = None
    ) -> AsyncMemoized[..., R] | Bound[Coroutine[Any, Any, R]]:
        """Return the method of an instance."""
        return self if instance is None else Bound(self, instance)

    def _start(self, key: str, mine: TaskCall, work: Callable[[], Coroutine[Any, Any, R]]) -> None:
        mine.task = asyncio.create_task(self._lead(key, mine, work))
        # Not at the end of `_lead`: a task that is cancelled before it begins does not get there.
        if mine.task.done():  # pragma: no cover - an eager one, from Python 3.12 on
            self._end(key, mine)
        else:
            mine.task.add_done_callback(lambda _task: self._end(key, mine))

    async def _lead(
        self, key: str, mine: TaskCall, work: Callable[[], Coroutine[Any, Any, R]]
    ) -> Result:
        outer.set(outer.get() | {mine})
        result = self._remembered.at_hand(key)
        if result is None:
            result = await asyncio.to_thread(self._remembered.find, key)
        if result is None:
            result = self._remembered.made(key, await work())
            await asyncio.to_thread(self._remembered.keep, key, result, mine)
        return result
