"""A server that does next to nothing: one fixed answer to every request, over keep-alive."""

from __future__ import annotations

import socket
import sys
import threading
import time
from email.utils import formatdate

VALUE = b"v" * 100
HEADERS = {
    "bare": "",
    "cloudflare": (
        'Ratelimit: "default";r=1000000000;t=1000000000\r\n'
        'Ratelimit-Policy: "default";q=1000000000;w=1000000000\r\n'
        "cf-ray: 0123456789abcdef-AMS\r\nServer: cloudflare\r\nCF-Cache-Status: DYNAMIC\r\n"
        "Vary: Accept-Encoding\r\n"
    ),
}
"""What an answer carries besides Date, type and length."""


def main(kind: str) -> None:
    """Serve until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, kind), daemon=True).start()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/client/v4", flush=True)
    sys.stdin.read()


def _accept(listener: socket.socket, kind: str) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_converse, args=(connection, kind), daemon=True).start()


def _converse(connection: socket.socket, kind: str) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    second, answer = 0, b""
    with connection:
        while asked := connection.recv(65536):
            if int(time.time()) != second:
                second = int(time.time())
                answer = _answer(kind, second)
            connection.sendall(answer * asked.count(b"\r\n\r\n"))


def _answer(kind: str, second: int) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nDate: {formatdate(second, usegmt=True)}\r\n"
        "Content-Type: application/octet-stream\r\nConnection: keep-alive\r\n"
        f"Content-Length: {len(VALUE)}\r\n{HEADERS[kind]}\r\n"
    )
    return head.encode() + VALUE


if __name__ == "__main__":
    main(sys.argv[1])
