"""Times to live that the service cannot keep: a deadline in the metadata beside its own."""

from __future__ import annotations

import math
from typing import Any

from kvdict.limits import MIN_TTL

UNTIL = "until"
"""Where the metadata holds the deadline, in epoch seconds."""


def lasting(ttl: float | None, now: float) -> dict[str, Any]:
    """Return the options of a put that is to last `ttl` seconds from `now`, None: for ever.

    Whole seconds from a minute up are the service's own; anything else is rounded up to that, and
    has its exact end in the metadata, where `is_over` looks.
    """
    if ttl is None:
        return {}
    kept = max(MIN_TTL, math.ceil(ttl))
    if kept == ttl:
        return {"expiration_ttl": kept}
    return {"expiration_ttl": kept, "metadata": {UNTIL: math.ceil((now + ttl) * 1000) / 1000}}


def is_over(metadata: Any, now: float) -> bool:
    """Tell whether an entry with this metadata is past its deadline."""
    until = metadata.get(UNTIL) if isinstance(metadata, dict) else None
    return isinstance(until, int | float) and until <= now
