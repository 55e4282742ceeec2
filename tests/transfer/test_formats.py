"""Export then import: the same pairs, metadata and expirations, in each format."""

from __future__ import annotations

import dbm.dumb
import io
import json
import os
import shelve
import stat
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvdict
from kvdict import Entry, transfer
from kvdict.codecs import BYTES
from kvdict.emulator.store import Pair
from kvdict.limits import encode_metadata, key_problem
from kvdict.local import LOCAL_ACCOUNT
from kvdict.transfer.filenames import LONGEST, file_name, key_of
from tests.conftest import Opener
from tests.transfer.support import (
    AWKWARD,
    FORMATS,
    LATER,
    Pairs,
    all_kinds,
    everything,
    memory,
    plain,
)
from tests.world import World

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abé\x00"), inner),
    max_leaves=5,
)  # fmt: skip
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=520) | st.sampled_from(AWKWARD)
PAIRS = st.dictionaries(
    KEYS.filter(lambda key: key_problem(key) is None),
    st.builds(
        Entry,
        st.binary(max_size=50) | st.text(st.characters(exclude_categories=["Cs"])).map(str.encode),
        st.none() | st.integers(LATER, LATER * 2),
        JSON.filter(lambda metadata: len(encode_metadata("", metadata) or "") < 200),
    ),
    max_size=8,
)


def there_and_back(pairs: Pairs, path: Path, format: transfer.Format) -> Pairs:
    with memory(pairs) as kv, memory() as other:
        told = transfer.export(kv, path, format=format)
        assert (told.complete, told.done, told.state) == (True, len(pairs), None)
        back = transfer.import_(path, other)
        assert (back.complete, back.done, back.invalid, back.expired) == (True, len(pairs), 0, 0)
        assert back.bytes == told.bytes == sum(len(entry.value) for entry in pairs.values())
        assert list(transfer.diff(kv, other)) == []
        return everything(other)


@pytest.mark.parametrize("format", FORMATS)
def test_awkward_keys_and_values_come_back_as_they_were(
    tmp_path: Path, format: transfer.Format
) -> None:
    assert there_and_back(all_kinds(), tmp_path / "out", format) == all_kinds()


@pytest.mark.parametrize("format", FORMATS)
@given(pairs=PAIRS)
@settings(max_examples=30, deadline=None)
def test_any_pairs_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, format: transfer.Format, pairs: Pairs
) -> None:
    path = tmp_path_factory.getbasetemp() / uuid4().hex
    assert there_and_back(pairs, path, format) == pairs


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_namespace_is_a_whole_file(tmp_path: Path, format: transfer.Format) -> None:
    assert there_and_back({}, tmp_path / "out", format) == {}
    assert (tmp_path / "out").exists()


@pytest.mark.parametrize("format", FORMATS)
def test_pairs_travel_through_each_home(
    open_kv: Opener, tmp_path: Path, format: transfer.Format
) -> None:
    kv = open_kv(codec="bytes")
    kv.put_many(all_kinds())
    other = open_kv(codec="bytes")
    transfer.export(kv, tmp_path / "out", format=format)
    report = transfer.import_(tmp_path / "out", other)
    assert report.done == len(AWKWARD)
    assert {key: other.entry(key) for key in other} == all_kinds()
    assert list(transfer.diff(kv, other)) == []


@pytest.mark.parametrize("format", ["jsonl", "wrangler"])
def test_streams_are_written_and_read_and_stay_open(format: transfer.Format) -> None:
    file = io.BytesIO()
    with memory(all_kinds()) as kv, memory() as other:
        transfer.export(kv, file, format=format)
        file.seek(0)
        transfer.import_(file, other)
        assert everything(other) == all_kinds()
    assert not file.closed


def test_a_pipe_is_written_and_read() -> None:
    reading, writing = os.pipe()
    with memory({"a": Entry(b"1")}) as kv, memory() as other:
        with os.fdopen(writing, "wb", buffering=0) as file:
            transfer.export(kv, file)
        with os.fdopen(reading, "rb", buffering=0) as file:
            assert transfer.import_(file, other).done == 1
        assert everything(other) == {"a": Entry(b"1")}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o755])
def test_what_takes_the_place_of_something_keeps_its_rights(
    tmp_path: Path, format: transfer.Format, mode: int
) -> None:
    out, part = tmp_path / "out", tmp_path / "out.part"
    out.mkdir() if format == "dir" else out.touch()
    out.chmod(mode)
    meanwhile = []

    def look(_progress: transfer.Progress) -> None:
        if part.exists():
            meanwhile.append(stat.S_IMODE(part.stat().st_mode))

    with memory(plain(1500)) as kv:
        transfer.export(kv, out, format=format, progress=look)
    assert stat.S_IMODE(out.stat().st_mode) == mode
    assert set(meanwhile) == {mode | (0o700 if format == "dir" else 0o600)}


