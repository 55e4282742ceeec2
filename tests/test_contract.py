"""What every mapping of ours promises, in every home and through every codec."""

from __future__ import annotations

import base64
import datetime
import json
import operator
import pickle
import weakref
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

import pytest

import kvdict
from tests.conftest import Opener

VALUES: dict[str, list[Any]] = {
    "json": [None, True, 0, 1.5, "", "text", [1, [2]], {"a": {"b": None}}, "\ufffd", "\ud800"],
    "text": ["", "text", "line\r\nbreak\x00", "\ufeffmark", "\ufffd", "𝄞 é", "\uffff"],
    "bytes": [b"", b"ascii", b"\x00\xff", bytes(range(256)), "é".encode(), b"\xef\xbf\xbd"],
    "pickle": [None, (1, 2), {1, 2}, {1: "one"}, b"\xff", datetime.date(2026, 11, 24)],
}
AWKWARD = [
    "a", "A", "0", " ", "a b", "a/b", "/", "//", "/a", "a/", "...", "a.", ".a", "a..", "%", "%2F",
    "%2E%2E", "a?b", "a#b", "a&b=c", "a+b", "é", "e\u0301", "日本", "𝄞", "\uffff", "\x00", "\n",
    "\x1f", "\x7f", '"', "\\", "'", ";", ":", "@", "~", "^", "[]", "{}", "x" * 512, "é" * 256,
]  # fmt: skip


@pytest.fixture(params=VALUES)
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def coded(open_kv: Opener, codec: str) -> kvdict.KVNamespace[Any]:
    return open_kv(codec=codec)


def test_a_value_comes_back_as_it_was_stored_by_each_way_of_reading(
    coded: kvdict.KVNamespace[Any], codec: str
) -> None:
    expected = {f"key {number}": value for number, value in enumerate(VALUES[codec])}
    for key, value in expected.items():
        coded[key] = value
    assert {key: coded[key] for key in expected} == expected
    assert coded.get_many(expected) == expected
    assert dict(coded.items()) == expected
    assert list(coded.values()) == [expected[key] for key in sorted(expected)]
    assert {key: coded.entry(key).value for key in expected} == expected


def test_bulk_writes_store_the_same_as_single_ones(
    coded: kvdict.KVNamespace[Any], codec: str
) -> None:
    expected = {f"key {number}": value for number, value in enumerate(VALUES[codec])}
    coded.update(expected)
    assert {key: coded[key] for key in expected} == expected
    raw = coded.using("bytes")
    bulk = dict(raw.items())
    for key, value in expected.items():
        coded[key] = value
    assert dict(raw.items()) == bulk


@pytest.mark.parametrize("key", AWKWARD)
def test_any_legal_key_is_a_key_of_its_own(kv: kvdict.KVNamespace[Any], key: str) -> None:
    kv.update({"before": 0, "}}": 0})
    kv[key] = 1
    assert key in kv
    assert kv[key] == 1
    assert kv.get_many([key]) == {key: 1}
    assert kv.entries([key]) == {key: kvdict.Entry(1)}
    assert kv.entry(key).value == 1
    assert set(kv) == {"before", "}}", key}
    assert [found.name for found in kv.scan(key)] == [key]
    assert kv.pop(key) == 1
    assert key not in kv
    assert set(kv) == {"before", "}}"} - {key}
    kv.update({key: 2})
    assert kv[key] == 2
    del kv[key]
    kv[key] = 3
    kv.delete_many([key])
    assert kv.get(key, "gone") == "gone"


def test_awkward_keys_live_side_by_side_in_the_order_of_their_utf8(
    kv: kvdict.KVNamespace[Any],
) -> None:
    kv.update(dict.fromkeys(AWKWARD, "x"))
    assert list(kv) == sorted(AWKWARD) == sorted(AWKWARD, key=str.encode)
    kv.delete_many(AWKWARD[::2])
    assert list(kv) == sorted(AWKWARD[1::2])


def quiet(kv: kvdict.KVNamespace[Any]) -> dict[str, float]:
    """Return the statistics once nothing is on its way."""
    if not kv.readonly:
        kv.flush()
    return kv.stats()


