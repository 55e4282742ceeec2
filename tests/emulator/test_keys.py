from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .home import Home, Space, refusal


def pages(space: Space, **query: Any) -> Iterator[list[str]]:
    cursor = None
    while cursor != "":
        response = space.ask("GET", "/keys", params={**query, "cursor": cursor}).json()
        names = [key["name"] for key in response["result"]]
        assert response["result_info"]["count"] == len(names)
        cursor = response["result_info"]["cursor"]
        yield names


def fill(space: Space, names: list[str]) -> None:
    pairs = [{"key": name, "value": ""} for name in names]
    assert space.ask("PUT", "/bulk", json=pairs).status_code == 200


def test_keys_come_in_the_order_of_their_bytes(space: Space) -> None:
    names = ["B", "a", "aa", "b", "\x00", "a\x00", "é", "e\u0301", "\ufffd", "\N{GRINNING FACE}"]
    fill(space, names)
    assert space.names() == sorted(names, key=str.encode)


def test_a_prefix_is_literal_and_heeds_case(space: Space) -> None:
    fill(space, ["a", "a%", "a_b", "A", "ab", "b", "é", "éa", "a/+ &"])
    assert space.names(prefix="a") == ["a", "a%", "a/+ &", "a_b", "ab"]
    assert space.names(prefix="a%") == ["a%"]
    assert space.names(prefix="a/+ &") == ["a/+ &"]
    assert space.names(prefix="é") == ["é", "éa"]
    assert space.names(prefix="") == space.names()
    assert space.names(prefix="nobody") == []


def test_a_plus_in_a_prefix_is_a_space(home: Home, space: Space) -> None:
    fill(space, ["a b", "a+b"])
    names = home.ask_raw("GET", f"/{space.id}/keys?prefix=a+b").json()["result"]
    assert names == [{"name": "a b"}]


def test_cursors_lead_through_all_keys(space: Space) -> None:
    names = [f"k{number:02}" for number in range(25)]
    fill(space, [*names, "other"])
    assert list(pages(space, limit=10, prefix="k")) == [names[:10], names[10:20], names[20:]]


def test_the_last_page_has_a_blank_cursor_even_if_it_is_full(space: Space) -> None:
    names = [f"k{number:02}" for number in range(20)]
    fill(space, names)
    assert list(pages(space, limit=10)) == [names[:10], names[10:]]


def test_an_empty_namespace_has_one_empty_page(space: Space) -> None:
    response = space.ask("GET", "/keys").json()
    assert response["result"] == []
    assert response["result_info"] == {"count": 0, "cursor": ""}


def test_a_cursor_survives_inserts_and_deletes(space: Space) -> None:
    fill(space, [f"k{number:02}" for number in range(10, 30)])
    walk = pages(space, limit=10)
    assert next(walk)[-1] == "k19"
    for gone in ("k19", "k20", "k10"):
        space.value("DELETE", gone)
    fill(space, ["k00", "k19a", "k25a"])
    assert next(walk) == ["k19a", *(f"k{n}" for n in range(21, 26)), "k25a", "k26", "k27", "k28"]
    assert next(walk) == ["k29"]


def test_a_page_holds_a_thousand_keys_unless_told_otherwise(space: Space) -> None:
    fill(space, [f"k{number:04}" for number in range(1001)])
    assert [len(page) for page in pages(space)] == [1000, 1]
    assert [len(page) for page in pages(space, limit=1000)] == [1000, 1]


@pytest.mark.parametrize(
    ("limit", "bound"),
    [
        ("9", "greater than 9"),
        ("0", "greater than 9"),
        ("-10", "greater than 9"),
        ("x", "greater than 9"),
        ("1001", "less than 1001"),
        ("1" * 30, "greater than 9"),
    ],
)
def test_a_limit_out_of_range_is_refused(space: Space, limit: str, bound: str) -> None:
    text = f"list keys: 'Invalid key_count_limit of {limit}. Please specify an integer {bound}.'"
    assert refusal(space.ask("GET", "/keys", params={"limit": limit})) == (400, 10028, text)


@pytest.mark.parametrize("cursor", ["!", "zzzz", "k", "é", "a3", "a_8", "AAAA"])
def test_a_cursor_of_our_own_making_is_refused(space: Space, cursor: str) -> None:
    response = space.ask("GET", "/keys", params={"cursor": cursor})
    assert refusal(response)[:2] == (400, 10041)


def test_a_prefix_is_as_long_as_a_key_at_most(space: Space) -> None:
    assert space.names(prefix="x" * 512) == []
    text = "list keys: 'UTF-8 encoded length of 513 exceeds key length limit of 512.'"
    response = space.ask("GET", "/keys", params={"prefix": "x" * 513})
    assert refusal(response) == (414, 10030, text)


def test_a_key_shows_its_expiration_and_metadata_if_it_has_them(home: Home, space: Space) -> None:
    pairs = [
        {"key": "a", "value": ""},
        {"key": "b", "value": "", "expiration_ttl": 60},
        {"key": "c", "value": "", "metadata": {"n": 0}},
    ]
    space.ask("PUT", "/bulk", data=json.dumps(pairs))
    assert space.ask("GET", "/keys").json()["result"] == [
        {"name": "a"},
        {"name": "b", "expiration": int(home.clock.now) + 60},
        {"name": "c", "metadata": {"n": 0}},
    ]
