"""A service that answers nonsense: errors of ours, no endless loops, bounded memory."""

from __future__ import annotations

import copy
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kvdict
from kvdict import APIError, KVError, LimitError, ReadCache, TransportError
from kvdict.transport import MAX_ANSWER
from tests.wire.support import (
    NS,
    Connection,
    RawServer,
    Reply,
    Seen,
    Service,
    Time,
    client_on,
    envelope,
    keep_answering,
    ok,
    peak_of,
    refused,
)

from .support import KV, home_on, namespace_on

Path = tuple[Any, ...]


def nested(depth: int) -> list[Any]:
    told: list[Any] = []
    for _ in range(depth):
        told = [told]
    return told


WRONG: tuple[Any, ...] = (
    None, True, -1, 10**400, float("nan"), float("inf"), "", "x", "\ud800", "../../x",
    "\x00\n\x1b[2J", [], {}, [None], {"a": 1}, nested(900),
)  # fmt: skip

LISTED = {
    "result": [{"name": "a", "expiration": 1_900_000_000, "metadata": {"x": 1}}, {"name": "b"}],
    "result_info": {"count": 2, "cursor": ""},
    "success": True,
}
ENTRIES = {
    "result": {
        "values": {
            "a": {"value": "text", "metadata": {"m": 1}, "expiration": 1_900_000_000},
            "b": {"value": "u", "metadata": None},
        }
    },
    "success": True,
}
VALUES = {"result": {"values": {"a": "text", "b": "u"}}, "success": True}
WRITTEN = {"result": {"successful_key_count": 2, "unsuccessful_keys": ["a"]}, "success": True}
ABOUT = {"result": {"a": 1}, "success": True}
REFUSED = {"success": False, "errors": [{"code": 10013, "message": "no"}], "messages": []}
NAMESPACES = {
    "result": [{"id": NS, "title": "t", "supports_url_encoding": True}],
    "result_info": {"page": 1, "per_page": 100, "count": 1, "total_count": 1},
    "success": True,
}
OPERATIONS: dict[str, Callable[[KV], object]] = {
    "list": list,
    "items": lambda kv: list(kv.items()),
    "pages": lambda kv: list(kv.pages()),
    "len": len,
    "clear": lambda kv: kv.clear(),
    "popitem": lambda kv: kv.popitem(),
    "equals": lambda kv: kv == {"a": "text"},
    "get": lambda kv: kv.get("a"),
    "entry": lambda kv: kv.entry("a"),
    "entries": lambda kv: kv.entries(["a", "b"]),
    "get_many": lambda kv: kv.get_many(["a", "b"]),
    "metadata": lambda kv: kv.metadata("a"),
    "touch": lambda kv: kv.touch("a", metadata={"q": 1}),
    "put": lambda kv: kv.put("a", "v"),
    "put_many": lambda kv: kv.put_many({"a": "1", "b": "2"}),
    "delete_many": lambda kv: kv.delete_many(["a", "b"]),
    "del": lambda kv: kv.__delitem__("a"),
    "contains": lambda kv: "a" in kv,
    "namespaces": lambda kv: list(kv._backing.home.namespaces()),
}
CASES = (
    (LISTED, 200, ("list", "items", "pages", "len", "clear", "popitem", "equals")),
    (ENTRIES, 200, ("entry", "entries", "touch", "items")),
    (VALUES, 200, ("get_many", "entries")),
    (WRITTEN, 200, ("put_many", "delete_many", "put")),
    (ABOUT, 200, ("metadata", "contains", "del")),
    (NAMESPACES, 200, ("namespaces",)),
    (REFUSED, 200, ("list", "put")),
    (REFUSED, 404, ("get", "contains", "put_many")),
    (REFUSED, 429, ("get",)),
    (REFUSED, 500, ("get",)),
)