class TestAsADict:
    def test_it_is_a_mutable_mapping(self, kv: kvdict.KVNamespace[Any]) -> None:
        assert isinstance(kv, MutableMapping)
        assert not isinstance(kv, dict)

    def test_an_empty_one_is_empty_in_every_respect(self, kv: kvdict.KVNamespace[Any]) -> None:
        assert not kv
        assert len(kv) == 0
        assert [list(kv), list(kv.items()), list(kv.values())] == [[], [], []]
        assert kv == {}
        assert kv.copy() == {}
        with pytest.raises(KeyError):
            kv.popitem()
        kv.clear()
        kv.update()
        kv.update({})

    def test_a_missing_key_is_a_plain_keyerror_with_the_key(
        self, kv: kvdict.KVNamespace[Any]
    ) -> None:
        for look in (
            kv.__getitem__, kv.__delitem__, kv.pop, kv.entry, kv.metadata, kv.touch
        ):  # fmt: skip
            with pytest.raises(KeyError) as caught:
                look("missing")
            assert type(caught.value) is KeyError
            assert caught.value.args == ("missing",)
        assert kv.get("missing") is None
        assert kv.get("missing", 5) == 5
        assert kv.pop("missing", 6) == 6
        kv.delete("missing")
        kv.delete_many(["missing", "too"])

    def test_setdefault_stores_once_and_returns_what_is_there(
        self, kv: kvdict.KVNamespace[Any]
    ) -> None:
        assert kv.setdefault("k", [1]) == [1]
        assert kv.setdefault("k", [2]) == [1]
        assert kv.setdefault("none") is None
        assert "none" in kv

    def test_popitem_takes_the_first_key(self, kv: kvdict.KVNamespace[Any]) -> None:
        kv.update({"b": 2, "a": 1})
        assert kv.popitem() == ("a", 1)
        assert kv.popitem() == ("b", 2)
        with pytest.raises(KeyError):
            kv.popitem()

    def test_update_takes_what_a_dict_takes(self, kv: kvdict.KVNamespace[Any]) -> None:
        class WithKeys:
            def keys(self) -> list[str]:
                return ["from keys"]

            def __getitem__(self, key: str) -> int:
                return 1

        kv.update({"mapping": 2})
        kv.update([("pairs", 3)], named=4)
        kv.update(other=5)
        kv.update(WithKeys())
        kv.update((key, 6) for key in ["generator"])
        assert kv.copy() == {
            "mapping": 2, "pairs": 3, "named": 4, "other": 5, "from keys": 1, "generator": 6,
        }  # fmt: skip
        for wrong in (None, 42, ["x"]):
            with pytest.raises((TypeError, ValueError)):
                kv.update(wrong)

    def test_one_namespace_updates_from_another(self, open_kv: Opener) -> None:
        one, two = open_kv(), open_kv()
        one.update({str(number): number for number in range(150)})
        two.update(one)
        assert one == two

    def test_merging_gives_dicts_and_merging_in_place_writes(
        self, kv: kvdict.KVNamespace[Any]
    ) -> None:
        kv.update({"a": 1, "b": 2})
        assert kv | {"b": 3} == {"a": 1, "b": 3}
        assert {"b": 3, "c": 4} | kv == {"a": 1, "b": 2, "c": 4}
        assert type(kv | {}) is dict
        same = kv
        kv |= {"c": 5}
        assert kv is same
        assert kv["c"] == 5
        for wrong in (1, [("a", 1)]):
            with pytest.raises(TypeError):
                operator.or_(kv, wrong)

    def test_equality_is_a_dicts(self, open_kv: Opener) -> None:
        one, two = open_kv(), open_kv()
        pairs = {f"k{number}": number for number in range(120)}
        one.update(pairs)
        two.update(pairs)
        assert one == pairs
        assert pairs == one
        assert one == two
        two["k7"] = -1
        assert one != two
        assert one != {**pairs, "more": 1}
        assert one != {key: pairs[key] for key in list(pairs)[1:]}
        assert one != [1]
        assert one != None  # noqa: E711 - the comparison is the test
        assert one.__eq__(5) is NotImplemented

    def test_it_is_not_hashable_and_not_reversible(self, kv: kvdict.KVNamespace[Any]) -> None:
        with pytest.raises(TypeError):
            hash(kv)
        with pytest.raises(TypeError):
            reversed(kv)  # type: ignore[call-overload]  # the mistake is meant

    def test_match_statements_and_unpacking_work(self, kv: kvdict.KVNamespace[Any]) -> None:
        kv.update({"a": 1, "b": 2})
        assert {**kv} == {"a": 1, "b": 2}
        assert [*kv] == ["a", "b"]
        match kv:
            case {"a": number, **rest}:
                assert (number, rest) == (1, {"b": 2})
            case _:
                pytest.fail("a namespace is a mapping")

    def test_keys_that_are_not_str_are_a_dicts_missing_keys_and_no_keys_to_write(
        self, kv: Any
    ) -> None:
        for key in (1, None, b"k", ("a",), 1.5):
            assert key not in kv
            assert kv.get(key, "default") == "default"
            assert kv.get_many([key]) == kv.entries([key]) == {}
            for read in (kv.__getitem__, kv.pop, kv.__delitem__, kv.entry, kv.metadata):
                with pytest.raises(KeyError):
                    read(key)
            for write in (
                lambda key: kv.__setitem__(key, 1),
                lambda key: kv.put(key, 1),
                lambda key: kv.setdefault(key, 1),
                lambda key: kv.update({key: 1}),
                kv.delete,
                lambda key: kv.delete_many([key]),
            ):
                with pytest.raises(TypeError, match="keys are str"):
                    write(key)
        assert len(kv) == 0


