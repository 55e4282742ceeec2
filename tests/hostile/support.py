"""A namespace whose service says whatever a test wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kvdict
from kvdict import ReadCache, WriteBuffer
from kvdict.backing import Backing
from kvdict.codecs import TEXT, Codec
from kvdict.home import Home
from tests.wire.support import NS, Reply, Seen, Service, Time, client_on

KV = kvdict.KVNamespace[Any]


def home_on(service: Service, time: Time, **options: Any) -> Home:
    """Return a home whose only service is this."""
    return Home(
        "kv://hostile",
        client_on(time, adapter=service, **options),
        local=False,
        address=lambda title: f"kv://hostile/{title}",
        reopen=None,
        options={},
        close=service.close,
    )


def namespace_on(
    answer: Callable[[Seen], Reply | BaseException],
    *,
    time: Time | None = None,
    buffer: WriteBuffer | None = None,
    cache: ReadCache | None = None,
    codec: Codec[Any] = TEXT,
    prefix: str = "",
    **options: Any,
) -> KV:
    """Return a namespace of a service that answers so; a waiting client only turns a clock."""
    home = home_on(Service(answer), time or Time(), **{"max_wait": 5.0, **options})
    own = WriteBuffer(write_through=True) if buffer is None else buffer  # an empty one is false
    return kvdict.KVNamespace(Backing(home, NS, "hostile", own, cache), codec, prefix=prefix)
