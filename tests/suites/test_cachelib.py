"""cachelib's own suites, run on KVCache."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvdict.emulator import Server

from . import needs, source
from .process import EACH, Runs, passed, running, start

pytestmark = [*needs("cachelib"), pytest.mark.xdist_group("cachelib")]


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, server: Server) -> Iterator[Runs]:
    tests = str(source("cachelib") / "tests")
    with running(
        request, lambda mode: start("cachelib_suites", mode, server, PYTHONPATH=tests)
    ) as runs:
        yield runs


@pytest.mark.parametrize("mode", EACH)
def test_the_suites_of_cachelib_pass(mode: str, runs: Runs) -> None:
    assert passed(runs[mode]) >= 42
