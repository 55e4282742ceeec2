"""How long requests take where an allowance bounds them."""

from __future__ import annotations

import math

from kvdict.budget import KEPT_BACK, RateBudget
from kvdict.transfer.namespaces import KV

ALLOWANCE = 1200
"""Requests that Cloudflare grants in a window, until its answers tell another number."""
WINDOW = 300.0
"""Seconds of a window."""


def seconds_for(requests: float, kv: KV) -> float:
    """Return how long the request allowance makes so many requests wait, 0 in a local home."""
    return 0.0 if kv._backing.home.local else waiting(requests, kv.budget)


def waiting(requests: float, budget: RateBudget) -> float:
    """Return the seconds until the window in which the last of the requests may go."""
    limit = budget.limit or ALLOWANCE
    left = limit if budget.remaining is None else budget.remaining
    kept = math.floor(limit * KEPT_BACK)
    beyond = math.ceil(requests) - max(0, left - kept)
    if beyond <= 0:
        return 0.0
    first = WINDOW if budget.resets_in is None else budget.resets_in
    return first + WINDOW * ((beyond - 1) // max(1, limit - kept))
