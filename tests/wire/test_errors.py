"""Every way in which the service, or the way to it, says no: which error it becomes."""

from __future__ import annotations

import gzip
import inspect
import io
import json
import logging
import pickle
import re
import socket
import ssl
import traceback
import tracemalloc
import weakref
import zlib
from collections.abc import Callable, Iterator
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
import urllib3

from kvdict import errors
from kvdict.answers import Answer, may_pass, too_much
from kvdict.errors import (
    APIError,
    AuthError,
    ConfigError,
    FlushError,
    KVError,
    LimitError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    ServerError,
    TransportError,
)
from kvdict.models import RawValue
from kvdict.secret import Secret, bare, check_token
from kvdict.transport import Request, Transport
from kvdict.where import check_base_url
from kvdict.writes import PackedWrite, Write

from .support import (
    BASE,
    NS,
    ROOT,
    TOKEN,
    Connection,
    RawServer,
    Reply,
    Service,
    Time,
    client_on,
    envelope,
    keep_answering,
    ok,
    refused,
    transport_on,
)

LIBRARY = str(Path(errors.__file__).parent)
KEY_PATH = f"{ROOT}/{NS}/values/k"

ROWS: list[tuple[int, int, type[APIError]]] = [
    (503, 10001, ServerError),
    *[(400, code, APIError) for code in range(10002, 10009)],
    (404, 10009, NotFoundError),
    (400, 10010, APIError),
    (400, 10011, APIError),
    (400, 10012, APIError),
    (404, 10013, NotFoundError),
    (400, 10014, APIError),
    (400, 10015, APIError),
    (400, 10016, APIError),
    (403, 10017, AuthError),
    (400, 10018, APIError),
    (403, 10018, AuthError),
    (400, 10019, APIError),
    (400, 10020, APIError),
    (400, 10021, APIError),
    (429, 10022, RateLimitError),
    (400, 10023, APIError),
    (413, 10024, APIError),
    (404, 10025, NotFoundError),
    (403, 10026, AuthError),
    (400, 10028, APIError),
    (400, 10029, APIError),
    (414, 10030, APIError),
    (400, 10030, APIError),
    (403, 10031, AuthError),
    (400, 10033, APIError),
    (400, 10034, APIError),
    (400, 10035, APIError),
    (403, 10037, AuthError),
    (400, 10038, APIError),
    (400, 10041, APIError),
    (400, 10042, APIError),
    (400, 10043, APIError),
    (400, 10044, APIError),
    (410, 10045, APIError),
    (429, 10046, RateLimitError),
    (400, 10047, APIError),
    (413, 10047, APIError),
    (429, 10048, QuotaError),
    (400, 10147, APIError),
    (400, 6003, AuthError),
    (400, 9106, AuthError),
    (401, 10000, AuthError),
    (403, 10000, AuthError),
    (403, 9109, AuthError),
    *[(400, code, AuthError) for code in (9103, 9109, 10000, 10031, 10037)],
    (401, 10001, AuthError),
    (405, 10000, AuthError),
    (400, 7003, APIError),
    (404, 7003, NotFoundError),
    (405, 10405, AuthError),
    (405, 7001, AuthError),
    (429, 971, RateLimitError),
    (429, 10100, RateLimitError),
    (429, 10429, RateLimitError),
    (429, 10500, RateLimitError),
    *[(status, 0, ServerError) for status in (500, 502, 503, 504, *range(520, 528))],
    (401, 0, AuthError),
    (403, 0, AuthError),
    (413, 0, APIError),
    (414, 0, APIError),
    (405, 0, APIError),
    (499, 0, APIError),
]


def raised(call: Callable[[], object], kind: type[KVError] = KVError) -> KVError:
    """Return the error that the call raises; it must be one of kvdict's, and no KeyError."""
    with pytest.raises(kind) as caught:
        call()
    assert not isinstance(caught.value, KeyError | TypeError | AttributeError)
    return caught.value


def refusal(time: Time, reply: Reply | BaseException, **options: Any) -> KVError:
    """Return the error of a delete that is answered so, without retries."""
    client = client_on(time, adapter=Service(reply), max_wait=0.0, **options)
    return raised(lambda: client.delete_value(NS, "k"))


@pytest.mark.parametrize(("status", "code", "kind"), ROWS)
def test_each_refusal_becomes_its_error(
    cloudflare: responses.RequestsMock, time: Time, status: int, code: int, kind: type[APIError]
) -> None:
    told = refused(status, code, "get: 'some words'")
    cloudflare.add(
        responses.PUT,
        f"{BASE}{KEY_PATH}",
        body=told.body,
        status=status,
        headers={"cf-ray": "8f1-AMS"},
    )
    client = client_on(time, max_wait=0.0)
    error = raised(lambda: client.put_value(NS, Write("k", b"v")), kind)
    assert type(error) is kind
    assert isinstance(error, APIError)
    assert error.status == status
    assert error.errors == (((code, "get: 'some words'"),) if code else ())
    assert error.code == (code or None)
    assert (error.method, error.path, error.ray) == ("PUT", KEY_PATH, "8f1-AMS")
    assert error.retry_after is None
    assert (f": {status}: get: 'some words' (code {code})" if code else "some words") in str(error)
    assert KEY_PATH in str(error)
    assert (kind is AuthError) == ("Workers KV Storage: Edit" in str(error))
    assert isinstance(error, PermissionError) == (kind is AuthError)


