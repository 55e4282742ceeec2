"""Whoever reaches the emulator's port, it answers or hangs up, and goes on serving others."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from typing import Any

import pytest
import requests

import kvdict
from kvdict.emulator import Emulator, EmulatorAdapter, Server, Store, serve
from tests.conftest import account_of
from tests.wire.support import ACCOUNT

ROOT = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"
HOST = "Host: localhost\r\n"
NULLS = b"\0" * 100


@pytest.fixture
def store() -> Iterator[Store]:
    with closing(Store(None)) as store:
        yield store


@pytest.fixture
def server(store: Store) -> Iterator[Server]:
    with serve(Emulator(store)) as server:
        yield server


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def said_to(server: Server, request: bytes) -> bytes:
    """Return what is answered to these bytes, after which nothing follows."""
    said = b""
    with closing(connect(server)) as wire, suppress(ConnectionError):
        wire.sendall(request)
        with suppress(OSError):  # it has hung up
            wire.shutdown(socket.SHUT_WR)
        while piece := wire.recv(65536):
            said += piece
    return said


def serves(server: Server) -> bool:
    return requests.get(f"http://127.0.0.1:{server.port}{ROOT}", timeout=10).status_code == 200


def post(*headers: str, body: str = "") -> bytes:
    return "".join((f"POST {ROOT} HTTP/1.1\r\n{HOST}", *(f"{one}\r\n" for one in headers),
                    "\r\n", body)).encode()  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "statuses"),
    [
        (post("Content-Length: " + "9" * 5000), {400}),
        (post("Content-Length: " + "9" * 900, body="{}"), {413}),
        (post("Content-Length: 2", "Content-Length: 3", body="{}x"), {400}),
        (post("Content-Length: +2", body="{}"), {400}),
        (post("Content-Length: 2", "Transfer-Encoding: chunked", body="0\r\n\r\n"), {400}),
        (post("Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"), {400}),
        (post("Transfer-Encoding: chunked", body="f" * 18 + "\r\nabc"), {400}),
        (post("Transfer-Encoding: chunked", body="-1\r\nabc"), {400}),
        (post("Transfer-Encoding: chunked", body="2\r\n{}"), {400}),
        (post("X: " + "y" * 100_000), {431, 0}),
        (post(*["X: y"] * 500), {431, 0}),
        (f"GET /{'y' * 100_000} HTTP/1.1\r\n\r\n".encode(), {414, 0}),
        (b"EVIL / HTTP/1.1\r\n\r\n", {501}),
        (b"GET / HTTP/9.9\r\n\r\n", {505, 0}),
        (b"GET http://[::bad/x HTTP/1.1\r\n\r\n", {404}),
        (b"GET / HTTP/1.1\r\nHost: [::\r\n\r\n", {403}),
        (b"\x16\x03\x01\x02\x00\x01" + NULLS, {400, 0}),
        (NULLS + b"\r\n\r\n", {400, 0}),
        (b"\r\n\r\n\r\n", {0}),
        (b"", {0}),
    ],
    ids=range(20),
)
def test_a_request_of_any_shape_is_answered_or_hung_up_on(
    server: Server, capfd: pytest.CaptureFixture[str], request_: bytes, statuses: set[int]
) -> None:
    said = said_to(server, request_)
    status = int(said.split()[1]) if said.startswith(b"HTTP/1.1 ") else 0
    assert status in statuses
    assert serves(server)
    assert capfd.readouterr() == ("", "")


def half_a_head(wire: socket.socket) -> None:
    wire.sendall(f"GET {ROOT} HTTP/1.1\r\n{HOST}".encode())


def half_a_body(wire: socket.socket) -> None:
    wire.sendall(post("Content-Length: 100000000", body="["))


def half_a_chunk(wire: socket.socket) -> None:
    wire.sendall(post("Transfer-Encoding: chunked", body="fff\r\n{"))


def nothing(_wire: socket.socket) -> None: ...


@pytest.mark.parametrize("begin", [nothing, half_a_head, half_a_body, half_a_chunk])
def test_clients_that_never_go_on_hold_up_nobody_and_no_end(
    store: Store, begin: Callable[[socket.socket], None]
) -> None:
    with ExitStack() as opened:
        server = opened.enter_context(serve(Emulator(store)))
        for _ in range(20):
            begin(opened.enter_context(closing(connect(server))))
        assert serves(server)
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("most", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_connections_leave_room_for_one_more(store: Store, most: int) -> None:
    if 2 * most > resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100:
        pytest.skip("the system allows fewer files")
    with ExitStack() as opened:
        server = opened.enter_context(serve(Emulator(store)))
        wires = [opened.enter_context(closing(connect(server))) for _ in range(most)]
        assert serves(server)
        for wire in wires[::50]:
            wire.sendall(f"GET {ROOT} HTTP/1.1\r\n{HOST}\r\n".encode())
            assert wire.recv(12) == b"HTTP/1.1 200"
        server.close()


# Web pages


def asked(server: Server, method: str, path: str, body: str = "", **headers: str) -> int:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    with closing(connection):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, names)
        return connection.getresponse().status


def filled(server: Server) -> tuple[kvdict.KVNamespace[Any], str]:
    kv = kvdict.open(f"{account_of(server)}/links", create=True, buffer=False)
    kv["k"] = 1
    return kv, f"{ROOT}/{kv.id}"


@pytest.mark.parametrize("origin", ["https://evil.test", "http://localhost.evil.test", "null", "x"])
def test_a_web_page_of_elsewhere_writes_nothing(server: Server, origin: str) -> None:
    """A page may post text/plain to any port of its reader's machine without being asked."""
    kv, path = filled(server)
    with kv:
        about = {"Origin": origin, "Content_Type": "text/plain"}
        assert asked(server, "POST", f"{path}/bulk/delete", '["k"]', **about) == 403
        assert asked(server, "POST", ROOT, '{"title": "theirs"}', **about) == 403
        assert kv["k"] == 1


