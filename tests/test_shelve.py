"""The standard library's shelve over a namespace: files, flags, signatures, writing back."""

from __future__ import annotations

import base64
import contextlib
import dbm
import dbm.dumb
import json
import os
import pickle
import re
import shelve as standard
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import kvdict
from kvdict import shelve
from kvdict.emulator.knobs import Fault
from tests.conftest import account_of, serving

Address = Callable[[str], str]
LIBRARY = str(Path(kvdict.__file__).parent)
SECRET = "an ant in amber"


class Loud:
    """Tells when it is unpickled."""

    heard: ClassVar[list[str]] = []

    def __reduce__(self) -> Any:
        return Loud.heard.append, ("unpickled",)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def requests(shelf: shelve.KVShelf[Any], call: Callable[[], Any]) -> float:
    before = shelf.kv.stats()["requests"]
    call()
    return shelf.kv.stats()["requests"] - before


# Where a shelf is


@pytest.mark.parametrize(
    "name",
    ["mydata", "a b", "what?", "50 %", "%41", "c#", "#", "?namespace=x", ":memory:", "kv:links",
     "é", "folder/../x", "x.db", b"bytes", "a;b&c=d"],
)  # fmt: skip
def test_a_name_is_a_file_whatever_stands_in_it(name: str | bytes) -> None:
    os.mkdir("folder")
    with shelve.open(name) as shelf:
        shelf["k"] = {1: (2, 3)}
    assert sorted(os.listdir(".")) == sorted(["folder", os.path.basename(os.fsdecode(name))])
    with shelve.open(name, "r") as shelf:
        assert dict(shelf) == {"k": {1: (2, 3)}}


def test_a_name_that_is_not_utf8_is_a_file_too() -> None:
    with shelve.open(b"\xff.db") as shelf:
        shelf["k"] = 1
    assert os.listdir(b".") == [b"\xff.db"]
    with shelve.open(Path(os.fsdecode(b"\xff.db"))) as shelf:
        assert shelf["k"] == 1
        assert "%FF.db" in repr(shelf)


def test_paths_of_all_kinds_are_files(tmp_path: Path) -> None:
    with shelve.open(tmp_path / "x") as shelf:
        shelf["k"] = 1
    with shelve.open(str(tmp_path / "x")) as shelf, shelve.open("x") as same:
        assert shelf["k"] == same["k"] == 1


def test_a_relative_name_stays_where_it_was_when_the_folder_changes(tmp_path: Path) -> None:
    with shelve.open("x", writeback=True) as shelf:
        shelf["k"] = [1]
        os.mkdir("elsewhere")
        os.chdir("elsewhere")
        shelf["k"].append(2)
    assert not os.listdir(".")
    with shelve.open(tmp_path / "x") as shelf:
        assert shelf["k"] == [1, 2]


def test_a_url_is_what_open_takes() -> None:
    with shelve.open("sqlite:///x.db?namespace=mine") as shelf:
        shelf["k"] = 1
        assert shelf.kv.title == "mine"
    with kvdict.open("sqlite:///x.db?namespace=mine", codec="pickle") as kv:
        assert kv["k"] == 1


@pytest.mark.parametrize("nothing", [None, 7, ["x"]])
def test_what_is_no_name_is_a_type_error(nothing: Any) -> None:
    with pytest.raises(TypeError):
        shelve.open(nothing)


def test_options_of_open_are_taken_along(address: Address) -> None:
    with shelve.open(address("served"), prefix="a:", buffer=False) as shelf:
        shelf["k"] = 1
        assert shelf.kv.prefix == "a:"
        assert shelf.kv.buffer.write_through


@pytest.mark.parametrize("option", ["codec", "create", "readonly"])
def test_what_the_flag_or_the_serializer_says_is_no_option(option: str) -> None:
    options: Any = {option: True}
    with pytest.raises(kvdict.ConfigError, match=option):
        shelve.open("x", **options)
    assert not os.path.exists("x")


# Flags


@pytest.mark.parametrize("flag", ["r", "w"])
@pytest.mark.parametrize("where", ["x", "sqlite:///x"])
def test_r_and_w_need_it_to_exist_and_make_nothing(flag: Any, where: str) -> None:
    with pytest.raises(dbm.error, match="does not exist") as caught:
        shelve.open(where, flag)
    assert isinstance(caught.value, shelve.ShelveError)
    assert os.listdir(".") == []


