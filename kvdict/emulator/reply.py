"""Reply: what goes back to the client, in the service's envelope."""

from __future__ import annotations

from typing import Any, NamedTuple

from kvdict.emulator.checks import canonical
from kvdict.emulator.refusals import Refusal

JSON = "application/json"
BYTES = "application/octet-stream"
HTML = "text/html; charset=UTF-8"


class Reply(NamedTuple):
    """Status, body, content type, and headers beyond the usual ones."""

    status: int
    body: bytes
    kind: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


def success(result: Any, info: dict[str, Any] | None = None) -> Reply:
    """Return the envelope of a request that went well."""
    envelope = {"result": result, "success": True, "errors": [], "messages": []}
    if info is not None:
        envelope["result_info"] = info
    return Reply(200, canonical(envelope).encode())


def refused(refusal: Refusal) -> Reply:
    """Return the envelope, or the gateway's page, of a refusal."""
    headers = tuple(refusal.headers)
    if refusal.html is not None:
        return Reply(refusal.status, refusal.html.encode(), HTML, headers)
    envelope = {"result": None, "success": False, "errors": refusal.errors, "messages": []}
    return Reply(refusal.status, canonical(envelope).encode(), JSON, headers)


DONE = success(None)
