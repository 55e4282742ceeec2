"""Fixtures for the tests of programs that use kvdict; pytest finds them once kvdict is installed.

A module beside the package, which imports kvdict only when a fixture is used: other people's test
runs do not pay for it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import kvdict

ACCOUNT_ID = "e" * 32
TOKEN = "kvdict-emulator-token"  # noqa: S105 - of an emulator that lives for one test


@pytest.fixture
def kvdict_memory() -> Iterator[kvdict.KVNamespace[Any]]:
    """Give an empty namespace in memory."""
    import kvdict

    with kvdict.open("memory://") as kv:
        yield kv


@pytest.fixture
def kvdict_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[kvdict.KVNamespace[Any]]:
    """Serve an emulator and set the environment to it; give its empty namespace "default".

    `kvdict.open("TITLE", create=True)` in the tested program, wrangler and whatever else reads
    Cloudflare's variables talk to the emulator then.
    """
    import kvdict
    from kvdict.emulator import Emulator, Store, serve

    store = Store(None)
    with serve(Emulator(store, token=TOKEN)) as server:
        monkeypatch.delenv("KVDICT_OFFLINE", raising=False)
        monkeypatch.setenv("CLOUDFLARE_API_BASE_URL", server.url)
        monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", ACCOUNT_ID)
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", TOKEN)
        monkeypatch.setenv("KVDICT_URL", "kv:///default")
        with kvdict.open("default", create=True) as kv:
            yield kv
    store.close()


@pytest.fixture
def kvdict_offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[kvdict.Account]:
    """Let every Cloudflare home open in memory, empty for each test; give its account.

    Without account or token: `kvdict.open("TITLE")` makes the namespace.
    """
    import kvdict

    url = f"memory://kvdict-offline-{uuid.uuid4().hex}"
    monkeypatch.setenv("KVDICT_OFFLINE", url)
    with kvdict.Account(url) as account:
        yield account