def test_the_advice_for_a_token_says_what_is_wrong(time: Time) -> None:
    denied = refused(405, 10000, "PUT method not allowed")
    client = client_on(time, adapter=Service(denied))
    assert "may read here but not write" in str(raised(lambda: client.delete_value(NS, "k")))
    for call in (lambda: client.get_value(NS, "k"), lambda: client.bulk_get(NS, ["k"])):
        assert "may read here" not in str(raised(call))
        assert "CLOUDFLARE_API_TOKEN" in str(raised(call))
    error = refusal(time, refused(401, 10000, "Authentication error"))
    assert "the account id" in str(error)
    assert "token" not in str(refusal(time, refused(405, 10400, "not this way")))


def test_a_used_up_quota_says_when_it_is_renewed(time: Time) -> None:
    assert "00:00 UTC" in str(refusal(time, refused(429, 10048)))


def test_a_missing_namespace_says_where_to_look(time: Time) -> None:
    assert "kvdict.Account()" in str(refusal(time, refused(404, 10013)))


def test_a_url_that_leads_nowhere_says_where_to_look(time: Time) -> None:
    for status, code in ((400, 7000), (400, 7003), (404, 7003)):
        assert "ends in /client/v4" in str(refusal(time, refused(status, code)))


def test_all_errors_of_an_answer_are_told(time: Time) -> None:
    told = {
        "success": False,
        "errors": [
            {"code": 7003, "message": "Could not route", "error_chain": [{"code": 1}]},
            {"code": 7000, "message": "No route", "source": {"pointer": "/x"}},
            "words",
            {"code": "x"},
            None,
        ],
    }
    error = refusal(time, Reply(400, json.dumps(told).encode()))
    assert isinstance(error, APIError)
    assert error.errors == ((7003, "Could not route"), (7000, "No route"), (0, "no message"))


def test_ten_errors_are_told_in_500_characters_each_with_codes_of_six_digits(time: Time) -> None:
    told = [
        (999_999, "a" * 500),
        (-999_999, "b" * 501),
        (1_000_000, "é\n"),
        (-1_000_000, "c\u2028"),
    ]
    told += [(number, "d") for number in range(7)]
    errors = [{"code": code, "message": text} for code, text in told]
    error = refusal(time, Reply(400, json.dumps({"success": False, "errors": errors}).encode()))
    assert isinstance(error, APIError)
    assert error.errors == (
        (999_999, "a" * 500), (-999_999, "b" * 500 + "..."), (0, "é\\n"), (0, "c\\u2028"),
        *[(number, "d") for number in range(6)],
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "-5", "soon", "1e3", "²", "9" * 5000, "Mon, 99 Foo",
                                  "Mon, 01 Jan 99999999999 00:00:00 GMT"])  # fmt: skip
def test_a_retry_after_that_cannot_be_read_is_none_or_a_day(time: Time, text: str) -> None:
    for status in (429, 503):
        error = refusal(time, refused(status, 971, headers={"Retry-After": text}))
        assert isinstance(error, APIError)
        assert error.retry_after == (86_400 if text.startswith("9") else None)


def test_a_retry_after_is_told_in_seconds(time: Time) -> None:
    date = "Tue, 24 Nov 2026 10:00:00 GMT"
    for text, seconds in [("0", 0.0), ("17", 17.0), (" 17 ", 17.0),
                          ("Tue, 24 Nov 2026 10:01:00 GMT", 60.0),
                          ("Tue, 24 Nov 2026 09:00:00 GMT", 0.0),
                          ("Tue, 24 Nov 2026 10:01:00 -0000", 60.0),
                          ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0)]:  # fmt: skip
        reply = refused(429, 971, headers={"Retry-After": text, "Date": date})
        error = refusal(time, reply)
        assert isinstance(error, RateLimitError)
        assert error.retry_after == seconds


@pytest.mark.parametrize("date", ["", "soon"])
def test_a_retry_after_that_cannot_be_held_against_a_date_is_none(time: Time, date: str) -> None:
    headers = {"Retry-After": "Tue, 24 Nov 2026 10:01:00 GMT", "Date": date}
    error = refusal(time, refused(429, 971, headers=headers))
    assert isinstance(error, RateLimitError)
    assert error.retry_after is None


DEEP = b"[" * 200_000 + b"]" * 200_000
NO_ENVELOPES = [
    b"", b" ", b"<html>nginx</html>", b"\x1f\x8b", b"null", b"[]", b"5", b'"x"', b"{}", b"{",
    b'{"success":true', b'{"result":{}}', DEEP, b'{"success":true,"result":' + DEEP + b"}",
    b"\xff\xfe{}", b'{"result":5,"success":' + b"1" * 5000 + b"}", b"NaN",
]  # fmt: skip


