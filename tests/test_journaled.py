"""A journaled namespace: what it acknowledged survives the end of its process."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kvdict
from kvdict import WriteBuffer
from tests.processes import Program

ROOT = Path(__file__).parent.parent
NEVER = 1e9
HEAD = """
import os, sys, kvdict
from kvdict import WriteBuffer
folder = os.environ["FOLDER"]
def open_kv(**options):
    buffer = WriteBuffer(journal=folder + "/journal", **options)
    return kvdict.open(f"sqlite:///{folder}/app.db", buffer=buffer)
"""
KILLED = """
kv = open_kv(max_age=1e9)
kv["k"] = 1
print("ready", flush=True)
os.kill(os.getpid(), 9)
"""
WRITER = """
import random
chance = random.Random(int(sys.argv[1]))
kv = open_kv(max_age=0.001, max_items=20)
number = 0
while True:
    number += 1
    key = f"k{chance.randrange(30)}"
    if chance.random() < 0.25:
        kv.delete(key)
        print(key, "-", flush=True)
    elif chance.random() < 0.1:
        kv.update({key: number, "other": number})
        print(key, number, flush=True)
        print("other", number, flush=True)
    else:
        kv[key] = number
        print(key, number, flush=True)
"""


def run(program: str, folder: Path, *arguments: str) -> Program[str]:
    return Program(
        [sys.executable, "-c", HEAD + program, *arguments],
        env={**os.environ, "FOLDER": str(folder), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def reopen(folder: Path, **options: Any) -> kvdict.KVNamespace[Any]:
    buffer = WriteBuffer(journal=folder / "journal", **options)
    return kvdict.open(f"sqlite:///{folder}/app.db", buffer=buffer)


def connection_of(kv: kvdict.KVNamespace[Any]) -> sqlite3.Connection:
    """Return what the journal writes by, for a test to keep it from that."""
    journal = kv._backing.flusher.journal
    assert journal
    assert journal._connection
    return journal._connection


def kill_after(process: Program[str], lines: int) -> list[str]:
    """Kill the process after so many acknowledged writes; return all that it acknowledged."""
    assert process.stdout
    acknowledged = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    assert process.stderr
    with process:  # read on where readline left off: communicate() would pass over its buffer
        acknowledged += process.stdout.readlines()
        assert "Traceback" not in process.stderr.read()
    return [line for line in acknowledged if line.endswith("\n")]


def check_a_killed_writer(folder: Path, seed: int) -> None:
    lines = kill_after(run(WRITER, folder, str(seed)), random.Random(seed).randrange(1, 400))
    model: dict[str, int | None] = {}
    for line in lines:
        key, value = line.split()
        model[key] = None if value == "-" else int(value)
    with reopen(folder) as kv:
        seen = dict(kv.items())
        kv.flush()
        assert dict(kv.items()) == seen
    with kvdict.open(f"sqlite:///{folder}/app.db", readonly=True) as stored:
        assert dict(stored.items()) == seen
    newest = max((value for value in model.values() if value), default=0)
    for key, expected in model.items():
        # Only the one call that was under way may have come after what was acknowledged.
        assert seen.get(key) == expected or (seen.get(key) or newest) >= newest, (
            key,
            expected,
            seen,
        )
    differing = [key for key, value in model.items() if seen.get(key) != value]
    assert len(differing) <= 2


@pytest.mark.parametrize("seed", range(20))
def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path, seed: int) -> None:
    check_a_killed_writer(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1200))
def test_a_killed_writer_loses_nothing_in_many_rounds(tmp_path: Path, seed: int) -> None:
    check_a_killed_writer(tmp_path, seed)


def test_what_a_dead_process_left_is_seen_at_once_and_sent(tmp_path: Path) -> None:
    program = """
kv = open_kv(max_age=1e9)
kv.put("k", {"v": 1}, metadata="m")
kv["gone"] = 1
del kv["gone"]
print("ready", flush=True)
os.kill(os.getpid(), 9)
"""
    with kvdict.open(f"sqlite:///{tmp_path}/app.db") as kv:
        kv["gone"] = "older"
    assert kill_after(run(program, tmp_path), 1) == ["ready\n"]
    with reopen(tmp_path, max_age=NEVER) as kv:
        assert kv.stats()["pending"] == 2
        assert kv["k"] == {"v": 1}
        assert kv.metadata("k") == "m"
        assert "gone" not in kv
        kv["k"] = {"v": 2}
        assert kv.flush().sent == 2
    with kvdict.open(f"sqlite:///{tmp_path}/app.db") as kv:
        assert kv.copy() == {"k": {"v": 2}}
    with reopen(tmp_path) as kv:
        assert kv.stats()["pending"] == 0


def test_what_was_changed_in_place_is_kept_too(tmp_path: Path) -> None:
    program = """
kv = open_kv(max_age=1e9)
kv.setdefault("new", 1)
kv.pop("popped")
kv.touch("touched", metadata="m")
with kv.edit("edited") as value:
    value.append(2)
