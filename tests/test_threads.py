"""What happens between two requests: each race, one interleaving at a time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

import kvdict
from tests.conftest import Opener
from tests.world import World, wait_until


class Pause:
    """Holds the first request of a kind up until it is told to go on."""

    def __init__(self, method: str, ending: str) -> None:
        self._method, self._ending = method, ending
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, method: str, url: str) -> None:
        if method == self._method and url.endswith(self._ending) and not self.reached.is_set():
            self.reached.set()
            assert self.go_on.wait(30)


@pytest.fixture
def background() -> Iterator[Callable[[Callable[[], Any]], threading.Thread]]:
    """Return how to run a call beside the test; what it raised fails the test."""
    started: list[threading.Thread] = []
    raised: list[BaseException] = []

    def start(call: Callable[[], Any]) -> threading.Thread:
        def run() -> None:
            try:
                call()
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        started.append(thread)
        thread.start()
        return thread

    yield start
    for thread in started:
        thread.join(30)
        assert not thread.is_alive()
    assert raised == []


def test_a_write_waits_for_a_pop_of_its_key_and_is_not_lost(background: Any) -> None:
    pause = Pause("DELETE", "/values/k")
    world = World(before=pause)
    world.kv["k"] = "old"
    popped: list[Any] = []
    background(lambda: popped.append(world.kv.pop("k")))
    assert pause.reached.wait(30)
    writer = background(lambda: world.kv.put("k", "new"))
    assert writer.is_alive()
    pause.go_on.set()
    writer.join(30)
    assert popped == ["old"]
    assert world.kv["k"] == "new"
    world.kv.close()


def test_nobody_who_reads_waits_for_a_write_and_no_other_key_does(background: Any) -> None:
    pause = Pause("PUT", "/values/slow")
    world = World(before=pause)
    world.kv.update({"slow": "before", "other": 0})
    background(lambda: world.kv.put("slow", "after"))
    assert pause.reached.wait(30)
    assert world.kv["slow"] == "before"
    world.kv["other"] = 1
    assert world.kv.pop("other") == 1
    assert dict(world.kv.items()) == {"slow": "before"}
    pause.go_on.set()


def test_two_threads_that_set_a_default_agree_on_one(background: Any) -> None:
    pause = Pause("PUT", "/values/k")
    world = World(before=pause)
    got: list[Any] = []
    background(lambda: got.append(world.kv.setdefault("k", "first")))
    assert pause.reached.wait(30)
    second = background(lambda: got.append(world.kv.setdefault("k", "second")))
    pause.go_on.set()
    second.join(30)
    assert got == ["first", "first"]


def test_what_is_written_while_a_default_waits_for_room_stays() -> None:
    """It does not settle: once it was sent, the buffer knows no more of it."""

    def fail(method: str, _url: str) -> None:
        if method == "PUT":
            raise requests.ConnectionError("no route")

    def write(_error: Exception) -> None:
        condition: Any = world.kv.buffer.changed
        wait_until(lambda: condition._waiters)
        world.kv["k"] = "written"  # a callback finds room
        world.adapter.before = None
        world.pass_time(1000)

    options = {"max_items": 1, "max_pending": 1, "settle": 0, "key_interval": 0}
    world = World(buffer={**options, "on_error": write}, before=fail)
    world.kv["other"] = 1
    assert world.kv.setdefault("k", "default") == "written"
    world.kv.close()


def test_a_default_is_decided_anew_when_what_was_known_of_the_key_is_no_more() -> None:
    class Slow:
        """A codec that takes more time than anything settles."""

        def dumps(self, value: str) -> str:
            if value == "default":
                world.pass_time(61)
                world.put_elsewhere("k", "theirs")
            return value

        def loads(self, data: bytes) -> str:
            return data.decode()

    world = World(buffer={"settle": 60, "max_age": 1e9}, codec=Slow())
    world.kv.delete("k")
    world.kv.flush()
    assert world.kv.setdefault("k", "default") == "theirs"
    assert world.kv.stats()["pending"] == 0
    world.kv.close()


def test_views_of_a_namespace_take_turns_too(background: Any) -> None:
    pause = Pause("PUT", "/values/user%3Ak")
    world = World(before=pause)
    view = world.kv.prefixed("user:").using("text")
    background(lambda: view.setdefault("k", "first"))
    assert pause.reached.wait(30)
    got: list[Any] = []
    second = background(lambda: got.append(world.kv.using("text").setdefault("user:k", "second")))
    pause.go_on.set()
    second.join(30)
    assert got == ["first"]


def test_a_key_deleted_by_others_between_list_and_pop_is_passed_over() -> None:
    world = World()
    world.kv.update({"a": 1, "b": 2})
    adapter = world.adapter

    def delete_a(method: str, url: str) -> None:
        if url.endswith("/values/a"):
            adapter.before = None
            world.kv.client.delete_value(world.kv.id, "a")

    adapter.before = delete_a
    assert world.kv.popitem() == ("b", 2)
    with pytest.raises(KeyError):
        world.kv.popitem()


def test_pairs_deleted_by_others_while_they_are_read_are_left_out() -> None:
    world = World()
    world.kv.update({f"{number:03}": number for number in range(250)})
    adapter = world.adapter

    def delete_some(method: str, url: str) -> None:
        if url.endswith("/bulk/get"):
            adapter.before = None
            world.kv.client.bulk_delete(world.kv.id, ["000", "120"])

    adapter.before = delete_some
    assert len(dict(world.kv.items())) == 248


def test_each_of_many_threads_pops_another_item(open_kv: Opener, background: Any) -> None:
    kv = open_kv()
    kv.update({f"{number:02}": number for number in range(24)})
    taken: list[Any] = []
    threads = [background(lambda: taken.extend(kv.popitem() for _ in range(3))) for _ in range(8)]
    for thread in threads:
        thread.join(60)
    assert sorted(taken) == [(f"{number:02}", number) for number in range(24)]
    assert not kv


def test_32_threads_on_one_namespace_do_not_disturb_each_other(
    kv: kvdict.KVNamespace[Any], background: Any
) -> None:
    def work(number: int) -> None:
        mine = kv.prefixed(f"{number:02}:")
        for turn in range(3):
            mine.update({str(key): [number, turn, key] for key in range(5)})
            assert dict(mine.items()) == {str(key): [number, turn, key] for key in range(5)}
            mine["0"] = turn
            assert mine["0"] == turn
        mine.clear()

    threads = [background(lambda number=number: work(number)) for number in range(32)]
    for thread in threads:
        thread.join(60)
    assert len(kv) == 0


def test_a_signal_handler_may_write_to_the_key_that_is_being_written() -> None:
    seen: list[str] = []

    def interrupt(method: str, url: str) -> None:
        if method == "PUT" and not seen:
            seen.append(url)
            signal.raise_signal(signal.SIGUSR1)

    world = World(before=interrupt)
    before = signal.signal(signal.SIGUSR1, lambda *_: world.kv.put("k", "by the handler"))
    try:
        world.kv["k"] = "by the program"
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert world.kv["k"] == "by the program"


def test_an_interrupted_write_leaves_its_turn_to_others() -> None:
    def interrupt(method: str, url: str) -> None:
        world.adapter.before = None
        raise KeyboardInterrupt

    world = World()
    world.adapter.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        world.kv["k"] = 1
    world.kv["k"] = 2
    assert world.kv["k"] == 2


def test_len_in_another_thread_does_not_hand_its_keys_to_this_ones_iterator(
    background: Any,
) -> None:
    world = World()
    world.kv.update(a=1, b=2)
    iterator = iter(world.kv)
    background(lambda: len(world.kv)).join(30)
    before = world.kv.stats()["requests"]
    assert list(iterator) == ["a", "b"]
    assert world.kv.stats()["requests"] == before + 1
