"""The layer that all caching backends stand on: prefix, times to live, keys, failures, sharing."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kvdict
from kvdict.complaints import Complaints
from kvdict.contrib import shared
from kvdict.contrib.backend import Backend, SignedPickle
from kvdict.contrib.names import MARK
from kvdict.contrib.shared import Shared, close_all
from kvdict.emulator import Emulator, Knobs, Server, Store, serve
from kvdict.emulator.knobs import Fault
from tests.conftest import ACCOUNT
from tests.contrib.conftest import served
from tests.wire.support import RawServer, Reply, keep_answering, refused
from tests.world import World

AWKWARD = ["", ".", "..", "a" * 513, "ü" * 300, "\ud800", "\udfff", f"{MARK}{'0' * 64}", "\0", "/"]


@pytest.fixture
def backend(world: World) -> Backend:
    return Backend(world.kv, prefix="t:")


# Times to live


@pytest.mark.parametrize("ttl", [0.25, 1, 59.9, 60, 90.5, 3600])
def test_an_entry_is_there_until_its_time_is_over_and_then_missing_everywhere(
    world: World, backend: Backend, ttl: float
) -> None:
    backend.set("k", 1, ttl)
    world.pass_time(ttl - 0.02)
    assert backend.get("k") == 1
    world.pass_time(0.04 if ttl % 1 or ttl < 60 else 1)  # the service's own ends with its second
    assert backend.get("k", "gone") == "gone"
    assert backend.get_many(["k"]) == {}
    assert not backend.has("k")
    assert list(backend.names()) == []
    assert list(backend.items()) == []
    assert not backend.touch("k", 60)
    assert backend.change("k", lambda value: value + 1) is None
    assert not backend.remove("k")
    assert backend.add("k", 2)
    assert backend.get("k") == 2


@pytest.mark.parametrize("ttl", [0, -1, -0.5])
def test_what_is_over_at_once_is_not_stored_and_takes_an_older_value_away(
    backend: Backend, ttl: float
) -> None:
    for write in (
        lambda: backend.set("k", 2, ttl),
        lambda: backend.set_many({"k": 2}, ttl),
        lambda: backend.touch("k", ttl),
    ):
        backend.set("k", 1)
        assert write() in (True, [])
        assert not backend.has("k")
    assert backend.add("k", 2, ttl)
    assert not backend.has("k")


@pytest.mark.parametrize("ttl", [None, 1e12, 1e300])
def test_for_ever_and_longer_than_the_calendar_is_without_an_end(
    world: World, backend: Backend, ttl: float | None
) -> None:
    backend.set("k", 1, ttl)
    assert world.kv.using("bytes").entry("t:k").expiration is None
    world.pass_time(1e9)
    assert backend.get("k") == 1


def test_a_changed_value_ends_when_it_would_have_ended(world: World, backend: Backend) -> None:
    for ttl in (30, 100):
        backend.set("k", 1, ttl)
        world.pass_time(ttl - 10)
        assert backend.change("k", lambda value: value + 1) == 2
        world.pass_time(9.9)
        assert backend.get("k") == 2
        world.pass_time(1.1)
        assert backend.get("k") is None


def test_touch_lets_the_time_start_anew_and_keeps_the_value(world: World, backend: Backend) -> None:
    backend.set("k", "v", 10)
    world.pass_time(9)
    assert backend.touch("k", 10)
    world.pass_time(9)
    assert backend.get("k") == "v"
    assert backend.touch("k")
    world.pass_time(1e9)
    assert backend.get("k") == "v"


# Keys and prefixes


def test_keys_that_kv_would_not_take_are_stored_each_by_itself(backend: Backend) -> None:
    for place, key in enumerate(AWKWARD):
        backend.set(key, place)
    assert backend.get_many(AWKWARD) == {key: place for place, key in enumerate(AWKWARD)}
    assert [backend.get(key) for key in AWKWARD] == list(range(len(AWKWARD)))
    assert backend.delete_many(AWKWARD)
    assert not any(backend.has(key) for key in AWKWARD)


@pytest.mark.parametrize("prefix", ["", ".", "t:"])
def test_awkward_keys_need_no_prefix(world: World, prefix: str) -> None:
    backend = Backend(world.kv, prefix=prefix)
    assert backend.set_many(dict.fromkeys(AWKWARD, 1)) == []
    assert backend.get_many(AWKWARD) == dict.fromkeys(AWKWARD, 1)


def test_nobody_can_name_a_hashed_key_by_hand_and_a_listing_can(backend: Backend) -> None:
    backend.set("a" * 600, 1)
    (name,) = backend.names()
    assert backend.get(str(name)) is None
    assert backend.get(name) == 1
    assert backend.remove(name)
    assert not backend.has("a" * 600)


def test_names_are_the_same_in_every_process() -> None:
    name = Backend("memory://", prefix="t:").name("\ud800")
    assert name == MARK + "91a681b998555fb475479817b126c94e57e52011fa1842c5d188795a4a05226b"


def test_a_key_that_is_not_str_is_a_type_error(backend: Backend) -> None:
    calls: list[Callable[[Any], Any]] = [backend.get, backend.has, backend.delete, backend.name]
    for call in calls:
        with pytest.raises(TypeError, match="keys are str, not int: 1"):
            call(1)
    with pytest.raises(TypeError):
        backend.set_many({1: 1})  # type: ignore[dict-item] # what is tested


def test_clear_leaves_what_is_outside_the_prefix(world: World, backend: Backend) -> None:
    world.kv["mine"] = 1
    world.kv["t"] = 2
    backend.set_many({"a": 1, "b": 2})
    assert backend.clear()
    assert dict(world.kv.items()) == {"mine": 1, "t": 2}


def test_a_prefix_that_leaves_no_room_for_a_hash_is_refused() -> None:
    with pytest.raises(kvdict.ConfigError, match="at most 440 bytes"):
        Backend("memory://", prefix="x" * 441)
    backend = Backend("memory://", prefix="x" * 440)
    assert backend.set("a" * 600, 1)


def test_an_open_namespace_with_a_prefix_of_its_own_is_taken(world: World) -> None:
    backend = Backend(world.kv.prefixed("app:"), prefix="t:")
    assert backend.set_many({"a": 1}) == []
    assert list(world.kv) == ["app:t:a"]
    with pytest.raises(kvdict.ConfigError, match="has its options already"):
        Backend(world.kv, prefix="t:", token="x")


def test_keys_that_are_too_long_only_behind_the_namespaces_own_prefix_are_hashed(
    world: World,
) -> None:
    outer = world.kv.prefixed("app:" * 10)
    backend = Backend(outer, prefix="t:")
    keys = ["a" * 470, "a" * 471, "ü" * 240]
    for place, key in enumerate(keys):
        assert backend.set(key, place)
    assert backend.get_many(keys) == {key: place for place, key in enumerate(keys)}
    assert [backend.get(key) for key in keys] == [0, 1, 2]
    assert backend.name(keys[0]) == keys[0]
    assert backend.delete_many(keys)
    assert not any(map(backend.has, keys))


def test_a_prefix_has_to_leave_room_behind_that_of_its_namespace(world: World) -> None:
    with pytest.raises(kvdict.ConfigError, match="with that of its namespace"):
        Backend(world.kv.prefixed("x" * 439), prefix="t:")
    assert Backend(world.kv.prefixed("x" * 438), prefix="t:").set("a" * 600, 1)


# Costs


def test_what_calls_cost_in_requests(
    world: World, backend: Backend, spent: Callable[[Any, Callable[[], Any]], float]
) -> None:
    many = {str(number): number for number in range(1000)}
    costs: list[tuple[int, Callable[[], Any]]] = [
        (1, lambda: backend.set_many(many, 30)),
        (1, lambda: backend.get_many(list(many)[:100])),
        (1, lambda: backend.get("1")),
        (1, lambda: backend.get("missing")),
        (1, lambda: backend.has("1")),
        (1, lambda: backend.set("1", 2)),
        (1, lambda: backend.add("1", 2)),
        (2, lambda: backend.add("new", 2)),
        (2, lambda: backend.touch("1", 60)),
        (2, lambda: backend.change("1", lambda value: value)),
        (1, lambda: backend.delete("1")),
        (2, lambda: backend.remove("1")),
        (1, lambda: backend.delete_many(many)),
        (0, lambda: backend.name("1")),
    ]
    for cost, call in costs:
        assert spent(world.kv, call) == cost


# Values


def test_values_are_pickled_and_signed_by_the_secret(world: World) -> None:
    backend = Backend(world.kv, prefix="t:", secret="s3cret")
    backend.set("k", {1, 2})
    assert backend.get("k") == {1, 2}
    forged = kvdict.PickleCodec("other").dumps("forged")
    world.kv.using("bytes")["t:k"] = forged
    assert backend.get("k", "missing") == "missing"
    assert not backend.touch("k", 60)
    assert backend.add("k", "own")
    assert backend.get("k") == "own"
    assert "s3cret" not in repr(backend.codec)


def test_of_several_secrets_the_first_signs_and_all_are_read() -> None:
    old, new = SignedPickle(["old"]), SignedPickle(["new", "old"])
    assert new.loads(old.dumps((1,))) == (1,)
    assert SignedPickle(["new"]).loads(new.dumps(1)) == 1
    with pytest.raises(ValueError, match="signature is wrong"):
        new.loads(SignedPickle(["foreign"]).dumps(1))
    with pytest.raises(ValueError, match="signature"):
        new.loads(SignedPickle(["old"], b"salt").dumps(1))
    assert SignedPickle([b"saltold"]).loads(SignedPickle(["old"], b"salt").dumps(1)) == 1
    assert "old" not in repr(new)
    with pytest.raises(kvdict.ConfigError):
        SignedPickle("one")


def test_any_codec_takes_the_place_of_pickle(world: World) -> None:
    backend = Backend(world.kv, prefix="t:", codec="json")
    backend.set("k", (1, 2))
    assert world.kv["t:k"] == [1, 2]
    assert Backend(world.kv, prefix="t:", codec=pickle).set("k", 1)
    with pytest.raises(kvdict.ConfigError, match="not both"):
        Backend("memory://", prefix="t:", codec="json", secret="s")


def test_one_value_that_cannot_be_read_does_not_hide_the_others(
    world: World, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.set_many({"a": 1, "b": 2})
    world.kv.using("text")["t:a"] = "not pickled"
    assert backend.get_many(["a", "b"]) == {"b": 2}
    assert dict(backend.items()) == {"b": 2}
    assert "key 'a': 'pickle' cannot decode" in caplog.text
    strict = Backend(world.kv, prefix="t:", failures="raise")
    with pytest.raises(kvdict.CodecError, match="key 'a'"):
        strict.get_many(["a", "b"])


def test_a_value_that_cannot_be_stored_is_an_error_in_every_mode(backend: Backend) -> None:
    with pytest.raises(kvdict.CodecError, match="key 'k'"):
        backend.set("k", lambda: 1)
    with pytest.raises(kvdict.LimitError, match="key 'k'.*25 MiB"):
        backend.set("k", bytes(26 * 1024 * 1024))


# Failures


def test_failures_are_misses_and_said_once(nowhere: str, caplog: pytest.LogCaptureFixture) -> None:
    backend = Backend(nowhere, prefix="t:", token="s3cret", max_wait=0)
    assert backend.get("k", 7) == 7
    assert backend.get_many(["k"]) == {}
    assert backend.set("k", 1) is False
    assert backend.set_many({"k": 1, "\ud800": 2}) == ["k", "\ud800"]
    assert backend.add("k", 1) is True  # who is told False tries again, Django 10,000 times
    assert backend.touch("k") is False
    assert backend.remove("k") is False
    assert backend.delete_many(["k"]) is False
    assert backend.has("k") is False
    assert backend.clear() is False
    assert list(backend.names()) == []
    assert backend.change("k", lambda value: value) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("'t:': get failed and counts as a miss: ")
    assert "s3cret" not in caplog.text


def test_reads_do_not_wait_again_for_a_service_that_just_failed_and_writes_try() -> None:
    world = World()
    backend = Backend(world.kv, prefix="t:")
    asked: list[str] = []
    world.adapter.before = lambda method, url: asked.append(method)
    backend.set("k", 1)
    world.kv.client.transport.max_wait = 0
    world.knobs.planned.append(Fault("reset"))
    assert backend.get("k") is None
    asked.clear()
    assert backend.get("k") is None
    assert backend.get_many(["k"]) == {}
    assert backend.has("k") is False
    assert asked == []
    assert backend.delete("k") is True
    assert asked == ["DELETE"]


def test_own_pending_writes_are_read_while_the_service_is_left_alone() -> None:
    world = World(buffer={"max_age": 600})
    backend = Backend(world.kv, prefix="t:")
    world.kv.client.transport.max_wait = 0
    world.knobs.planned.append(Fault("reset"))
    assert backend.get("other") is None
    before = world.requests
    backend.set("k", 1)
    assert backend.get("k") == 1
    assert backend.has("k")
    assert backend.get_many(["k"]) == {"k": 1}
    assert backend.get_many(["k", "other"]) == {}
    assert world.requests == before
    world.kv.close()


def test_errors_of_who_calls_are_raised_in_every_mode(tmp_path: Path) -> None:
    with kvdict.open(tmp_path / "app.db") as kv:
        backend = Backend(kv, prefix="t:")
    with pytest.raises(kvdict.ClosedError):
        list(backend.names())
    readonly = Backend(tmp_path / "app.db", prefix="t:", readonly=True)
    with pytest.raises(kvdict.ReadOnlyError):
        readonly.set_many({"k": 1})
    assert list(readonly.names()) == []


@pytest.mark.parametrize(
    ("place", "reply"),
    [("a-title", Reply(503)), ("f" * 32, refused(429, 10048))],
    ids=["when it was to be opened", "as its daily quota is spent"],
)
def test_a_service_that_fails_is_left_alone_by_reads(place: str, reply: Reply) -> None:
    with RawServer(keep_answering(reply)) as server:
        where = f"kv+{server.url.removesuffix('/client/v4')}/{ACCOUNT}/{place}"
        backend = Backend(where, prefix="t:", token="x", max_wait=0)
        for _ in range(3):
            assert backend.get("k") is None
            assert backend.get_many(["k"]) == {}
            assert backend.has("k") is False
        assert len(server.requests) == 1
        assert backend.set("k", 1) is False
        assert len(server.requests) == 2


def test_failures_are_raised_where_that_is_asked_for(nowhere: str) -> None:
    backend = Backend(nowhere, prefix="t:", token="x", failures="raise", max_wait=0)
    calls: list[Callable[[], Any]] = [
        lambda: backend.get("k"), lambda: backend.set("k", 1), lambda: backend.add("k", 1),
        lambda: backend.set_many({"k": 1}), lambda: list(backend.names()), backend.clear,
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(kvdict.TransportError):
            call()


def test_a_service_that_hangs_costs_max_wait_and_no_minute(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"kv+http://127.0.0.1:{silent.getsockname()[1]}/{ACCOUNT}/{'f' * 32}"
        backend = Backend(where, prefix="t:", token="x", max_wait=1)
        started = time.monotonic()
        assert backend.get("k") is None
        assert backend.set("k", 1) is False
        assert time.monotonic() - started < 20


def test_complaints_of_one_kind_come_once_a_minute_and_count_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    complaints = Complaints(lambda: now)
    for _ in range(5):
        complaints.say("get failed", kvdict.TransportError("no answer"))
    complaints.say("get failed", kvdict.AuthError("the token"))
    now = 61.0
    complaints.say("get failed", kvdict.TransportError("no answer"))
    more = " (4 more since the last such message)"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "get failed: no answer"),
        ("ERROR", "get failed: the token"),
        ("WARNING", f"get failed{more}: no answer"),
    ]


# Sharing


def test_backends_of_one_place_and_options_share_one_namespace(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    one = Backend(path, prefix="a:")
    two = Backend(f"sqlite:///{path}", prefix="b:", codec="json")
    other = Backend(path, prefix="a:", buffer=True)
    for backend in (one, two, other):
        backend.set("k", 1)
    assert one.kv.client is two.kv.client
    assert one.kv.client is not other.kv.client
    assert sorted(kvdict.open(path).keys()) == ["a:k", "b:k"]


def test_threads_that_come_at_once_open_once(server: Server) -> None:
    where = served(server)
    barrier = threading.Barrier(8)
    found = []

    def use() -> None:
        backend = Backend(where, prefix="t:", create=True)
        barrier.wait()
        backend.set("k", 1)
        found.append(backend.kv.client)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


class Watched:
    """A lock that counts who has come to it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.come = threading.Semaphore(0)

    def __enter__(self) -> None:
        self.come.release()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_who_waited_for_an_opening_that_failed_does_not_wait_for_another() -> None:
    watched, attempts, errors = Watched(), [], []

    def fail() -> kvdict.KVNamespace[bytes]:
        for _ in range(4):
            assert watched.come.acquire(timeout=30)
        attempts.append(1)
        raise kvdict.TransportError("no answer")

    place = Shared(fail)
    place._lock = watched  # type: ignore[assignment] # to know when all have come

    def use() -> None:
        with pytest.raises(kvdict.TransportError, match="no answer") as caught:
            _ = place.kv
        errors.append(caught.value)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(attempts) == 1
    assert len(set(map(id, errors))) == 4
    with pytest.raises(kvdict.TransportError):  # who comes later tries
        threading.Thread(target=lambda: watched.come.release(3)).start()
        _ = place.kv
    assert len(attempts) == 2


