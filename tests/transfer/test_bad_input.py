"""Files that cannot be imported as they are: named by line and key, left out if so wished."""

from __future__ import annotations

import io
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import kvdict
from kvdict import Entry, TransferError, transfer
from kvdict.transfer import LeftOut
from kvdict.transfer.filenames import file_name
from kvdict.transfer.records import MAX_TEXT
from kvdict.transfer.report import KEPT
from tests.transfer.support import LATER, everything, lines, memory, plain

GOOD = b'{"key":"good","value":"1"}'
LAST = b'{"key":"last","value":"2"}'
BAD: dict[str, tuple[bytes, str | None, str]] = {
    "no JSON": (b'{"key":"k","value":', None, "not JSON"),
    "no object": (b"[1]", None, "expected an object with key and value, not a list"),
    "no key": (b'{"value":"1"}', None, "key is missing"),
    "a key that is no text": (b'{"key":5,"value":"1"}', None, "key is a number"),
    "an empty key": (b'{"key":"","value":"1"}', "", "must not be empty"),
    "a dot": (b'{"key":"..","value":"1"}', "..", "must not be empty, '.' or '..'"),
    "a long key": (b'{"key":"%b","value":"1"}' % (b"k" * 513), "k" * 513, "513"),
    "no value": (b'{"key":"k"}', "k", "value is missing"),
    "a value that is no text": (b'{"key":"k","value":{"a":1}}', "k", "value is an object"),
    "bytes that are not UTF-8": (b'{"key":"k","value":"\xe9"}', "k", "not UTF-8"),
    "a key that is not UTF-8": (b'{"key":"k\xe9","value":""}', "k\udce9", "lone surrogate"),
    "half a surrogate pair": (b'{"key":"k","value":"\\ud800"}', "k", "not UTF-8"),
    "bad base64": (b'{"key":"k","value":"a","base64":true}', "k", "not base64"),
    "base64 that is not ASCII": (b'{"key":"k","value":"\xc3\xa9","base64":true}', "k", "base64"),
    "base64 that is no bool": (b'{"key":"k","value":"","base64":1}', "k", "base64 is a number"),
    "an unknown field": (b'{"key":"k","value":"","expiraton":5}', "k", "'expiraton' is no field"),
    "a field twice": (b'{"key":"k","value":"1","value":"2"}', "k", "'value' stands twice"),
    "metadata twice": (b'{"key":"k","value":"","metadata":{"a":1,"a":2}}', "k", "'a' stands twice"),
    "large metadata": (b'{"key":"k","value":"","metadata":"%b"}' % (b"m" * 1024), "k", "1024"),
    "NaN": (b'{"key":"k","value":"","metadata":NaN}', "k", "not JSON"),
    "an expiration in text": (b'{"key":"k","value":"","expiration":"1"}', "k", "expiration is a"),
    "an expiration in ms": (b'{"key":"k","value":"","expiration":%d}' % (LATER * 1000), "k", "exp"),
    "an infinite expiration": (b'{"key":"k","value":"","expiration":1e999}', "k", "expiration is"),
    "a short time to live": (b'{"key":"k","value":"","expiration_ttl":59}', "k", "expiration_ttl"),
    "a repeated key": (b'{"key":"good","value":"9"}', "good", "repeats the key of line 1"),
    "a nest": (b"[" * 100_000, None, "nested too deeply"),
    "a value over 25 MiB": (
        b'{"key":"k","value":"%b"}' % (b"v" * (25 * 1024 * 1024 + 1)), "k", "26214401 bytes",
    ),
}  # fmt: skip
NOT_PAST = {"no JSON", "a nest"}
"""What an array cannot be read on behind: where would the next pair begin?"""


@pytest.mark.usefixtures("collector_rests")
@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_named_by_line_and_key_and_may_be_left_out(name: str) -> None:
    bad, key, reason = BAD[name]
    data = lines(GOOD, bad, LAST)
    with memory() as kv:
        with pytest.raises(TransferError, match="line 2") as raised:
            transfer.import_(io.BytesIO(data), kv, format="jsonl")
        assert (raised.value.line, raised.value.key) == (2, key)
        assert reason in str(raised.value)
        told: list[LeftOut] = []
        report = transfer.import_(
            io.BytesIO(data), kv, format="jsonl", skip_invalid=True, on_left_out=told.append
        )
        assert (report.done, report.invalid, report.complete) == (2, 1, True)
        assert report.left_out == tuple(told)
        [left_out] = told
        assert (left_out.line, left_out.key) == (2, key)
        assert reason in left_out.reason
        assert everything(kv) == {"good": Entry(b"1"), "last": Entry(b"2")}


