"""Ctrl-C stops after the request under way, says what is done, and how to go on."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kvdict.cli import run
from kvdict.emulator import Knobs, Server
from tests.processes import Program

from .conftest import COMMAND, Gate, Ran, account_of, contents, fill

Cli = Callable[..., Ran]


def interrupted(gate: Gate, arguments: list[str], environment: dict[str, str], folder: Path) -> Ran:
    """Run the command until the gate holds it, interrupt it there, and let it end."""
    with Program[bytes](
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment, cwd=folder, bufsize=0,  # else readline() keeps what communicate() wants
    ) as process:  # fmt: skip
        assert process.stderr
        assert gate.reached.wait(30)
        process.send_signal(signal.SIGINT)
        with gate.opens_soon():
            said = process.stderr.readline() + process.stderr.readline()
        # Seen only between two requests, it stops at once.
        assert b"stopping after the request under way" in said or b"stopped; " in said
        out, err = process.communicate(timeout=30)
    assert b"Traceback" not in err
    return Ran(process.returncode, out, (said + err).decode())


def advised(ran: Ran) -> list[str]:
    """Return the arguments of the command that the message names."""
    found = re.search(r"go on with `kvdict (.*)`$", ran.err.strip())
    assert found
    return shlex.split(found[1])


PAIRS = {f"key {n:05}": b"x" * 50 for n in range(3000)}


def test_an_export_goes_on(
    cli: Cli, slow: tuple[Server, Knobs], environment: dict[str, str], tmp_path: Path
) -> None:
    server, knobs = slow
    where = f"{account_of(server)}/links"
    fill(where, PAIRS)
    ran = interrupted(Gate(knobs, 15), ["export", where, "-o", "a b"], environment, tmp_path)
    assert ran.code == 4
    assert re.search(r"stopped; [\d,]+ pairs are done: go on with `", ran.err)
    assert not (tmp_path / "a b").exists()
    knobs.latency = 0
    again = cli(*advised(ran))
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
    ran = interrupted(Gate(knobs, 2), arguments, environment, tmp_path)
    assert ran.code == 4
    knobs.latency = 0
    again = cli(*advised(ran))
    assert again.code == 0
    assert "of them were there from earlier runs" in again.err
    assert contents(there) == pairs
    assert not list(tmp_path.rglob("*.state"))


@pytest.mark.parametrize("work", ["clear", "sync"])
def test_what_keeps_no_state_is_run_again(
    cli: Cli, slow: tuple[Server, Knobs], environment: dict[str, str], tmp_path: Path, work: str
) -> None:
    server, knobs = slow
    where, source = f"{account_of(server)}/links", f"sqlite:///{tmp_path}/source.db"
    fill(where, PAIRS)
    fill(source, {})
    arguments = (
        ["clear", where, "--yes"] if work == "clear" else ["sync", source, where, "--delete"]
    )
    ran = interrupted(Gate(knobs, 2), arguments, environment, tmp_path)
    assert ran.code == 4
    assert ran.err.endswith(" are done: run it again to go on\n")
    knobs.latency = 0
    assert cli(*arguments).code == 0
    assert contents(where) == {}


def test_a_service_that_ends_in_the_middle_leaves_it_partly_done(
    cli: Cli, slow: tuple[Server, Knobs], tmp_path: Path
) -> None:
    server, knobs = slow
    where = f"{account_of(server)}/links"
    fill(where, PAIRS)
    left = iter(range(20))

    def fail_later(_seconds: float) -> None:
        if next(left, None) is None:
            knobs.faults, knobs.kinds, knobs.after = 1.0, ["500"], 0.0

    knobs.sleep, knobs.latency = fail_later, 1.0
    ran = cli("export", where, "-o", "all", "--max-wait", "0.5")
    assert ran.code == 4
    assert "gave up after 0.5 s (--max-wait)" in ran.err
    knobs.latency = knobs.faults = 0.0
    again = cli(*advised(ran))
    assert (again.code, "were there from earlier runs" in again.err) == (0, True)
    assert len((tmp_path / "all").read_bytes().splitlines()) == len(PAIRS)


def test_while_nothing_is_under_way_it_stops_at_once(
    environment: dict[str, str], slow: tuple[Server, Knobs]
) -> None:
    server, knobs = slow
    where = f"{account_of(server)}/links"
    fill(where, PAIRS)
    knobs.rate_limit = 10, 300
    with Program(
        [*COMMAND, "export", where], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=environment, text=True,
    ) as process:  # fmt: skip
        assert process.stderr
        first = process.stderr.readline()
        assert "waiting" in first or "trying again" in first
        process.send_signal(signal.SIGINT)
        again = threading.Timer(5, process.send_signal, [signal.SIGINT])
        again.start()  # the first may have come just as a wait began
        err = process.stderr.read()
        again.cancel()
    assert process.returncode == 4
    assert "kvdict: stopped; " in err


def test_the_second_one_does_not_wait(
    environment: dict[str, str], slow: tuple[Server, Knobs], tmp_path: Path
) -> None:
    server, knobs = slow
    where = f"{account_of(server)}/links"
    fill(where, PAIRS)
    gate = Gate(knobs, 15)
    with Program(
        [*COMMAND, "export", where, "-o", "all"], stderr=subprocess.PIPE, env=environment,
        text=True, cwd=tmp_path,
    ) as process:  # fmt: skip
        assert process.stderr
        assert gate.reached.wait(30)
        process.send_signal(signal.SIGINT)
        with gate.opens_soon():
            said = process.stderr.readline() + process.stderr.readline()
            process.send_signal(signal.SIGINT)
            err = process.stderr.read()
    assert "Ctrl-C again stops at once" in said
    assert process.returncode == 4
    assert "go on with `kvdict export --resume " in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["get", "{}", "k"], ["ls", "{}"]])
def test_other_commands_just_stop(
    environment: dict[str, str], slow: tuple[Server, Knobs], arguments: list[str]
) -> None:
    server, knobs = slow
    where = f"{account_of(server)}/links"
    fill(where, {"k": b"v"})
    gate = Gate(knobs, 1)
    with Program(
        [*COMMAND, *(one.format(where) for one in arguments)], env=environment, text=True,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert gate.reached.wait(30)
        process.send_signal(signal.SIGINT)
        with gate.opens_soon():
            _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (4, "kvdict: stopped\n")


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
    environment: dict[str, str], slow: tuple[Server, Knobs], tmp_path: Path
) -> None:
    server, knobs = slow
    where = f"{account_of(server)}/links"
    fill(where, PAIRS)
    gate = Gate(knobs, 20)
    output = str(tmp_path / "all")

    def open_later() -> None:
        assert gate.reached.wait(30)
        threading.Timer(0.5, gate.open).start()

    code, shown = on_a_terminal(["export", where, "-o", output], environment, open_later)
    assert code == 0
    assert "━" in shown
    assert re.search(r"export.*[\d,]+ of 3,000 pairs, [\d,.]+/s, [\d.]+ s left", shown)
    assert "\x1b[2K" in shown
    assert shown.rstrip().endswith("s")
    assert "kvdict: exported 3,000 pairs" in shown


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
    fill(where, {"evil\x1b]0;x\x07\n": b"text", "bin": b"\xff\x1b"})
    code, shown = on_a_terminal(["ls", where, "--long"], environment)
    assert code == 0
    assert "\x1b[36m" in shown
    assert r"evil\x1b]0;x\x07\n" in shown
    code, shown = on_a_terminal(["ls", where, "--long"], environment | {"NO_COLOR": "1"})
    assert "\x1b" not in shown
    assert "-                     evil" in shown
    code, shown = on_a_terminal(["get", where, "bin"], environment)
    assert code == 2
    assert "binary" in shown
    code, shown = on_a_terminal(["namespaces", "list", "--account", where], environment)
    assert code == 0
    assert "title" in shown
    assert "default" in shown
