"""`kv.memoize`: functions whose results are remembered in a namespace."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntFlag
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

import kvdict
from kvdict import CodecError, KVNamespace, LimitError
from kvdict.argkeys import text_of
from tests import memoized_here
from tests.slow import Slow
from tests.world import World

ROOT = Path(__file__).parent.parent
Spent = Callable[[KVNamespace[Any], Callable[[], Any]], float]


@pytest.fixture
def kv() -> Iterator[KVNamespace[Any]]:
    with kvdict.open("memory://") as namespace:
        yield namespace


class Counted:
    """A function that counts its calls and returns what it is told to."""

    def __init__(self, *results: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._results = iter(results or itertools.count(1))

    def __call__(self, *args: Any) -> Any:
        self.calls.append(args)
        return next(self._results)


def together(work: Callable[[], Any], count: int) -> list[Any]:
    """Run the work in so many threads that start at once; return what they return or raise."""
    gate = threading.Barrier(count)

    def run(_n: int) -> Any:
        gate.wait(10)
        try:
            return work()
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


# Remembering


def test_a_function_is_called_once_for_the_same_arguments(kv: KVNamespace[Any]) -> None:
    made = Counted()

    @kv.memoize()
    def f(a: int, b: int = 2, *rest: int, c: int = 3, **more: int) -> Any:
        return made(a, b)

    assert f(1) == f(1, 2) == f(a=1) == f(b=2, a=1) == f(1, c=3) == 1
    assert f(1, 2, 4) == f(1, 2, 4) == 2
    assert f(1, x=1, y=2) == f(1, y=2, x=1) == 3
    assert f(2) == 4
    assert len(made.calls) == 4
    assert f.cache_info() == (6, 4, 0)


def test_another_process_finds_what_was_remembered(tmp_path: Path) -> None:
    made = Counted()
    for _ in range(2):
        with kvdict.open(tmp_path / "app.db") as kv:

            @kv.memoize()
            def f(a: int) -> Any:
                return made(a)

            assert f(1) == 1


def test_it_works_without_parentheses(kv: KVNamespace[Any]) -> None:
    @kv.memoize
    def double(n: int) -> int:
        return 2 * n

    assert double(2) == double(2) == 4
    assert double.cache_info().hits == 1


def test_none_is_remembered(kv: KVNamespace[Any]) -> None:
    made = Counted(None)
    f = kv.memoize(prefix="f:")(lambda: made())
    assert f() is f() is None


@pytest.mark.parametrize("codec", ["text", "bytes"])
def test_none_is_an_error_that_says_what_to_do_where_the_codec_takes_none(codec: Any) -> None:
    with kvdict.open("memory://", codec=codec) as kv:

        def find() -> None:
            return None

        with pytest.raises(CodecError) as caught:
            kv.memoize(prefix="f:")(find)()
        said = str(caught.value)
        assert ".find: its result cannot be remembered: key 'f:':" in said
        assert said.endswith("kv.using('json').memoize(...) remembers None")
        asked = kv.using("json").memoize(prefix="f:")(find)
        assert asked() is asked() is None
        assert asked.cache_info() == (1, 1, 0)


def test_exceptions_are_not_remembered(kv: KVNamespace[Any]) -> None:
    made = Counted(0, 4)
    f = kv.memoize(prefix="f:")(lambda: 8 // made())
    with pytest.raises(ZeroDivisionError):
        f()
    assert f() == f() == 2


@pytest.mark.parametrize("on_hit", [False, True])
def test_a_value_comes_as_the_codec_makes_it_and_belongs_to_the_caller(
    kv: KVNamespace[Any], on_hit: bool
) -> None:
    original = [1, (2, 3)]
    f = kv.memoize(prefix="f:")(lambda: original)
    if on_hit:
        f()
    value = f()
    assert value == [1, [2, 3]]
    value.append(4)
    assert f() == [1, [2, 3]]
    assert original == [1, (2, 3)]


def test_other_codecs_keep_what_they_keep() -> None:
    with kvdict.open("memory://", codec="pickle") as kv:
        f = kv.memoize(5, prefix="f:")(lambda: {(1, 2): {3}})
        assert f() == f() == {(1, 2): {3}}
        assert f.cache_info() == (1, 1, 0)
        raw = kv.using("bytes").memoize(5, prefix="g:")(lambda: b"\xff")
        assert raw() == raw() == b"\xff"
        assert raw.cache_info() == (1, 1, 0)


def test_what_the_codec_no_longer_reads_is_made_anew(
    kv: KVNamespace[Any], caplog: pytest.LogCaptureFixture
) -> None:
    f = kv.memoize(prefix="f:")(lambda: 1)
    kv.using("text")["f:"] = "{"
    assert f() == f() == 1
    assert f.cache_info() == (1, 1, 1)
    assert "cannot decode" in caplog.text


# Keys


def test_the_keys_begin_with_the_functions_name(kv: KVNamespace[Any]) -> None:
    cache = kv.prefixed("v1:")

    @cache.memoize()
    def f(a: int) -> int:
        return a

    f(1)
    name = "test_the_keys_begin_with_the_functions_name.<locals>.f"
    assert list(kv) == [f"v1:memoize:tests.test_memoize.{name}:1"]


def test_a_key_and_a_prefix_of_ones_own(kv: KVNamespace[Any]) -> None:
    @kv.memoize(key=lambda user, **_options: user["name"], prefix="user:")
    def load(user: dict[str, Any], verbose: bool = False) -> str:
        return str(user["name"]).title()

    assert load({"name": "ann", "socket": object()}) == load({"name": "ann"}, verbose=True) == "Ann"
    assert list(kv) == ["user:ann"]


@pytest.mark.parametrize("key", [1, None, b"k"])
def test_a_key_that_is_no_str_is_an_error(kv: KVNamespace[Any], key: Any) -> None:
    @kv.memoize(key=lambda: key)
    def f() -> None:
        pass

    with pytest.raises(TypeError, match=rf"<locals>\.f: key= returned a {type(key).__name__}"):
        f()


@pytest.mark.parametrize("key", ["", ".", "..", "\ud800", "é" * 300, "sha256:" + "0" * 64])
def test_any_str_makes_a_key(kv: KVNamespace[Any], key: str) -> None:
    made = Counted()
    f = kv.memoize(key=lambda key: key, prefix=".")(lambda key: made(key))
    assert f(key) == f(key) == 1
    assert f("sha256:") == 2
    f.invalidate(key)
    assert f(key) == 3


def test_a_key_that_looks_like_a_hash_is_not_taken_for_one(kv: KVNamespace[Any]) -> None:
    made = Counted()
    f = kv.memoize(key=lambda key: key, prefix="f:")(lambda key: made(key))
    assert f("x" * 600) == 1
    (stored,) = kv
    assert f(stored.removeprefix("f:")) == 2


def test_long_arguments_are_hashed(kv: KVNamespace[Any]) -> None:
    made = Counted()
    f = kv.memoize(prefix="f:")(lambda text: made(text))
    assert f("a" * 508) == f("a" * 508) == 1
    assert f("a" * 509) == f("a" * 509) == 2
    assert f("a" * 508 + "b") == 3
    assert {len(key) for key in kv} == {512, len("f:sha256:") + 64}
    assert f("é" * 300) == f("é" * 300) == 4
    assert f("\ud800") == f("\ud800") == 5


class Point(NamedTuple):
    x: int
    y: int


class Size(NamedTuple):
    x: int
    y: int


@dataclass
class Shape:
    x: Any
    y: Any = 0


class Level(IntFlag):
    LOW = 1
    HIGH = 2


CRAFTED = 'A],"b",tests.test_memoize.Odd[A'
Odd = Enum("Odd", {CRAFTED: 1, "A": 2})  # type: ignore[misc] # the names are the point
PARIS = ZoneInfo("Europe/Paris")
AMSTERDAM = ZoneInfo("Europe/Amsterdam")
AUTUMN = datetime(2030, 10, 27, 2, 30)

DIFFERENT: list[tuple[Any, ...]] = [
    (), (1,), (True,), (1.0,), ("1",), (b"1",), (bytearray(b"1"),), (Decimal(1),), (Fraction(1),),
    (None,), ("None",), ("null",), (0,), (False,), (0.0,), (-0.0,), ("",), (math.nan,),
    (math.inf,), (-math.inf,),
    ("a", "b"), ('a","b',), ("a,b",), (("a", "b"),), (["a", "b"],), ({"a", "b"},),
    (frozenset({"a", "b"}),), ({"a": "b"},), ({"a:b": None},), (("a",), "b"), ("a", ("b",)),
    ([],), ((),), ({},), (set(),), ("()",), ([[]],), ([], []), (((),),), ("[",), ("]",), ("\\",),
    ('"',), ('\\"',), ("'",), ("\n",), ("\x00",),
    (Point(1, 2),), (Size(1, 2),), ((1, 2),), (Shape(1, 2),), (Shape(1),), (Shape("1"),),
    (Level.LOW,), (Level.LOW | Level.HIGH,), (Level(0),), (3,), (Odd["A"],), (Odd[CRAFTED],),
    (Odd["A"], "b", Odd["A"]),
    (PurePosixPath("a"), "b", PurePosixPath("c")),
    (PurePosixPath('a),"b",pathlib.PurePosixPath(c'),),
    (PurePosixPath("a"),), (PureWindowsPath("a"),), (PurePosixPath('a"),"b"'),),
    (PurePosixPath("a"), "b"),
    (int,), (str,), (Point,), ("int",),
    (UUID(int=1),), (str(UUID(int=1)),),
    (timedelta(1),), (timedelta(seconds=1),), (timedelta(microseconds=1),), (timedelta(-1),),
    (date(2030, 1, 1),), (datetime(2030, 1, 1),), (time(0),), ("2030-01-01",),
    (datetime(2030, 1, 1, tzinfo=UTC),), (datetime(2030, 1, 1, tzinfo=timezone(timedelta(0, 60))),),
    (datetime(2030, 1, 1, tzinfo=AMSTERDAM),), (datetime(2030, 1, 1, tzinfo=PARIS),),
    (AUTUMN,), (AUTUMN.replace(fold=1),),
    (AUTUMN.replace(tzinfo=AMSTERDAM),), (AUTUMN.replace(tzinfo=AMSTERDAM, fold=1),),
    (time(2, 30, fold=1),), (time(2, 30),), (time(2, 30, tzinfo=UTC),),
]  # fmt: skip


def test_different_arguments_have_different_keys(kv: KVNamespace[Any]) -> None:
    f = kv.memoize(prefix="f:")(lambda *args, **kwargs: [len(args), len(kwargs)])
    for args in DIFFERENT:
        f(*args)
    assert f.cache_info() == (0, len(DIFFERENT), 0)
    f(a=1)
    f({"a": 1}, b=1)
    f({"b": 1}, a=1)
    f(("a", 1))
    assert f.cache_info() == (0, len(DIFFERENT) + 4, 0)


@pytest.mark.parametrize("args", DIFFERENT)
def test_equal_arguments_have_the_same_key(args: tuple[Any, ...]) -> None:
    assert text_of(copy.deepcopy(args)) == text_of(args)


def test_the_order_in_a_dict_or_set_does_not_count() -> None:
    assert text_of({"a": 1, "b": 2}) == text_of({"b": 2, "a": 1})
    assert text_of(set("abcdef")) == text_of(set("fedcba"))


def test_the_same_text_is_made_in_every_process() -> None:
    texts = {
        subprocess.run(
            [sys.executable, "-c", "from tests import memoized_here as m; print(m.make_keys())"],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout
        for seed, zone in [("1", "UTC"), ("2", "Asia/Tokyo"), ("3", "America/Lima")]
    }  # fmt: skip
    assert len(texts) == 1
    assert "tests.memoized_here.double:4" in texts.pop()


@pytest.mark.parametrize(
    ("folder", "name", "command"),
    [
        (".", "tests.memoized_here", ["-m", "tests.memoized_here"]),
        ("tests", "memoized_here", ["memoized_here.py"]),
    ],
    ids=["module", "file"],
)
def test_a_program_that_is_run_finds_what_others_import(
    folder: str, name: str, command: list[str]
) -> None:
    imported = ["-c", f"import {name} as m; print(m.make_keys(), end='')"]
    runs = {
        subprocess.run(
            [sys.executable, *how], cwd=ROOT / folder, capture_output=True, text=True, check=True
        ).stdout
        for how in (imported, command)
    }
    assert len(runs) == 1
    assert f"memoize:{name}.double:4'" in runs.pop()


class Plain:
    pass


class Nowhere(tzinfo):
    def utcoffset(self, _moment: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def tzname(self, _moment: datetime | None) -> str:
        return "nowhere"

    def dst(self, _moment: datetime | None) -> None:
        return None


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    "value",
    [
        object(), Plain(), [1, {"a": (Plain(),)}], Shape(Plain()), len, lambda: 1, iter([]),
        type("Text", (str,), {})("a"), datetime(2030, 1, 1, tzinfo=Nowhere()), ENDLESS, 10**5000,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_an_argument_without_a_text_is_an_error_that_names_it(
    kv: KVNamespace[Any], value: Any
) -> None:
    @kv.memoize()
    def load(a: int, socket: Any) -> None:
        raise AssertionError("was called")

    for call in (load, load.refresh, load.invalidate):
        with pytest.raises(
            TypeError, match=r"\.load: the argument 'socket' .* give memoize a key="
        ):
            call(1, value)


def test_wrong_arguments_are_the_functions_own_error(kv: KVNamespace[Any]) -> None:
    f = kv.memoize(prefix="f:")(lambda a: a)
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        f()


# Methods


def test_a_method_of_a_dataclass_remembers_by_what_it_compares(kv: KVNamespace[Any]) -> None:
    made = Counted()

    @dataclass
    class Shop:
        name: str
        session: Any = field(default=None, compare=False)

        @kv.memoize()
        def price(self, article: str) -> Any:
            """Say what it costs."""
            return made(self.name, article)

    assert Shop("a").price("milk") == Shop("a", object()).price(article="milk") == 1
    assert Shop("b").price("milk") == 2
    shop = Shop("a")
    assert Shop.price(shop, "milk") == 1
    assert shop.price.refresh("milk") == 3
    shop.price.invalidate("milk")
    assert shop.price("milk") == 4
    assert shop.price.cache_info() == Shop.price.cache_info() == (2, 3, 0)
    assert shop.price.__wrapped__("bread") == 5
    assert shop.price.__doc__ == "Say what it costs."
    assert list(inspect.signature(shop.price).parameters) == ["article"]
    shop.price.clear()
    assert not kv


def test_a_method_of_a_plain_object_is_an_error_that_says_what_to_do(kv: KVNamespace[Any]) -> None:
    class Shop:
        name = "a"

        @kv.memoize()
        def price(self) -> int:
            return 1

        @kv.memoize(key=lambda self: self.name)
        def size(self) -> int:
            return 2

    with pytest.raises(TypeError, match=r"Shop\.price: the argument 'self' cannot .* key="):
        Shop().price()
    assert Shop().size() == Shop().size() == 2


def test_class_and_static_methods_in_both_orders(kv: KVNamespace[Any]) -> None:
    made = Counted()

    class Shop:
        @kv.memoize()
        @classmethod
        def a(cls, n: int = 0) -> Any:
            return [cls.__name__, made(n)]

        @classmethod
        @kv.memoize()
        def b(cls, n: int) -> Any:
            return [cls.__name__, made(n)]

        @kv.memoize
        @staticmethod
        def c(n: int) -> Any:
            return made(n)

        @staticmethod
        @kv.memoize
        def d(n: int) -> Any:
            return made(n)

    class Market(Shop):
        pass

    assert Shop.a(1) == Shop().a(1) == ["Shop", 1]
    assert Market.a(1) == Market().a(1) == ["Market", 2]
    Shop.a.invalidate(1)
    assert (Shop.a(1), Market.a(1)) == (["Shop", 3], ["Market", 2])
    assert Shop.b(1) == Shop().b(1) == ["Shop", 4]
    assert Shop.c(1) == Shop().c(1) == 5
    assert Shop.d(1) == Shop().d(1) == 6
    for method in (Shop.c, Shop().d):
        method.invalidate(1)
    assert (Shop.c(1), Shop.d(1)) == (7, 8)


def test_a_bound_method_remembers_by_its_instance(kv: KVNamespace[Any]) -> None:
    made = Counted()

    @dataclass
    class Shop:
        name: str

        def price(self, article: str) -> Any:
            return made(article)

    one, two = (kv.memoize()(Shop(name).price) for name in "ab")
    assert one("milk") == one("milk") == 1
    assert two("milk") == 2
    price = memoized_here.Shop("a").price
    assert repr(price) == "<memoized method tests.memoized_here.Shop.price>"


def test_parameters_may_have_any_name(kv: KVNamespace[Any]) -> None:
    made = Counted()

    @kv.memoize
    def f(self: int, key: int = 0, function: int = 0) -> Any:
        return [self, key, function, made()]

    class Shop:
        @kv.memoize(key=lambda _shop, **named: repr(named))
        def price(shop, self: int) -> Any:  # noqa: N805 - that is what it is about
            return [self, made()]

    for call in (f, Shop().price):
        first = call(self=5)
        assert call(self=5) == first
        again = call.refresh(self=5)
        assert again != first
        call.invalidate(self=5)
        assert call(self=5) not in (first, again)
    assert f(self=1, key=2, function=3)[:3] == [1, 2, 3]


# Invalidate, refresh, clear


def test_invalidate_and_refresh_concern_one_result(kv: KVNamespace[Any]) -> None:
    made = Counted()
    f = kv.memoize(prefix="f:")(lambda a, b=0: made(a))
    assert (f(1), f(2)) == (1, 2)
    f.invalidate(b=0, a=1)
    assert (f(1), f(2)) == (3, 2)
    assert f.refresh(1) == 4
    assert (f(1), f(2)) == (4, 2)
    f.invalidate("never called")


def test_clear_takes_the_results_of_this_function_alone(kv: KVNamespace[Any]) -> None:
    class Outer:
        class Inner:
            @kv.memoize()
            @staticmethod
            def f() -> int:
                return 1

        @kv.memoize()
        @staticmethod
        def f() -> int:
            return 1

        @kv.memoize()
        @staticmethod
        def f2() -> int:
            return 1

    kv["memoize:"] = kv["x"] = 0
    for function in (Outer.f, Outer.f2, Outer.Inner.f):
        function()
    Outer.f.clear()
    assert len(kv) == 4
    assert (Outer.f2(), Outer.Inner.f(), Outer.f()) == (1, 1, 1)
    assert Outer.f2.cache_info() == Outer.Inner.f.cache_info() == (1, 1, 0)
    assert Outer.f.cache_info() == (0, 2, 0)


@pytest.mark.parametrize("forget", ["invalidate", "clear"])
@pytest.mark.parametrize("run", ["call", "refresh"])
@pytest.mark.parametrize("buffer", [False, True])
def test_what_is_forgotten_during_a_call_is_not_remembered_by_it(
    forget: str, run: str, buffer: bool
) -> None:
    with kvdict.open("memory://", buffer=buffer) as kv:
        made = Counted()

        @kv.memoize()
        def f() -> Any:
            value = made()
            if value == 1:
                getattr(f, forget)()
                assert in_a_thread(f) == 2
            return value

        assert (f() if run == "call" else f.refresh()) == 1
        assert f() == 2


def in_a_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(10)


def test_a_refresh_during_a_call_wins(kv: KVNamespace[Any]) -> None:
    made = Counted()

    @kv.memoize()
    def f() -> Any:
        value = made()
        if value == 1:
            assert in_a_thread(f.refresh) == 2
        return value

    assert (f(), f()) == (1, 2)


def test_during_a_refresh_the_older_result_is_served(kv: KVNamespace[Any]) -> None:
    made = Counted()

    @kv.memoize()
    def f() -> Any:
        value = made()
        if value == 2:
            assert in_a_thread(f) == 1
        return value

    assert f() == 1
    assert f.refresh() == 2
    assert f() == 2


@pytest.mark.parametrize("buffer", [{}, None])
def test_an_invalidation_while_the_result_is_being_stored_is_not_lost(
    buffer: dict[str, Any] | None,
) -> None:
    made = Counted()
    world = World(buffer=buffer)
    invalidating: list[threading.Thread] = []

    def before(method: str, url: str) -> None:
        if method == "PUT" and not invalidating:
            thread = threading.Thread(target=f.invalidate)
            invalidating.append(thread)
            thread.start()

    f = world.kv.memoize(prefix="f:")(lambda: made())
    world.adapter.before = before
    f()
    world.kv.flush()
    invalidating[0].join(10)
    world.kv.flush()
    assert f() == 2
    world.kv.close()


# One flight


def waiters_of(function: Any, count: int) -> Callable[[], bool]:
    """Tell whether so many threads wait for the call of a function that is under way."""

    def tell() -> bool:
        waiting = 0
        for call in itertools.chain(*function._calls.values()):
            waiting += len(call.over._waiting)
        return waiting >= count

    return tell


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(2000):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("cache", [False, True])
def test_64_threads_make_one_call_and_2_requests(cache: bool, spent: Spent) -> None:
    kv = kvdict.open("memory://", cache=cache)
    made = Counted([7])

    @kv.memoize()
    def f() -> Any:
        until(waiters_of(f, 63))
        return made()

    results: list[Any] = []
    assert spent(kv, lambda: results.extend(together(f, 64))) == 2
    assert results == [[7]] * 64
    assert len({id(result) for result in results}) == 64
    assert f.cache_info() == (63, 1, 0)
    kv.close()


def test_all_who_wait_get_the_exception_and_the_next_call_is_made_anew(
    kv: KVNamespace[Any],
) -> None:
    made = Counted()

    @kv.memoize()
    def f() -> Any:
        if made() == 1:
            until(waiters_of(f, 7))
            raise LookupError("gone")
        return "here"

    assert [str(error) for error in together(f, 8)] == ["gone"] * 8
    assert f() == "here"


def test_an_interrupt_of_the_thread_that_calls_is_not_given_to_those_who_wait(
    kv: KVNamespace[Any],
) -> None:
    made = Counted()

    @kv.memoize()
    def f() -> Any:
        if (value := made()) == 1:
            until(waiters_of(f, 1))
            raise KeyboardInterrupt
        return value

    def interrupted() -> None:
        with pytest.raises(KeyboardInterrupt):
            f()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(interrupted)
        until(lambda: len(made.calls) == 1)
        second = pool.submit(f)
        assert (first.result(10), second.result(10)) == (None, 2)


def test_different_arguments_do_not_wait_for_each_other(kv: KVNamespace[Any]) -> None:
    both = threading.Barrier(2)

    @kv.memoize()
    def f(n: int) -> int:
        both.wait(10)
        return n

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(f, [1, 2])) == [1, 2]


def test_recursion_works(kv: KVNamespace[Any]) -> None:
    @kv.memoize()
    def fib(n: int) -> int:
        return n if n < 2 else int(fib(n - 1)) + int(fib(n - 2))

    assert fib(30) == 832040
    assert fib.cache_info() == (28, 31, 0)
    with ThreadPoolExecutor(8) as pool:
        fib.clear()
        assert set(pool.map(fib, [25] * 8)) == {75025}


def test_a_function_that_calls_itself_with_the_same_arguments_does_not_wait_for_itself(
    kv: KVNamespace[Any],
) -> None:
    made = Counted()

    @kv.memoize()
    def f() -> Any:
        return f() if made() == 1 else "end"

    assert f() == "end"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_the_parents_call(tmp_path: Path) -> None:
    with kvdict.open(tmp_path / "app.db") as kv:
        made = Counted()

        @kv.memoize()
        def f() -> Any:
            if made() == 1 and in_a_child(f) != "end":
                return "child failed"
            return "end"

        assert in_a_thread(f) == "end"


def in_a_child(work: Callable[[], Any]) -> Any:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result = in_a_thread(work)
            os.write(writer, str(result).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


# Time to live


@pytest.mark.parametrize("ttl", [0.001, 0.25, 5, 59.999, 60, 60.5, 90, timedelta(seconds=5)])
@pytest.mark.parametrize("buffer", [{}, None])
def test_a_time_to_live_is_exact(ttl: Any, buffer: dict[str, Any] | None) -> None:
    made = Counted()
    world = World(buffer=buffer)
    f = world.kv.memoize(ttl, prefix="f:")(lambda: made())
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    assert f() == f() == 1
    world.pass_time(seconds - 0.001)
    assert seconds == 0.001 or f() == 1
    world.pass_time(0.002)
    assert f() == 2
    world.kv.flush()
    world.pass_time(seconds + 0.002)
    assert f() == 3
    world.kv.flush()
    world.pass_time(math.ceil(max(seconds, 60)) + 60)
    assert not list(world.kv)
    world.kv.close()


def test_without_one_results_are_kept_for_ever_or_for_the_namespaces_time() -> None:
    world = World()
    f = world.kv.memoize(prefix="f:")(lambda: 1)
    g = world.kv.prefixed("", expiration_ttl=100).memoize(prefix="g:")(lambda: 1)
    h = world.kv.prefixed("", expiration_ttl=100).memoize(30, prefix="h:")(lambda: 1)
    for function in (f, g, h):
        function()
    ends = {key.name: key.expiration for key in world.kv.scan()}
    assert ends == {"f:": None, "g:": world.time + 100, "h:": world.time + 60}
    world.kv.close()


def test_a_cache_does_not_prolong_it() -> None:
    with kvdict.open("memory://", cache=True) as kv:
        made = Counted()
        f = kv.memoize(0.05, prefix="f:")(lambda: made())
        assert f() == 1
        threading.Event().wait(0.06)
        assert f() == 2


@pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf, True, timedelta(0), 1e15])
def test_a_wrong_time_to_live_is_an_error(kv: KVNamespace[Any], ttl: Any) -> None:
    with pytest.raises(LimitError, match=r"memoized_here\.make_keys: expiration_ttl is"):
        kv.memoize(ttl)(memoized_here.make_keys)


@pytest.mark.parametrize("what", ["60", [60], object(), Plain()])
def test_what_is_neither_seconds_nor_a_function_is_an_error(
    kv: KVNamespace[Any], what: Any
) -> None:
    with pytest.raises(TypeError, match="memoize takes seconds or a function, not a"):
        kv.memoize(what)


# Errors


class Unready:
    def __reduce__(self) -> Any:
        raise ValueError("not ready")


def test_a_result_that_cannot_be_encoded_is_an_error_that_names_the_function(
    kv: KVNamespace[Any],
) -> None:
    @kv.memoize()
    def load(name: str) -> Any:
        return {name}

    for call in (load, load.refresh):
        with pytest.raises(
            CodecError, match=r"\.load: its result .* key '\"ann\"': 'json' .* this set"
        ):
            call("ann")
    assert not kv


def test_a_result_that_is_too_large_is_an_error_that_names_the_function(
    kv: KVNamespace[Any],
) -> None:
    @kv.memoize()
    def load() -> str:
        return "x" * 26 * 1024 * 1024

    with pytest.raises(LimitError, match=r"\.load: its result cannot .* the limit is"):
        load()


def test_what_cannot_be_remembered_is_refused_by_name(kv: KVNamespace[Any]) -> None:
    def generator() -> Iterator[int]:
        yield 1

    async def asynchronous() -> Any:
        yield 1

    def long() -> None:
        pass

    for function in (generator, asynchronous):
        with pytest.raises(TypeError, match=f"{function.__name__} is a generator"):
            kv.memoize()(function)
    with pytest.raises(TypeError, match=r"<lambda>: lambdas have no names .* prefix="):
        kv.memoize()(lambda: 1)
    with pytest.raises(kvdict.ConfigError, match=r"long: memoize needs a prefix"):
        kv.memoize(prefix="")(long)
    with pytest.raises(LimitError, match=r"long: the prefix .* shorter prefix="):
        kv.prefixed("x" * 300).memoize(prefix="y" * 150)(long)
    with pytest.raises(TypeError, match="a prefix is a str"):
        kv.memoize(prefix=7)(long)  # type: ignore[call-overload]  # the mistake is meant
    with pytest.raises(kvdict.ConfigError, match="on_error is 'ignore'"):
        kv.memoize(on_error="ignore")  # type: ignore[call-overload]  # the mistake is meant


def test_a_readonly_namespace_remembers_nothing_and_says_so_at_once(tmp_path: Path) -> None:
    kvdict.open(tmp_path / "app.db").close()
    with (
        kvdict.open(tmp_path / "app.db", readonly=True) as kv,
        pytest.raises(kvdict.ReadOnlyError),
    ):
        kv.memoize()(memoized_here.make_keys)


def test_a_closed_namespace_is_an_error() -> None:
    with kvdict.open("memory://") as kv:
        f = kv.memoize(prefix="f:")(lambda: 1)
    with pytest.raises(kvdict.ClosedError):
        f()
    with pytest.raises(kvdict.ClosedError):
        kv.memoize(prefix="f:")(lambda: 1)


def away(method: str, url: str) -> None:
    raise ValueError("no route")


def test_without_kv_the_function_is_called_and_the_errors_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = Counted()
    world = World()
    world.adapter.before = away
    f = world.kv.memoize(prefix="f:")(lambda: made())
    assert (f(), f()) == (1, 2)
    assert f.cache_info() == (0, 2, 4)
    assert "no route" in caplog.text
    world.adapter.before = None
    assert (f(), f()) == (3, 3)


def test_on_error_raise_raises() -> None:
    made = Counted()
    world = World()
    f = world.kv.memoize(prefix="f:", on_error="raise")(lambda: made())
    world.adapter.before = away
    with pytest.raises(kvdict.TransportError, match="no route"):
        f()
    assert not made.calls
    with pytest.raises(kvdict.TransportError, match="no route"):
        f.refresh()
    world.adapter.before = None
    assert f() == f() == 2


def test_an_invalidation_that_fails_is_raised() -> None:
    world = World()
    f = world.kv.memoize(prefix="f:")(lambda: 1)
    f()
    world.adapter.before = away
    for forget in (f.invalidate, f.clear):
        with pytest.raises(kvdict.TransportError, match="no route"):
            forget()


# KV is away


@pytest.fixture
def slow() -> Iterator[Slow]:
    with Slow().served() as service:
        yield service


def test_a_service_that_hangs_is_waited_for_2_seconds_and_then_left_alone(
    slow: Slow, caplog: pytest.LogCaptureFixture
) -> None:
    made = Counted()
    kv = slow.open(buffer=False)
    f = kv.memoize(prefix="f:")(lambda: made())
    with slow.hanging():
        assert f() == 1
        asked = slow.requests
        assert (f(), f(), f.refresh()) == (2, 3, 4)
        assert slow.requests == asked
    assert f.cache_info() == (0, 3, 7)
    (told,) = caplog.messages  # and not one a call
    assert "did not answer within 2 s" in told


def test_a_hanging_service_does_not_hold_up_buffered_results(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvdict.breaker.PATIENCE", 0.05)
    made = Counted()
    kv = slow.open(buffer=True)
    f = kv.memoize(30, prefix="f:")(lambda: made())
    with slow.hanging():
        assert (f(), f()) == (1, 1)
    assert f.cache_info() == (1, 1, 1)
    kv.flush()
    kv.refresh("f:")
    assert kv["f:"] == 1


def test_the_report_of_others_writes_is_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(buffer={})
    f = world.kv.memoize(prefix="f:")(lambda: 1)
    world.kv["mine"] = 1
    world.adapter.before = away
    world.kv._backing.flusher.rounds.make()
    world.adapter.before = None
    assert f() == 1
    assert f.cache_info().errors == 1
    with pytest.raises(kvdict.FlushError, match="'mine'"):
        world.kv["more"] = 2
    assert f() == f() == 1
    world.kv.close()


def test_what_an_older_process_left_is_told_to_who_listens(tmp_path: Path) -> None:
    """The first of all writes is told of one that is too old to be sent: no error is its cause."""
    where = f"sqlite:///{tmp_path}/app.db"
    with kvdict.open(where, buffer=kvdict.WriteBuffer(journal=tmp_path / "left")) as kv:
        kv["old"] = 1
        for part in ("", "-wal"):
            for name in ("one", "two"):
                shutil.copy(f"{tmp_path}/left{part}", f"{tmp_path}/{name}{part}")

    def again(name: str) -> KVNamespace[Any]:
        buffer = kvdict.WriteBuffer(journal=tmp_path / name, journal_max_age=1e-9)
        return kvdict.open(where, buffer=buffer)

    with again("one") as kv:
        assert kv.memoize(prefix="f:")(lambda: 1)() == 1
        with pytest.raises(kvdict.FlushError, match="'old' was refused"):
            kv["more"] = 2
    with again("two") as kv:
        f = kv.memoize(prefix="g:", on_error="raise")(lambda: 1)
        with pytest.raises(kvdict.FlushError, match="'old' was refused"):
            f()
        assert f() == 1
        kv["more"] = 2


# Costs


@pytest.mark.parametrize("ttl", [None, 5, 60])
def test_a_call_costs_1_request_and_1_more_to_keep_what_was_made(
    kv: KVNamespace[Any], spent: Spent, ttl: float | None
) -> None:
    f = kv.memoize(ttl, prefix="f:")(lambda: [1])
    assert spent(kv, f) == 2
    assert spent(kv, f) == 1
    assert spent(kv, f.refresh) == 1
    assert spent(kv, f.invalidate) == 1
    assert spent(kv, f) == 2
    assert spent(kv, f.clear) == 2


@pytest.mark.parametrize("ttl", [None, 5, 60])
def test_with_a_cache_it_costs_nothing_again(spent: Spent, ttl: float | None) -> None:
    with kvdict.open("memory://", cache=True) as kv:
        f = kv.memoize(ttl, prefix="f:")(lambda: [1])
        assert spent(kv, f) == 2
        assert spent(kv, f) == 0
        kv.cache.clear()  # type: ignore[union-attr]  # it was opened with one
        assert spent(kv, f) == 1
        assert spent(kv, f) == 0
        assert f.cache_info() == (3, 1, 0)


def test_buffered_results_are_sent_together(spent: Spent) -> None:
    with kvdict.open("memory://", buffer=kvdict.WriteBuffer(max_age=3600)) as kv:
        f = kv.memoize(prefix="f:")(lambda n: n)
        assert spent(kv, lambda: [f(n) for n in range(50)]) == 50
        assert spent(kv, lambda: [f(n) for n in range(50)]) == 0
        assert spent(kv, kv.flush) == 1


# What is known of the function


def test_the_function_shows_through(kv: KVNamespace[Any]) -> None:
    def add(a: int, b: int = 1) -> int:
        """Add."""
        return a + b

    f = kv.memoize()(add)
    assert f.__wrapped__ is add
    assert f(1) == 2
    assert (f.__name__, f.__doc__, f.__module__) == ("add", "Add.", __name__)  # type: ignore[attr-defined]  # copied from the function
    assert f.__qualname__ == add.__qualname__  # type: ignore[attr-defined]  # copied from the function
    assert inspect.signature(f) == inspect.signature(add)
    assert repr(f).startswith("<memoized tests.test_memoize.")
    assert not inspect.iscoroutinefunction(f)


def test_it_is_pickled_and_copied_by_reference() -> None:
    assert pickle.loads(pickle.dumps(memoized_here.double)) is memoized_here.double
    assert copy.deepcopy(memoized_here.double) is memoized_here.double
    price = pickle.loads(pickle.dumps(memoized_here.Shop("a").price))
    assert price("milk") == "milk at a"
