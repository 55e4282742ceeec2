"""Keys that look like paths, options, queries or nothing at all, through every operation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kvdict
from kvdict import CodecError, KVError, LimitError, transfer
from kvdict.emulator import Server
from tests.conftest import account_of

KEYS = (
    "../../x", "../..", "a/../b", "/", "//", "/etc/passwd", "./x", "...", "%2e", "%2e%2e",
    "%2E%2E/x", "%00", "a\0b", "\0", "a\nb", "\r\n\r\nHost: evil", "?", "a?b=c", "#", "a#b",
    "&", "=", ";", "+", " ", " a ", "~", "~root", "-", "--help", "-rf",
    "é", "e\u0301", "\uff21", "A", "a", "\u202etxt",
    "\ufeff", "\ufffd", "\uffff", "\U0001f600", "k" * 512, "é" * 256, "CON", "con", "nul.txt", "a.",
    ".kvdict.jsonl", ".hidden", "a:b", "a\\b", "C:\\x", "$(id)", "`id`", "'\"", "{}", "null", "*",
    "\x1b[2J", "key\x7f", "values/a", "bulk", "a%2Fb", "%", "%%", "%zz",
)  # fmt: skip
REFUSED = ("", ".", "..", "k" * 513, "é" * 257, "\ud800", "a\udfffb")


@pytest.fixture(params=["file", "served"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"sqlite:///{tmp_path}/kv.db"
    server: Server = request.getfixturevalue("server")
    return f"{account_of(server)}/keys-{tmp_path.name}"


@pytest.fixture(params=[False, True])
def kv(request: pytest.FixtureRequest, where: str) -> Iterator[kvdict.KVNamespace[Any]]:
    with kvdict.open(where, create=True, buffer=request.param) as kv:
        yield kv


PAIRS = {key: f"value of {key!a}" for key in KEYS}


def test_each_key_is_itself_in_every_operation(kv: kvdict.KVNamespace[Any]) -> None:
    for key, value in PAIRS.items():
        kv.put(key, value, metadata=key[:100])
        assert kv[key] == value
    kv.flush()
    for key in KEYS:
        kv.refresh(key)
    assert list(kv) == sorted(KEYS)
    assert dict(kv.items()) == PAIRS == kv.get_many(KEYS)
    for key, value in PAIRS.items():
        assert key in kv
        assert kv.entry(key).metadata == kv.metadata(key) == key[:100]
        assert [found.name for found in kv.scan(key)][:1] == [key]
        assert kv.prefixed(key[:1]).get(key[1:]) == value
        kv.touch(key, expiration_ttl=1000)
        assert kv.setdefault(key, "other") == value
    kv.delete_many(KEYS[::3])
    for key in KEYS[1::3]:
        assert kv.pop(key) == PAIRS[key]
    for key in KEYS[2::3]:
        del kv[key]
    kv.flush()
    assert list(kv) == []


@pytest.mark.parametrize("key", REFUSED, ids=ascii)
def test_a_key_that_cannot_be_is_missing_and_refused_before_anything_is_sent(
    kv: kvdict.KVNamespace[Any], key: str
) -> None:
    kv["a"] = 1
    kv.flush()
    before = kv.stats()["requests"]
    for write in (
        lambda: kv.put(key, 1),
        lambda: kv.__setitem__(key, 1),
        lambda: kv.delete(key),
        lambda: kv.delete_many([key]),
        lambda: kv.put_many({key: 1}),
        lambda: kv.setdefault(key, 1),
    ):
        with pytest.raises(LimitError) as caught:
            write()
        assert str(caught.value).isprintable()
    for read in (
        lambda: kv[key],
        lambda: kv.entry(key),
        lambda: kv.metadata(key),
        lambda: kv.pop(key),
        lambda: kv.touch(key),
        lambda: kv.__delitem__(key),
    ):
        with pytest.raises(KeyError):
            read()
    assert key not in kv
    assert kv.get(key) is None
    assert kv.get_many([key]) == {}
    kv.refresh(key)
    assert kv.stats()["requests"] == before
    assert dict(kv) == {"a": 1}


@pytest.mark.parametrize("format_", ["dir", "jsonl", "wrangler"])
def test_no_key_leads_out_of_where_it_is_exported_to(tmp_path: Path, format_: Any) -> None:
    world = tmp_path / "world"
    world.mkdir()
    target = world / "deep" / "out"
    target.parent.mkdir()
    with kvdict.open("memory://") as kv, kvdict.open("memory://") as again:
        kv.update(PAIRS)
        transfer.export(kv, target, format=format_)
        assert {path.name for path in world.rglob("*") if path.parent != target} == {"deep", "out"}
        assert not [path for path in world.rglob("*") if path.is_symlink()]
        transfer.import_(target, again, format=format_)
        assert dict(again) == PAIRS
        names = [path.name for path in target.iterdir()] if format_ == "dir" else []
        assert len({name.lower() for name in names}) == len(names)


@pytest.mark.parametrize(
    "line",
    [
        '{"key": ".."}', '{"key": "../victim"}', '{"key": "\\ud800"}', '{"key": ["a"]}',
        '{"key": "a", "path": "../victim"}', '{"key": "a", "file": "../victim"}', '{"key": ""}',
        '{"key": "' + "k" * 600 + '"}', "[" * 100_000, "9" * 5000, "NaN", '"' + "x" * 100_000,
        '{"key": "a", "expiration": 1e999}',
        '{"key": "a", "metadata": ' + "[" * 900 + "]" * 900 + "}",
    ],
    ids=range(14),
)  # fmt: skip
@pytest.mark.usefixtures("collector_rests")
def test_a_side_file_leads_nowhere_else(tmp_path: Path, line: str) -> None:
    (tmp_path / "victim").write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".kvdict.jsonl").write_text(line + "\n")
    with kvdict.open("memory://", codec="bytes") as kv:
        with pytest.raises(KVError):
            transfer.import_(folder, kv, format="dir")
        assert b"precious" not in kv.values()


def test_the_command_takes_any_key_and_shows_it_tamed(tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/kv.db"

    def run(*arguments: str) -> bytes:
        command = [sys.executable, "-m", "kvdict", *arguments]
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with kvdict.open(where, codec="text") as kv:
        kv.update({key: key[:9] for key in KEYS})
    for key in ("--help", "../../x"):
        assert run("get", where, "--", key) == key[:9].encode()
        run("put", where, "--", key, "-v")
        run("rm", where, "--", key)
    run("export", where, "-o", "out", "--format", "dir")
    assert {path.name for path in tmp_path.iterdir()} <= {"kv.db", "kv.db-wal", "kv.db-shm", "out"}
    assert os.listdir(tmp_path / "out")


# Codecs


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b"9" * 5000, b"NaN", b"-Infinity", b'"\xff"', b"\xff\xfe", b"", b"{" * 5000],
    ids=range(8),
)
@pytest.mark.usefixtures("collector_rests")
def test_json_that_no_reader_bears_is_a_codec_error_that_names_the_key(data: bytes) -> None:
    with kvdict.open("memory://") as kv:
        kv.using("bytes")["k"] = data
        for read in (lambda: kv["k"], lambda: dict(kv.items()), lambda: kv.entry("k")):
            with pytest.raises(CodecError, match="key 'k'") as caught:
                read()
            assert len(str(caught.value)) < 1000


def circular() -> list[Any]:
    told: list[Any] = []
    told.append(told)
    return told


def deep() -> list[Any]:
    told: list[Any] = []
    for _ in range(100_000):
        told = [told]
    return told


@pytest.mark.parametrize("codec", ["json", "pickle"])
@pytest.mark.usefixtures("collector_rests")
def test_values_that_no_codec_bears_change_nothing(codec: Any) -> None:
    values = [deep(), lambda: None]
    if codec == "json":
        values += [circular(), 10**5000, float("nan"), {1: 2}, {"a": {("t",): 1}}]
    with kvdict.open("memory://", codec=codec) as kv:
        kv["k"] = "before"
        for value in values:
            with pytest.raises(CodecError, match="key 'k'"):
                kv["k"] = value
        assert kv["k"] == "before"


@pytest.mark.parametrize("value", [10**4000, -(2**64), "\ud800", {"\udfff": ["\ud83d"]}, "\0"])
def test_json_holds_huge_numbers_and_halves_of_pairs(value: Any) -> None:
    with kvdict.open("memory://") as kv:
        kv["k"] = value
        assert kv["k"] == value
        assert dict(kv.items()) == {"k": value}


@pytest.mark.parametrize("format_", ["jsonl", "wrangler"])
@pytest.mark.parametrize("field", ["expiration", "metadata", "value"])
def test_a_number_of_more_digits_than_python_reads_is_told_with_its_line(
    tmp_path: Path, format_: Any, field: str
) -> None:
    file = tmp_path / "in"
    fields = {"key": '"a"', "value": '"v"', field: "9" * 5000}
    pair = ", ".join(f'"{name}": {told}' for name, told in fields.items())
    file.write_text(f"[{{{pair}}}]" if format_ == "wrangler" else f"{{{pair}}}\n")
    with kvdict.open("memory://") as kv:
        with pytest.raises(kvdict.TransferError, match="line 1: .*digits") as caught:
            transfer.import_(file, kv, format=format_)
        assert caught.value.line == 1
        assert len(kv) == 0