class TestViews:
    @pytest.fixture
    def pairs(self, kv: kvdict.KVNamespace[Any]) -> dict[str, Any]:
        pairs = {"a": 1, "b": [2], "c": "three"}
        kv.update(pairs)
        return pairs

    def test_views_are_live_sized_and_print_without_reading(
        self, kv: kvdict.KVNamespace[Any], pairs: dict[str, Any]
    ) -> None:
        keys, values, items = kv.keys(), kv.values(), kv.items()
        assert len(keys) == len(values) == len(items) == 3
        kv["d"] = 4
        assert list(keys) == ["a", "b", "c", "d"]
        before = quiet(kv)
        assert all("KVNamespace" in repr(view) for view in (keys, values, items))
        assert kv.stats() == before

    def test_membership(self, kv: kvdict.KVNamespace[Any], pairs: dict[str, Any]) -> None:
        assert "a" in kv.keys()  # noqa: SIM118 - the view is the test
        assert "x" not in kv.keys()  # noqa: SIM118 - the view is the test
        assert [2] in kv.values()
        assert 9 not in kv.values()
        assert ("b", [2]) in kv.items()
        assert ("b", [3]) not in kv.items()

    @pytest.mark.parametrize("other", [{"a", "x"}, {"a", "b", "c"}, set(), {"a", "b", "c", "d"}])
    def test_keys_behave_as_a_set(
        self, kv: kvdict.KVNamespace[Any], pairs: dict[str, Any], other: set[str]
    ) -> None:
        mine = set(pairs)
        for operation in (
            operator.and_, operator.or_, operator.sub, operator.xor, operator.eq, operator.ne,
            operator.lt, operator.le, operator.gt, operator.ge,
        ):  # fmt: skip
            assert operation(kv.keys(), other) == operation(mine, other), operation
            assert operation(other, kv.keys()) == operation(other, mine), operation
        assert kv.keys().isdisjoint(other) == mine.isdisjoint(other)
        assert (kv.keys() & ["a", 5, "x"]) == {"a"}

    def test_items_compare_although_their_values_are_not_hashable(
        self, kv: kvdict.KVNamespace[Any], pairs: dict[str, Any]
    ) -> None:
        assert kv.items() == pairs.items()
        assert pairs.items() == kv.items()
        assert kv.items() != {**pairs, "d": 4}.items()
        assert kv.items() != {**pairs, "c": 3}.items()
        other: Any = list(pairs.items())
        assert kv.items() != other
        assert kv.keys() == pairs.keys()


