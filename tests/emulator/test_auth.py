from __future__ import annotations

import pytest

from .home import Home, refusal


@pytest.fixture
def token() -> str:
    return "se-cr_et.1"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_token_opens(home: Home, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} se-cr_et.1"}
    assert home.ask("GET", headers=headers).status_code == 200


def test_no_credentials_are_told_what_is_missing(home: Home) -> None:
    text = "Missing X-Auth-Key, X-Auth-Email or Authorization headers"
    assert refusal(home.ask("GET")) == (400, 9106, text)
    assert refusal(home.ask("GET", headers={"X-Auth-Key": "k"})) == (400, 9106, text)
    assert refusal(home.ask("GET", "/any/path/at/all")) == (400, 9106, text)


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer a b", "Basic abc", "se-cr_et.1", 'Bearer "x"']
)
def test_a_malformed_header_is_told_so(home: Home, header: str) -> None:
    response = home.ask("GET", headers={"Authorization": header})
    assert refusal(response) == (400, 6003, "Invalid request headers")
    chain = response.json()["errors"][0]["error_chain"]
    assert chain == [{"code": 6111, "message": "Invalid format for Authorization header"}]


def test_another_token_is_refused(home: Home) -> None:
    response = home.ask("GET", headers={"Authorization": "Bearer other"})
    assert refusal(response) == (401, 10000, "Authentication error")


def test_a_global_key_is_unknown_here(home: Home) -> None:
    response = home.ask("GET", headers={"X-Auth-Key": "k", "X-Auth-Email": "a@example.com"})
    assert refusal(response) == (403, 9103, "Unknown X-Auth-Key or X-Auth-Email")