def test_values_travel_as_stored_whatever_the_codec(tmp_path: Path) -> None:
    with kvdict.open("memory://") as kv, kvdict.open("memory://", codec="text") as other:
        kv["a"] = {"b": 1}
        transfer.export(kv, tmp_path / "out")
        transfer.import_(tmp_path / "out", other)
        assert other["a"] == '{"b":1}'


def test_a_prefix_chooses_keys_and_a_view_leaves_it_out(tmp_path: Path) -> None:
    pairs = {key: Entry(key.encode()) for key in ("a", "u:1", "u:2", "v")}
    with memory(pairs) as kv, memory() as other, memory() as third:
        assert transfer.export(kv, tmp_path / "chosen", prefix="u:").done == 2
        transfer.import_(tmp_path / "chosen", other)
        assert list(other) == ["u:1", "u:2"]
        transfer.export(kv.prefixed("u:"), tmp_path / "view")
        transfer.import_(tmp_path / "view", third.prefixed("w:"))
        assert list(third) == ["w:1", "w:2"]


def test_a_line_is_an_object_in_wranglers_words(tmp_path: Path) -> None:
    pairs = {"a": Entry(b"x", LATER, {"b": 1}), "b": Entry(b"\xff")}
    with memory(pairs) as kv:
        transfer.export(kv, tmp_path / "lines")
        transfer.export(kv, tmp_path / "array", format="wrangler")
    expected = [
        {"key": "a", "value": "x", "metadata": {"b": 1}, "expiration": LATER},
        {"key": "b", "value": "/w==", "base64": True},
    ]
    assert [json.loads(line) for line in (tmp_path / "lines").read_bytes().splitlines()] == expected
    assert json.loads((tmp_path / "array").read_bytes()) == expected


def test_text_that_would_grow_is_written_in_base64(tmp_path: Path) -> None:
    with memory({"zeros": Entry(b"\0" * 30_000)}) as kv:
        transfer.export(kv, tmp_path / "out")
    assert (tmp_path / "out").stat().st_size < 45_000


def test_what_wrangler_would_refuse_is_written_and_noted(tmp_path: Path) -> None:
    pairs = {"a": Entry(b"", None, "text"), "b": Entry(b"", None, [1]), "c": Entry(b"", None, 0)}
    with memory(pairs) as kv:
        report = transfer.export(kv, tmp_path / "out", format="wrangler")
        [note] = report.notes
        assert note.startswith("the metadata of key 'c' and of 1 before it is no object")
        assert transfer.export(kv, tmp_path / "lines").notes == ()


@pytest.mark.parametrize(
    "told",
    [
        '{\n  "a": "1",\n  "b": null,\n  "c": "3"\n}\n\nSuccess!\n',
        '{\n  "a": {"value": "1"}, "b": {"value": null}, "c": {"value": "3"}}',
        '[{"key": "a", "value": "1"}, {"key": "c", "value": "3"}]',
        '\ufeff[\n{"key": "a", "value": "1"}, {"value": "Mw==", "key": "c", "base64": true}]',
        '\ufeff{"key": "a", "value": "1"}\r\n\r\n{"key": "c", "value": "3", "metadata": null}',
    ],
)
def test_what_others_write_is_read(told: str) -> None:
    with memory() as kv:
        transfer.import_(io.BytesIO(told.encode()), kv)
        assert everything(kv) == {"a": Entry(b"1"), "c": Entry(b"3")}


def test_a_time_to_live_counts_from_the_import_and_wins() -> None:
    told = b'{"key": "a", "value": "", "expiration_ttl": 1000, "expiration": %d}' % LATER
    with memory() as kv:
        now = kv.client.transport.clock.now()
        transfer.import_(io.BytesIO(told), kv)
        assert everything(kv)["a"].expiration == pytest.approx(now + 1000, abs=2)


def test_expired_pairs_are_skipped_and_counted_and_late_ones_last_a_minute() -> None:
    with memory() as kv:
        now = int(kv.client.transport.clock.now())
        told = "".join(
            f'{{"key": "{key}", "value": "", "expiration": {now + left}}}\n'
            for key, left in {"past": -1, "near": 30, "far": 1000}.items()
        )
        report = transfer.import_(io.BytesIO(told.encode()), kv)
        assert (report.done, report.expired, report.invalid) == (2, 1, 0)
        assert everything(kv)["near"].expiration == pytest.approx(now + 60, abs=2)
        assert everything(kv)["far"].expiration == now + 1000


