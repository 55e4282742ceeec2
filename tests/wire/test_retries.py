"""What is tried again, when, how often, and what the next attempt is made of."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from io import BytesIO
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
import urllib3

import kvdict
from kvdict.budget import RateBudget
from kvdict.client import Client
from kvdict.errors import (
    APIError,
    AuthError,
    ConfigError,
    KVError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    ServerError,
    TransportError,
)
from kvdict.transport import LAST_BACKOFF, NEWBORN, SENT_AS_FILE, Request, Transport
from kvdict.writes import PackedWrite, Write, expiry_of

from .support import (
    ACCOUNT,
    BASE,
    EPOCH,
    NS,
    ROOT,
    TOKEN,
    Connection,
    RawServer,
    Reply,
    Service,
    Time,
    client_on,
    keep_answering,
    ok,
    refused,
    running,
    transport_on,
)

KEY_URL = f"{BASE}{ROOT}/{NS}/values/k"
READ_TIMEOUT = requests.ReadTimeout("read timed out")
PUT = [PackedWrite(Write("k", b"v"))]


@pytest.mark.parametrize(
    "first",
    [
        *[refused(status) for status in (408, 429, 500, 501, 502, 503, 504, *range(520, 528))],
        refused(429, 971),
        refused(429, 10022),
        refused(503, 10001),
        requests.ConnectionError("refused"),
        requests.ConnectTimeout("connect timed out"),
        READ_TIMEOUT,
        requests.exceptions.ChunkedEncodingError("broken"),
        requests.exceptions.SSLError("EOF"),
        urllib3.exceptions.ProtocolError("Connection aborted."),
        urllib3.exceptions.IncompleteRead(1, 2),
        urllib3.exceptions.ReadTimeoutError(None, "/", "read timed out"),  # type: ignore[arg-type]  # there is no pool
        ConnectionResetError(104, "reset"),
        BrokenPipeError(32, "pipe"),
        TimeoutError("timed out"),
        OSError(101, "Network is unreachable"),
    ],
    ids=repr,
)
def test_what_may_pass_is_tried_again(time: Time, first: Reply | BaseException) -> None:
    service = Service(first, first, Reply(200, b"v"))
    client = client_on(time, adapter=service)
    assert client.get_value(NS, "k").data == b"v"
    assert len(service.seen) == 3
    assert len(time.slept) == 2
    assert (client.transport.requests, client.transport.retries) == (3, 2)


@pytest.mark.parametrize(
    "first",
    [
        *[refused(status) for status in (300, 301, 302, 303, 304, 307, 308, 400, 403, 404, 405,
                                         409, 410, 411, 413, 414, 418, 422, 431, 451, 499)],
        refused(401, 10000),
        refused(429, 10048),
        refused(404, 10013),
        refused(404, 10009),
        refused(400, 10029),
        requests.exceptions.InvalidURL("x"),
        requests.exceptions.InvalidHeader("x"),
        requests.exceptions.InvalidProxyURL("x"),
        ValueError("x"),
        RuntimeError("x"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_will_not_pass_is_not_tried_again(time: Time, first: Reply | BaseException) -> None:
    service = Service(first)
    client = client_on(time, adapter=service)
    with pytest.raises(KVError):
        client.get_value(NS, "k")
    assert len(service.seen) == 1
    assert time.slept == []


def test_a_used_up_quota_is_no_reason_to_stop_the_others(
    cloudflare: responses.RequestsMock, time: Time
) -> None:
    headers = {"Retry-After": "3600"}
    cloudflare.put(KEY_URL, body=refused(429, 10048).body, status=429, headers=headers)
    cloudflare.get(KEY_URL, body=b"v")
    client = client_on(time)
    with pytest.raises(QuotaError):
        client.put_value(NS, Write("k", b"v"))
    assert client.get_value(NS, "k").data == b"v"
    assert time.slept == []


def test_backoff_doubles_up_to_half_a_minute(time: Time) -> None:
    client = client_on(time, adapter=Service(refused(503)), jitter=lambda: 1.0)
    with pytest.raises(ServerError):
        client.get_value(NS, "k")
    assert time.slept[:7] == [0.5, 1, 2, 4, 8, 16, 30]
    assert set(time.slept[7:]) == {LAST_BACKOFF}
    assert sum(time.slept) <= 300
    assert sum(time.slept) > 300 - LAST_BACKOFF


def test_backoff_is_jittered_by_up_to_a_half(time: Time) -> None:
    rolls = iter([0.0, 0.5, 1.0, 0.25])
    service = Service(*[refused(503)] * 4, ok())
    client_on(time, adapter=service, jitter=lambda: next(rolls)).delete_value(NS, "k")
    assert time.slept == [0.25, 0.75, 2.0, 2.5]


def test_two_transports_do_not_wait_in_step() -> None:
    waits = []
    for _ in range(2):
        time = Time()
        client = Client(
            Transport(
                BASE, TOKEN, adapter=Service(refused(503)), clock=time, sleep=time.sleep
            ),
            ACCOUNT,
        )  # fmt: skip
        with pytest.raises(ServerError):
            client.get_value(NS, "k")
        waits.append(time.slept)
    assert waits[0] != waits[1]
    for slept in waits:
        assert all(later > earlier for earlier, later in pairwise(slept[:6]))


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_retry_after_in_seconds_is_honoured(time: Time, status: int) -> None:
    service = Service(refused(status, headers={"Retry-After": "17"}), ok())
    client_on(time, adapter=service).delete_value(NS, "k")
    assert time.slept == [17]


def test_retry_after_as_a_date_is_honoured(time: Time) -> None:
    headers = {
        "Retry-After": "Tue, 24 Nov 2026 10:01:00 GMT",
        "Date": "Tue, 24 Nov 2026 10:00:18 GMT",
    }
    client_on(time, adapter=Service(refused(503, headers=headers), ok())).delete_value(NS, "k")
    assert time.slept == [42]


@pytest.mark.parametrize("text", ["0", "-1", "soon", "", "Tue, 24 Nov 2020 10:01:00 GMT"])
def test_a_retry_after_of_nothing_does_not_hammer(time: Time, text: str) -> None:
    headers = {"Retry-After": text, "Date": "Tue, 24 Nov 2026 10:00:18 GMT"}
    service = Service(refused(503, headers=headers))
    with pytest.raises(ServerError):
        client_on(time, adapter=service).delete_value(NS, "k")
    assert len(service.seen) < 30


@pytest.mark.parametrize("seconds", [301, 10**6])
def test_a_retry_after_beyond_max_wait_is_told_at_once(time: Time, seconds: int) -> None:
    service = Service(refused(429, 971, headers={"Retry-After": str(seconds)}))
    with pytest.raises(RateLimitError) as caught:
        client_on(time, adapter=service).delete_value(NS, "k")
    assert caught.value.retry_after == min(seconds, 86_400)
    assert caught.value.status == 429
    assert caught.value.code == 971
    assert time.slept == []


@pytest.mark.parametrize("max_wait", [0.0, 1.0, 20.0, 300.0])
def test_max_wait_bounds_all_tries_and_the_last_error_is_raised(
    time: Time, max_wait: float
) -> None:
    numbers = count(1)
    service = Service(lambda _seen: refused(503, 10001, f"number {next(numbers)}"))
    with pytest.raises(ServerError) as caught:
        client_on(time, adapter=service, max_wait=max_wait).delete_value(NS, "k")
    assert sum(time.slept) <= max_wait
    assert f"number {len(service.seen)} " in str(caught.value)
    assert (len(service.seen) == 1) == (max_wait == 0)


def test_who_says_nothing_waits_five_minutes() -> None:
    assert Transport(BASE).max_wait == 300


def test_a_client_s_own_max_wait_comes_before_the_transport_s(time: Time) -> None:
    sending = transport_on(time, adapter=Service(refused(503)), max_wait=300)
    with pytest.raises(ServerError):
        Client(sending, ACCOUNT, max_wait=1.75).delete_value(NS, "k")
    assert time.slept == [0.25, 0.5, 1.0]


def test_the_last_try_may_be_made_at_the_very_end(time: Time) -> None:
    service = Service(refused(503))
    with pytest.raises(ServerError):
        client_on(time, adapter=service, max_wait=1.75).delete_value(NS, "k")
    assert time.slept == [0.25, 0.5, 1.0]


def test_max_wait_bounds_allowance_and_tries_together(
    cloudflare: responses.RequestsMock, time: Time
) -> None:
    spent = {"Ratelimit": '"default";r=0;t=200', "Ratelimit-Policy": '"default";q=1200;w=300'}
    cloudflare.get(KEY_URL, body=b"v", headers=spent)
    cloudflare.put(KEY_URL, body=b"<html>", status=503)
    client = client_on(time)
    client.get_value(NS, "k")
    began = time.now
    with pytest.raises(ServerError):
        client.put_value(NS, Write("k", b"v"))
    assert time.slept[0] == pytest.approx(200)
    assert len(time.slept) > 4
    assert time.now - began <= 300


def test_a_wait_for_allowance_may_be_longer_than_one_for_an_answer(
    time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="kvdict")
    limited = refused(429, 971, headers={"Retry-After": "200"})
    sending = transport_on(time, adapter=Service(limited, limited, ok()), max_wait=30)
    sending.allowance_wait = 450.0
    sending.metered = True
    sending.send(Request("GET", "/x"))
    assert sum(time.slept) == 400
    assert sending.retries == 2
    told = [record.getMessage() for record in caplog.records]
    assert sum(line.endswith("; waiting 200 s for more allowance") for line in told) == 2
    assert not any("trying again" in line for line in told)


def test_a_wait_for_allowance_has_an_end_too(time: Time) -> None:
    limited = refused(429, 971, headers={"Retry-After": "200"})
    sending = transport_on(time, adapter=Service(limited), max_wait=30)
    sending.allowance_wait = 450.0
    sending.metered = True
    with pytest.raises(RateLimitError):
        sending.send(Request("GET", "/x"))
    assert sum(time.slept) <= 480


def test_a_wait_for_allowance_leaves_max_wait_to_the_tries(time: Time) -> None:
    limited = refused(429, 971, headers={"Retry-After": "200"})
    sending = transport_on(time, adapter=Service(limited, refused(500)), max_wait=30)
    sending.allowance_wait = 450.0
    sending.metered = True
    with pytest.raises(ServerError):
        sending.send(Request("GET", "/x"))
    assert 215 < sum(time.slept) <= 230


def test_a_local_home_has_no_allowance_to_wait_for(time: Time) -> None:
    sending = transport_on(time, adapter=Service(refused(500)), max_wait=30)
    sending.allowance_wait = 450.0
    with pytest.raises(ServerError):
        sending.send(Request("GET", "/x"))
    assert 15 < sum(time.slept) <= 30


@pytest.mark.parametrize(
    ("reply", "idempotent"),
    [(refused(429, 10048), True), (refused(429, 971, headers={"Retry-After": "5"}), False)],
    ids=["quota", "creation"],
)
def test_an_allowance_that_may_be_waited_for_is_no_reason_to_ask_again(
    time: Time, reply: Reply, idempotent: bool
) -> None:
    service = Service(reply)
    sending = transport_on(time, adapter=service, max_wait=30)
    sending.allowance_wait = 450.0
    sending.metered = True
    with pytest.raises(RateLimitError):
        sending.send(Request("POST", "/x", idempotent=idempotent))
    assert len(service.seen) == 1


def test_work_of_several_requests_has_max_wait_as_a_whole(time: Time) -> None:
    sending = transport_on(time, max_wait=1.75)
    until = sending.deadline()
    assert [sending.back_off(attempt, until) for attempt in range(4)] == [True] * 3 + [False]
    assert time.slept == [0.25, 0.5, 1.0]


class Timed(Service):
    """Remembers how long it may take to connect, and to answer."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(*answers)
        self.timeouts: list[Any] = []

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        self.timeouts.append(options["timeout"])
        return super().send(request, *args, **options)


