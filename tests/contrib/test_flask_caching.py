"""A Flask application with Flask-Caching: views, memoized functions, prefixes, signatures."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import version
from typing import Any

import flask
import pytest
from flask_caching import Cache

import kvdict
from kvdict.contrib.flask_caching import KVCache

OLDER = [int(part) for part in version("flask-caching").split(".")[:2]] < [2, 5]
TYPE = "kvdict.contrib.flask_caching.KVCache"


@pytest.fixture
def where(where: str) -> str:
    """Name a namespace that is there."""
    kvdict.open(where, create=True).close()
    return where


def make(where: str, **config: Any) -> tuple[flask.Flask, Cache]:
    app = flask.Flask("news")
    config = {"CACHE_TYPE": TYPE, "CACHE_KVDICT_URL": where, **config}
    app.config.update({name: value for name, value in config.items() if value is not None})
    return app, Cache(app)


def keys(where: str) -> list[str]:
    with kvdict.open(where, codec="bytes") as kv:
        return list(kv)


def backend(cache: Cache) -> KVCache:
    made = cache.cache
    assert isinstance(made, KVCache)
    return made


def test_a_cached_view_is_worked_out_once_for_all_workers(where: str) -> None:
    asked = []

    def news() -> flask.Flask:
        app, cache = make(where)

        @app.get("/")
        @cache.cached(timeout=30)
        def front() -> str:
            asked.append(1)
            return f"page {len(asked)}"

        @app.get("/item")
        @cache.cached(timeout=30, query_string=True)
        def item() -> str:
            return flask.request.args["id"]

        return app

    one, two = news().test_client(), news().test_client()
    assert [one.get("/").text, two.get("/").text, one.get("/").text] == ["page 1"] * 3
    assert one.get("/item?id=1").text == "1"
    assert two.get("/item?id=2").text == "2"


def test_a_memoized_function_forgets_on_demand(where: str) -> None:
    app, cache = make(where)
    called = []

    @cache.memoize(60)
    def square(number: int) -> int:
        called.append(number)
        return number * number

    with app.app_context():
        assert [square(2), square(2), square(3)] == [4, 4, 9]
        cache.delete_memoized(square, 2)
        assert [square(2), square(3)] == [4, 9]
        assert called == [2, 3, 2]
        cache.delete_memoized(square)
        square(3)
        assert called == [2, 3, 2, 3]


@pytest.mark.parametrize(
    "config",
    [
        {"CACHE_KVDICT_URL": "WHERE"},
        {"CACHE_ARGS": ["WHERE"]},
        {"CACHE_OPTIONS": {"where": "WHERE"}},
        {"CACHE_ARGS": ["WHERE"], "CACHE_KVDICT_URL": "memory://not-this-one"},
    ],
)
def test_each_way_to_say_where_honours_the_prefix(where: str, config: dict[str, Any]) -> None:
    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: put(each) for name, each in value.items()}
        if isinstance(value, list):
            return list(map(put, value))
        return where if value == "WHERE" else value

    _, cache = make(where, **{"CACHE_KVDICT_URL": None, "CACHE_KEY_PREFIX": "p:", **put(config)})
    cache.set("k", 1)
    assert cache.get("k") == 1
    assert keys(where) == ["flask-caching:p:k"]


def test_without_a_place_it_is_that_of_the_environment(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVDICT_URL", where)
    _, cache = make(where, CACHE_KVDICT_URL=None)
    cache.set("k", 1)
    assert keys(where) == ["flask-caching:flask_cache_k"]


def test_clear_of_one_prefix_leaves_the_other(where: str) -> None:
    _, one = make(where, CACHE_KEY_PREFIX="one:")
    _, two = make(where, CACHE_KEY_PREFIX="two:")
    one.set_many({"a": 1, "b": 2})
    two.set("a", 3)
    one.clear()
    assert one.get_many("a", "b") == [None, None]
    assert two.get("a") == 3


def test_options_are_those_of_the_cache(where: str) -> None:
    options = {"prefix": "mine:", "codec": "json", "buffer": True, "failures": "raise"}
    _, cache = make(where, CACHE_OPTIONS=options, CACHE_DEFAULT_TIMEOUT=90)
    made = backend(cache)
    assert made.default_timeout == 90
    assert made._backend.failures == "raise"
    cache.set("k", [1])
    with kvdict.open(where) as kv:
        made._backend.flush()
        assert kv["mine:flask_cache_k"] == [1]


def test_values_are_signed_with_the_secret_key_and_read_with_its_fallbacks(where: str) -> None:
    _, old = make(where, SECRET_KEY="old")
    old.set("k", 1)
    _, new = make(where, SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"])
    assert new.get("k") == 1
    _, another = make(where, SECRET_KEY="another")
    assert another.get("k") is None
    _, unsigned = make(where, SECRET_KEY=None)
    unsigned.set("k", 2)
    assert new.get("k") is None
    _, own = make(where, SECRET_KEY="x", CACHE_OPTIONS={"secret": "y"})
    own.set("k", 3)
    assert own.get("k") == 3
    assert "old" not in repr(backend(new).serializer)


def test_the_serializer_of_a_subclass_takes_the_place_of_signed_pickle(where: str) -> None:
    class Json(KVCache):
        serializer = json  # as cachelib's own classes name theirs

    app = flask.Flask("news")
    app.secret_key = "s"
    cache = Json.factory(app, {"CACHE_KVDICT_URL": where}, [], {})
    cache.set("k", [1])
    with kvdict.open(where) as kv:
        assert kv["flask-caching:k"] == [1]


@pytest.mark.skipif(OLDER, reason="CACHE_SERIALIZER came with Flask-Caching 2.5")
def test_a_serializer_of_flask_caching_takes_the_place_of_pickle(where: str) -> None:
    serializers = import_module("cachelib.serializers")  # older releases have none for JSON
    _, cache = make(where, CACHE_SERIALIZER=serializers.JSONSerializer, SECRET_KEY="s")
    cache.set("k", [1])
    with kvdict.open(where) as kv:
        assert kv["flask-caching:flask_cache_k"] == [1]


def test_ignored_errors_of_delete_many_are_the_applications_choice(where: str) -> None:
    _, cache = make(where)
    assert not backend(cache).ignore_delete_many_errors
    _, cache = make(where, CACHE_IGNORE_ERRORS=True)
    assert backend(cache).ignore_delete_many_errors


@pytest.mark.parametrize("options", [{}, {"ignore_delete_many_errors": True}], ids=["2.3", "2.5"])
def test_it_is_made_as_each_version_of_flask_caching_asks(
    where: str, options: dict[str, Any]
) -> None:
    config = {"CACHE_KVDICT_URL": where, "CACHE_KEY_PREFIX": "p:"}
    cache = KVCache.factory(flask.Flask("x"), config, [], {"default_timeout": 90, **options})
    assert cache.default_timeout == 90
    assert cache.ignore_delete_many_errors == bool(options)
    cache.set("k", 1)
    assert keys(where) == ["flask-caching:p:k"]


def test_a_cached_view_costs_one_request_and_two_the_first_time(where: str) -> None:
    app, cache = make(where)

    @app.get("/")
    @cache.cached()
    def front() -> str:
        return "page"

    web = app.test_client()
    kv = backend(cache)._backend.kv
    spent = []
    for _ in range(3):
        before = kv.stats()["requests"]
        web.get("/")
        spent.append(kv.stats()["requests"] - before)
    assert spent == [2, 1, 1]