kv.popitem()
print("ready", flush=True)
os.kill(os.getpid(), 9)
"""
    with kvdict.open(f"sqlite:///{tmp_path}/app.db") as kv:
        kv.update(a=1, popped=1, touched=1, edited=[1])
    assert kill_after(run(program, tmp_path), 1) == ["ready\n"]
    with reopen(tmp_path, max_age=NEVER) as kv:
        assert kv.stats()["pending"] == 5
        assert dict(kv.items()) == {"new": 1, "touched": 1, "edited": [1, 2]}
        assert kv.metadata("touched") == "m"


def test_a_flushed_journal_is_empty(tmp_path: Path) -> None:
    with reopen(tmp_path, max_age=NEVER) as kv:
        kv.update({str(number): number for number in range(1000)})
        kv.delete_many(["1", "2"])
        kv.setdefault("3", 0)
        kv.pop("4")
        kv.flush()
        assert kv.buffer.pending == {}
    with reopen(tmp_path) as kv:
        assert kv.stats()["pending"] == 0
        assert len(kv) == 997


def test_a_refused_write_is_in_neither_buffer_nor_journal(tmp_path: Path) -> None:
    with reopen(tmp_path, max_age=NEVER) as kv:
        kv["k"] = 1
        for key, value in (("k", {1, 2}), ("..", 1)):
            with pytest.raises(kvdict.KVError):
                kv[key] = value
        assert kv["k"] == 1
        assert kv.stats()["pending"] == 1


def test_a_full_disk_refuses_the_write_and_keeps_what_was_there(tmp_path: Path) -> None:
    program = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
kv = open_kv(max_age=1e9)
kv["k"] = "before"
size = os.path.getsize(folder + "/journal-wal")
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    kv["k"] = "x" * 1_000_000
except kvdict.JournalError as error:
    print(error, flush=True)
print(kv["k"], kv.stats()["pending"], flush=True)
os.kill(os.getpid(), 9)
"""
    said = kill_after(run(program, tmp_path), 2)
    assert str(tmp_path / "journal") in said[0]
    assert said[1] == "before 1\n"
    with reopen(tmp_path) as kv:
        assert kv["k"] == "before"


def test_a_journal_that_is_read_only_takes_nothing_and_has_what_it_keeps_sent_once_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[Exception] = []
    with reopen(tmp_path, max_age=NEVER, on_error=errors.append) as kv:
        kv["k"] = 1
        connection_of(kv).execute("PRAGMA query_only = ON")
        for key in ("k", "new"):
            with pytest.raises(kvdict.JournalError, match="read-only; make it writable"):
                kv[key] = 2
        with pytest.raises(kvdict.JournalError, match="read-only; make it writable"):
            kv.setdefault("new", 2)
        with pytest.raises(kvdict.JournalError, match="read-only; make it writable"):
            kv.pop("k")
        assert dict(kv.items()) == {"k": 1}
        assert kv.flush().sent == 1
    (error,) = errors
    assert isinstance(error, kvdict.JournalError)
    assert "read-only; make it writable" in str(error)
    assert "1 write was accepted, and not taken off the journal" in caplog.text
    with kvdict.open(f"sqlite:///{tmp_path}/app.db") as stored:
        assert stored["k"] == 1
    with reopen(tmp_path, max_age=NEVER) as kv:
        assert kv.stats()["pending"] == 1
        assert kv.flush().sent == 1
        assert kv["k"] == 1


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("kv['other'] = 1; os.kill(os.getpid(), 9)", id="a write"),
        pytest.param("kv.flush(); os.kill(os.getpid(), 9)", id="a flush"),
        pytest.param("kv.close()", id="close"),
        pytest.param("", id="the interpreter's exit"),
    ],
)
def test_what_was_accepted_while_its_journal_took_nothing_is_not_sent_again_after(
    tmp_path: Path, end: str
) -> None:
    program = f"""
kv = open_kv(max_age=1e9)
kv["k"] = "older"
connection = kv._backing.flusher.journal._connection
connection.execute("PRAGMA query_only = ON")
kv.flush()
connection.execute("PRAGMA query_only = OFF")
{end}
"""
    said = run(program, tmp_path).communicate(timeout=60)[1]
    assert "1 write was accepted, and not taken off the journal" in said
    with kvdict.open(f"sqlite:///{tmp_path}/app.db") as kv:
        assert kv["k"] == "older"
        kv["k"] = "newer"
    with reopen(tmp_path) as kv:
        assert kv["k"] == "newer"
        kv.flush()
    with kvdict.open(f"sqlite:///{tmp_path}/app.db") as kv:
        assert kv["k"] == "newer"


