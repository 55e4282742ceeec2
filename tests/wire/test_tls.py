"""Whose certificates are believed: what is sent to anybody else is nothing, the token least."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from kvdict.errors import TransportError

from .support import NS, TOKEN, Connection, RawServer, Reply, Time, client_on, keep_answering

CERTIFICATE = Path(__file__).with_name("self_signed.pem")
"""For 127.0.0.1, with its key: it protects nothing, and nobody but these tests believes it."""


@pytest.fixture
def server() -> RawServer:
    """Return a server that speaks TLS with that certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    answer = keep_answering(Reply(200, b"v"))

    def behave(connection: Connection) -> None:
        connection.socket = context.wrap_socket(connection.socket, server_side=True)
        answer(connection)

    return RawServer(behave)


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
