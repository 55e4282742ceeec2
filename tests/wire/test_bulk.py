"""Many pairs at once: in order, lazily, split where they must be, and none of them lost."""

from __future__ import annotations

import _thread
import functools
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
import requests

import kvdict
from kvdict import chunks
from kvdict import reader as reader_module
from kvdict.emulator import Emulator, EmulatorAdapter, Knobs, Store
from kvdict.errors import APIError, AuthError, FlushError, KVError, LimitError, TransportError
from kvdict.flights import MAX_REQUESTS, Flight, Slots, in_order
from kvdict.models import Entry
from kvdict.phrases import how_many
from kvdict.reader import BulkReader
from kvdict.writer import BulkWriter
from kvdict.writes import Write

from .support import (
    NS,
    Answering,
    Namespace,
    RawServer,
    Reply,
    Seen,
    Service,
    Time,
    client_on,
    keep_answering,
    ok,
    peak_of,
    refused,
    running,
    text_writes,
)

BINARY = b"\xff\xfe"
LONG = 10.0


def writer_on(time: Time, answer: Any, width: int = MAX_REQUESTS, **options: Any) -> BulkWriter:
    return BulkWriter(client_on(time, adapter=Service(answer), **options), NS, Slots(width))


def reader_on(time: Time, answer: Any, width: int = MAX_REQUESTS, **options: Any) -> BulkReader:
    return BulkReader(client_on(time, adapter=Service(answer), **options), NS, Slots(width))


def read(
    reader: BulkReader, keys: Iterable[str], *, details: bool = False, eager: bool = True
) -> list[tuple[str, bytes | None]]:
    found = reader.read(keys, details=details, eager=eager)
    return [(key, entry.value if entry else None) for key, entry in found]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let ten pairs fill a chunk."""
    monkeypatch.setattr(chunks, "MAX_BULK_PAIRS", 10)
    monkeypatch.setattr(chunks, "SMALLEST_CHUNK_PAIRS", 1)
    return 10


class Source:
    """Yields pairs and remembers which were taken; `then` is called after the last."""

    def __init__(self, count: int, then: Callable[[], object] = lambda: None) -> None:
        self.count = count
        self.then = then
        self.taken: list[str] = []

    def __iter__(self) -> Iterator[Write]:
        for write in text_writes(self.count):
            self.taken.append(write.key)
            yield write
        self.then()


def keys_of(seen: Seen) -> list[str]:
    """Return the keys that a bulk write names."""
    return [item["key"] if isinstance(item, dict) else item for item in seen.json]


T = TypeVar("T")


class Taken(Generic[T]):
    """Yields what it was given, and remembers what was taken of it."""

    def __init__(self, items: Iterable[T]) -> None:
        self.items = items
        self.taken: list[T] = []

    def __iter__(self) -> Iterator[T]:
        for item in self.items:
            self.taken.append(item)
            yield item


# Flights


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("width", [1, 2, 8])
def test_results_come_in_the_order_of_the_jobs(eager: bool, width: int) -> None:
    ends = [threading.Event() for _ in range(20)]
    if width == 1:
        for end in ends:
            end.set()

    def work(number: int) -> int:
        if number % width < width - 1:
            ends[number + 1].wait(0.05)  # the later one first, where there is a later one
        ends[number].set()
        return number * number

    results = list(in_order(work, range(19), Slots(width), eager=eager))
    assert results == [number * number for number in range(19)]


def test_a_consumer_that_stops_early_has_paid_for_the_ramp_alone() -> None:
    jobs = Taken(range(1000))
    results = in_order(lambda job: job, jobs, Slots(8), eager=False)
    assert jobs.taken == []
    costs = []
    for _ in range(6):
        next(results)
        costs.append(len(jobs.taken))
    assert costs == [1, 3, 6, 11, 12, 13]


def test_an_eager_consumer_has_all_places_taken_at_once() -> None:
    jobs = Taken(range(99))
    next(in_order(lambda job: job, jobs, Slots(8), eager=True))
    assert len(jobs.taken) == 8


def test_a_local_home_does_one_thing_at_a_time_in_the_caller_s_thread() -> None:
    threads = set()
    for _ in in_order(lambda _: threads.add(threading.get_ident()), range(5), Slots(1), eager=True):
        assert threads == {threading.get_ident()}


def test_an_error_comes_at_its_place_in_the_order() -> None:
    results = in_order(lambda job: 1 // (3 - job), range(10), Slots(8), eager=True)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_no_more_is_under_way_than_there_are_places() -> None:
    slots = Slots(3, max_bytes=100)
    lock = threading.Lock()
    now: list[int] = []
    peaks: list[tuple[int, int]] = []

    def work(size: int) -> None:
        with lock:
            now.append(size)
            peaks.append((len(now), sum(now)))
        with lock:
            now.remove(size)

    sizes = [random.Random(5).randrange(1, 60) for _ in range(200)]
    for flight in [Flight(functools.partial(work, size), slots, size) for size in sizes]:
        flight.result()
    assert max(number for number, _ in peaks) <= 3
    assert max(size for _, size in peaks) <= 100


def test_one_request_may_be_larger_than_all_places_together() -> None:
    slots = Slots(8, max_bytes=10)
    assert Flight(lambda: 5, slots, 1000).result() == 5
    assert Flight(lambda: 6, slots, 1000).result() == 6


def test_work_that_fails_frees_its_place() -> None:
    slots = Slots(2)
    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            Flight(lambda: 1 // 0, slots).result()


def test_without_threads_the_caller_does_the_work(
    time: Time, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    namespace = Namespace()
    writer, reader = writer_on(time, namespace), reader_on(time, namespace)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert writer.put(text_writes(95)) == 95
    assert len(namespace.values) == 95
    assert read(reader, sorted(namespace.values)) == sorted(namespace.values.items())
    assert writer.delete(list(namespace.values)) == 95
    assert namespace.values == {}


EXIT = """
    import atexit, sys
    from kvdict.client import Client
    from kvdict.flights import Slots
    from kvdict.transport import Transport
    from kvdict.writer import BulkWriter
    from kvdict.writes import Write

    url, account, namespace = sys.argv[1:]
    client = Client(Transport(url, "token", max_wait=5), account)
    writer = BulkWriter(client, namespace, Slots(8))
    pairs = [Write(f"k{number}", b"v") for number in range(30_001)]
    atexit.register(lambda: print(writer.put(pairs)))