@pytest.mark.usefixtures("collector_rests")
@pytest.mark.parametrize("body", NO_ENVELOPES, ids=range(len(NO_ENVELOPES)))
def test_a_200_that_is_no_envelope_is_an_api_error(time: Time, body: bytes) -> None:
    client = client_on(time, adapter=Service(Reply(200, body)))
    calls: list[Callable[[], Any]] = [
        lambda: client.list_namespaces(),
        lambda: client.list_keys(NS),
        lambda: client.put_value(NS, Write("k", b"v")),
        lambda: client.get_metadata(NS, "k"),
        lambda: client.bulk_put(NS, [PackedWrite(Write("k", b"v"))]),
        lambda: client.bulk_get(NS, ["k"]),
    ]
    for call in calls:
        error = raised(call, APIError)
        assert type(error) is APIError
        assert "is the base URL right" in str(error)
        assert len(str(error)) < 800


def test_a_page_is_no_value(time: Time) -> None:
    """A value comes as bytes; a page is that of a proxy, or of a network that wants a login."""
    page = Reply(200, b"<html>Sign in</html>", {"Content-Type": "text/HTML; charset=utf-8"})
    error = raised(lambda: client_on(time, adapter=Service(page)).get_value(NS, "k"), APIError)
    assert "is no proxy or login page between?" in str(error)
    value = Reply(200, page.body, {"Content-Type": "application/octet-stream"})
    assert client_on(time, adapter=Service(value)).get_value(NS, "k").data == page.body


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_that_is_none_of_the_api_s_blames_the_token_last(time: Time, status: int) -> None:
    for body in (b"<html>Blocked by the web filter</html>", b"error code: 1020", b""):
        said = str(refusal(time, Reply(status, body)))
        assert said.index("a proxy or a firewall between") < said.index("Workers KV Storage: Edit")
    assert "a firewall" not in str(refusal(time, refused(status, 10000, "Authentication error")))


@pytest.mark.parametrize("success", ["true", 1, None, [], {}, "false", 0])
def test_only_a_true_success_is_a_success(time: Time, success: Any) -> None:
    error = refusal(time, Reply(200, json.dumps({"success": success, "result": None}).encode()))
    assert type(error) is APIError


@pytest.mark.usefixtures("collector_rests")
@pytest.mark.parametrize("status", [400, 401, 404, 405, 413, 429, 500, 524])
@pytest.mark.parametrize("body", NO_ENVELOPES, ids=range(len(NO_ENVELOPES)))
@pytest.mark.parametrize("errors", [None])
def test_a_refusal_without_an_envelope_is_told_by_its_status(
    time: Time, status: int, body: bytes, errors: Any
) -> None:
    error = refusal(time, Reply(status, body))
    assert isinstance(error, APIError)
    assert error.status == status
    assert len(str(error)) < 800


@pytest.mark.parametrize(
    "told", ["x", 5, {}, {"code": 1}, [5], [[]], [None], [{"code": []}], [{"message": {}}], True]
)
def test_errors_of_the_wrong_shape_are_still_an_api_error(time: Time, told: Any) -> None:
    for status in (200, 400):
        body = json.dumps({"success": False, "errors": told}).encode()
        assert type(refusal(time, Reply(status, body))) is APIError


@pytest.mark.parametrize("body", [b"", b'{"message":"not found"}', refused(404, 10009).body])
def test_a_plain_404_for_a_key_is_a_missing_key(time: Time, body: bytes) -> None:
    client = client_on(time, adapter=Service(Reply(404, body)))
    for call in (lambda: client.get_value(NS, "k"), lambda: client.get_metadata(NS, "k")):
        error = raised(call, NotFoundError)
        assert isinstance(error, NotFoundError)
        assert error.code == 10009


@pytest.mark.parametrize("body", [b"<html>no such page</html>", b"not found", b"[]"])
def test_a_404_of_a_proxy_is_no_missing_key(time: Time, body: bytes) -> None:
    client = client_on(time, adapter=Service(Reply(404, body)))
    error = raised(lambda: client.get_value(NS, "k"), NotFoundError)
    assert isinstance(error, NotFoundError)
    assert error.code is None


@pytest.mark.parametrize("body", [b"", b"{}", b'{"message":"not found"}'])
def test_a_plain_404_without_a_key_in_the_path_is_no_missing_key(time: Time, body: bytes) -> None:
    client = client_on(time, adapter=Service(Reply(404, body)))
    error = raised(lambda: client.list_keys(NS), NotFoundError)
    assert isinstance(error, NotFoundError)
    assert error.code is None


@pytest.mark.parametrize("token", [TOKEN, None])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "an empty body"),
        (b"<html>\n", "'<html>\\n'"),
        ("𝄞".encode() * 200, repr("𝄞" * 120)),
        (refused(500, 10001, "no luck").body, "no luck (code 10001)"),
    ],
)
def test_what_a_service_says_is_repeated_in_short(
    time: Time, token: str | None, body: bytes, words: str
) -> None:
    error = refusal(time, Reply(500, body), token=token)
    assert str(error) == f"DELETE {KEY_PATH}: 500: {words}"


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_an_error_and_the_token_goes_nowhere(time: Time, status: int) -> None:
    with RawServer(keep_answering(ok())) as elsewhere:
        reply = Reply(status, b"", {"Location": elsewhere.url + "/stolen"})
        with RawServer(keep_answering(reply)) as server:
            client = client_on(time, base_url=server.url)
            calls: list[Callable[[], Any]] = [
                lambda: client.get_value(NS, "k"),
                lambda: client.put_value(NS, Write("k", b"v")),
                lambda: client.bulk_get(NS, ["k"]),
            ]
            for call in calls:
                error = raised(call, APIError)
                assert isinstance(error, APIError)
                assert error.status == status
                assert "redirect" in str(error)
            client.transport.close()
            assert len(server.requests) == 3
        assert elsewhere.connections == []


