"""The fixtures for other people's tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

import kvdict

ROOT = Path(__file__).parent.parent


def test_kvdict_memory_is_an_empty_namespace(kvdict_memory: kvdict.KVNamespace[Any]) -> None:
    assert kvdict_memory == {}
    kvdict_memory["k"] = 1
    assert kvdict_memory["k"] == 1


def test_kvdict_emulator_is_served_and_in_the_environment(
    kvdict_emulator: kvdict.KVNamespace[Any],
) -> None:
    kvdict_emulator["k"] = 1
    kvdict_emulator.flush()
    with kvdict.open() as kv, kvdict.open("other", create=True) as other:
        assert kv["k"] == 1
        assert not other
    url = os.environ["CLOUDFLARE_API_BASE_URL"]
    account = os.environ["CLOUDFLARE_ACCOUNT_ID"]
    path = f"{url}/accounts/{account}/storage/kv/namespaces"
    assert requests.get(path, timeout=10).status_code == 400
    token = {"Authorization": f"Bearer {os.environ['CLOUDFLARE_API_TOKEN']}"}
    assert len(requests.get(path, headers=token, timeout=10).json()["result"]) == 2


@pytest.mark.parametrize("turn", [1, 2])
def test_kvdict_offline_opens_cloudflare_homes_in_memory_anew_for_each_test(
    kvdict_offline: kvdict.Account, turn: int
) -> None:
    assert list(kvdict_offline) == []
    with kvdict.open("links") as kv:
        kv["k"] = turn
    with kvdict.open("links") as kv:
        assert kv["k"] == turn
    assert list(kvdict_offline) == ["links"]


def test_other_peoples_test_runs_do_not_import_requests_or_kvdict(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_other():\n"
        "    assert 'pytest_kvdict' in sys.modules\n"
        "    assert not {'requests', 'kvdict', 'werkzeug'} & set(sys.modules)\n"
    )
    # Installed, the plugin comes by its entry point; named twice it would be an error.
    named = [] if _is_installed() else ["-p", "pytest_kvdict"]
    named += ["-p", "no:requests_mock"]  # another plugin that the tests bring, which imports it
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *named, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def _is_installed() -> bool:
    from importlib.metadata import entry_points

    return any(point.value == "pytest_kvdict" for point in entry_points(group="pytest11"))
