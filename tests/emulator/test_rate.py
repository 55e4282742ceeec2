from __future__ import annotations

from kvdict.emulator.rate import MOST_TOKENS, Rate

from .home import Home, Space


def test_a_served_answer_tells_the_rate_and_an_embedded_one_does_not(
    home: Home, space: Space
) -> None:
    response = space.ask("GET")
    if home.base.startswith("http://kvdict.invalid"):
        assert "Ratelimit" not in response.headers
        return
    assert response.headers["Ratelimit"] == '"default";r=1198;t=300'
    assert response.headers["Ratelimit-Policy"] == '"default";q=1200;w=300'
    home.clock.now += 100.5
    assert space.ask("GET").headers["Ratelimit"] == '"default";r=1197;t=200'
    home.clock.now += 200
    assert space.ask("GET").headers["Ratelimit"] == '"default";r=1199;t=300'


def test_an_allowance_that_is_not_enforced_never_runs_out() -> None:
    rate = Rate()
    left = [rate.count("t", 0.0, 100, 60.0, enforced=False).remaining for _ in range(300)]
    assert left[:80] == list(range(99, 19, -1))
    assert min(left) == 20
    assert not rate.count("t", 0.0, 100, 60.0, enforced=False).exceeded


def test_the_windows_of_many_tokens_are_not_kept_forever() -> None:
    rate = Rate()
    for number in range(MOST_TOKENS + 5):
        rate.count(str(number), 0.0, 10, 60.0)
    assert rate.count("0", 0.0, 10, 60.0).remaining == 9


def test_a_clock_that_is_set_back_opens_a_new_window() -> None:
    rate = Rate()
    rate.count("t", 1000.0, 10, 60.0)
    assert rate.count("t", 10.0, 10, 60.0).remaining == 9
