"""Changes, and programs that use journals in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from kvdict.changes import Change
from kvdict.journalrows import Replay
from kvdict.writes import Expiry, Write
from tests.processes import Program

NAMESPACE = "https://api.cloudflare.com/client/v4/ACCOUNT/NAMESPACE"
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
PRELUDE = f"""
import json, os, signal, sys, threading
from kvdict.errors import JournalError
from kvdict.journal import Journal
from tests.journal.support import deletion, put, shown
NAMESPACE = {NAMESPACE!r}
def say(what):
    os.write(1, json.dumps(what).encode() + b"\\n")
def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def put(
    number: int,
    key: str,
    data: bytes = b"value",
    expiry: Expiry | None = None,
    metadata: str | None = None,
) -> Change:
    return Change(key, Write(key, data, expiry, metadata), number, number, 0.0, len(data) + 60)


def deletion(number: int, key: str) -> Change:
    return Change(key, None, number, number, 0.0, 60)


def shown(replay: Replay) -> dict[str, str | None]:
    """Return the values of a replay as text, None for deletions."""
    return {key: write.data.decode() if write else None for key, write in replay.writes}


def run(script: str, *arguments: object) -> list[object]:
    """Run a program, all of whose warnings are errors; return what it said."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + script, *map(str, arguments)],
        capture_output=True, cwd=ROOT, env=ENVIRONMENT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def start(script: str, *arguments: object) -> Program[bytes]:
    """Start a program that a test talks with."""
    return Program(
        [sys.executable, "-W", "error", "-c", PRELUDE + script, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=ENVIRONMENT,
    )  # fmt: skip


LEAVING = """
journal = Journal(sys.argv[1], namespace=NAMESPACE)
for number, key in enumerate(sys.argv[2:], 1):
    journal.record(put(number, key, key.encode()))
say(journal.path)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_behind(path: Path, *keys: str) -> str:
    """Let a process record a put of each key and be killed; return its journal's path."""
    return kill(start(LEAVING, path, *keys))


def leave_two_behind(folder: Path, *keys: str) -> list[str]:
    """Let processes that live at the same time record a key each and be killed."""
    processes = [start(LEAVING, folder, key) for key in keys]
    paths = [hear(process) for process in processes]
    for process in processes:
        kill(process)
    return [str(path) for path in paths]


def hear(process: Program[bytes]) -> object:
    """Return the next thing that a program says."""
    assert process.stdout
    return json.loads(process.stdout.readline())


def kill(process: Program[bytes]) -> str:
    """Kill a program, and return the last thing that it said."""
    with process:
        said, _ = process.communicate(b"\n", timeout=60)
    assert process.returncode == -9
    return str(json.loads(said or b"null"))
