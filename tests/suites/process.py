"""Suites in processes of their own: their modules, marks and settings are not ours."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kvdict.emulator import Server
from tests.conftest import account_of
from tests.processes import Program

APART = Path(__file__).parent / "apart"
MODES: dict[str, dict[str, Any]] = {
    "through": {},
    "both": {"buffer": True, "cache": True},
    "buffered": {"buffer": True},
    "cached": {"cache": True},
}
"""Options of the backends under test."""
EACH = [pytest.param(mode, marks=[] if mode == "both" else pytest.mark.slow) for mode in MODES]


class Group(Program[str]):
    """A program that is killed together with what it started, which holds its output open."""

    def __init__(self, command: list[str], **options: Any) -> None:
        super().__init__(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True, **options
        )

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def output(command: list[str], folder: Path = APART, **environment: str) -> str:
    """Return what Python with these arguments prints; AssertionError if it fails."""
    with Group(
        [sys.executable, "-W", "error", *command],
        cwd=folder,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
    ) as run:
        out, errors = run.communicate(timeout=150)
        assert run.returncode == 0, out + errors
        return out


def passed(
    suites: str, mode: str, server: Server, *, folder: Path = APART, **environment: str
) -> int:
    """Return how many tests of a module of `apart` pass, run in this folder; none may fail."""
    where = f"{account_of(server)}/{suites}-{mode}"
    options = json.dumps({"where": where, "create": True, **MODES[mode]})
    out = output(
        ["-m", "pytest", "-q", "--tb=short", "-c", os.devnull,
         f"--rootdir={APART}", f"--confcutdir={APART}", "-p", "no:cacheprovider",
         "-p", "no:randomly", "-W", "error",
         "-W", "ignore::pytest.PytestUnknownMarkWarning", str(APART / f"{suites}.py")],
        folder, OPTIONS=options, **environment,
    )  # fmt: skip
    summary = re.fullmatch(r"(\d+) passed in .*", (out.splitlines() or [""])[-1])
    assert summary, out
    return int(summary[1])
