"""SIGKILL at random moments: all that was acknowledged is there, and nothing that was forgotten."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvdict.journal import Journal
from tests.journal.support import ENVIRONMENT, NAMESPACE, ROOT
from tests.journal.writer import operations, outcome
from tests.processes import Program

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.fixture(scope="module")
def writers() -> Iterator[Program[str]]:
    with Program(
        [sys.executable, "-m", "tests.journal.writer"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT,
    ) as program:  # fmt: skip
        yield program
        program.communicate()
    assert program.returncode == 0


def write_until_killed(program: Program[str], how: str, acknowledgements: int) -> Counter[int]:
    """Have a writer killed after so many acknowledgements or a few more; count each thread's."""
    assert program.stdin
    assert program.stdout
    print(how, file=program.stdin, flush=True)
    pid = int(program.stdout.readline())
    done: Counter[int] = Counter()
    for number, line in enumerate(program.stdout):
        if number == acknowledgements:
            os.kill(pid, signal.SIGKILL)
        if line == "dead\n":
            return done
        thread, count = map(int, line.split())
        done[thread] = count
    raise AssertionError("the writers ended")


def check_rounds(program: Program[str], path: Path, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    state: dict[str, Any] = {}
    base = 0
    for _ in range(rounds):
        threads = chance.choice((1, 1, 3))
        durability = chance.choice(("process", "process", "power"))
        seed = chance.randrange(10**6)
        how = f"{path} {durability} {threads} {base} {seed}"
        done = write_until_killed(program, how, chance.randrange(1, 300))
        journal = Journal(path, namespace=NAMESPACE)
        replay = journal.replay()
        journal.close()
        assert not replay.damaged
        found = {key: write and write.data for key, write in replay.writes}
        assert len(found) == len(replay.writes)
        assert_is_possible(state, found, threads, base, seed, done)
        state, base = found, journal.last_number


def assert_is_possible(
    state: dict[str, Any],
    found: dict[str, Any],
    threads: int,
    base: int,
    seed: int,
    done: Counter[int],
) -> None:
    """Compare with the state after the acknowledged operations, or one more of each thread."""
    for thread in range(3):
        mine = {key: value for key, value in state.items() if key.startswith(f"{thread}:")}
        theirs = {key: value for key, value in found.items() if key.startswith(f"{thread}:")}
        if thread >= threads:
            assert theirs == mine
            continue
        possible = [
            outcome(mine, operations(thread, threads, base, seed), done[thread] + more)
            for more in (0, 1)
        ]
        assert theirs in possible


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_was_acknowledged_survives_a_kill(
    writers: Program[str], tmp_path: Path, kind: str
) -> None:
    check_rounds(writers, tmp_path / "journal" if kind == "file" else tmp_path, 20, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_was_acknowledged_survives_two_hundred_kills(
    writers: Program[str], tmp_path: Path, kind: str
) -> None:
    check_rounds(writers, tmp_path / "journal" if kind == "file" else tmp_path, 200, seed=2)
