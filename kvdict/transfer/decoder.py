"""`Decoder`: JSON of files, in which a name that stands twice is told."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

HUGE_NUMBER = "a number has more digits than Python reads"
"""What a plain ValueError of the decoder means."""


class Decoder:
    """Decodes JSON, in which no name may stand twice in an object."""

    def __init__(self) -> None:
        self._repeated: list[str] = []
        self.json = json.JSONDecoder(object_pairs_hook=self._object)

    def repeated(self) -> str | None:
        """Return a name that was repeated since the last call, None if there was none."""
        name = self._repeated[0] if self._repeated else None
        self._repeated.clear()
        return name

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        told = dict(pairs)
        if len(told) != len(pairs):
            times = Counter(name for name, _ in pairs)
            self._repeated.append(next(name for name in times if times[name] > 1))
        return told
