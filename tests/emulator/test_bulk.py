from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import requests

from .home import Home, Space, refusal


def put(space: Space, *pairs: Any) -> requests.Response:
    return space.ask("PUT", "/bulk", json=list(pairs))


def get(space: Space, *keys: str, **more: Any) -> requests.Response:
    return space.ask("POST", "/bulk/get", json={"keys": keys, **more})


def outcome(response: requests.Response) -> tuple[int, list[str]]:
    assert response.status_code == 200, response.text
    result = response.json()["result"]
    return result["successful_key_count"], result["unsuccessful_keys"]


def test_pairs_are_written_with_all_they_have(home: Home, space: Space) -> None:
    response = put(
        space,
        {"key": "a", "value": "text \N{SNOWMAN}"},
        {"key": "b", "value": "/wA=", "base64": True, "metadata": 0},
        {"key": "c", "value": "", "expiration_ttl": 60, "expiration": 1, "strange": "field"},
        {"key": "d", "value": "d", "expiration": home.clock.now + 60.5, "metadata": None},
    )
    assert outcome(response) == (4, [])
    now = int(home.clock.now)
    assert space.value("GET", "a").content == "text \N{SNOWMAN}".encode()
    assert space.value("GET", "b").content == b"\xff\x00"
    assert space.ask("GET", "/keys").json()["result"] == [
        {"name": "a"},
        {"name": "b", "metadata": 0},
        {"name": "c", "expiration": now + 60},
        {"name": "d", "expiration": now + 60},
    ]


def test_an_empty_array_is_fine(space: Space) -> None:
    assert outcome(put(space)) == (0, [])
    assert outcome(space.ask("POST", "/bulk/delete", json=[])) == (0, [])


@pytest.mark.parametrize(
    ("pair", "status", "code"),
    [
        ({"key": "", "value": ""}, 400, 10042),
        ({"key": "..", "value": ""}, 400, 10042),
        ({"key": "\ud800", "value": ""}, 400, 10042),
        ({"key": "x" * 513, "value": ""}, 414, 10030),
        ({"key": "k", "value": "", "expiration_ttl": 59}, 400, 10034),
        ({"key": "k", "value": "", "expiration": 59}, 400, 10033),
        ({"key": "k", "value": "", "expiration": True}, 400, 10033),
        ({"key": "k", "value": "", "expiration_ttl": 10**400}, 400, 10034),
        ({"key": "k", "value": "", "expiration_ttl": "60"}, 400, 10012),
        ({"key": "k", "value": "", "base64": "yes"}, 400, 10012),
        ({"key": "k", "value": "", "metadata": "x" * 1023}, 413, 10047),
        ({"key": "k", "value": 1}, 400, 10012),
        ({"key": 1, "value": "1"}, 400, 10012),
        ({"key": "k", "value": None}, 400, 10012),
        ({"key": "k"}, 400, 10012),
        ({"value": "v"}, 400, 10012),
        ({"key": "k", "value": "\udc80"}, 400, 10012),
        ("k", 400, 10012),
        (None, 400, 10012),
    ],
)
def test_one_invalid_pair_refuses_the_whole_request(
    space: Space, pair: Any, status: int, code: int
) -> None:
    response = put(space, {"key": "good", "value": "v"}, pair)
    assert refusal(response)[:2] == (status, code)
    assert space.names() == []


def test_metadata_beyond_json_is_refused(space: Space) -> None:
    body = '[{"key": "k", "value": "v", "metadata": 1e999}]'
    assert refusal(space.ask("PUT", "/bulk", data=body))[:2] == (400, 10147)


@pytest.mark.parametrize(
    ("value", "at"), [("abc!defg", 3), ("abcdef", 6), ("a===", 1), ("ab==cd==", 2)]
)
def test_bad_base64_is_told_with_its_place(space: Space, value: str, at: int) -> None:
    text = (
        'bulk put: \'could not base64 decode value for key: "k",'
        f" err: 'illegal base64 data at input byte {at}''"
    )
    response = put(space, {"key": "k", "value": value, "base64": True})
    assert refusal(response) == (400, 10012, text)


def test_a_value_is_measured_after_decoding(space: Space) -> None:
    largest = base64.b64encode(bytes(25 * 1024 * 1024)).decode()
    assert outcome(put(space, {"key": "k", "value": largest, "base64": True})) == (1, [])
    larger = base64.b64encode(bytes(25 * 1024 * 1024 + 1)).decode()
    response = put(space, {"key": "k", "value": larger, "base64": True})
    assert refusal(response)[:2] == (413, 10024)


@pytest.mark.usefixtures("collector_rests")
@pytest.mark.parametrize("body", [b"", b"{", b"{}", b'"a"', b"null", b"\xff", b"[" * 5000])
def test_a_body_that_is_no_array_is_refused(space: Space, body: bytes) -> None:
    for method, path in (("PUT", "/bulk"), ("DELETE", "/bulk"), ("POST", "/bulk/delete")):
        status, code, text = refusal(space.ask(method, path, data=body))
        assert (status, code) == (400, 10012)
        assert "could not parse array of" in text


def test_an_identical_pair_counts_once_and_a_different_one_is_refused(space: Space) -> None:
    pair = {"key": "k", "value": "v"}
    assert outcome(put(space, pair, pair)) == (1, [])
    text = (
        "bulk put: 'received duplicate key with different values or expiration parameters: \"k\"'"
    )
    assert refusal(put(space, pair, {"key": "k", "value": "w"})) == (400, 10012, text)
    assert refusal(put(space, pair, {**pair, "expiration_ttl": 60})) == (400, 10012, text)
    assert space.value("GET", "k").content == b"v"