class TestIteration:
    def test_writing_and_deleting_while_iterating_is_allowed(
        self, kv: kvdict.KVNamespace[Any]
    ) -> None:
        kv.update({f"{number:04}": number for number in range(1100)})
        for key in kv:
            del kv[key]
        assert len(kv) == 0
        kv.update({f"{number:04}": number for number in range(1100)})
        for key, value in kv.items():
            kv[key] = value + 1
        assert list(kv.values()) == list(range(1, 1101))

    def test_two_iterators_do_not_disturb_each_other(self, kv: kvdict.KVNamespace[Any]) -> None:
        kv.update({f"{number:04}": number for number in range(1200)})
        one, two = iter(kv), iter(kv)
        assert next(one) == "0000"
        assert len(list(two)) == 1200
        assert len(list(one)) == 1199
        assert next(one, None) is None

    @pytest.mark.parametrize(
        ("write", "left"),
        [
            (lambda kv: operator.setitem(kv, "b", 2), ["a", "b"]),
            (lambda kv: kv.update(b=2), ["a", "b"]),
            (lambda kv: kv.setdefault("b", 2), ["a", "b"]),
            (lambda kv: operator.delitem(kv, "a"), []),
            (lambda kv: kv.delete_many(["a"]), []),
            (lambda kv: kv.pop("a"), []),
            (lambda kv: kvdict.sync({"b": 2}, kv), ["a", "b"]),
            (lambda kv: kvdict.sync({}, kv, delete=True), []),
        ],
    )
    def test_a_listing_that_len_made_does_not_hide_a_later_write(
        self, kv: kvdict.KVNamespace[Any], write: Callable[[Any], object], left: list[str]
    ) -> None:
        kv["a"] = 1
        iterator = iter(kv)
        assert len(kv) == 1
        write(kv)
        assert list(iterator) == left

    def test_an_iterator_works_after_its_namespaces_name_is_gone(
        self, kv: kvdict.KVNamespace[Any]
    ) -> None:
        kv.update({"user:a": 1, "user:b": 2})
        assert list(kv.prefixed("user:").items()) == [("a", 1), ("b", 2)]


class TestPrefixed:
    def test_a_view_sees_and_touches_only_what_is_behind_its_prefix(
        self, kv: kvdict.KVNamespace[Any]
    ) -> None:
        kv.update({"user": 0, "user:": 1, "user:a": 2, "user;": 3, "v": 4})
        users = kv.prefixed("user:")
        assert dict(users.items()) == {"": 1, "a": 2}
        assert [key.name for key in users.scan()] == ["", "a"]
        assert len(users) == 2
        assert users[""] == 1
        users["b/c"] = 5
        assert kv["user:b/c"] == 5
        assert users.pop("a") == 2
        users.clear()
        assert not users
        assert kv.copy() == {"user": 0, "user;": 3, "v": 4}

    def test_the_full_key_counts(self, kv: kvdict.KVNamespace[Any]) -> None:
        dots = kv.prefixed(".")
        with pytest.raises(kvdict.LimitError):
            dots["."] = 1
        assert "." not in dots
        dots[".."] = 2
        assert kv["..."] == 2
        long = kv.prefixed("p" * 500)
        long["x" * 12] = 3
        with pytest.raises(kvdict.LimitError, match="513"):
            long["x" * 13] = 4
        with pytest.raises(kvdict.LimitError):
            kv.prefixed("p" * 513)

    def test_views_nest_and_keep_codec_and_time_to_live(self, kv: kvdict.KVNamespace[Any]) -> None:
        inner = kv.prefixed("a:", expiration_ttl=3600).prefixed("b:").using("text")
        inner["k"] = "plain"
        assert inner.prefix == "a:b:"
        assert kv.using("text")["a:b:k"] == "plain"
        assert kv.using("text").entry("a:b:k").expiration is not None

    def test_closing_a_view_leaves_the_parent_open(self, kv: kvdict.KVNamespace[Any]) -> None:
        with kv.prefixed("a") as view:
            view["k"] = 1
        with pytest.raises(kvdict.ClosedError):
            view["k"]
        assert kv["ak"] == 1

    def test_closing_the_parent_closes_its_views(self, open_kv: Opener) -> None:
        kv = open_kv()
        view = kv.prefixed("a")
        kv.close()
        kv.close()
        with pytest.raises(kvdict.ClosedError):
            view["k"] = 1
        view.close()


