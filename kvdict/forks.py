"""What a forked child needs anew: locks that a thread it lacks may have held, and connections."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Something that has to start again in a child."""

    def start_again(self) -> None:
        """Take new locks, and forget what only the parent's threads will finish."""
        ...


def renew_in_children(owner: Renewable) -> None:
    """Call the owner's `start_again` in every child forked while it is alive."""
    _alive.add(owner)


def _renew() -> None:
    for owner in list(_alive):
        owner.start_again()


_alive: WeakSet[Renewable] = WeakSet()
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no forks
    os.register_at_fork(after_in_child=_renew)
