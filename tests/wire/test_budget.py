"""The request allowance: spent first, and never overdrawn."""

from __future__ import annotations

import gc
import signal
import threading
import weakref
from collections.abc import Callable, Mapping
from itertools import count
from time import monotonic
from typing import Any, TypeVar

import pytest
import responses

from kvdict.budget import (
    MAX_PER_SECOND,
    MOST_IN_FLIGHT,
    RateBudget,
    parse_rate_headers,
    shared_budgets,
)
from kvdict.client import Client
from kvdict.emulator import Emulator, Knobs, Store, serve
from kvdict.errors import RateLimitError, TransportError
from kvdict.transport import Request, Transport

from .support import (
    ACCOUNT,
    BASE,
    NS,
    ROOT,
    TOKEN,
    Reply,
    Service,
    Time,
    refused,
    running,
    transport_on,
)

R = TypeVar("R")
URL = f"{BASE}/x"
ASK = Request("GET", "/x")


def told(left: int, seconds: int, limit: int | None = 1200) -> dict[str, str]:
    headers = {"Ratelimit": f'"default";r={left};t={seconds}'}
    if limit is not None:
        headers["Ratelimit-Policy"] = f'"default";q={limit};w=300'
    return headers


def elsewhere(work: Callable[[], R]) -> R:
    """Return what the work returns on another thread."""
    results: list[R] = []
    with running(lambda: results.append(work())):
        pass
    return results[0]


def spend(budget: RateBudget, headers: Mapping[str, str] | None) -> None:
    """Make one request that is answered so."""
    assert budget.acquire(0) is None
    budget.release(headers)


class Window:
    """A service that counts requests in fixed windows and refuses those beyond the limit."""

    def __init__(self, time: Time, limit: int = 1200, seconds: float = 300.0) -> None:
        self.time = time
        self.limit = limit
        self.seconds = seconds
        self.began = time()
        self.used = 0
        self.windows: list[int] = []
        self.refused = 0

    def __call__(self, _request: Any) -> tuple[int, dict[str, str], bytes]:
        if self.time() >= self.began + self.seconds:
            self.windows.append(self.used)
            self.began, self.used = self.time(), 0
        self.used += 1
        left = max(0, self.limit - self.used)
        rest = int(self.began + self.seconds - self.time() + 0.999)
        if self.used > self.limit:
            self.refused += 1
            return 429, told(0, rest, self.limit) | {"Retry-After": str(rest)}, b""
        return 200, told(left, rest, self.limit), b""


@pytest.fixture
def budget(time: Time) -> RateBudget:
    return RateBudget(clock=time, sleep=time.sleep)


def test_a_window_is_spent_to_the_last_five_percent_without_a_429(
    cloudflare: responses.RequestsMock, time: Time
) -> None:
    window = Window(time)
    cloudflare.add_callback("GET", URL, window)
    sending = transport_on(time, max_wait=100)
    for _ in range(1140):
        sending.send(ASK)
    with pytest.raises(RateLimitError):
        sending.send(ASK)
    assert window.used == 1140
    assert window.refused == 0
    assert sending.budget.remaining == 60
    assert sum(time.slept) < 1140 / MAX_PER_SECOND + 1


def test_a_wait_for_allowance_is_told(budget: RateBudget, caplog: pytest.LogCaptureFixture) -> None:
    spend(budget, told(0, 200))
    caplog.set_level("INFO", "kvdict")
    assert budget.acquire(300) is None
    assert budget.in_flight == 1
    assert caplog.messages == ["the request allowance is spent; waiting 200 s for more"]


@pytest.mark.parametrize(("seconds", "is_told"), [(1.0, False), (1.5, True)])
def test_a_wait_of_a_second_is_not_told(
    budget: RateBudget, caplog: pytest.LogCaptureFixture, seconds: float, is_told: bool
) -> None:
    caplog.set_level("INFO", "kvdict")
    budget.block(seconds)
    assert budget.acquire(10) is None
    assert bool(caplog.messages) == is_told


