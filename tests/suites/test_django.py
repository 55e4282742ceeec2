"""Django's own suites of caches and sessions, run on KVCache."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvdict.emulator import Server
from tests.conftest import account_of
from tests.processes import Program

from . import needs, source
from .process import EACH, MODES, Runs, running

pytestmark = [*needs("django"), pytest.mark.xdist_group("django")]

RUNNER = Path(__file__).parent / "run_django.py"
CULLING = {"test_cull", "test_zero_cull", "test_cull_delete_when_store_empty"}
"""These skip themselves where a backend does not count its entries, as with Redis."""


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, server: Server) -> Iterator[Runs]:

    def begin(mode: str) -> Program[str]:
        options = json.dumps({**MODES[mode], "create": True})
        return Program(
            [sys.executable, "-W", "error", str(RUNNER), str(source("django")),
             f"{account_of(server)}/django-{mode}", options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    with running(request, begin) as runs:
        yield runs


@pytest.mark.parametrize("mode", EACH)
def test_djangos_suites_pass(mode: str, runs: Runs) -> None:
    out, errors = runs[mode].communicate(timeout=300)
    assert runs[mode].returncode == 0, errors
    report = json.loads(out.splitlines()[-1])
    assert report["run"] >= 190
    assert {name for name, _ in report["skipped"]} == CULLING
