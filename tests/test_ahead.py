"""Loops that read the listed keys one by one: served in bulk, and never wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kvdict
from kvdict import ahead
from kvdict.codecs import BYTES, TEXT
from kvdict.emulator.knobs import Fault
from tests.test_cache import BEHIND, THROUGH, once
from tests.world import World

Make = Callable[..., World]
CACHED: dict[str, Any] = {"ttl": 1000}


class Clock:
    """What the readers ahead tell the time by."""

    now = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(
        "kvdict.mapping.ReadAhead",
        lambda prefix, listing, reads: ahead.ReadAhead(prefix, listing, reads, lambda: clock.now),
    )
    return clock


@pytest.fixture
def make() -> Iterator[Make]:
    """Return how to make worlds that hold so many pairs, put there elsewhere."""
    worlds = []

    def make_world(count: int = 0, buffer: dict[str, Any] | None = None, **options: Any) -> World:
        world = World(buffer=THROUGH if buffer is None else buffer, **options)
        worlds.append(world)
        world.fill({f"{number:05}": str(number).encode() for number in range(count)})
        return world

    yield make_world
    for world in worlds:
        world.adapter.before = world.adapter.after = None
        world.kv.buffer.pending.clear()
        world.kv.close()


def spent(world: World, call: Callable[[], Any]) -> float:
    before = world.requests
    call()
    return world.requests - before


def loop(kv: Any) -> dict[str, Any]:
    return {key: kv[key] for key in kv}


WAYS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "for": loop,
    "dict": lambda kv: dict(kv),
    "unpacking": lambda kv: {**kv},
    "keys": lambda kv: {key: kv[key] for key in kv.keys()},  # noqa: SIM118 - keys() is what is tried
    "list": lambda kv: {key: kv[key] for key in list(kv)},
    "get": lambda kv: {key: kv.get(key) for key in kv},
}


class TestCosts:
    @pytest.mark.parametrize("cache", [None, CACHED], ids=["plain", "cached"])
    @pytest.mark.parametrize("way", WAYS)
    def test_a_loop_over_5000_keys_takes_70_requests_at_most(
        self, make: Make, way: str, cache: Any
    ) -> None:
        world = make(5000, cache=cache)
        seen: dict[str, Any] = {}
        assert spent(world, lambda: seen.update(WAYS[way](world.kv))) <= 70
        assert seen == {f"{number:05}": number for number in range(5000)}
        if cache:
            assert spent(world, lambda: WAYS[way](world.kv)) == 5

    def test_few_keys_cost_no_more_than_one_by_one(self, make: Make) -> None:
        for count in range(8):
            world = make(count)
            assert spent(world, lambda: loop(world.kv)) <= count + 1  # noqa: B023 - it is called at once
        assert spent(make(2000), lambda: None) == 0

    def test_the_counts_are_true(self, make: Make) -> None:
        world = make(1000)
        requests = spent(world, lambda: loop(world.kv))
        stats = world.kv.stats()
        assert stats["requests_saved"] == stats["read_ahead"] == 1000 - (requests - 1)

    def test_it_can_be_turned_off(self, make: Make) -> None:
        world = make(100, read_ahead=False)
        assert spent(world, lambda: loop(world.kv)) == 101
        with kvdict.open("memory://", read_ahead=False) as kv:
            kv.update(dict.fromkeys("abcdefgh", 1))
            before = kv.stats()["requests"]
            loop(kv)
            assert kv.stats()["requests"] - before == 9

    @pytest.mark.parametrize("step", [2, 3, 7])
    def test_sparse_reads_cost_nothing_extra(self, make: Make, step: int) -> None:
        world = make(700)
        keys = list(world.kv)
        assert spent(world, lambda: [world.kv[key] for key in keys[::step]]) == len(keys[::step])
        assert world.kv.stats()["read_ahead"] == 0

    def test_random_reads_cost_nothing_extra(self, make: Make) -> None:
        world = make(500)
        keys = [f"{number * 37 % 500:05}" for number in range(500)]
        list(world.kv)
        assert spent(world, lambda: [world.kv[key] for key in keys]) == 500
        assert spent(world, lambda: [world.kv[key] for key in reversed(list(world.kv))]) == 501
        assert spent(world, lambda: [world.kv["00001"] for _ in range(10)]) == 10

    def test_keys_that_no_listing_named_are_read_by_themselves(self, make: Make) -> None:
        world = make(100)
        assert spent(world, lambda: [world.kv[f"{n:05}"] for n in range(50)]) == 50

    def test_a_loop_that_reads_every_key_twice_reads_ahead_too(self, make: Make) -> None:
        world = make(1000, cache=CACHED)
        assert spent(world, lambda: [(world.kv[key], world.kv[key]) for key in world.kv]) <= 20

    def test_more_than_20_pages_that_were_listed_before(self, make: Make) -> None:
        world = make(23_000)
        seen: dict[str, Any] = {}
        most = 23 + 23 + 23 * 12 + 10  # listed, some of it twice; a rest at the end of each page
        assert spent(world, lambda: seen.update(WAYS["list"](world.kv))) <= most
        assert len(seen) == 23_000

    def test_views_have_loops_of_their_own(self, make: Make) -> None:
        world = make()
        world.fill({f"{prefix}:{number:04}": b"1" for prefix in "ab" for number in range(1000)})
        view = world.kv.prefixed("a:")
        assert spent(world, lambda: loop(view)) <= 20
        assert spent(world, lambda: loop(world.kv.prefixed("b:").using("text"))) <= 20

    def test_known_keys_in_between_do_not_end_it(self, make: Make) -> None:
        world = make(1000, buffer=BEHIND)
        for number in range(0, 1000, 10):
            world.kv[f"{number:05}"] = "own"
        seen: dict[str, Any] = {}
        assert spent(world, lambda: seen.update(loop(world.kv))) <= 20
        assert [seen["00010"], seen["00011"]] == ["own", 11]


class TestValues:
    def test_values_that_are_not_text_are_read_one_by_one(self, make: Make) -> None:
        world = make(codec=BYTES)
        pairs = {f"{number:03}": bytes([255, number]) for number in range(100)}
        world.kv.update(pairs)
        seen: dict[str, Any] = {}
        assert spent(world, lambda: seen.update(loop(world.kv))) == 101
        assert seen == pairs

    def test_one_of_them_among_text_ends_it_at_the_cost_of_one_request(self, make: Make) -> None:
        world = make(codec=BYTES)
        pairs = {f"{number:03}": b"text" for number in range(100)}
        pairs["050"] = b"\xff"
        world.kv.update(pairs)
        seen: dict[str, Any] = {}
        assert spent(world, lambda: seen.update(loop(world.kv))) <= 102
        assert seen == pairs

    def test_a_text_that_holds_what_stands_for_bytes_is_read_right(self, make: Make) -> None:
        world = make(codec=TEXT)
        pairs = {f"{number:03}": "a\ufffdb" if number % 7 == 0 else "c" for number in range(50)}
        world.kv.update(pairs)
        assert loop(world.kv) == pairs

    @pytest.mark.parametrize("size", [1_500_000, 9_000_000])
    def test_huge_values_are_bounded_in_bytes(self, make: Make, size: int) -> None:
        world = make(codec=TEXT)
        world.fill({f"{number:02}": b"x" * size for number in range(20)})
        held = 0
        sizes: list[int] = []

        def look() -> None:
            nonlocal held
            for key in world.kv:
                sizes.append(len(world.kv[key]))
                trail = world.kv._waiting.trail
                values = trail._values.values() if trail else ()
                held = max(held, sum(len(entry.value) for entry in values if entry))

        assert spent(world, look) <= 22
        assert sizes == [size] * 20
        assert held <= max(ahead.MAX_BYTES, 3 * size if size < 2_000_000 else 18_000_000)

    def test_after_large_values_small_ones_are_read_ahead_again(self, make: Make) -> None:
        world = make(1000, codec=TEXT)
        world.fill({f"{number:05}": b"x" * 9_000_000 for number in range(10)})
        assert spent(world, lambda: loop(world.kv)) <= 35

    def test_what_is_too_large_for_a_bulk_read_comes_by_itself(self, make: Make) -> None:
        world = make(codec=TEXT)
        world.fill({f"{number:02}": b"x" for number in range(4)})
        world.fill({f"{number:02}": b"x" * 20_000_000 for number in range(4, 12)})
        assert spent(world, lambda: loop(world.kv)) <= 15

    def test_an_error_of_a_bulk_read_is_no_error_of_the_loop(self, make: Make) -> None:
        world = make(100)
        world.kv.client.transport.max_wait = 0
        failed = []

        def fail(method: str, _url: str) -> None:
            if method == "POST":
                failed.append(1)
                world.knobs.planned.append(Fault("500"))

        world.adapter.before = fail
        assert len(loop(world.kv)) == 100
        assert failed == [1]


class TestAge:
    def test_it_is_used_for_5_s_at_most(self, make: Make, clock: Clock) -> None:
        world = make(1000)
        for key in world.kv:
            if key == "00500":
                world.fill({f"{number:05}": b'"new"' for number in range(500, 1000)})
                clock.now += 5
            if key >= "00500":
                assert world.kv[key] == "new"
            else:
                world.kv[key]

    def test_it_is_used_once(self, make: Make, clock: Clock) -> None:
        world = make(100)
        for key in world.kv:
            world.kv[key]
            world.fill({key: b'"new"'})
            assert world.kv[key] == "new"

    def test_what_is_over_is_not_served(self, make: Make, clock: Clock) -> None:
        world = make()
        for number in range(100):
            world.put_elsewhere(f"{number:02}", number, ttl=60)
        seen = []
        for position, key in enumerate(world.kv):
            if position == 10:
                world.pass_time(60)
            seen.append(world.kv.get(key))
        assert seen == [*range(10), *[None] * 90]

    def test_in_the_cache_its_ttl_counts_from_when_it_was_read(
        self, make: Make, clock: Clock
    ) -> None:
        world = make(20, cache={"ttl": 60})
        for key in world.kv:
            if key == "00005":  # which was read with 00003, as 00006 was
                clock.now += 4
                world.pass_time(4)
            world.kv[key]
        world.fill({f"{number:05}": b'"new"' for number in range(20)})
        world.pass_time(57)
        assert [world.kv[f"{number:05}"] for number in range(5, 8)] == ["new", "new", 7]


class TestWrites:
    @pytest.mark.parametrize("buffer", [THROUGH, BEHIND], ids=["through", "behind"])
    @pytest.mark.parametrize("cache", [None, CACHED], ids=["plain", "cached"])
    def test_the_loop_body_may_write_and_delete(self, make: Make, buffer: Any, cache: Any) -> None:
        world = make(300, buffer=buffer, cache=cache)
        kv = world.kv
        for key in kv:
            number = int(key)
            value = kv[key]
            assert value == ("new" if number > 100 and number % 3 == 0 else number)
            if number % 2:
                del kv[key]
                assert key not in kv
            else:
                kv[key] = -number
                assert kv[key] == -number
            if number == 100:
                kv.update({f"{other:05}": "new" for other in range(102, 300, 3)})
            if number == 200:
                kv.delete_many(["00202", "00204"])
        assert "00202" not in kv
        assert kv["00000"] == 0
        assert kv["00002"] == -2

    @pytest.mark.parametrize("buffer", [THROUGH, BEHIND], ids=["through", "behind"])
    @pytest.mark.parametrize("cache", [None, CACHED], ids=["plain", "cached"])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_write_of_another_thread_while_it_reads_ahead_wins(
        self, make: Make, buffer: Any, cache: Any, when: str
    ) -> None:
        world = make(50, buffer=buffer, cache=cache)

        def write() -> None:
            thread = threading.Thread(
                target=lambda: world.kv.update({"00003": "new", "00004": "new", "00006": "new"})
            )
            thread.start()
            thread.join(10)
            world.kv["00005"] = "new"

        once(world, when, write, "POST")
        seen = loop(world.kv)
        assert [seen[f"{number:05}"] for number in range(4, 7)] == ["new"] * 3
        assert world.kv["00003"] == "new"

    def test_a_write_begun_before_it_reads_ahead_wins_when_it_is_accepted(self, make: Make) -> None:
        world = make(50)
        begun, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            go_on.wait(10)

        once(world, "before", wait, "PUT")
        thread = threading.Thread(target=lambda: world.kv.put("00006", "new"))
        thread.start()
        begun.wait(10)
        for key in world.kv:
            if key == "00005":
                go_on.set()
                thread.join(10)
            assert world.kv[key] == ("new" if key == "00006" else int(key))

    def test_refresh_drops_it(self, make: Make) -> None:
        world = make(100)
        for key in world.kv:
            if key == "00050":
                world.put_elsewhere(key, "new")
                world.kv.refresh(key)
                assert world.kv[key] == "new"
            else:
                world.kv[key]

    def test_threads_have_loops_of_their_own(self, make: Make) -> None:
        world = make(1000)
        seen: list[Any] = []
        threads = [threading.Thread(target=lambda: seen.append(loop(world.kv))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [len(one) for one in seen] == [1000] * 4
        assert world.requests <= 1 + 4 * 20

    def test_loops_of_the_past_are_told_of_writes_no_more(self, make: Make) -> None:
        world = make(20)
        for _ in range(10):
            loop(world.kv)
        alive = [known for known in world.kv.buffer.listeners if known() is not None]
        assert len(alive) == 1
        assert len(world.kv.buffer.listeners) <= 2