"""


def test_at_the_interpreter_s_exit_everything_is_still_written() -> None:
    with RawServer(keep_answering(ok({}))) as server:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(EXIT), server.url, "a" * 32, NS],
            env={"PYTHONPATH": str(Path(kvdict.__file__).parents[1])},
            capture_output=True, text=True, timeout=25, check=False,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("30001\n", "")
        assert sum(len(seen.json) for seen in server.requests if seen.method == "PUT"
                   and seen.url.endswith("/bulk")) == 30_000  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_what_a_parent_s_thread_was_doing_a_forked_child_does_itself() -> None:
    script = """
        import os, threading, warnings
        warnings.simplefilter("ignore")
        from kvdict.flights import Flight, Slots
        slots = Slots(2)
        gate = threading.Event()
        parent = os.getpid()
        flight = Flight(lambda: gate.wait(20) if os.getpid() == parent else "child", slots)
        if os.fork() == 0:
            print(flight.result(), flush=True)
            os._exit(0)
        os.wait()
        gate.set()
        print(flight.result())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": str(Path(kvdict.__file__).parents[1])},
        capture_output=True, text=True, timeout=25, check=False,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == (["child", "True"], "")


# Reading


def texts(count: int) -> dict[str, bytes]:
    return {f"k{number:05}": b"value %d" % number for number in range(count)}


@pytest.mark.parametrize("details", [False, True])
@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("width", [1, 8])
def test_values_come_in_the_order_of_the_keys(
    time: Time, details: bool, eager: bool, width: int
) -> None:
    values = texts(730)
    values["k00003"] = BINARY
    values["k00500"] = "\ufffd".encode()
    namespace = Namespace(values)

    def answer(seen: Seen) -> Reply | BaseException:
        reply = namespace(seen)
        if isinstance(reply, Reply) and details and seen.path.endswith("/bulk/get"):
            import json

            told = json.loads(reply.body)
            if told["success"]:
                told["result"]["values"] = {
                    key: value if value is None else {"value": value, "metadata": {"of": key}}
                    for key, value in told["result"]["values"].items()
                }
            reply = Reply(reply.status, json.dumps(told).encode())
        return reply

    keys = [*values, "missing"]
    random.Random(7).shuffle(keys)
    found = read(reader_on(time, answer, width), keys, details=details, eager=eager)
    assert found == [(key, values.get(key)) for key in keys]


def test_a_key_that_is_asked_for_twice_is_told_twice(time: Time) -> None:
    reader = reader_on(time, Namespace({"a": b"1"}))
    assert read(reader, ["a", "b", "a"]) == [("a", b"1"), ("b", None), ("a", b"1")]


def test_no_keys_cost_no_request(time: Time) -> None:
    namespace = Namespace()
    assert read(reader_on(time, namespace), []) == []
    assert writer_on(time, namespace).put([]) == 0
    assert writer_on(time, namespace).delete([]) == 0
    assert namespace.events == []


def test_a_reader_that_stops_early_took_few_keys_from_the_source(time: Time) -> None:
    namespace = Namespace(texts(5000))
    keys = Taken(namespace.values)
    results = reader_on(time, namespace, width=8).read(keys, details=False, eager=False)
    assert keys.taken == []
    for _ in range(100):
        next(results)
    assert (len(keys.taken), namespace.count("POST bulk/get")) == (100, 1)
    next(results)
    assert len(keys.taken) == 300


def test_text_is_read_a_hundred_at_a_time(time: Time) -> None:
    namespace = Namespace(texts(1001))
    assert len(read(reader_on(time, namespace), namespace.values)) == 1001
    assert sorted(namespace.events) == [("GET values", 1)] + [("POST bulk/get", 100)] * 10


def cost(time: Time, values: dict[str, bytes], width: int = 8, **options: Any) -> int:
    """Return the requests that reading the values takes."""
    namespace = Namespace(values, **options)
    assert read(reader_on(time, namespace, width), values) == list(values.items())
    return len(namespace.events)


@pytest.mark.parametrize("width", [1, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 100, 101, 1000])
def test_values_that_are_all_binary_cost_one_request_each_and_a_few(
    time: Time, count: int, width: int
) -> None:
    values = dict.fromkeys(texts(count), BINARY)
    assert cost(time, values, width) <= count + (1 if width == 1 else width)


@pytest.mark.parametrize("place", [0, 1, 2, 50, 98, 99])
def test_one_binary_value_in_a_hundred_costs_a_few_requests(time: Time, place: int) -> None:
    values = texts(100)
    values[f"k{place:05}"] = BINARY
    assert cost(time, values) <= 17


def test_a_few_binary_values_among_many_texts_cost_a_few_requests(time: Time) -> None:
    for places in [(0, 1), (0, 1, 2), (98, 99), (0, 99), (10, 11, 12, 13)]:
        values = texts(100)
        values |= {f"k{place:05}": BINARY for place in places}
        assert cost(time, values) <= 25