@pytest.mark.parametrize(("status", "redirects"), [(199, False), (300, True), (399, True),
                                                   (400, False)])  # fmt: skip
def test_the_three_hundreds_are_redirects(time: Time, status: int, redirects: bool) -> None:
    assert ("redirect" in str(refusal(time, Reply(status)))) == redirects


def test_the_two_hundreds_are_successes(time: Time) -> None:
    for status in (200, 299):
        client = client_on(time, adapter=Service(Reply(status, b"v")))
        assert client.get_value(NS, "k").data == b"v"


def test_a_status_below_200_is_an_error(time: Time) -> None:
    with RawServer(keep_answering(Reply(103))) as server:
        client = client_on(time, base_url=server.url)
        error = raised(lambda: client.get_value(NS, "k"), APIError)
        assert isinstance(error, APIError)
        assert error.status == 103
        client.transport.close()


def broken(behave: Callable[[Connection], None], time: Time, **options: Any) -> KVError:
    """Return the error of a read from a server that behaves so."""
    with RawServer(behave) as server:
        client = client_on(time, base_url=server.url, max_wait=0.0, **options)
        error = raised(lambda: client.get_value(NS, "k"))
        client.transport.close()
        assert_no_token(error)
        return error


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nDate: x",
        b"HTTP/1.1 200 OK\r\nContent-Typ",
        b"\x16\x03\x01\x00\x00",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\na",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"b" * 70_000 + b"\r\n\r\n",
    ],
    ids=range(15),
)
def test_an_answer_that_breaks_off_or_is_no_http_is_a_transport_error(
    time: Time, said: bytes
) -> None:
    def behave(connection: Connection) -> None:
        if connection.read():
            connection.say(said)
        connection.socket.shutdown(socket.SHUT_RDWR)

    error = broken(behave, time)
    assert type(error) is TransportError
    assert not error.timed_out
    assert error.__cause__ is not None


def test_an_answer_that_breaks_off_in_its_headers_is_said_to(time: Time) -> None:
    def behave(connection: Connection) -> None:
        if connection.read():
            connection.say(b"HTTP/1.1 200 OK\r\nDate: Tue")
        connection.socket.shutdown(socket.SHUT_RDWR)

    assert "no answer: the answer breaks off in its headers" in str(broken(behave, time))


def test_an_answer_that_ends_with_its_connection_is_read_if_it_says_so(time: Time) -> None:
    for said in (b"HTTP/1.0 200 OK\r\n\r\nvalue",
                 b"HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\nvalue"):  # fmt: skip

        def behave(connection: Connection, said: bytes = said) -> None:
            connection.read()
            connection.say(said)
            connection.socket.shutdown(socket.SHUT_RDWR)

        with RawServer(behave) as server:
            client = client_on(time, base_url=server.url)
            assert client.get_value(NS, "k").data == b"value"
            client.transport.close()


def test_an_answer_of_http_0_9_is_no_value(time: Time) -> None:
    def behave(connection: Connection) -> None:
        connection.read()
        connection.say(b"just words")
        connection.socket.shutdown(socket.SHUT_RDWR)

    assert isinstance(broken(behave, time), TransportError)


def test_a_reset_is_a_transport_error(time: Time) -> None:
    def behave(connection: Connection) -> None:
        connection.read()
        connection.reset()

    error = broken(behave, time)
    assert isinstance(error, TransportError)
    assert error.transient


def test_a_server_that_is_not_there_is_a_transport_error(time: Time) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        client = client_on(time, base_url=url, max_wait=0.0)
        error = raised(lambda: client.get_value(NS, "k"), TransportError)
    assert isinstance(error, TransportError)
    assert error.transient
    assert not error.timed_out
    assert re.search(r": no answer: .*Connection refused; is http://127\.0\.0\.1", str(error))


