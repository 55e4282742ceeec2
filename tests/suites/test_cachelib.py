"""cachelib's own suites, run on KVCache."""

from __future__ import annotations

import pytest

from kvdict.emulator import Server

from . import needs, source
from .process import EACH, passed

pytestmark = needs("cachelib")


@pytest.mark.parametrize("mode", EACH)
def test_the_suites_of_cachelib_pass(mode: str, server: Server) -> None:
    tests = str(source("cachelib") / "tests")
    assert passed("cachelib_suites", mode, server, PYTHONPATH=tests) >= 42