def test_window_after_window_is_spent_with_one_wait_for_each(
    cloudflare: responses.RequestsMock, time: Time
) -> None:
    window = Window(time, limit=200)
    cloudflare.add_callback("GET", URL, window)
    sending = transport_on(time)
    for _ in range(700):
        sending.send(ASK)
    assert window.windows == [190, 190, 190]
    assert window.refused == 0
    assert sending.retries == 0
    assert len([seconds for seconds in time.slept if seconds > 1]) == 3


@pytest.mark.parametrize("threads", [1, 8])
def test_an_emulator_that_enforces_its_limit_never_has_to(time: Time, threads: int) -> None:
    knobs = Knobs(rate_limit=(400, 300), clock=time.wall)
    store = Store(None)
    emulator = Emulator(store, token=TOKEN, knobs=knobs)
    refusals: list[RateLimitError] = []
    with serve(emulator) as server:
        sending = transport_on(time, base_url=server.url, max_wait=5)
        client = Client(sending, ACCOUNT)

        def ask() -> None:
            try:
                while True:
                    client.list_namespaces()
            except RateLimitError as error:
                refusals.append(error)

        with running(*[ask] * threads):
            pass
        sending.close()
    store.close()
    assert emulator.count == 380
    assert sending.retries == 0
    assert len(refusals) == threads
    for error in refusals:
        assert "not sent" in str(error)


def test_until_the_first_answer_one_request_is_under_way(budget: RateBudget) -> None:
    assert budget.acquire(0) is None
    assert elsewhere(lambda: budget.acquire(0)) == 0
    budget.release(told(1199, 300))
    assert elsewhere(lambda: budget.acquire(0)) is None
    assert elsewhere(lambda: budget.acquire(0)) is None


def test_an_answer_wakes_those_who_wait_for_the_first_one(budget: RateBudget) -> None:
    assert budget.acquire(0) is None
    waited: list[float | None] = []
    with running(*[lambda: waited.append(budget.acquire(1))] * 4):
        assert waited == []
        budget.release(told(1199, 300))
    assert waited == [None] * 4


def test_a_first_request_without_an_answer_lets_the_next_one_go(budget: RateBudget) -> None:
    assert budget.acquire(0) is None
    waited: list[float | None] = []
    with running(lambda: waited.append(budget.acquire(15))):
        budget.release(None)
    assert waited == [None]
    assert elsewhere(lambda: budget.acquire(0)) == 0


def test_who_waits_for_an_answer_rests_and_then_gives_up() -> None:
    asked = count()

    def clock() -> float:
        next(asked)
        return monotonic()

    budget = RateBudget(clock=clock)
    assert budget.acquire(0) is None
    assert elsewhere(lambda: budget.acquire(0.1)) == 0
    assert next(asked) < 100


def test_a_new_window_begins_with_one_request_too(budget: RateBudget, time: Time) -> None:
    spend(budget, told(1199, 300))
    time.now += 300
    assert budget.acquire(0) is None
    assert elsewhere(lambda: budget.acquire(0)) == 0
    budget.release(told(1199, 300))
    assert elsewhere(lambda: budget.acquire(0)) is None


def test_nobody_waits_while_allowance_is_left(budget: RateBudget, time: Time) -> None:
    spend(budget, told(100, 300))
    for _ in range(40):
        assert elsewhere(lambda: budget.acquire(0)) is None
    assert time.slept == []
    assert elsewhere(lambda: budget.acquire(0)) == 0


@pytest.mark.parametrize("headers", [told(1200, 300), {}])
def test_a_crowd_has_no_more_requests_under_way_than_connections_are_kept(
    budget: RateBudget, headers: dict[str, str]
) -> None:
    spend(budget, headers)
    for _ in range(MOST_IN_FLIGHT):
        assert elsewhere(lambda: budget.acquire(0)) is None
    assert elsewhere(lambda: budget.acquire(0)) == 0
    budget.release(headers)
    assert elsewhere(lambda: budget.acquire(0)) is None
    assert elsewhere(lambda: budget.acquire(0)) == 0


def test_a_request_within_another_needs_no_place_in_the_crowd(budget: RateBudget) -> None:
    """Else a crowd whose tokens are asked for on the way would wait for itself."""
    spend(budget, told(1200, 300))
    assert budget.acquire(0) is None
    for _ in range(MOST_IN_FLIGHT - 1):
        assert elsewhere(lambda: budget.acquire(0)) is None
    assert elsewhere(lambda: budget.acquire(0)) == 0
    assert budget.acquire(0) is None