def test_a_write_that_is_being_sent_is_taken_whether_the_journal_takes_it_or_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with reopen(tmp_path, max_age=NEVER) as kv:

        def begin_to_send() -> float:
            kv.buffer.seal(everything=True)
            return 0.0

        kv._backing.flusher.journal._wall = begin_to_send  # type: ignore[union-attr]  # it has one
        connection_of(kv).execute("PRAGMA query_only = ON")
        kv["k"] = 1
        assert "'k' is on its way, but not in the journal" in caplog.text
        assert kv.flush().sent == 1
    with kvdict.open(f"sqlite:///{tmp_path}/app.db") as stored:
        assert stored["k"] == 1


def test_a_journal_belongs_to_one_process_and_one_namespace(tmp_path: Path) -> None:
    with reopen(tmp_path) as kv:
        kv["k"] = 1
        with pytest.raises(kvdict.JournalError, match=str(os.getpid())) as caught:
            reopen(tmp_path)
        assert str(tmp_path / "journal") in str(caught.value)
    buffer = WriteBuffer(journal=tmp_path / "journal")
    with pytest.raises(kvdict.JournalError, match="namespace"):
        kvdict.open(f"sqlite:///{tmp_path}/other.db", buffer=buffer)
    with pytest.raises(kvdict.ConfigError, match="written through"):
        WriteBuffer(journal=tmp_path / "j", write_through=True)
    with pytest.raises(kvdict.JournalError, match="nowhere"):
        kvdict.open("memory://", buffer=WriteBuffer(journal=tmp_path / "nowhere" / "j"))


def test_what_could_not_be_opened_is_with_the_same_buffer_and_cache_later(tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    buffer = WriteBuffer(journal=tmp_path / "folder" / "journal")
    cache, anothers = kvdict.ReadCache(), kvdict.ReadCache()
    kvdict.open("memory://", cache=anothers).close()
    with pytest.raises(kvdict.JournalError, match="see that its folder exists"):
        kvdict.open(where, buffer=buffer, cache=cache)
    (tmp_path / "folder").mkdir()
    with pytest.raises(kvdict.ConfigError, match="ReadCache belongs to another"):
        kvdict.open(where, buffer=buffer, cache=anothers)
    with kvdict.open(where, buffer=buffer, cache=cache) as kv:
        assert (kv.buffer, kv.cache) == (buffer, cache)
        with pytest.raises(kvdict.ConfigError, match="WriteBuffer belongs to another"):
            kvdict.open("memory://", buffer=buffer)


def test_a_journal_that_could_not_let_go_of_what_is_too_old_is_opened_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_after(run(KILLED, tmp_path), 1)
    with monkeypatch.context() as patch:
        patch.setattr("kvdict.journal.DELETE", "DELETE FROM nothing WHERE key = ? AND number = ?")
        with pytest.raises(kvdict.JournalError, match="journal"):
            reopen(tmp_path, journal_max_age=1e-9)
    kv = reopen(tmp_path, journal_max_age=1e-9)
    with pytest.raises(kvdict.FlushError, match="journal_max_age"):
        kv.close()
    kv.close()


def test_the_next_worker_adopts_what_a_dead_one_left_in_the_folder(tmp_path: Path) -> None:
    program = """
kv = kvdict.open(
    f"sqlite:///{folder}/app.db", buffer=WriteBuffer(journal=folder + "/workers/", max_age=1e9)
)
kv[sys.argv[1]] = 1
print("ready", flush=True)
sys.stdin.readline()
"""
    workers = []
    for name in ("one", "two"):
        worker = Program(
            [sys.executable, "-c", HEAD + program, name],
            env={**os.environ, "FOLDER": str(tmp_path), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"
        workers.append(worker)
    workers[0].send_signal(signal.SIGKILL)
    workers[0].communicate(timeout=60)
    buffer = WriteBuffer(journal=f"{tmp_path}/workers/", max_age=NEVER)
    with kvdict.open(f"sqlite:///{tmp_path}/app.db", buffer=buffer) as kv:
        assert kv["one"] == 1
        assert "two" not in kv
    workers[1].communicate("\n", timeout=60)
    buffer = WriteBuffer(journal=f"{tmp_path}/workers/")
    with kvdict.open(f"sqlite:///{tmp_path}/app.db", buffer=buffer) as kv:
        assert kv.stats()["pending"] == 0
        assert kv.copy() == {"one": 1, "two": 1}
    assert [path.name for path in (tmp_path / "workers").iterdir() if "lock" not in path.name] == []


def test_what_is_too_old_is_reported_once_and_not_sent(tmp_path: Path) -> None:
    kill_after(run(KILLED, tmp_path), 1)
    kv = reopen(tmp_path, journal_max_age=1e-9, max_age=NEVER)
    with pytest.raises(kvdict.FlushError) as caught:
        kv["other"] = 1
    assert list(caught.value.failed) == ["k"]
    kv["other"] = 1
    kv.close()
    with kvdict.open(f"sqlite:///{tmp_path}/app.db") as stored:
        assert stored.copy() == {"other": 1}
