"""What becomes of pending writes when a process ends, forks or is told to stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import kvdict
from kvdict.emulator import Emulator, Server, Store, serve
from tests.conftest import ACCOUNT, account_of, serving
from tests.processes import Program
from tests.wire.support import Connection, RawServer, ok

ROOT = Path(__file__).parent.parent
HEAD = """
import os, sys, kvdict
from kvdict import WriteBuffer
where = os.environ["WHERE"]
def open_kv(**options):
    return kvdict.open(where, create=True, buffer=WriteBuffer(max_age=1e9, **options))
"""


@pytest.fixture(params=["sqlite", "served"])
def where(request: Any, tmp_path: Path, server: Server) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/exit.db"
    return f"{account_of(server)}/exit-{os.urandom(8).hex()}"


def run(
    program: str, where: str, *, head: str = HEAD, expect: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + program],
        env={**os.environ, "WHERE": where, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == expect, done.stderr
    return done


def stored(where: str) -> dict[str, Any]:
    with kvdict.open(where, readonly=True, buffer=False) as kv:
        return dict(kv.items())


def test_the_interpreters_exit_flushes(where: str) -> None:
    done = run("kv = open_kv(); kv.update({str(n): n for n in range(25)})", where)
    assert (done.stdout, done.stderr) == ("", "")
    assert len(stored(where)) == 25


def test_a_program_that_closes_nothing_ends_without_a_word(tmp_path: Path) -> None:
    program = """
from kvdict import shelve
open_all = lambda: [kvdict.open(where), kvdict.open(where, readonly=True), kvdict.Account(where),
    kvdict.open("memory://"), kvdict.open("memory://shared"), shelve.open(where[10:] + "-shelf")]
opened = open_all()
opened[0]["k"] = opened[-1]["k"] = 1
opened[1]["k"]
open_all()
"""
    done = run(program, f"sqlite:///{tmp_path}/exit.db")  # Python 3.13 warns of sqlite3's own
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("end", ["sys.exit(3)", "raise SystemExit(3)", "1 / 0"])
def test_so_does_an_exit_by_exception(where: str, end: str) -> None:
    run(f"kv = open_kv(); kv['k'] = 1; {end}", where, expect=1 if end == "1 / 0" else 3)
    assert stored(where) == {"k": 1}


def test_writes_of_later_exit_handlers_are_sent_in_their_own_thread(where: str) -> None:
    program = (
        "import atexit\n"
        + HEAD
        + """
kv = None
atexit.unregister(kvdict.exits.exits.flush)
atexit.register(lambda: kv.update(late=2))
atexit.register(kvdict.exits.exits.flush)
kv = open_kv()
kv["early"] = 1
"""
    )
    run(program, where)
    assert stored(where) == {"early": 1, "late": 2}


def test_a_handler_that_logs_at_the_very_end_may_write_first_then(where: str) -> None:
    program = """
import logging, logging.handlers
kv = open_kv()
class Handler(logging.Handler):
    def emit(self, record):
        kv[record.getMessage()] = 1
log = logging.getLogger("program")
log.addHandler(logging.handlers.MemoryHandler(1000, target=Handler()))
log.warning("one")
log.warning("two")
"""
    assert run(program, where).stderr == ""
    assert stored(where) == {"one": 1, "two": 1}


def test_what_other_handlers_do_takes_no_time_of_ours(where: str) -> None:
    program = (
        """
import atexit, time
monotonic, passed = time.monotonic, 0
time.monotonic = lambda: monotonic() + passed
def late():
    global passed
    passed = 3600
    kv["late"] = 2
atexit.register(late)
"""
        + HEAD
        + """
kv = open_kv()
kv["early"] = 1
"""
    )
    assert run(program, where, head="").stderr == ""
    assert stored(where) == {"early": 1, "late": 2}


def test_a_handler_that_imports_us_first_loses_nothing(where: str) -> None:
    program = """
import atexit, os, threading
def late():
    global kv
    import kvdict
    kv = kvdict.open(os.environ["WHERE"], create=True, buffer=kvdict.WriteBuffer(max_age=1e9))
    kv["late"] = 1
    kv["later"] = 2
atexit.register(late)
"""
    assert run(program, where, head="").stderr == ""
    assert stored(where) == {"late": 1, "later": 2}


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("where", ["served"], indirect=True)
def test_a_write_when_the_interpreter_is_torn_down_is_stored_or_named(where: str) -> None:
    program = """