def test_bulk_requests_are_waited_for_longer_than_the_gateway_waits_itself() -> None:
    service = Timed(ok({}))
    client = Client(Transport(BASE, adapter=service), ACCOUNT)
    client.delete_value(NS, "k")
    client.bulk_put(NS, PUT)
    assert service.timeouts == [(5.0, 60.0), (5.0, 120.0)]


def test_no_answer_is_waited_for_longer_than_said() -> None:
    service = Timed(ok())
    sending = Transport(BASE, adapter=service)
    sending.longest_timeout = 7
    sending.send(Request("GET", "/x", read_timeout=120))
    sending.send(Request("GET", "/x"))
    assert service.timeouts == [(5.0, 7), (5.0, 7)]


def test_the_time_that_attempts_take_counts_too(time: Time) -> None:
    def slow(_seen: object) -> BaseException:
        time.now += 120
        return READ_TIMEOUT

    service = Service(slow)
    with pytest.raises(TransportError):
        client_on(time, adapter=service).bulk_get(NS, ["k"])
    assert len(service.seen) == 3


def test_an_infinite_max_wait_is_one(time: Time) -> None:
    service = Service(*[refused(503)] * 1100, ok())
    client_on(time, adapter=service, max_wait=float("inf")).delete_value(NS, "k")
    assert len(service.seen) == 1101
    assert time.slept[-1] == LAST_BACKOFF / 2


