"""Each operation as it stands on the wire, and what is made of its answer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import pytest
import responses
from responses import matchers
from werkzeug.formparser import parse_form_data

from kvdict.client import Client, check_id, quote_key
from kvdict.errors import APIError, AuthError, ConfigError, KVError, NotFoundError
from kvdict.limits import encode_metadata
from kvdict.models import BulkResult, Entry, Key, KeyPage, Namespace, NamespacePage, RawValue
from kvdict.transport import USER_AGENT
from kvdict.writes import Expiry, PackedWrite, Write, expiry_of

from .support import (
    ACCOUNT,
    BASE,
    EPOCH,
    NS,
    ROOT,
    TOKEN,
    RawServer,
    Reply,
    Seen,
    Service,
    Time,
    client_on,
    keep_answering,
    ok,
    refused,
)

AWKWARD = [
    "a/b", "%2F", "?", "#", " ", "+", "a b+c", "😀", "\0", "a..", "..a", "...", "/", "//",
    "/../x", "./a", "a/../b?c#d%", "é", "e\u0301", "\x1f", "\n", "\r\nHost: evil", "%", "%%25",
    "&=;", "~-_.", "\\", '"', "\u2028", "\ufeff", "\U0010ffff", "x" * 512, "ä" * 256, ":", "@",
    "%2e%2e", ".%00", "*'()!", "[]", "^", "|", "`", "<>", "{}",
]  # fmt: skip


def asked(time: Time, call: Callable[[Client], Any], *replies: Reply) -> tuple[Any, Seen]:
    """Return what the call returned, and its one request."""
    service = Service(*replies)
    result = call(client_on(time, adapter=service))
    assert len(service.seen) == 1
    return result, service.seen[0]


def on_the_wire(time: Time, call: Callable[[Client], Any], reply: Reply) -> Seen:
    """Return the one request as it left the socket."""
    with RawServer(keep_answering(reply)) as server:
        client = client_on(time, base_url=server.url)
        call(client)
        client.transport.close()
        (seen,) = server.requests
        return seen


def test_every_operation_asks_with_its_method_and_path(time: Time) -> None:
    namespace = {"id": NS, "title": "t"}
    write = Write("k", b"v")
    bulk = {"successful_key_count": 1, "unsuccessful_keys": []}
    calls: list[tuple[Callable[[Client], Any], Any, str, str]] = [
        (lambda c: c.list_namespaces(), [], "GET", ""),
        (lambda c: c.create_namespace("t"), namespace, "POST", ""),
        (lambda c: c.get_namespace(NS), namespace, "GET", f"/{NS}"),
        (lambda c: c.rename_namespace(NS, "t"), namespace, "PUT", f"/{NS}"),
        (lambda c: c.delete_namespace(NS), None, "DELETE", f"/{NS}"),
        (lambda c: c.list_keys(NS), [], "GET", f"/{NS}/keys"),
        (lambda c: c.get_value(NS, "k"), None, "GET", f"/{NS}/values/k"),
        (lambda c: c.put_value(NS, write), None, "PUT", f"/{NS}/values/k"),
        (lambda c: c.delete_value(NS, "k"), None, "DELETE", f"/{NS}/values/k"),
        (lambda c: c.get_metadata(NS, "k"), None, "GET", f"/{NS}/metadata/k"),
        (lambda c: c.bulk_put(NS, [PackedWrite(write)]), bulk, "PUT", f"/{NS}/bulk"),
        (lambda c: c.bulk_delete(NS, ["k"]), bulk, "POST", f"/{NS}/bulk/delete"),
        (lambda c: c.bulk_get(NS, ["k"]), {"values": {}}, "POST", f"/{NS}/bulk/get"),
    ]
    for call, result, method, path in calls:
        _, seen = asked(time, call, ok(result))
        assert (seen.method, seen.url) == (method, f"{BASE}{ROOT}{path}")
        assert seen.headers["Authorization"] == f"Bearer {TOKEN}"
        assert seen.headers["User-Agent"] == USER_AGENT
        assert seen.headers["Accept-Encoding"] == "gzip, deflate"
        assert ("Content-Type" in seen.headers) == (method in {"PUT", "POST"})


@pytest.mark.parametrize("key", AWKWARD)
def test_a_key_is_one_path_segment_on_the_wire(time: Time, key: str) -> None:
    seen = on_the_wire(time, lambda client: client.get_value(NS, key), Reply(200, b"v"))
    path, rest = seen.url.split(f"{ROOT}/{NS}/")
    assert path == "/client/v4"
    kind, segment = rest.split("/")
    assert kind == "values"
    assert unquote_to_bytes(segment) == key.encode()
    assert not set(segment) & set("?# +")
    assert "Host: evil" not in seen.headers


@pytest.mark.parametrize("key", AWKWARD)
def test_a_prefix_and_a_cursor_come_back_out_of_the_query(time: Time, key: str) -> None:
    seen = on_the_wire(time, lambda c: c.list_keys(NS, prefix=key, cursor=key), ok([]))
    assert parse_qsl(seen.query, strict_parsing=True) == [("prefix", key), ("cursor", key)]


@pytest.mark.parametrize("key", AWKWARD)
def test_a_key_is_plain_json_in_bulk_bodies(time: Time, key: str) -> None:
    _, seen = asked(time, lambda c: c.bulk_get(NS, [key]), ok({"values": {}}))
    assert seen.json["keys"] == [key]
    _, seen = asked(time, lambda c: c.bulk_delete(NS, [key]), ok({}))
    assert seen.json == [key]
    _, seen = asked(time, lambda c: c.bulk_put(NS, [PackedWrite(Write(key, b""))]), ok({}))
    assert seen.json == [{"key": key, "value": ""}]


@pytest.mark.parametrize("key", ["", ".", ".."])
def test_a_key_that_names_another_resource_never_forms_a_url(time: Time, key: str) -> None:
    service = Service(ok())
    client = client_on(time, adapter=service)
    calls: list[Callable[[], Any]] = [
        lambda: client.get_value(NS, key),
        lambda: client.put_value(NS, Write(key, b"")),
        lambda: client.delete_value(NS, key),
        lambda: client.get_metadata(NS, key),
        lambda: quote_key(key),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="another resource"):
            call()
    assert service.seen == []


@pytest.mark.parametrize(
    "id_", ["", "0", NS + "0", NS[:-1] + "g", NS[:-1] + "/", NS[:-1] + "\n", NS + "\n", "..",
            "\u0660" * 32, " " + NS[1:], None, 5, b"a" * 32],
)  # fmt: skip
def test_an_id_that_is_not_32_hex_digits_is_a_config_error(time: Time, id_: Any) -> None:
    service = Service(ok())
    with pytest.raises(ConfigError, match="32 hex digits"):
        Client(client_on(time, adapter=service).transport, id_)
    client = client_on(time, adapter=service)
    calls: list[Callable[[], Any]] = [
        lambda: client.delete_namespace(id_),
        lambda: client.get_namespace(id_),
        lambda: client.rename_namespace(id_, "t"),
        lambda: client.list_keys(id_),
        lambda: client.delete_value(id_, "k"),
        lambda: client.bulk_put(id_, []),
        lambda: client.bulk_delete(id_, []),
        lambda: client.bulk_get(id_, []),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="32 hex digits"):
            call()
    assert service.seen == []


def test_an_id_in_capitals_is_sent_in_small_letters(time: Time) -> None:
    _, seen = asked(time, lambda c: c.delete_namespace(NS.upper()), ok())
    assert seen.path == f"/{NS}"
    assert check_id("A" * 32, "account id") == ACCOUNT


def test_a_listing_of_namespaces_asks_for_what_was_said(time: Time) -> None:
    _, seen = asked(
        time,
        lambda c: c.list_namespaces(page=2, per_page=50, order="title", direction="desc"),
        ok([]),
    )
    assert dict(parse_qsl(seen.query)) == {
        "page": "2", "per_page": "50", "order": "title", "direction": "desc",
    }  # fmt: skip


def test_a_page_of_namespaces_is_told_with_its_counts(time: Time) -> None:
    items = [
        {"id": NS, "title": "é", "supports_url_encoding": True, "jurisdiction": "eu", "beta": 1},
        {"id": ACCOUNT, "title": ""},
    ]
    info = {"page": 1, "per_page": 20, "count": 2, "total_count": 2, "total_pages": 1}
    page, _ = asked(time, lambda c: c.list_namespaces(), ok(items, result_info=info))
    assert page == NamespacePage(
        [Namespace(NS, "é", True, "eu"), Namespace(ACCOUNT, "")], 1, 20, 2, 2
    )


@pytest.mark.parametrize("count", ["many", None, [], 5.5, {}])
def test_a_count_that_is_no_number_is_not_told(time: Time, count: Any) -> None:
    info = {"total_count": count, "page": 1}
    page, _ = asked(time, lambda c: c.list_namespaces(), ok([], result_info=info))
    assert (page.total_count, page.page) == (None, 1)


@pytest.mark.parametrize("reply", [ok(None), ok([]), ok(None, result_info=None)])
def test_a_null_list_of_namespaces_is_an_empty_one(time: Time, reply: Reply) -> None:
    page, _ = asked(time, lambda c: c.list_namespaces(), reply)
    assert page == NamespacePage([])


def test_a_namespace_is_created_by_title_and_jurisdiction(time: Time) -> None:
    made = ok({"id": NS, "title": "🗝", "unknown": {}})
    result, seen = asked(time, lambda c: c.create_namespace("🗝"), made)
    assert seen.json == {"title": "🗝"}
    assert result == Namespace(NS, "🗝")
    _, seen = asked(time, lambda c: c.create_namespace("t", jurisdiction="eu"), made)
    assert seen.json == {"title": "t", "jurisdiction": "eu"}
    assert seen.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("told", "title"), [({"id": NS, "title": "told"}, "told"), (None, "new"), ({}, "new")]
)
def test_a_rename_returns_the_namespace_even_if_the_service_tells_null(
    time: Time, told: Any, title: str
) -> None:
    result, seen = asked(time, lambda c: c.rename_namespace(NS, "new"), ok(told))
    assert seen.json == {"title": "new"}
    assert result == Namespace(NS, title)


def test_a_listing_of_keys_sends_no_option_that_was_not_given(time: Time) -> None:
    _, seen = asked(time, lambda c: c.list_keys(NS), ok([]))
    assert "?" not in seen.url
    _, seen = asked(time, lambda c: c.list_keys(NS, prefix="", cursor=""), ok([]))
    assert "?" not in seen.url
    _, seen = asked(time, lambda c: c.list_keys(NS, limit=10), ok([]))
    assert seen.query == "limit=10"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"result_info": None},
        {"result_info": {}},
        {"result_info": {"cursor": ""}},
        {"result_info": {"cursor": None, "count": 0}},
    ],
)
def test_the_last_page_has_no_cursor_however_that_is_said(time: Time, more: dict[str, Any]) -> None:
    page, _ = asked(time, lambda c: c.list_keys(NS), ok([], **more))
    assert page == KeyPage([], None)


def test_an_empty_page_may_have_a_cursor(time: Time) -> None:
    more: dict[str, Any] = {"result_info": {"cursor": "next", "count": 0}}
    page, _ = asked(time, lambda c: c.list_keys(NS), ok([], None, **more))
    assert page == KeyPage([], "next")


@pytest.mark.parametrize("metadata", [0, False, "", [], {}, 0.0, "x", [None], {"a": 1}])
def test_metadata_that_is_falsy_is_kept(time: Time, metadata: Any) -> None:
    item = {"name": "k", "expiration": 5, "metadata": metadata, "unknown": 1}
    page, _ = asked(time, lambda c: c.list_keys(NS), ok([item]))
    assert page.keys == [Key("k", 5, metadata)]
    told, _ = asked(time, lambda c: c.get_metadata(NS, "k"), ok(metadata))
    assert told == metadata
    assert type(told) is type(metadata)
    entry = {"value": "v", "expiration": 5, "metadata": metadata}
    values, _ = asked(
        time, lambda c: c.bulk_get(NS, ["k"], with_metadata=True), ok({"values": {"k": entry}})
    )
    assert values == {"k": Entry("v", 5, metadata)}
    text = encode_metadata("k", metadata)
    write = PackedWrite(Write("k", b"v", metadata=text))
    _, seen = asked(time, lambda c: c.bulk_put(NS, [write]), ok({}))
    assert seen.json == [{"key": "k", "value": "v", "metadata": metadata}]


def test_an_expiration_told_as_a_float_is_read(time: Time) -> None:
    page, _ = asked(time, lambda c: c.list_keys(NS), ok([{"name": "k", "expiration": 5.5}]))
    assert page.keys == [Key("k", 5)]


@pytest.mark.parametrize(
    ("header", "expiration"),
    [({}, None), ({"expiration": "1893456000"}, 1893456000), ({"Expiration": "7"}, 7),
     ({"expiration": ""}, None), ({"expiration": "never"}, None), ({"expiration": "nan"}, None),
     ({"expiration": "9" * 5000}, None), ({"expiration": "1893456000.5"}, 1893456000)],
)  # fmt: skip
def test_a_value_comes_with_the_expiration_of_its_header(
    time: Time, header: dict[str, str], expiration: int | None
) -> None:
    value, _ = asked(time, lambda c: c.get_value(NS, "k"), Reply(200, b"v", header))
    assert value == RawValue(b"v", expiration)


@pytest.mark.parametrize(
    "data", [b"", b"\0", bytes(range(256)), refused(400, 10009).body, b"\xff" * 70_000]
)
def test_a_value_is_the_body_whatever_it_looks_like(time: Time, data: bytes) -> None:
    value, _ = asked(time, lambda c: c.get_value(NS, "k"), Reply(200, data))
    assert value.data == data


@pytest.mark.parametrize("data", [b"", b"text", bytes(range(256)), b'{"value": 1}', b"x" * 70_000])
def test_a_value_without_metadata_is_the_raw_body(time: Time, data: bytes) -> None:
    seen = on_the_wire(time, lambda c: c.put_value(NS, Write("k", data)), ok())
    assert seen.body == data
    assert seen.headers["Content-Type"] == "application/octet-stream"
    assert seen.headers["Content-Length"] == str(len(data))
    assert "Transfer-Encoding" not in seen.headers
    assert seen.query == ""


@pytest.mark.parametrize("data", [b"", b"text", bytes(range(256)), b"--\r\n", b"x" * 70_000])
@pytest.mark.parametrize("metadata", [0, False, "", "é😀", {"a": [1, None]}])
def test_a_value_with_metadata_is_a_form(time: Time, data: bytes, metadata: Any) -> None:
    write = Write("k", data, metadata=encode_metadata("k", metadata))
    _, seen = asked(time, lambda c: c.put_value(NS, write), ok())
    _, fields, files = parse_form_data(
        {
            "wsgi.input": BytesIO(seen.body),
            "REQUEST_METHOD": "PUT",
            "CONTENT_TYPE": seen.headers["Content-Type"],
            "CONTENT_LENGTH": seen.headers["Content-Length"],
        }
    )
    assert files["value"].read() == data
    assert list(files) == ["value"]
    assert list(fields) == ["metadata"]
    assert json.loads(fields["metadata"]) == metadata
    files["value"].close()


@pytest.mark.parametrize("metadata", [None, '{"a":1}'])
def test_the_expiry_of_a_single_write_is_in_the_query(time: Time, metadata: str | None) -> None:
    ttl = Write("k", b"v", expiry_of("k", EPOCH, 90, None), metadata)
    _, seen = asked(time, lambda c: c.put_value(NS, ttl), ok())
    assert seen.query == "expiration_ttl=90"
    moment = datetime.fromtimestamp(EPOCH + 3600, UTC)
    absolute = Write("k", b"v", expiry_of("k", EPOCH, None, moment), metadata)
    _, seen = asked(time, lambda c: c.put_value(NS, absolute), ok())
    assert seen.query == f"expiration={EPOCH + 3600:.0f}"


@pytest.mark.parametrize(
    ("left", "absolute", "option"),
    [
        (3600.0, False, ("expiration_ttl", 3600)),
        (3600.0001, False, ("expiration_ttl", 3600)),
        (3599.5, False, ("expiration_ttl", 3600)),
        (12.0, False, ("expiration_ttl", 60)),
        (-5.0, False, ("expiration_ttl", 60)),
        (120.0, True, ("expiration", int(EPOCH) + 120)),
        (120.5, True, ("expiration", int(EPOCH) + 121)),
        (119.0, True, ("expiration_ttl", 119)),
        (61.0, True, ("expiration_ttl", 61)),
        (30.0, True, ("expiration_ttl", 60)),
        (-1000.0, True, ("expiration_ttl", 60)),
    ],
)
def test_a_near_moment_is_said_as_a_time_to_live_of_at_least_a_minute(
    left: float, absolute: bool, option: tuple[str, int]
) -> None:
    assert Expiry(EPOCH + left, absolute).option(EPOCH) == option


def test_a_bulk_body_holds_base64_only_where_bytes_are_no_text(time: Time) -> None:
    writes = [
        Write("text", 'é\0\ufeff\r\n"\\\u2028😀'.encode()),
        Write("empty", b""),
        Write("bytes", b"\xff\xfe"),
        Write("cut", "é".encode()[:1]),
        Write("surrogate", b"\xed\xa0\x80"),
        Write("all", b"v", expiry_of("all", EPOCH, 61, None), '{"a":"é"}'),
        Write("at", b"v", expiry_of("at", EPOCH, None, EPOCH + 1000)),
    ]
    packed = [PackedWrite(write) for write in writes]
    _, seen = asked(time, lambda c: c.bulk_put(NS, packed), ok({}))
    assert seen.json == [
        {"key": "text", "value": 'é\0\ufeff\r\n"\\\u2028😀'},
        {"key": "empty", "value": ""},
        {"key": "bytes", "value": "//4=", "base64": True},
        {"key": "cut", "value": "ww==", "base64": True},
        {"key": "surrogate", "value": "7aCA", "base64": True},
        {"key": "all", "value": "v", "metadata": {"a": "é"}, "expiration_ttl": 61},
        {"key": "at", "value": "v", "expiration": int(EPOCH) + 1000},
    ]
    assert seen.headers["Content-Type"] == "application/json"
    assert len(seen.body) <= sum(item.size for item in packed) + 2


def test_a_packed_pair_is_never_larger_than_it_says() -> None:
    for expiry in (None, Expiry(EPOCH + 60), Expiry(253402300799.0, True), Expiry(2.5e11)):
        for data in (b"", b"\0" * 50, b'"' * 50, b"\xff" * 50, "é😀".encode()):
            packed = PackedWrite(Write('k"é😀\0', data, expiry, '{"m":"é"}'))
            assert len(packed.body(EPOCH)) + 1 <= packed.size


def test_an_empty_bulk_is_an_empty_array(time: Time) -> None:
    told = ok({"successful_key_count": 0, "unsuccessful_keys": []})
    result, seen = asked(time, lambda c: c.bulk_put(NS, []), told)
    assert (seen.body, result) == (b"[]", BulkResult(0, []))
    result, seen = asked(time, lambda c: c.bulk_delete(NS, []), told)
    assert (seen.body, result) == (b"[]", BulkResult(0, []))


@pytest.mark.parametrize(
    ("told", "result"),
    [
        ({"successful_key_count": 1, "unsuccessful_keys": ["b"]}, BulkResult(1, ["b"])),
        ({"successful_key_count": 2, "unsuccessful_keys": None}, BulkResult(2)),
        ({"successful_key_count": 2.0, "unsuccessful_keys": [], "x": 1}, BulkResult(2)),
        ({"unsuccessful_keys": ["b"]}, BulkResult(1, ["b"])),
        ({}, BulkResult(2)),
        (None, BulkResult(2)),
    ],
)
def test_unsuccessful_keys_are_returned(time: Time, told: Any, result: BulkResult) -> None:
    writes = [PackedWrite(Write(key, b"")) for key in "ab"]
    assert asked(time, lambda c: c.bulk_put(NS, writes), ok(told))[0] == result
    assert asked(time, lambda c: c.bulk_delete(NS, ["a", "b"]), ok(told))[0] == result


def test_a_bulk_get_sends_an_object(time: Time) -> None:
    _, seen = asked(time, lambda c: c.bulk_get(NS, ["a", "b"]), ok({"values": {}}))
    assert seen.json == {"keys": ["a", "b"], "type": "text", "withMetadata": False}
    _, seen = asked(
        time,
        lambda c: c.bulk_get(NS, ["a"], type="json", with_metadata=True),
        ok({"values": {}}),
    )
    assert seen.json == {"keys": ["a"], "type": "json", "withMetadata": True}


def test_a_bulk_get_tells_values_in_the_order_asked_and_none_for_missing_keys(time: Time) -> None:
    told = ok({"values": {"c": "3", "b": None, "unasked": "x", "a": ""}, "unknown": 1})
    values, _ = asked(time, lambda c: c.bulk_get(NS, ["a", "b", "c", "d"]), told)
    assert list(values.items()) == [
        ("a", Entry("")), ("b", None), ("c", Entry("3")), ("d", None),
    ]  # fmt: skip


def test_a_bulk_get_with_details_tells_expiration_and_metadata(time: Time) -> None:
    told = ok(
        {
            "values": {
                "a": {"value": "1", "metadata": {"x": 1}, "expiration": 1893456000, "y": 0},
                "b": {"value": "", "metadata": None},
                "c": None,
            }
        }
    )
    values, _ = asked(time, lambda c: c.bulk_get(NS, ["a", "b", "c"], with_metadata=True), told)
    assert values == {"a": Entry("1", 1893456000, {"x": 1}), "b": Entry(""), "c": None}


def test_a_bulk_get_of_json_keeps_integers(time: Time) -> None:
    told = Reply(200, b'{"success":true,"result":{"values":{"a":9007199254740993,"b":false}}}')
    values, _ = asked(time, lambda c: c.bulk_get(NS, ["a", "b"], type="json"), told)
    assert values == {"a": Entry(9007199254740993), "b": Entry(False)}


CALLS: list[Callable[[Client], Any]] = [
    lambda c: c.list_namespaces(),
    lambda c: c.create_namespace("t"),
    lambda c: c.get_namespace(NS),
    lambda c: c.rename_namespace(NS, "t"),
    lambda c: c.delete_namespace(NS),
    lambda c: c.list_keys(NS),
    lambda c: c.put_value(NS, Write("k", b"v")),
    lambda c: c.delete_value(NS, "k"),
    lambda c: c.get_metadata(NS, "k"),
    lambda c: c.bulk_put(NS, [PackedWrite(Write("k", b"v"))]),
    lambda c: c.bulk_delete(NS, ["k"]),
    lambda c: c.bulk_get(NS, ["k"]),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("code", "kind"), [(10013, NotFoundError), (10000, AuthError), (10001, APIError)]
)
def test_no_success_inside_a_200_is_an_error(
    time: Time, call: Callable[[Client], Any], code: int, kind: type[KVError]
) -> None:
    told = Reply(200, refused(400, code, "because").body)
    with pytest.raises(kind, match="because") as caught:
        asked(time, call, told)
    assert isinstance(caught.value, APIError)
    assert (caught.value.status, caught.value.code) == (200, code)


WRONG: list[tuple[Callable[[Client], Any], list[Any]]] = [
    (lambda c: c.list_namespaces(), [{}, {"a": 1}, "", "abc", 0, 5, True, False, [1], [None],
                                     [[]], [{}], [{"id": NS}], [{"id": 5, "title": "t"}],
                                     [{"id": NS, "title": None}]]),
    (lambda c: c.get_namespace(NS), [None, [], {}, "", "x", 0, 1, [{}], {"id": None, "title": ""}]),
    (lambda c: c.create_namespace("t"), [None, [], {}, "", 0, {"id": 1, "title": "t"}]),
    (lambda c: c.rename_namespace(NS, "t"), [[], "", 0, False, [1], "x", 5, {"id": NS}]),
    (lambda c: c.list_keys(NS), [{}, {"keys": []}, "", "x", 0, False, True, [1], ["k"], [None],
                                 [[]], [{}], [{"name": None}], [{"name": 5}], [{"name": ["k"]}],
                                 [{"name": "k", "expiration": "soon"}],
                                 [{"name": "k", "expiration": []}],
                                 [{"name": "k", "expiration": math.inf}],
                                 [{"name": "k", "expiration": math.nan}]]),
    (lambda c: c.bulk_put(NS, []), [[], "", 0, False, "x", [1], 5, {"unsuccessful_keys": "abc"},
                                    {"unsuccessful_keys": {"a": 1}}, {"unsuccessful_keys": [5]},
                                    {"unsuccessful_keys": [None]}, {"unsuccessful_keys": 7},
                                    {"successful_key_count": "many"},
                                    {"successful_key_count": math.inf},
                                    {"successful_key_count": []}]),
    (lambda c: c.bulk_get(NS, ["k"]), [None, [], {}, "", "x", 0, [1], {"values": None},
                                       {"values": []}, {"values": "k"}, {"values": {"k": 5}},
                                       {"values": {"k": {"value": "v"}}}, {"values": {"k": []}},
                                       {"values": {"k": True}}, {"values": {"k": 0}}]),
    (lambda c: c.bulk_get(NS, ["k"], with_metadata=True),
     [{"values": {"k": "v"}}, {"values": {"k": 5}}, {"values": {"k": ["v"]}},
      {"values": {"k": {}}}, {"values": {"k": {"value": None}}}, {"values": {"k": {"value": 5}}},
      {"values": {"k": {"value": "v", "expiration": "x"}}},
      {"values": {"k": {"value": "v", "expiration": math.inf}}}]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "result"), [(call, result) for call, results in WRONG for result in results]
)
def test_a_result_of_the_wrong_shape_is_an_api_error(
    time: Time, call: Callable[[Client], Any], result: Any
) -> None:
    with pytest.raises(APIError, match="not of the API's form") as caught:
        asked(time, call, ok(result))
    assert type(caught.value) is APIError
    assert not isinstance(caught.value, LookupError | TypeError)
    assert caught.value.status == 200


@pytest.mark.parametrize("info", ["x", [1], 5, {"cursor": 5}, {"cursor": ["a"]}, {"cursor": True}])
def test_a_cursor_of_the_wrong_shape_is_an_api_error(time: Time, info: Any) -> None:
    with pytest.raises(APIError, match="not of the API's form"):
        asked(time, lambda c: c.list_keys(NS), ok([], result_info=info))


def test_what_cloudflare_alone_would_say_is_understood(
    cloudflare: responses.RequestsMock, time: Time
) -> None:
    cloudflare.get(
        f"{BASE}{ROOT}/{NS}/values/a%2Fb",
        body=b"\x00\xff",
        content_type="application/octet-stream",
        headers={"expiration": "1893456000", "set-cookie": "__cflb=x", "cf-ray": "1-AMS"},
        match=[matchers.header_matcher({"Authorization": f"Bearer {TOKEN}"})],
    )
    client = client_on(time)
    for _ in range(2):
        assert client.get_value(NS, "a/b") == RawValue(b"\x00\xff", 1893456000)
    assert "Cookie" not in cloudflare.calls[1].request.headers


def test_a_netrc_and_a_cookie_change_nothing_of_the_request(
    time: Time, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    told = ok(headers={"Set-Cookie": "a=b"})
    with RawServer(keep_answering(told)) as server:
        client = client_on(time, base_url=server.url)
        client.delete_value(NS, "k")
        client.delete_value(NS, "k")
        client.transport.close()
        for seen in server.requests:
            assert seen.headers["Authorization"] == f"Bearer {TOKEN}"
            assert "Cookie" not in seen.headers


def test_the_repr_of_a_client_names_no_token(time: Time) -> None:
    client = client_on(time)
    assert TOKEN not in repr(client)
    assert ACCOUNT in repr(client)
