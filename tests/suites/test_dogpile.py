"""dogpile.cache's own suites, run on KVBackend from its wheel."""

from __future__ import annotations

import pytest

from kvdict.emulator import Server

from .process import EACH, passed


@pytest.mark.parametrize("mode", EACH)
def test_dogpiles_suites_pass(mode: str, server: Server) -> None:
    assert passed("dogpile_suites", mode, server) >= 27