class Late:
    def __del__(self):
        kv["late"] = 1
kv = open_kv()
late = Late()
kv["early"] = 1
"""
    said = run(program, where).stderr
    assert stored(where)["early"] == 1
    assert "late" in stored(where) or "1 write was not sent ('late')" in said


@pytest.mark.parametrize("first", ["", "import multiprocessing"])
def test_what_did_not_make_it_is_printed_once_with_its_keys(first: str) -> None:
    """Also where multiprocessing, which has an end of its own, is at hand."""
    store = Store(None)
    with serve(Emulator(store)) as gone:
        program = f"""
{first}
kv = open_kv(exit_timeout=0.5)
print("opened", flush=True); sys.stdin.readline()
kv["precious"] = 1
"""
        process = Program(
            [sys.executable, "-c", HEAD + program],
            env={**os.environ, "WHERE": f"{account_of(gone)}/gone", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "opened\n"
    store.close()
    _, said = process.communicate("\n", timeout=60)
    assert said.count("at exit 1 write was not sent ('precious')") == 1
    assert re.search(r"not all was sent within [\d.e-]+ s.*; write again", said)


def test_what_a_journal_keeps_is_told_at_exit_and_sent_by_the_next(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    program = f"""
token = "right"
buffer = WriteBuffer(max_age=1e9, journal={str(journal)!r})
kv = kvdict.open(where, create=True, token=lambda: token, buffer=buffer)
kv["precious"] = 1
token = "revoked"
"""
    with serving(token="right") as (server, _):
        where = f"{account_of(server)}/kept"
        said = run(program, where).stderr.splitlines()[-1]
        assert said.startswith("kvdict: at exit 1 write was not sent ('precious'): ")
        end = f"then start the program again; kept in {journal}, and sent when that is opened"
        assert said.endswith(f"; look at the cause, {end}")
        kv = kvdict.open(where, token="right", buffer=kvdict.WriteBuffer(journal=journal))
        with kv:
            assert kv["precious"] == 1
        with kvdict.open(where, token="right", buffer=False) as kv:
            assert kv["precious"] == 1


def test_sigterm_with_the_readmes_line_flushes(where: str) -> None:
    program = """
import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
kv = open_kv()
kv["k"] = 1
print("ready", flush=True)
signal.pause()
"""
    process = Program(
        [sys.executable, "-c", HEAD + program],
        env={**os.environ, "WHERE": where, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert stored(where) == {"k": 1}


def signalled_at_exit(sign: signal.Signals, *, answers: bool) -> tuple[str, list[str]]:
    """End a program with a write to each of two namespaces, and signal it during the first.

    Returns what it says, and the keys that were sent once the service answers.
    """
    program = """
import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
opened = [kvdict.open(where + mark * 32, token="x", buffer=WriteBuffer(max_age=1e9, settle=0))
          for mark in "ab"]
for number, kv in enumerate(opened):
    kv[f"key{number}"] = 1
"""
    lock = threading.Lock()
    started: list[Program[str]] = []
    signalled: list[bool] = []

    def behave(connection: Connection) -> None:
        while connection.read():
            with lock:
                if not signalled:
                    signalled.append(True)
                    started[0].send_signal(sign)
            if answers:
                connection.answer(ok())

    with RawServer(behave) as server:
        where = f"kv+{server.url.removesuffix('/client/v4')}/{ACCOUNT}/"
        with lock:
            started += [
                Program(
                    [sys.executable, "-c", HEAD + program],
                    env={**os.environ, "WHERE": where, "PYTHONPATH": str(ROOT)},
                    stderr=subprocess.PIPE, text=True,
                )
            ]  # fmt: skip
        said = started[0].communicate(timeout=60)[1]
        return said, sorted(seen.path.rpartition("/")[2] for seen in server.requests)


def test_ctrl_c_at_exit_ends_the_waiting_and_all_that_is_lost_is_named() -> None:
    said, _ = signalled_at_exit(signal.SIGINT, answers=False)
    assert said.count("at exit 1 write was not sent") == 2
    assert "'key0'" in said
    assert "'key1'" in said
    assert "Traceback" not in said


def test_a_service_that_hangs_holds_up_no_exit_where_no_thread_can_be_started() -> None:
    program = """
import threading
def refuse(self):
    raise RuntimeError("can't create new thread at interpreter shutdown")