@pytest.mark.parametrize(
    "first",
    [refused(500), refused(503, 10001), refused(429, 971), refused(408), refused(524),
     requests.ConnectionError("lost"), READ_TIMEOUT, refused(400, 10014)],
    ids=repr,
)  # fmt: skip
def test_creating_a_namespace_is_never_tried_twice(
    time: Time, first: Reply | BaseException
) -> None:
    service = Service(first, ok({"id": NS, "title": "t"}))
    with pytest.raises(KVError):
        client_on(time, adapter=service).create_namespace("t")
    assert len(service.seen) == 1


def test_a_429_for_a_creation_still_stops_the_others(
    cloudflare: responses.RequestsMock, time: Time
) -> None:
    told = refused(429, 971)
    headers = {"Retry-After": "42"}
    cloudflare.post(f"{BASE}{ROOT}", body=told.body, status=429, headers=headers)
    cloudflare.get(KEY_URL, body=b"v")
    client = client_on(time)
    with pytest.raises(RateLimitError):
        client.create_namespace("t")
    assert time.slept == []
    client.get_value(NS, "k")
    assert time.slept == [42]


def test_a_503_for_one_does_not_stop_the_others(
    cloudflare: responses.RequestsMock, time: Time
) -> None:
    cloudflare.put(KEY_URL, body=b"<html>", status=503, headers={"Retry-After": "42"})
    cloudflare.get(KEY_URL, body=b"v")
    client = client_on(time, max_wait=10)
    with pytest.raises(ServerError):
        client.put_value(NS, Write("k", b"v"))
    client.get_value(NS, "k")
    assert time.slept == []


