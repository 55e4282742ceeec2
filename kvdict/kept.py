"""What memoized functions of both kinds have in common."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from kvdict.argkeys import fit, key_of, name_of
from kvdict.forks import renew_in_children
from kvdict.remembered import CacheInfo, Remembered

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
R = TypeVar("R")


class Call:
    """One call under way; others of the same `loop` may wait for it if it is `shared`.

    `is_wanted` until it is invalidated: then its result is not remembered.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop | None = None, *, shared: bool = True
    ) -> None:
        self.loop = loop
        self.shared = shared
        self.is_wanted = True


C = TypeVar("C", bound=Call)


class Kept(Generic[P, R, C]):
    """A function whose results are remembered; `__wrapped__` is the function itself."""

    __wrapped__: Callable[P, Any]

    def __init__(
        self,
        function: Callable[P, Any],
        remembered: Remembered,
        key: Callable[P, str] | None,
    ) -> None:
        update_wrapper(cast(Any, self), function)
        self._signature = inspect.signature(function)
        self._remembered = remembered
        self._key = key
        self.start_again()
        renew_in_children(self)

    def start_again(self) -> None:
        """Have no calls under way: at first, and in a forked child, where they are not."""
        self._lock = threading.RLock()
        self._calls: dict[str, list[C]] = {}

    def cache_info(self) -> CacheInfo:
        """Return how many calls did not need the function, how many did, and errors of KV."""
        kept = self._remembered
        return CacheInfo(kept.hits, kept.misses, kept.errors)

    def _key_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        if self._key is None:
            text = key_of(self.__wrapped__, self._signature, args, kwargs)
        else:
            text = self._key(*args, **kwargs)
            if not isinstance(text, str):
                raise TypeError(
                    f"{self._remembered.name}: key= returned a {type(text).__name__}; it has to"
                    " return a str"
                )
        return fit(self._remembered.prefix, text)

    # Calls under way

    def _join(self, key: str, mine: C) -> C:
        """Return a call to wait for; without one, this call is under way from now on."""
        with self._lock:
            calls = self._calls.setdefault(key, [])
            for call in calls:
                if call.shared and call.loop is mine.loop:
                    return call
            calls.append(mine)
            return mine

    def _replace(self, key: str, mine: C) -> None:
        """Put a call in place of those under way."""
        with self._lock:
            self._leave(key)
            self._calls[key] = [mine]

    def _leave(self, key: str) -> None:
        """Do not remember the results of calls under way, and let nobody else wait for them."""
        with self._lock:
            for call in self._calls.pop(key, ()):
                call.is_wanted = False

    def _leave_all(self) -> None:
        with self._lock:
            for key in list(self._calls):
                self._leave(key)

    def _end(self, key: str, mine: C) -> None:
        with self._lock:
            calls = self._calls.get(key, [])
            if mine in calls:
                calls.remove(mine)
            if not calls:
                self._calls.pop(key, None)

    def __repr__(self) -> str:
        return f"<memoized {self._remembered.name} below {self._remembered.prefix!r}>"

    def __reduce__(self) -> str:
        return self.__wrapped__.__qualname__


class Bound(Generic[R]):
    """A memoized method of an instance or class."""

    def __init__(self, function: Any, instance: object) -> None:
        mark_coroutine(self, function.__wrapped__)  # first: it would mark the __func__ instead
        update_wrapper(cast(Any, self), function.__wrapped__)
        self.__wrapped__ = function.__wrapped__.__get__(instance)
        self.__func__ = function
        self.__self__ = instance

    def __call__(self, /, *args: Any, **kwargs: Any) -> R:
        """Call the method."""
        result: R = self.__func__(self.__self__, *args, **kwargs)
        return result

    def refresh(self, /, *args: Any, **kwargs: Any) -> R:
        """Call the method and remember the result in place of an older one."""
        result: R = self.__func__.refresh(self.__self__, *args, **kwargs)
        return result

    def invalidate(self, /, *args: Any, **kwargs: Any) -> Any:
        """Forget one result of the method."""
        return self.__func__.invalidate(self.__self__, *args, **kwargs)

    def clear(self) -> Any:
        """Forget the results of the method, of all instances."""
        return self.__func__.clear()

    def cache_info(self) -> CacheInfo:
        """Return what `cache_info` of the function tells."""
        info: CacheInfo = self.__func__.cache_info()
        return info

    def __repr__(self) -> str:
        return f"<memoized method {name_of(self.__func__.__wrapped__)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.__self__, self.__func__.__wrapped__.__name__)


class OfClass:
    """A memoized class method: bound to the class, wherever it is taken from."""

    def __init__(self, function: Any) -> None:
        self.__func__ = function

    def __get__(self, instance: object, owner: type | None = None) -> Bound[Any]:
        """Return the method of the class."""
        return Bound(self.__func__, type(instance) if owner is None else owner)


def mark_coroutine(wrapper: Any, function: Callable[..., Any]) -> None:
    """Have those know what the wrapper is who ask `inspect`, or on Python 3.11 `asyncio`."""
    if not inspect.iscoroutinefunction(function):
        return
    if sys.version_info >= (3, 12):  # pragma: no cover - Python 3.12
        inspect.markcoroutinefunction(wrapper)
    else:
        from asyncio import coroutines  # it takes long to import

        wrapper._is_coroutine = coroutines._is_coroutine  # type: ignore[attr-defined]  # its only mark
