"""KVCache in a Django site: sessions, cached pages, workers, what calls cost, and its page."""

from __future__ import annotations

import asyncio
import importlib
import pickle
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
import pytest
import requests
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import CacheKeyWarning
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.test.utils import override_settings

import kvdict
from kvdict.contrib.django import KVCache
from kvdict.contrib.shared import close_all
from kvdict.emulator import Server
from tests.conftest import ACCOUNT, account_of
from tests.processes import Program

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "django.md").read_text()
BACKEND = "kvdict.contrib.django.KVCache"

MODES: list[tuple[dict[str, Any], set[int], set[int]]] = [
    ({}, {1}, {3}),  # two reads and a write
    ({"buffer": {"max_age": 600}}, {0}, {3}),  # what is pending is read from memory
]
"""Options, and the requests of a page that reads the session and of one that changes it."""
if hasattr(kvdict, "ReadCache"):
    MODES.append(({"cache": True}, {0, 1}, {1, 2}))

Spent = Callable[[kvdict.KVNamespace[Any], Callable[[], Any]], float]


@pytest.fixture(autouse=True)
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the site up, with the page's own settings, over a new memory."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.contrib.django_project.settings")
    monkeypatch.setenv("KVDICT_OFFLINE", f"memory://{uuid.uuid4().hex}")
    django.setup()
    with override_settings(CACHES=settings.CACHES):  # this makes new cache objects
        yield
    close_all()


@pytest.fixture
def cache(server: Server) -> Iterator[KVCache]:
    where = f"{account_of(server)}/test-{uuid.uuid4().hex}"
    return KVCache(where, {"OPTIONS": {"create": True}})


def kv_of(cache: Any) -> kvdict.KVNamespace[bytes]:
    """Return the namespace, which opens it."""
    found: kvdict.KVNamespace[bytes] = cache._backend.kv
    return found


# A site


def settings_with(**options: Any) -> Any:
    """Return the page's CACHES with more options, in a namespace of their own."""
    return override_settings(
        CACHES={"default": {"BACKEND": BACKEND, "LOCATION": f"memory://{uuid.uuid4().hex}",
                            "OPTIONS": options}}
    )  # fmt: skip


@pytest.mark.parametrize(("options", "reading", "changing"), MODES)
def test_what_a_page_view_with_a_session_takes(
    options: dict[str, Any], reading: set[int], changing: set[int], spent: Spent
) -> None:
    with settings_with(**options):
        kv = kv_of(caches["default"])
        client = Client()
        assert client.get("/login/me").content == b"welcome"
        assert spent(kv, lambda: client.get("/who")) in reading
        kv.flush()
        assert spent(kv, lambda: (client.get("/visit"), kv.flush())) in changing
        assert spent(kv, lambda: client.get("/plain")) == 0
        assert client.get("/who").content == b"me"
        assert client.get("/visit").content == b"2"
        client.get("/logout")
        assert client.get("/who").content == b"nobody"


def test_a_cached_page_is_made_once_and_then_takes_two_reads(spent: Spent) -> None:
    client = Client()
    first = client.get("/slow").content
    assert first.startswith(b"made once")
    assert client.get("/slow").content == first
    assert spent(kv_of(caches["default"]), lambda: client.get("/slow")) == 2
    caches["default"].clear()
    assert client.get("/slow").content != first


def test_a_login_survives_an_unreachable_service_as_an_anonymous_visit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    where = f"kv+http://127.0.0.1:1/{ACCOUNT}/{'f' * 32}"
    options = {"max_wait": 0, "token": "x"}
    with override_settings(
        CACHES={"default": {"BACKEND": BACKEND, "LOCATION": where, "OPTIONS": options}}
    ):
        client = Client()
        assert client.get("/login/me").content == b"welcome"
        assert client.get("/who").content == b"nobody"
        assert client.get("/slow").content.startswith(b"made once")
    said = [record for record in caplog.records if record.name == "kvdict"]
    assert len(said) == 1
    assert "counts as a miss" in said[0].getMessage()