# Signed and built anew


def test_the_token_is_asked_for_each_attempt(time: Time) -> None:
    tokens = (f"token-{number}" for number in count())
    service = Service(refused(503), requests.ConnectionError("x"), ok())
    client = client_on(time, adapter=service, token=lambda: next(tokens))
    client.delete_value(NS, "k")
    client.delete_value(NS, "k")
    assert [seen.headers["Authorization"] for seen in service.seen] == [
        f"Bearer token-{number}" for number in range(4)
    ]


def test_a_new_token_is_asked_for_once_after_a_401(time: Time) -> None:
    tokens = (f"token-{number}" for number in count())
    service = Service(refused(401, 10000), ok())
    client = client_on(time, adapter=service, token=lambda: next(tokens))
    client.create_namespace  # noqa: B018 - not idempotent, but a 401 did nothing
    client.delete_value(NS, "k")
    assert [seen.headers["Authorization"][-1] for seen in service.seen] == ["0", "1"]
    assert time.slept == []


def test_a_new_token_is_not_asked_for_endlessly(time: Time) -> None:
    service = Service(refused(401, 10000))
    with pytest.raises(AuthError):
        client_on(time, adapter=service, token=lambda: TOKEN).delete_value(NS, "k")
    assert len(service.seen) == 2
    service = Service(refused(401), refused(503), refused(401))
    with pytest.raises(AuthError):
        client_on(time, adapter=service, token=lambda: TOKEN).delete_value(NS, "k")
    assert len(service.seen) == 3


def test_a_token_that_may_not_do_this_is_not_asked_for_again(time: Time) -> None:
    service = Service(refused(403, 10000))
    with pytest.raises(AuthError):
        client_on(time, adapter=service, token=lambda: TOKEN).delete_value(NS, "k")
    assert len(service.seen) == 1


def test_a_token_that_is_no_callable_is_tried_once(time: Time) -> None:
    service = Service(refused(401, 10000))
    with pytest.raises(AuthError):
        client_on(time, adapter=service).delete_value(NS, "k")
    assert len(service.seen) == 1


def test_without_a_token_no_header_is_sent(time: Time) -> None:
    service = Service(ok())
    client_on(time, adapter=service, token=None).delete_value(NS, "k")
    assert "Authorization" not in service.seen[0].headers


def test_a_callable_that_cannot_be_hashed_may_give_the_token() -> None:
    class Giver:
        __hash__ = None  # type: ignore[assignment]  # that is the point

        def __call__(self) -> str:
            return TOKEN

    assert Transport(BASE, Giver()).budget.limit is None


def test_a_time_to_live_counts_from_when_it_was_said(time: Time) -> None:
    service = Service(*[refused(503, headers={"Retry-After": "30"})] * 4, ok())
    write = Write("k", b"v", expiry_of("k", EPOCH, 150, None))
    client_on(time, adapter=service).put_value(NS, write)
    assert [seen.query for seen in service.seen] == [
        f"expiration_ttl={left}" for left in (150, 120, 90, 60, 60)
    ]


def test_a_near_moment_becomes_a_time_to_live_on_the_way(time: Time) -> None:
    service = Service(*[refused(503, headers={"Retry-After": "50"})] * 4, ok())
    write = PackedWrite(Write("k", b"v", expiry_of("k", EPOCH, None, EPOCH + 200)))
    client_on(time, adapter=service).bulk_put(NS, [write])
    at = int(EPOCH) + 200
    sent = [seen.json[0] for seen in service.seen]
    assert [item.get("expiration") for item in sent] == [at, at, None, None, None]
    assert [item.get("expiration_ttl") for item in sent] == [None, None, 100, 60, 60]


def test_a_time_to_live_is_not_shifted_by_what_is_learnt_of_the_service_s_clock(
    time: Time,
) -> None:
    ahead = {"Date": "Fri, 15 Jan 2027 09:00:00 GMT"}  # an hour before the epoch used here, less
    service = Service(ok(headers=ahead), ok(headers=ahead))
    client = client_on(time, adapter=service)
    clock = client.transport.clock
    expiry = expiry_of("k", clock.now(), 100, None, clock.wall())
    client.delete_value(NS, "k")
    assert abs(clock.now() - EPOCH) > 60
    client.put_value(NS, Write("k", b"v", expiry))
    assert service.seen[1].query == "expiration_ttl=100"


