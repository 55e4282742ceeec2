"""Fixtures: a served emulator that asks for a token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvdict.emulator import Emulator, Server, Store, serve

ACCOUNT = "0123456789abcdef" * 2
TOKEN = "a-token"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    store = Store(None)
    yield Emulator(store, token=TOKEN)
    store.close()


@pytest.fixture
def server(emulator: Emulator) -> Iterator[Server]:
    with serve(emulator) as server:
        yield server
