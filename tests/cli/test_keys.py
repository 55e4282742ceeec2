"""ls, get, put, touch, rm and clear."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import kvdict
from kvdict.cli import run
from kvdict.emulator.store import Pair, Store
from kvdict.local import LOCAL_ACCOUNT

from .conftest import TOKEN, Ran, contents, fill

Cli = Callable[..., Ran]
Shell = Callable[[str], Ran]


def names_in(folder: Path) -> set[str]:
    """Return what lies there besides the database."""
    return {entry.name for entry in folder.iterdir() if not entry.name.startswith("app.db")}


def test_what_is_put_comes_back_byte_for_byte(cli: Cli, where: str, tmp_path: Path) -> None:
    data = os.urandom(3000) + b"\r\n\x00\xff"
    (tmp_path / "photo").write_bytes(data)
    assert cli("put", where, "photo", "--path", "photo") == Ran(0, b"", "")
    assert cli("put", where, "piped", "-", stdin=data) == Ran(0, b"", "")
    assert cli("put", where, "implied", stdin=data) == Ran(0, b"", "")
    assert cli("put", where, "empty", "") == Ran(0, b"", "")
    for key in ("photo", "piped", "implied"):
        assert cli("get", where, key) == Ran(0, data, "")
    assert cli("get", where, "empty") == Ran(0, b"", "")
    assert cli("get", where, "photo", "-o", "copy") == Ran(0, b"", "")
    assert (tmp_path / "copy").read_bytes() == data
    assert names_in(tmp_path) == {"copy", "photo"}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_value_is_written_through_a_link_which_stays_one(shell: Shell, tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    fill(where, {"k": b"v"})
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    (tmp_path / "link").symlink_to("file")
    for output in ("link", "stdout > redirected", "stdout | cat > piped"):
        ran = shell(f"kvdict get {where} k -o {output}")
        assert (ran.code, ran.err) == (0, "")
    assert [(tmp_path / name).read_text() for name in ("file", "redirected", "piped")] == ["v"] * 3
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "stdout").is_symlink()


def test_a_value_s_file_disturbs_nothing_beside_it(cli: Cli, tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    fill(where, {"k": b"v"})
    (tmp_path / "one.part").write_text("precious")
    (tmp_path / "two.part").symlink_to("one.part")
    (tmp_path / "folder").mkdir()
    for name in ("one", "two"):
        assert cli("get", where, "k", "-o", name) == Ran(0, b"", "")
        assert (tmp_path / name).read_bytes() == b"v"
    assert cli("get", where, "k", "-o", "folder").code == 2
    assert names_in(tmp_path) == {"one", "two", "one.part", "two.part", "folder"}
    assert (tmp_path / "one.part").read_text() == "precious"
    assert (tmp_path / "two.part").is_symlink()


def test_a_value_that_cannot_be_written_whole_leaves_all_as_it_was(
    shell: Shell, tmp_path: Path
) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    fill(where, {"k": b"v" * 1_000_000})
    (tmp_path / "out").write_text("old")
    there = names_in(tmp_path)
    ran = shell(f"ulimit -f 500; kvdict get {where} k -o out")
    assert (ran.code, ran.out) == (4, b"")
    assert "File too large" in ran.err
    assert (tmp_path / "out").read_text() == "old"
    assert names_in(tmp_path) == there


@pytest.mark.parametrize("command", ["get {} k", "export {}"])
def test_a_file_that_is_written_anew_keeps_its_rights(
    cli: Cli, tmp_path: Path, command: str
) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    fill(where, {"k": b"v"})
    (tmp_path / "new").touch()
    (tmp_path / "old").touch(0o600)
    arguments = command.format(where).split()
    for name in ("created", "old"):
        assert cli(*arguments, "-o", name).code == 0
    assert (tmp_path / "created").stat().st_mode == (tmp_path / "new").stat().st_mode
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("output", ["app.db", "./folder/../app.db", "link", "app.db-wal"])
@pytest.mark.parametrize("command", ["get {} k", "get {} k --metadata", "export {}"])
def test_nothing_is_written_over_the_database_that_it_comes_from(
    cli: Cli, tmp_path: Path, command: str, output: str
) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    fill(where, {"k": b"v"})
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("app.db")
    ran = cli(*command.format(where).split(), "-o", output)
    assert (ran.code, ran.out) == (2, b"")
    assert f" is a file of '{where}' itself, and would be destroyed; name another" in ran.err
    assert contents(where) == {"k": b"v"}


def test_listings_are_for_people_and_for_programs(cli: Cli, where: str) -> None:
    until = int(time.time()) + 7200
    assert cli("put", where, "b/é ☃", "x", "--expiration", str(until)).code == 0
    assert cli("put", where, "a", "x", "--ttl", "3600", "--metadata", '{"n": [1, "é"]}').code == 0
    assert cli("put", where, "c", "x").code == 0
    assert cli("ls", where).lines == ["a", "b/é ☃", "c"]
    assert cli("ls", where, "--limit", "1").lines == ["a"]
    assert cli("ls", where, "--limit", "0").lines == []
    assert cli("ls", where, "--prefix", "b/").lines == ["b/é ☃"]
    rows = [line.split("\t") for line in cli("ls", where, "--long").lines]
    assert rows[1:] == [["b/é ☃", str(until), ""], ["c", "", ""]]
    assert json.loads(rows[0][2]) == {"n": [1, "é"]}
    told = [json.loads(line) for line in cli("ls", where, "--json").lines]
    assert abs(told[0].pop("expiration") - time.time() - 3600) < 60
    assert told == [
        {"name": "a", "metadata": {"n": [1, "é"]}},
        {"name": "b/é ☃", "expiration": until, "metadata": None},
        {"name": "c", "expiration": None, "metadata": None},
    ]
    assert json.loads(cli("get", where, "a", "--metadata").out) == {"n": [1, "é"]}
    assert cli("get", where, "c", "--metadata").out == b"null\n"


def test_half_a_surrogate_pair_in_metadata_is_written_as_an_escape(
    cli: Cli, tmp_path: Path
) -> None:
    told = r'{"\u00e9": "\ud800"}'  # as a Worker may write it
    with closing(Store(tmp_path / "app.db")) as store:
        space = store.create(LOCAL_ACCOUNT, "default", most=9).id
        store.put(LOCAL_ACCOUNT, space, "k", Pair(b"v", None, told))
    where = f"sqlite:///{tmp_path}/app.db"
    assert cli("get", where, "k", "--metadata").lines == [told]
    assert cli("ls", where, "--long").lines == [f"k\t\t{told}"]
    assert f'"metadata": {told}' in cli("ls", where, "--json").out.decode()


def test_touch_keeps_what_is_not_named(cli: Cli, where: str) -> None:
    cli("put", where, "k", "value", "--ttl", "3600", "--metadata", '"m"')
    assert cli("touch", where, "k", "--ttl", "7200") == Ran(0, b"", "")
    with kvdict.open(where, codec="text", token=TOKEN) as kv:
        entry = kv.entry("k")
    assert (entry.value, entry.metadata) == ("value", "m")
    assert abs((entry.expiration or 0) - time.time() - 7200) < 60
    assert cli("touch", where, "k", "--forever", "--metadata", "[1]") == Ran(0, b"", "")
    with kvdict.open(where, codec="text", token=TOKEN) as kv:
        assert kv.entry("k") == kvdict.Entry("value", None, [1])
    moment = "2030-01-31T12:00:00+01:00"
    assert cli("touch", where, "k", "--expiration", moment) == Ran(0, b"", "")
    assert json.loads(cli("ls", where, "--json").out)["expiration"] == 1896087600


def test_a_time_to_live_may_name_its_unit(cli: Cli, where: str) -> None:
    for text, seconds in (("90", 90), ("90s", 90), ("1.5m", 90), ("12h", 43200), ("7d", 604800)):
        assert cli("put", where, "k", "v", "--ttl", text) == Ran(0, b"", "")
        ends = json.loads(cli("ls", where, "--json").out)["expiration"]
        assert abs(ends - time.time() - seconds) < 60


def test_a_missing_key_is_code_1_and_a_sentence(cli: Cli, where: str) -> None:
    for arguments in (["get"], ["touch"], ["get", "--metadata"]):
        ran = cli(*arguments[:1], where, "nö such", *arguments[1:])
        assert (ran.code, ran.out) == (1, b"")
        assert ran.err.endswith(": no key 'nö such'\n")
    fill(where, {"a": b"1", "b": b"2", "c": b"3"})
    ran = cli("rm", where, "a", "x", "b")
    assert ran.code == 1
    assert ran.err.endswith(": no key 'x'; deleted 2 keys\n")
    assert cli("rm", where, "c") == Ran(0, b"", "")
    assert cli("rm", where, "c").code == 1
    assert contents(where) == {}


def test_much_is_deleted_after_a_question_only(cli: Cli, where: str) -> None:
    fill(where, {f"user:{n}": b"" for n in range(1200)} | {"other": b""})
    ran = cli("rm", where, "--prefix", "user:")
    assert ran.code == 2
    assert "Delete more than 1,000 keys below 'user:' of " in ran.err
    assert "(user:0, user:1, user:10, ...)? [y/N]" in ran.err
    assert "nothing was deleted; answer y, or give --yes" in ran.err
    assert cli("rm", where, "--prefix", "user:", stdin=b"n\n").code == 2
    assert len(contents(where)) == 1201
    ran = cli("rm", where, "--prefix", "user:", stdin=b"y\n")
    assert (ran.code, ran.out) == (0, b"")
    assert ran.err.endswith("kvdict: deleted 1,200 keys\n")
    assert list(contents(where)) == ["other"]
    assert cli("clear", where).code == 2
    assert cli("clear", where, "--yes") == Ran(0, b"", "kvdict: deleted 1 key\n")
    assert cli("clear", where).err.endswith("there is nothing to delete\n")
    assert contents(where) == {}


def test_keys_that_begin_with_a_dash_stand_behind_two(cli: Cli, where: str) -> None:
    assert cli("put", where, "--", "-k", "-v") == Ran(0, b"", "")
    assert cli("get", where, "--", "-k").out == b"-v"
    ran = cli("get", where, "-k")
    assert ran.code == 2
    assert "stands behind --" in ran.err


def test_the_environment_names_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    fill(where, {"k": b"v"})
    for arguments in (["ls"], ["get", "k"], ["touch", "k"], ["clear"], ["rm", "--prefix", "k"]):
        assert run(arguments) == 2
        assert "KVDICT_URL" in capsys.readouterr().err
    monkeypatch.setenv("KVDICT_URL", where)
    for arguments, out in (
        (["ls"], "k\n"), (["get", "k"], "v"), (["touch", "k"], ""),
        (["export"], '{"key":"k","value":"v"}\n'), (["rm", "--prefix", "x", "--yes"], ""),
        (["clear", "--yes"], ""),
    ):  # fmt: skip
        assert run(arguments) == 0
        assert capsys.readouterr().out == out
    assert contents(where) == {}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["put", "k"], "Missing argument"), (["put", "k", "v", "--path", "f"], "not both"),
        (["put", "k", "v", "--ttl", "59"], "(--ttl) is 59 s"),
        (["put", "k", "v", "--ttl", "3600", "--expiration", "2000000000"],
         "give --ttl or --expiration, not both"),
        (["put", "k", "v", "--ttl", "soon"], "'soon' is no time to live, which is seconds such as"),
        (["put", "k", "v", "--ttl", ""], "'' is no time to live"),
        (["put", "k", "v", "--ttl", "h"], "'h' is no time to live"),
        (["put", "k", "v", "--ttl", "5s"], "(--ttl) is 5 s, Cloudflare takes 60 s and more"),
        (["put", "k", "v", "--ttl", "1000000000000"], "(--ttl) is 1e+12 s, 253402300799 s is the"),
        (["put", "k", "v", "--expiration", "tomorrow"], "'tomorrow' is neither"),
        (["put", "k", "v", "--expiration", "1h"], "a time to live is --ttl"),
        (["put", "k", "v", "--expiration", "3600"], "in epoch seconds (a time to live is --ttl)"),
        (["put", "k", "v", "--expiration", "2030-01-31"],
         "has no time zone; say which, for example 2030-01-31T12:00:00Z\n"),
        (["put", "k", "v", "--metadata", "{"], "is not JSON"),
        (["put", "k", "v", "--metadata", json.dumps("x" * 2000)], "the limit is 1024"),
        (["put", "k", "--path", "missing"], "missing: No such file or directory"),
        (["put", "..", "v"], "must not be empty, '.' or '..'"),
        (["put", "k" * 513, "v"], "at most 512 bytes"),
        (["touch", "k", "--ttl", "90", "--forever"], "give one of"),
        (["rm"], "give keys, or --prefix"), (["rm", "k", "--prefix", "p"], "not both"),
        (["ls", "--limit", "-1"], "--limit"), (["ls", "--nonsense"], "No such option"),
        (["nonsense"], "No such command"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_sentence_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    name, *others = arguments
    where = [] if arguments in (["put", "k"], ["nonsense"]) else [f"sqlite:///{tmp_path}/app.db"]
    assert run([name, *where, *others]) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)


def test_a_value_of_more_than_25_mib_is_refused_before_it_is_read(cli: Cli, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(5_000_000_000)  # sparse: no machine of the tests would hold it
    ran = cli("put", f"sqlite:///{tmp_path}/app.db", "k", "--path", "large")
    assert ran.code == 2
    assert "25 MiB" in ran.err
    assert "kvdict: key 'k'" in ran.err
