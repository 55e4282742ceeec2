"""The service's clock, from `Date` headers that are cut to seconds."""

from __future__ import annotations

import math
import threading
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdict.clock import RECENT, ServiceClock
from kvdict.writes import Write, expiry_of

from .support import EPOCH, NS, Reply, Seen, Service, Time, client_on, ok, running


class Pair:
    """Our wall clock, and the service's, which is `ahead` of it by so many seconds."""

    def __init__(self, ahead: float = 0.0, start: float = EPOCH) -> None:
        self.time = start
        self.ahead = ahead
        self.clock = ServiceClock(lambda: self.time)

    def ask(self, there: float = 0.05, back: float = 0.05) -> None:
        """Make a request that takes so long each way."""
        sent = self.time
        self.time += there
        date = formatdate(math.floor(self.time + self.ahead), usegmt=True)
        self.time += back
        self.clock.learn(date, sent, self.time)

    @property
    def error(self) -> float:
        return abs(self.clock.now() - (self.time + self.ahead))


latencies = st.floats(0, 30)
requests = st.lists(st.tuples(latencies, latencies, st.floats(0, 100)), min_size=1, max_size=40)


def test_a_clock_that_knows_nothing_is_ours() -> None:
    pair = Pair()
    assert pair.clock.now() == EPOCH
    assert pair.clock.offset == 0


@given(ahead=st.floats(-2, 2), fraction=st.floats(0, 1), asked=requests)
def test_a_clock_that_is_right_is_never_corrected(
    ahead: float, fraction: float, asked: list[tuple[float, float, float]]
) -> None:
    pair = Pair(ahead * 0.999, EPOCH + fraction)
    for there, back, pause in asked:
        pair.ask(there, back)
        assert pair.clock.offset == 0
        pair.time += pause


def test_half_a_second_of_latency_is_no_difference_of_clocks() -> None:
    pair = Pair()
    for step in range(200):
        pair.time += 0.37 * step % 1
        pair.ask(0.25, 0.25)
        assert pair.clock.offset == 0


@given(
    ahead=st.one_of(st.floats(-1e6, -3), st.floats(3, 1e6)),
    fraction=st.floats(0, 1),
    asked=requests,
)
def test_a_correction_is_never_worse_than_half_of_what_one_answer_leaves_open(
    ahead: float, fraction: float, asked: list[tuple[float, float, float]]
) -> None:
    pair = Pair(ahead, EPOCH + fraction)
    for there, back, pause in asked:
        pair.ask(there, back)
        if pair.clock.offset:
            assert pair.error <= (1 + there + back) / 2 + 1e-3
        pair.time += pause


@pytest.mark.parametrize("ahead", [-86_400, -3600, -90, -4, 4, 90, 3600, 86_400])
def test_a_clock_that_is_off_is_corrected_from_the_first_answer(ahead: float) -> None:
    pair = Pair(ahead)
    pair.ask()
    assert pair.error <= 0.6


def test_more_answers_tell_it_better() -> None:
    pair = Pair(3600.4)
    for _ in range(RECENT):
        pair.ask(0.01, 0.01)
        pair.time += 0.73
    assert pair.error < 0.1


def test_answers_that_only_just_agree_tell_it_exactly() -> None:
    clock = ServiceClock(lambda: EPOCH)
    for ahead in (3600, 3601):
        clock.learn(formatdate(EPOCH + ahead, usegmt=True), EPOCH, EPOCH)
    assert clock.offset == 3601


def test_only_the_last_sixteen_answers_tell_it() -> None:
    clock = ServiceClock(lambda: EPOCH)
    date = formatdate(EPOCH + 3600, usegmt=True)
    clock.learn(date, EPOCH, EPOCH)
    for _ in range(15):
        clock.learn(date, EPOCH - 10, EPOCH)
        assert clock.offset == 3600.5
    clock.learn(date, EPOCH - 10, EPOCH)
    assert clock.offset == 3605.5


@pytest.mark.parametrize(("ahead", "offset"), [(2, 0), (3, 3.5), (-3, 0), (-4, -3.5)])
def test_a_clock_that_may_be_within_two_seconds_is_left_alone(ahead: int, offset: float) -> None:
    clock = ServiceClock(lambda: EPOCH)
    clock.learn(formatdate(EPOCH + ahead, usegmt=True), EPOCH, EPOCH)
    assert clock.offset == offset


