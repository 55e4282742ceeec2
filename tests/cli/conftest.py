"""The command as a subprocess, beside a served emulator and files."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import kvdict
from kvdict.emulator import Knobs, Server
from tests.conftest import AMPLE, account_of, serving
from tests.processes import Program

TOKEN = "t0ken-of-the-command-1f2e3d"
ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "kvdict"]

Where = Callable[..., str]


@dataclass
class Ran:
    """What a run left."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()


class Gate:
    """Lets so many requests pass, and holds all others until it is opened."""

    def __init__(self, knobs: Knobs, passing: int) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        self._left = passing
        self._lock = threading.Lock()
        knobs.sleep = self._meet
        knobs.latency = 1.0

    def open(self) -> None:
        self._open.set()

    @contextmanager
    def opens_soon(self) -> Iterator[None]:
        """Open it later, if nobody did.

        A signal that comes as the main thread begins to wait is seen when it stops waiting.
        """
        timer = threading.Timer(15, self.open)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self.open()

    def _meet(self, _seconds: float) -> None:
        with self._lock:
            self._left -= 1
            passes = self._left >= 0
        if not passes:
            self.reached.set()
            assert self._open.wait(30)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Give the variables that the command runs with: a token, which must never be shown."""
    others = "COLUMNS", "PYTHONUNBUFFERED"
    kept = {name: value for name, value in os.environ.items() if name not in others}
    return {
        **kept, "CLOUDFLARE_API_TOKEN": TOKEN, "XDG_STATE_HOME": str(tmp_path / "states"),
        "TERM": "xterm-256color",
    }  # fmt: skip


@pytest.fixture(scope="session")
def zygote() -> Iterator[Program[str]]:
    """Have a process that forks for each run."""
    with Program(
        [sys.executable, "-W", "error", "-m", "tests.cli.zygote"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        yield process
        assert process.stdin
        process.stdin.close()
    assert process.returncode == 0


@pytest.fixture
def cli(
    zygote: Program[str],
    environment: dict[str, str],
    tmp_path: Path,
    tmp_path_factory: Any,
) -> Callable[..., Ran]:
    """Run the command as a process, in a directory; no token and no traceback may come out."""
    files = tmp_path_factory.mktemp("standard")
    names = [str(files / name) for name in ("stdin", "stdout", "stderr")]

    def run(*arguments: str, stdin: bytes | None = None, debug: bool = False, **more: str) -> Ran:
        for name in names:
            Path(name).write_bytes(b"")
        Path(names[0]).write_bytes(stdin or b"")
        told = {
            "arguments": arguments, "folder": [str(tmp_path)],
            "environment": [f"{name}={value}" for name, value in (environment | more).items()],
            "files": [names[0] if stdin else os.devnull, *names[1:]],
        }  # fmt: skip
        assert zygote.stdin
        assert zygote.stdout
        print(json.dumps(told), file=zygote.stdin, flush=True)
        code = int(zygote.stdout.readline())
        ran = Ran(code, Path(names[1]).read_bytes(), Path(names[2]).read_text())
        assert TOKEN not in ran.err + repr(ran.out)
        assert debug or "Traceback" not in ran.err
        return ran

    return run


@pytest.fixture
def shell(environment: dict[str, str], tmp_path: Path) -> Callable[[str], Ran]:
    """Run a line of bash, in which `kvdict` is the command."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    script = bin_ / "kvdict"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    script.chmod(0o755)

    def run(line: str) -> Ran:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], capture_output=True, cwd=tmp_path, timeout=60,
            env=environment | {"PATH": f"{bin_}:{environment['PATH']}"}, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr
        return Ran(done.returncode, done.stdout, done.stderr.decode())

    return run


@pytest.fixture(scope="session")
def bearing() -> Iterator[Server]:
    """Serve with a token that has to be borne."""
    with serving(token=TOKEN, rate_limit=AMPLE) as (running, _):
        yield running


@pytest.fixture
def served(bearing: Server) -> str:
    """Return the WHERE of a new namespace on the served emulator."""
    title = f"test-{uuid.uuid4().hex[:8]}"
    with kvdict.Account(account_of(bearing), token=TOKEN) as account:
        account.create(title).close()
    return f"{account_of(bearing)}/{title}"


@pytest.fixture(params=["file", "served"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the WHERE of an empty namespace, in a file and on an emulator."""
    if request.param == "served":
        return str(request.getfixturevalue("served"))
    url = f"sqlite:///{tmp_path}/app.db"
    kvdict.open(url).close()
    return url


@pytest.fixture
def slow() -> Iterator[tuple[Server, Knobs]]:
    """Serve with knobs to turn."""
    with serving() as served:
        yield served


def fill(where: str, pairs: dict[str, bytes]) -> None:
    with kvdict.open(where, codec="bytes", token=TOKEN, create=True) as kv:
        kv.update(pairs)


def contents(where: str) -> dict[str, bytes]:
    with kvdict.open(where, codec="bytes", token=TOKEN, readonly=True) as kv:
        return dict(kv.items())