kv = open_kv(exit_timeout=1)
kv["k"] = 1
threading.Thread.start = refuse
"""

    def hang(connection: Connection) -> None:
        if connection.read():
            server.stopped.wait(60)

    with RawServer(hang) as server:
        where = f"kv+{server.url.removesuffix('/client/v4')}/{ACCOUNT}/{'f' * 32}"
        done = subprocess.run(
            [sys.executable, "-c", HEAD.replace("create=True", "token='x'") + program],
            env={**os.environ, "WHERE": where, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=40, check=False,
        )  # fmt: skip
    assert done.stderr.count("at exit 1 write was not sent ('k')") == 1


def test_a_second_end_while_it_flushes_loses_nothing() -> None:
    """Where no thread can be started any more it interrupts a request, which is made again."""
    said, sent = signalled_at_exit(signal.SIGTERM, answers=True)
    assert (said, {*sent}) == ("", {"key0", "key1"})


def test_a_forked_child_has_a_clean_buffer_and_flushes_its_own(where: str) -> None:
    program = """
kv = open_kv()
kv["parent"] = 1
child = os.fork()
if child == 0:
    assert kv.stats()["pending"] == 0
    kv["child"] = 2
    kv.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert kv.stats()["pending"] == 1
"""
    run(program, where)
    assert stored(where) == {"parent": 1, "child": 2}


def test_a_busy_flusher_survives_a_fork(where: str) -> None:
    program = """
kv = kvdict.open(where, create=True, buffer=WriteBuffer(max_age=0))
for number in range(20):
    kv[f"p{number}"] = number
    child = os.fork()
    if child == 0:
        kv[f"c{number}"] = number
        kv.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
    run(program, where)
    assert len(stored(where)) == 40


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("way", ["Process", "Pool", "terminated Pool", "ProcessPoolExecutor"])
def test_a_child_of_multiprocessing_flushes_at_its_end(
    where: str, tmp_path: Path, method: str, way: str, request: pytest.FixtureRequest
) -> None:
    if way == "terminated Pool":  # coverage's own end cannot stand a signal
        request.getfixturevalue("unmeasured")
    calls = {
        "Process": "p = context.Process(target=work, args=(1,)); p.start(); p.join()",
        "Pool": "with context.Pool(2) as pool:\n"
        "        pool.map(work, [1]); pool.close(); pool.join()",
        # It rests: a worker that goes by itself may be told to go before it comes to our end.
        "terminated Pool": "resting = context.Event()\n"
        "    with context.Pool(1, exit_at_sigterm, (resting,)) as pool:\n"
        "        pool.map(work, [1]); pool.apply_async(rest); resting.wait()",
        "ProcessPoolExecutor": "with ProcessPoolExecutor(1, mp_context=context) as pool:\n"
        "        list(pool.map(work, [1]))",
    }
    (tmp_path / "program.py").write_text(
        f"""import multiprocessing, os, signal, sys, kvdict
from concurrent.futures import ProcessPoolExecutor
from kvdict import WriteBuffer

def exit_at_sigterm(event):
    global resting
    resting = event
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())

def rest():
    resting.set()
    signal.pause()

def work(number):
    global kv
    kv = kvdict.open(os.environ["WHERE"], create=True, buffer=WriteBuffer(max_age=1e9))
    kv["child"] = number

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    {calls[way]}
"""
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        env={**os.environ, "WHERE": where, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert stored(where) == {"child": 1}


@pytest.mark.usefixtures("unmeasured")
def test_an_interrupted_assignment_is_taken_or_not_and_the_next_flush_works(where: str) -> None:
    program = """
import signal
def interrupt(*_): raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
kv = kvdict.open(where, create=True, buffer=WriteBuffer(max_age=0.001))
done = interrupted = 0
for round in range(30):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        while True:
            kv[f"k{done % 100}"] = done
            done += 1
    except KeyboardInterrupt:
        interrupted += 1
signal.setitimer(signal.ITIMER_REAL, 0)
assert interrupted == 30
kv["last"] = "one"
kv.flush()
assert kv["last"] == "one"
latest = {f"k{n % 100}": n for n in range(done)}
found = {k: v for k, v in kv.items() if k != "last"}
assert all(found[k] in (v, v + 100, done) for k, v in latest.items()), (found, latest)
"""
    run(program, where)