def test_a_large_body_is_sent_whole_in_each_attempt(time: Time) -> None:
    data = b"x" * (SENT_AS_FILE + 1)
    service = Service(refused(503), requests.ConnectionError("x"), ok())
    client_on(time, adapter=service).put_value(NS, Write("k", data))
    assert [len(seen.body) for seen in service.seen] == [len(data)] * 3


def test_a_body_that_cannot_be_built_is_the_caller_s_error(
    cloudflare: responses.RequestsMock, time: Time
) -> None:
    def body() -> bytes:
        raise ZeroDivisionError

    sending = transport_on(time)
    with pytest.raises(ZeroDivisionError):
        sending.send(Request("PUT", "/x", body=body))
    cloudflare.get(f"{BASE}/x", body=b"")
    sending.send(Request("GET", "/x"))


# A namespace that was just created


def test_a_newborn_namespace_is_waited_for(time: Time) -> None:
    missing = refused(404, 10013)
    service = Service(ok({"id": NS, "title": "t"}), missing, missing, missing, ok([]))
    client = client_on(time, adapter=service)
    client.create_namespace("t")
    assert client.list_keys(NS).keys == []
    assert len(service.seen) == 5
    assert 0 < sum(time.slept) < NEWBORN


def test_a_namespace_is_newborn_for_a_while_only(time: Time) -> None:
    service = Service(ok({"id": NS, "title": "t"}), refused(404, 10013))
    client = client_on(time, adapter=service)
    client.create_namespace("t")
    with pytest.raises(NotFoundError):
        client.list_keys(NS)
    assert NEWBORN <= sum(time.slept) < 3 * NEWBORN
    tried = len(service.seen)
    with pytest.raises(NotFoundError):
        client.list_keys(NS)
    assert len(service.seen) == tried + 1


def test_only_the_newborn_namespace_is_waited_for(time: Time) -> None:
    service = Service(ok({"id": NS, "title": "t"}), refused(404, 10013))
    client = client_on(time, adapter=service)
    client.create_namespace("t")
    with pytest.raises(NotFoundError):
        client.list_keys("f" * 32)
    assert len(service.seen) == 2


def test_a_namespace_that_was_deleted_again_is_not_waited_for(time: Time) -> None:
    service = Service(ok({"id": NS, "title": "t"}), ok(), refused(404, 10013))
    client = client_on(time, adapter=service)
    client.create_namespace("t")
    client.delete_namespace(NS)
    with pytest.raises(NotFoundError):
        client.list_keys(NS)
    assert time.slept == []


def test_a_missing_key_of_a_newborn_namespace_is_missing_at_once(time: Time) -> None:
    service = Service(ok({"id": NS, "title": "t"}), refused(404, 10009))
    client = client_on(time, adapter=service)
    client.create_namespace("t")
    with pytest.raises(NotFoundError):
        client.get_value(NS, "k")
    assert len(service.seen) == 2


def test_namespaces_may_be_born_while_others_are_waited_for(time: Time) -> None:
    client = client_on(time, adapter=Service(refused(404, 10013)))
    over = threading.Event()

    def bear() -> None:
        for number in range(3000):
            client.transport.expect_newborn(f"{number:032x}")
        over.set()

    with running(bear):
        while not over.is_set():
            with pytest.raises(NotFoundError):
                client.list_keys("f" * 32)


# Requests whose loss the caller minds


@pytest.mark.parametrize(
    "first", [refused(413), refused(524), READ_TIMEOUT, TimeoutError("timed out"),
              requests.ConnectionError(urllib3.exceptions.ProtocolError("x", TimeoutError("t")))],
    ids=repr,
)  # fmt: skip
def test_what_may_be_lost_is_not_sent_again_if_the_caller_minds(
    time: Time, first: Reply | BaseException
) -> None:
    calls: list[Callable[[Client], Any]] = [
        lambda c: c.bulk_put(NS, PUT, retry_lost=False),
        lambda c: c.bulk_delete(NS, ["k"], retry_lost=False),
        lambda c: c.bulk_get(NS, ["k"], retry_lost=False),
        lambda c: c.put_value(NS, Write("k", b"v"), retry_lost=False),
        lambda c: c.delete_value(NS, "k", retry_lost=False),
    ]
    for call in calls:
        service = Service(first)
        with pytest.raises(KVError):
            call(client_on(time, adapter=service))
        assert len(service.seen) == 1


