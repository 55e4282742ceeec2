from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.processes import Program

from .home import ACCOUNT

COMMAND = [sys.executable, "-W", "error", "-m", "kvdict.emulator"]


@contextmanager
def running(*options: str) -> Iterator[tuple[Program[str], str]]:
    """Run the command on a free port; yield it and its first line."""
    with Program(
        [*COMMAND, "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().rstrip("\n")
        finally:
            process.kill()


def stopped(process: Program[str], number: int) -> tuple[int, str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


def refused(*options: str) -> tuple[int, str]:
    result = subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=30, check=False
    )
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.returncode, result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_line_is_the_base_url_and_a_signal_stops_it(number: int) -> None:
    with running() as (process, url):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/client/v4", url)
        namespaces = f"{url}/accounts/{ACCOUNT}/storage/kv/namespaces"
        assert requests.get(namespaces, timeout=10).status_code == 200
        code, out, err = stopped(process, number)
    assert (code, out) == (0, "")
    for name in ("API_BASE_URL", "BASE_URL", "ACCOUNT_ID", "API_TOKEN"):
        assert f"export CLOUDFLARE_{name}=" in err
    assert f"CLOUDFLARE_API_BASE_URL={url}\n" in err
    assert "warning" not in err


def test_a_token_is_asked_for_and_never_shown(tmp_path: Path) -> None:
    with running("--token", "s3cret", "--db", str(tmp_path / "kv.db")) as (process, url):
        namespaces = f"{url}/accounts/{ACCOUNT}/storage/kv/namespaces"
        assert requests.get(namespaces, timeout=10).status_code == 400
        headers = {"Authorization": "Bearer s3cret"}
        assert requests.get(namespaces, headers=headers, timeout=10).status_code == 200
        code, _, err = stopped(process, signal.SIGTERM)
    assert code == 0
    assert "the token you gave" in err
    assert "s3cret" not in err


def test_a_file_keeps_what_a_run_has_stored(tmp_path: Path) -> None:
    database = str(tmp_path / "kv.db")
    with running("--db", database) as (process, url):
        namespaces = f"{url}/accounts/{ACCOUNT}/storage/kv/namespaces"
        requests.post(namespaces, json={"title": "kept"}, timeout=10).raise_for_status()
        assert stopped(process, signal.SIGTERM)[0] == 0
    with running("--db", database) as (_, url):
        namespaces = f"{url}/accounts/{ACCOUNT}/storage/kv/namespaces"
        found = requests.get(namespaces, timeout=10).json()["result"]
    assert [namespace["title"] for namespace in found] == ["kept"]


def test_other_hosts_are_warned_about() -> None:
    with running("--host", "0.0.0.0") as (process, url):
        assert url.startswith("http://0.0.0.0:")
        assert "warning: 0.0.0.0 is open to other machines" in stopped(process, signal.SIGTERM)[2]


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, err = refused("--port", str(port))
    assert code == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in err
    assert "--port 0 picks a free one" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_that_is_none_is_one_sentence(port: str) -> None:
    code, err = refused("--port", port)
    assert (code, err.count("\n")) == (2, 1)


def test_a_host_that_is_not_here_is_one_sentence() -> None:
    code, err = refused("--port", "0", "--host", "192.0.2.1")
    assert (code, err.count("\n")) == (2, 1)
    assert "; look at --host and --port" in err


def test_a_bad_database_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database" * 100)
    code, err = refused("--port", "0", "--db", str(path))
    assert code == 2
    assert str(path) in err
    assert err.count("\n") == 1


def test_an_empty_token_is_refused() -> None:
    code, err = refused("--port", "0", "--token", "")
    assert code == 2
    assert "the token is empty" in err
