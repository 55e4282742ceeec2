"""What the tests of the wire share: a clock to turn by hand, and services that say what is asked.

Everything here stands on the far side of the wire; of kvdict's own classes none is replaced.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Self

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from kvdict.budget import RateBudget
from kvdict.client import Client
from kvdict.transport import Transport
from kvdict.writes import Write

ACCOUNT = "a" * 32
NS = "0123456789abcdef0123456789abcdef"
TOKEN = "t0ken-of-the-tests-a1b2c3"
BASE = "https://api.cloudflare.test/client/v4"
ROOT = f"/accounts/{ACCOUNT}/storage/kv/namespaces"
EPOCH = 1_800_000_000.0


class Time:
    """A clock that moves when somebody sleeps on it; `slept` lists for how long."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now - 1000.0 + EPOCH

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        with self._lock:
            self.slept.append(seconds)
            self.now += seconds


def transport_on(
    time: Time,
    base_url: str = BASE,
    token: str | Callable[[], str] | None = TOKEN,
    *,
    adapter: BaseAdapter | None = None,
    max_wait: float = 300.0,
    timeout: tuple[float, float] = (5.0, 60.0),
    budget: RateBudget | None = None,
    jitter: Callable[[], float] = lambda: 0.0,
) -> Transport:
    """Return a transport that goes by this clock."""
    return Transport(
        base_url,
        token,
        adapter=adapter,
        max_wait=max_wait,
        timeout=timeout,
        budget=budget or RateBudget(clock=time, sleep=time.sleep),
        clock=time,
        wall=time.wall,
        sleep=time.sleep,
        jitter=jitter,
    )


def client_on(time: Time, **options: Any) -> Client:
    """Return a client that goes by this clock."""
    return Client(transport_on(time, **options), ACCOUNT)


@dataclass
class Seen:
    """A request as it came over the wire."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path below the account's namespaces."""
        return self.url.partition("?")[0].partition(ROOT)[2]

    @property
    def query(self) -> str:
        return self.url.partition("?")[2]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """An answer of the service."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Answering = Callable[[Seen], "Reply | BaseException"]


def envelope(result: Any = None, **more: Any) -> bytes:
    """Return the body of a success."""
    return json.dumps(
        {"result": result, "success": True, "errors": [], "messages": []} | more
    ).encode()


def ok(result: Any = None, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
    """Return a success."""
    return Reply(200, envelope(result, **more), headers or {})


def refused(
    status: int, code: int = 0, text: str = "no", headers: Mapping[str, str] | None = None
) -> Reply:
    """Return a refusal; without a code it is the gateway's, in HTML."""
    if not code:
        return Reply(status, b"<html>" + text.encode() + b"</html>", headers or {})
    errors = [{"code": code, "message": text}]
    said = {"result": None, "success": False, "errors": errors, "messages": []}
    return Reply(status, json.dumps(said).encode(), headers or {})


class Service(BaseAdapter):
    """Answers by a function, or by replies one after the other, the last one for good."""

    def __init__(self, *answers: Reply | BaseException | Answering) -> None:
        super().__init__()
        self.seen: list[Seen] = []
        self._answers = answers
        self._lock = threading.Lock()

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        seen = seen_in(request)
        with self._lock:
            answer = self._answers[min(len(self.seen), len(self._answers) - 1)]
            self.seen.append(seen)
        if not isinstance(answer, Reply | BaseException):
            answer = answer(seen)
        if isinstance(answer, BaseException):
            raise answer
        return response_of(answer, request)

    def close(self) -> None:
        """Close nothing."""


def seen_in(request: PreparedRequest) -> Seen:
    """Return the request with its body read."""
    body: Any = request.body
    data = body.read() if hasattr(body, "read") else body or b""
    headers = CaseInsensitiveDict({name: str(text) for name, text in request.headers.items()})
    return Seen(request.method or "", request.url or "", headers, data)


def response_of(reply: Reply, request: PreparedRequest) -> Response:
    """Return the reply as requests has it."""
    response = Response()
    response.status_code = reply.status
    response.headers = CaseInsensitiveDict(reply.headers)
    response.raw = BytesIO(reply.body)
    response.request = request
    response.url = request.url or ""
    return response