@pytest.mark.parametrize("flag", ["r", "w"])
def test_r_and_w_need_a_namespace_to_exist(flag: Any, address: Address) -> None:
    with pytest.raises(kvdict.NotFoundError):
        shelve.open(address("served"), flag)


def test_c_makes_a_namespace_and_n_empties_it(address: Address) -> None:
    where = address("served")
    with shelve.open(where) as shelf:
        shelf["k"] = 1
    with shelve.open(where, "w") as shelf:
        assert shelf["k"] == 1
    with shelve.open(where, "n") as shelf:
        assert not shelf
    with shelve.open(where) as shelf:
        assert len(shelf) == 0


def test_what_cannot_be_emptied_is_closed_again() -> None:
    with serving() as (server, knobs):
        with kvdict.open(f"{account_of(server)}/t", create=True) as kv:
            kv["k"] = "before"
        where = f"{account_of(server)}/{kv.id}"  # by id: the first request is that of emptying
        knobs.planned.append(Fault("500"))
        with pytest.raises(kvdict.ServerError):
            shelve.open(where, "n", buffer=kvdict.WriteBuffer(journal="journal"), max_wait=0.001)
        with shelve.open(where, "n", buffer=kvdict.WriteBuffer(journal="journal")) as shelf:
            assert not shelf


def test_n_leaves_what_is_not_behind_the_prefix() -> None:
    with shelve.open("x") as shelf:
        shelf.update({"a:1": 1, "b:1": 2})
    shelve.open("x", "n", prefix="a:").close()
    with shelve.open("x") as shelf:
        assert dict(shelf) == {"b:1": 2}


def test_r_refuses_writes_before_any_request(address: Address) -> None:
    where = address("served")
    with shelve.open(where) as shelf:
        shelf["k"] = 1
    writes: list[Callable[[Any], Any]] = [
        lambda shelf: shelf.__setitem__("k", 2),
        lambda shelf: shelf.__delitem__("k"),
        lambda shelf: shelf.update(k=2),
        lambda shelf: shelf.pop("k"),
        lambda shelf: shelf.popitem(),
        lambda shelf: shelf.setdefault("l", 2),
        lambda shelf: shelf.clear(),
    ]
    with shelve.open(where, "r") as shelf:
        before = shelf.kv.stats()["requests"]
        for write in writes:
            with pytest.raises(kvdict.ReadOnlyError):
                write(shelf)
        assert shelf.kv.stats()["requests"] == before
        assert dict(shelf.items()) == {"k": 1}


def test_changes_in_a_cache_that_is_read_only_are_refused_at_close_which_closes() -> None:
    with shelve.open("x") as shelf:
        shelf["k"] = [1]
    shelf = shelve.open("x", "r", writeback=True)
    assert shelf["k"] == [1]
    shelf["k"].append(2)
    with pytest.raises(kvdict.ReadOnlyError):
        shelf.close()
    shelf.close()
    with pytest.raises(ValueError, match="closed"):
        shelf["k"]
    with shelve.open("x", "r", writeback=True) as shelf:  # unchanged: nothing to write
        assert shelf["k"] == [1]


def test_another_flag_is_refused() -> None:
    flag: Any = "x"
    with pytest.raises(ValueError, match="flag"):
        shelve.open("x", flag)
    assert os.listdir(".") == []


# Used after close


