"""The package workers-kv.py, whose base URL is a constant that each namespace copies."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from kvdict.emulator import Emulator, Server

from .conftest import ACCOUNT, TOKEN

workers_kv = pytest.importorskip("workers_kv")


@pytest.fixture
def namespace(server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    root = f"{server.url}/accounts/{ACCOUNT}/storage/kv/namespaces"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    made = requests.post(root, json={"title": "links"}, headers=headers, timeout=10).json()
    namespace = workers_kv.Namespace(ACCOUNT, made["result"]["id"], TOKEN)
    base, _, path = namespace.request_base_url.partition("/client/v4")
    assert base.startswith("https://")
    namespace.request_base_url = server.url + path
    return namespace


def test_one_pair_is_written_read_and_deleted(namespace: Any) -> None:
    namespace.write({"k": "text"})
    assert namespace.read("k") == "text"
    namespace.write({"k": '{"a": 1}'})
    assert namespace.read("k") == {"a": 1}
    namespace.delete_one("k")
    assert namespace.read("k") is None
    namespace.delete_one("k")


def test_many_pairs_are_written_listed_and_deleted(namespace: Any, emulator: Emulator) -> None:
    namespace.write({"b": [1, 2], "a": "text", "c": 3})
    assert namespace.list_keys() == ["a", "b", "c"]
    assert (namespace.read("a"), namespace.read("b"), namespace.read("c")) == ("text", [1, 2], 3)
    namespace.delete_many(["a", "b", "nobody"])
    assert namespace.list_keys() == ["c"]
    method, path = list(emulator.requests)[-2]
    assert (method, path.endswith("/bulk")) == ("DELETE", True)


def test_a_refusal_is_raised_with_the_services_errors(namespace: Any) -> None:
    with pytest.raises(Exception, match="10030"):
        namespace.write({"x" * 513: "v"})
    namespace.request_headers["Authorization"] = "Bearer other"
    with pytest.raises(Exception, match="Authentication error"):
        namespace.read("k")