@contextmanager
def worker(where: str, database: str = ":memory:") -> Iterator[str]:
    """Run a process that serves the site, and give its root."""
    with Program(
        [sys.executable, "-W", "error", "-m", "tests.contrib.django_project"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={"SITE_LOCATION": where, "SITE_DATABASE": database},
    ) as process:  # fmt: skip
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.communicate("", timeout=30)
    assert process.returncode == 0


def test_two_workers_share_logins_and_pages(server: Server) -> None:
    where = f"{account_of(server)}/site-{uuid.uuid4().hex}"
    with worker(where) as one, worker(where) as two, requests.Session() as browser:
        assert browser.get(f"{one}/login/me").text == "welcome"
        assert browser.get(f"{two}/who").text == "me"
        assert [browser.get(f"{root}/visit").text for root in (one, two) * 2] == list("1234")
        browser.headers["Host"] = "127.0.0.1"  # a cached page is that of a host and port
        assert browser.get(f"{one}/slow").text == browser.get(f"{two}/slow").text
        key = str(browser.cookies["sessionid"])
        assert browser.get(f"{two}/logout").text == "bye"
        assert requests.get(f"{one}/who", cookies={"sessionid": key}).text == "nobody"


def test_sessions_in_the_database_too_outlive_the_cache(server: Server, tmp_path: Path) -> None:
    where = f"{account_of(server)}/site-{uuid.uuid4().hex}"
    database = str(tmp_path / "site.sqlite3")
    with (
        worker(where, database) as one,
        worker(where, database) as two,
        requests.Session() as browser,
    ):
        assert browser.get(f"{one}/login/me").text == "welcome"
        buffer = kvdict.WriteBuffer(write_through=True, settle=0)
        with kvdict.open(where, buffer=buffer) as kv:
            assert [key.partition("cached_db")[0] for key in kv] == [
                "django::1:django.contrib.sessions."
            ]
            kv.clear()
            assert browser.get(f"{two}/who").text == "me"
            assert len(kv) == 1


# Costs


def test_what_calls_cost_is_what_the_page_says(cache: KVCache, spent: Spent) -> None:
    many = {str(number): number for number in range(1000)}
    costs: list[tuple[int, Callable[[], Any]]] = [
        (1, lambda: cache.set_many(many)),
        (1, lambda: cache.get_many(list(many)[:100])),
        (1, lambda: cache.get("1")),
        (1, lambda: cache.has_key("1")),
        (1, lambda: cache.set("1", 1)),
        (1, lambda: cache.add("1", 1)),
        (2, lambda: cache.add("new", 1)),
        (1, lambda: cache.get_or_set("1", 1)),
        (2, lambda: cache.get_or_set("newer", 1)),
        (2, lambda: cache.touch("1")),
        (2, lambda: cache.incr("1")),
        (2, lambda: cache.decr("1")),
        (2, lambda: cache.delete("1")),
        (1, lambda: cache.delete_many(many)),
        (0, cache.close),
    ]
    kv = kv_of(cache)
    for cost, call in costs:
        assert spent(kv, call) == cost
    for words in ("`add` | 2, 1 if", "`touch`, `incr`, `decr`, `delete` | 2 |",
                  "2 reads and 1 write"):  # fmt: skip
        assert words in PAGE


# The interface


def test_the_async_methods_do_the_same_in_bulk_and_off_the_event_loop(
    cache: KVCache, spent: Spent
) -> None:
    kv = kv_of(cache)
    threads = set()
    make_key = cache.make_key

    def notice_thread(*args: Any, **options: Any) -> str:
        threads.add(threading.get_ident())
        return str(make_key(*args, **options))

    cache.make_key = notice_thread

    async def use() -> None:
        many = {str(number): number for number in range(300)}
        assert await cache.aset_many(many) == []
        assert await cache.aget_many(list(many)[:100]) == dict(list(many.items())[:100])
        assert await cache.aadd("a", 1)
        assert not await cache.aadd("a", 2)
        assert await cache.aget("a") == 1
        await cache.aset("a", 2, timeout=30)
        assert await cache.aincr("a") == 3
        assert await cache.adecr("a", 2) == 1
        assert await cache.atouch("a", 60)
        assert await cache.ahas_key("a")
        assert await cache.aget_or_set("b", lambda: 7) == 7
        assert await cache.aget_or_set("b", 8) == 7
        assert await cache.aincr_version("b") == 2
        assert await cache.aget("b", version=2) == 7
        assert await cache.adelete("a")
        await cache.adelete_many(many)
        assert await cache.aget("1", "gone") == "gone"
        await cache.aclear()
        await cache.aclose()

    cost = spent(kv, lambda: asyncio.run(use()))
    assert cost < 40
    assert threads
    assert threading.get_ident() not in threads


def test_several_async_calls_run_side_by_side(cache: KVCache) -> None:
    meeting = threading.Barrier(2)
    cache._backend.get = lambda *_: meeting.wait(30)  # type: ignore[method-assign] # waits for both

    async def use() -> list[int]:
        return list(await asyncio.gather(cache.aget("a"), cache.aget("b")))

    assert sorted(asyncio.run(use())) == [0, 1]


def test_prefix_version_and_key_prefix_make_the_stored_key(cache: KVCache) -> None:
    cache.set("k", 1)
    cache.set("k", 2, version=3)
    other = KVCache("memory://keys", {"KEY_PREFIX": "p", "OPTIONS": {"prefix": "site:"}})
    other.set("k", 1)
    assert list(kv_of(cache)) == [":1:k", ":3:k"]
    assert kv_of(cache).prefix == "django:"
    assert [kv_of(other).prefix + key for key in kv_of(other)] == ["site:p:1:k"]


def test_clear_leaves_what_is_outside_the_prefix(cache: KVCache) -> None:
    whole = KVCache(cache_location(cache), {"OPTIONS": {"create": True, "prefix": "other:"}})
    whole.set("mine", 1)
    cache.set("k", 1)
    cache.clear()
    assert cache.get("k") is None
    assert whole.get("mine") == 1


def cache_location(cache: KVCache) -> str:
    kv = kv_of(cache)
    return str(re.findall(r"'(kv\+.+?)'", repr(kv))[0])


def test_keys_that_memcached_would_not_take_warn_and_work(cache: KVCache) -> None:
    for key in ("with space", "x" * 300, "x" * 2000):
        with pytest.warns(CacheKeyWarning, match="memcached"):
            cache.set(key, 1)
        with pytest.warns(CacheKeyWarning):
            assert cache.get(key) == 1


def test_incr_keeps_the_timeout(cache: KVCache) -> None:
    cache.set("n", 1, timeout=3600)
    before = kv_of(cache).entry(":1:n").expiration
    assert cache.incr("n", 5) == 6
    after = kv_of(cache).entry(":1:n").expiration
    assert before
    assert after
    assert abs(after - before) <= 2
    with pytest.raises(ValueError, match="'missing' not found"):
        cache.incr("missing")


def test_values_are_signed_with_the_secret_key_and_read_with_the_fallbacks(cache: KVCache) -> None:
    where = cache_location(cache)
    cache.set("k", {"a": (1,)})

    def again() -> KVCache:
        return KVCache(where, {"OPTIONS": {"create": True}})

    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["a site's secret"]):
        assert again().get("k") == {"a": (1,)}
        again().set("new", 1)
    with override_settings(SECRET_KEY="foreign"):
        assert again().get("k", "refused") == "refused"
    assert cache.get("new", "refused") == "refused"


