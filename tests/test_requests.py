"""What each operation costs, in requests: never more than these numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

import kvdict
from tests.conftest import Opener

Spent = Callable[[kvdict.KVNamespace[Any], Callable[[], Any]], float]
KV = kvdict.KVNamespace[Any]


@pytest.fixture(params=["memory", "file", "served"])
def home(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_kv(open_kv: Opener) -> Opener:
    """Open namespaces that write through and remember nothing: each call pays for itself."""

    def open_new(**options: Any) -> KV:
        buffer = kvdict.WriteBuffer(write_through=True, settle=0)
        return open_kv(buffer=buffer, **options)

    return open_new


SINGLE: dict[str, tuple[int, Callable[[KV], Any]]] = {
    "kv[k]": (1, lambda kv: kv["k"]),
    "get": (1, lambda kv: kv.get("k")),
    "get of a missing key": (1, lambda kv: kv.get("missing")),
    "entry": (1, lambda kv: kv.entry("k")),
    "metadata": (1, lambda kv: kv.metadata("k")),
    "kv[k] = v": (1, lambda kv: operator.setitem(kv, "k", 2)),
    "put": (1, lambda kv: kv.put("k", 2, expiration_ttl=60, metadata={"a": 1})),
    "delete": (1, lambda kv: kv.delete("k")),
    "in": (1, lambda kv: "k" in kv),
    "not in": (1, lambda kv: "missing" not in kv),
    "in keys()": (1, lambda kv: operator.contains(kv.keys(), "k")),
    "in items()": (1, lambda kv: ("k", 1) in kv.items()),
    "del kv[k]": (2, lambda kv: operator.delitem(kv, "k")),
    "pop": (2, lambda kv: kv.pop("k")),
    "pop with a default of a missing key": (1, lambda kv: kv.pop("missing", None)),
    "setdefault of a missing key": (2, lambda kv: kv.setdefault("missing", 1)),
    "setdefault of a key that is there": (1, lambda kv: kv.setdefault("k", 5)),
    "popitem": (3, lambda kv: kv.popitem()),
    "bool": (1, bool),
    "touch": (2, lambda kv: kv.touch("k", expiration_ttl=100)),
    "len": (1, len),
    "entries of one": (1, lambda kv: kv.entries(["k"])),
    "get_many of one": (1, lambda kv: kv.get_many(["k"])),
    "update of one": (1, lambda kv: kv.update(k=2)),
    "update of nothing": (0, lambda kv: kv.update({})),
    "delete_many of nothing": (0, lambda kv: kv.delete_many([])),
    "get_many of nothing": (0, lambda kv: kv.get_many([])),
    "clear": (2, lambda kv: kv.clear()),
    "kv == kv": (0, lambda kv: kv == kv),
    "kv == 5": (0, lambda kv: kv == 5),
    "repr": (0, repr),
    "keys(), values(), items()": (0, lambda kv: (kv.keys(), kv.values(), kv.items())),
    "iter": (0, iter),
    "prefixed and using": (0, lambda kv: kv.prefixed("p").using("text")),
    "next(iter)": (1, lambda kv: next(iter(kv))),
    "next(iter(items()))": (2, lambda kv: next(iter(kv.items()))),
    "bad keys": (0, lambda kv: ("" in kv, kv.get(".."), kv.get_many(["."]))),
}


@pytest.mark.parametrize("name", SINGLE)
def test_an_operation_on_one_key_costs_so_many_requests(kv: KV, spent: Spent, name: str) -> None:
    cost, call = SINGLE[name]
    kv["k"] = 1
    assert spent(kv, lambda: call(kv)) == cost


@pytest.mark.parametrize("codec", ["text", "json", "pickle", "bytes"])
def test_an_entry_of_text_costs_one_request_through_every_codec(
    open_kv: Opener, spent: Spent, codec: str
) -> None:
    kv = open_kv(codec=codec)
    kv["k"] = b"text" if codec == "bytes" else "text"
    assert spent(kv, lambda: kv.entry("k")) == 1


def test_an_entry_that_is_not_text_costs_one_more(open_kv: Opener, spent: Spent) -> None:
    kv = open_kv(codec="bytes")
    kv["k"] = b"\xff"
    assert spent(kv, lambda: kv.entry("k")) == 2
    assert spent(kv, lambda: kv["k"]) == 1


N = 2500
LISTING, READING = 3, 25
MANY: dict[str, tuple[int, Callable[[KV], Any]]] = {
    "len": (LISTING, len),
    "list": (LISTING, list),
    "sorted": (LISTING, sorted),
    "tuple": (LISTING, tuple),
    "[*kv]": (LISTING, lambda kv: [*kv]),
    "set": (LISTING, set),
    "list(keys())": (LISTING, lambda kv: list(kv.keys())),
    "scan": (LISTING, lambda kv: list(kv.scan())),
    "pages": (LISTING, lambda kv: list(kv.pages())),
    "max": (LISTING, max),
    "bool": (1, bool),
    "popitem": (3, lambda kv: kv.popitem()),
    "values()": (LISTING + READING, lambda kv: list(kv.values())),
    "items()": (LISTING + READING, lambda kv: list(kv.items())),
    "dict(items())": (LISTING + READING, lambda kv: dict(kv.items())),
    "copy": (LISTING + READING, lambda kv: kv.copy()),
    "==": (LISTING + READING, lambda kv: kv == {f"{i:05}": i for i in range(N)}),
    "| {}": (LISTING + READING, lambda kv: kv | {}),
    "in values()": (LISTING + READING, lambda kv: -1 in kv.values()),
    "get_many": (READING, lambda kv: kv.get_many(f"{i:05}" for i in range(N))),
    "entries": (READING, lambda kv: kv.entries(f"{i:05}" for i in range(N))),
    "get_many of 101": (2, lambda kv: kv.get_many(f"{i:05}" for i in range(101))),
    "update": (1, lambda kv: kv.update({f"{i:05}": 0 for i in range(N)})),
    "put_many": (1, lambda kv: kv.put_many({f"{i:05}": 0 for i in range(N)}, metadata=1)),
    "|=": (1, lambda kv: kv.__ior__({f"{i:05}": 0 for i in range(N)})),
    "update of 10,000": (1, lambda kv: kv.update({f"{i:05}": 0 for i in range(10_000)})),
    "update of 10,001": (2, lambda kv: kv.update({f"{i:05}": 0 for i in range(10_001)})),
    "delete_many": (1, lambda kv: kv.delete_many(f"{i:05}" for i in range(N))),
    "delete_many of 10,001": (2, lambda kv: kv.delete_many(map(str, range(10_001)))),
    "clear": (LISTING + 1, lambda kv: kv.clear()),
    "clear of a prefix": (2, lambda kv: kv.prefixed("01").clear()),
    "keys() & other": (1, lambda kv: kv.keys() & {"00001", "nowhere"}),
    "keys() - other": (LISTING, lambda kv: kv.keys() - {"00001"}),
    "keys() == other": (LISTING, lambda kv: kv.keys() == {"00001"}),
    "keys() <= other": (LISTING, lambda kv: kv.keys() <= {"00001"}),
    "items() == other": (LISTING + READING, lambda kv: kv.items() == kv.copy().items()),
}


@pytest.mark.parametrize("name", MANY)
def test_an_operation_on_2500_keys_costs_so_many_requests(
    open_kv: Opener, home: str, spent: Spent, name: str
) -> None:
    cost, call = MANY[name]
    kv = open_kv()
    kv.update({f"{number:05}": number for number in range(N)})
    if name == "items() == other":
        copied = kv.copy().items()
        assert spent(kv, lambda: kv.items() == copied) == cost
    else:
        assert spent(kv, lambda: call(kv)) == cost


def test_who_reads_few_pairs_does_not_pay_for_all(kv: KV, spent: Spent) -> None:
    kv.update({f"{number:05}": number for number in range(N)})
    assert spent(kv, lambda: list(islice(kv, 100))) == 1
    assert spent(kv, lambda: list(islice(kv.items(), 100))) <= 3
    assert spent(kv, lambda: kv == {"00000": -1, "x": 2}) <= 2


def test_comparing_two_namespaces_reads_each_once(open_kv: Opener, spent: Spent) -> None:
    one, two = open_kv(), open_kv()
    for kv in (one, two):
        kv.update({f"{number:05}": number for number in range(N)})
    assert spent(one, lambda: one == two) == LISTING + READING
    assert spent(two, lambda: one == two) == LISTING + READING


def test_updates_are_cut_by_bytes_too(kv: KV, spent: Spent) -> None:
    pairs = {str(number): "x" * 1_000_000 for number in range(25)}
    assert spent(kv, lambda: kv.update(pairs)) == 3
    assert spent(kv, lambda: dict(kv.items())) <= 1 + 4


def test_values_that_are_not_text_cost_a_request_each(open_kv: Opener, spent: Spent) -> None:
    kv = open_kv(codec="bytes")
    kv.update({f"{number:03}": b"\xff" for number in range(250)})
    assert spent(kv, lambda: kv.get_many(f"{number:03}" for number in range(250))) <= 253
    assert spent(kv, lambda: kv.get_many(f"{number:03}" for number in range(250))) <= 253


def test_one_value_that_is_not_text_does_not_make_all_others_single_reads(
    open_kv: Opener, spent: Spent
) -> None:
    kv = open_kv(codec="bytes")
    kv.update({f"{number:03}": b"text" for number in range(300)})
    kv["150"] = b"\xff"
    assert spent(kv, lambda: kv.get_many(f"{number:03}" for number in range(300))) <= 25


def test_opening_costs_one_request_for_each_hundred_namespaces(tmp_path: Any) -> None:
    where = f"sqlite:///{tmp_path}/many.db"
    with kvdict.Account(where) as account:
        for number in range(150):
            account.create(f"title {number:03}").close()
        before = account.client.transport.requests
        account.open("title 149").close()
        assert account.client.transport.requests - before <= 2