def test_a_name_that_no_host_has_is_a_transport_error(
    time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_arguments: Any, **_options: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    client = client_on(time, base_url="http://kvdict.invalid", max_wait=0.0)
    error = raised(lambda: client.get_value(NS, "k"), TransportError)
    assert "Name or service not known" in str(error)


def test_plain_http_behind_https_is_a_transport_error(time: Time) -> None:
    with RawServer(lambda connection: connection.say(b"HTTP/1.1 400 X\r\n\r\n")) as server:
        url = server.url.replace("http:", "https:")
        client = client_on(time, base_url=url, max_wait=0.0)
        error = raised(lambda: client.get_value(NS, "k"), TransportError)
        client.transport.close()
    assert_no_token(error)


def test_a_gzipped_answer_is_unpacked(time: Time) -> None:
    value = bytes(range(256)) * 1000
    reply = Reply(200, gzip.compress(value), {"Content-Encoding": "gzip"})
    with RawServer(keep_answering(reply)) as server:
        client = client_on(time, base_url=server.url)
        assert client.get_value(NS, "k") == RawValue(value)
        assert client.get_value(NS, "k") == RawValue(value)
        client.transport.close()
        assert len(server.connections) == 1


def test_an_oversized_answer_is_not_read_to_its_end(time: Time) -> None:
    def behave(connection: Connection) -> None:
        connection.read()
        connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n")
        while True:
            connection.say(b"x" * 65536)

    error = broken(behave, time)
    assert isinstance(error, TransportError)
    assert not error.transient
    assert "more than 32000000 bytes" in str(error)


def test_an_answer_may_have_as_many_bytes_as_its_request_says(time: Time) -> None:
    sending = transport_on(time, adapter=Service(Reply(200, b"12345")))
    assert sending.send(Request("GET", "/x", most=5)).data == b"12345"
    error = raised(lambda: sending.send(Request("GET", "/x", most=4)), TransportError)
    assert "more than 4 bytes" in str(error)


@pytest.mark.parametrize("size", [0, 1, 100_000, 1_000_000])
@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress])
def test_a_compressed_answer_is_read_whole_or_not_at_all(
    time: Time, packed: Callable[[bytes], bytes], size: int
) -> None:
    kind = "gzip" if packed is gzip.compress else "deflate"
    value = bytes(range(256)) * (size // 512) + b"\0" * (size - size // 2)
    whole = Reply(200, packed(value), {"Content-Encoding": kind})
    cut = Reply(200, packed(value)[:-5], {"Content-Encoding": kind})
    other = Reply(200, value, {"Content-Encoding": "br"})
    with RawServer(keep_answering(whole)) as server:
        client = client_on(time, base_url=server.url)
        assert client.get_value(NS, "k").data == value
        client.transport.close()
    for reply, why in ((cut, "breaks off inside its compression"), (other, "is encoded as br")):
        with RawServer(keep_answering(reply)) as server:
            client = client_on(time, base_url=server.url, max_wait=0.0)
            error = raised(lambda: client.get_value(NS, "k"), TransportError)  # noqa: B023 - it is called at once
            assert why in str(error)
            client.transport.close()


@pytest.mark.parametrize("coding", ["GZIP", " gzip", "x-gzip", "", "identity", "Identity "])
def test_an_encoding_is_read_however_it_is_written(time: Time, coding: str) -> None:
    body = gzip.compress(b"v") if "zip" in coding.lower() else b"v"
    service = Service(Reply(200, body, {"Content-Encoding": coding}))
    assert client_on(time, adapter=service).get_value(NS, "k").data == b"v"


def test_an_answer_of_several_gzip_parts_is_read_to_its_end(time: Time) -> None:
    parts = [bytes([number]) * 50_000 for number in range(5)]
    reply = Reply(200, b"".join(map(gzip.compress, parts)), {"Content-Encoding": "gzip"})
    with RawServer(keep_answering(reply)) as server:
        client = client_on(time, base_url=server.url)
        assert client.get_value(NS, "k").data == b"".join(parts)
        client.transport.close()


@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress])
def test_a_bomb_is_not_unpacked_to_its_end(time: Time, packed: Callable[[bytes], bytes]) -> None:
    kind = "gzip" if packed is gzip.compress else "deflate"
    bomb = Reply(200, packed(b"\0" * 40_000_000), {"Content-Encoding": kind})
    with RawServer(keep_answering(bomb)) as server:
        client = client_on(time, base_url=server.url, max_wait=300.0)
        tracemalloc.start()
        error = raised(lambda: client.get_value(NS, "k"), TransportError)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        client.transport.close()
        assert len(server.requests) == 1
    assert isinstance(error, TransportError)
    assert peak < 50_000_000


# No foreign exception, and no token


def exception_kinds() -> Iterator[type[BaseException]]:
    for module in (requests.exceptions, urllib3.exceptions):
        for _, kind in sorted(inspect.getmembers(module, inspect.isclass)):
            if issubclass(kind, Exception) and not issubclass(kind, Warning):
                yield kind
    yield from (OSError, TimeoutError, ConnectionResetError, BrokenPipeError, ssl.SSLError,
                EOFError, ValueError, KeyError, RuntimeError, RecursionError, MemoryError,
                AssertionError, zlib.error, UnicodeError, LookupError)  # fmt: skip


def build(kind: type[BaseException], request: requests.PreparedRequest) -> BaseException:
    """Return an exception of the kind that holds the request wherever it can."""
    inner = requests.ConnectionError("inner", request=request)
    if issubclass(kind, requests.RequestException) and not issubclass(kind, ValueError):
        return kind(inner, request=request)
    tries: list[tuple[Any, ...]] = [
        (None, "/url", inner), (None, "/url", "words"), (None, "words"), ("words",), (1, 2),
        ("words", [b""]), (inner,), ("words", "doc", 0), (None, 5), (),
    ]  # fmt: skip
    for arguments in tries:
        try:
            error = kind(*arguments)
            assert repr(error) + str(error)
            return error
        except Exception:
            continue
    raise AssertionError(f"{kind} cannot be made")


def traces_of(error: BaseException) -> Iterator[str]:
    """Yield all that anybody may print of the error."""
    seen: set[int] = set()
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield repr(link)
        yield str(link)
        yield repr(vars(link))
        for name in ("request", "response"):
            assert getattr(link, name, None) is None
        links += [link.__cause__, link.__context__]
        links += [argument for argument in link.args if isinstance(argument, BaseException)]
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    yield "".join(told.format())


