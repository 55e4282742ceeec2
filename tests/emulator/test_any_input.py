"""Whatever is sent is answered: a refusal at worst, never an error of the program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvdict.emulator import Emulator, EmulatorAdapter

from .home import EMBEDDED, Clock, Home, Space

quickly = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FIELDS = ["key", "value", "base64", "metadata", "expiration", "expiration_ttl"]
FIELDS += ["keys", "type", "withMetadata", "title", "jurisdiction"]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6)
    ),
    max_leaves=12,
)
ROUTES = [("PUT", "/bulk"), ("DELETE", "/bulk"), ("POST", "/bulk/get"), ("POST", "/bulk/delete")]
PARAMETERS = ["limit", "cursor", "prefix", "page", "per_page", "order", "direction"]
PARAMETERS += ["expiration", "expiration_ttl"]
PIECES = [b"--x", b"--x--", b"\r\n", b"\n", b"1", b"\xff", b"; filename=x"]
PIECES += [b'Content-Disposition: form-data; name="value"', b"Content-Disposition: form-data"]
PIECES += [b'Content-Disposition: form-data; name="metadata"', b"Content-Type: a; charset=nope"]
ANSWERS = {200, 400, 404, 405, 413, 414}


@pytest.fixture
def near(emulator: Emulator, clock: Clock) -> Iterator[Space]:
    with requests.Session() as session:
        session.mount("http://kvdict.invalid/", EmulatorAdapter(emulator))
        yield Home(session, EMBEDDED, emulator, clock).create()


@given(route=st.sampled_from([*ROUTES, ("PUT", "")]), body=VALUES | st.lists(VALUES, max_size=3))
@quickly
def test_any_json(near: Space, route: tuple[str, str], body: Any) -> None:
    method, path = route
    assert near.ask(method, path, data=json.dumps(body)).status_code in ANSWERS


@given(
    method=st.sampled_from(["GET", "PUT", "POST"]), path=st.text("/.%2eEF0?&=+# é\0", max_size=9)
)
@quickly
def test_any_path(near: Space, method: str, path: str) -> None:
    for start in (f"/{near.id}/values/", f"/{near.id}/", f"/{near.id}/keys?", "/"):
        assert near.home.ask_raw(method, start + path, b"v").status_code in ANSWERS


@given(
    query=st.dictionaries(st.sampled_from(PARAMETERS), st.integers() | st.text("1-.ae", max_size=5))
)
@quickly
def test_any_query(near: Space, query: dict[str, Any]) -> None:
    assert near.ask("GET", "/keys", params=query).status_code in ANSWERS
    assert near.home.ask("GET", params=query).status_code in ANSWERS
    assert near.value("PUT", "k", data=b"v", params=query).status_code in ANSWERS


@given(body=st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join))
@quickly
def test_any_form(near: Space, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert near.value("PUT", "k", data=body, headers=headers).status_code in ANSWERS


@pytest.mark.usefixtures("collector_rests")
@pytest.mark.parametrize("depth", [100, 500, 900, 950, 980, 1000, 100_000])
def test_any_depth(near: Space, depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    near.put("k", nested)
    read = {"keys": ["k"], "type": "json", "withMetadata": True}
    assert near.ask("POST", "/bulk/get", json=read).status_code in ANSWERS
    body = b'[{"key": "m", "value": "", "metadata": %s}]' % nested
    assert near.ask("PUT", "/bulk", data=body).status_code in ANSWERS
    assert near.ask("GET", "/keys").status_code == 200
    assert near.home.ask("POST", data=b'{"title": %s}' % nested).status_code == 400
