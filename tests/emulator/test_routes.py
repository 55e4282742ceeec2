from __future__ import annotations

from dataclasses import replace

import pytest

from .home import Home, Space, refusal


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "", "GET, POST"),
        ("POST", "/NS", "GET, PUT, DELETE"),
        ("POST", "/NS/keys", "GET"),
        ("POST", "/NS/values/k", "GET, PUT, DELETE"),
        ("HEAD", "/NS/values/k", "GET, PUT, DELETE"),
        ("PATCH", "/NS/values/k", "GET, PUT, DELETE"),
        ("OPTIONS", "/NS/values/k", "GET, PUT, DELETE"),
        ("PUT", "/NS/metadata/k", "GET"),
        ("GET", "/NS/bulk", "PUT, DELETE"),
        ("DELETE", "/NS/bulk/delete", "POST"),
        ("GET", "/NS/bulk/get", "POST"),
    ],
)
def test_a_wrong_method_is_405(
    home: Home, space: Space, method: str, path: str, allowed: str
) -> None:
    response = home.ask(method, path.replace("NS", space.id))
    assert response.headers["Allow"] == allowed
    if method == "HEAD":
        assert response.status_code == 405
        return
    text = "Method not allowed for this authentication scheme"
    assert refusal(response) == (405, 10405, text)


@pytest.mark.parametrize(
    "path",
    [
        "/NS/nothing",
        "/NS/keys/k",
        "/NS/values",
        "/NS/values/a/b",
        "/NS/values//a",
        "/NS/bulk/put",
        "/NS/",
        "/",
        "/NS/values/a/",
        "/NS/bulk/get/all",
        "x",
    ],
)
def test_a_path_that_names_nothing_is_404(home: Home, space: Space, path: str) -> None:
    space.put("a")
    response = home.ask("GET", path.replace("NS", space.id))
    status, code, text = refusal(response)
    assert (status, code) == (404, 7003)
    assert text.startswith("Could not route to /accounts/")
    assert response.json()["errors"][1] == {"code": 7000, "message": "No route for that URI"}


def test_other_services_are_not_there(home: Home) -> None:
    base = home.base.removesuffix("/client/v4")
    for path in ("/", "/client/v4", "/client/v4/accounts", "/client/v5/accounts/x/storage/kv"):
        assert home.session.get(base + path, timeout=30).status_code == 404


@pytest.mark.parametrize("account", ["x", "A" * 32, "a" * 31, "a" * 33, "a%20"])
def test_a_malformed_account_id_cannot_be_routed(home: Home, account: str) -> None:
    assert refusal(replace(home, account=account).ask("GET"))[:2] == (400, 7003)


@pytest.mark.parametrize("dots", ["..", "%2E%2E", "%2e.", ".%2E"])
def test_dots_leave_the_value_route_and_do_no_harm(home: Home, space: Space, dots: str) -> None:
    space.put("k")
    assert home.ask_raw("DELETE", f"/{space.id}/values/{dots}").status_code == 404
    assert space.names() == ["k"]


@pytest.mark.parametrize("path", ["values/../keys", "./keys", "values/a/%2e./../keys"])
def test_dots_on_the_way_are_resolved(home: Home, space: Space, path: str) -> None:
    space.put("k")
    response = home.ask_raw("GET", f"/{space.id}/{path}")
    assert response.json()["result"] == [{"name": "k"}]


@pytest.mark.parametrize("dot", [".", "%2E", "%2e"])
def test_a_dot_alone_is_no_key(home: Home, space: Space, dot: str) -> None:
    response = home.ask_raw("PUT", f"/{space.id}/values/{dot}", b"v")
    assert refusal(response)[:2] == (400, 10042)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("a%20b", "a b"),
        ("%252F", "%2F"),
        ("%2525", "%25"),
        ("a%2Fb", "a/b"),
        ("a%2fb", "a/b"),
        ("%2F%2Fa", "//a"),
        ("%2E%2E%2Fb", "../b"),
        (".a", ".a"),
        ("...", "..."),
        ("%C3%A9", "é"),
        ("a%00b", "a\0b"),
        ("a;b=c", "a;b=c"),
    ],
)
def test_a_key_is_decoded_once(home: Home, space: Space, path: str, key: str) -> None:
    assert home.ask_raw("PUT", f"/{space.id}/values/{path}", b"v").status_code == 200
    assert space.names() == [key]
    assert home.ask_raw("GET", f"/{space.id}/values/{path}").content == b"v"


@pytest.mark.parametrize("path", ["%FF", "%C3", "%ED%A0%80"])
def test_a_key_that_cannot_be_decoded_is_refused(home: Home, space: Space, path: str) -> None:
    text = "get: 'Could not URL-decode key name'"
    response = home.ask_raw("GET", f"/{space.id}/values/{path}")
    assert refusal(response) == (400, 10042, text)


def test_every_answer_has_a_ray_and_a_date(home: Home, space: Space) -> None:
    responses = [space.ask("GET"), space.value("GET", "k"), home.ask("GET", "/x/y/z")]
    assert len({response.headers["cf-ray"] for response in responses}) == 3
    dates = {response.headers["Date"] for response in responses}
    assert dates == {"Fri, 15 Jan 2027 08:00:00 GMT"}


def test_requests_are_counted_and_logged(home: Home, space: Space) -> None:
    before = home.emulator.count
    space.value("GET", "a/b", params={"x": 1})
    assert home.emulator.count == before + 1
    method, path = home.emulator.requests[-1]
    assert (method, path.rpartition("/namespaces/")[2]) == ("GET", f"{space.id}/values/a%2Fb")
