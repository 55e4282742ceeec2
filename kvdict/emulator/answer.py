"""Answer: what a WSGI application says through `start_response`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Answer:
    """Status and headers, once the application has given them."""

    __slots__ = ("headers", "status")

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []

    def start(
        self, status: str, headers: list[tuple[str, str]], _problem: Any = None, /
    ) -> Callable[[bytes], object]:
        """Take status and headers."""
        self.status, self.headers = status, headers
        return _refuse_write


def _refuse_write(data: bytes) -> object:
    raise NotImplementedError("the application must return its body")