def test_a_value_that_no_bulk_read_carries_is_read_by_itself_with_its_metadata(time: Time) -> None:
    namespace = Namespace(texts(3))
    namespace.most_pairs = 0
    namespace.metadata["k00001"] = "m"
    found = reader_on(time, namespace).read([*texts(3), "missing"], details=True, eager=True)
    assert [(key, entry and (entry.value, entry.metadata)) for key, entry in found] == [
        ("k00000", (b"value 0", None)),
        ("k00001", (b"value 1", "m")),
        ("k00002", (b"value 2", None)),
        ("missing", None),
    ]


@pytest.mark.parametrize(
    ("share", "requests"),
    [(0.001, 60), (0.01, 200), (0.05, 720), (0.1, 1200), (0.3, 2200), (0.5, 2400), (0.9, 2150)],
)
def test_finding_the_binary_values_costs_few_requests_whatever_their_share(
    time: Time, share: float, requests: int
) -> None:
    chance = random.Random(3)
    values = {key: BINARY if chance.random() < share else b"text" for key in texts(2000)}
    assert cost(time, values, width=1) <= requests


@pytest.mark.parametrize(("every", "requests"), [(2, 1020), (3, 1040), (10, 500)])
def test_binary_values_at_equal_distances_are_soon_foreseen(
    time: Time, every: int, requests: int
) -> None:
    values = texts(1000)
    values |= dict.fromkeys(list(values)[every - 1 :: every], BINARY)
    assert cost(time, values, width=1) <= requests


def test_binary_values_that_were_found_are_not_looked_for_again(time: Time) -> None:
    values = texts(1000)
    values |= dict.fromkeys(list(values)[9::10], BINARY)
    namespace = Namespace(values)
    reader = reader_on(time, namespace)
    assert read(reader, values) == list(values.items())
    namespace.events.clear()
    assert read(reader, values) == list(values.items())
    assert sorted(namespace.events) == [("GET values", 1)] * 100 + [("POST bulk/get", 90)] * 10


def test_a_value_that_became_text_is_read_in_bulk_after_it_was_seen(time: Time) -> None:
    values = texts(100)
    values["k00007"] = BINARY
    namespace = Namespace(values)
    reader = reader_on(time, namespace)
    read(reader, values)
    namespace.values["k00007"] = b"text now"
    assert dict(read(reader, values))["k00007"] == b"text now"
    namespace.events.clear()
    read(reader, values)
    assert namespace.events == [("POST bulk/get", 100)]


def test_only_so_many_binary_values_are_remembered(
    time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "KNOWN", 3)
    values = dict.fromkeys(texts(10), BINARY)
    reader = reader_on(time, Namespace(values))
    assert read(reader, values) == list(values.items())
    assert sum(map(reader.is_binary, values)) <= 3


def test_a_binary_value_read_alone_does_not_spoil_what_is_read_after_it(time: Time) -> None:
    namespace = Namespace({"binary": BINARY} | texts(300))
    reader = reader_on(time, namespace)
    assert reader.entry("binary") == Entry(BINARY)
    before = len(namespace.events)
    read(reader, texts(300))
    assert len(namespace.events) - before <= 6


def test_text_after_binary_values_is_read_in_bulk_again(time: Time) -> None:
    values = dict.fromkeys(texts(200), BINARY)
    more = {f"t{key}": value for key, value in texts(1000).items()}
    assert cost(time, values | more, width=1) <= 200 + 30


def test_missing_keys_are_no_binary_values(time: Time) -> None:
    namespace = Namespace({"k": BINARY})
    keys = [f"m{number}" for number in range(99)] + ["k"]
    assert read(reader_on(time, namespace), keys)[-1] == ("k", BINARY)
    assert len(namespace.events) < 25


def test_an_entry_costs_one_request_and_up_to_three_where_it_is_binary(time: Time) -> None:
    said = {"value": "é", "expiration": 1893456000, "metadata": [0]}
    service = Service(ok({"values": {"k": said}}))
    reader = BulkReader(client_on(time, adapter=service), NS, Slots(8))
    assert reader.entry("k") == Entry("é".encode(), 1893456000, [0])
    assert len(service.seen) == 1
    service = Service(
        refused(400, 10029), Reply(200, BINARY, {"expiration": "7"}), ok({"a": 1}),
        Reply(200, BINARY), ok(None), refused(404, 10009),
    )  # fmt: skip
    reader = BulkReader(client_on(time, adapter=service), NS, Slots(8))
    assert reader.entry("k") == Entry(BINARY, 7, {"a": 1})
    assert reader.entry("k") == Entry(BINARY)
    assert len(service.seen) == 5
    assert reader.entry("k") is None


def test_a_refusal_of_a_single_read_is_not_taken_for_one_of_many(time: Time) -> None:
    for read_one in (BulkReader.entry, lambda reader, key: read(reader, [key])):
        service = Service(*[refused(400, 10029)] * 50)
        reader = BulkReader(client_on(time, adapter=service), NS, Slots(8))
        with pytest.raises(APIError, match="10029"):
            read_one(reader, "k")
        assert len(service.seen) <= 2


def test_a_replacement_character_is_read_singly(time: Time) -> None:
    """Cloudflare's local runtime answers with it in the place of bytes that are no text."""
    values = texts(100)
    values["k00007"] = b"ab\xffcd"
    values["k00008"] = "stored \ufffd so".encode()
    namespace = Namespace(values, lossy=True)
    assert read(reader_on(time, namespace), values) == list(values.items())
    assert sorted(namespace.events) == [("GET values", 1)] * 2 + [("POST bulk/get", 100)]


def test_a_value_that_vanished_before_it_was_read_singly_is_missing(time: Time) -> None:
    service = Service(ok({"values": {"k": "\ufffd", "l": "x"}}), refused(404, 10009))
    reader = BulkReader(client_on(time, adapter=service), NS, Slots(1))
    assert read(reader, ["k", "l"]) == [("k", None), ("l", b"x")]


