"""What the tests of all caching backends share."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator

import pytest

from kvdict.contrib.shared import close_all
from kvdict.emulator import Server
from tests.conftest import ACCOUNT, account_of
from tests.world import World


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.kv.close()


@pytest.fixture
def where(server: Server) -> str:
    """Name a namespace of a served emulator, which is not there yet."""
    return served(server)


@pytest.fixture
def nowhere() -> str:
    """Name a place where nobody answers."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    return f"kv+http://127.0.0.1:{port}/{ACCOUNT}/{'f' * 32}"


def served(server: Server) -> str:
    """Return such a name, another one each time."""
    return f"{account_of(server)}/test-{uuid.uuid4().hex}"
