"""Two writes of one key at once, past the buffer: what is read afterwards is what is stored."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kvdict.overlaps import Overlaps
from tests.world import World

KINDS: dict[str, dict[str, Any]] = {
    "settling": {"buffer": {"write_through": True, "settle": 60}},
    "cached": {"buffer": {"write_through": True, "settle": 0}, "cache": {"ttl": 60}},
    "both": {"buffer": {"write_through": True, "settle": 60}, "cache": {"ttl": 60}},
}
CALLS: dict[str, Callable[[Any], None]] = {
    "assignment": lambda kv: kv.__setitem__("k", "short"),
    "update": lambda kv: kv.update(k="short", x=1),
    "deletion": lambda kv: kv.delete("k"),
    "deletions": lambda kv: kv.delete_many(["k", "y"]),
}


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(parallel=True, **KINDS[request.param])
    yield world
    world.kv.close()


def stored(world: World) -> Any:
    entry = world.other.bulk_get(world.kv.id, ["k"])["k"]
    return None if entry is None else json.loads(entry.value)


@pytest.mark.parametrize("held", ["before", "after"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_update_that_overlaps_with_another_write_leaves_the_truth(
    world: World, held: str, call: Callable[[Any], None]
) -> None:
    """Held up before the service has it, the update is the last; behind that, the first."""
    reached, go_on = threading.Event(), threading.Event()

    def hold(method: str, url: str) -> None:
        if not reached.is_set() and url.endswith("/bulk"):
            reached.set()
            assert go_on.wait(30)

    setattr(world.adapter, held, hold)
    updating = threading.Thread(target=lambda: world.kv.update(k="long", j=1))
    updating.start()
    assert reached.wait(30)
    call(world.kv)
    go_on.set()
    updating.join(30)
    assert world.kv.get("k") == stored(world)
    assert world.kv["j"] == 1
    world.kv["k"] = "last"
    assert world.kv["k"] == "last"


def test_only_keys_of_two_writes_at_once_overlap_and_all_are_forgotten() -> None:
    overlaps = Overlaps()
    with overlaps.writing(["a", "b"]) as first:
        with overlaps.writing(["b", "c"]) as second:
            assert (first, second) == ({"b"}, {"b"})
        with overlaps.writing(["c"]) as third:
            assert third == set()
        assert first == {"b"}, "the other may have come last"
    with overlaps.writing(["a", "b", "c"]) as later:
        assert later == set()
    assert overlaps._under_way == {}


def test_writes_one_behind_the_other_are_still_remembered(world: World) -> None:
    world.kv.update(k="one", j=1)
    world.kv["k"] = "two"
    before = world.requests
    assert (world.kv["k"], world.kv["j"]) == ("two", 1)
    assert world.requests == before