def test_half_a_surrogate_pair_is_no_text_either(time: Time) -> None:
    body = (
        b'{"success":true,"result":{"values":{"k":"\\ud83d","l":"\\ud83d\\ude00 \\ufeff\\u0000"}}}'
    )
    service = Service(Reply(200, body), Reply(200, b"\xed\xa0\xbd"))
    reader = BulkReader(client_on(time, adapter=service), NS, Slots(1))
    assert read(reader, ["k", "l"]) == [("k", b"\xed\xa0\xbd"), ("l", "😀 \ufeff\0".encode())]


@pytest.mark.parametrize(
    "too_large",
    [lambda: refused(413), lambda: refused(524), lambda: refused(413, 10024),
     lambda: requests.ReadTimeout("read timed out")],
)  # fmt: skip
def test_a_bulk_get_that_is_too_much_is_halved_and_the_size_remembered(
    time: Time, too_large: Callable[[], Reply | BaseException]
) -> None:
    namespace = Namespace(texts(1000))
    namespace.most_pairs = 30
    namespace.too_large = too_large
    reader = reader_on(time, namespace, width=1)
    assert read(reader, namespace.values) == list(namespace.values.items())
    refusals = [size for _, size in namespace.events if size > 30]
    assert len(refusals) <= 12
    assert len(namespace.events) <= 60  # 34 at best
    assert time.slept == []


def test_a_bulk_get_is_halved_down_to_single_reads(time: Time) -> None:
    namespace = Namespace(texts(16))
    namespace.most_pairs = 0
    assert read(reader_on(time, namespace), namespace.values) == list(namespace.values.items())
    assert namespace.count("GET values") == 16


def with_room_for(pairs: int, namespace: Namespace) -> Answering:
    """Let a namespace refuse a bulk read of more pairs than that as too large."""

    def answer(seen: Seen) -> Reply | BaseException:
        if seen.path.endswith("/bulk/get") and len(seen.json["keys"]) > pairs:
            namespace.events.append(("too much", 0))
            return refused(413)
        return namespace(seen)

    return answer


