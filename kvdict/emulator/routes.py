"""Routes: from a request's path and method to what answers it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import NamedTuple

from kvdict.emulator.bulk import Bulk
from kvdict.emulator.call import Call, decode_key
from kvdict.emulator.checks import check_key
from kvdict.emulator.knobs import Knobs
from kvdict.emulator.namespaces import Namespaces
from kvdict.emulator.past import Past
from kvdict.emulator.refusals import CauseError, Refusal, missing_namespace, no_route, wrong_method
from kvdict.emulator.reply import Reply
from kvdict.emulator.store import MissingNamespaceError, Store
from kvdict.emulator.values import Values

ROOT = "/client/v4"
ROOTS = ["", "client", "v4", "accounts"]
COLLECTION = ["storage", "kv", "namespaces"]

_is_id = re.compile(r"[0-9a-f]{32}").fullmatch


class Route(NamedTuple):
    """What answers a method on a path, and what errors call the operation."""

    answer: Callable[[Call], Reply]
    operation: str


class Routes:
    """Every route of the API, by the shape of its path and by method."""

    def __init__(self, store: Store, knobs: Knobs | None, lock: threading.RLock) -> None:
        namespaces = Namespaces(store)
        pairs = store if knobs is None else Past(store, knobs, lock)
        values = Values(pairs, knobs)
        bulk = Bulk(pairs, knobs)
        self._shapes: dict[str, dict[str, Route]] = {
            "": {
                "GET": Route(namespaces.list, "list namespaces"),
                "POST": Route(namespaces.create, "create namespace"),
            },
            "namespace": {
                "GET": Route(namespaces.show, "get namespace"),
                "PUT": Route(namespaces.rename, "rename namespace"),
                "DELETE": Route(namespaces.delete, "remove namespace"),
            },
            "keys": {"GET": Route(values.keys, "list keys")},
            "values": {
                "GET": Route(values.get, "get"),
                "PUT": Route(values.put, "put"),
                "DELETE": Route(values.delete, "remove key"),
            },
            "metadata": {"GET": Route(values.metadata, "metadata")},
            "bulk": {
                "PUT": Route(bulk.put, "bulk put"),
                "DELETE": Route(bulk.delete, "bulk remove keys"),
            },
            "bulk/delete": {"POST": Route(bulk.delete, "bulk remove keys")},
            "bulk/get": {"POST": Route(bulk.get, "bulk get keys")},
        }

    def answer(self, call: Call) -> Reply:
        """Answer a request, or raise its Refusal."""
        shape, key = _shape(call)
        methods = self._shapes.get(shape)
        if methods is None:
            raise no_route(call.path)
        if not _is_id(call.account):
            raise no_route(call.path, 400)
        if shape and not _is_id(call.namespace):
            raise _malformed(call.namespace)
        route = methods.get(call.method)
        if route is None:
            raise wrong_method(list(methods))
        try:
            if key is not None:
                call.key = decode_key(key)
                check_key(call.key)
            return route.answer(call)
        except CauseError as cause:
            raise cause.within(route.operation) from None
        except MissingNamespaceError:
            raise missing_namespace().within(route.operation) from None


def _shape(call: Call) -> tuple[str, str | None]:
    """Put the path's ids into the call; return the path's shape, and the key as it was sent."""
    parts = call.path.split("/")
    if "/." in call.path or "/%2" in call.path:
        parts = _resolved(parts)
    size = len(parts)
    if not 8 <= size <= 11 or parts[:4] != ROOTS or parts[5:8] != COLLECTION:
        raise no_route(call.path)
    call.account = parts[4]
    if size == 8:
        return "", None
    call.namespace = parts[8]
    if size == 9:
        return "namespace" if parts[8] else "unknown", None
    name = parts[9]
    if size == 10:
        return name if name in ("keys", "bulk") else "unknown", None
    if name == "values" or name == "metadata":
        return name, parts[10]
    return f"{name}/{parts[10]}", None


def _resolved(parts: list[str]) -> list[str]:
    """Resolve dot segments, encoded ones too, as every server on the way does."""
    kept: list[str] = []
    last = len(parts) - 1
    for at, part in enumerate(parts):
        plain = part.replace("%2E", ".").replace("%2e", ".")
        if plain not in (".", ".."):
            kept.append(part)
            continue
        if plain == ".." and len(kept) > 1:
            kept.pop()
        if at == last:
            kept.append("")
    return kept


def _malformed(namespace: str) -> Refusal:
    problem = (
        f"invalid namespace format: {namespace}"
        if len(namespace) == 32
        else f"invalid UUID length: {len(namespace)}"
    )
    text = f"could not parse UUID from request's namespace_id: '{problem}'"
    return Refusal(400, 10011, text)