def test_who_may_not_wait_for_answers_to_others_is_told_of_those(time: Time) -> None:
    transport = transport_on(time)
    assert elsewhere(lambda: transport.budget.acquire(0)) is None
    with pytest.raises(TransportError, match="not sent: requests before it have not been answ"):
        transport.send(ASK, max_wait=0)
    assert transport.requests == 0
    transport.budget.release(None)
    assert transport.budget.in_flight == 0


def test_requests_under_way_count_as_spent(budget: RateBudget) -> None:
    spend(budget, told(62, 300))
    assert elsewhere(lambda: budget.acquire(0)) is None
    assert budget.remaining == 61
    assert elsewhere(lambda: budget.acquire(0)) is None
    assert elsewhere(lambda: budget.acquire(0)) == 0
    budget.release(told(61, 300))
    assert budget.remaining == 60


def test_never_less_than_nothing_is_left(budget: RateBudget) -> None:
    spend(budget, told(2, 300, 10))
    assert budget.acquire(0) is None
    assert budget.acquire(0) is None
    budget.release(told(0, 300, 10))
    assert budget.remaining == 0
    assert budget.in_flight == 1


def test_a_thread_waits_for_the_answers_of_others_and_not_for_its_own(budget: RateBudget) -> None:
    spend(budget, told(62, 300))
    assert elsewhere(lambda: budget.acquire(0)) is None
    assert budget.acquire(0) is None
    assert budget.acquire(0) == 0, "the other's answer may tell of more"
    budget.release(told(61, 300))
    assert budget.acquire(0) == 0
    budget.release(told(60, 300))
    assert budget.acquire(0) == 300, "nothing is under way that could tell of more"


def test_an_answer_to_another_thread_s_request_may_be_taken_in_here(budget: RateBudget) -> None:
    assert elsewhere(lambda: budget.acquire(0)) is None
    budget.release(told(61, 300))
    assert budget.acquire(0) is None
    assert budget.acquire(0) == 300
    budget.release(None)
    budget.release(None)
    assert budget.in_flight == 0


def test_a_request_that_was_not_begun_ends_no_other(budget: RateBudget) -> None:
    assert budget.acquire(0, "begun") is None
    budget.release(None, "not begun")
    assert budget.in_flight == 1
    budget.release(None, "begun")
    assert budget.in_flight == 0


def test_when_all_is_spent_the_reset_is_waited_for(budget: RateBudget, time: Time) -> None:
    spend(budget, told(60, 200))
    assert budget.acquire(300) is None
    assert time.slept == [200]


def test_a_wait_beyond_max_wait_is_answered_at_once(budget: RateBudget, time: Time) -> None:
    spend(budget, told(3, 200))
    assert budget.acquire(100) == 200
    assert budget.acquire(199.5) == 200
    assert time.slept == []
    assert budget.acquire(200) is None


def test_an_endless_max_wait_can_be_waited_for(budget: RateBudget) -> None:
    assert budget.acquire(0) is None
    waited: list[float | None] = []
    with running(lambda: waited.append(budget.acquire(float("inf")))):
        budget.release(told(100, 300))
    assert waited == [None]


def test_answers_may_arrive_out_of_order(budget: RateBudget) -> None:
    spend(budget, told(1000, 200))
    for left, seconds in [(990, 200), (995, 200), (998, 201), (991, 199)]:
        budget.acquire(0)
        budget.release(told(left, seconds))
    assert budget.remaining == 990


def test_a_late_answer_of_an_old_window_changes_nothing(budget: RateBudget, time: Time) -> None:
    spend(budget, told(70, 2))
    budget.acquire(0)  # answered late
    time.now += 2.5
    late = threading.get_ident()
    assert late
    budget.release(told(1199, 300))
    budget.acquire(0)
    budget.release(told(69, 1))
    assert budget.remaining == 1199
    assert budget.resets_in == 300


def test_a_new_window_is_noticed_before_the_old_one_should_end(budget: RateBudget) -> None:
    spend(budget, told(70, 100))
    spend(budget, told(1199, 300))
    assert (budget.remaining, budget.resets_in) == (1199, 300)