class TestExpiryAndMetadata:
    def test_they_are_stored_read_back_and_replaced(self, kv: kvdict.KVNamespace[Any]) -> None:
        moment = int(datetime.datetime.now(datetime.UTC).timestamp()) + 5000
        kv.put("k", 1, expiration=moment, metadata={"by": ["me"]})
        assert kv.entry("k") == kvdict.Entry(1, moment, {"by": ["me"]})
        assert kv.metadata("k") == {"by": ["me"]}
        assert next(kv.scan()) == kvdict.Key("k", moment, {"by": ["me"]})
        kv["k"] = 2
        assert kv.entry("k") == kvdict.Entry(2, None, None)
        assert kv.metadata("k") is None

    @pytest.mark.parametrize("metadata", [0, False, "", [], {}, "text", 1.5, {"é": None}])
    def test_metadata_is_any_json(self, kv: kvdict.KVNamespace[Any], metadata: Any) -> None:
        kv.put("k", 1, metadata=metadata)
        kv.put_many({"bulk": 1}, metadata=metadata)
        assert kv.metadata("k") == kv.metadata("bulk") == metadata
        assert kv.entry("k").metadata == metadata

    @pytest.mark.parametrize("way", ["put", "put_many", "entry", "default", "view"])
    def test_each_way_to_say_a_time_to_live(self, open_kv: Opener, way: str) -> None:
        kv = open_kv(expiration_ttl=datetime.timedelta(hours=1) if way == "default" else None)
        soon = kv.client.transport.clock.now() + 3600
        if way == "put":
            kv.put("k", 1, expiration_ttl=3600)
        elif way == "put_many":
            kv.put_many({"k": 1}, expiration_ttl=datetime.timedelta(seconds=3600))
        elif way == "entry":
            kv.put_many({"k": kvdict.Entry(1, int(soon), None)})
        elif way == "default":
            kv["k"] = 1
        else:
            kv.prefixed("", expiration_ttl=3600)["k"] = 1
        expiration = kv.entry("k").expiration
        assert expiration is not None
        assert abs(expiration - soon) <= 5

    def test_an_aware_datetime_is_a_moment(self, kv: kvdict.KVNamespace[Any]) -> None:
        moment = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        moment += datetime.timedelta(days=1)
        kv.put("k", 1, expiration=moment)
        assert kv.entry("k").expiration == int(moment.timestamp())

    def test_touch_keeps_what_is_not_named(self, kv: kvdict.KVNamespace[Any]) -> None:
        now = int(kv.client.transport.clock.now())
        kv.put("k", {"v": 1}, expiration=now + 5000, metadata="m")
        kv.touch("k", metadata="n")
        assert kv.entry("k") == kvdict.Entry({"v": 1}, now + 5000, "n")
        kv.touch("k", expiration=now + 9000)
        assert kv.entry("k") == kvdict.Entry({"v": 1}, now + 9000, "n")
        kv.touch("k", expiration_ttl=None)
        assert kv.entry("k") == kvdict.Entry({"v": 1}, None, "n")
        kv.touch("k", metadata=None)
        assert kv.entry("k") == kvdict.Entry({"v": 1}, None, None)

    def test_touch_leaves_a_value_alone_that_the_codec_cannot_read(
        self, kv: kvdict.KVNamespace[Any]
    ) -> None:
        kv.using("bytes")["k"] = b"\xff\x00"
        kv.touch("k", metadata=1)
        assert kv.using("bytes").entry("k") == kvdict.Entry(b"\xff\x00", None, 1)


