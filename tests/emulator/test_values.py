from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from .home import DONE, Home, Space, refusal

KEYS = (
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=512)
    .filter(lambda key: key not in (".", ".."))
    .filter(lambda key: len(key.encode()) <= 512)
)
MIB = 1024 * 1024


@given(key=KEYS)
@example("a/b")
@example("/a//b/")
@example("%")
@example("%2F")
@example("%2E%2E")
@example("...")
@example("../..")
@example("./x")
@example("a+b c")
@example("?#&=;:@!$'()*,")
@example("\x00\n\r\t\x7f\x1f")
@example("é" * 256)
@example("\N{GRINNING FACE}\ufeff\u2028")
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_key_comes_back(space: Space, key: str) -> None:
    data = key.encode()
    space.put(key, data)
    assert space.value("GET", key).content == data
    assert key in space.names(prefix=key)
    assert space.value("DELETE", key).json() == DONE
    assert space.value("GET", key).status_code == 404


def test_a_value_is_returned_as_it_is(space: Space) -> None:
    data = bytes(range(256)) * 3
    space.put("k", data)
    response = space.value("GET", "k")
    assert response.content == data
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert "expiration" not in response.headers


def test_a_value_may_be_empty(space: Space) -> None:
    space.put("k", b"")
    response = space.value("GET", "k")
    assert (response.status_code, response.content) == (200, b"")


def test_a_value_that_looks_like_an_envelope_is_a_value(space: Space) -> None:
    data = b'{"success": false, "errors": [{"code": 1}]}'
    space.value("PUT", "k", data=data, headers={"Content-Type": "application/json"})
    assert space.value("GET", "k").content == data


def test_a_missing_key_is_404(space: Space) -> None:
    assert refusal(space.value("GET", "k")) == (404, 10009, "get: 'key not found'")
    metadata = space.ask("GET", "/metadata/k")
    assert refusal(metadata) == (404, 10009, "metadata: 'key not found'")


def test_deleting_a_missing_key_is_fine(space: Space) -> None:
    assert space.value("DELETE", "k").json() == DONE


def test_a_value_of_25_mib_is_the_largest(space: Space) -> None:
    data = b"x" * (25 * MIB)
    space.put("k", data)
    assert space.value("GET", "k").content == data
    text = "put: 'Value length of 26214401 exceeds limit of 26214400.'"
    assert refusal(space.value("PUT", "k", data=data + b"x")) == (413, 10024, text)


def test_a_form_holds_a_value_of_25_mib_too(space: Space) -> None:
    data = b"\r\n--" * (25 * MIB // 4)
    form = {"value": ("upload", data), "metadata": (None, "{}")}
    assert space.value("PUT", "k", files=form).json() == DONE
    assert space.value("GET", "k").content == data
    form["value"] = ("upload", data + b"x")
    assert refusal(space.value("PUT", "k", files=form))[:2] == (413, 10024)


@pytest.mark.parametrize("name", ["upload", None, "blob"])
@pytest.mark.parametrize("kind", ["application/json", "text/plain", None])
def test_a_form_sets_value_and_metadata(space: Space, name: str | None, kind: str | None) -> None:
    value = (name, b"\x00v\xff", "application/octet-stream")
    metadata = (None, '{"a": [0]}', kind) if kind else (None, '{"a": [0]}')
    response = space.value("PUT", "k", files={"value": value, "metadata": metadata})
    assert response.json() == DONE
    assert space.value("GET", "k").content == b"\x00v\xff"
    assert space.ask("GET", "/metadata/k").json()["result"] == {"a": [0]}


def test_a_form_may_do_without_metadata(space: Space) -> None:
    assert space.value("PUT", "k", files={"value": ("upload", b"v")}).json() == DONE
    assert space.ask("GET", "/metadata/k").json() == DONE


def test_a_form_needs_a_value(space: Space) -> None:
    response = space.value("PUT", "k", files={"metadata": (None, "1")})
    assert refusal(response)[:2] == (400, 10012)


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data", "multipart/form-data; boundary=x", 'Multipart/Form-Data; boundary=""'],
)
def test_a_form_that_is_none_is_refused(space: Space, kind: str) -> None:
    response = space.value("PUT", "k", data=b"v", headers={"Content-Type": kind})
    assert refusal(response)[:2] == (400, 10012)


@pytest.mark.parametrize("metadata", [0, False, "", [], {}, "text", 1.5, {"a": None}, "\ud800"])
def test_metadata_is_any_json(space: Space, metadata: Any) -> None:
    form = {"value": ("upload", b"v"), "metadata": (None, json.dumps(metadata))}
    assert space.value("PUT", "k", files=form).json() == DONE
    assert space.ask("GET", "/metadata/k").json()["result"] == metadata
    assert space.ask("GET", "/keys").json()["result"] == [{"name": "k", "metadata": metadata}]


