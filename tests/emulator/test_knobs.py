from __future__ import annotations

import pytest
import requests

from kvdict.emulator import Fault, Knobs

from .home import Clock, Home, Space, refusal


@pytest.fixture
def knobs() -> Knobs:
    return Knobs()


def read(space: Space, key: str = "k") -> str | None:
    """Read a key in each way there is; all agree."""
    response = space.value("GET", key)
    value = response.text if response.status_code == 200 else None
    bulk = space.ask("POST", "/bulk/get", json={"keys": [key]})
    assert bulk.json()["result"]["values"] == {key: value}
    assert (space.ask("GET", f"/metadata/{key}").status_code == 200) is (value is not None)
    return value


def test_knobs_at_rest_change_nothing(space: Space) -> None:
    assert read(space) is None
    space.put("k", b"v")
    assert read(space) == "v"
    assert space.names() == ["k"]


def test_a_write_is_read_late(home: Home, space: Space, knobs: Knobs) -> None:
    knobs.stale_reads = 10
    space.put("k", b"1")
    assert read(space) is None
    assert space.names() == ["k"]
    home.clock.now += 10
    assert read(space) == "1"
    space.put("k", b"2")
    home.clock.now += 5
    space.value("DELETE", "k")
    assert read(space) == "1"
    home.clock.now += 5
    assert read(space) == "2"
    home.clock.now += 5
    assert read(space) is None


def test_a_bulk_read_of_the_past_has_the_same_limit(home: Home, space: Space, knobs: Knobs) -> None:
    knobs.stale_reads = 10
    for key in ("a", "b", "c"):
        space.put(key, b"x" * 12_500_000)
    keys = {"keys": ["a", "b", "c"]}
    assert space.ask("POST", "/bulk/get", json=keys).status_code == 200
    home.clock.now += 10
    assert refusal(space.ask("POST", "/bulk/get", json=keys))[:2] == (413, 10024)


def test_a_write_is_listed_late(home: Home, space: Space, knobs: Knobs) -> None:
    space.ask("PUT", "/bulk", json=[{"key": f"k{n:02}", "value": ""} for n in range(12)])
    knobs.list_lag = 10
    space.ask("PUT", "/bulk", json=[{"key": "k005", "value": ""}])
    space.ask("POST", "/bulk/delete", json=["k00", "k11"])
    assert read(space, "k005") == ""
    response = space.ask("GET", "/keys", params={"limit": 10, "prefix": "k"}).json()
    assert [key["name"] for key in response["result"]] == [f"k{n:02}" for n in range(10)]
    cursor = response["result_info"]["cursor"]
    assert space.names(limit=10, cursor=cursor) == ["k10", "k11"]
    home.clock.now += 10
    assert space.names() == ["k005", *(f"k{n:02}" for n in range(1, 11))]


def test_what_has_expired_is_not_served_however_stale(
    home: Home, space: Space, knobs: Knobs
) -> None:
    space.put("k", b"v", expiration_ttl=60)
    knobs.stale_reads = knobs.list_lag = 1000
    space.value("DELETE", "k")
    assert read(space) == "v"
    home.clock.now += 60
    assert read(space) is None
    assert space.names() == []


def test_a_missing_namespace_is_missing_however_stale(space: Space, knobs: Knobs) -> None:
    knobs.stale_reads = 10
    space.put("k")
    space.ask("DELETE")
    assert refusal(space.value("GET", "k"))[:2] == (404, 10013)


def test_a_miss_lingers(home: Home, space: Space, knobs: Knobs) -> None:
    knobs.cache_misses = 30
    assert read(space) is None
    space.put("k", b"v")
    home.clock.now += 29
    assert read(space) is None
    assert space.names() == ["k"]
    home.clock.now += 1
    assert read(space) == "v"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("kind", "status"), [("429", 429), ("500", 500), ("524", 524)])
def test_a_fault_comes_before_or_after_the_act(
    space: Space, knobs: Knobs, kind: str, status: int, after: bool
) -> None:
    knobs.planned.append(Fault(kind, after))  # type: ignore[arg-type]  # one of its kinds
    response = space.value("PUT", "k", data=b"v")
    assert response.status_code == status
    assert space.value("GET", "k").status_code == (200 if after else 404)
    if kind == "524":
        assert response.headers["Content-Type"].startswith("text/html")
    else:
        assert response.json()["success"] is False
    if kind == "429":
        assert response.headers["Retry-After"] == "1"


