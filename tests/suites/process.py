"""Suites in processes of their own: their modules, marks and settings are not ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

Runs = dict[str, Program[str]]


@contextmanager
def running(request: pytest.FixtureRequest, begin: Callable[[str], Program[str]]) -> Iterator[Runs]:
    """Begin the modes that the module's tests ask for all at once, as mostly they sleep."""
    mine = [
        item for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
    ]  # fmt: skip
    modes = {str(item.callspec.params["mode"]) for item in mine}
    runs = {mode: begin(mode) for mode in modes}
    try:
        yield runs
    finally:
        for run in runs.values():
            run.kill()
            run.communicate()


def start(
    suites: str, mode: str, server: Server, *, folder: Path = APART, **environment: str
) -> Program[str]:
    """Start pytest on a module of `apart`, in this folder, with a namespace of its own."""
    where = f"{account_of(server)}/{suites}-{mode}"
    options = json.dumps({"where": where, "create": True, **MODES[mode]})
    return Program(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "--tb=short", "-c", os.devnull,
         f"--rootdir={APART}", f"--confcutdir={APART}", "-p", "no:cacheprovider",
         "-p", "no:randomly", "-W", "error",
         "-W", "ignore::pytest.PytestUnknownMarkWarning", str(APART / f"{suites}.py")],
        cwd=folder, env={**os.environ, "OPTIONS": options, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def passed(run: Program[str]) -> int:
    """Return how many tests passed, after the end; AssertionError if any did not."""
    out, errors = run.communicate(timeout=150)
    summary = re.fullmatch(r"(\d+) passed in .*", (out.splitlines() or [""])[-1])
    assert run.returncode == 0, out + errors
    assert summary, out + errors
    return int(summary[1])
