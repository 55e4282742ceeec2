"""Many threads on one namespace of a served emulator: requests a second, and errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import requests

from benchmarks.children import ACCOUNT, AUTH, open_through, server
from benchmarks.harness import KVDICT, Rounds, Row, in_turn
from kvdict import KVNamespace

THREADS = 32
PAIRS = 15
"""What each thread writes and reads in a round."""
REQUESTS = THREADS * PAIRS * 2
RAW = "requests.Session a thread"
VALUE = "v" * 100

Pair = Callable[[str], bool]
"""Writes a key and reads it again; tells whether that went well."""


def rows(quick: bool) -> Iterator[Row]:
    """Yield kvdict beside raw calls."""
    with ExitStack() as stack:
        url = stack.enter_context(server("emulator_server"))
        kv = stack.enter_context(open_through(url, "bench"))
        sessions = [stack.enter_context(requests.Session()) for _ in range(THREADS)]
        teams = {
            KVDICT: Team([_mapped(kv)] * THREADS),
            RAW: Team([_raw(session, url, kv.id) for session in sessions]),
        }
        yield _beside(teams, 3 if quick else 9)


class Team:
    """Threads that work at the same time, each in its own way; counts what went wrong."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self.errors = 0

    def run(self) -> None:
        """Let every thread write and read its keys."""
        members = [
            threading.Thread(target=self._work, args=each) for each in enumerate(self._pairs)
        ]
        for member in members:
            member.start()
        for member in members:
            member.join()

    def _work(self, number: int, pair: Pair) -> None:
        for count in range(PAIRS):
            try:
                well = pair(f"{number}:{count}")
            except Exception:
                well = False
            if not well:
                self.errors += 1


def _mapped(kv: KVNamespace[str]) -> Pair:
    def pair(key: str) -> bool:
        kv[key] = VALUE
        return kv[key] == VALUE

    return pair


def _raw(session: requests.Session, url: str, namespace: str) -> Pair:
    data = VALUE.encode()
    root = f"{url}/accounts/{ACCOUNT}/storage/kv/namespaces/{namespace}/values/"

    def pair(key: str) -> bool:
        put = session.put(root + key, data=data, headers=AUTH)
        return put.ok and session.get(root + key, headers=AUTH).content == data

    return pair


def _beside(teams: dict[str, Team], count: int) -> Row:
    rounds = Rounds()
    for number in range(-1, count):
        for name in in_turn(list(teams), number):
            started = time.perf_counter()
            teams[name].run()
            if number >= 0:
                rounds.note(name, REQUESTS / (time.perf_counter() - started))
    shown = {name: _rate(rounds.median(name), team.errors) for name, team in teams.items()}
    return Row(
        f"{THREADS} threads, put and get (more is better)",
        shown[KVDICT],
        f"{RAW}: {shown[RAW]}",
        f"{rounds.ratio(KVDICT, RAW):.2f}",
        "0 errors",
        "NO" if teams[KVDICT].errors else "yes",
    )


def _rate(rate: float, errors: int) -> str:
    return f"{rate:,.0f}/s, {errors} errors"