def assert_no_token(error: BaseException, token: str = TOKEN) -> None:
    for text in traces_of(error):
        assert token not in text
    assert token.encode() not in pickle.dumps(error)


@pytest.mark.parametrize("kind", list(exception_kinds()), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("nested", [False, True])
def test_whatever_an_adapter_raises_is_translated_and_shows_no_token(
    time: Time, caplog: pytest.LogCaptureFixture, kind: type[BaseException], nested: bool
) -> None:
    class Raising(Service):
        def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> Any:
            told = request.headers["Authorization"]
            error = build(kind, request)
            assert str(told)
            if not nested:
                raise error
            try:
                try:
                    raise error
                except BaseException as first:
                    raise requests.ConnectionError(error, request=request) from first
            except BaseException:
                raise OSError(error) from ValueError("something else")

    caplog.set_level(logging.DEBUG)
    client = client_on(time, adapter=Raising(ok()), max_wait=3.0)
    error = raised(lambda: client.get_value(NS, "k"), TransportError)
    assert type(error) is TransportError
    assert error.__cause__ is not None
    assert_no_token(error)
    assert TOKEN not in caplog.text
    for record in caplog.records:
        assert TOKEN not in repr(vars(record))


def test_a_dead_server_shows_one_cause_above_our_sentence(time: Time) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}/client/v4"
    client = client_on(time, base_url=url, max_wait=0.0)
    error = raised(lambda: client.get_value(NS, "k"), TransportError)
    assert type(error.__cause__) is requests.ConnectionError
    told = traceback.format_exception(error)
    kinds = [line.partition(":")[0] for line in told if not line[0].isspace() and ":" in line]
    assert [kind.rpartition(".")[2] for kind in kinds if "Error" in kind] == [
        "ConnectionError", "TransportError",
    ]  # fmt: skip
    assert "Connection refused; is http://127.0.0.1:" in told[-1]
    (inner,) = error.__cause__.args  # for who looks closer
    assert isinstance(inner.reason, urllib3.exceptions.NewConnectionError)
    assert_no_token(error)


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_a_timeout_is_one_however_it_is_wrapped(time: Time, link: str) -> None:
    error = requests.ConnectionError("lost")
    setattr(error, link, TimeoutError("for too long"))
    told = refusal(time, error)
    assert isinstance(told, TransportError)
    assert told.timed_out
    assert str(told) == f"DELETE {KEY_PATH}: for too long"


def test_where_no_network_is_between_nobody_is_sent_to_look_at_it(time: Time) -> None:
    error = refusal(time, OSError(5, "Input/output error"))
    assert str(error) == f"DELETE {KEY_PATH}: [Errno 5] Input/output error"


def test_an_exception_that_nobody_foresaw_is_told_in_its_own_words(time: Time) -> None:
    error = RuntimeError("outer")
    error.__cause__ = ValueError("inner")
    assert str(refusal(time, error)) == f"DELETE {KEY_PATH}: outer"
    assert str(refusal(time, RuntimeError())) == f"DELETE {KEY_PATH}: RuntimeError"


def test_an_exception_of_a_strange_make_is_translated_too(time: Time) -> None:
    class StrangeError(Exception):
        @property
        def request(self) -> object:
            raise RuntimeError("not set")

    group = ExceptionGroup("many", [StrangeError(), requests.ConnectionError("x")])
    for error in (StrangeError(), group):
        assert type(refusal(time, error)) is TransportError


def test_an_interrupt_passes(time: Time) -> None:
    for interrupt in (KeyboardInterrupt, SystemExit, GeneratorExit):
        client = client_on(time, adapter=Service(interrupt()))
        with pytest.raises(interrupt):
            client.get_value(NS, "k")


def test_a_refusal_shows_no_token(time: Time, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for reply in (refused(401, 10000), refused(500), refused(429, 971), Reply(200, b"<html>")):
        service = Service(reply)
        client = client_on(time, adapter=service, max_wait=2.0)
        assert_no_token(raised(lambda: client.delete_value(NS, "k")))  # noqa: B023 - it is called at once
        assert service.seen[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500])
def test_an_echo_of_the_token_does_not_get_into_an_error(time: Time, status: int) -> None:
    """A base URL may point to a service that tells what it was sent."""
    echo = f"Authorization: Bearer {TOKEN}"
    said = {"success": False, "errors": [{"code": 6003, "message": echo}]}
    for body in (json.dumps(said).encode(), echo.encode(), (" " * 110 + echo).encode()):
        service = Service(Reply(status, body))
        client = client_on(time, adapter=service, max_wait=0.0)
        error = raised(lambda: client.delete_value(NS, "k"), APIError)  # noqa: B023 - it is called at once
        assert TOKEN[:5] not in f"{error} {vars(error)}"
        assert TOKEN.encode() not in pickle.dumps(error)
    value = client_on(time, adapter=Service(Reply(200, echo.encode()))).get_value(NS, "k")
    assert value.data == echo.encode()