class TestBadInput:
    BAD_KEYS = ("", ".", "..", "x" * 513, "é" * 257, "\ud800", "a\udfffb")

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_an_illegal_key_is_refused_on_write_and_missing_on_read(
        self, kv: kvdict.KVNamespace[Any], key: str
    ) -> None:
        kv["there"] = 1
        before = quiet(kv)
        assert key not in kv
        assert kv.get(key) is None
        assert kv.get_many([key]) == kv.entries([key]) == {}
        assert kv.pop(key, 0) == 0
        for read in (kv.__getitem__, kv.__delitem__, kv.entry, kv.metadata, kv.touch):
            with pytest.raises(KeyError):
                read(key)
        for write in (
            lambda: kv.put(key, 1), lambda: kv.update({key: 1}), lambda: kv.setdefault(key, 1),
            lambda: kv.delete(key), lambda: kv.delete_many([key]),
        ):  # fmt: skip
            with pytest.raises(kvdict.LimitError, match="a key"):
                write()
        assert kv.stats() == before
        assert kv.copy() == {"there": 1}

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"expiration_ttl": 59}, "59.*60"),
            ({"expiration_ttl": -1}, "60"),
            ({"expiration_ttl": float("nan")}, "seconds"),
            ({"expiration_ttl": float("inf")}, "seconds"),
            ({"expiration_ttl": 10**400}, "seconds"),
            ({"expiration_ttl": datetime.timedelta(seconds=59)}, "60"),
            ({"expiration": 10}, "in the past"),
            ({"expiration": datetime.datetime(2040, 1, 1)}, "time zone"),
            ({"expiration": 10**15}, "ahead"),
            ({"expiration_ttl": 60, "expiration": 4_000_000_000}, "not both"),
            ({"metadata": "x" * 1023}, "1025.*1024"),
            ({"metadata": {1, 2}}, "not JSON"),
            ({"metadata": float("nan")}, "not JSON"),
            ({"metadata": "\ud800"}, "not JSON"),
        ],
    )
    def test_options_outside_the_limits_change_nothing(
        self, kv: kvdict.KVNamespace[Any], options: dict[str, Any], words: str
    ) -> None:
        kv.put("k", 1, metadata="old")
        before = quiet(kv)
        for write, pair in ((kv.put, ("k", 2)), (kv.put_many, ({"k": 2},))):
            with pytest.raises(kvdict.LimitError, match=words) as caught:
                write(*pair, **options)
            assert "'k'" in str(caught.value)
        assert kv.stats() == before
        assert kv.entry("k") == kvdict.Entry(1, None, "old")

    def test_the_largest_value_fits_and_one_byte_more_does_not(self, open_kv: Opener) -> None:
        kv = open_kv(codec="bytes")
        largest = b"\xff" * (25 * 1024 * 1024)
        kv["big"] = largest
        assert kv["big"] == largest
        with pytest.raises(kvdict.LimitError, match=r"26214401.*26214400"):
            kv["big"] = largest + b"x"
        with pytest.raises(kvdict.LimitError, match="'big'"):
            kv.update({"big": largest + b"x"})
        assert dict(kv.items()) == {"big": largest}
        assert kv.entry("big").value == largest

    def test_a_bad_pair_is_named_and_the_message_says_what_was_sent(
        self, kv: kvdict.KVNamespace[Any]
    ) -> None:
        def pairs() -> Iterator[tuple[str, Any]]:
            for number in range(10_500):
                yield f"{number:05}", number
            yield "bad", {1: "not a str key"}
            raise AssertionError("nothing is read after a bad pair")

        with pytest.raises(kvdict.CodecError, match="'bad'") as caught:
            kv.update(pairs())
        if kv.buffer.write_through:
            assert "10000 writes were accepted before" in str(caught.value)
            assert caught.value.keys == tuple(f"{number:05}" for number in range(10_000, 10_500))
            assert len(kv) == 10_000
        else:
            assert "10500 writes were accepted before" in str(caught.value)
            assert len(kv) == 10_500

    def test_a_value_the_codec_refuses_names_key_codec_and_advice(
        self, open_kv: Opener, codec: str
    ) -> None:
        kv = open_kv(codec=codec)
        value: Any = {"json": {1}, "text": 5, "bytes": "str", "pickle": lambda: 1}[codec]
        before = quiet(kv)
        with pytest.raises(kvdict.CodecError, match=r"'the key'.*(convert|codec)"):
            kv["the key"] = value
        assert kv.stats() == before

    @pytest.mark.usefixtures("collector_rests")
    @pytest.mark.parametrize(
        ("stored", "codec"),
        [
            (b"\xff", "json"), (b"{", "json"), (b"NaN", "json"), (b"", "json"),
            (b"[" * 100_000, "json"), (b"1" * 5000, "json"), (b"\xff", "text"),
            (b"not base64!", "pickle"), (base64.b64encode(b"no pickle"), "pickle"),
        ],
    )  # fmt: skip
    def test_a_stored_value_that_cannot_be_read_is_a_codec_error_and_stays(
        self, kv: kvdict.KVNamespace[Any], stored: bytes, codec: Any
    ) -> None:
        raw, through = kv.using("bytes"), kv.using(codec)
        raw["k"] = stored
        for read in (
            lambda: through["k"], lambda: through.get("k"), lambda: through.pop("k"),
            lambda: through.pop("k", None), lambda: through.entry("k"), lambda: through.popitem(),
            lambda: list(through.items()), lambda: through.get_many(["k"]),
            lambda: through.setdefault("k", "" if codec == "text" else 1),
        ):  # fmt: skip
            with pytest.raises(kvdict.CodecError, match=r"'k'.*kv\.using\('bytes'\)"):
                read()
        assert raw["k"] == stored
        assert "k" in through


