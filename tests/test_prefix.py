"""A view behind a prefix speaks of its own keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kvdict
from tests.world import World

DATA = {"user:ann": 1, "bob": 2, "eve": math.nan}


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.kv.close()


def drop_deletions(method: str, _url: str) -> None:
    if method == "DELETE":
        raise ConnectionError("gone")


@pytest.mark.parametrize(
    "call",
    [
        lambda view: view.update(DATA),
        lambda view: view.put_many(DATA, metadata={}),
        lambda view: view.delete_many([*DATA, "x" * 600]),
    ],
    ids=["update", "put_many", "delete_many"],
)
def test_the_error_of_a_bulk_call_names_the_keys_as_they_were_given(
    world: World, call: Callable[[Any], None]
) -> None:
    view = world.kv.prefixed("user:")
    with pytest.raises(kvdict.KVError) as caught:
        call(view)
    assert list(caught.value.keys)[:2] == ["user:ann", "bob"]
    view.update({key: 1 for key in caught.value.keys if key in DATA})
    assert "user:user:ann" in world.kv


def test_so_does_that_of_a_source_which_breaks_off_and_of_a_refused_clear(world: World) -> None:
    def broken() -> Iterator[tuple[str, int]]:
        yield "ann", 1
        raise OSError("no more")

    view = world.kv.prefixed("user:")
    with pytest.raises(OSError, match="no more") as caught:
        view.update(broken())
    assert caught.value.keys == ("ann",)  # type: ignore[attr-defined] # named there too
    view["ann"] = 1
    world.kv.client.transport.max_wait = 0
    world.adapter.before = drop_deletions
    with pytest.raises(kvdict.TransportError) as refused:
        view.clear()
    assert refused.value.keys == ("ann",)
    assert list(view) == ["ann"]