@pytest.mark.parametrize("after", [False, True])
def test_a_connection_breaks(space: Space, knobs: Knobs, after: bool) -> None:
    knobs.planned.append(Fault("reset", after))
    with pytest.raises(requests.exceptions.ConnectionError):
        space.value("PUT", "k", data=b"v")
    assert space.value("GET", "k").status_code == (200 if after else 404)


def test_a_bulk_write_succeeds_in_part(space: Space, knobs: Knobs) -> None:
    keys = [f"k{number}" for number in range(10)]
    knobs.planned.append(Fault("partial"))
    pairs = [{"key": key, "value": ""} for key in keys]
    result = space.ask("PUT", "/bulk", json=pairs).json()["result"]
    failed = result["unsuccessful_keys"]
    assert result["successful_key_count"] == len(keys) - len(failed) == 5
    assert space.names() == sorted(set(keys) - set(failed))
    knobs.planned.append(Fault("partial"))
    result = space.ask("POST", "/bulk/delete", json=keys).json()["result"]
    assert set(space.names()) <= set(result["unsuccessful_keys"])


def fates(space: Space, knobs: Knobs) -> list[int]:
    knobs.faults, knobs.kinds = 0.5, ["429", "500", "524"]
    statuses = [space.value("GET", "k").status_code for _ in range(100)]
    knobs.faults = 0
    return statuses


def test_a_share_of_requests_meets_a_fault(space: Space, knobs: Knobs) -> None:
    statuses = fates(space, knobs)
    assert 30 < statuses.count(404) < 70
    assert set(statuses) == {404, 429, 500, 524}


def test_a_seed_tells_which(clock: Clock) -> None:
    def drawn(seed: int) -> list[Fault | None]:
        knobs = Knobs(faults=0.5, seed=seed)
        return [knobs.draw() for _ in range(50)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_latency_is_slept(space: Space, knobs: Knobs) -> None:
    slept: list[float] = []
    knobs.sleep, knobs.latency = slept.append, 0.25
    space.put("k")
    assert slept == [0.25]


def test_each_page_may_follow_an_empty_one(space: Space, knobs: Knobs) -> None:
    names = [f"k{number:02}" for number in range(20)]
    space.ask("PUT", "/bulk", json=[{"key": name, "value": ""} for name in names])
    knobs.empty_pages = True
    pages, cursor = [], None
    while cursor != "":
        response = space.ask("GET", "/keys", params={"limit": 10, "cursor": cursor}).json()
        pages.append([key["name"] for key in response["result"]])
        cursor = response["result_info"]["cursor"]
    assert pages == [[], names[:10], [], names[10:]]


def test_an_enforced_limit_blocks_until_its_window_ends(
    home: Home, space: Space, knobs: Knobs
) -> None:
    knobs.rate_limit = (3, 60.0)
    home.clock.now += 1000
    start = home.clock.now
    rates = [space.ask("GET").headers["Ratelimit"] for _ in range(3)]
    assert rates == ['"default";r=2;t=60', '"default";r=1;t=60', '"default";r=0;t=60']
    home.clock.now = start + 45.5
    response = space.ask("GET")
    text = "Please wait and consider throttling your request speed"
    assert refusal(response) == (429, 971, text)
    assert response.headers["Retry-After"] == "15"
    assert response.headers["Ratelimit"] == '"default";r=0;t=15'
    assert response.headers["Ratelimit-Policy"] == '"default";q=3;w=60'
    other = {"Authorization": "Bearer other"}
    assert space.ask("GET", headers=other).status_code == 200
    home.clock.now = start + 60
    assert space.ask("GET").status_code == 200


def test_a_clock_among_the_knobs_is_everybodys() -> None:
    from kvdict.emulator import Emulator, Store

    clock = Clock(7.0)
    store = Store(None)
    Emulator(store, knobs=Knobs(clock=clock))
    assert store.clock() == 7.0
    store.close()
