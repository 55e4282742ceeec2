"""From a WHERE of the command line to an open namespace or account."""

from __future__ import annotations

from kvdict.account import Account
from kvdict.buffer import WriteBuffer
from kvdict.config import open_home, open_in, parse_namespace
from kvdict.home import Home
from kvdict.namespace import KVNamespace
from kvdict.transport import Transport
from kvdict.where import Target, parse_account, parse_where

ALLOWANCE_WAIT = 3600.0
"""Seconds that one request may wait for allowance: a window has 300, and others may want it too."""
SINGLE = 3
"""How often a small request that hangs is tried within --max-wait."""

KV = KVNamespace[bytes]


def open_kv(
    where: str | None, max_wait: float, *, reads: bool = False, creates: bool = False
) -> KV:
    """Open a namespace for bytes as they are stored; each write is stored when its call returns.

    What is only read is opened read-only. Unless it `creates` what is missing in a local home, a
    misspelt file is no new one.
    """
    target = parse_namespace(where)
    if not (reads or creates):
        _check_there(target)
    with open_home(target, max_wait=max_wait, readonly=reads) as home:
        _have_patience(home.client.transport, max_wait)
        return open_in(
            home,
            target.namespace,
            codec="bytes",
            buffer=WriteBuffer(write_through=True, settle=0),
            create=None if creates else False,
            readonly=reads,
        )


def is_new_file(where: str | None) -> bool:
    """Tell whether a WHERE is a file that is not there yet."""
    return parse_where(where).is_new_file


def look_into(where: str | None, max_wait: float) -> Home:
    """Open an account to read what is there, that of the environment without WHERE."""
    home = open_home(parse_account(where), max_wait=max_wait, readonly=True)
    _have_patience(home.client.transport, max_wait)
    return home


def open_account(where: str | None, max_wait: float, *, creates: bool = False) -> Account:
    """Open an account to change it, that of the environment without WHERE."""
    if not creates:
        _check_there(parse_account(where))
    account = Account(where, max_wait=max_wait)
    _have_patience(account.client.transport, max_wait)
    return account


def _check_there(target: Target) -> None:
    """Raise ConfigError for a file that is not there, which opening it to write would make."""
    if target.kind == "file":
        open_home(target, readonly=True).acquire().release()


def _have_patience(transport: Transport, max_wait: float) -> None:
    """Wait for allowance as long as it takes, for an answer as long as the person said."""
    transport.allowance_wait = ALLOWANCE_WAIT
    transport.longest_timeout = max(1.0, max_wait)
    connect, read = transport.timeout
    transport.timeout = min(connect, max(1.0, max_wait)), min(read, max(1.0, max_wait / SINGLE))
