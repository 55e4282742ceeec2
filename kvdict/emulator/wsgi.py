"""The caller's side of WSGI, which adapter and server share: names of variables, an answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any


class Answer:
    """Status and headers, once the application has given them to `start_response`."""

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
    """Stand for WSGI's old `write`, which the emulator has no use for."""
    raise NotImplementedError("the application must return its body")


@lru_cache(maxsize=256)
def variable(header: str) -> str:
    """Return what a request's header is called in the environ."""
    name = header.upper().replace("-", "_")
    return name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