def _child(backend: Backend, answer: Any) -> None:
    answer.send((backend.get("k"), backend.set("child", 2), backend.get("child")))


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("buffer", [None, True])
def test_a_forked_child_uses_the_same_backend(server: Server, buffer: bool | None) -> None:
    backend = Backend(served(server), prefix="t:", create=True, buffer=buffer)
    backend.set("k", 1)
    backend.kv.flush()
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_child, args=(backend, theirs))
    child.start()
    assert ours.poll(30)
    assert ours.recv() == (1, True, 2)
    child.join()
    assert child.exitcode == 0
    assert Backend(backend.kv.prefixed(""), prefix="").get("child") == 2


def test_what_is_written_is_there_for_the_next_worker(server: Server) -> None:
    where = served(server)
    Backend(where, prefix="t:", create=True).set("login", "me")
    with kvdict.open(where, codec="pickle") as other:
        assert other["t:login"] == "me"


def test_a_write_buffer_may_be_given_and_one_like_it_is_made_when_it_is_opened_anew(
    server: Server,
) -> None:
    buffer = kvdict.WriteBuffer(max_age=600)
    backend = Backend(served(server), prefix="t:", create=True, buffer=buffer)
    backend.set("k", 1)
    assert list(buffer.pending) == ["t:k"]
    close_all()
    assert backend.get("k") == 1
    backend.set("k", 2)
    assert backend.kv.buffer is not buffer
    assert (backend.kv.buffer.max_age, list(backend.kv.buffer.pending)) == (600, ["t:k"])