def test_an_image_of_a_page_of_elsewhere_gets_no_answer(server: Server) -> None:
    """It is asked for without an origin; what the reader types in is of no site."""
    kv, path = filled(server)
    with kv:
        assert asked(server, "GET", f"{path}/values/k", **{"Sec-Fetch-Site": "cross-site"}) == 403
        assert asked(server, "GET", f"{path}/values/k", **{"Sec-Fetch-Site": "none"}) == 200


def test_no_answer_gives_a_web_page_leave_to_read_it(server: Server) -> None:
    for origin in ("https://evil.test", "http://localhost:3000"):
        for method in ("GET", "OPTIONS"):
            url = f"http://127.0.0.1:{server.port}{ROOT}"
            answer = requests.request(method, url, headers={"Origin": origin}, timeout=10)
            assert not [name for name in answer.headers if "access-control" in name.lower()]


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:8787", "localhost.evil.test", "127.0.0.1.evil.test", "[::", ""]
)
def test_a_name_of_elsewhere_that_leads_here_reads_nothing(server: Server, host: str) -> None:
    """DNS rebinding: a page's own name turns into 127.0.0.1, and its origin with it."""
    kv, path = filled(server)
    with kv:
        assert asked(server, "GET", f"{path}/values/k", Host=host) == 403


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:80", "127.0.0.1", "127.9.9.9:1", "[::1]:80", "kv.localhost"],
)
def test_this_machine_s_own_names_are_heard(server: Server, host: str) -> None:
    assert asked(server, "GET", ROOT, Host=host) == 200
    assert asked(server, "GET", ROOT, Host=host, Origin=f"http://{host}") == 200


def test_the_refusal_says_what_to_do(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}{ROOT}"
    answer = requests.get(url, headers={"Host": "host.docker.internal"}, timeout=10)
    assert "--token" in answer.json()["errors"][0]["message"]


def test_who_bears_the_token_may_come_by_any_name(store: Store) -> None:
    with serve(Emulator(store, token="t0ken")) as server:
        about = {"Host": "emulator.test", "Origin": "https://evil.test"}
        assert asked(server, "GET", ROOT, Authorization="Bearer t0ken", **about) == 200
        assert asked(server, "GET", ROOT, **about) == 400


def test_in_the_process_nobody_is_asked(store: Store) -> None:
    with requests.Session() as session:
        session.mount("http://evil.test/", EmulatorAdapter(Emulator(store)))
        answer = session.get(f"http://evil.test{ROOT}", headers={"Origin": "https://evil.test"})
        assert answer.status_code == 200


def test_it_is_reached_from_this_machine_alone_unless_told(store: Store) -> None:
    with serve(Emulator(store)) as server:
        assert server._listener.server_address[0] == "127.0.0.1"
    with serve(Emulator(store), host="0.0.0.0") as server:  # by any name, then, but not from pages
        assert asked(server, "GET", ROOT, Host="box.lan:8787") == 200
        assert asked(server, "GET", ROOT, Host="box.lan:8787", Origin="http://evil.test") == 403
