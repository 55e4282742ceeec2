"""A read of a key that is under way, and for which others that want the same may wait."""

from __future__ import annotations

import threading
from typing import Any, Literal

from kvdict.latch import Latch

Kind = Literal["get", "entry", "about"]
"""The method of Source that answers."""


class Asking:
    """One such read: in this thread until it is over, with an answer, an error or neither.

    What is cached answers it too, with `details` only if metadata is cached.
    """

    def __init__(self, kind: Kind, *, details: bool) -> None:
        self.kind = kind
        self.details = details
        self.thread = threading.get_ident()
        self.over = Latch()
        self.answer: Any = None
        self.error: Exception | None = None
        self.is_interrupted = True

    def serves(self, kind: Kind, *, details: bool) -> bool:
        """Tell whether who wants this may wait for it: it goes on, in another thread."""
        is_alike = (self.kind, self.details) == (kind, details)
        return is_alike and self.thread != threading.get_ident() and not self.over.is_open

    def answered(self, answer: Any) -> None:
        """Take the answer for those who wait."""
        self.answer = answer
        self.is_interrupted = False

    def failed(self, error: Exception) -> None:
        """Take the error for those who wait."""
        self.error = error
        self.is_interrupted = False
