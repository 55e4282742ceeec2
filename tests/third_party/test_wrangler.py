"""Cloudflare's command line, `wrangler kv ... --remote`, told to talk to the emulator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import kvdict
from kvdict.emulator import Server
from tests.conftest import account_of

from .conftest import ACCOUNT, TOKEN

INSTALLED = Path(__file__).parents[2] / "build" / "wrangler" / "node_modules" / ".bin" / "wrangler"
EXECUTABLE = os.environ.get("KVDICT_WRANGLER") or str(INSTALLED)

pytestmark = [
    pytest.mark.wrangler,
    pytest.mark.skipif(
        shutil.which(EXECUTABLE) is None and "CI" not in os.environ,
        reason="no wrangler: set KVDICT_WRANGLER, or npm install --prefix build/wrangler wrangler",
    ),
]


@dataclass
class Wrangler:
    """The command, in a folder and a home of its own, with no host to talk to but the emulator."""

    folder: Path
    url: str

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        nowhere = "http://127.0.0.1:1/"
        environ = {
            # The environment's own node, before any other.
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "HOME": str(self.folder),
            "CI": "1",
            "NO_COLOR": "1",
            "WRANGLER_SEND_METRICS": "false",
            "WRANGLER_SEND_ERROR_REPORTS": "false",
            "WRANGLER_HIDE_BANNER": "true",  # with it goes the look for a newer version
            "npm_config_registry": nowhere,
            "CLOUDFLARE_API_BASE_URL": self.url,
            "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
            "CLOUDFLARE_API_TOKEN": TOKEN,
        }
        return subprocess.run(
            [EXECUTABLE, "kv", *arguments],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            timeout=120,
            check=False,
        )

    def __call__(self, *arguments: str) -> bytes:
        done = self.run(*arguments)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments))

    def namespaces(self) -> dict[str, str]:
        listed = self.json("namespace", "list")
        return {namespace["title"]: namespace["id"] for namespace in listed}


@pytest.fixture
def wrangler(server: Server, tmp_path: Path) -> Wrangler:
    return Wrangler(tmp_path, server.url)


@pytest.fixture
def kv(server: Server) -> Iterator[kvdict.KVNamespace[bytes]]:
    """Open a new namespace, to look and to prepare: the command takes a second to start."""
    where = account_of(server, ACCOUNT)
    with kvdict.open(f"{where}/links", token=TOKEN, codec="bytes", create=True, buffer=False) as kv:
        yield kv


@pytest.fixture
def space(kv: kvdict.KVNamespace[bytes]) -> list[str]:
    return ["--remote", "--namespace-id", kv.id]


def test_namespaces_are_created_listed_renamed_and_deleted(
    wrangler: Wrangler, server: Server
) -> None:
    with kvdict.Account(account_of(server, ACCOUNT), token=TOKEN) as account:
        wrangler("namespace", "create", "links")
        made = wrangler.namespaces()
        assert made == {space.title: space.id for space in account.namespaces()}
        assert list(made) == ["links"]
        wrangler("namespace", "rename", "links", "--new-name", "renamed")
        assert [(space.title, space.id) for space in account.namespaces()] == [
            ("renamed", made["links"])
        ]
        wrangler("namespace", "delete", "--namespace-id", made["links"], "-y")
        assert wrangler.namespaces() == {}


def test_a_value_is_put_got_listed_and_deleted(
    wrangler: Wrangler, space: list[str], kv: kvdict.KVNamespace[bytes]
) -> None:
    metadata = '{"x": 0}'
    wrangler("key", "put", "a/b é?", "hello", "--metadata", metadata, "--ttl", "120", *space)
    entry = kv.entry("a/b é?")
    assert (entry.value, entry.metadata) == (b"hello", {"x": 0})
    [key] = wrangler.json("key", "list", *space)
    assert (key["name"], key["metadata"]) == ("a/b é?", {"x": 0})
    assert key["expiration"] == entry.expiration == pytest.approx(time.time() + 120, abs=60)
    assert wrangler("key", "get", "a/b é?", "--text", *space).rstrip(b"\n") == b"hello"
    wrangler("key", "delete", "a/b é?", *space)
    assert not kv
    assert wrangler.run("key", "get", "a/b é?", *space).returncode != 0


@pytest.mark.parametrize("more", [[], ["--metadata", '{"form": true}']])
def test_a_binary_file_comes_back_as_it_was(
    wrangler: Wrangler, space: list[str], kv: kvdict.KVNamespace[bytes], more: list[str]
) -> None:
    data = bytes(range(256)) * 20
    (wrangler.folder / "data").write_bytes(data)
    wrangler("key", "put", "bin", "--path", "data", *more, *space)
    assert kv["bin"] == data
    assert wrangler("key", "get", "bin", *space) == data


def test_bulk_commands_write_read_and_delete(
    wrangler: Wrangler, space: list[str], kv: kvdict.KVNamespace[bytes]
) -> None:
    pairs = [
        {"key": "k1", "value": "v1"},
        {"key": "k2", "value": "/wA=", "base64": True, "metadata": {"a": 1}},
        {"key": "k3", "value": "v3", "expiration_ttl": 100},
    ]
    (wrangler.folder / "pairs.json").write_text(json.dumps(pairs))
    (wrangler.folder / "keys.json").write_text('["k1", "k3", "nobody"]')
    wrangler("bulk", "put", "pairs.json", *space)
    assert dict(kv.items()) == {"k1": b"v1", "k2": b"\xff\x00", "k3": b"v3"}
    assert kv.metadata("k2") == {"a": 1}
    read = wrangler("bulk", "get", "keys.json", *space).decode()
    values = json.loads(read[read.index("{") : read.rindex("}") + 1])
    assert values == {"k1": "v1", "k3": "v3", "nobody": None}
    wrangler("bulk", "delete", "keys.json", "--force", *space)
    assert list(kv) == ["k2"]


def test_a_thousand_and_some_keys_are_listed_page_by_page(
    wrangler: Wrangler, space: list[str], kv: kvdict.KVNamespace[bytes]
) -> None:
    kv.update({f"k{number:04}": b"" for number in range(1500)})
    names = [key["name"] for key in wrangler.json("key", "list", *space)]
    assert names == list(kv)