class TestReadonly:
    @pytest.mark.parametrize("home", ["memory", "file", "served", "through", "buffered"])
    def test_every_write_is_refused_before_any_request(
        self, home: str, address: Any, open_kv: Opener
    ) -> None:
        where = address(home)
        with kvdict.open(where, create=True) as writer:
            writer["k"] = 1
            writer.flush()
            with kvdict.open(where, readonly=True) as kv:
                before = quiet(kv)
                for write in (
                    lambda: kv.put("k", 2), lambda: kv.delete("k"), lambda: kv.pop("k"),
                    lambda: kv.popitem(), lambda: kv.setdefault("n", 1), lambda: kv.clear(),
                    lambda: kv.update(a=1), lambda: kv.touch("k"), lambda: kv.delete_many(["k"]),
                    lambda: kv.put_many({"a": 1}), lambda: kv.__delitem__("k"),
                    lambda: kv.prefixed("p").put("k", 1), lambda: kv.using("text").put("k", ""),
                    lambda: kv.__ior__({"a": 1}),
                ):  # fmt: skip
                    with pytest.raises(kvdict.ReadOnlyError):
                        write()
                assert kv.stats() == before
                assert kv["k"] == 1


class TestLifetime:
    def test_a_closed_namespace_refuses_everything(self, open_kv: Opener) -> None:
        kv = open_kv()
        no_key: Any = 5
        with kv:
            kv["k"] = 1
        for use in (
            lambda: kv["k"], lambda: kv.get("k"), lambda: "k" in kv, lambda: iter(kv),
            lambda: len(kv), lambda: bool(kv), lambda: kv.put("k", 1), lambda: kv.update(a=1),
            lambda: kv.clear(), lambda: kv.items().__iter__(), lambda: kv.scan(),
            lambda: kv.prefixed("a"), lambda: kv.get_many(["k"]), lambda: kv.flush(),
            lambda: kv.copy(), lambda: kv == {}, lambda: no_key in kv, lambda: "" in kv,
            lambda: kv.refresh(""),
        ):  # fmt: skip
            with pytest.raises(kvdict.ClosedError):
                use()
        assert "KVNamespace" in repr(kv)

    def test_flush_says_how_much_was_sent(self, kv: kvdict.KVNamespace[Any]) -> None:
        kv["k"] = 1
        assert kv.flush().sent == (0 if kv.buffer.write_through else 1)
        assert kv.flush(timeout=0) == kvdict.FlushResult(sent=0)