@pytest.mark.usefixtures("collector_rests")
@pytest.mark.parametrize("name", BAD)
def test_a_bad_item_of_an_array_is_named_by_line_and_key(name: str) -> None:
    bad, key, reason = BAD[name]
    data = b"[%b,\n%b,\n%b]" % (GOOD, bad, LAST)
    with memory() as kv:
        with pytest.raises(TransferError, match="line 2") as raised:
            transfer.import_(io.BytesIO(data), kv)
        assert (raised.value.line, raised.value.key) == (2, key if name not in NOT_PAST else None)
        if name not in NOT_PAST:
            assert reason in str(raised.value)
            report = transfer.import_(io.BytesIO(data), kv, skip_invalid=True)
            assert (report.done, report.invalid) == (2, 1)
        else:
            with pytest.raises(TransferError, match="nothing behind it was read"):
                transfer.import_(io.BytesIO(data), kv, skip_invalid=True)


def test_a_field_that_stands_twice_is_found_among_any_number_of_others() -> None:
    """Looked for each by itself these would take longer than a test may."""
    fields = ",".join(f'"{number}":0' for number in range(300_000))
    bad = f'{{"key":"k","value":"",{fields},"299999":0}}'.encode()
    with memory() as kv, pytest.raises(TransferError, match="the field '299999' stands twice"):
        transfer.import_(io.BytesIO(bad), kv, format="jsonl")


WHOLE = json.dumps([{"key": f"k{n}", "value": "é\\\n" * n} for n in range(20)]).encode()


@pytest.mark.parametrize("cut", range(1, len(WHOLE), 7))
def test_an_array_that_breaks_off_is_an_error_wherever_that_is(cut: int) -> None:
    with memory() as kv, pytest.raises(TransferError):
        transfer.import_(io.BytesIO(WHOLE[:cut]), kv, skip_invalid=True)


def test_of_many_bad_lines_all_are_counted_and_the_first_are_kept() -> None:
    with memory() as kv:
        data = io.BytesIO(lines(*[b"bad"] * (KEPT + 5), GOOD))
        told: list[LeftOut] = []
        report = transfer.import_(
            data, kv, format="jsonl", skip_invalid=True, on_left_out=told.append
        )
        assert (report.done, report.invalid, len(told)) == (1, KEPT + 5, KEPT + 5)
        assert report.left_out == tuple(told[:KEPT])


def test_lines_that_break_off_are_named() -> None:
    with memory() as kv, pytest.raises(TransferError, match="line 2.*is it whole"):
        transfer.import_(io.BytesIO(lines(GOOD, LAST)[:-5]), kv)


@pytest.mark.parametrize("behind", [b"x", b"[", b",", b'{"key":"k","value":""}'])
def test_what_stands_behind_an_array_is_an_error(behind: bytes) -> None:
    with memory() as kv, pytest.raises(TransferError, match="ends before the file does"):
        transfer.import_(io.BytesIO(b"[%b]\n%b" % (GOOD, behind)), kv)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("[]".encode("utf-16"), "UTF-16"),
        (b"\x1f\x8b\x08gzip", "begins with"),
        (b"key,value\n", "begins with"),
        (b"SQLite format 3\x00\x10\x00", "a namespace, sqlite:///FILE, to be copied"),
        (b"[{} {}]", "expected"),
        (b"{\n5 1}", "line 2"),
    ],
)
def test_a_file_of_another_kind_says_what_it_is(data: bytes, message: str) -> None:
    with memory() as kv, pytest.raises(TransferError, match=message):
        transfer.import_(io.BytesIO(data), kv, skip_invalid=True)


class Endless(io.RawIOBase):
    """Two gigabytes of one line, then a good one; counts what was read."""

    def __init__(self, head: bytes, size: int) -> None:
        self.parts = [head]
        self.left = size
        self.size = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self.parts:
            return self.parts.pop()
        if self.left <= 0:
            return b""
        self.left -= size
        return b"v" * size if self.left > 0 else b'"}\n%b\n' % LAST


