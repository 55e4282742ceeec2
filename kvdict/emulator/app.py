"""Emulator: the service's REST API as one WSGI application."""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from email.utils import formatdate
from http.client import responses
from wsgiref.types import StartResponse, WSGIEnvironment

from kvdict.emulator.auth import check_token, check_visitor
from kvdict.emulator.call import EMBEDDED, Call
from kvdict.emulator.files import StoreError
from kvdict.emulator.forks import watch
from kvdict.emulator.knobs import Knobs, SimulatedReset, meet, slow_down
from kvdict.emulator.rate import QUOTA, WINDOW, Allowance, Rate
from kvdict.emulator.refusals import Refusal
from kvdict.emulator.reply import Reply, refused
from kvdict.emulator.routes import Routes
from kvdict.emulator.store import Store

REMEMBERED = 1_000
"""Requests that the log holds."""

_STATUS = {int(code): f"{int(code)} {text}" for code, text in responses.items()} | {
    413: "413 Request Entity Too Large",
    414: "414 Request-URI Too Large",
    524: "524 A Timeout Occurred",
}


class Emulator:
    """Cloudflare Workers KV over a store, as a client sees it.

    Without a token nobody is asked for one. Knobs are given at the start, and turned at any time.
    A clock that is given is the store's from then on. `count` tells how much has been asked so
    far, and `requests` what of late: pairs of method and path.
    """

    def __init__(
        self,
        store: Store,
        *,
        token: str | None = None,
        knobs: Knobs | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.store = store
        self.knobs = knobs
        self.count = 0
        self.requests: deque[tuple[str, str]] = deque(maxlen=REMEMBERED)
        self._token = token
        chosen = (knobs and knobs.clock) or clock
        if chosen is not None:
            store.clock = chosen
        self._rate = Rate()
        self._first_ray = time.time_ns()
        self._date = (0, "")
        self._lock = threading.RLock()
        self._routes = Routes(store, knobs, self._lock)
        watch(self)

    def __repr__(self) -> str:
        return f"<Emulator over {self.store!r}>"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        call = Call(environ)
        headers = self._noted(call)
        allowance = self._allowance(environ)
        if allowance is not None:
            headers += allowance.headers()
        reply = self._guarded(call, allowance)
        headers.append(("Content-Type", reply.kind))
        headers.append(("Content-Length", str(len(reply.body))))
        headers += reply.headers
        start_response(_STATUS[reply.status], headers)
        return [reply.body]

    def before_fork(self) -> None:
        """Hold the lock, so that a child does not inherit it from a thread that it lacks."""
        self._lock.acquire()

    def after_fork(self, child: bool) -> None:  # noqa: ARG002 - this thread's in both
        """Release the lock."""
        self._lock.release()

    def _noted(self, call: Call) -> list[tuple[str, str]]:
        """Count and log a request; return the headers that every answer has."""
        now = int(self.store.clock())
        with self._lock:
            self.count += 1
            self.requests.append((call.method, call.path))
            if self._date[0] != now:
                self._date = (now, formatdate(now, usegmt=True))
            ray = self._first_ray + self.count
            return [("Date", self._date[1]), ("cf-ray", f"{ray:016x}-KVD")]

    def _allowance(self, environ: WSGIEnvironment) -> Allowance | None:
        """Count a request against its token's window; one in the process has none to heed."""
        limit = self.knobs.rate_limit if self.knobs is not None else None
        if limit is None and EMBEDDED in environ:
            return None
        quota, window = limit or (QUOTA, WINDOW)
        token = environ.get("HTTP_AUTHORIZATION", "")
        with self._lock:
            now = self.store.clock()
            return self._rate.count(token, now, quota, window, enforced=limit is not None)

    def _guarded(self, call: Call, allowance: Allowance | None) -> Reply:
        """Answer, whatever happens; only an embedding caller gets the program's own errors."""
        try:
            return self._answer(call, allowance)
        except Refusal as refusal:
            return refused(refusal)
        except SimulatedReset:
            raise
        except Exception as error:
            if EMBEDDED in call.environ:
                raise
            stream = call.environ["wsgi.errors"]
            if isinstance(error, StoreError):
                stream.write(f"{error}\n")
            else:
                traceback.print_exc(file=stream)
            return refused(Refusal(500, 10001, "service temporarily unavailable"))

    def _answer(self, call: Call, allowance: Allowance | None) -> Reply:
        if self._token is not None:
            check_token(call.environ, self._token)
        elif EMBEDDED not in call.environ:
            check_visitor(call.environ)
        if self.knobs is None:
            return self._routes.answer(call)
        if self.knobs.latency:
            self.knobs.sleep(self.knobs.latency)
        if allowance is not None and allowance.exceeded:
            raise slow_down(allowance.seconds)
        return self._with_faults(call, self.knobs)

    def _with_faults(self, call: Call, knobs: Knobs) -> Reply:
        fault = knobs.draw()
        call.partial = fault is not None and fault.kind == "partial"
        if fault is None or call.partial:
            return self._routes.answer(call)
        if fault.after:
            with suppress(Refusal):
                self._routes.answer(call)
        return meet(fault)
