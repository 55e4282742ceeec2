"""A `CachedSession` on KV against a server: what it stores, what it costs, how it ends."""

from __future__ import annotations

import re
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import requests_cache
from requests_cache import CachedSession
from requests_cache.backends.base import BaseCache
from requests_cache.models.response import CachedResponse
from requests_cache.policy import utcnow
from werkzeug import Request, Response
from werkzeug.serving import WSGIRequestHandler, make_server

import kvdict
from kvdict.contrib.requests_cache import KVCache, KVStorage
from kvdict.contrib.shared import close_all
from tests.conftest import ACCOUNT
from tests.world import World

PAGE = (Path(__file__).parents[2] / "docs" / "requests-cache.md").read_text()


class Silent(WSGIRequestHandler):
    """Serves without a line for each request."""

    def log_request(self, *_: object) -> None:
        pass


class Site:
    """Answers with how often it was asked; /big/BYTES, /tagged (an ETag) and /to/PATH (302)."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.lock = threading.Lock()

    def answer(self, request: Request) -> Response:
        with self.lock:
            self.asked.append(request.path)
        if request.path.startswith("/to/"):
            return Response(status=302, headers={"Location": request.path.removeprefix("/to")})
        if request.path.startswith("/big/"):
            return Response(b"\xff" * int(request.path.removeprefix("/big/")))
        if request.path == "/tagged":
            response = Response(f"version of {request.path}", headers={"ETag": '"1"'})
            return response.make_conditional(request)
        return Response(f"{request.path} {len(self.asked)}")


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    app = Request.application(site.answer)
    running = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.port}"
    running.shutdown()
    thread.join()
    running.server_close()


Session = Callable[..., CachedSession]


@pytest.fixture
def session_on() -> Iterator[Session]:
    """Return how to make a session, with options of the backend; all are closed at the end."""
    made: list[CachedSession] = []

    def make(where: Any, expire_after: Any = -1, **options: Any) -> CachedSession:
        session = CachedSession(backend=KVCache(where=where, **options), expire_after=expire_after)
        session.trust_env = False
        made.append(session)
        return session

    yield make
    for session in made:
        session.close()


def spent(world: World, call: Callable[[], Any]) -> float:
    before = world.kv.stats()["requests"]
    call()
    return world.kv.stats()["requests"] - before


# A session against a server


@pytest.mark.parametrize("buffer", [False, True])
@pytest.mark.parametrize("serializer", [None, "json"])
def test_a_response_comes_from_the_cache_of_this_process_and_of_the_next(
    where: str, url: str, site: Site, session_on: Session, buffer: bool, serializer: str | None
) -> None:
    options = {"create": True, "buffer": buffer, "serializer": serializer}
    session = session_on(where, **options)
    first, second = session.get(f"{url}/a"), session.get(f"{url}/a")
    assert (first.from_cache, second.from_cache) == (False, True)
    assert first.content == second.content == b"/a 1"
    session.close()
    close_all()
    third = session_on(where, **options).get(f"{url}/a")
    assert third.from_cache
    assert third.content == b"/a 1"
    assert third.headers["Content-Type"] == first.headers["Content-Type"]
    assert site.asked == ["/a"]


def test_closing_a_session_sends_what_is_buffered_and_it_may_be_used_again(
    where: str, url: str, session_on: Session
) -> None:
    session = session_on(where, create=True, buffer={"max_age": 1000})
    session.get(f"{url}/a")
    with kvdict.open(where, codec="bytes") as kv:
        assert len(kv) == 0
        session.close()
        assert len(kv) == 1
    assert session.get(f"{url}/a").from_cache


def test_closing_a_session_after_its_namespace_is_nothing(url: str, session_on: Session) -> None:
    with kvdict.open("memory://") as kv:
        session = session_on(kv)
        session.get(f"{url}/a")
    session.close()


def test_a_redirect_leads_to_the_cached_response(
    world: World, url: str, site: Site, session_on: Session
) -> None:
    session = session_on(world.kv)
    first = session.get(f"{url}/to/to/a")
    assert len(session.cache.redirects) == 2
    second = session.get(f"{url}/to/to/a")
    assert second.from_cache
    assert second.url == first.url == f"{url}/a"
    assert [each.status_code for each in second.history] == [302, 302]
    assert len(site.asked) == 3


def test_an_expired_response_is_validated_and_not_loaded_again(
    world: World, url: str, site: Site, session_on: Session
) -> None:
    session = session_on(world.kv, expire_after=timedelta(seconds=-1))
    assert not session.get(f"{url}/tagged").from_cache
    assert session.get(f"{url}/tagged").from_cache
    assert site.asked == ["/tagged"] * 2  # the second was answered 304


def test_a_program_whose_requests_are_cached_everywhere_does_not_cache_kvdicts_own(
    where: str, url: str, site: Site
) -> None:
    with requests_cache.enabled(backend=KVCache(where=where, create=True)):
        assert requests.get(f"{url}/a", timeout=5).text == requests.get(f"{url}/a", timeout=5).text
        cache = requests_cache.get_cache()
        assert cache is not None
        assert cache.urls() == [f"{url}/a"]
        close_all()
    assert site.asked == ["/a"]


def test_threads_share_a_session(where: str, url: str, session_on: Session) -> None:
    session = session_on(where, create=True)
    texts: list[tuple[int, str]] = []

    def work() -> None:
        texts.extend((n, session.get(f"{url}/{n}").text) for n in range(10))

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 50
    assert all(text.startswith(f"/{n} ") for n, text in texts)
    assert len(session.cache.responses) == 10


def test_a_response_that_is_too_large_for_kv_reaches_the_session_and_takes_the_older_one_away(
    world: World, url: str, session_on: Session, caplog: pytest.LogCaptureFixture
) -> None:
    session = session_on(world.kv)
    request = requests.Request("GET", f"{url}/big/20000000")
    session.cache.responses[session.cache.create_key(request.prepare())] = CachedResponse()
    response = session.get(str(request.url), force_refresh=True)
    assert len(response.content) == 20_000_000
    assert "not cached" in caplog.text
    assert not session.cache.responses
    with pytest.raises(kvdict.LimitError):
        session_on(world.kv, failures="raise").get(str(request.url))


def test_where_kv_is_gone_the_session_asks_the_server(
    url: str, session_on: Session, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gone = f"kv+http://127.0.0.1:{unused.getsockname()[1]}/{ACCOUNT}/{'f' * 32}"
        session = session_on(gone, max_wait=0)
        assert session.get(f"{url}/a").text == "/a 1"
        assert session.get(f"{url}/a").text == "/a 2"
        assert "counts as a miss" in caplog.text
        with pytest.raises(kvdict.TransportError):
            session_on(gone, max_wait=0, failures="raise").get(f"{url}/a")


# What it costs


def test_a_hit_takes_one_request_and_a_miss_three(
    world: World, url: str, session_on: Session
) -> None:
    session = session_on(world.kv)
    assert spent(world, lambda: session.get(f"{url}/a")) == 3
    assert spent(world, lambda: session.get(f"{url}/a")) == 1
    # each of three is looked for as a response and as a redirect; the last is stored by its own
    # address, with its history by the first, and the redirects to that
    assert spent(world, lambda: session.get(f"{url}/to/to/b")) == 9
    assert spent(world, lambda: session.get(f"{url}/to/to/b")) == 1
    assert spent(world, lambda: session.get(f"{url}/to/b")) == 3
    assert spent(world, lambda: session.cache.contains(url=f"{url}/a")) == 1


@pytest.fixture
def full(world: World) -> KVCache:
    """Give a cache of 150 responses that have expired, 50 that have not, and two redirects."""
    cache = KVCache(where=world.kv)
    past, future = utcnow() - timedelta(seconds=5), utcnow() + timedelta(days=1)
    cache.responses.update(
        (f"k{n:03}", CachedResponse(url=f"http://x/{n}", expires=past if n < 150 else future))
        for n in range(200)
    )
    cache.redirects.update({"to-old": "k000", "to-new": "k199"})
    return cache


def test_a_cache_is_filled_listed_filtered_and_emptied_in_bulk(world: World, full: KVCache) -> None:
    pairs = dict(full.responses.items())
    assert spent(world, lambda: full.responses.update(pairs)) == 2  # two times of expiry
    assert spent(world, lambda: list(full.responses.items())) == 3
    assert spent(world, lambda: list(full.responses)) == 2  # list() asks for the length too
    assert spent(world, lambda: list(full.responses.values())) == 3
    assert spent(world, lambda: list(full.responses.keys())) == 1
    assert spent(world, lambda: full.urls()) == 3
    assert spent(world, lambda: bool(full.responses)) == 1
    assert spent(world, lambda: full.responses.bulk_delete(list(pairs)[:100])) == 1
    assert spent(world, lambda: full.responses.bulk_delete([])) == 0
    assert spent(world, full.responses.clear) == 2
    assert not full.responses


def test_what_has_expired_is_deleted_in_bulk_with_its_redirects(
    world: World, full: KVCache
) -> None:
    # one to list and two to read; one to delete; the redirects: one to list, one to read, one for
    # the names of what is left, one to delete
    assert spent(world, lambda: full.delete(expired=True)) == 8
    assert len(full.responses) == 50
    assert dict(full.redirects.items()) == {"to-new": "k199"}
    assert {response.cache_key for response in full.filter()} == set(full.responses)


def test_filters_are_those_of_requests_cache(full: KVCache) -> None:
    full.responses.backend.set("broken", b"no pickle")
    assert len(list(full.filter())) == 200
    assert len(list(full.filter(expired=False))) == 50
    assert len(list(full.filter(valid=False))) == 150
    assert [each.cache_key for each in full.filter(False, False, invalid=True)] == ["broken"]
    assert list(full.filter(False, False)) == []
    assert len(list(full.filter(False, False, older_than=timedelta(seconds=-60)))) == 200
    assert list(full.filter(False, False, older_than=timedelta(seconds=60))) == []


def test_all_responses_get_a_new_expiry_in_bulk(world: World, full: KVCache) -> None:
    assert spent(world, lambda: full.reset_expiration(timedelta(hours=2))) == 4
    assert not any(response.is_expired for response in full.filter())
    assert len(full.responses) == 200


def test_keys_that_kv_would_not_take_are_deleted_by_what_a_listing_says(world: World) -> None:
    cache = KVCache(where=world.kv)
    cache.responses["k" * 600] = CachedResponse(expires=utcnow() - timedelta(seconds=1))
    assert cache.responses["k" * 600].is_expired
    cache.delete(expired=True)
    assert not cache.responses


# Expiry, prefix, options


def about(seconds: float) -> CachedResponse:
    return CachedResponse(expires=utcnow() + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("expires_in", "offset", "kept"),
    [(100, 0, 100), (10, 0, 10), (10, 5, 15), (-50, 20, 20), (100, 3600, 3700)],
)
def test_kv_drops_a_response_the_offset_after_its_expiry(
    world: World, expires_in: float, offset: float, kept: float
) -> None:
    storage = KVStorage(where=world.kv, ttl_offset=offset)
    storage["k"] = about(expires_in)
    world.pass_time(kept - 1)
    assert "k" in storage
    world.pass_time(2)
    assert "k" not in storage
    assert storage.get("k") is None
    assert (list(storage), list(storage.items()), len(storage), bool(storage)) == ([], [], 0, False)


def test_deleting_what_is_not_there_is_a_key_error(world: World) -> None:
    storage = KVStorage(where=world.kv)
    storage["k"] = CachedResponse()
    del storage["k"]
    with pytest.raises(KeyError, match="'k'"):
        del storage["k"]


def test_what_has_expired_is_not_stored_without_an_offset(world: World) -> None:
    storage = KVStorage(where=world.kv, ttl_offset=0)
    storage["k"] = about(60)
    storage["k"] = about(-1)
    assert "k" not in storage


def test_what_does_not_expire_stays(world: World) -> None:
    kept, free = KVStorage(where=world.kv, ttl=False), KVStorage(where=world.kv)
    kept["a"], free["b"], free["c"] = about(1), CachedResponse(), "no response"
    world.pass_time(1e8)
    assert set(free) == {"a", "b", "c"}


def test_redirects_end_with_the_response(world: World, url: str, session_on: Session) -> None:
    session = session_on(world.kv, expire_after=10, ttl_offset=20)
    session.get(f"{url}/to/a")
    world.pass_time(32)
    assert not session.cache.redirects
    assert not session.cache.responses


def test_caches_of_other_names_and_other_keys_are_not_touched(world: World) -> None:
    world.kv["k"] = "not a cache's"
    names = ["a", "a:responses", "a:responses:", "b", "ü/x", "a%3A"]
    caches: list[BaseCache] = [KVCache(name, where=world.kv) for name in names]
    for cache in caches:
        cache.responses["k"] = CachedResponse()
        cache.redirects["r"] = "k"
    for n, cache in enumerate(caches):
        cache.clear()
        assert not cache.responses
        assert not cache.redirects
        assert all(len(each.responses) == len(each.redirects) == 1 for each in caches[n + 1 :])
    assert list(world.kv) == ["k"]


def test_a_signed_response_is_refused_where_the_secret_is_another(world: World) -> None:
    KVCache(where=world.kv, secret="mine").responses["k"] = CachedResponse(status_code=200)
    assert KVCache(where=world.kv, secret="mine").get_response("k") is not None
    for secret in ("another", None):
        assert KVCache(where=world.kv, secret=secret).get_response("k") is None


def test_settings_of_the_session_are_left_to_it_and_what_nobody_knows_is_an_error() -> None:
    KVCache(where="memory://", expire_after=5, allowable_codes=(200, 404), read_only=True)
    with pytest.raises(kvdict.ConfigError, match="'bufer'"):
        KVCache(where="memory://", bufer=True)


def test_the_pages_blocks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, site: Site
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KVDICT_OFFLINE", f"memory://{uuid.uuid4().hex}")
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 2
    names: dict[str, Any] = {}
    for text in blocks:
        there = text.replace("https://example.com", url)
        exec(compile(there, "requests-cache.md", "exec"), names)
    assert site.asked
    names["session"].close()