def test_a_line_of_two_gigabytes_is_read_over_in_bounded_memory() -> None:
    with memory() as kv:
        file = Endless(b'{"key":"k","value":"', 400_000_000)
        report = transfer.import_(file, kv, skip_invalid=True)  # type: ignore[arg-type]  # it has what is used of a file
        assert (report.done, report.invalid) == (1, 1)
        assert report.left_out[0].line == 1
        assert everything(kv) == {"last": Entry(b"2")}


def test_an_item_of_two_gigabytes_is_not_read_to_its_end() -> None:
    with memory() as kv:
        file = Endless(b'[{"key":"k","value":"', 2_000_000_000)
        with pytest.raises(TransferError, match=f"line 1: a pair of more than {MAX_TEXT}"):
            transfer.import_(file, kv)  # type: ignore[arg-type]  # it has what is used of a file
        assert file.size - file.left < 3 * MAX_TEXT


def test_a_bad_pair_in_the_middle_keeps_those_before_and_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "in"
    good = [b'{"key":"k%05d","value":""}' % number for number in range(15_000)]
    path.write_bytes(lines(*good[:12_000], b"bad", *good[12_000:]))
    with memory() as kv:
        with pytest.raises(TransferError, match="line 12001") as raised:
            transfer.import_(path, kv)
        [note] = raised.value.__notes__
        assert "10000 pairs were transferred; with resume=True it goes on from" in note
        assert len(kv) == 10_000
        path.write_bytes(lines(*good))
        report = transfer.import_(path, kv, resume=True)
        assert (report.done, report.resumed, report.requests) == (15_000, 10_000, 1)
        assert len(kv) == 15_000


# Directories


def folder(tmp_path: Path) -> Path:
    with memory({"a": Entry(b"1"), "b": Entry(b"2", LATER, [1])}) as kv:
        transfer.export(kv, tmp_path / "out", format="dir")
    return tmp_path / "out"


def add_line(path: Path, told: object) -> None:
    with (path / ".kvdict.jsonl").open("a") as file:
        print(json.dumps(told), file=file)


def replace_by_link(path: Path) -> None:
    (path.parent / "secret").write_text("secret")
    (path / "a").unlink()
    (path / "a").symlink_to("../secret")


def replace_by_pipe(path: Path) -> None:
    (path / "a").unlink()
    os.mkfifo(path / "a")


def replace_by_folder(path: Path) -> None:
    (path / "a").unlink()
    (path / "a").mkdir()


def replace_by_socket(path: Path) -> None:
    (path / "a").unlink()
    here = os.getcwd()
    os.chdir(path)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("a")
    finally:
        os.chdir(here)


def enlarge(path: Path) -> None:
    with (path / "a").open("wb") as file:
        file.truncate(2_000_000_000)