@pytest.mark.parametrize(
    ("seconds", "left", "meaning"),
    [(102, 90, (90, 102)), (101, 70, (70, 100)), (99, 70, (70, 100)), (98, 70, (80, 100))],
)
def test_answers_of_one_window_may_differ_by_a_second_in_its_end(
    budget: RateBudget, seconds: int, left: int, meaning: tuple[int, float]
) -> None:
    spend(budget, told(80, 100))
    spend(budget, told(left, seconds))
    assert (budget.remaining, budget.resets_in) == meaning


def test_windows_of_a_second_follow_each_other(budget: RateBudget, time: Time) -> None:
    for left in (0, 4, 3):
        spend(budget, told(left, 0, 5))
        assert (budget.remaining, budget.resets_in) == (left, 1)
        time.now += 1


def test_a_service_that_tells_nothing_is_not_metered(budget: RateBudget, time: Time) -> None:
    assert budget.acquire(0) is None
    budget.release({})
    for _ in range(MOST_IN_FLIGHT):
        assert elsewhere(lambda: budget.acquire(0)) is None
    assert (budget.limit, budget.remaining, budget.resets_in) == (None, None, None)
    assert time.slept == []
    budget.release(told(1100, 300))
    assert (budget.limit, budget.remaining) == (1200, 1101 - MOST_IN_FLIGHT)
    budget.release(told(60, 300))
    assert elsewhere(lambda: budget.acquire(0)) == 0


def test_a_local_home_has_no_allowance_whatever_its_answers_tell(time: Time) -> None:
    sending = transport_on(time, adapter=Service(Reply(200, b"v", told(3, 300))))
    for _ in range(200):
        sending.send(ASK)
    assert (sending.budget.limit, sending.budget.in_flight) == (None, 0)
    assert time.slept == []


def test_an_answer_without_headers_does_not_end_the_metering(budget: RateBudget) -> None:
    spend(budget, told(61, 300))
    spend(budget, {})
    spend(budget, None)
    assert budget.remaining == 61
    assert budget.acquire(0) is None
    assert elsewhere(lambda: budget.acquire(0)) == 0


@pytest.mark.parametrize(
    "text",
    ["", "default", '"default"', "r=5", "t=5", '"default";r=;t=5', '"default";r=x;t=y',
     '"default";r=-5;t=10', "r=5,t=10", '"default";r=1.5', "é", '"default";r=5;t=99999999',
     '"default";r=5;t=' + "9" * 5000, '"default";r=' + "9" * 5000 + ";t=5"],
)  # fmt: skip
def test_headers_that_make_no_sense_are_no_headers(
    cloudflare: responses.RequestsMock, time: Time, text: str
) -> None:
    cloudflare.get(URL, headers={"Ratelimit": text, "Ratelimit-Policy": text}, body=b"")
    sending = transport_on(time)
    sending.send(ASK)
    sending.send(ASK)
    assert sending.budget.limit is None
    assert time.slept == []


@pytest.mark.parametrize(
    ("headers", "meaning"),
    [
        (told(50, 30, 100), (50, 30, 100)),
        (told(50, 30, None), (50, 30, None)),
        ({"Ratelimit": '"burst"; r=0; t=0', "Ratelimit-Policy": '"burst"; q=5; w=1'}, (0, 0, 5)),
        ({"Ratelimit": '"a";r=1;t=2, "b";r=3;t=4'}, (1, 2, None)),
        (told(5, 5) | {"Ratelimit-Policy": "q"}, (5, 5, None)),
        (told(5, 86_400), (5, 86_400, 1200)),
        (told(5, 86_401), None),
        ({}, None),
    ],
)
def test_headers_are_read_as_documented(headers: dict[str, str], meaning: Any) -> None:
    assert parse_rate_headers(headers) == meaning


def test_a_limit_that_is_not_told_is_the_most_that_was_left(budget: RateBudget) -> None:
    spend(budget, told(900, 300, None))
    spend(budget, told(899, 300, None))
    assert budget.limit == 900
    nothing = RateBudget()
    spend(nothing, told(0, 300, None))
    assert nothing.limit == 0


