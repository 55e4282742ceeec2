from __future__ import annotations

import io
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import requests

from kvdict.emulator import Emulator, Knobs, Server, Store, serve

from .home import ACCOUNT, Clock, Home, Space

PATH = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"


@pytest.fixture
def server(emulator: Emulator) -> Iterator[Server]:
    with serve(emulator) as server:
        yield server


@pytest.fixture
def space(server: Server, emulator: Emulator, clock: Clock) -> Iterator[Space]:
    with requests.Session() as session:
        session.trust_env = False
        yield Home(session, server.url, emulator, clock).create()


@pytest.fixture
def wire(server: Server) -> Iterator[socket.socket]:
    """A connection of our own."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as wire:
        yield wire


def head(method: str, path: str, *headers: str) -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", "")
    return "\r\n".join(lines).encode()


def answer(wire: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one answer, and nothing behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = wire.recv(1)
        assert piece, f"the connection ended after {data!r}"
        data += piece
    lines = data.decode("latin-1").split("\r\n")[:-2]
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
    body = b""
    while left := int(headers.get("content-length", 0)) - len(body):
        body += wire.recv(left)
    return int(lines[0].split()[1]), headers, body


def test_a_connection_takes_one_request_after_another(space: Space, wire: socket.socket) -> None:
    path = f"{PATH}/{space.id}/values/k"
    for number in range(3):
        wire.sendall(head("PUT", path, "Content-Length: 1") + b"%d" % number)
        assert answer(wire)[0] == 200
        wire.sendall(head("GET", path))
        assert answer(wire)[2] == b"%d" % number


def test_requests_may_be_sent_ahead(space: Space, wire: socket.socket) -> None:
    path = f"{PATH}/{space.id}/values/k"
    wire.sendall(head("PUT", path, "Content-Length: 1") + b"v" + head("GET", path) * 2)
    assert [answer(wire)[2] for _ in range(3)][1:] == [b"v", b"v"]


def test_a_body_may_come_in_chunks(space: Space, wire: socket.socket) -> None:
    path = f"{PATH}/{space.id}/values/k"
    wire.sendall(head("PUT", path, "Transfer-Encoding: chunked"))
    wire.sendall(b"3;ext=1\r\nabc\r\n1A\r\n" + b"x" * 26 + b"\r\n0\r\nTrailer: t\r\n\r\n")
    assert answer(wire)[0] == 200
    wire.sendall(head("GET", path))
    assert answer(wire)[2] == b"abc" + b"x" * 26


def test_a_form_may_come_in_chunks(space: Space, wire: socket.socket) -> None:
    form = (
        b'--B\r\nContent-Disposition: form-data; name="value"; filename="upload"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n\xff\r\n--B\r\nContent-Disposition: "
        b'form-data; name="metadata"\r\n\r\n{"a": 1}\r\n--B--\r\n'
    )
    kind = "Content-Type: multipart/form-data; boundary=B"
    wire.sendall(head("PUT", f"{PATH}/{space.id}/values/k", "Transfer-Encoding: chunked", kind))
    wire.sendall(b"".join(b"1\r\n%c\r\n" % byte for byte in form) + b"0\r\n\r\n")
    assert answer(wire)[0] == 200
    assert space.value("GET", "k").content == b"\xff"
    assert space.ask("GET", "/metadata/k").json()["result"] == {"a": 1}


@pytest.mark.parametrize(
    "body", [b"x\r\n", b"-1\r\n", b"2\r\nabc\r\n0\r\n\r\n", b"1" * 2000 + b"\r\n", b"\r\n"]
)
def test_chunks_that_make_no_sense_are_refused_and_end_the_connection(
    space: Space, wire: socket.socket, body: bytes
) -> None:
    wire.sendall(head("PUT", f"{PATH}/{space.id}/values/k", "Transfer-Encoding: chunked") + body)
    assert answer(wire)[0] == 400
    assert wire.recv(1) == b""
    assert space.names() == []


def test_an_unread_body_that_makes_no_sense_ends_the_connection(
    space: Space, wire: socket.socket
) -> None:
    wire.sendall(head("PUT", f"{PATH}/{space.id}/nowhere", "Transfer-Encoding: chunked") + b"x\r\n")
    assert answer(wire)[0] == 404
    assert wire.recv(1) == b""


def test_a_body_that_broke_off_is_broken_however_often_it_is_read() -> None:
    outcomes: list[str] = []

    def app(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        for _ in range(2):
            try:
                outcomes.append(repr(environ["wsgi.input"].read()))
            except ValueError:
                outcomes.append("broken")
        start("200 OK", [("Content-Length", "0")])
        return []

    with serve(app) as server:
        address = "127.0.0.1", server.port
        with closing(socket.create_connection(address, timeout=10)) as wire:
            wire.sendall(head("POST", "/", "Transfer-Encoding: chunked") + b"x\r\n2\r\nab\r\n")
            assert answer(wire)[0] == 200
    assert outcomes == ["broken", "broken"]


def test_a_header_with_an_underscore_takes_no_other_header_s_place(
    space: Space, wire: socket.socket
) -> None:
    path = f"{PATH}/{space.id}/values/k"
    kind = "Content_Type: multipart/form-data; boundary=B"
    wire.sendall(head("PUT", path, "Content-Length: 1", kind) + b"v")
    assert answer(wire)[0] == 200
    assert space.value("GET", "k").content == b"v"


def test_a_client_that_leaves_before_its_answer_is_in_nobody_s_way(
    clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    asked, gone = threading.Event(), threading.Event()

    def wait(_seconds: float) -> None:
        asked.set()
        assert gone.wait(30)

    store = Store(None, clock=clock)
    with closing(store), serve(Emulator(store, knobs=Knobs(latency=1, sleep=wait))) as server:
        address = "127.0.0.1", server.port
        with closing(socket.create_connection(address, timeout=10)) as wire:
            wire.sendall(head("GET", PATH))
            wire.shutdown(socket.SHUT_WR)
            assert asked.wait(30)
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.set()
        url = f"{server.url}/accounts/{ACCOUNT}/storage/kv/namespaces"
        assert requests.get(url, timeout=10).status_code == 200
    assert capfd.readouterr() == ("", "")


def test_a_body_that_ends_early_is_not_stored(space: Space, wire: socket.socket) -> None:
    path = f"{PATH}/{space.id}/values/k"
    wire.sendall(head("PUT", path, "Content-Length: 10") + b"short")
    wire.shutdown(socket.SHUT_WR)
    assert answer(wire)[0] == 400
    assert space.names() == []


def test_a_client_that_expects_to_be_asked_is_asked(space: Space, wire: socket.socket) -> None:
    path = f"{PATH}/{space.id}/values/k"
    wire.sendall(head("PUT", path, "Content-Length: 1", "Expect: 100-continue"))
    assert answer(wire)[0] == 100
    wire.sendall(b"v")
    assert answer(wire)[0] == 200
    wire.sendall(head("GET", path))
    assert answer(wire)[2] == b"v"


def test_a_client_is_not_asked_for_what_will_be_refused(space: Space, wire: socket.socket) -> None:
    path = f"{PATH}/{space.id}/values/k"
    wire.sendall(head("PUT", path, "Content-Length: 30000000", "Expect: 100-continue"))
    status, headers, _ = answer(wire)
    assert (status, headers["connection"]) == (413, "close")
    assert wire.recv(1) == b""


@pytest.mark.parametrize("framing", ["Content-Length: 2000000", "Transfer-Encoding: chunked"])
def test_an_unread_body_does_not_disturb_the_next_request(
    space: Space, wire: socket.socket, framing: str
) -> None:
    body = b"G" * 2_000_000
    if "chunked" in framing:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    wire.sendall(head("PUT", f"{PATH}/{space.id}/nowhere", framing) + body)
    assert answer(wire)[0] == 404
    wire.sendall(head("GET", f"{PATH}/{space.id}"))
    assert answer(wire)[0] == 200


def test_a_value_over_the_limit_is_told_so_on_a_connection_that_lives_on(space: Space) -> None:
    assert space.value("PUT", "k", data=b"x" * 30_000_000).status_code == 413
    assert space.value("PUT", "k", data=io.BytesIO(b"x" * 30_000_000)).status_code == 413
    assert space.value("PUT", "k", data=iter([b"x" * 1_000_000] * 30)).status_code == 413
    assert space.ask("GET").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: x",),
        ("Content-Length: -1",),
        ("Content-Length: 1", "Content-Length: 2"),
        ("Content-Length: 1", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: gzip, chunked",),
    ],
)
def test_framing_that_is_not_to_be_trusted_ends_the_connection(
    wire: socket.socket, headers: tuple[str, ...]
) -> None:
    wire.sendall(head("PUT", PATH, *headers) + b"v")
    assert answer(wire)[0] == 400
    assert wire.recv(1) == b""


def test_head_is_answered_without_a_body(space: Space, wire: socket.socket) -> None:
    wire.sendall(head("HEAD", f"{PATH}/{space.id}/values/k") + head("GET", f"{PATH}/{space.id}"))
    data = b""
    while b'"success":true' not in data:
        data += wire.recv(1 << 16)
    assert data.count(b"HTTP/1.1 ") == 2
    assert b"10405" not in data


@pytest.mark.parametrize(
    "request_line", [b"GET " + PATH.encode() + b" HTTP/1.0", b"GET " + PATH.encode() + b" HTTP/1.1"]
)
def test_a_client_may_ask_for_the_connection_to_end(
    wire: socket.socket, request_line: bytes
) -> None:
    wire.sendall(request_line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer(wire)[1]["connection"] == "close"
    assert wire.recv(1) == b""


def test_garbage_is_refused(wire: socket.socket) -> None:
    wire.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert b"400" in wire.recv(1 << 16)


def test_an_answer_leaves_in_one_piece(space: Space, server: Server) -> None:
    """A small second write would wait for the client's delayed acknowledgement."""
    space.put("k", b"v")
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        for _ in range(3):
            connection.request("GET", f"{PATH}/{space.id}/values/k")
            response: HTTPResponse = connection.getresponse()
            assert response.read() == b"v"