def test_metadata_null_is_none(space: Space) -> None:
    space.value("PUT", "k", files={"value": ("upload", b"v"), "metadata": (None, "null")})
    assert space.ask("GET", "/metadata/k").json() == DONE
    assert space.ask("GET", "/keys").json()["result"] == [{"name": "k"}]


@pytest.mark.usefixtures("collector_rests")
@pytest.mark.parametrize("metadata", [b"", b"hi", b"{", b"NaN", b"1e999", b"\xff", b"[" * 1000])
def test_metadata_that_is_not_json_is_refused(space: Space, metadata: bytes) -> None:
    form = {"value": ("upload", b"v"), "metadata": (None, metadata)}
    text = "put: 'metadata must be valid json'"
    assert refusal(space.value("PUT", "k", files=form)) == (400, 10147, text)
    assert space.names() == []


def test_metadata_has_1024_bytes_at_most(space: Space) -> None:
    form = {"value": ("upload", b"v"), "metadata": (None, json.dumps("x" * 1022))}
    assert space.value("PUT", "k", files=form).json() == DONE
    form["metadata"] = (None, json.dumps("x" * 1023))
    text = "put: 'Metadata length of 1025 exceeds limit of 1024.'"
    assert refusal(space.value("PUT", "k", files=form)) == (413, 10047, text)


def test_a_pair_vanishes_when_its_time_to_live_is_over(home: Home, space: Space) -> None:
    space.put("k", expiration_ttl=60)
    ends = int(home.clock.now) + 60
    assert space.value("GET", "k").headers["expiration"] == str(ends)
    assert space.ask("GET", "/keys").json()["result"] == [{"name": "k", "expiration": ends}]
    home.clock.now = ends - 0.001
    assert space.value("GET", "k").status_code == 200
    home.clock.now = ends
    assert refusal(space.value("GET", "k"))[:2] == (404, 10009)
    assert refusal(space.ask("GET", "/metadata/k"))[:2] == (404, 10009)
    assert space.names() == []


def test_an_expiration_is_an_absolute_time(home: Home, space: Space) -> None:
    ends = int(home.clock.now) + 60
    space.put("k", expiration=ends)
    assert space.value("GET", "k").headers["expiration"] == str(ends)


def test_the_time_to_live_wins_over_the_expiration(home: Home, space: Space) -> None:
    space.put("k", expiration=1, expiration_ttl=70)
    assert space.value("GET", "k").headers["expiration"] == str(int(home.clock.now) + 70)


def test_an_overwrite_clears_expiry_and_metadata(space: Space) -> None:
    form = {"value": ("upload", b"v"), "metadata": (None, "1")}
    space.value("PUT", "k", files=form, params={"expiration_ttl": 60})
    space.put("k")
    assert space.ask("GET", "/keys").json()["result"] == [{"name": "k"}]


@pytest.mark.parametrize(
    ("ttl", "problem"),
    [
        ("59", "Expiration TTL must be at least 60."),
        ("30", "Expiration TTL must be at least 60."),
        ("0", "Please specify integer greater than 0."),
        ("-1", "Please specify integer greater than 0."),
        ("soon", "Please specify integer greater than 0."),
        ("nan", "Please specify integer greater than 0."),
        ("9" * 400, "Please specify integer greater than 0."),
    ],
)
def test_a_time_to_live_out_of_range_is_refused(space: Space, ttl: str, problem: str) -> None:
    response = space.value("PUT", "k", data=b"v", params={"expiration_ttl": ttl})
    text = f"put: 'Invalid expiration_ttl of {ttl}. {problem}'"
    assert refusal(response) == (400, 10034, text)


@pytest.mark.parametrize(
    ("ahead", "problem"),
    [
        (0, "Please specify integer greater than the current number of seconds since"),
        (-5, "Please specify integer greater than the current number of seconds since"),
        (59, "Expiration times must be at least 60 seconds in the future."),
        (10**12, "Please specify integer greater than the current number of seconds since"),
    ],
)
def test_an_expiration_out_of_range_is_refused(
    home: Home, space: Space, ahead: int, problem: str
) -> None:
    moment = int(home.clock.now) + ahead
    response = space.value("PUT", "k", data=b"v", params={"expiration": moment})
    status, code, text = refusal(response)
    assert (status, code) == (400, 10033)
    assert text.startswith(f"put: 'Invalid expiration of {moment}. {problem}")


def test_a_key_of_513_bytes_is_too_long(space: Space) -> None:
    text = "put: 'UTF-8 encoded length of 514 exceeds key length limit of 512.'"
    assert refusal(space.value("PUT", "é" * 257, data=b"v")) == (414, 10030, text)


def test_an_empty_key_is_refused(space: Space) -> None:
    text = "get: 'Key names must not be empty'"
    assert refusal(space.ask("GET", "/values/")) == (400, 10042, text)


def test_the_query_is_decoded_as_utf_8_or_refused(home: Home, space: Space) -> None:
    assert home.ask_raw("GET", f"/{space.id}/keys?prefix=%FF").status_code == 400
