"""Ctrl-C stops after the request under way, says what is done, and how to go on."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

import kvdict
from kvdict.cli import run
from kvdict.cli.progress import Display
from kvdict.emulator import Fault, Knobs, Server
from tests.conftest import account_of
from tests.processes import Program

from .conftest import COMMAND, Gate, Ran, contents, fill

Cli = Callable[..., Ran]


PAIRS = {f"key {n:05}": b"x" * 50 for n in range(3000)}


@pytest.fixture
def knobs(slow: tuple[Server, Knobs]) -> Knobs:
    return slow[1]


@pytest.fixture
def links(slow: tuple[Server, Knobs]) -> str:
    """Return the WHERE of PAIRS, behind the knobs."""
    where = f"{account_of(slow[0])}/links"
    fill(where, PAIRS)
    return where


@contextmanager
def started(
    arguments: list[str], environment: dict[str, str], folder: Path
) -> Iterator[tuple[Program[str], IO[str]]]:
    """Run the command; give the process, and what it says on stderr."""
    with Program(
        [*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=environment, cwd=folder, text=True,
    ) as process:  # fmt: skip
        assert process.stderr
        yield process, process.stderr


@contextmanager
def interrupted(
    gate: Gate, arguments: list[str], environment: dict[str, str], folder: Path
) -> Iterator[tuple[Program[str], IO[str]]]:
    """Run the command until the gate holds it, and interrupt it there."""
    with started(arguments, environment, folder) as (process, errors):
        assert gate.reached.wait(30)
        process.send_signal(signal.SIGINT)
        with gate.opens_soon():
            yield process, errors


def stopped(
    gate: Gate, arguments: list[str], environment: dict[str, str], folder: Path
) -> tuple[int, str]:
    """Interrupt the command and let it end; return its code, and what it said."""
    with interrupted(gate, arguments, environment, folder) as (process, errors):
        said = errors.readline() + errors.readline()
        # Seen only between two requests, it stops at once.
        assert "stopping after the request under way" in said or "stopped; " in said
        gate.open()
        said += errors.read()
    assert "Traceback" not in said
    return process.returncode, said


def advised(said: str) -> list[str]:
    """Return the arguments of the command that the message names."""
    found = re.search(r"go on with `kvdict (.*)`$", said, re.MULTILINE)
    assert found
    return shlex.split(found[1])


def test_an_export_goes_on(
    cli: Cli, knobs: Knobs, links: str, environment: dict[str, str], tmp_path: Path
) -> None:
    gate = Gate(knobs, 15)
    code, said = stopped(gate, ["export", links, "-o", "a b"], environment, tmp_path)
    assert code == 4
    assert re.search(r"stopped; [\d,]+ pairs are done: go on with `", said)
    assert not (tmp_path / "a b").exists()
    knobs.latency = 0
    again = cli(*advised(said))
    assert again.code == 0
    assert "of them were there from earlier runs" in again.err
    assert sorted(os.listdir(tmp_path)) == ["a b"]
    there = f"sqlite:///{tmp_path}/there.db"
    assert cli("import", there, "a b").code == 0
    assert contents(there) == PAIRS


@pytest.mark.parametrize("work", ["import", "copy"])
def test_what_is_stored_goes_on(
    cli: Cli, slow: tuple[Server, Knobs], environment: dict[str, str], tmp_path: Path, work: str
) -> None:
    server, knobs = slow
    # More bodies of 10 MB than the one that passes and the four under way that the gate holds.
    pairs = {f"key {n:03}": b"x" * 400_000 for n in range(180)}
    here, there = f"sqlite:///{tmp_path}/here.db", f"{account_of(server)}/there"
    fill(here, pairs)
    fill(there, {})
    if work == "import":
        assert cli("export", here, "-o", "all").code == 0
    arguments = ["import", there, "all"] if work == "import" else ["copy", here, there]
    code, said = stopped(Gate(knobs, 2), arguments, environment, tmp_path)
    assert code == 4
    knobs.latency = 0
    again = cli(*advised(said))
    assert again.code == 0
    assert "of them were there from earlier runs" in again.err
    assert contents(there) == pairs
    assert not list(tmp_path.rglob("*.state"))


@pytest.mark.parametrize("work", ["clear", "sync"])
def test_what_keeps_no_state_is_run_again(
    cli: Cli, knobs: Knobs, links: str, environment: dict[str, str], tmp_path: Path, work: str
) -> None:
    source = f"sqlite:///{tmp_path}/source.db"
    fill(source, {})
    arguments = (
        ["clear", links, "--yes"] if work == "clear" else ["sync", source, links, "--delete"]
    )
    code, said = stopped(Gate(knobs, 2), arguments, environment, tmp_path)
    assert code == 4
    assert said.endswith(" are done: run it again to go on\n")
    knobs.latency = 0
    assert cli(*arguments).code == 0
    assert contents(links) == {}


def test_a_service_that_ends_in_the_middle_leaves_it_partly_done(
    cli: Cli, knobs: Knobs, links: str, tmp_path: Path
) -> None:
    left = iter(range(20))

    def fail_later(_seconds: float) -> None:
        if next(left, None) is None:
            knobs.faults, knobs.kinds, knobs.after = 1.0, ["500"], 0.0

    knobs.sleep, knobs.latency = fail_later, 1.0
    ran = cli("export", links, "-o", "all", "--max-wait", "0.5")
    assert ran.code == 4
    assert "gave up after 0.5 s (--max-wait)" in ran.err
    knobs.latency = knobs.faults = 0.0
    again = cli(*advised(ran.err))
    assert (again.code, "were there from earlier runs" in again.err) == (0, True)
    assert len((tmp_path / "all").read_bytes().splitlines()) == len(PAIRS)


def test_while_nothing_is_under_way_it_stops_at_once(
    environment: dict[str, str], knobs: Knobs, links: str, tmp_path: Path
) -> None:
    knobs.rate_limit = 10, 300
    with started(["export", links], environment, tmp_path) as (process, errors):
        first = errors.readline()
        assert "waiting" in first or "trying again" in first
        process.send_signal(signal.SIGINT)
        again = threading.Timer(5, process.send_signal, [signal.SIGINT])
        again.start()  # the first may have come just as a wait began
        said = errors.read()
        again.cancel()
    assert process.returncode == 4
    assert "kvdict: stopped; " in said


def test_the_second_one_does_not_wait(
    environment: dict[str, str], knobs: Knobs, links: str, tmp_path: Path
) -> None:
    arguments = ["export", links, "-o", "all"]
    with interrupted(Gate(knobs, 15), arguments, environment, tmp_path) as (process, errors):
        said = errors.readline() + errors.readline()
        process.send_signal(signal.SIGINT)
        last = errors.read()
    assert "Ctrl-C again stops at once" in said
    assert process.returncode == 4
    assert "go on with `kvdict export --resume " in last
    assert last.count("\n") == 1


@pytest.mark.parametrize("arguments", [["get", "{}", "key 00000"], ["ls", "{}"]])
def test_other_commands_just_stop(
    environment: dict[str, str], knobs: Knobs, links: str, tmp_path: Path, arguments: list[str]
) -> None:
    command = [one.format(links) for one in arguments]
    with interrupted(Gate(knobs, 1), command, environment, tmp_path) as (process, errors):
        said = errors.read()
    assert (process.returncode, said) == (4, "kvdict: stopped\n")


def on_a_terminal(
    arguments: list[str], environment: dict[str, str], meanwhile: Callable[[], object] = bool
) -> tuple[int, str]:
    """Run the command with a real terminal for stdin, stdout and stderr; return code and screen."""
    leader, follower = pty.openpty()
    with Program(
        [*COMMAND, *arguments], stdin=follower, stdout=follower, stderr=follower,
        env=environment | {"COLUMNS": "100", "LINES": "30"},
    ) as process:  # fmt: skip
        os.close(follower)
        meanwhile()
        shown = b""
        while True:
            try:
                some = os.read(leader, 65536)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not some:
                break
            shown += some
        process.wait(30)
    os.close(leader)
    return process.returncode, shown.decode()


def test_a_terminal_shows_a_bar_with_rate_and_time(
    environment: dict[str, str], knobs: Knobs, links: str, tmp_path: Path
) -> None:
    gate = Gate(knobs, 20)
    output = str(tmp_path / "all")

    def open_later() -> None:
        assert gate.reached.wait(30)
        threading.Timer(0.5, gate.open).start()

    code, shown = on_a_terminal(["export", links, "-o", output], environment, open_later)
    assert code == 0
    assert "━" in shown
    assert re.search(r"export.*[\d,]+ of 3,000 pairs, [\d,.]+/s, [\d.]+ s left", shown)
    assert "\x1b[2K" in shown
    assert shown.rstrip().endswith("s")
    assert "kvdict: exported 3,000 pairs" in shown


def test_what_is_said_meanwhile_stands_above_the_bar(
    environment: dict[str, str], knobs: Knobs, links: str, tmp_path: Path
) -> None:
    gate = Gate(knobs, 20)

    def fail_then_open() -> None:
        assert gate.reached.wait(30)
        knobs.planned.append(Fault("500"))
        gate.open()

    arguments = ["export", links, "-o", str(tmp_path / "all")]
    code, shown = on_a_terminal(arguments, environment, fail_then_open)
    assert code == 0
    assert re.search(r"\x1b\[2Kkvdict: .*trying again.*\r\n", shown)


def test_ctrl_c_is_heeded_where_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with (
        kvdict.open("memory://", codec="bytes") as kv,
        Display("export", "pair", kv, advice="") as display,
    ):
        signal.raise_signal(signal.SIGINT)
        assert display.stop()


def test_without_a_terminal_lines_tell_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvdict.cli.progress.REMINDER", 0)
    where, output = f"sqlite:///{tmp_path}/app.db", str(tmp_path / "all")
    fill(where, PAIRS)
    assert run(["export", where, "-o", output, "--count"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    *lines, summary = told.err.splitlines()
    assert len(lines) >= 3
    for line in lines:
        assert re.match(r"kvdict: export: [\d,]+ of 3,000 pairs, [\d,]+/s, [\d.]+ s left$", line)
    assert summary.startswith("kvdict: exported 3,000 pairs (150.0 kB) in 36 requests, ")


def test_a_terminal_has_colours_and_no_surprises(
    environment: dict[str, str], tmp_path: Path
) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    fill(where, {"evil\x1b]0;x\x07\n": b"text", "bin": b"\xff\x1b", "esc": b"\x1b"})
    code, shown = on_a_terminal(["ls", where, "--long"], environment)
    assert code == 0
    assert "\x1b[36m" in shown
    assert r"evil\x1b]0;x\x07\n" in shown
    code, shown = on_a_terminal(["ls", where, "--long"], environment | {"NO_COLOR": "1"})
    assert "\x1b" not in shown
    assert "-                     evil" in shown
    for key in ("bin", "esc"):
        code, shown = on_a_terminal(["get", where, key], environment)
        assert code == 2
        assert "binary" in shown
    code, shown = on_a_terminal(["get", where, "evil\x1b]0;x\x07\n"], environment)
    assert (code, shown) == (0, "text\r\n")
    code, shown = on_a_terminal(["namespaces", "list", "--account", where], environment)
    assert code == 0
    assert "title" in shown
    assert "default" in shown