def test_the_size_of_values_is_learnt_in_bytes(time: Time) -> None:
    """Twenty-five megabytes are the service's limit; a character may be three of them."""
    value = "語" * 100_000
    namespace = Namespace(dict.fromkeys(texts(240), value.encode()))
    reader = reader_on(time, with_room_for(25_000_000 // 300_000, namespace), width=1)
    for _ in reader.read(namespace.values, details=False, eager=False):
        pass
    assert namespace.count("too much") == 1


def test_after_a_refusal_as_much_is_asked_for_as_fits_by_size(
    time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "AIM", 2475)
    namespace = Namespace(dict.fromkeys(texts(1000), b"x" * 26))
    reader = reader_on(time, with_room_for(2500 // 26, namespace), width=1)
    assert len(read(reader, namespace.values)) == 1000
    assert namespace.count("too much") == 1
    assert len(namespace.events) <= 15


def test_an_error_while_reading_ends_it_with_that_error(time: Time) -> None:
    namespace = Namespace(texts(1000))

    def answer(seen: Seen) -> Reply | BaseException:
        if b"k00555" in seen.body:
            return refused(403, 10000)
        return namespace(seen)

    found = reader_on(time, answer).read(namespace.values, details=False, eager=True)
    assert [key for key, _ in islice(found, 500)] == list(namespace.values)[:500]
    with pytest.raises(AuthError):
        next(found)


def test_a_source_of_keys_that_raises_ends_the_reading_with_that(time: Time) -> None:
    def keys() -> Iterator[str]:
        yield from texts(50)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read(reader_on(time, Namespace(texts(50))), keys())


@pytest.mark.parametrize("details", [False, True])
def test_an_answer_of_the_wrong_shape_is_no_missing_key(time: Time, details: bool) -> None:
    for result in [{"values": {"k": 5, "l": "x"}}, {"values": []}, None, [], {"values": {"k": []}}]:
        with pytest.raises(APIError, match="not of the API's form"):
            read(reader_on(time, ok(result)), ["k", "l"], details=details)


# Writing


def test_pairs_are_split_by_count(time: Time) -> None:
    namespace = Namespace()
    writer = writer_on(time, namespace)
    assert writer.put(text_writes(25_000)) == 25_000
    assert sorted(size for _, size in namespace.events) == [5000, 10_000, 10_000]
    assert len(namespace.values) == 25_000
    assert writer.delete(list(namespace.values)) == 25_000
    assert namespace.count("POST bulk/delete") == 3
    assert namespace.values == {}


@pytest.mark.parametrize("data", [b"x" * 90, b"\0" * 30, b'"' * 80, b"\xff" * 66, b"x" * 5000])
def test_pairs_are_split_by_encoded_bytes(
    time: Time, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 2000)
    sizes: list[tuple[int, int]] = []
    stored = 0

    def answer(seen: Seen) -> Reply:
        nonlocal stored
        count = len(seen.json) if seen.path.endswith("/bulk") else 1
        sizes.append((len(seen.body), count))
        stored += count
        return ok({})

    writer_on(time, answer, width=1).put(Write(f"k{number}", data) for number in range(200))
    assert stored == 200
    for size, count in sizes:
        assert size <= 2002 or count == 1
    if len(data) < 100:
        assert len(sizes) <= 200 // 7


def test_deletes_are_split_by_encoded_bytes(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 2000)
    service = Service(ok({}))
    writer = BulkWriter(client_on(time, adapter=service), NS, Slots(1))
    keys = [f"{number}\0é😀\x1f" for number in range(500)]
    assert writer.delete(keys) == 500
    assert [key for seen in service.seen for key in seen.json] == keys
    assert max(len(seen.body) for seen in service.seen) <= 2002


def test_a_single_pair_goes_alone(time: Time) -> None:
    service = Service(ok())
    writer = BulkWriter(client_on(time, adapter=service), NS, Slots(8))
    assert writer.put([Write("a/b", BINARY)]) == 1
    assert writer.delete(["a/b"]) == 1
    assert [(seen.method, seen.path, seen.body) for seen in service.seen] == [
        ("PUT", f"/{NS}/values/a%2Fb", BINARY), ("DELETE", f"/{NS}/values/a%2Fb", b""),
    ]  # fmt: skip


def test_a_key_that_repeats_within_a_chunk_is_sent_once_with_its_last_value(time: Time) -> None:
    service = Service(ok({}))
    writer = BulkWriter(client_on(time, adapter=service), NS, Slots(8))
    writer.put([Write("a", b"1"), Write("b", b"2"), Write("a", b"3")])
    assert service.seen[0].json == [{"key": "b", "value": "2"}, {"key": "a", "value": "3"}]


@pytest.mark.parametrize("apart", [10, 25, 60, 95])
def test_a_key_repeated_far_apart_ends_with_its_last_value(
    time: Time, small: int, apart: int
) -> None:
    """The chunk of the first value is the last to arrive, if anything overtakes it."""
    namespace = Namespace()
    overtaken = threading.Event()

    def answer(seen: Seen) -> Reply | BaseException:
        values = {item["key"]: item["value"] for item in seen.json}
        if values.get("twice") == "old":
            overtaken.wait(0.2)
        elif "twice" in values:
            overtaken.set()
        return namespace(seen)

    pairs = list(text_writes(100))
    pairs[0] = Write("twice", b"old")
    pairs[apart] = Write("twice", b"new")
    assert writer_on(time, answer).put(pairs) == 100
    assert namespace.values["twice"] == b"new"
    assert not overtaken.is_set() or namespace.events


@pytest.mark.parametrize("seed", range(5))
def test_whatever_overtakes_what_each_key_ends_with_its_last_value(
    time: Time, small: int, seed: int
) -> None:
    chance = random.Random(seed)
    namespace = Namespace()
    arrivals = threading.Condition()
    waiting = 0

    def answer(seen: Seen) -> Reply | BaseException:
        nonlocal waiting
        with arrivals:
            waiting += 1
            arrivals.notify_all()
            if chance.random() < 0.5:
                seen_before = waiting
                arrivals.wait_for(lambda: waiting > seen_before + 1, 0.01)
            return namespace(seen)

    pairs = [Write(f"k{chance.randrange(60)}", b"%d" % number) for number in range(400)]
    writer_on(time, answer).put(pairs)
    assert namespace.values == {write.key: write.data for write in pairs}


@pytest.mark.parametrize(
    "too_large",
    [lambda: refused(413), lambda: refused(524), lambda: requests.ReadTimeout("read timed out"),
     lambda: refused(413, 10024)],
)  # fmt: skip
def test_a_body_that_is_too_much_is_halved_and_the_size_remembered(
    time: Time, too_large: Callable[[], Reply | BaseException]
) -> None:
    namespace = Namespace()
    namespace.most_pairs = 700
    namespace.too_large = too_large
    writer = writer_on(time, namespace, width=1)
    assert writer.put(text_writes(30_000)) == 30_000
    assert len(namespace.values) == 30_000
    refusals = [size for _, size in namespace.events if size > 700]
    assert sorted(refusals, reverse=True) == [10_000] + [5000] * 2 + [2500] * 4 + [1250] * 8
    assert max(size for _, size in namespace.events[-20:]) == 625
    assert time.slept == []
    namespace.events.clear()
    writer.put(text_writes(6250))
    assert [size for _, size in namespace.events] == [625] * 10


def test_a_body_is_halved_down_to_single_writes(time: Time) -> None:
    namespace = Namespace()
    namespace.most_pairs = 1
    writer = writer_on(time, namespace)
    assert writer.put(text_writes(33)) == 33
    assert namespace.count("PUT values") == 33
    namespace.events.clear()
    assert writer.delete(list(namespace.values)) == 33
    assert namespace.count("DELETE values") == 33


def test_one_bad_hour_is_not_held_against_all_that_come_later(time: Time) -> None:
    namespace = Namespace()
    namespace.most_pairs = 0
    writer = writer_on(time, namespace)
    writer.put(text_writes(200))
    namespace.most_pairs = 10_000
    namespace.events.clear()
    writer.put(text_writes(1000))
    assert len(namespace.events) <= 10


def test_a_network_without_a_route_makes_no_smaller_chunks(time: Time) -> None:
    lost = requests.ConnectTimeout("connect timed out")
    service = Service(lost, lost, lost, ok({}))
    writer = BulkWriter(client_on(time, adapter=service), NS, Slots(1))
    assert writer.put(text_writes(50)) == 50
    assert [len(seen.json) for seen in service.seen] == [50] * 4


def test_a_single_write_that_is_too_large_names_its_key(time: Time) -> None:
    namespace = Namespace()

    def answer(seen: Seen) -> Reply | BaseException:
        if b"k0000005" in seen.body or "k0000005" in seen.url:
            return refused(413, 10024)
        return namespace(seen)

    with pytest.raises(APIError) as caught:
        writer_on(time, answer, width=1).put(text_writes(20))
    assert caught.value.status == 413
    assert "k0000005" in caught.value.keys
    assert set(caught.value.keys) | set(namespace.values) == {w.key for w in text_writes(20)}
    assert 0 < len(namespace.values) == 20 - len(caught.value.keys)
    assert f"; {how_many(len(namespace.values))} accepted before, " in str(caught.value)


# What was not stored


def test_unsuccessful_keys_are_sent_again_exactly_with_backoff(time: Time) -> None:
    lost = [["k0000001", "k0000003"], ["k0000003"], []]
    answers = [ok({"successful_key_count": 5 - len(keys), "unsuccessful_keys": keys})
               for keys in lost]  # fmt: skip
    service = Service(*answers[:2], ok())
    writer = BulkWriter(client_on(time, adapter=service), NS, Slots(8))
    assert writer.put(text_writes(5)) == 5
    assert keys_of(service.seen[1]) == lost[0]
    assert service.seen[2].path.endswith("/values/k0000003")
    assert time.slept == [0.25, 0.5]


def test_a_flush_error_counts_what_was_not_even_sent(time: Time, small: int) -> None:
    def answer(seen: Seen) -> Reply:
        return ok({"unsuccessful_keys": keys_of(seen)[:1]} if seen.path.endswith("bulk") else {})

    client = client_on(time, adapter=Service(answer), max_wait=0.1)
    with pytest.raises(FlushError) as caught:
        BulkWriter(client, NS, Slots(1)).put(text_writes(35))
    assert list(caught.value.failed) == ["k0000000"]
    assert len(caught.value.keys) == 12
    assert caught.value.pending == 11


def test_unsuccessful_deletes_are_sent_again(time: Time) -> None:
    service = Service(ok({"unsuccessful_keys": ["a", "c"]}), ok({}))
    writer = BulkWriter(client_on(time, adapter=service), NS, Slots(8))
    assert writer.delete(["a", "b", "c"]) == 3
    assert [seen.json for seen in service.seen] == [["a", "b", "c"], ["a", "c"]]


def test_what_stays_unsuccessful_is_named_in_one_flush_error(time: Time, small: int) -> None:
    gate = threading.Barrier(3)

    def answer(seen: Seen) -> Reply:
        keys = keys_of(seen)
        if len(keys) == 10:
            gate.wait(LONG)
        return ok({"unsuccessful_keys": [key for key in keys if key[-1] in "12"]})

    writer = writer_on(time, answer, max_wait=20)
    began = time.now
    with pytest.raises(FlushError) as caught:
        writer.put(text_writes(30))
    names = {f"k{number:07}" for number in (1, 2, 11, 12, 21, 22)}
    assert set(caught.value.failed) == set(caught.value.keys) == names
    assert all("unsuccessful_keys" in reason for reason in caught.value.failed.values())
    assert caught.value.pending == 0
    assert "6 are not known to be stored" in str(caught.value)
    assert time.now - began > 10


def test_a_strange_name_among_the_unsuccessful_keys_ends_the_matter(time: Time) -> None:
    service = Service(ok({"unsuccessful_keys": ["never sent"]}))
    writer = BulkWriter(client_on(time, adapter=service), NS, Slots(8))
    with pytest.raises(FlushError):
        writer.put(text_writes(5))
    assert len(service.seen) == 1


def put_and_fail(
    writer: BulkWriter, source: Iterable[Write], kind: type[BaseException]
) -> BaseException:
    with pytest.raises(kind) as caught:
        writer.put(source)
    return caught.value


@pytest.mark.parametrize("width", [1, 2, 8])
@pytest.mark.parametrize("bad", [0, 1, 4, 9, 10, 55, 99, 100, 104])
def test_a_refused_chunk_names_every_key_that_was_read_and_is_not_stored(
    time: Time, small: int, bad: int, width: int
) -> None:
    namespace = Namespace()

    def answer(seen: Seen) -> Reply | BaseException:
        if f"k{bad:07}".encode() in seen.body or seen.url.endswith(f"k{bad:07}"):
            return refused(403, 10000, "Authentication error")
        return namespace(seen)

    source = Source(105)
    error = put_and_fail(writer_on(time, answer, width), source, AuthError)
    assert isinstance(error, AuthError)
    stored = set(namespace.values)
    assert set(error.keys) == set(source.taken) - stored
    assert len(error.keys) == len(set(error.keys))
    assert f"k{bad:07}" in error.keys
    assert f"{len(error.keys)} are not known to be stored" in str(error)
    if stored:
        assert f"{len(stored)} writes were accepted" in str(error)


def test_after_a_refusal_nothing_more_is_read(time: Time, small: int) -> None:
    asked: list[int] = []

    def answer(seen: Seen) -> Reply:
        asked.append(len(seen.json))
        return refused(403, 10000)

    source = Source(100_000)
    error = put_and_fail(writer_on(time, answer), source, AuthError)
    assert isinstance(error, AuthError)
    assert len(asked) <= MAX_REQUESTS
    assert len(source.taken) <= (MAX_REQUESTS + 1) * 10 + 1
    assert set(error.keys) == set(source.taken)
    assert len(str(error)) < 1500


def test_all_chunks_refused_are_one_error(time: Time, small: int) -> None:
    gate = threading.Barrier(8)

    def answer(seen: Seen) -> Reply:
        gate.wait(LONG)
        return refused(401, 10000)

    source = Source(80)
    error = put_and_fail(writer_on(time, answer), source, AuthError)
    assert isinstance(error, AuthError)
    assert sorted(error.keys) == sorted(source.taken)
    assert not getattr(error, "__notes__", [])


@pytest.mark.parametrize("width", [1, 8])
@pytest.mark.parametrize("count", [0, 5, 10, 11, 57])
def test_what_the_source_raises_is_raised_with_what_became_of_the_writes(
    time: Time, small: int, count: int, width: int
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("of the source")

    namespace = Namespace()
    source = Source(count, fail)
    error = put_and_fail(writer_on(time, namespace, width), source, ZeroDivisionError)
    unsent = set(source.taken) - set(namespace.values)
    notes = " ".join(getattr(error, "__notes__", []))
    assert bool(notes) == bool(count)
    if count:
        verb = "is" if len(unsent) == 1 else "are"
        assert f"{len(unsent)} {verb} not known to be stored" in notes
        assert (f"{count - len(unsent)} writes were accepted" in notes) == (len(unsent) < count)


def test_an_error_of_ours_from_the_source_carries_the_keys(time: Time, small: int) -> None:
    def fail() -> None:
        raise LimitError("too long")

    namespace = Namespace()
    source = Source(25, fail)
    error = put_and_fail(writer_on(time, namespace), source, LimitError)
    assert isinstance(error, LimitError)
    assert set(error.keys) == set(source.taken) - set(namespace.values)
    assert len(error.keys) == 5


def test_chunks_that_fail_while_the_source_raises_are_told_too(time: Time, small: int) -> None:
    raising = threading.Event()

    def fail() -> None:
        raising.set()
        raise LimitError("too long")

    def answer(seen: Seen) -> Reply:
        raising.wait(LONG)
        return refused(403, 10000)

    source = Source(25, fail)
    error = put_and_fail(writer_on(time, answer), source, LimitError)
    assert isinstance(error, LimitError)
    assert set(error.keys) == set(source.taken)
    assert "25 are not known to be stored" in str(error)


@pytest.mark.parametrize("width", [1, 8])
def test_an_interrupt_in_the_source_tells_what_became_of_the_writes(
    time: Time, small: int, width: int
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    namespace = Namespace()
    source = Source(35, interrupt)
    error = put_and_fail(writer_on(time, namespace, width), source, KeyboardInterrupt)
    assert len(namespace.values) == 30
    (note,) = error.__notes__
    assert "30 writes were accepted" in note
    assert "5 are not known to be stored" in note


def test_an_interrupt_does_not_wait_for_ever_for_what_is_under_way(
    time: Time, small: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kvdict.writer.INTERRUPTED", 0.05)
    namespace = Namespace()
    go_on = threading.Event()

    def interrupt() -> None:
        raise KeyboardInterrupt

    def answer(seen: Seen) -> Reply | BaseException:
        go_on.wait(LONG)
        return namespace(seen)

    error = put_and_fail(writer_on(time, answer), Source(35, interrupt), KeyboardInterrupt)
    go_on.set()
    (note,) = error.__notes__
    assert "no other write was accepted, 35 are not known to be stored" in note
    assert "interrupted; waiting 0 s for 3 requests" in caplog.text


def waits_for_a_flight(thread: int) -> bool:
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code.co_name == "wait" and frame.f_code.co_filename.endswith("flights.py"):
            return True
        frame = frame.f_back
    return False


def test_an_interrupt_while_waiting_tells_what_became_of_the_writes(time: Time) -> None:
    namespace = Namespace()
    main = threading.get_ident()

    def answer(seen: Seen) -> Reply | BaseException:
        while not waits_for_a_flight(main):
            pass
        _thread.interrupt_main()
        return namespace(seen)

    error = put_and_fail(writer_on(time, answer), text_writes(50), KeyboardInterrupt)
    assert len(namespace.values) == 50
    assert "50 writes were accepted" in " ".join(error.__notes__)


def test_an_interrupt_within_the_work_of_a_local_home_is_raised(time: Time, small: int) -> None:
    namespace = Namespace()

    def answer(seen: Seen) -> Reply | BaseException:
        return KeyboardInterrupt() if b"k0000015" in seen.body else namespace(seen)

    source = Source(40)
    error = put_and_fail(writer_on(time, answer, width=1), source, KeyboardInterrupt)
    unsent = set(source.taken) - set(namespace.values)
    assert f"{len(unsent)} are not known to be stored" in " ".join(error.__notes__)


@pytest.mark.parametrize("width", [1, 8])
def test_what_a_token_callable_raises_names_the_keys_too(
    time: Time, small: int, width: int
) -> None:
    class VaultError(Exception):
        pass

    namespace = Namespace()
    asked = iter(range(1000))

    def token() -> str:
        if next(asked) >= 2:
            raise VaultError("sealed")
        return "token"

    source = Source(60)
    error = put_and_fail(writer_on(time, namespace, width, token=token), source, VaultError)
    unsent = set(source.taken) - set(namespace.values)
    assert len(namespace.values) == 20
    (note,) = error.__notes__
    assert f"{len(unsent)} are not known to be stored" in note
    assert "20 writes were accepted" in note


def test_errors_of_several_kinds_are_one_with_all_keys(time: Time, small: int) -> None:
    gate = threading.Barrier(3)

    def answer(seen: Seen) -> Reply | BaseException:
        first = keys_of(seen)[0]
        if len(keys_of(seen)) == 10:
            gate.wait(LONG)
        if first == "k0000000":
            return ok({"unsuccessful_keys": ["k0000000", "k0000004"]})
        if first == "k0000010":
            return refused(400, 10012, "bulk put: 'illegal base64'")
        return ok({})

    def replies(seen: Seen) -> Reply | BaseException:
        if seen.path.endswith("/bulk"):
            return answer(seen)
        return ok()

    error = put_and_fail(writer_on(time, replies, max_wait=0.1), text_writes(30), FlushError)
    assert isinstance(error, FlushError)
    names = {"k0000000", "k0000004", *(f"k{number:07}" for number in range(10, 20))}
    assert set(error.keys) == set(error.failed) == names
    assert "illegal base64" in error.failed["k0000010"]


def test_an_error_that_is_not_ours_beside_unsuccessful_keys_leaves_its_keys_pending(
    time: Time, small: int
) -> None:
    first, second = threading.Event(), threading.Event()

    def token() -> str:
        if first.is_set():
            second.set()
            raise RuntimeError("sealed")
        first.set()
        return "token"

    def answer(seen: Seen) -> Reply | BaseException:
        second.wait(LONG)
        return ok({"unsuccessful_keys": keys_of(seen)[:1]})

    def source() -> Iterator[Write]:
        for number, write in enumerate(text_writes(20)):
            if number == small + 1:  # the first chunk is on its way
                first.wait(LONG)
            yield write

    error = put_and_fail(writer_on(time, answer, token=token, max_wait=0.1), source(), FlushError)
    assert isinstance(error, FlushError)
    assert set(error.failed) == {"k0000000"}
    assert set(error.keys) == {"k0000000", *(f"k{number:07}" for number in range(10, 20))}
    assert error.pending == 10


def test_no_answer_until_max_wait_names_the_keys(time: Time) -> None:
    writer = writer_on(time, requests.ConnectionError("lost"))
    error = put_and_fail(writer, text_writes(12), TransportError)
    assert isinstance(error, KVError)
    assert len(error.keys) == 12
    assert "12 are not known to be stored: 'k0000000'" in str(error)
    assert "and 7 more" in str(error)


def test_after_a_failure_the_writer_goes_on_working(time: Time) -> None:
    service = Service(refused(403, 10000), ok({}))
    writer = BulkWriter(client_on(time, adapter=service), NS, Slots(8))
    for _ in range(20):
        put_and_fail(
            BulkWriter(client_on(time, adapter=Service(refused(403))), NS, writer._slots),
            text_writes(5),
            AuthError,
        )
    put_and_fail(writer, text_writes(5), AuthError)
    assert writer.put(text_writes(5)) == 5


# Memory, signals, threads


class Sink(Service):
    """Takes everything and remembers nothing."""

    def __init__(self) -> None:
        super().__init__(ok({}))
        self.count = 0

    def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
        self.count += 1
        response = super().send(request)
        self.seen.clear()
        return response


@pytest.mark.parametrize("width", [1, 8])
@pytest.mark.parametrize("seed", range(4))
def test_on_a_bad_day_all_is_stored_read_and_deleted_all_the_same(
    time: Time, small: int, seed: int, width: int
) -> None:
    knobs = Knobs(seed=seed, clock=time.wall)
    store = Store(None)
    client = client_on(time, adapter=EmulatorAdapter(Emulator(store, knobs=knobs)))
    id_ = client.create_namespace("t").id
    slots = Slots(width)
    writer, reader = BulkWriter(client, id_, slots), BulkReader(client, id_, slots)
    chance = random.Random(seed)
    keys = [f"k{chance.randrange(150)}" for _ in range(300)]
    pairs = [Write(key, chance.choice([b"%d" % number, BINARY])) for number, key in enumerate(keys)]
    expected = {write.key: write.data for write in pairs}
    knobs.faults = 0.3
    assert len(expected) <= writer.put(pairs) <= 300
    assert read(reader, expected) == list(expected.items())
    gone = list(expected)[::2]
    writer.delete(gone)
    knobs.faults = 0.0
    left = {key: None if key in gone else value for key, value in expected.items()}
    assert read(reader, expected) == list(left.items())
    assert {key.name for key in client.list_keys(id_).keys} == expected.keys() - set(gone)
    store.close()


def test_the_memory_of_a_long_write_does_not_grow_with_it(
    time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "MAX_BULK_PAIRS", 500)
    sink = Sink()
    writer = BulkWriter(client_on(time, adapter=sink), NS, Slots(8))
    peaks = [peak_of(lambda count=count: writer.put(text_writes(count, 50)))  # type: ignore[misc]  # a default in a lambda has no type
             for count in (20_000, 80_000)]  # fmt: skip
    assert sink.count == 200
    assert max(peaks) < 8_000_000  # all at once would be some 30


def test_the_memory_of_a_long_read_does_not_grow_with_it(time: Time) -> None:
    class Echo(Service):
        def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
            self.seen.clear()
            return super().send(request)

    def answer(seen: Seen) -> Reply:
        return ok({"values": dict.fromkeys(seen.json["keys"], "v" * 50)})

    reader = BulkReader(client_on(time, adapter=Echo(answer)), NS, Slots(8))

    def drain(count: int) -> None:
        keys = (f"k{number}" for number in range(count))
        assert sum(1 for _ in reader.read(keys, details=False, eager=True)) == count

    peaks = [peak_of(functools.partial(drain, count)) for count in (10_000, 40_000)]
    assert max(peaks) < 3_000_000  # all at once would be 10


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
@pytest.mark.parametrize("width", [1, 2, 8])
def test_a_signal_handler_may_write_and_read_while_a_bulk_write_is_under_way(
    time: Time, small: int, width: int
) -> None:
    namespace = Namespace()
    slots = Slots(width)
    client = client_on(time, adapter=Service(namespace))
    writer, reader = BulkWriter(client, NS, slots), BulkReader(client, NS, slots)
    handled: list[Any] = []

    def handle(_number: int, _frame: object) -> None:
        handled.append(writer.put(Write(f"s{n}", b"signal") for n in range(25)))
        handled.append(read(reader, ["s1", "s2"]))

    def pairs() -> Iterator[Write]:
        for number, write in enumerate(text_writes(100)):
            if number in {3, 10, 57}:
                signal.raise_signal(signal.SIGUSR1)
            yield write

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        assert writer.put(pairs()) == 100
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled == [25, [("s1", b"signal"), ("s2", b"signal")]] * 3
    assert len(namespace.values) == 125


def test_many_threads_may_write_and_read_through_the_same_slots(time: Time, small: int) -> None:
    namespace = Namespace()
    slots = Slots(4)
    client = client_on(time, adapter=Service(namespace))
    writer, reader = BulkWriter(client, NS, slots), BulkReader(client, NS, slots)

    def work(name: str) -> None:
        keys = [f"{name}{number}" for number in range(100)]
        assert writer.put(Write(key, key.encode()) for key in keys) == 100
        assert read(reader, keys) == [(key, key.encode()) for key in keys]
        assert writer.delete(keys[:50]) == 50

    with running(*[functools.partial(work, name) for name in "abcdefgh"]):
        pass
    assert len(namespace.values) == 400
