"""A Cloudflare Workers KV namespace as a Python dict.

>>> import kvdict
>>> kv = kvdict.open("memory://")
>>> kv["greeting"] = {"en": "hello", "nl": "hoi"}
>>> kv["greeting"]["nl"]
'hoi'
"""

import typing

from kvdict.account import Account
from kvdict.budget import RateBudget
from kvdict.buffer import WriteBuffer
from kvdict.cache import ReadCache
from kvdict.client import Client
from kvdict.codecs import Codec, PickleCodec
from kvdict.config import open
from kvdict.errors import (
    APIError,
    AuthError,
    BufferFullError,
    ClosedError,
    CodecError,
    ConfigError,
    FlushError,
    JournalError,
    KVError,
    LimitError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    ReadOnlyError,
    ServerError,
    ShelveError,
    TransferError,
    TransportError,
)
from kvdict.models import Entry, FlushResult, Key, KeyPage, Namespace
from kvdict.namespace import KVNamespace
from kvdict.version import __version__

if typing.TYPE_CHECKING:
    from kvdict.transfer import sync

__all__ = [
    "APIError",
    "Account",
    "AuthError",
    "BufferFullError",
    "Client",
    "ClosedError",
    "Codec",
    "CodecError",
    "ConfigError",
    "Entry",
    "FlushError",
    "FlushResult",
    "JournalError",
    "KVError",
    "KVNamespace",
    "Key",
    "KeyPage",
    "LimitError",
    "Namespace",
    "NotFoundError",
    "PickleCodec",
    "QuotaError",
    "RateBudget",
    "RateLimitError",
    "ReadCache",
    "ReadOnlyError",
    "ServerError",
    "ShelveError",
    "TransferError",
    "TransportError",
    "WriteBuffer",
    "__version__",
    "open",
    "sync",
]


def __getattr__(name: str) -> object:
    """Import `sync` when it is first used: with all of its package it costs as much as `open`."""
    if name != "sync":
        raise AttributeError(f"module 'kvdict' has no attribute {name!r}")
    from kvdict.transfer import sync

    globals()[name] = sync
    return sync