def test_pages_can_be_resumed_by_their_cursor(kv: kvdict.KVNamespace[Any]) -> None:
    kv.update({f"{number:03}": number for number in range(25)})
    pages = kv.pages(limit=10)
    first = next(pages)
    assert [key.name for key in first.keys] == [f"{number:03}" for number in range(10)]
    kv["0095"] = "inserted behind the first page"
    rest = [key.name for page in kv.pages(cursor=first.cursor, limit=10) for key in page.keys]
    assert rest == ["0095", *(f"{number:03}" for number in range(10, 25))]
    assert [key.name for page in kv.pages("02") for key in page.keys] == [
        f"{number:03}" for number in range(20, 25)
    ]


def test_the_modules_json_and_pickle_are_codecs(open_kv: Opener) -> None:
    for module, value in ((json, {"a": [1]}), (pickle, {1, 2})):
        kv = open_kv(codec=module)
        kv["k"] = value
        kv.update({f"{number}": value for number in range(5)})
        assert kv["k"] == value
        assert kv.entry("k").value == value
        assert list(kv.values()) == [value] * 6
        assert module.__name__ in repr(kv)


def test_any_mapping_may_be_compared_or_merged(kv: kvdict.KVNamespace[Any]) -> None:
    class Other(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return {"a": 1}[key]

        def __iter__(self) -> Iterator[str]:
            return iter(["a"])

        def __len__(self) -> int:
            return 1

    kv["a"] = 1
    assert kv == Other()
    assert kv | Other() == {"a": 1}
    assert Other() | kv == {"a": 1}


def test_a_str_is_not_taken_for_several_keys(kv: kvdict.KVNamespace[Any]) -> None:
    for use in (kv.get_many, kv.delete_many, kv.entries):
        with pytest.raises(TypeError, match=r"several keys, not one str: write \['abc'\]"):
            use("abc")


def test_keys_are_no_other_thing(kv: kvdict.KVNamespace[Any]) -> None:
    kv["k"] = 1
    other: Any = ["k"]
    assert kv.keys() != other
    assert kv.keys() == {"k"}


def test_a_codec_that_gives_neither_text_nor_bytes_is_named(open_kv: Opener) -> None:
    class Counting:
        def dumps(self, value: Any) -> Any:
            return len(value)

        def loads(self, data: bytes) -> Any:
            raise AssertionError("nothing was stored")

    kv = open_kv(codec=Counting())
    with pytest.raises(kvdict.CodecError, match=r"dumps returned int, not str or bytes"):
        kv["k"] = "value"


def test_an_iterator_that_has_to_ask_a_closed_namespace_says_so() -> None:
    kv = kvdict.open("memory://")
    kv.update({f"{number:04}": number for number in range(1500)})
    keys = iter(kv)
    next(keys)
    kv.close()
    with pytest.raises(kvdict.ClosedError):
        list(keys)


@pytest.mark.usefixtures("collector_rests")
@pytest.mark.parametrize(
    "look",
    [
        lambda kv: kv["missing"], lambda kv: kv.get("missing"), lambda kv: "missing" in kv,
        lambda kv: kv.entry("missing"), lambda kv: kv.metadata("missing"),
        lambda kv: kv.pop("missing", None), lambda kv: kv.setdefault("missing", 1),
        lambda kv: kv.get_many(["missing"]),
    ],
    ids=["item", "get", "in", "entry", "metadata", "pop", "setdefault", "get_many"],
)  # fmt: skip
def test_a_missing_key_keeps_no_value_of_its_callers_alive(
    kv: kvdict.KVNamespace[Any], look: Callable[[kvdict.KVNamespace[Any]], Any]
) -> None:
    class Large:
        pass

    def caller() -> weakref.ref[Large]:
        mine = Large()
        with suppress(KeyError):
            look(kv)
        return weakref.ref(mine)

    assert caller()() is None
