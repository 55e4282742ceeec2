"""Server: an application over a socket, for as long as somebody wants it."""

from __future__ import annotations

import io
import os
import socket
import struct
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Any, Self
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from kvdict.emulator.body import Body, ChunkedBody, SizedBody
from kvdict.emulator.routes import ROOT
from kvdict.emulator.wsgi import Answer, variable

IDLE_SECONDS = 120.0
CLOSE_SECONDS = 5.0
LONGEST_NUMBER = 1000
"""Digits of a length: Python reads no more than 4,300."""


class Server:
    """A running HTTP/1.1 server; leaving its `with` block stops it."""

    def __init__(self, app: WSGIApplication, host: str, port: int) -> None:
        self._listener = _Listener(app, host, port)
        shown = f"[{host}]" if ":" in host else host
        self.port: int = self._listener.server_address[1]
        self.url = f"http://{shown}:{self.port}{ROOT}"
        self._thread = threading.Thread(
            target=self._listener.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="kvdict-emulator",
            daemon=True,
        )
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Server {self.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more requests, finish those begun, and close every connection."""
        if self._thread.is_alive():
            self._listener.shutdown()
            self._thread.join()
        self._listener.server_close()
        self._listener.hang_up()


def serve(app: WSGIApplication, host: str = "127.0.0.1", port: int = 0) -> Server:
    """Serve an application in the background; port 0 picks a free one."""
    return Server(app, host, port)


class _Listener(TCPServer):
    """Accepts connections and gives each a thread of its own."""

    allow_reuse_address = os.name == "posix"  # on Windows it would share the port
    request_queue_size = 128

    def __init__(self, app: WSGIApplication, host: str, port: int) -> None:
        self.app = app
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._threads: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the connection's thread."""
        thread = threading.Thread(
            target=self._converse, args=(request, client_address), daemon=True
        )
        with self._lock:
            self._threads[request] = thread
        thread.start()

    def _converse(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
            self.shutdown_request(request)
        except ConnectionResetError:  # by the client, or ordered by a knob: nothing more is sent
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:  # a client may leave at any moment
            pass
        finally:
            request.close()
            with self._lock:
                del self._threads[request]

    def hang_up(self) -> None:
        """End every conversation: idle ones at once, others after their answer."""
        with self._lock:
            threads = dict(self._threads)
        for how in (socket.SHUT_RD, socket.SHUT_RDWR):
            for connection, thread in threads.items():
                if thread.is_alive():
                    with suppress(OSError):
                        connection.shutdown(how)
            for thread in threads.values():
                thread.join(CLOSE_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    """One connection: reads requests one after another, and answers each."""

    server: _Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE_SECONDS

    def answer(self) -> None:
        """Answer one request by the application."""
        body = self._body()
        if body is None:
            self.send_error(400)
            return
        answer = Answer()
        content = b"".join(self.server.app(self._environ(body), answer.start))
        if body.unasked:
            self.close_connection = True
        self._write(answer, content)
        if not self.close_connection and not self._skipped(body):
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815 - http.server's names

    def handle_expect_100(self) -> bool:
        """Leave it to the body's first reader to ask for it."""
        return True

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def _skipped(self, body: Body) -> bool:
        try:
            return body.skip()
        except ValueError:
            return False

    def _body(self) -> Body | None:
        """Return the request's body, or None if its framing is not to be trusted."""
        expects = self.headers.get("Expect", "").lower() == "100-continue"
        before = self._go_on if expects and self.request_version != "HTTP/1.0" else None
        lengths = self.headers.get_all("Content-Length", [])
        encoding = self.headers.get("Transfer-Encoding")
        if encoding is not None:
            if lengths or encoding.strip().lower() != "chunked":
                return None
            return ChunkedBody(self.rfile, before)
        if not lengths:
            return SizedBody(self.rfile, 0)
        text = lengths[0].strip()
        is_number = text.isascii() and text.isdigit() and len(text) < LONGEST_NUMBER
        if len(lengths) > 1 or not is_number:
            return None
        return SizedBody(self.rfile, int(text), before)

    def _go_on(self) -> None:
        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _environ(self, body: Body) -> WSGIEnvironment:
        path, _, query = self.path.partition("?")
        environ: WSGIEnvironment = {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
            "QUERY_STRING": query,
            "REQUEST_URI": self.path,
            "REMOTE_ADDR": self.client_address[0],
            "SERVER_NAME": str(self.server.server_address[0]),
            "SERVER_PORT": str(self.server.server_address[1]),
            "SERVER_PROTOCOL": self.request_version,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BufferedReader(body),
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in self.headers.items():
            if "_" not in name:
                known = environ.get(variable(name))
                environ[variable(name)] = value if known is None else f"{known},{value}"
        return environ

    def _write(self, answer: Answer, content: bytes) -> None:
        headers = list(answer.headers)
        if self.close_connection:
            headers.append(("Connection", "close"))
        lines = [f"HTTP/1.1 {answer.status}", *(f"{name}: {value}" for name, value in headers)]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        # One write for both: a second small one would wait for the client's delayed ACK.
        self.wfile.write(head if self.command == "HEAD" else head + content)