def test_the_socket_s_own_errors_show_no_token(
    time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def behave(connection: Connection) -> None:
        connection.read()
        connection.reset()

    with RawServer(behave) as server:
        client = client_on(time, base_url=server.url, max_wait=3.0)
        for call in (
            lambda: client.get_value(NS, "k"),
            lambda: client.put_value(NS, Write("k", b"v" * 500_000)),
        ):
            error = raised(call, TransportError)
            assert_no_token(error)
        client.transport.close()
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "bad", ["hush-hush\n", " hush-hush", "hush hush", "hush\x00hush", "hush-hüsh", "hush\r\nX: y"]
)
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(time: Time, bad: str) -> None:
    def asking() -> str:
        return bad

    service = Service(ok())
    by_call = client_on(time, adapter=service, token=asking)
    calls: list[Callable[[], object]] = [
        lambda: check_token("".join(list(bad)), "token"),
        lambda: by_call.get_value(NS, "k"),
    ]
    for call in calls:
        error = raised(call, ConfigError)
        ours = [
            frame
            for frame in traceback.TracebackException.from_exception(
                error, capture_locals=True
            ).stack
            if frame.filename.startswith(LIBRARY)
        ]
        assert ours
        assert "hush" not in "".join(repr(frame.locals) for frame in ours)
        assert "hush" not in str(error)
        assert "strip()" in str(error)
    assert service.seen == []


def test_a_transport_does_not_keep_a_plain_token_among_its_locals(time: Time) -> None:
    error = raised(lambda: Transport(BASE, "hush hush"), ConfigError)
    stack = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    for frame in stack:
        if frame.filename.endswith("kvdict/transport.py"):
            assert "hush" not in repr(frame.locals)


@pytest.mark.parametrize("bad", [None, b"hush-hush", 5, "", ["hush-hush"]])
def test_a_token_that_is_no_text_is_refused_and_not_shown(time: Time, bad: Any) -> None:
    client = client_on(time, adapter=Service(ok()), token=lambda: bad)
    error = raised(lambda: client.get_value(NS, "k"), ConfigError)
    assert "hush" not in str(error)
    assert str(error).startswith("what the token callable returned: expected an API token")


def test_of_an_error_of_somebody_elses_nothing_is_hoped() -> None:
    assert not may_pass(ValueError("a token callable's own"))
    assert not too_much(ValueError("a token callable's own"))


def test_all_that_a_refusal_says_is_told(time: Time) -> None:
    errors = [{"code": 10033, "message": "one"}, {"code": 10034, "message": "two"}]
    error = refusal(time, Reply(400, json.dumps({"success": False, "errors": errors}).encode()))
    assert ": 400: one (code 10033); two (code 10034)" in str(error)
    assert isinstance(error, APIError)
    assert error.ray == ""
    missing = refusal(time, Reply(404, b""))
    assert "key not found (code 10009)" in str(missing)


@pytest.mark.parametrize("token", ["hush", None])
def test_what_is_no_answer_of_the_api_is_shown_in_short_without_the_token(
    time: Time, token: str | None
) -> None:
    adapter = Service(Reply(200, b"hush " + b"\xf0\x9f\x8e\x88" * 200, {"cf-ray": "hush-AMS"}))
    client = client_on(time, adapter=adapter, token=token)
    error = raised(lambda: client.list_keys(NS), APIError)
    shown = "***" if token else "hush"
    assert f"form: '{shown} {'🎈' * (119 - len(shown))}'; is" in str(error)
    assert isinstance(error, APIError)
    assert error.ray == f"{shown}-AMS"


@pytest.mark.parametrize("token", ["hush", None])
def test_the_token_alone_is_masked_in_what_the_service_says(time: Time, token: str | None) -> None:
    said = "Nothing like hush, and None like Bearer hush, without an x"
    adapter = Service(refused(404, 10009, said))
    error = raised(
        lambda: transport_on(time, token=token, adapter=adapter).send(Request("GET", "/x")),
        NotFoundError,
    )
    assert (said if token is None else said.replace("hush", "***")) in str(error)


def test_a_token_that_is_given_and_no_text_is_named_and_not_shown() -> None:
    bad: Any = b"hush-hush"
    error = raised(lambda: Transport(BASE, bad), ConfigError)
    assert str(error) == "token: expected an API token as a str, not bytes"


@pytest.mark.usefixtures("collector_rests")
def test_an_error_is_gone_with_its_last_user_and_what_its_frames_hold_too(time: Time) -> None:
    sending = transport_on(time, adapter=Service(refused(404, 10009)))
    try:
        sending.send(Request("GET", "/x"))
    except KVError as error:
        gone = weakref.ref(error)
    assert gone() is None


def test_what_a_token_callable_raises_passes_and_frees_its_place(
    cloudflare: responses.RequestsMock, time: Time
) -> None:
    cloudflare.get(f"{BASE}{KEY_PATH}", body=b"v")
    tokens: list[str] = []

    def asking() -> str:
        return tokens.pop()

    client = client_on(time, token=asking)
    with pytest.raises(IndexError):
        client.get_value(NS, "k")
    tokens.append(TOKEN)
    assert client.get_value(NS, "k").data == b"v"


def test_a_secret_shows_nowhere() -> None:
    secret = Secret("hush")
    assert secret == "hush"
    assert "hush" not in repr(secret)
    assert "hush" not in f"{secret!r}" + "%r" % [secret] + repr({"a": (secret,)}) + ascii(secret)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps({"token": secret}, protocol)