def test_many_clients_are_served_at_once(space: Space, server: Server) -> None:
    both_here = threading.Barrier(16, timeout=20)

    def work(number: int) -> None:
        with requests.Session() as session:
            both_here.wait()
            for turn in range(5):
                url = f"{space.home.root}/{space.id}/values/{number}-{turn}"
                session.put(url, data=b"%d" % turn, timeout=20).raise_for_status()
                assert session.get(url, timeout=20).content == b"%d" % turn
            done.append(number)

    done: list[int] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(16))
    assert len(space.names()) == 80


def test_an_internal_error_is_an_envelope_and_a_line_on_stderr(
    space: Space, capsys: pytest.CaptureFixture[str]
) -> None:
    space.home.emulator.store.close()
    response = space.value("GET", "k")
    assert response.status_code == 500
    assert response.json()["errors"][0]["code"] == 10001
    assert "the store in memory has been closed" in capsys.readouterr().err


def test_an_error_of_the_program_is_an_envelope_and_a_traceback_on_stderr(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_seconds: float) -> None:
        raise ZeroDivisionError("of the knob")

    store = Store(None, clock=clock)
    with closing(store), serve(Emulator(store, knobs=Knobs(latency=1, sleep=fail))) as server:
        url = f"{server.url}/accounts/{ACCOUNT}/storage/kv/namespaces"
        response = requests.get(url, timeout=10)
    assert response.status_code == 500
    assert response.json()["errors"][0]["code"] == 10001
    assert capsys.readouterr().err.endswith("ZeroDivisionError: of the knob\n")


