"""Child processes: servers whose work must not count as ours, and their end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kvdict
from kvdict import KVNamespace

ROOT = Path(__file__).resolve().parents[1]
ACCOUNT = "0123456789abcdef0123456789abcdef"
TOKEN = "bench"
AUTH = {"Authorization": f"Bearer {TOKEN}"}
STOP_SECONDS = 10.0


def run(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run Python with these arguments in the project's root; return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


@contextmanager
def server(module: str, *arguments: str) -> Iterator[str]:
    """Run a server of this package in a child; yield the URL that it prints, and stop it."""
    child = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        url = child.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"benchmarks.{module} did not start")
        yield url
    finally:
        child.stdin.close()  # the server's sign to end, even if this process dies
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


def where(url: str, name: str) -> str:
    """Return what opens the namespace of that title or id at a child's base URL."""
    return f"kv+{url.removesuffix('/client/v4')}/{ACCOUNT}/{name}"


def open_through(url: str, title: str) -> KVNamespace[str]:
    """Open a namespace of a served emulator that sends each call and remembers nothing of it."""
    buffer = kvdict.WriteBuffer(write_through=True, settle=0)
    return kvdict.open(where(url, title), codec="text", token=TOKEN, create=True, buffer=buffer)


def official(url: str) -> Any | None:
    """Return the official SDK's client, None if it is not installed."""
    try:
        from cloudflare import Cloudflare
    except ModuleNotFoundError:
        return None
    return Cloudflare(api_token=TOKEN, base_url=url)