@pytest.mark.parametrize(
    "first",
    [
        refused(503),
        refused(429, 971),
        requests.ConnectionError("lost"),
        requests.ConnectTimeout("no route"),
        requests.ConnectionError(
            urllib3.exceptions.NewConnectionError(None, "no route")  # type: ignore[arg-type]  # there is no pool
        ),
    ],
    ids=repr,
)
def test_what_is_surely_not_lost_is_sent_again_all_the_same(
    time: Time, first: Reply | BaseException
) -> None:
    service = Service(first, ok({}))
    client_on(time, adapter=service).bulk_put(NS, PUT, retry_lost=False)
    assert len(service.seen) == 2


@pytest.mark.parametrize("first", [refused(524), READ_TIMEOUT], ids=repr)
def test_what_does_not_split_is_sent_again(time: Time, first: Reply | BaseException) -> None:
    service = Service(first, ok({}))
    client_on(time, adapter=service).bulk_put(NS, PUT)
    assert len(service.seen) == 2


def test_a_service_that_is_silent_for_long_is_not_asked_for_less(time: Time) -> None:
    silent = requests.ReadTimeout()
    service = Service(silent, silent, silent, ok(), silent)
    sending = transport_on(time, adapter=service, max_wait=30)

    def ask() -> bool:
        with pytest.raises(TransportError) as caught:
            sending.send(Request("GET", "/x", retry_lost=False))
        return sending.is_too_much(caught.value)

    assert ask()
    time.now += 29
    assert ask()
    time.now += 1
    assert not ask()
    sending.send(Request("GET", "/x"))
    time.now += 31
    assert ask()


def test_a_service_that_says_it_is_too_much_is_asked_for_less(time: Time) -> None:
    sending = transport_on(time, adapter=Service(refused(413)), max_wait=0)
    with pytest.raises(APIError) as caught:
        sending.send(Request("GET", "/x"))
    assert sending.is_too_much(caught.value)


def test_a_connection_that_no_host_took_is_no_timeout(time: Time) -> None:
    caused = urllib3.exceptions.NewConnectionError(None, "x")  # type: ignore[arg-type]  # there is no pool
    caused.__cause__ = TimeoutError(110, "Connection timed out")
    for error in (requests.ConnectTimeout("x"), requests.ConnectionError(caused)):
        with pytest.raises(TransportError) as caught:
            client_on(time, adapter=Service(error), max_wait=0.0).delete_value(NS, "k")
        assert not caught.value.timed_out
        assert caught.value.transient


# Over sockets


def test_connections_are_kept_alive(time: Time) -> None:
    replies = [Reply(200, b"x" * size) for size in (0, 1, 70_000, 300_000)]
    replies += [refused(404, 10009), refused(400, 10011), Reply(200, b"")]
    with RawServer(keep_answering(*replies)) as server:
        client = client_on(time, base_url=server.url)
        for _ in range(10):
            try:
                client.get_value(NS, "k")
            except APIError:
                continue
        client.transport.close()
        assert len(server.requests) == 10
        assert len(server.connections) == 1


def test_64_requests_side_by_side_keep_their_connections(time: Time) -> None:
    together, apart = threading.Barrier(64), threading.Barrier(64)

    def behave(connection: Connection) -> None:
        while seen := connection.read():
            if not seen.url.endswith("first"):
                together.wait(20)
            connection.answer(Reply(200, b"v"))

    with RawServer(behave) as server:
        client = client_on(time, base_url=server.url)
        client.get_value(NS, "first")  # until it is answered no other is under way

        def ask() -> None:
            for _ in range(2):
                client.get_value(NS, "k")
                apart.wait(20)  # all connections rest at once

        with running(*[ask] * 64):
            pass
        client.transport.close()
        assert len(server.connections) == 64


def test_nobody_below_us_sends_a_request_again(time: Time) -> None:
    def behave(connection: Connection) -> None:
        connection.read()
        connection.reset()

    with RawServer(behave) as server:
        client = client_on(time, base_url=server.url, max_wait=0.0)
        with pytest.raises(TransportError):
            client.get_value(NS, "k")
        client.transport.close()
        assert len(server.requests) == 1


def test_a_connection_that_was_closed_meanwhile_is_replaced(time: Time) -> None:
    def behave(connection: Connection) -> None:
        connection.read()
        connection.answer(Reply(200, b"v"))
        if connection.number == 0:
            connection.reset()
        else:
            connection.read()

    with RawServer(behave) as server:
        client = client_on(time, base_url=server.url)
        for _ in range(2):
            assert client.get_value(NS, "k").data == b"v"
        client.transport.close()


def test_a_closed_transport_opens_new_connections(time: Time) -> None:
    with RawServer(keep_answering(Reply(200, b"v"))) as server:
        client = client_on(time, base_url=server.url)
        for _ in range(2):
            client.get_value(NS, "k")
            client.transport.close()
        assert len(server.connections) == 2