def test_baring_ends_for_causes_in_a_circle() -> None:
    one, two = ValueError("1"), ValueError("2")
    one.__cause__, two.__context__ = two, one
    one.args = (two, one)
    assert bare(one) is one


def test_a_base_url_with_a_password_is_refused_and_not_shown() -> None:
    for url in ("https://user:hush@host/", "https://hush@host", "ftp://user:hush@host"):
        error = raised(lambda: check_base_url(url, "x"), ConfigError)  # noqa: B023 - it is called at once
        assert "hush" not in str(error)
    for url in ("", "ftp://host", "https://", "host", "file:///x", "http://[", "http://h?a#b"):
        raised(lambda: check_base_url(url, "x"), ConfigError)  # noqa: B023 - it is called at once


# Pickles


def every_error() -> Iterator[KVError]:
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if not issubclass(kind, KVError):
            continue
        error: KVError
        if issubclass(kind, APIError):
            error = kind(
                f"words of {name}",
                status=404,
                errors=[(10009, "é"), (1, "x")],
                method="GET",
                path="/p",
                ray="r-1",
            )
            assert isinstance(error, APIError)
            error.retry_after = 2.5
        elif issubclass(kind, TransportError):
            error = kind("words", timed_out=True, transient=False)
        elif issubclass(kind, FlushError):
            error = kind("words", pending=3, failed={"a": "because"})
        else:
            error = kind("words")
        yield error


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_is_pickled_with_all_it_says(protocol: int) -> None:
    for error in every_error():
        error.say_more("and more", ("k1", "k2"))
        error.add_note("a note")
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert "and more" in str(again)
        assert vars(again) == vars(error)
        assert again.keys == ("k1", "k2")
        assert again.__notes__ == ["a note"]
        assert repr(again) == repr(error)


def test_every_error_of_the_tree_is_one_of_ours_and_says_its_message_alone() -> None:
    kinds = {type(error).__name__ for error in every_error()}
    assert {"APIError", "AuthError", "QuotaError", "FlushError", "LimitError"} <= kinds
    for error in every_error():
        assert isinstance(error, KVError)
        assert not isinstance(error, KeyError)
        assert str(error).startswith("words")


def test_a_limit_error_is_a_value_error() -> None:
    assert issubclass(LimitError, ValueError)
    assert issubclass(TransportError, ConnectionError)
    assert issubclass(NotFoundError, LookupError)


# Small things


def test_an_answer_is_read_at_once_however_it_is_cut(time: Time) -> None:
    def behave(connection: Connection) -> None:
        while connection.read():
            connection.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for size in (1, 2, 70_000):
                connection.say(b"%x\r\n%b\r\n" % (size, b"x" * size))
            connection.say(b"0\r\n\r\n")

    with RawServer(behave) as server:
        client = client_on(time, base_url=server.url)
        for _ in range(3):
            assert client.get_value(NS, "k").data == b"x" * 70_003
        client.transport.close()
        assert len(server.connections) == 1


def test_an_adapter_whose_body_is_any_file_is_read(time: Time) -> None:
    class Plain(Service):
        def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> Any:
            response = super().send(request)
            response.raw = io.BufferedReader(io.BytesIO(b"from a file"))
            return response

    client = client_on(time, adapter=Plain(ok()))
    assert client.get_value(NS, "k").data == b"from a file"


def test_an_adapter_s_answer_may_have_no_body_at_all(time: Time) -> None:
    class Bare(Service):
        def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> Any:
            response = super().send(request)
            response.raw = urllib3.HTTPResponse()
            return response

    assert client_on(time, adapter=Bare(ok())).get_value(NS, "k").data == b""


def test_an_incomplete_read_of_http_client_is_translated(time: Time) -> None:
    assert isinstance(refusal(time, IncompleteRead(b"x")), TransportError)


def test_an_answer_is_a_value_that_tells_itself() -> None:
    answer = Answer("GET", "/p", 200, {}, envelope({"a": 1}))
    assert answer.refusal() is None
    assert answer.envelope()["result"] == {"a": 1}
    secret = Answer("GET", "/p", 200, {}, b"body", "hush")
    assert repr(secret) == "Answer(method='GET', path='/p', status=200, headers={})"


def test_a_request_that_was_not_sent_for_want_of_allowance_is_a_rate_limit_error(
    time: Time, cloudflare: responses.RequestsMock
) -> None:
    cloudflare.get(
        f"{BASE}{KEY_PATH}", body=b"v", headers={"Ratelimit": '"default";r=0;t=200',
                                                 "Ratelimit-Policy": '"default";q=1200;w=300'}
    )  # fmt: skip
    sending = transport_on(time, max_wait=10)
    sending.send(Request("GET", KEY_PATH))
    error = raised(lambda: sending.send(Request("GET", KEY_PATH)), RateLimitError)
    assert isinstance(error, RateLimitError)
    assert (error.status, error.method, error.path) == (429, "GET", KEY_PATH)
    assert error.retry_after == pytest.approx(200)
    assert "another 200 s, and it may not wait so long" in str(error)
    assert len(cloudflare.calls) == 1
    assert pickle.loads(pickle.dumps(error)).retry_after == error.retry_after
