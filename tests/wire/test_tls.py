"""Whose certificates are believed: what is sent to anybody else is nothing, the token least."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from kvdict.errors import TransportError

from .support import (
    NS,
    ROOT,
    TOKEN,
    Connection,
    RawServer,
    Reply,
    Time,
    client_on,
    keep_answering,
)

CERTIFICATE = Path(__file__).with_name("self_signed.pem")
"""For 127.0.0.1, with its key: it protects nothing, and nobody but these tests believes it."""


def answer_in_tls(connection: Connection) -> None:
    """Answer with that certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    connection.socket = context.wrap_socket(connection.socket, server_side=True)
    keep_answering(Reply(200, b"v"))(connection)


@pytest.fixture
def server() -> RawServer:
    return RawServer(answer_in_tls)


def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(
    server: RawServer, time: Time
) -> None:
    with server:
        client = client_on(time, base_url=server.url.replace("http:", "https:"), max_wait=0.0)
        with pytest.raises(TransportError, match="certificate verify failed"):
            client.get_value(NS, "k")
        client.transport.close()
    assert len(server.connections) == 1
    assert server.requests == []


def test_certificates_that_the_environment_names_are_believed(
    server: RawServer, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    with server:
        client = client_on(time, base_url=server.url.replace("http:", "https:"))
        for _ in range(2):
            assert client.get_value(NS, "k").data == b"v"
        client.transport.close()
    assert [seen.headers["Authorization"] for seen in server.requests] == [f"Bearer {TOKEN}"] * 2
    assert len(server.connections) == 1


def test_certificates_that_are_not_there_are_named(
    server: RawServer, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    with server:
        client = client_on(time, base_url=server.url.replace("http:", "https:"), max_wait=0.0)
        with pytest.raises(TransportError, match="/nowhere/bundle.pem"):
            client.get_value(NS, "k")
        client.transport.close()


def test_a_proxy_is_told_the_host_and_nothing_of_what_is_sent_to_it(
    time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    def behave(connection: Connection) -> None:
        connection.read()
        connection.say(b"HTTP/1.1 200 go on\r\n\r\n")
        answer_in_tls(connection)

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    with RawServer(behave) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        client = client_on(time, base_url="https://127.0.0.1:1/client/v4")
        for _ in range(2):
            assert client.get_value(NS, "k").data == b"v"
        client.transport.close()
    told, *inside = proxy.requests
    assert (told.method, told.url) == ("CONNECT", "127.0.0.1:1")
    assert "Authorization" not in told.headers
    assert [seen.url for seen in inside] == [f"/client/v4{ROOT}/{NS}/values/k"] * 2
