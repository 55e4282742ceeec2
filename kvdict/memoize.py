"""`kv.memoize`: functions, methods and coroutines whose results are kept in the namespace."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from kvdict.argkeys import name_of
from kvdict.errors import ConfigError
from kvdict.kept import Bound, Call, Kept, OfClass
from kvdict.latch import Latch
from kvdict.remembered import OnError, Remembered, Result
from kvdict.writes import Seconds

if TYPE_CHECKING:
    from kvdict.memoize_async import AsyncMemoized
    from kvdict.namespace import KVNamespace

P = ParamSpec("P")
R = TypeVar("R")


class ThreadCall(Call):
    """One call under way, for which threads with the same arguments wait."""

    def __init__(self, *, shared: bool = True) -> None:
        super().__init__(shared=shared)
        self.thread = threading.get_ident()
        self.over = Latch()
        self.result: Result | None = None
        self.error: Exception | None = None


class Memoized(Kept[P, R, ThreadCall]):
    """A function whose results are kept in KV: 1 request a call, and 1 more where it is made."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the remembered result, or call the function, once for all who ask the same."""
        key = self._key_for(args, kwargs)
        work = partial(self.__wrapped__, *args, **kwargs)
        while True:
            mine = ThreadCall()
            try:
                call = self._join(key, mine)
                if call is mine:
                    return self._lead(key, mine, work)
            finally:
                self._end(key, mine)
                mine.over.open()
            if call.thread == mine.thread:  # the function calls itself
                self._remembered.misses += 1
                again: R = work()
                return again
            call.over.wait()
            if call.error:
                raise call.error
            if call.result:  # else it was interrupted
                self._remembered.hits += 1
                shared: R = call.result.value()
                return shared

    def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function and remember the result in place of an older one: 1 request."""
        key = self._key_for(args, kwargs)
        mine = ThreadCall(shared=False)
        try:
            self._replace(key, mine)
            result = self._remembered.made(key, self.__wrapped__(*args, **kwargs))
            self._remembered.keep(key, result, mine)
        finally:
            self._end(key, mine)
        value: R = result.value()
        return value

    def invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget one result, and do not keep that of a call under way: 1 request."""
        key = self._key_for(args, kwargs)
        self._leave(key)
        self._remembered.forget(key)

    def clear(self) -> None:
        """Forget all results of the function: n / 1000 + n / 10,000 requests."""
        self._leave_all()
        self._remembered.clear()

    def __get__(self, instance: object, owner: type | None = None) -> Memoized[..., R] | Bound[R]:
        """Return the method of an instance."""
        return self if instance is None else Bound(self, instance)

    def _lead(self, key: str, mine: ThreadCall, work: Callable[[], R]) -> R:
        try:
            result = self._remembered.find(key)
            if result is None:
                result = self._remembered.made(key, work())
                self._remembered.keep(key, result, mine)
            mine.result = result
        except Exception as error:
            mine.error = error
            raise
        value: R = result.value()
        return value


class Memoize:
    """The decorator that `kv.memoize(...)` returns."""

    def __init__(
        self,
        namespace: KVNamespace[Any],
        expiration_ttl: Seconds | None,
        key: Callable[..., str] | None,
        prefix: str | None,
        on_error: OnError,
    ) -> None:
        if on_error not in ("call", "raise"):
            raise ConfigError(f"on_error is {on_error!r}, expected 'call' or 'raise'")
        self._namespace = namespace
        self._ttl = expiration_ttl
        self._key = key
        self._prefix = prefix
        self._on_error = on_error

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a coroutine is a result, but not one to keep
        self, function: Callable[P, Coroutine[Any, Any, R]]
    ) -> AsyncMemoized[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> Memoized[P, R]: ...
    def __call__(self, function: Any) -> Any:
        """Return the function, remembered."""
        if isinstance(function, staticmethod):
            return staticmethod(self(function.__func__))
        if isinstance(function, classmethod):
            return OfClass(self(function.__func__))
        if inspect.ismethod(function):
            return Bound(self(function.__func__), function.__self__)
        return self._remembering(function)

    def _remembering(self, function: Callable[P, Any]) -> Any:
        _check(function, has_prefix=self._prefix is not None)
        name = name_of(function)
        prefix = f"memoize:{name}:" if self._prefix is None else self._prefix
        remembered = Remembered(self._namespace, name, prefix, self._ttl, self._on_error)
        if inspect.iscoroutinefunction(function):
            from kvdict.memoize_async import AsyncMemoized  # asyncio takes long to import

            return AsyncMemoized(function, remembered, self._key)
        return Memoized(function, remembered, self._key)


def _check(function: Any, *, has_prefix: bool) -> None:
    """Raise TypeError for what has no results to remember, or no name to remember them under."""
    if not callable(function) or not hasattr(function, "__qualname__"):
        raise TypeError(
            f"memoize takes seconds or a function, not a {type(function).__name__}; write a def"
            " around what else can be called"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{name_of(function)} is a generator: its result cannot be stored")
    if function.__name__ == "<lambda>" and not has_prefix:
        raise TypeError(
            f"{name_of(function)}: lambdas have no names to tell them apart by; give memoize a"
            " prefix=, or write a def"
        )