@given(KEYS.filter(lambda key: key_problem(key) is None))
def test_a_key_has_a_safe_name_and_no_two_the_same(key: str) -> None:
    name = file_name(key)
    assert name.isascii()
    assert name == name.lower() or "%" in name
    assert len(name) <= LONGEST
    assert not set(name) & set('/\\:*?"<>|\x00')
    assert name[0] != "."
    assert name[-1] not in ". "
    assert key_of(name) == (None if "~" in name else key)


def test_names_that_a_system_keeps_for_itself_are_avoided() -> None:
    names = [file_name(key) for key in AWKWARD]
    assert len({name.casefold() for name in names}) == len(AWKWARD)
    stems = {name.partition(".")[0].lower() for name in names}
    assert not stems & {"con", "nul", "com1"}


def test_a_folder_that_a_person_filled_is_imported(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "a%2Fb").write_bytes(b"\xff")
    (tmp_path / ".DS_Store").write_text("not a key")
    with memory() as kv:
        assert transfer.import_(tmp_path, kv).done == 2
        assert everything(kv) == {"README.md": Entry(b"hello"), "a/b": Entry(b"\xff")}


def test_files_of_a_folder_may_be_changed_and_added(tmp_path: Path) -> None:
    with memory(all_kinds()) as kv, memory() as other:
        transfer.export(kv, tmp_path / "out", format="dir")
        (tmp_path / "out" / file_name("é")).write_bytes(b"changed")
        (tmp_path / "out" / "added").write_bytes(b"new")
        transfer.import_(tmp_path / "out", other)
        changed = Entry(b"changed", all_kinds()["é"].expiration, all_kinds()["é"].metadata)
        assert everything(other) == all_kinds() | {"é": changed, "added": Entry(b"new")}


@pytest.mark.parametrize("format", FORMATS)
def test_a_large_value_travels(tmp_path: Path, format: transfer.Format) -> None:
    zeros = b"\0" * (2 if format == "wrangler" else 25)  # six characters each in its JSON
    large = {"zeros": zeros * 1024 * 1024, "text": b"ab" * 5_000_000}
    with memory() as kv, memory() as other:
        kv.update(large)
        transfer.export(kv, tmp_path / format, format=format)
        transfer.import_(tmp_path / format, other)
        assert dict(other.items()) == large


@pytest.mark.parametrize("format", ["jsonl", "wrangler"])
def test_half_a_surrogate_pair_in_metadata_is_exported_as_an_escape(
    format: transfer.Format,
) -> None:
    world = World(codec=BYTES)
    told = r'{"\u00e9":"\ud800"}'  # as a Worker may write it
    world.store.put(LOCAL_ACCOUNT, world.kv.id, "k", Pair("é".encode(), None, told))
    file = io.BytesIO()
    transfer.export(world.kv, file, format=format)
    text = file.getvalue().decode()
    assert told in text
    assert json.loads(text.strip(" \n[]"))["value"] == "é"
    world.kv.close()


def test_nothing_that_wrangler_printed_is_nothing() -> None:
    with memory() as kv:
        report = transfer.import_(io.BytesIO(b"{\n}\nSuccess!\n"), kv)
        assert (report.complete, report.done) == (True, 0)


def test_a_shelf_of_the_standard_library_is_taken_along(tmp_path: Path) -> None:
    with shelve.open(str(tmp_path / "shelf")) as shelf:
        shelf["cart"] = {"apples": [1, 2]}
    with kvdict.open("memory://", codec="pickle") as kv:
        report = transfer.import_(tmp_path / "shelf", kv, format="shelve")
        assert report.done == 1
        assert dict(kv.items()) == {"cart": {"apples": [1, 2]}}


def test_a_dbm_file_is_taken_along_byte_for_byte(tmp_path: Path) -> None:
    with dbm.dumb.open(str(tmp_path / "file"), "c") as file:
        file["key"] = b"\xff\x00"
    with kvdict.open("memory://", codec="bytes") as kv:
        transfer.import_(tmp_path / "file", kv, format="dbm")
        assert dict(kv.items()) == {"key": b"\xff\x00"}
        with pytest.raises(kvdict.TransferError, match="library's dbm.dumb: say whether it is a"):
            transfer.import_(tmp_path / "file", kv)
        with pytest.raises(kvdict.ShelveError, match="does not exist"):
            transfer.import_(tmp_path / "missing", kv, format="dbm")
        with pytest.raises(kvdict.ConfigError, match="not a stream"):
            transfer.import_(io.BytesIO(b""), kv, format="dbm")
