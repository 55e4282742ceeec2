"""A namespace against a dict, step by step, with faults on the way."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

import kvdict
from kvdict.limits import MIN_TTL
from tests.world import EXAMPLES, REPEATABLE, World

KEYS = st.text(min_size=1, max_size=8).filter(
    lambda key: key not in {".", ".."} and not any("\ud800" <= char <= "\udfff" for char in key)
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False,
    allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
    max_size=3), max_leaves=5,
)  # fmt: skip


class DictMachine(RuleBasedStateMachine):
    """Whatever happens to the namespace happens to the dict; they never differ."""

    parallel = False
    retries: float = 0
    knobs: dict[str, Any] = {}  # noqa: RUF012 - set once by each kind
    buffer: dict[str, Any] | None = None
    cache: dict[str, Any] | None = None
    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.parallel, buffer=self.buffer, cache=self.cache)
        self.kv = self.world.kv
        self.model: dict[str, Any] = {}

    @initialize(seed=st.integers(0, 2**16))
    def start_faults(self, seed: int) -> None:
        for name, value in {**self.knobs, "seed": seed}.items():
            setattr(self.world.knobs, name, value)

    @rule()
    def flush(self) -> None:
        self.kv.flush(timeout=1e8)
        assert self.kv.stats()["pending"] == 0

    @rule(timeout=st.integers(0, 5))
    def flush_a_little(self, timeout: int) -> None:
        with suppress(kvdict.FlushError):
            self.kv.flush(timeout=timeout)

    @rule(seconds=st.floats(0, 200))
    def let_time_pass(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    def teardown(self) -> None:
        self.kv.flush(timeout=1e8)
        # What expired while it was being sent is stored for a minute: less cannot be asked for.
        self.world.pass_time(max(LAGS.values()) + MIN_TTL + 1)
        stored = self.kv.client.list_keys(self.kv.id)
        while not stored.keys and stored.cursor:
            stored = self.kv.client.list_keys(self.kv.id, cursor=stored.cursor)
        assert set(self.model) == {key.name for key in stored.keys}
        stats = self.kv.stats()
        type(self).retries += stats["retries"] + stats["flush_retries"]
        self.kv.close()

    @rule(target=keys, key=KEYS)
    def name_a_key(self, key: str) -> str:
        return key

    @rule(key=keys, value=VALUES)
    def set(self, key: str, value: Any) -> None:
        self.kv[key] = value
        self.model[key] = value

    @rule(target=keys, pairs=st.dictionaries(KEYS, VALUES, max_size=6))
    def update(self, pairs: dict[str, Any]) -> Any:
        self.kv.update(pairs)
        self.model.update(pairs)
        return multiple(*pairs)

    @rule(key=keys)
    def get(self, key: str) -> None:
        assert self.kv.get(key, "nothing") == self.model.get(key, "nothing")
        assert (key in self.kv) == (key in self.model)

    @rule(key=consumes(keys))
    def delete(self, key: str) -> None:
        if key in self.model:
            del self.kv[key]
            del self.model[key]
        else:
            with pytest.raises(KeyError):
                del self.kv[key]

    @rule(key=keys)
    def pop(self, key: str) -> None:
        assert self.kv.pop(key, "nothing") == self.model.pop(key, "nothing")

    @rule(key=keys, value=VALUES)
    def setdefault(self, key: str, value: Any) -> None:
        assert self.kv.setdefault(key, value) == self.model.setdefault(key, value)

    @rule()
    def popitem(self) -> None:
        if self.model:
            first = min(self.model)
            assert self.kv.popitem() == (first, self.model.pop(first))

    @rule(several=st.lists(keys, max_size=5))
    def read_and_delete_many(self, several: list[str]) -> None:
        expected = {key: self.model[key] for key in several if key in self.model}
        assert self.kv.get_many(several) == expected
        self.kv.delete_many(several)
        for key in several:
            self.model.pop(key, None)

    @rule(prefix=st.text("ab:", max_size=1))
    def clear_a_part(self, prefix: str) -> None:
        self.kv.prefixed(prefix).clear()
        self.model = {k: v for k, v in self.model.items() if not k.startswith(prefix)}

    @rule(key=keys, ttl=st.integers(60, 10_000), metadata=st.text(max_size=5))
    def put_and_let_it_expire(self, key: str, ttl: int, metadata: str) -> None:
        self.kv.put(key, "mortal", expiration_ttl=ttl, metadata=metadata)
        assert self.kv.metadata(key) == metadata
        self.world.pass_time(ttl + 1e6)
        self.model.pop(key, None)
        assert key not in self.kv

    @invariant()
    def they_are_equal(self) -> None:
        assert dict(self.kv.items()) == self.model
        assert list(self.kv) == sorted(self.model)
        assert len(self.kv) == len(self.model)
        assert self.kv == self.model


MANY_FAULTS = {"faults": 0.2}
KINDS: dict[str, dict[str, Any]] = {
    "calm": {},
    "faults": MANY_FAULTS,
    "empty pages": {"empty_pages": True},
    "faults and empty pages": {"empty_pages": True, **MANY_FAULTS},
}


BUFFERS: dict[str, dict[str, Any] | None] = {
    "written through": None,
    "written through, settling": {"write_through": True, "settle": 60},
    "written behind": {"max_age": 1e9, "settle": 0},
    "written behind, settling": {"max_age": 1e9, "settle": 60},
    "written behind, one request a key": {"max_age": 1e9, "max_items": 1, "settle": 60},
}
LAGS = {"stale_reads": 20, "list_lag": 20, "cache_misses": 20}


def run(
    kind: str, parallel: bool, buffer: str, examples: int, cache: dict[str, Any] | None = None
) -> None:
    class Machine(DictMachine):
        pass

    Machine.knobs, Machine.parallel = KINDS[kind], parallel
    Machine.buffer, Machine.cache = BUFFERS[buffer], cache
    if "settling" in buffer:
        Machine.knobs = {**Machine.knobs, **LAGS}
    run_state_machine_as_test(
        Machine,
        settings=settings(REPEATABLE, max_examples=examples, stateful_step_count=20),
    )
    assert bool(Machine.retries) == ("faults" in kind)


@pytest.mark.parametrize("buffer", BUFFERS)
@pytest.mark.parametrize("parallel", [False, True], ids=["local", "parallel"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_namespace_is_a_dict_whatever_happens_on_the_way(
    kind: str, parallel: bool, buffer: str, examples: int
) -> None:
    run(kind, parallel, buffer, examples)


@pytest.mark.parametrize("buffer", BUFFERS)
@pytest.mark.parametrize("kind", ["calm", "faults and empty pages"])
@pytest.mark.parametrize("max_items", [2, 10_000])
@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_cached_namespace_is_one_too(
    kind: str, buffer: str, max_items: int, examples: int
) -> None:
    cache = {"ttl": 1e6, "miss_ttl": 1e6, "max_items": max_items}
    run(kind, True, buffer, examples, cache)