def test_a_clock_that_is_set_anew_is_learnt_from_the_answers_since() -> None:
    pair = Pair(3600)
    for _ in range(RECENT):
        pair.ask()
    pair.ahead = 7200.4
    for _ in range(RECENT // 2):
        pair.ask(0.01, 0.01)
        pair.time += 0.73
    assert pair.error < 0.15


def test_a_clock_that_is_set_right_is_believed_at_once() -> None:
    pair = Pair(3600)
    for _ in range(RECENT):
        pair.ask()
    pair.time += 3600
    pair.ahead = 0
    pair.ask()
    assert pair.clock.offset == 0


def test_a_clock_that_drifts_is_followed() -> None:
    pair = Pair(10)
    for _ in range(500):
        pair.ask()
        pair.time += 60
        pair.ahead += 0.01
    assert pair.error < 1.2
    assert pair.ahead > 14


@pytest.mark.parametrize(
    "date",
    [None, "", "now", "0", "Mon, 99 Foo 2026 00:00:00 GMT", "Mon, 01 Jan 99999999999 00:00:00 GMT",
     "Mon, 01 Jan 2026 25:00:00 GMT", "Mon, 01 Jan 2026 00:00:00 +9999", "é",
     "Mon, 01 Jan 9999999 00:00:00 GMT", "9" * 5000],
)  # fmt: skip
def test_a_date_that_is_none_is_ignored(date: str | None, time: Time) -> None:
    pair = Pair(3600)
    pair.clock.learn(date, EPOCH, EPOCH)
    assert pair.clock.offset == 0
    headers = {} if date is None else {"Date": date}
    client = client_on(time, adapter=Service(ok(headers=headers)))
    client.delete_value(NS, "k")
    assert client.transport.clock.offset == 0


@pytest.mark.parametrize("stamped", [0, 10], ids=["at its start", "at its end"])
def test_an_answer_that_took_long_says_little_about_the_clock(time: Time, stamped: int) -> None:
    def answer(_seen: Seen) -> Reply:
        date = formatdate(time.wall() + stamped, usegmt=True)
        time.now += 10
        return ok(headers={"Date": date})

    client = client_on(time, adapter=Service(answer))
    client.delete_value(NS, "k")
    assert client.transport.clock.offset == 0


@pytest.mark.parametrize("zone", ["GMT", "+0000", "-0000", "UTC", ""])
def test_a_date_is_read_as_utc_wherever_we_are(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        clock = ServiceClock(lambda: EPOCH)
        clock.learn(formatdate(EPOCH, usegmt=True).replace("GMT", zone).strip(), EPOCH, EPOCH)
        assert clock.offset == 0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_date_of_another_zone_is_understood() -> None:
    clock = ServiceClock(lambda: EPOCH)
    clock.learn(formatdate(EPOCH + 9 * 3600, usegmt=True).replace("GMT", "+0900"), EPOCH, EPOCH)
    assert clock.offset == 0


def test_the_same_date_again_is_another_bound() -> None:
    pair = Pair(3600)
    for _ in range(3):
        pair.ask(0, 0)
        pair.time += 0.3
    assert pair.error <= 0.3


def test_threads_may_learn_at_once() -> None:
    clock = ServiceClock(lambda: EPOCH)

    def learn(shift: int) -> None:
        for step in range(500):
            moment = EPOCH + shift + step % 2
            clock.learn(formatdate(moment, usegmt=True), moment - 3600, moment - 3600)

    with running(*[lambda shift=shift: learn(shift) for shift in range(4)]) as threads:
        assert threading.active_count() >= len(threads[:1])
    assert 3590 < clock.offset < 3610


def test_limits_and_expiries_go_by_the_service_s_clock(time: Time) -> None:
    date = formatdate(EPOCH + 7200, usegmt=True)
    service = Service(ok(headers={"Date": date}))
    client = client_on(time, adapter=service)
    client.delete_value(NS, "k")
    now = client.transport.clock.now()
    assert now == pytest.approx(EPOCH + 7200.5)
    moment = int(now) + 3600
    client.put_value(NS, Write("k", b"", expiry_of("k", now, None, moment)))
    assert service.seen[-1].query == f"expiration={moment}"


def test_the_clock_learns_from_refusals_too(time: Time) -> None:
    from kvdict.errors import APIError

    from .support import refused

    headers = {"Date": formatdate(EPOCH - 500, usegmt=True)}
    client = client_on(time, adapter=Service(refused(400, 10033, headers=headers)))
    with pytest.raises(APIError):
        client.delete_value(NS, "k")
    assert client.transport.clock.offset == pytest.approx(-499.5)