def test_closing_ends_idle_connections_and_frees_the_port(emulator: Emulator) -> None:
    server = serve(emulator)
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as wire:
        wire.sendall(head("GET", PATH))
        assert answer(wire)[0] == 200
        server.close()
        assert wire.recv(1) == b""
    server.close()
    with serve(emulator, port=server.port) as again:
        assert again.url == server.url


def test_a_port_in_use_is_an_os_error(server: Server, emulator: Emulator) -> None:
    with pytest.raises(OSError, match="in use"):
        serve(emulator, port=server.port)


def test_ipv6_is_served_in_brackets() -> None:
    store = Store(None)
    try:
        server = serve(Emulator(store), host="::1")
    except OSError:
        store.close()
        pytest.skip("this machine has no IPv6 loopback")
    with server:
        assert server.url == f"http://[::1]:{server.port}/client/v4"
        url = f"{server.url}/accounts/{ACCOUNT}/storage/kv/namespaces"
        assert requests.get(url, timeout=10).status_code == 200
    store.close()


@pytest.mark.parametrize(
    ("target", "status"), [("http://x" + PATH, 200), ("http://[", 404), ("*", 404), ("x", 404)]
)
def test_a_target_that_is_not_a_path_is_answered(
    wire: socket.socket, target: str, status: int
) -> None:
    wire.sendall(head("GET", target))
    assert answer(wire)[0] == status
