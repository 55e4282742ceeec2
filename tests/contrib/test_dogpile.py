"""A region of dogpile.cache on KV: what it stores, what it costs, what it does when KV is gone."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from dogpile.cache import CacheRegion, make_region
from dogpile.cache.api import NO_VALUE

import kvdict
from kvdict.contrib.dogpile import KVBackend
from kvdict.contrib.shared import close_all
from kvdict.emulator import Server
from tests.conftest import ACCOUNT, account_of
from tests.world import World

PAGE = (Path(__file__).parents[2] / "docs" / "dogpile.md").read_text()


def region_on(where: Any, **arguments: Any) -> CacheRegion:
    return make_region().configure("kvdict", arguments={"where": where, **arguments})


@pytest.fixture
def region(world: World) -> CacheRegion:
    return region_on(world.kv)


def requests(world: World) -> float:
    return world.kv.stats()["requests"]


def test_a_hundred_values_are_read_and_a_thousand_written_or_deleted_in_one_request(
    world: World, region: CacheRegion
) -> None:
    pairs = {f"k{n}": n for n in range(1000)}
    before = requests(world)
    region.set_multi(pairs)
    assert requests(world) - before == 1
    assert region.get_multi(list(pairs)[:100]) == list(range(100))
    assert requests(world) - before == 2
    region.delete_multi(list(pairs))
    assert requests(world) - before == 3
    assert region.get_multi(["k1", "k2"]) == [NO_VALUE, NO_VALUE]


def test_one_value_takes_one_request(world: World, region: CacheRegion) -> None:
    before = requests(world)
    region.set("k", {"any": object})
    assert region.get("k") == {"any": object}
    region.delete("k")
    region.delete("k")
    assert requests(world) - before == 4


def test_what_is_missing_is_looked_for_again_under_the_lock(
    world: World, region: CacheRegion
) -> None:
    before = requests(world)
    assert region.get_or_create("k", lambda: 1) == 1
    assert requests(world) - before == 3
    assert region.get_or_create("k", lambda: 2) == 1
    assert requests(world) - before == 4


def test_get_or_create_many_reads_once_and_writes_once(world: World, region: CacheRegion) -> None:
    before = requests(world)
    keys = [f"k{n}" for n in range(50)]
    assert region.get_or_create_multi(keys, lambda *keys: list(keys)) == keys
    assert requests(world) - before == 2
    assert region.get_or_create_multi(keys, lambda *keys: []) == keys
    assert requests(world) - before == 3


def test_values_of_a_text_serializer_are_text_that_a_worker_can_read(world: World) -> None:
    region = make_region(serializer=lambda v: json.dumps(v).encode(), deserializer=json.loads)
    region.configure("kvdict", arguments={"where": world.kv})
    region.set("k", {"a": 1})
    stored = world.kv.using("text")["dogpile:k"]
    assert json.loads(stored.partition("|")[2]) == {"a": 1}


def test_signed_values_are_refused_where_the_secret_is_another_or_none(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    mine = region_on(world.kv, secret="mine")
    mine.set("k", 1)
    assert mine.get("k") == 1
    assert region_on(world.kv, secret="another").get("k") is NO_VALUE
    assert region_on(world.kv).get("k") is NO_VALUE
    region_on(world.kv).set("unsigned", 1)
    assert mine.get("unsigned") is NO_VALUE
    assert "mine" not in caplog.text
    assert "mine" not in repr(mine.actual_backend.cache.codec)


@pytest.mark.parametrize("ttl", [0.5, 30, timedelta(seconds=45), 90])
def test_a_value_is_kept_for_the_time_to_live_exactly(world: World, ttl: float | timedelta) -> None:
    region = region_on(world.kv, expiration_ttl=ttl)
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    region.set("a", 1)
    region.set_multi({"b": 2})
    world.pass_time(seconds - 0.1)
    assert region.get_multi(["a", "b"], ignore_expiration=True) == [1, 2]
    world.pass_time(0.2 if seconds < 60 else 1.1)
    assert region.get("a", ignore_expiration=True) is NO_VALUE
    assert region.get_multi(["a", "b"], ignore_expiration=True) == [NO_VALUE, NO_VALUE]


def test_without_one_a_value_stays(world: World, region: CacheRegion) -> None:
    region.set("k", 1)
    world.pass_time(1e8)
    assert region.get("k", ignore_expiration=True) == 1


@pytest.mark.parametrize("ttl", [0, -1, "60", True, float("nan")])
def test_a_time_to_live_that_is_none_is_an_error_at_once(world: World, ttl: Any) -> None:
    with pytest.raises(kvdict.ConfigError, match="expiration_ttl is"):
        region_on(world.kv, expiration_ttl=ttl)


@pytest.mark.parametrize("secret", ["", b"", 12])
def test_a_secret_that_signs_nothing_is_an_error_at_once(world: World, secret: Any) -> None:
    with pytest.raises(kvdict.ConfigError, match="secret"):
        region_on(world.kv, secret=secret)


def test_an_unknown_argument_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    region_on("memory://", bufer=True)
    assert "unknown arguments bufer" in caplog.text


def test_clear_deletes_what_stands_behind_the_prefix_and_nothing_else(world: World) -> None:
    mine, other = region_on(world.kv, prefix="mine:"), region_on(world.kv)
    world.kv["k"] = "not a cache's"
    for each in (mine, other):
        each.set("k", 1)
    mine.actual_backend.clear()
    assert mine.get("k") is NO_VALUE
    assert other.get("k") == 1
    assert world.kv["k"] == "not a cache's"


@pytest.mark.parametrize("key", ["", ".", "a" * 600, "ü" * 300, "\ud800", "k k|1 2"])
def test_keys_that_kv_would_not_take_are_keys(region: CacheRegion, key: str) -> None:
    region.set(key, 1)
    region.set_multi({key: 2, "other": 3})
    assert region.get(key) == 2
    assert region.get_multi(["other", key]) == [3, 2]
    region.delete_multi([key])
    assert region.get(key) is NO_VALUE


def test_a_region_is_configured_from_a_file_of_settings(tmp_path: Path) -> None:
    settings = {
        "cache.backend": "kvdict",
        "cache.expiration_time": "3600",
        "cache.arguments.where": f"sqlite:///{tmp_path}/cache.db",
        "cache.arguments.expiration_ttl": "7200",
        "cache.arguments.prefix": "web:",
    }
    region = make_region().configure_from_config(settings, "cache.")
    region.set("k", 1)
    close_all()
    with kvdict.open(f"sqlite:///{tmp_path}/cache.db") as kv:
        assert [key.name for key in kv.scan()] == ["web:k"]


def test_a_service_that_is_gone_is_a_cache_without_anything_or_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        where = f"kv+http://127.0.0.1:{unused.getsockname()[1]}/{ACCOUNT}/{'f' * 32}"
        region = region_on(where, max_wait=0)
        with caplog.at_level(logging.WARNING):
            assert region.get_or_create("k", lambda: 7) == 7
            assert region.get_multi(["a", "b"]) == [NO_VALUE, NO_VALUE]
            region.delete("k")
        assert "counts as a miss" in caplog.text
        with pytest.raises(kvdict.TransportError):
            region_on(where, max_wait=0, failures="raise").get("k")


@pytest.mark.parametrize("buffer", [False, True])
def test_threads_that_need_the_same_value_create_it_once(server: Server, buffer: bool) -> None:
    where = f"{account_of(server)}/test-{uuid.uuid4().hex}"
    region = region_on(where, create=True, buffer=buffer)
    calls: list[int] = []
    start = threading.Barrier(10)
    answers: list[int] = []

    @region.cache_on_arguments()
    def square(n: int) -> int:
        calls.append(n)
        return n * n

    def work() -> None:
        start.wait()
        answers.extend(square(n) for n in range(20))

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(calls) == list(range(20))
    assert sorted(answers) == sorted(n * n for n in range(20) for _ in range(10))
    cast(Any, square).invalidate(3)  # the decorator's types do not tell of it
    assert square(3) == 9
    assert calls[-1] == 3


def test_there_is_no_mutex_across_processes(region: CacheRegion) -> None:
    assert region.actual_backend.get_mutex("k") is None
    assert not region.actual_backend.has_lock_timeout()
    assert isinstance(region.actual_backend, KVBackend)


def test_the_pages_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KVDICT_OFFLINE", f"memory://{uuid.uuid4().hex}")
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 2
    names: dict[str, Any] = {"__name__": "page"}
    for text in blocks:
        exec(compile(text, "dogpile.md", "exec"), names)
