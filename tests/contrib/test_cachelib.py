"""cachelib's KVCache: time, prefixes, bulk, failures; and Flask-Session on it."""

from __future__ import annotations

import datetime
import json
import pickle
from collections.abc import Callable
from typing import Any

import flask
import flask_session
import pytest
from cachelib import BaseCache

import kvdict
from kvdict.contrib.cachelib import KVCache
from kvdict.contrib.shared import close_all
from kvdict.emulator.knobs import Fault
from tests.world import World


@pytest.fixture
def cache(world: World) -> KVCache:
    return KVCache(world.kv)


Timeout = float | datetime.timedelta | None


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [(None, 300), (1, 1), (2.5, 2.5), (59, 59), (90, 90), (datetime.timedelta(minutes=2), 120),
     (datetime.timedelta(milliseconds=500), 0.5)],
)  # fmt: skip
def test_an_entry_ends_after_its_timeout(
    world: World, cache: KVCache, timeout: Timeout, seconds: float
) -> None:
    cache.set("a", 1, timeout)
    cache.set_many({"b": 2}, timeout)
    cache.add("c", 3, timeout=timeout)
    world.pass_time(seconds - 0.1)
    assert cache.get_many("a", "b", "c") == [1, 2, 3]
    world.pass_time(1.1)  # the service's own ends with its second
    assert cache.get_many("a", "b", "c") == [None, None, None]
    assert not cache.has("a")


@pytest.mark.parametrize("timeout", [0, datetime.timedelta()])
def test_a_timeout_of_0_is_for_ever(world: World, cache: KVCache, timeout: Any) -> None:
    cache.set("k", 1, timeout)
    for_ever = KVCache(world.kv, default_timeout=timeout, key_prefix="x:")
    for_ever.set("k", 2)
    world.pass_time(1e9)
    assert (cache.get("k"), for_ever.get("k")) == (1, 2)