def places(node: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the way to everything in a JSON value."""
    yield path
    parts = (
        node.items() if isinstance(node, dict) else enumerate(node if type(node) is list else ())
    )
    for name, part in parts:
        yield from places(part, (*path, name))


def changed(document: Any, path: Path, to: Any) -> Any:
    if not path:
        return to
    document = copy.deepcopy(document)
    node = document
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = to
    return document


def bounded(reply: Reply, most: int = 60) -> Callable[[Seen], Reply]:
    """Return a service that always answers so, and does not bear with who asks for ever."""
    asked = iter(range(most))

    def answer(_seen: Seen) -> Reply:
        assert next(asked, None) is not None, "it goes on asking"
        return reply

    return answer


@pytest.mark.parametrize(
    ("document", "status", "operation", "cached"),
    [
        pytest.param(document, status, name, cached, id=f"{name}-{status}-{cached}-{number}")
        for number, (document, status, names) in enumerate(CASES)
        for name in names
        for cached in {False, "values" in str(document)}
    ],
)
def test_whatever_stands_in_a_field_is_understood_or_an_error_of_ours(
    document: Any, status: int, operation: str, cached: bool
) -> None:
    tried = 0
    for path in places(document):
        for wrong in WRONG:
            body = json.dumps(changed(document, path, wrong)).encode()
            cache = ReadCache() if cached else None
            kv = namespace_on(bounded(Reply(status, body)), cache=cache)
            try:
                OPERATIONS[operation](kv)
            except (KVError, KeyError) as error:
                assert len(str(error)) < 3000  # noqa: PT017 - some are understood
            tried += 1
    assert tried >= len(WRONG) * 3


@pytest.mark.parametrize("cached", [False, True])
def test_legal_metadata_may_be_nested_as_deeply_as_a_kilobyte_allows(cached: bool) -> None:
    deep = nested(510)
    with kvdict.open("memory://", cache=cached) as kv:
        kv.put("k", 1, metadata=deep)
        kv.refresh("k")
        for _ in range(2):
            entry = kv.entry("k")
            assert json.dumps(entry.metadata) == json.dumps(deep)
            entry.metadata.append("mine")  # and nobody else's


def test_a_cached_value_s_metadata_is_each_reader_s_own() -> None:
    with kvdict.open("memory://", cache=True) as kv:
        kv.put("k", 1, metadata={"a": [{"b": [1]}], "c": 1})
        first = kv.entry("k").metadata
        first["a"][0]["b"].append(2)
        first["a"][0]["d"] = 1
        assert kv.entry("k").metadata == {"a": [{"b": [1]}], "c": 1}


@pytest.mark.parametrize("cursors", ["x", "xy", "wxyz"])
@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("operation", ["list", "len", "items", "pages", "clear"])
def test_a_listing_that_goes_round_in_a_circle_is_an_error(
    cursors: str, empty: bool, operation: str
) -> None:
    turns = iter(range(60))

    def answer(seen: Seen) -> Reply:
        if "/keys" not in seen.path:
            return ok({"values": {}})
        turn = next(turns)
        keys = [] if empty else [{"name": f"k{turn % len(cursors)}"}]
        return ok(keys, result_info={"cursor": cursors[turn % len(cursors)]})

    for buffer in (kvdict.WriteBuffer(write_through=True), kvdict.WriteBuffer()):
        turns = iter(range(60))
        with namespace_on(answer, buffer=buffer) as kv:
            with pytest.raises(APIError, match="goes round in a circle"):
                OPERATIONS[operation](kv)
            assert next(turns) <= 2 * len(cursors) + 2


def test_a_page_that_begins_with_the_last_key_of_the_page_before_tells_it_once() -> None:
    pages = {"": (["a", "b"], "1"), "cursor=1": (["b", "c"], "2"), "cursor=2": (["c", "d"], "")}

    def answer(seen: Seen) -> Reply:
        names, cursor = pages[seen.query]
        return ok([{"name": name} for name in names], result_info={"cursor": cursor})

    kv = namespace_on(answer)
    assert list(kv) == ["a", "b", "c", "d"]
    assert len(kv) == 4


def test_an_account_that_does_not_turn_the_page_is_read_once() -> None:
    reply = ok([{"id": NS, "title": "t"}])
    time = Time()
    home = home_on(Service(bounded(reply)), time)
    assert [namespace.title for namespace in home.namespaces()] == ["t"]


@pytest.mark.parametrize("operation", ["list", "clear", "len", "pages"])
def test_keys_outside_the_prefix_are_an_error_before_any_of_them_is_deleted(
    operation: str,
) -> None:
    """A cache between that drops the query lists all that there is."""
    seen: list[Seen] = []

    def answer(request: Seen) -> Reply:
        seen.append(request)
        return ok([{"name": "mine:1"}, {"name": "other:1"}], result_info={"cursor": ""})

    kv = namespace_on(answer, prefix="mine:")
    with pytest.raises(APIError, match="not of the API's form"):
        OPERATIONS[operation](kv)
    assert {request.method for request in seen} == {"GET"}


def test_a_listed_key_that_no_url_can_name_is_an_error_with_its_name() -> None:
    kv = namespace_on(lambda seen: ok([{"name": ".."}], result_info={"cursor": ""}))
    assert list(kv) == [".."]
    assert ".." not in kv
    with pytest.raises(LimitError, match=r"'\.\.'"):
        kv.clear()


def test_values_and_failures_that_were_not_asked_for_are_left_out() -> None:
    def answer(seen: Seen) -> Reply:
        if seen.path.endswith("bulk/get"):
            values = {"a": {"value": "1"}, "b": None, "evil": {"value": "2"}, "../x": None}
            return ok({"values": values})
        return ok({"successful_key_count": 99, "unsuccessful_keys": ["evil"]})

    cache = ReadCache()
    kv = namespace_on(answer, cache=cache)
    assert kv.get_many(["a", "b"]) == {"a": "1"}
    assert len(cache) == 2
    with pytest.raises(kvdict.FlushError) as caught:
        kv.put_many({"a": "1", "b": "2"})
    assert caught.value.failed.keys() == {"evil"}


@pytest.mark.parametrize(
    "text", ["\x1b[2J\x1b]0;owned\x07", "a\nkvdict: all is well", "‮txt", "\x00" * 10]
)
def test_what_the_service_says_forges_no_line_and_moves_no_cursor(text: str) -> None:
    for reply in (refused(403, 10000, text), Reply(502, text.encode()), Reply(200, text.encode())):
        reply.headers = {"cf-ray": text.encode("ascii", "replace").decode()}
        kv = namespace_on(bounded(reply), max_wait=0.0)
        with pytest.raises(APIError) as caught:
            kv.put("a", "v")
        assert str(caught.value).isprintable()
        assert caught.value.ray.isprintable()
        assert all(told.isprintable() for _, told in caught.value.errors)


def test_a_megabyte_of_errors_is_told_in_short() -> None:
    errors = [{"code": 10**9, "message": "x" * 100_000}] * 100
    body = json.dumps({"success": False, "errors": errors}).encode()
    with pytest.raises(APIError) as caught:
        namespace_on(lambda _: Reply(400, body)).put("a", "v")
    assert len(str(caught.value)) < 6000


@pytest.mark.parametrize(
    "date",
    ["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "1", "", "\x00", "٣٣",
     "Tue, 24 Nov 2026 20:00:00 +9999999999", "Tue, 99 Nov 2026 99:99:99 GMT", "a, b c d e f"],
)  # fmt: skip
@pytest.mark.parametrize("retry", ["-1", "1e999", "nan", "9" * 500, "٣", "\x00", ""])
def test_headers_of_nonsense_break_nothing(date: str, retry: str) -> None:
    headers = {
        "Date": date, "Retry-After": retry, "expiration": retry, "Ratelimit": f'"d";r={retry};t=9',
        "Ratelimit-Policy": f'"d";q={retry};w={retry}', "Content-Type": "text/plain; charset=nope",
    }  # fmt: skip
    for status in (200, 404, 429, 500):
        reply = Reply(status, b"v", headers)
        kv = namespace_on(bounded(reply), max_wait=0.0)
        try:
            assert kv["a"] == "v"
        except KVError as error:
            assert status != 200 or "nope" not in str(error)  # noqa: PT017 - not every shape raises


# Over a socket


def over_a_socket(behave: Callable[[Connection], None], **options: Any) -> KVError:
    """Return what a read says of a server that behaves so."""
    time = Time()
    with RawServer(behave) as server:
        client = client_on(time, base_url=server.url, **{"max_wait": 0.0, **options})
        with pytest.raises(KVError) as caught:
            client.get_value(NS, "k")
        client.transport.close()
    return caught.value


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"".join(b"X-%d: y\r\n" % number for number in range(200)) + b"\r\n",
        HEAD + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        HEAD + b"Content-Length: -5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 100_000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        HEAD + b"Content-Length: 5\r\n\r\nab",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 999999 X\r\n\r\n",
        b"\x00" * 70_000,
        b"SSH-2.0-OpenSSH\r\n",
    ],
    ids=range(10),
)
def test_an_answer_that_is_no_http_is_a_transport_error(head: bytes) -> None:
    def behave(connection: Connection) -> None:
        connection.read()
        connection.say(head)
        connection.socket.close()

    assert isinstance(over_a_socket(behave), TransportError)


def test_chunks_without_end_are_given_up_in_bounded_memory() -> None:
    def behave(connection: Connection) -> None:
        connection.read()
        connection.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.say(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    assert peak_of(lambda: over_a_socket(behave)) < MAX_ANSWER * 1.5


@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress])
def test_a_bomb_in_an_error_is_given_up_too(packed: Callable[[bytes], bytes]) -> None:
    kind = "gzip" if packed is gzip.compress else "deflate"
    bomb = Reply(500, packed(b"\0" * 40_000_000), {"Content-Encoding": kind})

    def work() -> None:
        error = over_a_socket(keep_answering(bomb))
        assert isinstance(error, TransportError)
        assert f"more than {MAX_ANSWER} bytes" in str(error)

    assert peak_of(work) < MAX_ANSWER * 1.5


def test_what_stands_behind_the_end_of_a_compressed_answer_is_not_hoarded() -> None:
    def behave(connection: Connection) -> None:
        connection.read()
        connection.say(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 9000000000\r\n\r\n")
        connection.say(gzip.compress(b"v"))
        while True:
            connection.say(b"x" * 65536)

    assert "incorrect header" in str(over_a_socket(behave))


def test_a_bomb_in_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 10_000_000))
    reply = Reply(200, bomb, {"Content-Encoding": "gzip, gzip"})
    assert "was not asked for" in str(over_a_socket(keep_answering(reply)))


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 399])
@pytest.mark.parametrize(
    "location", ["/client/v4/elsewhere", "http://127.0.0.1:1/", "https://evil.test/", "", "\x00"]
)
def test_no_redirect_is_followed_wherever_it_leads(status: int, location: str) -> None:
    with RawServer(keep_answering(Reply(status, b"", {"Location": location}))) as server:
        client = client_on(Time(), base_url=server.url)
        for call in (lambda: client.get_value(NS, "k"), lambda: client.delete_value(NS, "k")):
            with pytest.raises(APIError, match="redirect"):
                call()
        client.transport.close()
        assert len(server.requests) == 2


def test_cookies_are_not_taken() -> None:
    reply = Reply(200, envelope(), {"Set-Cookie": "a=b; Path=/"})
    with RawServer(keep_answering(reply)) as server:
        client = client_on(Time(), base_url=server.url)
        for _ in range(2):
            client.delete_value(NS, "k")
        client.transport.close()
        assert not any("Cookie" in seen.headers for seen in server.requests)