def test_a_limit_of_nothing_waits_for_the_reset(budget: RateBudget, time: Time) -> None:
    spend(budget, told(0, 10, 0))
    assert budget.acquire(20) is None
    assert time.slept == [10]


def test_a_429_stops_the_whole_transport(cloudflare: responses.RequestsMock, time: Time) -> None:
    cloudflare.get(
        URL, status=429, body=refused(429, 971).body, headers={"Retry-After": "120"} | told(0, 250)
    )
    cloudflare.get(URL, body=b"v", headers=told(1199, 300))
    cloudflare.get(f"{BASE}/y", body=b"w", headers=told(1198, 300))
    budget = RateBudget(clock=time, sleep=time.sleep)
    one, other = (transport_on(time, budget=budget, max_wait=wait) for wait in (300.0, 60.0))
    with pytest.raises(RateLimitError):
        transport_on(time, budget=budget, max_wait=0).send(ASK)
    with pytest.raises(RateLimitError, match="not sent") as caught:
        other.send(Request("GET", "/y"))
    assert caught.value.retry_after == pytest.approx(120)
    assert one.send(ASK).data == b"v"
    assert time.slept == [120]
    assert other.send(Request("GET", "/y")).data == b"w"


def test_a_429_without_retry_after_waits_a_little(
    cloudflare: responses.RequestsMock, time: Time
) -> None:
    cloudflare.get(URL, status=429, body=b"")
    cloudflare.get(URL, status=429, body=b"")
    cloudflare.get(URL, body=b"v")
    assert transport_on(time).send(ASK).data == b"v"
    assert time.slept == [0.25, 0.5]


def test_a_block_is_not_shortened_by_a_later_one(budget: RateBudget, time: Time) -> None:
    budget.block(100)
    budget.block(5)
    assert budget.acquire(0) == 100
    time.now += 100
    assert budget.acquire(0) is None
    assert elsewhere(lambda: budget.acquire(0)) == 0, "one goes first, as in a new window"


def test_while_a_block_lasts_nothing_is_left_whatever_a_late_answer_tells(
    budget: RateBudget, time: Time
) -> None:
    budget.block(50)
    assert (budget.remaining, budget.resets_in) == (None, None), "no limit was told"
    budget.release(told(900, 50))
    assert (budget.remaining, budget.resets_in) == (0, 50)
    time.now += 50
    spend(budget, told(900, 300))
    budget.block(20)
    assert (budget.remaining, budget.resets_in) == (0, 20)


