"""dogpile.cache's own suites, run on KVBackend from its wheel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvdict.emulator import Server

from .process import EACH, Runs, passed, running, start

pytestmark = pytest.mark.xdist_group("dogpile")


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, server: Server) -> Iterator[Runs]:
    with running(request, lambda mode: start("dogpile_suites", mode, server)) as runs:
        yield runs


@pytest.mark.parametrize("mode", EACH)
def test_dogpiles_suites_pass(mode: str, runs: Runs) -> None:
    assert passed(runs[mode]) >= 27
