"""Django's own suites of caches and sessions, run on KVCache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvdict.emulator import Server
from tests.conftest import account_of

from . import needs, source
from .process import EACH, MODES, output

pytestmark = needs("django")

RUNNER = Path(__file__).parent / "run_django.py"
CULLING = {"test_cull", "test_zero_cull", "test_cull_delete_when_store_empty"}
"""These skip themselves where a backend does not count its entries, as with Redis."""


@pytest.mark.parametrize("mode", EACH)
def test_djangos_suites_pass(mode: str, server: Server) -> None:
    options = json.dumps({**MODES[mode], "create": True})
    where = f"{account_of(server)}/django-{mode}"
    report = json.loads(
        output([str(RUNNER), str(source("django")), where, options]).splitlines()[-1]
    )
    assert report["run"] >= 190
    assert {name for name, _ in report["skipped"]} == CULLING