@pytest.mark.parametrize("headers", [{}, told(100_000, 300, 100_000)])
def test_no_more_than_150_requests_leave_in_a_second(
    budget: RateBudget, time: Time, headers: dict[str, str]
) -> None:
    starts = []
    for _ in range(1000):
        assert budget.acquire(10) is None
        starts.append(time.now)
        budget.release(headers)
    for first, later in zip(starts, starts[150:], strict=False):
        assert later - first >= 1 - 1e-9
    assert time.now - starts[0] == pytest.approx(1000 // 150)


def test_a_request_leaves_a_second_after_the_one_that_many_before_it(time: Time) -> None:
    budget = RateBudget(per_second=2, clock=time, sleep=time.sleep)
    for gap in (0.25, 0, 0, 0):
        assert budget.acquire(2) is None
        budget.release({})
        time.now += gap
    assert time.slept == [0.75, 0.25]


@pytest.mark.parametrize(
    ("host", "is_limited"),
    [("127.0.0.1", False), ("127.1.2.3", False), ("localhost", False), ("[::1]", False),
     ("api.cloudflare.com", True), ("10.127.0.1", True), ("localhost.example", True)],
)  # fmt: skip
def test_loopback_has_no_limit_by_address(host: str, is_limited: bool) -> None:
    budget = Transport(f"http://{host}:8787/client/v4", TOKEN).budget
    waits = []
    for _ in range(3000):
        waits.append(budget.acquire(0))
        if waits[-1] is not None:
            break
        budget.release({})
    assert (waits[-1] is not None) == is_limited


def test_a_transport_s_budget_is_shared_by_base_url_and_token() -> None:
    one = Transport(BASE, TOKEN)
    assert Transport(BASE + "/", TOKEN).budget is one.budget
    assert Transport(BASE, TOKEN + "x").budget is not one.budget
    assert Transport(BASE + "x", TOKEN).budget is not one.budget
    assert Transport(BASE).budget is not one.budget


def test_a_token_callable_shares_its_budget_and_is_not_kept_alive() -> None:
    class Keeper:
        def __init__(self) -> None:
            self.one = Transport(BASE, self.token)
            self.other = Transport(BASE, self.token)

        def token(self) -> str:
            return TOKEN

        def other_token(self) -> str:
            return TOKEN + "x"

    keeper = Keeper()
    assert keeper.one.budget is keeper.other.budget
    assert keeper.one.budget is not Keeper().one.budget
    assert keeper.one.budget is not Transport(BASE, keeper.other_token).budget
    gone = weakref.ref(keeper)
    del keeper
    gc.collect()
    assert gone() is None


def test_a_shared_budget_is_gone_with_its_last_user() -> None:
    budget = shared_budgets.find(BASE, "a-token-of-this-test")
    gone = weakref.ref(budget)
    assert shared_budgets.find(BASE, "a-token-of-this-test") is budget
    del budget
    gc.collect()
    assert gone() is None
    transport = Transport(BASE, "a-token-of-this-test")
    gone = weakref.ref(transport.budget)
    transport.close()
    del transport
    gc.collect()
    assert gone() is None


def test_what_the_budget_says_of_itself_is_true(budget: RateBudget, time: Time) -> None:
    assert repr(budget) == "<RateBudget: the service has told no limit>"
    assert (budget.limit, budget.remaining, budget.resets_in) == (None, None, None)
    spend(budget, told(1000, 200))
    assert (budget.limit, budget.remaining, budget.resets_in) == (1200, 1000, 200)
    budget.acquire(0)
    assert budget.remaining == 999
    time.now += 50
    assert repr(budget) == "<RateBudget: 999 of 1200 left, 150 s to go>"
    for seconds in (150, 10):
        time.now += seconds
        assert (budget.remaining, budget.resets_in) == (1200, 0)


def test_a_request_from_within_a_request_does_not_wait_for_itself(
    cloudflare: responses.RequestsMock, time: Time
) -> None:
    sending = transport_on(time, max_wait=2)

    def answer(_request: Any) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, sending.send(Request("GET", "/inner")).data

    cloudflare.add_callback("GET", URL, answer)
    cloudflare.get(f"{BASE}/inner", body=b"inner", headers=told(1000, 300))
    assert sending.send(ASK).data == b"inner"
    assert sending.budget.remaining == 1000


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
def test_a_signal_handler_may_ask_wherever_it_interrupts(
    cloudflare: responses.RequestsMock,
) -> None:
    """The clock is read under the budget's lock: there the signal comes."""
    signals = count()

    class Interrupting(Time):
        def __call__(self) -> float:
            if threading.current_thread() is threading.main_thread() and next(signals) < 12:
                signal.raise_signal(signal.SIGUSR1)
            return self.now

    time = Interrupting()
    cloudflare.get(f"{BASE}{ROOT}/{NS}/values/k", body=b"v", headers=told(1000, 300))
    client = Client(transport_on(time, max_wait=2), ACCOUNT)
    inner: list[bytes] = []

    def handle(_number: int, _frame: object) -> None:
        inner.append(client.get_value(NS, "k").data)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        assert client.get_value(NS, "k").data == b"v"
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(inner) == 12
    assert client.transport.budget.remaining == 1000


def test_an_interrupt_just_before_a_request_is_sent_leaves_nothing_under_way(time: Time) -> None:
    """Else all other threads would wait for its answer, once the window has ended."""
    sending = transport_on(time, max_wait=2)
    sending.budget._starts = Interrupted()  # type: ignore[assignment]  # taken, and not yet sent
    with pytest.raises(KeyboardInterrupt):
        sending.send(ASK)
    assert sending.budget.in_flight == 0


class Interrupted(list[float]):
    """Raises an interrupt where the request's start is noted."""

    def append(self, _start: float) -> None:
        raise KeyboardInterrupt