@pytest.mark.parametrize("timeout", ["60", True, [1]])
def test_what_is_no_timeout_is_a_type_error(world: World, cache: KVCache, timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout"):
        cache.set("k", 1, timeout)
    with pytest.raises(TypeError, match="timeout"):
        KVCache(world.kv, default_timeout=timeout)


def test_inc_goes_on_with_the_timeout_of_the_value(world: World, cache: KVCache) -> None:
    cache.set("k", 5, 30)
    world.pass_time(20)
    assert cache.inc("k", 2) == 7
    assert cache.dec("k") == 6
    world.pass_time(11)
    assert cache.get("k") is None
    assert cache.dec("k", 3) == -3
    assert cache.get("k") == -3


def test_a_prefix_keeps_two_caches_and_what_is_not_theirs_apart(world: World) -> None:
    world.kv["mine"] = "stays"
    world.kv["cachelibrary"] = "stays"
    one, two = KVCache(world.kv, key_prefix="one:"), KVCache(world.kv, key_prefix="two:")
    one.set("k", 1)
    two.set("k", 2)
    assert sorted(world.kv) == ["cachelib:one:k", "cachelib:two:k", "cachelibrary", "mine"]
    assert one.clear()
    assert (one.get("k"), two.get("k")) == (None, 2)
    assert KVCache(world.kv).clear()
    assert dict(world.kv.items()) == {"mine": "stays", "cachelibrary": "stays"}


def test_a_prefix_that_is_a_function_is_refused(world: World) -> None:
    prefix: Any = lambda: "x"  # noqa: E731 - what is under test
    with pytest.raises(TypeError, match="prefix"):
        KVCache(world.kv, key_prefix=prefix)


def test_keys_that_kv_would_not_take_are_keys(cache: KVCache) -> None:
    pairs = {key: key for key in ("", ".", "..", "k" * 600, "ü" * 300)}
    assert cache.set_many(pairs) == list(pairs)
    assert cache.get_dict(*pairs) == pairs
    assert cache.delete_many(*pairs) == list(pairs)


def test_many_keys_come_in_the_order_asked_repeated_or_missing(cache: KVCache) -> None:
    cache.set_many({"a": 1, "b": 2})
    assert cache.get_many("b", "x", "a", "b") == [2, None, 1, 2]
    assert cache.get_dict("b", "x", "b") == {"b": 2, "x": None}
    assert cache.get_many() == []


def test_delete_tells_whether_there_was_anything(cache: KVCache) -> None:
    cache.set("k", None)
    assert cache.delete("k")
    assert not cache.delete("k")
    assert cache.delete_many("k", "l") == ["k", "l"]


def test_the_serializer_is_read_and_set(world: World, cache: KVCache) -> None:
    cache.serializer = json
    cache.set("k", [1])
    assert world.kv["cachelib:k"] == [1]
    nothing: Any = None
    with pytest.raises(kvdict.ConfigError):
        cache.serializer = nothing


def test_the_serializer_of_a_subclass_is_its_codec_and_nothing_is_unpickled(world: World) -> None:
    class Json(KVCache):
        serializer = json  # as cachelib's own classes name theirs

    class Deeper(Json):
        pass

    for kind in (Json, Deeper):
        cache = kind(world.kv)
        cache.set("k", [1])
        assert world.kv["cachelib:k"] == [1]
        KVCache(world.kv).set("pickled", {1})
        assert cache.get("pickled") is None
        cache.serializer = pickle
        cache.set("k", {1})
        assert cache.get("k") == {1}
    with pytest.raises(kvdict.ConfigError, match="codec or secret"):
        Json(world.kv, secret="s")
    assert KVCache(world.kv, codec="text").serializer is not json


def test_a_value_that_cannot_be_pickled_is_an_error_that_names_the_key(cache: KVCache) -> None:
    with pytest.raises(kvdict.CodecError, match="'k'"):
        cache.set("k", lambda: 0)


def test_a_secret_signs_and_what_another_wrote_is_missing(world: World) -> None:
    mine, another = KVCache(world.kv, secret="a"), KVCache(world.kv, secret="b")
    mine.set("k", 1)
    assert mine.get("k") == 1
    assert another.get("k") is None


def test_what_calls_cost_in_requests(where: str) -> None:
    cache = KVCache(where, create=True)
    kv = cache._backend.kv
    cache.set("k", 1)
    calls: list[tuple[int, Callable[[], Any]]] = [
        (1, lambda: cache.set("k", 1)),
        (1, lambda: cache.get("k")),
        (1, lambda: cache.get("missing")),
        (1, lambda: cache.has("k")),
        (1, lambda: cache.set_many({f"k{n}": n for n in range(1000)})),
        (1, lambda: cache.get_many(*[f"k{n}" for n in range(100)])),
        (1, lambda: cache.get_dict(*[f"k{n}" for n in range(100)])),
        (2, lambda: cache.add("new", 1)),
        (1, lambda: cache.add("new", 1)),
        (2, lambda: cache.inc("k")),
        (2, lambda: cache.inc("another")),
        (2, lambda: cache.delete("k")),
        (1, lambda: cache.delete_many(*[f"k{n}" for n in range(500)])),
        (2, lambda: cache.clear()),
    ]  # fmt: skip
    for position, (budget, call) in enumerate(calls):
        before = kv.stats()["requests"]
        call()
        assert (position, kv.stats()["requests"] - before) == (position, budget)


def test_failures_are_misses_or_raised(nowhere: str, caplog: pytest.LogCaptureFixture) -> None:
    cache = KVCache(nowhere, max_wait=0)
    assert (cache.get("k"), cache.get_many("k"), cache.has("k")) == (None, [None], False)
    assert (cache.set("k", 1), cache.set_many({"k": 1}), cache.inc("k")) == (False, [], None)
    assert cache.add("k", 1)
    assert (cache.delete("k"), cache.delete_many("k"), cache.clear()) == (False, [], False)
    assert len(caplog.records) == 1
    strict = KVCache(nowhere, max_wait=0, ignore_delete_many_errors=False)
    with pytest.raises(RuntimeError, match="'k'"):
        strict.delete_many("k")
    raising = KVCache(nowhere, max_wait=0, failures="raise")
    with pytest.raises(kvdict.TransportError):
        raising.get("k")


def test_it_is_a_cachelib_cache_with_each_of_its_methods() -> None:
    assert issubclass(KVCache, BaseCache)
    inherited = {name for name, member in vars(BaseCache).items() if callable(member)}
    left = {name for name in inherited if name[0] != "_"} - set(vars(KVCache))
    assert left == set()


def test_without_a_place_it_is_that_of_the_environment(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVDICT_URL", where)
    KVCache(create=True).set("k", 1)
    with kvdict.open(where) as kv:
        assert list(kv) == ["cachelib:k"]


# Flask-Session


def shop(cache: KVCache) -> flask.Flask:
    app = flask.Flask("shop")
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=cache)
    flask_session.Session(app)

    @app.get("/")
    def basket() -> dict[str, Any]:
        return {"basket": flask.session.get("basket", [])}

    @app.post("/")
    def add() -> dict[str, Any]:
        flask.session.setdefault("basket", []).append(flask.request.form["item"])
        flask.session.modified = True
        return basket()

    @app.delete("/")
    def leave() -> str:
        flask.session.clear()
        return ""

    return app


def test_a_session_of_flask_session_is_there_for_the_next_worker(where: str) -> None:
    one = shop(KVCache(where, secret="s", create=True)).test_client()
    assert one.post("/", data={"item": "tea"}).json == {"basket": ["tea"]}
    close_all()  # another worker opens its own
    two = shop(KVCache(where, secret="s")).test_client()
    two.set_cookie("session", one.get_cookie("session").value)  # type: ignore[union-attr] # it is set
    assert two.post("/", data={"item": "milk"}).json == {"basket": ["tea", "milk"]}
    assert one.get("/").json == {"basket": ["tea", "milk"]}
    with kvdict.open(where, codec="bytes") as kv:
        (key,) = kv.scan()
        assert key.name.startswith("cachelib:session:")
        assert key.expiration
    two.delete("/")
    assert one.get("/").json == {"basket": []}


def test_a_page_view_with_a_session_costs_a_read_and_a_write(where: str) -> None:
    cache = KVCache(where, create=True)
    web = shop(cache).test_client()
    web.post("/", data={"item": "tea"})
    kv = cache._backend.kv
    before = kv.stats()["requests"]
    web.post("/", data={"item": "milk"})
    assert kv.stats()["requests"] - before == 2


def test_two_clients_have_sessions_of_their_own(where: str) -> None:
    app = shop(KVCache(where, create=True))
    one, two = app.test_client(), app.test_client()
    one.post("/", data={"item": "tea"})
    assert two.get("/").json == {"basket": []}


def test_a_session_outlives_a_service_that_fails_where_failures_are_raised(
    world: World,
) -> None:
    app = shop(KVCache(world.kv, failures="raise"))
    one = app.test_client()
    one.post("/", data={"item": "tea"})
    world.kv.client.transport.max_wait = 0
    world.knobs.planned.append(Fault("500"))
    assert one.post("/", data={"item": "milk"}).status_code == 500
    assert one.post("/", data={"item": "milk"}).json == {"basket": ["tea", "milk"]}
