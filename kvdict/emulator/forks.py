"""Forks: whoever holds locks or connections is told before and after `os.fork`."""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakValueDictionary


class Forkable(Protocol):
    """What has to be at rest while the process forks."""

    def before_fork(self) -> None:
        """Take the locks and put down what a child must not inherit."""

    def after_fork(self, child: bool) -> None:
        """Release the locks, or have fresh ones in the child."""


_watched: WeakValueDictionary[int, Forkable] = WeakValueDictionary()
_resting: list[Forkable] = []
_forking = threading.RLock()
"""Held during a fork: of two threads that fork at once, one waits for the other."""


def watch(holder: Forkable) -> None:
    """Have the holder told of every fork for as long as it lives."""
    _watched[id(holder)] = holder


def _before() -> None:
    _forking.acquire()
    for reference in _watched.valuerefs():
        holder = reference()
        if holder is not None:
            holder.before_fork()
            _resting.append(holder)


def _after(child: bool) -> None:
    while _resting:
        _resting.pop().after_fork(child)
    _forking.release()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has none
    os.register_at_fork(
        before=_before,
        after_in_parent=lambda: _after(child=False),
        after_in_child=lambda: _after(child=True),
    )