def test_a_request_that_is_about_to_be_sent_when_others_close_the_connections_is(
    time: Time,
) -> None:
    with RawServer(keep_answering(ok(), ok())) as server:
        client = client_on(time, base_url=server.url)
        client.get_value(NS, "k")
        pool: Any = client.transport._session.get_adapter(server.url)
        pool = pool._pool  # which a request has in hand
        client.transport.close()
        assert pool.urlopen("GET", f"{server.url}/k").status == 200
        assert len(server.connections) == 2, "the first one was closed"
        pool.close()


@pytest.mark.parametrize("chunks", [None, b"9\r\nthe", b"", b"3\r\nthe\r\n", b"3\r\nthe\r\n1"])
def test_a_connection_dropped_within_a_body_is_tried_again(
    time: Time, chunks: bytes | None
) -> None:
    def behave(connection: Connection) -> None:
        connection.read()
        if connection.number == 2:
            connection.answer(Reply(200, b"the value"))
            return
        if chunks is not None:
            connection.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        else:
            connection.answer(Reply(200, b"the"), claims=9)
        if connection.number:
            connection.reset()
        else:
            connection.socket.shutdown(socket.SHUT_RDWR)

    with RawServer(behave) as server:
        client = client_on(time, base_url=server.url)
        assert client.get_value(NS, "k").data == b"the value"
        client.transport.close()
        assert len(server.connections) == 3


def test_a_large_upload_goes_with_its_length_and_arrives_whole(time: Time) -> None:
    data = os.urandom(SENT_AS_FILE * 20 + 1)
    with RawServer(keep_answering(refused(503), ok())) as server:
        client = client_on(time, base_url=server.url)
        client.put_value(NS, Write("k", data))
        client.transport.close()
        assert [seen.body for seen in server.requests] == [data, data]
        for seen in server.requests:
            assert seen.headers["Content-Length"] == str(len(data))
            assert "Transfer-Encoding" not in seen.headers


def test_a_slow_but_steady_upload_passes(time: Time) -> None:
    data = b"x" * 3_000_000

    def behave(connection: Connection) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.socket.recv(4096)
        read = len(head.partition(b"\r\n\r\n")[2])
        while read < len(data):
            read += len(connection.socket.recv(60_000))
            server.stopped.wait(0.02)
        connection.answer(ok())

    with RawServer(behave, buffer=100_000) as server:
        client = client_on(time, base_url=server.url, timeout=(0.7, 5.0), max_wait=0.0)
        client.put_value(NS, Write("k", data))
        client.transport.close()


def test_a_stalled_upload_is_a_timeout(time: Time) -> None:
    def behave(connection: Connection) -> None:
        connection.socket.recv(10)
        server.stopped.wait(10)

    with RawServer(behave, buffer=8192) as server:
        client = client_on(time, base_url=server.url, timeout=(0.2, 5.0), max_wait=0.0)
        with pytest.raises(TransportError) as caught:
            client.put_value(NS, Write("k", b"x" * 8_000_000))
        assert caught.value.timed_out
        client.transport.close()


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"])
def test_a_stalled_answer_is_a_timeout(time: Time, head: bytes) -> None:
    def behave(connection: Connection) -> None:
        connection.read()
        connection.say(head)
        server.stopped.wait(10)

    with RawServer(behave) as server:
        client = client_on(time, base_url=server.url, timeout=(5.0, 0.1), max_wait=0.0)
        with pytest.raises(TransportError, match=": timed out: .*; is http") as caught:
            client.get_value(NS, "k")
        assert caught.value.timed_out
        client.transport.close()