def test_all_is_a_value_error_after_close() -> None:
    shelf = shelve.open("x", writeback=True)
    shelf["k"] = 1
    shelf.close()
    uses: list[Callable[[], Any]] = [
        lambda: shelf["k"], lambda: shelf.get("k"), lambda: "k" in shelf, lambda: len(shelf),
        lambda: list(shelf), lambda: shelf.pop("k"), lambda: shelf.setdefault("k", 1),
        lambda: shelf.update(k=1), lambda: shelf.clear(), lambda: bool(shelf),
        lambda: list(shelf.items()), lambda: shelf.popitem(), lambda: shelf.__setitem__("k", 1),
        lambda: shelf.__delitem__("k"), lambda: list(shelf.values()), lambda: list(shelf.keys()),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(ValueError, match="closed"):
            use()
    shelf.close()
    shelf.sync()


# Serializers and protocols


def test_a_serializer_is_called_with_the_protocol_and_what_it_makes_is_stored() -> None:
    def dumps(value: Any, protocol: int) -> bytearray:
        return bytearray(json.dumps([protocol, value]), "ascii")

    with shelve.open("x", protocol=3, serializer=dumps, deserializer=json.loads) as shelf:
        shelf["k"] = {"a": 1}
        assert shelf["k"] == [3, {"a": 1}]
        assert shelf.setdefault("l", 7) == [3, 7]
    with kvdict.open(Path("x")) as kv:
        assert kv["k"] == [3, {"a": 1}]


@pytest.mark.parametrize("over", [{}, None])
@pytest.mark.parametrize("one", ["serializer", "deserializer"])
def test_a_serializer_needs_its_deserializer(over: Any, one: str) -> None:
    options: Any = {one: pickle.loads}
    with pytest.raises(shelve.ShelveError, match="serializer and deserializer"):
        shelve.open("x", **options) if over is None else shelve.Shelf(over, **options)
    assert os.listdir(".") == []


def test_a_serializer_that_returns_nothing_is_said() -> None:
    def forgetful(value: Any, protocol: int) -> None:
        pass

    with (
        shelve.open("x", serializer=forgetful, deserializer=bytes) as shelf,
        pytest.raises(kvdict.CodecError, match=r"'k'.*returned None"),
    ):
        shelf["k"] = 1
    with pytest.raises(shelve.ShelveError, match="returned None"):
        in_memory: shelve.Shelf[Any] = shelve.Shelf({}, serializer=forgetful, deserializer=bytes)
        in_memory["k"] = 1


def test_the_protocol_is_that_of_pickle() -> None:
    with shelve.open("x", protocol=0) as shelf:
        shelf["k"] = "v"
        assert base64.b64decode(shelf.kv["k"]) == pickle.dumps("v", 0)


def test_what_cannot_be_pickled_is_a_type_error_that_names_the_key() -> None:
    with shelve.open("x") as shelf:
        with pytest.raises(TypeError, match="'the key'"):
            shelf["the key"] = lambda: 0
        with pytest.raises(kvdict.CodecError, match="'the key'"):
            shelf.update({"the key": sys})
        assert not shelf


def test_a_shelf_over_a_dict_is_the_standard_librarys() -> None:
    theirs: dict[bytes, bytes] = {}
    shelf: shelve.Shelf[Any] = shelve.Shelf(theirs)
    with shelf:
        assert isinstance(shelf, standard.Shelf)
        shelf["k"] = [1]
    assert pickle.loads(theirs[b"k"]) == [1]
    writing_back: shelve.Shelf[Any] = shelve.Shelf(theirs, writeback=True)
    with writing_back as shelf:
        shelf["k"].append(2)
        shelf["l"] = []
        shelf["l"].append(3)
        assert pickle.loads(theirs[b"k"]) == [1]
    assert {key: pickle.loads(data) for key, data in theirs.items()} == {b"k": [1, 2], b"l": [3]}


# Signatures


def test_a_value_that_was_changed_is_refused_before_it_is_unpickled() -> None:
    Loud.heard.clear()
    with shelve.open("x", secret=SECRET) as shelf:
        shelf.update({f"k{n}": n for n in range(3)})
        assert dict(shelf) == {"k0": 0, "k1": 1, "k2": 2}
        stored = base64.b64decode(shelf.kv["k1"])
        shelf.kv["k1"] = base64.b64encode(stored[:32] + pickle.dumps(Loud()))
        reads: list[Callable[[], Any]] = [
            lambda: shelf["k1"], lambda: shelf.get("k1"), lambda: shelf.pop("k1"),
            lambda: dict(shelf.items()), lambda: list(shelf.values()),
            lambda: shelf.setdefault("k1", 1),
        ]  # fmt: skip
        for read in reads:
            with pytest.raises(kvdict.CodecError, match=r"'k1'.*secret"):
                read()
        assert shelf.kv["k1"]  # it was not popped
        assert Loud.heard == []


def test_a_value_is_signed_for_its_key() -> None:
    with shelve.open("x", secret=SECRET) as shelf:
        shelf["guest"], shelf["admin"] = "guest's", "admin's"
        shelf.kv["guest"] = shelf.kv["admin"]
        with pytest.raises(kvdict.CodecError, match=r"'guest'.*another key"):
            shelf["guest"]
        assert shelf["admin"] == "admin's"


def test_a_value_is_signed_for_its_full_key() -> None:
    with shelve.open("x", secret=SECRET, prefix="a:") as one:
        one["b"] = 1
    with shelve.open("x", secret=SECRET) as whole:
        assert whole["a:b"] == 1
        whole.kv["c:b"] = whole.kv["a:b"]
    with (
        shelve.open("x", secret=SECRET, prefix="c:") as other,
        pytest.raises(kvdict.CodecError, match="'b'"),
    ):
        other["b"]


@pytest.mark.parametrize("other", [b"another", None, "another"])
def test_another_secret_does_not_read_it(other: Any) -> None:
    with shelve.open("x", secret=SECRET) as shelf:
        shelf["k"] = 1
    with (
        shelve.open("x", secret=other) as shelf,
        pytest.raises(kvdict.CodecError, match="'k'"),
    ):
        shelf["k"]


def test_what_is_not_signed_is_refused_where_there_is_a_secret() -> None:
    Loud.heard.clear()
    with shelve.open("x") as shelf:
        shelf["k"] = Loud()
    with (
        shelve.open("x", secret=SECRET.encode()) as shelf,
        pytest.raises(kvdict.CodecError, match="'k'"),
    ):
        shelf["k"]
    assert Loud.heard == []


def test_a_secret_signs_what_a_serializer_makes_too() -> None:
    options: Any = {"serializer": lambda v, _: json.dumps(v), "deserializer": json.loads}
    with shelve.open("x", secret=b"\xff", **options) as shelf:
        shelf["k"] = [1]
        assert shelf["k"] == [1]
        shelf.kv["k"] = b"[1]"
        with pytest.raises(kvdict.CodecError, match="'k'"):
            shelf["k"]


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(kvdict.ConfigError, match="secret"):
        shelve.open("x", secret="")


def test_secret_and_token_show_in_no_frame_of_ours_and_no_repr() -> None:
    options: Any = {"cache": 7j, "token": "t0ken"}
    try:
        shelve.open("kv://nobody/links", secret=SECRET, token="t0ken")
    except kvdict.ConfigError as error:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        frames = [frame for frame in told.stack if frame.filename.startswith(LIBRARY)]
        assert frames
        shown = str([frame.locals for frame in frames])
        assert SECRET not in shown
        assert options["token"] not in shown
    else:
        pytest.fail("it has to be refused")
    with shelve.open("x", secret=SECRET) as shelf:
        assert SECRET not in repr(shelf)
        assert SECRET not in repr(vars(shelf))


# Writing back


def test_nested_changes_are_sent_once_in_bulk(address: Address) -> None:
    where = address("served")
    with shelve.open(where) as shelf:
        shelf.update({f"k{n}": [n] for n in range(300)})
    shelf = shelve.open(where, writeback=True, buffer=False)
    for value in shelf.values():
        value.append("new")
    shelf["k7"].append("newer")
    assert requests(shelf, shelf.sync) == 1
    assert shelf.cache == {}
    assert requests(shelf, shelf.sync) == 0
    shelf["k8"]
    assert requests(shelf, shelf.sync) == 0  # read, and not changed
    assert requests(shelf, shelf.close) == 0
    with shelve.open(where) as shelf:
        assert shelf["k7"] == [7, "new", "newer"]
        assert shelf["k299"] == [299, "new"]


def test_reading_a_cached_value_gives_the_same_object_at_no_request() -> None:
    with shelve.open("x", writeback=True) as shelf:
        shelf["k"] = value = [1]
        value.append(2)
        assert requests(shelf, lambda: shelf["k"]) == 0
        assert shelf["k"] is shelf.get("k") is shelf.setdefault("k", 0) is value
        assert next(iter(shelf.values())) is dict(shelf.items())["k"] is value
        assert shelf.kv.using("pickle")["k"] == [1]
        shelf.sync()
        assert shelf.kv.using("pickle")["k"] == [1, 2]
        assert shelf["k"] is not value


def test_what_was_deleted_is_not_written_back() -> None:
    with shelve.open("x", writeback=True) as shelf:
        shelf.update(a=[1], b=[1], c=[1], d=[1])
        for key in "abcd":
            shelf[key].append(2)
        del shelf["a"]
        assert shelf.pop("b") == [1, 2]
        shelf.kv.delete("c")
        with pytest.raises(KeyError):
            shelf.pop("c")
        assert shelf.popitem() == ("d", [1, 2])
        shelf["e"] = [1]
        shelf["e"].append(2)
        shelf.clear()
    with shelve.open("x") as shelf:
        assert dict(shelf) == {}


def test_what_cannot_be_stored_stays_in_the_cache_and_is_named_and_the_rest_is_stored() -> None:
    shelf = shelve.open("x", writeback=True)
    shelf["good"], shelf["bad"] = [1], [1]
    shelf["good"].append(2)
    shelf["bad"].append(lambda: 0)
    with pytest.raises(kvdict.CodecError, match="'bad'") as caught:
        shelf.close()
    assert caught.value.keys == ("bad",)
    assert shelf.kv.using("pickle")["good"] == [1, 2]
    shelf["bad"].pop()
    shelf["bad"].append(3)
    shelf.close()
    with shelve.open("x") as shelf:
        assert dict(shelf) == {"good": [1, 2], "bad": [1, 3]}


def test_what_a_failed_update_left_in_the_cache_is_sent_again() -> None:
    def pairs() -> Any:
        yield "k", [1]
        yield "l", [2]
        raise RuntimeError("no more")

    with shelve.open("x", writeback=True) as shelf:
        with pytest.raises(RuntimeError):
            shelf.update(pairs())
        assert len(shelf) == 0
    with shelve.open("x") as shelf:
        assert dict(shelf) == {"k": [1], "l": [2]}


def test_an_exception_passes_through_with_and_changes_are_stored() -> None:
    with contextlib.suppress(RuntimeError), shelve.open("x", writeback=True) as shelf:
        shelf["k"] = [1]
        shelf["k"].append(2)
        raise RuntimeError
    with shelve.open("x") as shelf:
        assert shelf["k"] == [1, 2]


@pytest.mark.parametrize(
    ("flag", "change", "says"),
    [("r", 2, "readonly=True"), ("c", lambda: 0, "'k'.*cannot encode.*stays in the shelf's cache")],
)
def test_what_cannot_be_stored_at_the_end_of_a_block_is_raised_or_is_a_note(
    flag: Any, change: Any, says: str
) -> None:
    with shelve.open("x") as shelf:
        shelf["k"] = [1]
    with pytest.raises(kvdict.KVError, match=says), shelve.open("x", flag, writeback=True) as shelf:
        shelf["k"].append(change)
    shelf.cache.clear()
    with (
        pytest.raises(RuntimeError) as caught,
        shelve.open("x", flag, writeback=True) as shelf,
    ):
        shelf["k"].append(change)
        raise RuntimeError
    shelf.cache.clear()
    (note,) = caught.value.__notes__
    assert re.match(f"kvdict: .*{says}", note)


DROPPED = """
from kvdict import shelve
def change():
    shelf = shelve.open({where!r}, writeback=True)
    shelf.setdefault("k", []).append(1)
change()
"""
FORGOTTEN = """
from kvdict import shelve
shelf = shelve.open({where!r}, writeback=True)
shelf.setdefault("k", []).append(1)
"""
FORKED = """
import os, sys
from kvdict import shelve
shelf = shelve.open({where!r}, writeback=True)
shelf["k"] = []
if os.fork() == 0:
    shelf["k"].append("the child's")
    sys.exit()
os.wait()
shelf["k"].append(1)
"""


@pytest.mark.parametrize("program", [DROPPED, FORGOTTEN, FORKED])
@pytest.mark.parametrize("home", ["file", "served"])
def test_a_program_that_never_closes_its_shelf_loses_nothing(
    program: str, home: str, address: Address
) -> None:
    where = address(home)
    done = subprocess.run(
        [sys.executable, "-W", "ignore:This process:DeprecationWarning",
         "-c", program.format(where=where)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    with shelve.open(where) as shelf:
        assert shelf["k"] == [1]


def test_what_cannot_be_stored_at_exit_is_printed() -> None:
    program = FORGOTTEN.format(where="x") + "shelf['bad'] = [1]; shelf['bad'].append(lambda: 0)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert re.match(r"kvdict: at exit <KVShelf over .*: key 'bad': .*cannot encode", done.stderr)
    with shelve.open("x") as shelf:
        assert dict(shelf) == {"k": [1], "bad": [1]}


# What it costs


def test_requests_are_those_of_the_namespace(address: Address) -> None:
    with shelve.open(
        address("served"), buffer=kvdict.WriteBuffer(write_through=True, settle=0)
    ) as shelf:
        calls: list[tuple[int, Callable[[], Any]]] = [
            (1, lambda: shelf.update((f"k{n:04}", n) for n in range(1500))),
            (1, lambda: shelf["k0001"]),
            (1, lambda: shelf.get("k0001")),
            (1, lambda: shelf.get("missing")),
            (1, lambda: "k0001" in shelf),
            (1, lambda: bool(shelf)),
            (2, lambda: len(shelf)),
            (2, lambda: list(shelf)),
            (2 + 15, lambda: dict(shelf.items())),
            (2 + 15, lambda: list(shelf.values())),
            (1, lambda: shelf.__setitem__("k", 1)),
            (2, lambda: shelf.__delitem__("k")),
            (2, lambda: shelf.pop("k0002")),
            (1, lambda: shelf.pop("missing", None)),
            (2, lambda: shelf.setdefault("new", 1)),
            (1, lambda: shelf.setdefault("new", 1)),
            (3, lambda: shelf.popitem()),
            (2 + 1, lambda: shelf.clear()),
        ]  # fmt: skip
        for position, (budget, call) in enumerate(calls):
            assert (position, requests(shelf, call)) == (position, budget)


# Taking a file along


def dumb(name: str, pairs: dict[str, Any]) -> None:
    with contextlib.closing(dbm.dumb.open(name, "n")) as file:
        file.update({key: pickle.dumps(value) for key, value in pairs.items()})


def test_a_shelf_is_taken_along_without_unpickling() -> None:
    Loud.heard.clear()
    dumb("old", {"a": (1, 2), "é": {3}, "loud": Loud()})
    with shelve.open("new") as shelf:
        assert shelve.import_file("old", shelf) == 3
        assert Loud.heard == []
        assert sorted(shelf) == ["a", "loud", "é"]
        assert (shelf["a"], shelf["é"]) == ((1, 2), {3})
    assert dbm.whichdb("old") == "dbm.dumb"


def test_a_shelf_is_signed_when_it_is_taken_along() -> None:
    dumb("old", {"a": 1})
    with shelve.open("new", secret=SECRET, writeback=True) as shelf:
        shelf["a"] = "before"
        shelve.import_file(Path("old"), shelf)
        assert shelf["a"] == 1


def test_a_dbm_file_is_taken_along_as_bytes() -> None:
    with contextlib.closing(dbm.dumb.open("old", "n")) as file:
        file.update({b"a": b"\xff", b"b": b"text"})
    with kvdict.open("memory://", codec="bytes") as kv:
        assert shelve.import_file(b"old", kv.prefixed("x:")) == 2
        assert dict(kv.items()) == {"x:a": b"\xff", "x:b": b"text"}


def test_it_is_taken_along_in_one_request(address: Address) -> None:
    dumb("old", {f"k{n}": n for n in range(500)})
    with shelve.open(address("served"), buffer=False) as shelf:
        assert requests(shelf, lambda: shelve.import_file("old", shelf)) == 1


def test_what_cannot_be_taken_along_is_said() -> None:
    with kvdict.open("memory://") as kv:
        with pytest.raises(shelve.ShelveError, match="'old' does not exist"):
            shelve.import_file("old", kv)
        Path("old").write_text("something else")
        with pytest.raises(shelve.ShelveError, match="not a dbm file"):
            shelve.import_file("old", kv)
        with contextlib.closing(dbm.dumb.open("latin", "n")) as file:
            file[b"\xe9"] = b"x"
        with pytest.raises(shelve.ShelveError, match=r"xe9.*UTF-8"):
            shelve.import_file("latin", kv)
        Path("gnu").write_bytes(0x13579ACE.to_bytes(4, sys.byteorder) + bytes(60))
        with pytest.raises(shelve.ShelveError, match="dbm.gnu"):
            shelve.import_file("gnu", kv)
        Path("broken.dir").write_text("'a', (0\n")
        Path("broken.dat").write_text("")
        with pytest.raises(shelve.ShelveError, match="'broken'"):
            shelve.import_file("broken", kv)
        assert not kv


@pytest.mark.parametrize("flag", ["c", "n", "w", "r"])
def test_a_shelf_of_the_standard_library_is_not_touched_and_the_way_is_said(flag: Any) -> None:
    dumb("old", {"a": 1})
    Path("gnu").write_bytes(0x13579ACE.to_bytes(4, sys.byteorder) + bytes(600))
    before = {name: Path(name).read_bytes() for name in os.listdir(".")}
    for name in ("old", "gnu"):
        with pytest.raises(shelve.ShelveError, match=rf"import_file\('.*{name}', kvdict.shelve"):
            shelve.open(name, flag)
    assert {name: Path(name).read_bytes() for name in os.listdir(".")} == before


def test_the_way_that_the_message_says_works() -> None:
    dumb("old", {"a": 1})
    with pytest.raises(shelve.ShelveError) as caught:
        shelve.open("old")
    advice = str(caught.value).partition("new file: ")[2]
    into = eval(advice.partition(", ")[2].rstrip(")") + ")", {"kvdict": kvdict})
    with into:
        shelve.import_file("old", into)
        assert into["a"] == 1


@pytest.mark.parametrize("flag", ["c", "n", "w", "r"])
def test_what_something_else_wrote_is_left_alone(flag: Any) -> None:
    Path("text").write_text("not a shelf " * 100)
    with contextlib.closing(sqlite3.connect("other.db")) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = {name: Path(name).read_bytes() for name in os.listdir(".")}
    for name, why in {
        "text": "not an SQLite database", "other.db": "another application", ".": "not a file",
        "sqlite:///text": "not an SQLite database",
    }.items():  # fmt: skip
        with pytest.raises(shelve.ShelveError, match=why):
            shelve.open(name, flag)
    assert {name: Path(name).read_bytes() for name in os.listdir(".")} == before


@pytest.mark.parametrize("flag", ["c", "n", "w", "r"])
def test_a_missing_folder_is_an_error_that_programs_with_a_shelf_catch(flag: Any) -> None:
    with pytest.raises(dbm.error, match="exist|no folder"):
        shelve.open("no/such", flag)
    assert not os.path.exists("no")


def test_a_file_in_use_beside_the_name_is_not_opened() -> None:
    with kvdict.open(Path("name.db")) as kv:
        kv["k"] = 1
        with shelve.open("name") as shelf:
            shelf["k"] = 2
        with pytest.raises(shelve.ShelveError, match="sqlite3"):
            shelve.import_file("name.db", kv)
        assert kv["k"] == 1


@pytest.mark.skipif(sys.version_info < (3, 13), reason="dbm.sqlite3 came with Python 3.13")
def test_a_shelf_in_sqlite_is_not_touched_and_is_taken_along() -> None:
    with standard.open("old") as theirs:
        theirs["a"] = (1, 2)
    assert dbm.whichdb("old") == "dbm.sqlite3"
    with pytest.raises(shelve.ShelveError, match="import_file"):
        shelve.open("old", "n")
    with shelve.open("new") as shelf:
        assert shelve.import_file("old", shelf) == 1
        assert shelf["a"] == (1, 2)
    with standard.open("old") as theirs:
        assert theirs["a"] == (1, 2)


def test_values_are_searched_and_an_empty_shelf_pops_nothing() -> None:
    with shelve.open("x") as shelf:
        with pytest.raises(KeyError, match="the shelf is empty"):
            shelf.popitem()
        shelf["k"] = [1]
        assert [1] in shelf.values()
        assert [2] not in shelf.values()


def test_equality_is_that_of_mappings() -> None:
    with shelve.open("x") as one, shelve.open("y") as two:
        one["k"] = two["k"] = [1]
        assert one == two == {"k": [1]}
        two["k"] = [2]
        assert one != two