FOLDERS: dict[str, tuple[Callable[[Path], object], str | None, str]] = {
    "a link": (replace_by_link, "a", "link"),
    "a pipe": (replace_by_pipe, "a", "plain file"),
    "a socket": (replace_by_socket, "a", "plain file"),
    "a folder": (replace_by_folder, "a", "no plain file"),
    "a lost file": (lambda path: (path / "a").unlink(), "a", "missing"),
    "a file that is too large": (enlarge, "a", "25 MiB"),
    "a listed way out": (lambda path: add_line(path, {"key": "../secret"}), "../secret", "missing"),
    "a listed name": (lambda path: add_line(path, {"key": "c", "file": "../x"}), "c", "'file'"),
    "a dot": (lambda path: add_line(path, {"key": ".."}), "..", "must not"),
    "a key twice": (lambda path: add_line(path, {"key": "b"}), "b", "repeats the key of line 2"),
    "a key by another name": (lambda path: (path / "%61").write_text(""), "a", "repeats the key"),
    "a broken name": (lambda path: (path / "%4").write_text(""), None, "'%4' says no key"),
    "a digest": (lambda path: (path / "x~1").write_text(""), None, "'x~1' says no key"),
    "a name that is a dot": (lambda path: (path / "%2E%2E").write_text(""), "..", "must not"),
    "a name that is not UTF-8": (lambda path: (path / "%FF").write_text(""), None, "says no key"),
    "a folder beside": (lambda path: (path / "sub").mkdir(), "sub", "no plain file"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_leads_nowhere_else_and_names_what_is_wrong(tmp_path: Path, name: str) -> None:
    spoil, key, reason = FOLDERS[name]
    path = folder(tmp_path)
    (tmp_path / "secret").write_text("secret")
    spoil(path)
    with memory() as kv:
        with pytest.raises(TransferError, match=reason) as raised:
            transfer.import_(path, kv)
        assert raised.value.key == key
        report = transfer.import_(path, kv, skip_invalid=True)
        assert report.invalid == 1
        assert str(raised.value).startswith(f"{report.left_out[0]}; ")
        assert b"secret" not in dict(kv.items()).values()
        assert everything(kv)["b"] == Entry(b"2", LATER, [1])


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="rights are POSIX's")
def test_a_file_of_a_folder_that_may_not_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as there:  # pytest's own folders are closed to others
        path = folder(Path(there))
        for place, mode in ((path.parent, 0o777), (path, 0o755), (path / "a", 0)):
            place.chmod(mode)
        with memory() as kv, as_nobody():
            with pytest.raises(TransferError, match="'a': its file 'a': Permission denied"):
                transfer.import_(path, kv)
            assert transfer.import_(path, kv, skip_invalid=True).invalid == 1
            assert everything(kv) == {"b": Entry(b"2", LATER, [1])}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Act as a user of few rights, if this one has them all."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_side_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path)
    (path / ".kvdict.jsonl").rename(tmp_path / "elsewhere")
    (path / ".kvdict.jsonl").symlink_to(tmp_path / "elsewhere")
    with memory() as kv, pytest.raises(TransferError, match="link"):
        transfer.import_(path, kv)


def test_a_long_key_is_read_only_by_its_own_file(tmp_path: Path) -> None:
    with memory({"x" * 200: Entry(b"1")}) as kv, memory() as other:
        transfer.export(kv, tmp_path / "out", format="dir")
        (tmp_path / "out" / ".kvdict.jsonl").unlink()
        with pytest.raises(TransferError, match="says no key"):
            transfer.import_(tmp_path / "out", other)
        assert (tmp_path / "out" / file_name("x" * 200)).read_bytes() == b"1"


# Wrong places


@pytest.mark.parametrize("prefixes", [("", ""), ("a", ""), ("", "a"), ("a", "ab")])
def test_the_same_source_and_target_are_an_error(prefixes: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("app.db")
    with (
        kvdict.open(f"sqlite:///{tmp_path}/app.db") as kv,
        kvdict.open(f"sqlite:///{tmp_path}/link.db") as same,
    ):
        kv["a"] = 1
        source, target = kv.prefixed(prefixes[0]), same.prefixed(prefixes[1])
        for call in (transfer.copy, kvdict.sync):
            with pytest.raises(TransferError, match="source and target are the same"):
                call(source, target)


@pytest.mark.parametrize("format", ["jsonl", "wrangler", "dir"])
@pytest.mark.parametrize(
    "target",
    ["app.db", "app.db-wal", "app.db-shm", "app.db-journal", "link", "hard", "folder/../app.db"],
)
def test_a_file_that_the_namespace_lies_in_is_no_target(
    tmp_path: Path, target: str, format: transfer.Format
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("app.db")
    with kvdict.open(f"sqlite:///{tmp_path}/link", codec="bytes") as kv:
        kv["k"] = b"v"
        (tmp_path / "hard").hardlink_to(tmp_path / "app.db")
        there = sorted(tmp_path.iterdir())
        with pytest.raises(TransferError, match="is a file of <KV.* and would be destroyed"):
            transfer.export(kv, tmp_path / target, format=format)
        assert sorted(tmp_path.iterdir()) == there
        kv["k"] = b"w"
    with kvdict.open(f"sqlite:///{tmp_path}/app.db", codec="bytes") as kv:
        assert dict(kv) == {"k": b"w"}


def test_what_a_target_is_until_it_is_whole_is_no_file_of_the_namespace_either(
    tmp_path: Path,
) -> None:
    with kvdict.open(tmp_path / "out.part", codec="bytes") as kv:
        kv["k"] = b"v"
        with pytest.raises(TransferError, match=r"out\.part is a file of"):
            transfer.export(kv, tmp_path / "out")
        assert dict(kv) == {"k": b"v"}


@pytest.mark.parametrize("target", ["journal", "journal-wal", "journal.lock"])
def test_an_open_journal_is_no_target(tmp_path: Path, target: str) -> None:
    buffer = kvdict.WriteBuffer(journal=tmp_path / "journal")
    with (
        kvdict.open(f"sqlite:///{tmp_path}/app.db", buffer=buffer) as kv,
        pytest.raises(TransferError, match="is a file of"),
    ):
        transfer.export(kv, tmp_path / target)


def test_parts_of_a_namespace_that_lie_apart_may_be_copied() -> None:
    with memory({"a:1": Entry(b"1")}) as kv:
        assert transfer.copy(kv.prefixed("a:"), kv.prefixed("b:")).done == 1
        assert list(kv) == ["a:1", "b:1"]
        assert kvdict.sync(kv.prefixed("a:"), kv.prefixed("b:"), delete=True).puts == 0


def test_nothing_is_written_to_a_readonly_namespace(tmp_path: Path) -> None:
    path = f"sqlite:///{tmp_path}/app.db"
    with kvdict.open(path, codec="bytes") as kv:
        kv.put_many(plain(1))
        transfer.export(kv, tmp_path / "out")
    with kvdict.open(path, codec="bytes", readonly=True) as kv, memory() as other:
        assert transfer.export(kv, tmp_path / "again").done == 1
        assert transfer.copy(kv, other).done == 1
        with pytest.raises(kvdict.ReadOnlyError):
            transfer.import_(tmp_path / "out", kv)
        with pytest.raises(kvdict.ReadOnlyError):
            transfer.copy(other, kv)
        with pytest.raises(kvdict.ReadOnlyError):
            kvdict.sync({}, kv)
        assert kvdict.sync({"a": b""}, kv, dry_run=True).puts == 1


def test_a_key_that_a_prefix_makes_too_long_is_named() -> None:
    with memory({"k" * 510: Entry(b"")}) as kv, memory() as other:
        with pytest.raises(TransferError, match="513"):
            transfer.copy(kv, other.prefixed("abc"))
        assert transfer.copy(kv, other.prefixed("abc"), skip_invalid=True).invalid == 1
        file = io.BytesIO()
        transfer.export(kv, file)
        file.seek(0)
        with pytest.raises(TransferError, match="line 1.*513"):
            transfer.import_(file, other.prefixed("abc"))
        assert list(other) == []
        with pytest.raises(kvdict.LimitError, match="513"):
            kvdict.sync(kv, other.prefixed("abc"))


def test_places_that_do_not_fit_the_format_are_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    with memory() as kv:
        with pytest.raises(TransferError, match="is a directory"):
            transfer.export(kv, tmp_path)
        with pytest.raises(TransferError, match="is there already"):
            transfer.export(kv, tmp_path / "full", format="dir")
        with pytest.raises(kvdict.ConfigError, match="needs the name of a directory"):
            transfer.export(kv, io.BytesIO(), format="dir")
        with pytest.raises(kvdict.ConfigError, match="'csv', understood are 'jsonl'"):
            transfer.export(kv, io.BytesIO(), format="csv")  # type: ignore[arg-type]  # the mistake is meant
        with pytest.raises(TransferError, match="is a directory"):
            transfer.import_(tmp_path, kv, format="jsonl")
        with pytest.raises(TransferError, match="no directory"):
            transfer.import_(tmp_path / "file", kv, format="dir")
        with pytest.raises(FileNotFoundError):
            transfer.import_(tmp_path / "missing", kv)
        with pytest.raises(FileNotFoundError):
            transfer.export(kv, tmp_path / "missing" / "out")


def test_a_device_is_written_as_a_stream() -> None:
    with memory(plain(3)) as kv:
        assert transfer.export(kv, "/dev/null").done == 3
    with memory() as kv:
        assert transfer.import_("/dev/null", kv).done == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_oserror() -> None:
    with memory(plain(3)) as kv, pytest.raises(OSError, match="No space left"):
        transfer.export(kv, "/dev/full")


def test_a_reader_that_closes_the_pipe_is_a_broken_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with (
        memory(plain(3)) as kv,
        os.fdopen(writing, "wb", buffering=0) as file,
        pytest.raises(BrokenPipeError),
    ):
        transfer.export(kv, file)