def test_an_answer_may_take_as_long_in_all_as_it_may_to_begin(time: Time) -> None:
    class Dripping(BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            time.now += seconds
            return super().read(1)

    class Slow(Service):
        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            response = super().send(request, *args, **options)
            response.raw = Dripping(b"xy")
            return response

    client = client_on(time, adapter=Slow(ok()), max_wait=0.0)
    seconds = 29.9
    assert client.get_value(NS, "k").data == b"xy"
    seconds = 30.1
    with pytest.raises(TransportError, match="only 2 bytes came") as caught:
        client.get_value(NS, "k")
    assert caught.value.timed_out


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_that_drips_slowly_ends(chunked: bool) -> None:
    def behave(connection: Connection) -> None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.read()
        kind = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 60000"
        connection.say(b"HTTP/1.1 200 OK\r\n" + kind + b"\r\n\r\n")
        if chunked:
            connection.say(b"ea60\r\n")
        while not server.stopped.wait(0.02):
            connection.say(b"x")

    with RawServer(behave) as server:
        sending = Transport(server.url, TOKEN, timeout=(5.0, 0.2), max_wait=0.0)
        with pytest.raises(TransportError) as caught:
            Client(sending, ACCOUNT).get_value(NS, "k")
        assert caught.value.timed_out
        sending.close()


def test_a_large_answer_has_more_time(time: Time) -> None:
    def behave(connection: Connection) -> None:
        connection.read()
        connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n")
        for _ in range(20):
            connection.say(b"x" * 100_000)

    class Steps(Time):
        def __call__(self) -> float:
            self.now += 1
            return self.now

    with RawServer(behave) as server:
        client = client_on(Steps(), base_url=server.url, timeout=(5.0, 2000.0))
        assert len(client.get_value(NS, "k").data) == 2_000_000
        client.transport.close()


def test_a_proxy_of_the_environment_is_used(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(keep_answering(Reply(200, b"by proxy"))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        client = client_on(time, base_url="http://kvdict.invalid/client/v4")
        assert client.get_value(NS, "a/b c").data == b"by proxy"
        client.transport.close()
        (seen,) = proxy.requests
        assert seen.url == f"http://kvdict.invalid/client/v4{ROOT}/{NS}/values/a%2Fb%20c"


FORK = """
    import os, sys, threading, warnings
    warnings.simplefilter("ignore")
    from kvdict.budget import shared_budgets
    from kvdict.client import Client
    from kvdict.flights import Flight, Slots
    from kvdict.transport import Transport

    url, account, namespace, kind = sys.argv[1:]
    transport = Transport(url, "token", max_wait=20)
    client = Client(transport, account)
    slots = Slots(2)
    gate = threading.Event()
    if kind == "idle":
        client.get_value(namespace, "parent")
    else:
        # Others hold every lock there is, a place in the air and the first request of the budget.
        def hold(lock):
            with lock:
                taken.release()
                gate.wait(20)
        taken = threading.Semaphore(0)
        flights = [Flight(gate.wait, slots) for _ in range(2)]
        asking = threading.Thread(target=client.get_value, args=(namespace, "held"), daemon=True)
        asking.start()
        while not transport.requests:
            pass
        locks = transport._lock, transport.budget._lock, slots._lock, shared_budgets._lock
        for lock in locks:
            threading.Thread(target=hold, args=(lock,), daemon=True).start()
            taken.acquire()
    child = os.fork()
    if child == 0:
        value = client.get_value(namespace, "child").data
        Flight(lambda: None, slots).result()
        Transport(url, "another-token")
        print(value.decode(), flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    gate.set()
    print(client.get_value(namespace, "parent").data.decode(), os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("kind", ["idle", "busy"])
def test_a_forked_child_has_connections_and_locks_of_its_own(kind: str) -> None:
    child_came = threading.Event()

    def behave(connection: Connection) -> None:
        while seen := connection.read():
            key = seen.url.rpartition("/")[2]
            if key == "held":
                child_came.wait(10)
            if key == "child":
                child_came.set()
            connection.answer(Reply(200, key.encode()))

    with RawServer(behave) as server:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(FORK), server.url, ACCOUNT, NS, kind],
            env={"PYTHONPATH": str(Path(kvdict.__file__).parents[1])},
            capture_output=True,
            text=True,
            timeout=25,
            check=False,
        )
        assert done.stderr == ""
        assert done.stdout.split() == ["child", "parent", "0"]
        carriers = [
            {seen.url.rpartition("/")[2] for seen in connection.requests}
            for connection in server.connections
        ]
        assert {"child"} in carriers


# What a person sees meanwhile


def test_a_person_who_waits_is_told_soon_and_then_each_minute(
    time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kvdict")
    with pytest.raises(ServerError):
        client_on(time, adapter=Service(refused(503))).get_value(NS, "k")
    told = [record for record in caplog.records if record.name == "kvdict"]
    assert told[0].levelno == logging.INFO
    left = [
        int(record.getMessage().removesuffix(" s").rpartition(" ")[2])
        for record in told
        if record.levelno == logging.WARNING
    ]
    assert left == [296, 239, 194, 149, 104, 59]


def test_a_short_trouble_is_no_warning(time: Time, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kvdict")
    client_on(time, adapter=Service(refused(503), ok())).delete_value(NS, "k")
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_an_interrupt_while_waiting_passes() -> None:
    time = Time()

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    sending = Transport(
        BASE, TOKEN, adapter=Service(refused(503)), clock=time, sleep=interrupted,
        budget=RateBudget(clock=time, sleep=interrupted),
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        sending.send(Request("GET", "/x"))


def test_a_token_that_became_bad_ends_the_tries(time: Time) -> None:
    tokens = iter(["good", "bad\n"])
    service = Service(refused(503), ok())
    with pytest.raises(ConfigError):
        client_on(time, adapter=service, token=lambda: next(tokens)).delete_value(NS, "k")
    assert len(service.seen) == 1