def test_ten_thousand_items_are_the_most(space: Space) -> None:
    pairs = [{"key": f"k{number}", "value": ""} for number in range(10_000)]
    assert outcome(put(space, *pairs)) == (10_000, [])
    response = put(space, *pairs, {"key": "k", "value": ""})
    assert refusal(response)[:2] == (400, 10020)
    keys = [pair["key"] for pair in pairs]
    assert outcome(space.ask("POST", "/bulk/delete", json=keys)) == (10_000, [])
    response = space.ask("POST", "/bulk/delete", json=[*keys, "k"])
    assert refusal(response)[:2] == (400, 10020)


def test_a_body_of_more_than_100_mb_meets_the_gateways_page(home: Home, space: Space) -> None:
    body = b"[" + b" " * 100_000_000
    response = space.ask("PUT", "/bulk", data=body)
    assert response.status_code == 413
    assert response.headers["Content-Type"].startswith("text/html")
    assert b"413 Request Entity Too Large" in response.content
    assert space.names() == []


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/bulk"), ("POST", "/bulk/delete")])
def test_keys_are_deleted_whether_they_are_there_or_not(
    space: Space, method: str, path: str
) -> None:
    put(space, {"key": "a", "value": ""}, {"key": "b", "value": ""}, {"key": "c", "value": ""})
    assert outcome(space.ask(method, path, json=["a", "c", "nobody", "a"])) == (3, [])
    assert space.names() == ["b"]


@pytest.mark.parametrize(
    ("keys", "status", "code"),
    [([1], 400, 10012), ([None], 400, 10012), (["."], 400, 10042), (["x" * 513], 414, 10030)],
)
def test_one_invalid_key_refuses_the_whole_deletion(
    space: Space, keys: list[Any], status: int, code: int
) -> None:
    space.put("a")
    response = space.ask("POST", "/bulk/delete", json=["a", *keys])
    assert refusal(response)[:2] == (status, code)
    assert space.names() == ["a"]


def test_values_are_read_as_text(space: Space) -> None:
    put(space, {"key": "a", "value": "\ufeff\x00\r\n\N{SNOWMAN}"}, {"key": "b", "value": ""})
    values = get(space, "a", "b", "missing", "a").json()["result"]["values"]
    assert values == {"a": "\ufeff\x00\r\n\N{SNOWMAN}", "b": "", "missing": None}


def test_values_are_read_as_json(space: Space) -> None:
    put(space, {"key": "a", "value": '{"n": 9007199254740993}'}, {"key": "b", "value": "null"})
    values = get(space, "a", "b", "c", type="json").json()["result"]["values"]
    assert values == {"a": {"n": 9007199254740993}, "b": None, "c": None}


def test_values_are_read_with_their_metadata(home: Home, space: Space) -> None:
    put(
        space,
        {"key": "a", "value": "1", "metadata": False, "expiration_ttl": 60},
        {"key": "b", "value": "2"},
    )
    ends = int(home.clock.now) + 60
    values = get(space, "a", "b", "c", withMetadata=True).json()["result"]["values"]
    assert values == {
        "a": {"value": "1", "metadata": False, "expiration": ends},
        "b": {"value": "2", "metadata": None},
        "c": None,
    }
    home.clock.now = ends
    assert get(space, "a").json()["result"]["values"] == {"a": None}


@pytest.mark.parametrize(
    ("form", "value", "what"),
    [
        ("text", b"\xff", "non-text"),
        ("json", b"\xff", "non-json"),
        ("json", b"{", "non-json"),
        ("json", b"NaN", "non-json"),
        ("json", b"1e999", "non-json"),
    ],
)
def test_one_unreadable_value_refuses_the_whole_request(
    space: Space, form: str, value: bytes, what: str
) -> None:
    space.put("good", b"1")
    space.put("bad", value)
    text = f"bulk get keys: 'At least one of the requested keys corresponds to a {what} value'"
    assert refusal(get(space, "good", "bad", type=form)) == (400, 10029, text)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"keys": []}, 400, "You must request a minimum of 1 key"),
        ({"keys": ["k"] * 101}, 400, "bulk get keys: 'You can request a maximum of 100 keys'"),
        (
            {"keys": ["k"], "type": "xml"},
            400,
            'bulk get keys: \'"xml" is not a valid type. Use "json" or "text"\'',
        ),
        ({"keys": ["a", "."]}, 400, "bulk get keys: 'Key name . is not legal'"),
        ({"keys": [""]}, 400, "bulk get keys: 'Key name  is not legal'"),
        ({"keys": ["x" * 513]}, 414, "bulk get keys: 'Encoded length of 513 is too long'"),
        ({"keys": [1]}, 400, "bulk get keys: 'keys must be an array of strings'"),
        ({}, 400, "bulk get keys: 'keys must be an array of strings'"),
        (["a"], 400, "bulk get keys: 'the request body must be an object with keys'"),
    ],
)
def test_an_unreasonable_wish_is_refused(space: Space, body: Any, status: int, text: str) -> None:
    code = 10030 if status == 414 else 10029
    response = space.ask("POST", "/bulk/get", data=json.dumps(body))
    assert refusal(response) == (status, code, text)


def test_a_hundred_keys_are_the_most(space: Space) -> None:
    assert get(space, *(f"k{number}" for number in range(100))).status_code == 200


def test_more_than_25_mb_at_once_is_too_much(space: Space) -> None:
    half = b"x" * 12_500_000
    space.put("a", half)
    space.put("b", half)
    assert get(space, "a", "b").status_code == 200
    space.put("c", b"x")
    text = "bulk get keys: 'Total size of request exceeds the limit of 25MB'"
    assert refusal(get(space, "a", "b", "c")) == (413, 10024, text)
