"""A served emulator that stops to answer when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import kvdict
from kvdict import KVNamespace
from kvdict.emulator import Emulator, Knobs, Store, serve
from tests.conftest import account_of


class Slow:
    """The emulator, and the namespaces that are opened in it."""

    def __init__(self) -> None:
        self._answers = threading.Event()
        self._knobs = Knobs(sleep=self._wait)
        self.requests = 0
        self.given_up = 0

    @contextmanager
    def served(self) -> Iterator[Slow]:
        with closing(Store(None)) as store, serve(Emulator(store, knobs=self._knobs)) as server:
            self._account = account_of(server)
            with ExitStack() as self._opened:
                yield self

    def open(self, **options: Any) -> KVNamespace[Any]:
        kv = kvdict.open(f"{self._account}/slow", create=True, **options)
        return self._opened.enter_context(kv)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        self._answers.clear()
        self._knobs.latency = 1
        try:
            yield
        finally:
            self.answer()

    def answer(self) -> None:
        self._knobs.latency = 0
        self._answers.set()

    def _wait(self, _seconds: float) -> None:
        self.requests += 1
        self.given_up += not self._answers.wait(20)
