from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvdict.emulator import Store

from .home import DONE, Home, Space, refusal

UNKNOWN = "f" * 32


def titles(home: Home, **query: Any) -> list[str]:
    response = home.ask("GET", params=query)
    assert response.status_code == 200, response.text
    return [namespace["title"] for namespace in response.json()["result"]]


def test_a_created_namespace_has_an_id_of_32_hex_digits(home: Home) -> None:
    response = home.ask("POST", json={"title": "links"})
    namespace = response.json()["result"]
    assert response.status_code == 200
    assert namespace == {"id": namespace["id"], "title": "links", "supports_url_encoding": True}
    assert len(namespace["id"]) == 32
    assert int(namespace["id"], 16) > 0
    assert home.ask("GET", f"/{namespace['id']}").json()["result"] == namespace


def test_a_jurisdiction_given_at_creation_stays(home: Home) -> None:
    created = home.ask("POST", json={"title": "links", "jurisdiction": "eu"}).json()["result"]
    assert created["jurisdiction"] == "eu"
    assert home.ask("GET", f"/{created['id']}").json()["result"]["jurisdiction"] == "eu"


def test_a_title_is_taken_once_in_an_account(home: Home) -> None:
    home.create("links")
    text = "a namespace with this account ID and title already exists"
    assert refusal(home.ask("POST", json={"title": "links"})) == (400, 10014, text)
    replace(home, account="b" * 32).create("links")


@pytest.mark.parametrize("body", [{}, {"title": ""}, {"title": None}])
def test_a_namespace_needs_a_title(home: Home, space: Space, body: Any) -> None:
    text = "request is missing a title definition"
    assert refusal(home.ask("POST", json=body)) == (400, 10019, text)
    assert refusal(space.ask("PUT", json=body)) == (400, 10019, text)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"title": 1}',
        b'{"title": "\\ud800"}',
        b"\xff",
        b'{"title": NaN}',
        b'{"title": "x", "jurisdiction": "moon"}',
        b'{"title": "%s"}' % (b"x" * 513),
    ],
)
def test_a_malformed_body_is_refused(home: Home, body: bytes) -> None:
    assert refusal(home.ask("POST", data=body))[:2] == (400, 10010)


def test_a_title_of_512_characters_is_the_longest(home: Home) -> None:
    home.create("é" * 512)


def test_a_rename_returns_the_namespace_and_keeps_its_pairs(home: Home, space: Space) -> None:
    space.put("k", b"v")
    response = space.ask("PUT", json={"title": "renamed"})
    assert response.json()["result"]["title"] == "renamed"
    assert titles(home) == ["renamed"]
    assert space.value("GET", "k").content == b"v"


def test_a_rename_to_its_own_title_is_fine_and_to_anothers_is_not(home: Home, space: Space) -> None:
    home.create("other")
    assert space.ask("PUT", json={"title": "links"}).status_code == 200
    assert refusal(space.ask("PUT", json={"title": "other"}))[:2] == (400, 10014)


def test_deleting_a_namespace_takes_its_keys_along(home: Home, space: Space) -> None:
    space.put("k")
    assert space.ask("DELETE").json() == DONE
    text = "get: 'namespace not found'"
    assert refusal(space.value("GET", "k")) == (404, 10013, text)
    assert home.create("links").names() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "operation"),
    [
        ("GET", "", None, "get namespace"),
        ("PUT", "", {"title": "x"}, "rename namespace"),
        ("DELETE", "", None, "remove namespace"),
        ("GET", "/keys", None, "list keys"),
        ("GET", "/values/k", None, "get"),
        ("PUT", "/values/k", "v", "put"),
        ("DELETE", "/values/k", None, "remove key"),
        ("GET", "/metadata/k", None, "metadata"),
        ("PUT", "/bulk", [], "bulk put"),
        ("DELETE", "/bulk", [], "bulk remove keys"),
        ("POST", "/bulk/delete", ["k"], "bulk remove keys"),
        ("POST", "/bulk/get", {"keys": ["k"]}, "bulk get keys"),
    ],
)
def test_every_route_tells_a_missing_namespace(
    home: Home, method: str, path: str, body: Any, operation: str
) -> None:
    response = home.ask(method, f"/{UNKNOWN}{path}", json=body)
    assert refusal(response) == (404, 10013, f"{operation}: 'namespace not found'")


def test_a_namespace_of_another_account_is_missing(home: Home, space: Space) -> None:
    stranger = replace(home, account="b" * 32)
    assert refusal(stranger.ask("GET", f"/{space.id}"))[:2] == (404, 10013)
    assert titles(stranger) == []


@pytest.mark.parametrize(
    ("malformed", "problem"),
    [("abc", "invalid UUID length: 3"), ("g" * 32, f"invalid namespace format: {'g' * 32}")],
)
def test_a_malformed_namespace_id_is_told_from_a_missing_one(
    home: Home, malformed: str, problem: str
) -> None:
    text = f"could not parse UUID from request's namespace_id: '{problem}'"
    assert refusal(home.ask("GET", f"/{malformed}/keys")) == (400, 10011, text)


def test_namespaces_come_by_id_unless_told_otherwise(home: Home) -> None:
    ids = {title: home.create(title).id for title in ("b", "c", "a")}
    by_id = sorted(ids, key=lambda title: ids[title])
    assert titles(home) == by_id
    assert titles(home, direction="desc") == by_id[::-1]
    assert titles(home, order="title") == ["a", "b", "c"]
    assert titles(home, order="title", direction="desc") == ["c", "b", "a"]


def test_a_page_tells_where_it_stands(home: Home) -> None:
    for number in range(5):
        home.create(f"n{number}")
    query = {"order": "title", "per_page": 2, "page": 3}
    response = home.ask("GET", params=query).json()
    assert [namespace["title"] for namespace in response["result"]] == ["n4"]
    expected = {"page": 3, "per_page": 2, "count": 1, "total_count": 5, "total_pages": 3}
    assert response["result_info"] == expected
    assert titles(home, per_page=2, page=4) == []
    assert titles(home, page=10**17) == []


def test_a_page_holds_twenty_unless_told_otherwise(home: Home) -> None:
    for number in range(21):
        home.create(f"n{number:02}")
    assert len(titles(home)) == 20
    assert len(titles(home, per_page=1000)) == 21


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("page", "0", 10007),
        ("page", "x", 10007),
        ("page", "-1", 10007),
        ("per_page", "0", 10008),
        ("per_page", "1001", 10008),
        ("per_page", "1.5", 10008),
        ("order", "size", 10043),
        ("direction", "up", 10044),
    ],
)
def test_parameters_out_of_range_are_refused(home: Home, name: str, value: str, code: int) -> None:
    assert refusal(home.ask("GET", params={name: value}))[:2] == (400, code)


def test_an_account_has_a_thousand_namespaces_at_most(home: Home) -> None:
    store: Store = home.emulator.store
    for number in range(999):
        store.create(home.account, f"n{number}", most=1000)
    home.create("the last")
    assert refusal(home.ask("POST", json={"title": "one too many"}))[:2] == (400, 10018)