class Namespace:
    """A namespace that answers bulk requests and single ones as the service does.

    `events` lists (operation, how many keys) in the order of arrival. `most_pairs` and
    `most_bytes` bound a bulk body: beyond them `too_large` answers. `lossy` answers as
    Cloudflare's local runtime, with U+FFFD in the place of bytes that are no text.
    """

    def __init__(self, values: Mapping[str, bytes] | None = None, *, lossy: bool = False) -> None:
        self.values = dict(values or {})
        self.metadata: dict[str, Any] = {}
        self.lossy = lossy
        self.events: list[tuple[str, int]] = []
        self.most_pairs = 10_000
        self.most_bytes = 100_000_000
        self.too_large: Callable[[], Reply | BaseException] = lambda: refused(413)
        self._lock = threading.Lock()

    def __call__(self, seen: Seen) -> Reply | BaseException:
        from urllib.parse import unquote

        _, _, kind, *rest = seen.path.split("/")
        operation = f"{seen.method} {kind}{'/' + rest[0] if kind == 'bulk' and rest else ''}"
        with self._lock:
            if kind in {"values", "metadata"}:
                self.events.append((operation, 1))
                return self._single(seen, kind, unquote(rest[0]))
            items = seen.json["keys"] if operation == "POST bulk/get" else seen.json
            self.events.append((operation, len(items)))
            if len(items) > self.most_pairs or len(seen.body) > self.most_bytes:
                return self.too_large()
            return self._bulk(operation, items)

    def _single(self, seen: Seen, kind: str, key: str) -> Reply:
        if seen.method == "PUT":
            self.values[key] = seen.body
        elif seen.method == "DELETE":
            self.values.pop(key, None)
        elif key not in self.values:
            return refused(404, 10009, "get: 'key not found'")
        elif kind == "metadata":
            return ok(self.metadata.get(key))
        else:
            return Reply(200, self.values[key])
        return ok()

    def _bulk(self, operation: str, items: Any) -> Reply:
        if operation == "POST bulk/get":
            found: dict[str, Any] = {}
            for key in items:
                try:
                    data = self.values.get(key)
                    errors = "replace" if self.lossy else "strict"
                    found[key] = None if data is None else data.decode("utf-8", errors)
                except UnicodeDecodeError:
                    return refused(400, 10029, "bulk get keys: 'non-text value'")
            return ok({"values": found})
        for item in items:
            if operation == "POST bulk/delete":
                self.values.pop(item, None)
            else:
                self.values[item["key"]] = item["value"].encode()
        return ok({"successful_key_count": len(items), "unsuccessful_keys": []})

    def count(self, operation: str) -> int:
        """Return how many requests of this operation came."""
        return sum(name == operation for name, _ in self.events)


def text_writes(count: int, size: int = 1) -> Iterator[Write]:
    """Yield pairs of text."""
    for number in range(count):
        yield Write(f"k{number:07}", b"v" * size)


@dataclass
class Connection:
    """One connection to a raw server; `requests` are those read from it so far."""

    socket: socket.socket
    number: int
    requests: list[Seen] = field(default_factory=list)

    def read(self, *, body: bool = True) -> Seen | None:
        """Read one request, None at the end; without `body` leave that unread."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.socket.recv(65536)
            if not more:
                return None
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = CaseInsensitiveDict(dict(line.split(": ", 1) for line in lines))
        method, target, _ = first.split(" ")
        length = int(headers.get("Content-Length", "0")) if body else 0
        while len(rest) < length:
            more = self.socket.recv(1 << 20)
            if not more:
                return None
            rest += more
        seen = Seen(method, target, headers, rest)
        self.requests.append(seen)
        return seen

    def say(self, text: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(text)

    def answer(self, reply: Reply, *, claims: int | None = None) -> None:
        """Send an answer; `claims` is the Content-Length to tell, if not the true one."""
        length = len(reply.body) if claims is None else claims
        headers = {"Content-Length": str(length)} | dict(reply.headers)
        lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
        self.say(f"HTTP/1.1 {reply.status} X\r\n{lines}\r\n".encode() + reply.body)

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class RawServer:
    """A local TCP server: `behave` gets every connection, on a thread of its own.

    `stopped` is set at the end, for behaviours that wait.
    """

    def __init__(self, behave: Callable[[Connection], None], *, buffer: int | None = None) -> None:
        self.behave = behave
        self.connections: list[Connection] = []
        self.stopped = threading.Event()
        self._listener = socket.socket()
        if buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(32)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/client/v4"
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(5)
        self._listener.close()
        for connection in self.connections:
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for connection in self.connections:
            connection.socket.close()

    @property
    def requests(self) -> list[Seen]:
        """All requests, connection by connection."""
        return [seen for connection in self.connections for seen in connection.requests]

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            connection = Connection(accepted, len(self.connections))
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        with suppress(OSError):
            self.behave(connection)


def keep_answering(*replies: Reply) -> Callable[[Connection], None]:
    """Return a behaviour: answer every request on a connection kept alive, the last for good."""
    told = iter(range(1 << 30))
    lock = threading.Lock()

    def behave(connection: Connection) -> None:
        while connection.read():
            with lock:
                number = next(told)
            connection.answer(replies[min(number, len(replies) - 1)])

    return behave


@contextmanager
def running(*work: Callable[[], object]) -> Iterator[Sequence[threading.Thread]]:
    """Run the work on threads; all must have ended soon after the block."""
    threads = [threading.Thread(target=job, daemon=True) for job in work]
    for thread in threads:
        thread.start()
    yield threads
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def peak_of(work: Callable[[], object]) -> int:
    """Return the most bytes that Python held while it worked."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