def test_the_buffer_is_turned_on_by_an_option(server: Server) -> None:
    where = served(server)
    backend = Backend(where, prefix="t:", create=True, buffer={"max_age": 600})
    backend.set("k", 1)
    assert backend.get("k") == 1
    with kvdict.open(where) as other:
        assert "t:k" not in other
        assert backend.flush()
        assert "t:k" in other
    with pytest.raises(kvdict.ConfigError, match="max_agee"):
        Backend(where, prefix="t:", buffer={"max_agee": 1})


def test_what_is_closed_in_the_end_opens_again() -> None:
    name = f"memory://{uuid.uuid4().hex}"
    backend = Backend(name, prefix="t:")
    with kvdict.open(name):
        backend.set("k", 1)
        close_all()
        assert backend.get("k") == 1


def test_what_cannot_be_flushed_stays_open() -> None:
    buffered = World(buffer={"max_age": 600})
    place = Shared(lambda: buffered.kv.using("bytes"))
    place.kv["k"] = b"1"
    buffered.knobs.faults, buffered.knobs.kinds, buffered.knobs.after = 1.0, ("500",), 0.0
    with pytest.raises(kvdict.FlushError):
        place.close()
    assert place.kv["k"] == b"1"
    buffered.knobs.faults = 0.0
    place.close()


