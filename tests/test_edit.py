"""`kv.edit`: a value changed in place, and saved once if it changed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import kvdict
from kvdict import CodecError, Entry, KVNamespace
from tests.world import World

Spent = Callable[[KVNamespace[Any], Callable[[], Any]], float]


def test_a_nested_change_is_saved_at_the_end(kv: KVNamespace[Any]) -> None:
    kv["cart"] = {"items": [1]}
    with kv.edit("cart") as cart:
        cart["items"].append({"n": 2})
        cart["items"][1]["n"] += 1
        assert kv["cart"] == {"items": [1]}
    assert kv["cart"] == {"items": [1, {"n": 3}]}


def test_a_list_can_be_edited_too(kv: KVNamespace[Any]) -> None:
    with kv.edit("names", default=[]) as names:
        names += ["a", "b"]
    with kv.edit("names", []) as names:
        names.remove("a")
    assert kv["names"] == ["b"]


def change(kv: KVNamespace[Any], key: str, value: Any) -> None:
    with kv.edit(key, default={}) as edited:
        edited["n"] = value


@pytest.mark.parametrize("cache", [False, True])
def test_it_costs_2_requests_and_1_if_nothing_changed(spent: Spent, cache: bool) -> None:
    with kvdict.open("memory://", cache=cache) as kv:
        assert spent(kv, lambda: change(kv, "cart", 1)) == 2
        assert spent(kv, lambda: change(kv, "cart", 1)) == 1
        assert spent(kv, lambda: change(kv, "cart", 2)) == 2
        assert kv["cart"] == {"n": 2}


def test_a_change_that_was_undone_is_none(kv: KVNamespace[Any], spent: Spent) -> None:
    kv.using("text")["cart"] = '{ "b": 1,  "a": [] }'  # not as the codec would write it
    kv.flush()

    def edit() -> None:
        with kv.edit("cart") as cart:
            cart["a"].append(1)
            del cart["a"][0]

    assert spent(kv, edit) <= 1
    assert kv.using("text")["cart"] == '{ "b": 1,  "a": [] }'


def test_an_exception_saves_nothing(kv: KVNamespace[Any]) -> None:
    kv["cart"] = {}
    for key in ("cart", "new"):
        with pytest.raises(ZeroDivisionError), kv.edit(key, default={}) as cart:
            cart["n"] = 1
            cart["m"] = 1 // 0
    assert dict(kv.items()) == {"cart": {}}


def test_a_missing_key_is_a_key_error(kv: KVNamespace[Any]) -> None:
    with pytest.raises(KeyError, match="^'cart'$"), kv.prefixed("user:").edit("cart"):
        raise AssertionError("the block was entered")


def test_a_default_is_stored_only_if_it_changes_and_stays_what_it_was(
    kv: KVNamespace[Any],
) -> None:
    default: dict[str, list[int]] = {"items": []}
    with kv.edit("cart", default=default) as cart:
        pass
    assert "cart" not in kv
    with kv.edit("cart", default=default) as cart:
        cart["items"].append(1)
    assert kv["cart"] == {"items": [1]}
    assert default == {"items": []}
    with kv.edit("cart", default={"items": [9]}) as cart:
        assert cart == {"items": [1]}


@pytest.mark.parametrize(
    "value", ["text", 1, 1.5, True, None], ids=lambda value: type(value).__name__
)
def test_a_value_that_cannot_change_is_an_error_with_advice(
    kv: KVNamespace[Any], value: Any
) -> None:
    advice = rf"a {type(value).__name__} cannot be changed in place; assign it: kv\['k'\] = "
    with pytest.raises(CodecError, match=advice), kv.edit("k", default=value):
        raise AssertionError("the block was entered")
    kv["k"] = value
    with pytest.raises(CodecError, match=advice), kv.edit("k"):
        raise AssertionError("the block was entered")


def test_a_result_that_cannot_be_stored_is_an_error_and_the_old_one_stays(
    kv: KVNamespace[Any],
) -> None:
    kv["cart"] = {}
    with pytest.raises(CodecError, match="'cart': 'json' cannot encode"), kv.edit("cart") as cart:
        cart["n"] = {1}
    assert kv["cart"] == {}


def test_views_and_codecs(kv: KVNamespace[Any]) -> None:
    user = kv.prefixed("user:").using("pickle")
    with user.edit("tags", default=set()) as tags:
        tags.add("a")
    with user.edit("tags") as tags:
        tags |= {"b"}
    assert user["tags"] == {"a", "b"}
    assert list(kv) == ["user:tags"]


def test_an_unchanged_pickle_is_not_stored_again(spent: Spent) -> None:
    with kvdict.open("memory://", codec="pickle") as kv:
        kv["tags"] = {"tags": {str(n) for n in range(100)}, "now": 1.5}

        def read() -> None:
            with kv.edit("tags") as value:
                assert len(value["tags"]) == 100

        assert spent(kv, read) == 1


def test_expiration_and_metadata_stay(kv: KVNamespace[Any]) -> None:
    ends = int(kv._backing.clock.now()) + 1000
    kv.put("cart", {}, expiration=ends, metadata={"by": ["me"]})
    change(kv, "cart", 1)
    assert kv.entry("cart") == Entry({"n": 1}, ends, {"by": ["me"]})
    kv.put("plain", {}, metadata=False)
    change(kv, "plain", 1)
    assert kv.entry("plain") == Entry({"n": 1}, None, False)


def test_a_new_value_gets_the_namespaces_time_to_live_and_an_old_one_keeps_having_none() -> None:
    world = World()
    world.kv["old"] = {}
    short = world.kv.prefixed("", expiration_ttl=100)
    change(short, "old", 1)
    change(short, "new", 1)
    assert short.entry("old").expiration is None
    assert short.entry("new").expiration == world.time + 100


def test_a_touch_that_names_nothing_begins_the_namespaces_time_to_live_anew() -> None:
    world = World()
    short = world.kv.prefixed("", expiration_ttl=100)
    short.put("k", 1, metadata="m")
    world.pass_time(30)
    short.touch("k", metadata="n")
    assert short.entry("k") == Entry(1, int(world.time) + 70, "n")
    short.touch("k")
    assert short.entry("k") == Entry(1, int(world.time) + 100, "n")
    world.kv.touch("k")
    assert short.entry("k") == Entry(1, int(world.time) + 100, "n")


@pytest.mark.parametrize("buffer", [{}, None])
def test_an_expiration_of_less_than_a_minute_becomes_a_minute(
    buffer: dict[str, Any] | None,
) -> None:
    world = World(buffer=buffer)
    world.kv.put("cart", {}, expiration_ttl=90, metadata="m")
    world.kv.flush()
    world.pass_time(89)
    change(world.kv, "cart", 1)
    world.kv.flush()
    world.kv.refresh("cart")
    stored = world.kv.entry("cart")
    assert (stored.value, stored.metadata) == ({"n": 1}, "m")
    assert 59 <= (stored.expiration or 0) - world.time <= 61
    world.kv.close()


def test_own_pending_writes_are_what_is_edited(spent: Spent) -> None:
    with kvdict.open("memory://", buffer=kvdict.WriteBuffer(max_age=3600)) as kv:
        kv["cart"] = {"n": 1}
        assert spent(kv, lambda: change(kv, "cart", 2)) == 0
        assert kv["cart"] == {"n": 2}
        assert spent(kv, kv.flush) == 1


def test_what_another_has_written_is_edited_whatever_is_cached() -> None:
    with (
        kvdict.open("memory://edited") as other,
        kvdict.open("memory://edited", cache=True) as kv,
    ):
        other["cart"] = {"n": 1}
        assert kv["cart"] == {"n": 1}
        other["cart"] = {"n": 1, "m": 2}
        change(kv, "cart", 3)
        assert kv["cart"] == other["cart"] == {"n": 3, "m": 2}


def test_the_last_writer_wins(kv: KVNamespace[Any]) -> None:
    kv["cart"] = {"n": 0}
    with kv.edit("cart") as cart:
        cart["n"] = 1
        thread = threading.Thread(target=change, args=(kv, "cart", 2))
        thread.start()
        thread.join(10)
        assert kv["cart"] == {"n": 2}
    assert kv["cart"] == {"n": 1}
    assert "last writer wins" in (KVNamespace.edit.__doc__ or "").lower()


def test_bad_keys_readonly_and_closed_namespaces(tmp_path: Any) -> None:
    with kvdict.open(tmp_path / "app.db") as kv:
        kv["cart"] = {}
        for key, error in [(1, TypeError), ("", kvdict.LimitError), ("x" * 513, ValueError)]:
            with pytest.raises(error), kv.edit(key, default={}):  # type: ignore[arg-type]  # a key that is no str is one of them
                raise AssertionError("the block was entered")
    with pytest.raises(kvdict.ClosedError), kv.edit("cart"):
        raise AssertionError("the block was entered")
    with (
        kvdict.open(tmp_path / "app.db", readonly=True) as read,
        pytest.raises(kvdict.ReadOnlyError),
        read.edit("cart"),
    ):
        raise AssertionError("the block was entered")
