"""Homes without an account: the emulator in this process, over a file or over memory.

The emulator (and werkzeug with it) is imported when the first local home is opened: it takes as
long as all the rest of kvdict.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from requests.adapters import BaseAdapter

from kvdict.errors import ConfigError
from kvdict.forks import renew_in_children

if TYPE_CHECKING:
    from kvdict.emulator import Emulator

LOCAL_ACCOUNT = "0" * 32
LOCAL_BASE_URL = "http://kvdict.invalid/client/v4"
"""An http address that never resolves: requests drops the query for schemes it does not know."""

Opened = tuple[BaseAdapter, Callable[[], None]]


def open_file(path: str, *, readonly: bool) -> Opened:
    """Open a database file; return the adapter to it and how to close it."""
    from kvdict.emulator import Emulator, EmulatorAdapter, Store, StoreError

    try:
        store = Store(path, readonly=readonly)
    except StoreError as error:
        raise ConfigError(str(error)) from error
    return EmulatorAdapter(Emulator(store)), store.close


def open_memory(name: str) -> Opened:
    """Open the memory of that name, shared in the process; without a name a new one."""
    from kvdict.emulator import Emulator, EmulatorAdapter, Store

    if name:
        return EmulatorAdapter(_memories.take(name)), partial(_memories.give_back, name)
    store = Store(None)
    return EmulatorAdapter(Emulator(store)), store.close


class Memories:
    """The named memories of this process, each there while somebody uses it."""

    def __init__(self) -> None:
        self.start_again()
        renew_in_children(self)
        self._emulators: dict[str, Emulator] = {}
        self._users: Counter[str] = Counter()

    def start_again(self) -> None:
        """Take a lock of its own in a forked child."""
        self._lock = threading.RLock()

    def take(self, name: str) -> Emulator:
        """Return the memory of that name, a new one if nobody uses it."""
        from kvdict.emulator import Emulator, Store

        with self._lock:
            if name not in self._emulators:
                self._emulators[name] = Emulator(Store(None))
            self._users[name] += 1
            return self._emulators[name]

    def give_back(self, name: str) -> None:
        """Count one user less; forget the memory after the last."""
        with self._lock:
            self._users[name] -= 1
            if self._users[name]:
                return
            del self._users[name]
            emulator = self._emulators.pop(name)
        emulator.store.close()


_memories = Memories()