def test_wrong_options_are_said_before_anything_is_opened() -> None:
    for options, said in (
        ({"failures": "hide"}, "known are 'miss' and 'raise'"),
        ({"cache": {"ttl": 1}}, "not a dict"),
        ({"colour": 1}, "unknown option 'colour'"),
        ({"codec": "yaml"}, "unknown codec 'yaml'"),
    ):
        with pytest.raises(kvdict.ConfigError, match=said):
            Backend("memory://", prefix="t:", **options)
    with pytest.raises(kvdict.ConfigError, match="names an account and no namespace"):
        Backend(f"kv://{ACCOUNT}", prefix="t:")
    with pytest.raises(kvdict.ConfigError, match="nothing to open"):
        Backend(prefix="t:")


def test_an_unknown_title_is_said_in_the_log_as_an_error(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    backend = Backend(served(server), prefix="t:")
    assert backend.get("k") is None
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "no namespace has the title" in record.getMessage()


def test_the_token_is_not_shown_by_what_is_kept_of_the_options() -> None:
    Backend("links", prefix="t:", account_id=ACCOUNT, token="s3cret")
    assert "s3cret" not in repr(shared._all.known)


def test_a_key_that_seems_to_be_missing_is_deleted_as_well() -> None:
    store = Store(None)
    with serve(Emulator(store, knobs=Knobs(cache_misses=30))) as running:
        where = served(running)
        backend = Backend(where, prefix="t:", create=True)
        assert not backend.has("k")  # the service goes on saying so for a while
        with kvdict.open(where, buffer=False) as other:
            other["t:k"] = 1
        assert not backend.has("k")
        assert list(backend.names()) == ["k"]
        assert not backend.remove("k")
        assert list(backend.names()) == []
    store.close()
