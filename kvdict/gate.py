"""Whether a namespace is open: known to all of its parts, none of which owns another."""

from __future__ import annotations

from kvdict.errors import ClosedError


class Gate:
    """Open until it is closed."""

    def __init__(self) -> None:
        self.is_closed = False

    def check_open(self) -> None:
        """Raise ClosedError if it was closed, under an iterator perhaps."""
        if self.is_closed:
            raise ClosedError("the namespace was closed; open it again")