def test_a_codec_takes_the_place_of_pickle(cache: KVCache) -> None:
    json = KVCache(cache_location(cache), {"OPTIONS": {"codec": "json", "create": True}})
    json.set("k", (1, 2))
    assert json.get("k") == [1, 2]
    assert kv_of(json)[":1:k"] == b"[1,2]"


class Unpicklable:
    def __reduce__(self) -> Any:
        raise pickle.PicklingError("not me")


def test_a_value_that_cannot_be_pickled_says_so_and_names_the_key(cache: KVCache) -> None:
    with pytest.raises(pickle.PicklingError, match="not me") as caught:
        cache.set_many({"good": 1, "bad": Unpicklable()})
    assert any("':1:bad'" in note for note in caught.value.__notes__)


class Numbers:
    """A codec whose author forgot that KV stores text and bytes."""

    def dumps(self, value: Any) -> Any:
        return value

    def loads(self, data: bytes) -> Any:
        return data


def test_a_codec_that_returns_neither_text_nor_bytes_is_told_so(cache: KVCache) -> None:
    broken = KVCache(cache_location(cache), {"OPTIONS": {"codec": Numbers(), "create": True}})
    with pytest.raises(kvdict.CodecError, match="dumps returned int, not str or bytes"):
        broken.set("k", 1)


@pytest.mark.parametrize(
    "options", [{"codec": "yaml"}, {"MAX_ENTRIES": 3}, {"failures": "no"}, {"buffer": {"x": 1}}]
)
def test_wrong_options_are_improperly_configured(options: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfigured, match="CACHES: LOCATION or OPTIONS: "):
        KVCache("memory://", {"OPTIONS": options})


def test_one_object_a_thread_and_all_share_one_namespace() -> None:
    found = []
    threads = [threading.Thread(target=lambda: found.append(caches["default"])) for _ in range(3)]
    for thread in threads:
        thread.start()
        thread.join()
    assert len(set(map(id, found))) == 3
    assert len({id(kv_of(cache).client) for cache in found}) == 1
    found[0].close()
    assert found[1].get("k", 5) == 5


# The page


def test_the_pages_settings_are_those_that_the_site_runs_with() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
        importlib.import_module(names["SESSION_ENGINE"])
    assert caches["default"]._backend.prefix == names["CACHES"]["default"]["OPTIONS"]["prefix"]
