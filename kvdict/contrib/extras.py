"""What a framework that is not installed is answered with: the command that installs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Let the import of a missing package say which extra brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this part of kvdict needs {error.name}: pip install 'kvdict[{extra}]'",
            name=error.name,
        ) from error
