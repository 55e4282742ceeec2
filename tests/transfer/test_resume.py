"""Going on: after a stop, an error, an interrupt, or SIGKILL at any moment."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvdict
from kvdict import Entry, TransferError, transfer
from kvdict.codecs import BYTES
from kvdict.emulator import Emulator, Fault, Knobs, Server, Store, serve
from kvdict.transfer import Progress
from kvdict.transfer.draft import claim
from kvdict.transfer.filenames import file_name
from kvdict.transfer.frontier import Frontier
from kvdict.transfer.state import State
from kvdict.transfer.work import Work
from kvdict.writes import Write
from tests.conftest import account_of
from tests.transfer.support import (
    ENVIRONMENT,
    FORMATS,
    KV,
    LATER,
    ROOT,
    Pairs,
    all_kinds,
    everything,
    memory,
    plain,
    python,
)
from tests.world import World


def mixed(number: int) -> Pairs:
    """Return pairs of all kinds among many plain ones."""
    return plain(number) | all_kinds() | {"zz": Entry(b"\xff" * 1000, LATER, {"a": 1})}


def after(calls: int) -> Callable[[], bool]:
    """Return a stop that says yes after so many calls."""
    asked = count()
    return lambda: next(asked) >= calls


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_that_is_stopped_is_gone_on_with(tmp_path: Path, format: transfer.Format) -> None:
    path = tmp_path / "out"
    with memory(mixed(3500)) as kv, memory() as other:
        whole = transfer.export(kv, tmp_path / "whole", format=format).requests
        told = transfer.export(kv, path, format=format, stop=after(2))
        assert (told.complete, told.done, told.state) == (False, 2000, tmp_path / "out.state")
        assert told.state == transfer.state_of(path)
        assert not path.exists()
        assert (tmp_path / "out.part").exists()
        rest = transfer.export(kv, path, format=format, resume=True)
        assert (rest.complete, rest.done, rest.resumed) == (True, len(kv), 2000)
        assert told.requests + rest.requests <= whole + 10
        assert {left.name for left in tmp_path.iterdir()} == {"out", "whole"}
        transfer.import_(path, other)
        assert everything(other) == everything(kv)


@pytest.mark.parametrize("format", FORMATS)
def test_an_import_that_is_stopped_is_gone_on_with(tmp_path: Path, format: transfer.Format) -> None:
    path = tmp_path / "out"
    with memory(mixed(12_000) if format != "dir" else mixed(3000)) as kv, memory() as other:
        transfer.export(kv, path, format=format)
        total = len(kv)
        cut = 11_000 if format != "dir" else 2500
        told = transfer.import_(path, other, stop=after(cut))
        stored = 10_000 if format != "dir" else 0
        assert (told.complete, told.done) == (False, stored)
        assert len(other) == stored
        rest = transfer.import_(path, other, resume=True)
        assert (rest.done, rest.resumed, rest.requests) == (total, stored, 1)
        assert everything(other) == everything(kv)
        assert not transfer.state_of(path).exists()


def test_a_copy_that_is_stopped_is_gone_on_with(tmp_path: Path) -> None:
    with memory(mixed(13_000)) as kv, memory() as other:
        state = tmp_path / "state"
        told = transfer.copy(kv, other, state=state, stop=after(12_000))
        assert (told.complete, told.done, told.state) == (False, 10_000, state)
        rest = transfer.copy(kv, other, state=state, resume=True)
        assert (rest.complete, rest.done, rest.resumed) == (True, len(kv), 10_000)
        assert list(transfer.diff(kv, other)) == []
        assert not state.exists()


def test_what_was_written_meanwhile_does_not_disturb_the_rest(tmp_path: Path) -> None:
    with memory(plain(5000)) as kv, memory() as other:
        told = transfer.export(kv, tmp_path / "out", format="dir", stop=after(1))
        assert told.done == 1000
        kv.delete_many(f"key:{number:07}" for number in range(900, 1100))
        kv.update({"a before": b"", "key:0003000": b"changed", "z": b"new"})
        transfer.export(kv, tmp_path / "out", format="dir", resume=True)
        transfer.import_(tmp_path / "out", other)
        untouched = {f"key:{n:07}" for n in range(5000) if not 900 <= n < 1100}
        assert untouched <= set(other)
        assert other["key:0003000"] == b"changed"
        assert set(other) - untouched == {f"key:{n:07}" for n in range(900, 1000)} | {"z"}


def test_keys_deleted_between_listing_and_reading_are_counted(tmp_path: Path) -> None:
    with memory(plain(1500)) as kv:

        def delete_some(_progress: Progress) -> None:
            kv.delete_many(["key:0001200", "key:0001499"])

        report = transfer.export(kv, tmp_path / "out", progress=delete_some)
        assert report.done + report.gone in {1498, 1500}
        assert report.done == len((tmp_path / "out").read_bytes().splitlines())


def test_what_is_deleted_behind_its_listing_is_counted_and_left_out() -> None:
    world = World(codec=BYTES)
    world.fill({f"k{number}": b"v" for number in range(5)})

    def delete(_method: str, url: str) -> None:
        if url.endswith("/bulk/get"):
            world.delete_elsewhere("k1")

    file = io.BytesIO()
    with memory() as other:
        world.adapter.before = delete
        report = transfer.export(world.kv, file)
        assert (report.done, report.gone) == (4, 1)
        assert b"k1" not in file.getvalue()
        world.fill({"k1": b"v"})
        report = transfer.copy(world.kv, other)
        assert (report.done, report.gone) == (4, 1)
        assert list(other) == ["k0", "k2", "k3", "k4"]
    world.kv.close()


def test_what_has_expired_by_the_target_s_clock_is_not_copied() -> None:
    world = World(codec=BYTES)
    world.time = time.time() - 3600
    world.put_elsewhere("over", b"v", ttl=600)
    world.put_elsewhere("lasts", b"v", ttl=7200)
    with memory() as other:
        report = transfer.copy(world.kv, other)
        assert (report.done, report.expired, list(other)) == (1, 1, ["lasts"])
    world.kv.close()


def test_a_listing_that_fails_is_an_error_and_no_reason_to_begin_anew(tmp_path: Path) -> None:
    world = World(codec=BYTES)
    world.fill({f"k{number:04}": b"v" for number in range(2500)})
    world.kv.client.transport.max_wait = 0
    told = transfer.export(world.kv, tmp_path / "out", stop=after(2))
    assert told.done == 2000
    world.knobs.planned.append(Fault("500"))
    with pytest.raises(kvdict.ServerError):
        transfer.export(world.kv, tmp_path / "out", resume=True)
    assert transfer.export(world.kv, tmp_path / "out", resume=True).resumed == 2000
    world.kv.close()


def test_files_of_a_killed_export_that_its_state_does_not_know_are_written_again(
    tmp_path: Path,
) -> None:
    with memory(plain(2500)) as kv, memory() as other:
        transfer.export(kv, tmp_path / "out", format="dir", stop=after(1))
        part = tmp_path / "out.part"
        with (part / ".kvdict.jsonl").open("a") as side:
            for key in ("key:0001000", "key:0001001 deleted since", "key:0001001"):
                side.write(json.dumps({"key": key}) + "\n")
                (part / file_name(key)).write_bytes(b"half")
            side.write('{"key":"key:00010')
        transfer.export(kv, tmp_path / "out", format="dir", resume=True)
        transfer.import_(tmp_path / "out", other)
        assert everything(other) == plain(2500)


@pytest.mark.parametrize("place", ["out", "out.part"])
def test_an_empty_folder_is_not_in_the_way(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir()
    with memory(plain(3)) as kv, memory() as other:
        transfer.export(kv, tmp_path / "out", format="dir")
        transfer.import_(tmp_path / "out", other)
        assert everything(other) == plain(3)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_an_error_keeps_the_state_and_says_how_to_go_on(tmp_path: Path) -> None:
    with memory(plain(3000)) as kv:
        transfer.export(kv, tmp_path / "whole")

        def fail(progress: Progress) -> None:
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone") as raised:
            transfer.export(kv, tmp_path / "out", progress=fail)
        [note] = raised.value.__notes__
        assert note.endswith(f"with resume=True it goes on from {tmp_path / 'out.state'}")
        assert note.startswith("kvdict: 1000 pairs were transferred;")
        assert transfer.export(kv, tmp_path / "out", resume=True).resumed == 1000
        assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_keeps_the_state(tmp_path: Path, interrupt: type[BaseException]) -> None:
    def fail(progress: Progress) -> None:
        raise interrupt

    with memory(plain(12_000)) as kv, memory() as other:
        with pytest.raises(interrupt):
            transfer.copy(kv, other, state=tmp_path / "state", progress=fail)
        assert len(other) == 10_000
        report = transfer.copy(kv, other, state=tmp_path / "state", resume=True)
        assert (report.resumed, report.done) == (10_000, 12_000)


def test_a_run_without_resume_begins_anew(tmp_path: Path) -> None:
    with memory(plain(3000)) as kv:
        for format in FORMATS:
            transfer.export(kv, tmp_path / "out", format=format, stop=after(1))
            report = transfer.export(kv, tmp_path / "out", format=format)
            assert (report.done, report.resumed) == (3000, 0)
            (tmp_path / "out").rename(tmp_path / format)


def test_nothing_to_go_on_with_is_a_beginning(tmp_path: Path) -> None:
    with memory(plain(10)) as kv:
        report = transfer.export(kv, tmp_path / "out", resume=True)
        assert (report.done, report.resumed) == (10, 0)


def test_what_has_no_state_cannot_be_gone_on_with(tmp_path: Path) -> None:
    with memory() as kv, memory() as other:
        with pytest.raises(kvdict.ConfigError, match="stream cannot be gone on with"):
            transfer.export(kv, io.BytesIO(), resume=True)
        with pytest.raises(kvdict.ConfigError, match="state="):
            transfer.import_(io.BytesIO(), kv, resume=True)
        with pytest.raises(kvdict.ConfigError, match="state="):
            transfer.copy(kv, other, resume=True)


def test_a_stream_is_gone_on_with_by_giving_it_again(tmp_path: Path) -> None:
    file = io.BytesIO()
    with memory(plain(12_500)) as kv, memory() as other:
        transfer.export(kv, file)
        file.seek(0)
        transfer.import_(file, other, state=tmp_path / "state", stop=after(12_000))
        file.seek(0)
        report = transfer.import_(file, other, state=tmp_path / "state", resume=True)
        assert (report.resumed, report.done) == (10_000, 12_500)
        assert everything(other) == plain(12_500)


@pytest.mark.parametrize("options", [{"prefix": "key"}, {"format": "wrangler"}])
def test_the_state_of_other_work_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with memory(plain(3000)) as kv, memory() as other:
        transfer.export(kv, tmp_path / "out", stop=after(1))
        with pytest.raises(TransferError, match="state of another transfer: its"):
            transfer.export(kv, tmp_path / "out", resume=True, **options)
        with pytest.raises(TransferError, match="its source is"):
            transfer.export(other, tmp_path / "out", resume=True)
        with pytest.raises(TransferError, match="its work is 'export'"):
            transfer.copy(kv, other, state=tmp_path / "out.state", resume=True)


@pytest.mark.parametrize("told", [b"", b"{", b"[]", b'{"about": {}}', b"\xff", b'{"at": 1}'])
def test_a_broken_state_is_refused(tmp_path: Path, told: bytes) -> None:
    with memory(plain(3)) as kv:
        (tmp_path / "out.state").write_bytes(told)
        with pytest.raises(TransferError, match="is not the state of a transfer"):
            transfer.export(kv, tmp_path / "out", resume=True)


@pytest.mark.parametrize("format", FORMATS)
def test_a_lost_or_shorter_part_is_refused(tmp_path: Path, format: transfer.Format) -> None:
    with memory(plain(3000)) as kv:
        transfer.export(kv, tmp_path / "out", format=format, stop=after(2))
        part = tmp_path / "out.part"
        file = part / ".kvdict.jsonl" if format == "dir" else part
        with file.open("r+b") as opened:
            opened.truncate(100)
        with pytest.raises(TransferError, match="begin anew, without resume"):
            transfer.export(kv, tmp_path / "out", format=format, resume=True)
        file.unlink()
        with pytest.raises(TransferError, match="begin anew, without resume"):
            transfer.export(kv, tmp_path / "out", format=format, resume=True)
        if format == "dir":
            shutil.rmtree(part)
            with pytest.raises(TransferError, match="begin anew, without resume"):
                transfer.export(kv, tmp_path / "out", format=format, resume=True)
            assert not part.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[: data.index(b"\n") + 1],
        lambda data: data.replace(b"9", b"8"),
        lambda data: data.replace(b"value 9", b"other 9"),
    ],
)
def test_a_source_that_changed_is_refused(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "in"
    with memory(plain(12_500)) as kv, memory() as other:
        transfer.export(kv, path)
        transfer.import_(path, other, stop=after(12_000))
        path.write_bytes(change(path.read_bytes()))
        with pytest.raises(TransferError, match="another one|repeats"):
            transfer.import_(path, other, resume=True)


def test_a_cursor_that_the_service_has_forgotten_costs_listings_alone(tmp_path: Path) -> None:
    with memory(plain(3500)) as kv:
        transfer.export(kv, tmp_path / "whole")
        transfer.export(kv, tmp_path / "out", stop=after(2))
        state = tmp_path / "out.state"
        told = json.loads(state.read_text())
        told["at"]["place"]["cursor"] = "forgotten"
        state.write_text(json.dumps(told))
        assert transfer.export(kv, tmp_path / "out", resume=True).requests == 1 + 4 + 15
        assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("format", FORMATS)
def test_of_two_exports_to_one_target_the_second_is_told_and_disturbs_nothing(
    tmp_path: Path, format: transfer.Format, resume: bool
) -> None:
    refused = []
    with memory(mixed(2500)) as kv, memory() as other:

        def export_too(_progress: Progress) -> None:
            if (tmp_path / "out.part").exists():
                with pytest.raises(TransferError, match="is being written by another ex") as raised:
                    transfer.export(kv, tmp_path / "out", format=format, resume=resume)
                refused.append(raised)

        transfer.export(kv, tmp_path / "out", format=format, progress=export_too)
        assert len(refused) >= 2
        transfer.import_(tmp_path / "out", other)
        assert everything(other) == everything(kv)
        assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_part_that_was_just_moved_into_place_is_not_written_to(tmp_path: Path) -> None:
    part = tmp_path / "out.part"
    with part.open("wb") as file:
        part.rename(tmp_path / "out")
        with pytest.raises(TransferError, match="is being written by another export"):
            claim(file.fileno(), part)
        part.touch()
        with pytest.raises(TransferError, match="is being written by another export"):
            claim(file.fileno(), part)


SOMEBODYS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("notes"),
    "empty": lambda path: path.touch(),
    "json": lambda path: path.write_text('{"about": {}, "at": {}, "more": 1}'),
    "large": lambda path: path.write_text('{"about": {}, "at": {}}'.ljust(1_000_001)),
    "link": lambda path: path.symlink_to("elsewhere"),
    "pipe": lambda path: os.mkfifo(path),
    "folder": lambda path: path.mkdir(),
}


def test_two_transfers_that_keep_one_state_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(tmp_path / "state", {})
    other = State(tmp_path / "state", {})
    with monkeypatch.context() as patch:

        def be_overtaken(_file: int) -> None:
            patch.undo()
            other.save({"done": 2})

        patch.setattr(os, "fsync", be_overtaken)
        with pytest.raises(TransferError, match="keep their state in .*state at the same time; "):
            state.save({"done": 1})
    assert other.load(resume=True) == {"done": 2}


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("kind", SOMEBODYS)
def test_somebody_elses_file_in_place_of_the_state_stays_and_nothing_is_sent(
    tmp_path: Path, kind: str, resume: bool
) -> None:
    state = tmp_path / "out.state"
    SOMEBODYS[kind](state)
    before = state.lstat()
    (tmp_path / "out").write_text('{"key":"a","value":"1"}')
    with memory(plain(3)) as kv, memory() as other:
        works: list[Callable[[], object]] = [
            lambda: transfer.export(kv, tmp_path / "out", resume=resume),
            lambda: transfer.import_(tmp_path / "out", other, resume=resume),
        ]
        if kind != "link":  # a link that was named is followed
            works.append(lambda: transfer.copy(kv, other, state=state, resume=resume))
        for work in works:
            with pytest.raises(TransferError, match=r"out\.state is in the way: it is not"):
                work()
        assert len(other) == 0
    assert state.lstat() == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"out", "out.state"}


def test_a_state_half_written_at_a_kill_is_replaced_and_nothing_else_in_its_place(
    tmp_path: Path,
) -> None:
    new = tmp_path / "out.state.new"
    with memory(plain(1500)) as kv:
        for begun in ("", '{"abo', '{"about": {"work": "ex'):
            new.write_text(begun)
            transfer.export(kv, tmp_path / "out")
            assert not new.exists()
        new.write_text("notes")
        with pytest.raises(TransferError, match=r"out\.state\.new is in the way"):
            transfer.export(kv, tmp_path / "out")
        assert new.read_text() == "notes"


@pytest.mark.parametrize("state", ["out", "out.part", "out/state", "link"])
def test_a_state_is_no_part_of_what_is_written(tmp_path: Path, state: str) -> None:
    (tmp_path / "link").symlink_to("out")
    with memory(plain(3)) as kv, pytest.raises(TransferError, match="name another file for the st"):
        transfer.export(kv, tmp_path / "out", state=tmp_path / state)
    assert [entry.name for entry in tmp_path.iterdir()] == ["link"]


@pytest.mark.parametrize("name", ["app.db", "app.db-wal", "app.db-journal", "link", "hard"])
def test_a_state_is_no_file_of_a_database(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to("app.db")
    state = tmp_path / name
    with (
        kvdict.open(f"sqlite:///{tmp_path}/app.db", codec="bytes") as kv,
        memory(plain(3)) as other,
    ):
        (tmp_path / "hard").hardlink_to(tmp_path / "app.db")
        works: list[Callable[[], object]] = [
            lambda: transfer.export(kv, tmp_path / "out", state=state),
            lambda: transfer.import_(io.BytesIO(b'{"key":"a","value":""}'), kv, state=state),
            lambda: transfer.copy(other, kv, state=state),
            lambda: transfer.copy(kv, other, state=state),
        ]
        for work in works:
            with pytest.raises(TransferError, match="is a file of <KV.* itself"):
                work()
        kv["k"] = b"v"
        assert dict(kv) == {"k": b"v"}


def test_somebody_elses_folder_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "precious").write_text("")
    with memory(plain(3)) as kv, pytest.raises(TransferError, match="in the way"):
        transfer.export(kv, tmp_path / "out", format="dir")
    assert (tmp_path / "out.part" / "precious").exists()


@given(
    chunks=st.permutations(range(6)),
    marks=st.lists(st.booleans(), min_size=24, max_size=24),
    killed=st.integers(0, 6),
)
def test_a_saved_place_has_all_before_it_stored_in_whatever_order_answers_come(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[int], marks: list[bool], killed: int
) -> None:
    state = State(tmp_path_factory.getbasetemp() / "state", {})
    state.delete()
    frontier = Frontier(Work([], state))
    for number in range(24):
        frontier.send(Write(str(number), b"v"))
        if marks[number]:
            frontier.mark({"position": number + 1})
    stored: set[int] = set()
    for chunk in chunks[:killed]:
        keys = range(4 * chunk, 4 * chunk + 4)
        stored |= set(keys)
        frontier.accepted(map(str, keys))
    whole = next(number for number in range(25) if number not in stored)
    reached = [number + 1 for number in range(24) if marks[number] and number < whole]
    at = state.load(resume=True)
    last = reached[-1] if reached else 0
    assert at == ({"position": last, "done": last, "bytes": last} if last else None)


def test_an_interrupt_among_requests_over_a_socket_keeps_what_was_stored(
    tmp_path: Path, server: Server
) -> None:
    def fail(progress: Progress) -> None:
        raise KeyboardInterrupt

    where = f"{account_of(server)}/{tmp_path.name}"
    with memory(plain(25_000)) as kv, kvdict.open(where, codec="bytes", create=True) as other:
        transfer.export(kv, tmp_path / "out")
        with pytest.raises(KeyboardInterrupt):
            transfer.import_(tmp_path / "out", other, progress=fail)
        report = transfer.import_(tmp_path / "out", other, resume=True)
        assert report.resumed in {10_000, 20_000, 25_000}
        assert report.done == len(other) == 25_000


# SIGKILL


def run_killed(arguments: list[str], delay: float) -> dict[str, Any] | None:
    """Run the mover, which kills itself in so many seconds; return its report if it was faster."""
    command = python("-m", "tests.transfer.mover", *arguments, "resume", f"kill={delay}")
    done = subprocess.run(command, capture_output=True, cwd=ROOT, env=ENVIRONMENT, check=False)
    if done.returncode == -signal.SIGKILL:
        return None
    assert (done.returncode, done.stderr) == (0, b"")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def until_done(arguments: list[str], chance: random.Random, longest: float) -> dict[str, Any]:
    """Kill it again and again until it is done, giving it more time once it has had enough."""
    for turn in count():
        told = run_killed(arguments, chance.uniform(0, longest) * 2 ** max(0, turn - 3))
        if told:
            return told | {"kills": turn}
    raise AssertionError


def rounds(
    tmp_path: Path, number: int, pairs: int, longest: float, seed: int, server: Server | None = None
) -> None:
    """Move through all kinds of transfers, each killed at random moments, and compare.

    With a server several requests are under way at once.
    """

    def place(name: str) -> str:
        if server is None:
            return f"sqlite:///{tmp_path}/{name}.db"
        return f"{account_of(server)}/{name}-{tmp_path.name}"

    chance = random.Random(seed)
    origin = place("origin")
    with kvdict.open(origin, codec="bytes", create=True) as kv:
        kv.put_many(mixed(pairs))
        kv.flush()
        total, expected = len(kv), everything(kv)
    reports = []
    for turn in range(number):
        file = tmp_path / f"out-{turn}"
        imported, copied = place(f"in-{turn}"), place(f"copy-{turn}")
        for home in (imported, copied):  # a home that is killed while it is made is another matter
            kvdict.open(home, create=True).close()
        for arguments in (
            ["export", origin, str(file), f"format={FORMATS[turn % 3]}"],
            ["import", str(file), imported],
            ["copy", imported, copied, f"state={tmp_path}/copied-{turn}"],
        ):
            reports.append(until_done(arguments, chance, longest))
            assert reports[-1]["done"] == total
        for home in (imported, copied):
            with kvdict.open(home, codec="bytes") as kv:
                assert everything(kv) == expected
    assert not [left for left in tmp_path.iterdir() if left.suffix in {".part", ".state", ".new"}]
    if number > 1:  # one round may be lucky
        assert sum(report["kills"] for report in reports) >= number
        assert any(report["resumed"] for report in reports)


def test_transfers_that_are_killed_are_gone_on_with_and_lose_nothing(tmp_path: Path) -> None:
    rounds(tmp_path, 1, 3000, 0.25, seed=1)


def test_transfers_over_a_socket_that_are_killed_lose_nothing(
    tmp_path: Path, server: Server
) -> None:
    rounds(tmp_path, 1, 11_000, 0.5, seed=3, server=server)


@pytest.mark.slow
def test_transfers_over_a_socket_that_are_killed_many_times_lose_nothing(
    tmp_path: Path, server: Server
) -> None:
    rounds(tmp_path, 6, 40_000, 1.5, seed=4, server=server)


@pytest.mark.slow
def test_transfers_that_are_killed_many_times_lose_nothing(tmp_path: Path) -> None:
    rounds(tmp_path, 9, 40_000, 1.5, seed=2)


# Bad days at the service


def test_faults_are_tried_again_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    knobs = Knobs(empty_pages=True)
    with closing(Store(None)) as store, serve(Emulator(store, knobs=knobs)) as server:
        root = account_of(server)
        with (
            kvdict.open(f"{root}/one", codec="bytes", create=True) as kv,
            kvdict.open(f"{root}/two", codec="bytes", create=True) as other,
        ):
            kv.put_many(mixed(3000))
            kv.flush()
            sent: KV = kvdict.open(f"{root}/one", codec="bytes")
            for space in (kv, other, sent):
                space.client.transport._sleep = lambda seconds: None
            knobs.planned.extend([Fault("500"), Fault("reset"), Fault("524", after=True)])
            transfer.export(sent, tmp_path / "out")
            knobs.planned.extend([Fault("reset", after=True), Fault("partial"), Fault("500")])
            assert transfer.import_(tmp_path / "out", other).done == len(mixed(3000))
            other.flush()
            assert list(transfer.diff(kv, other)) == []
            sent.close()


@pytest.mark.parametrize("format", FORMATS)
def test_a_kill_between_the_last_two_steps_is_gone_on_from(
    tmp_path: Path, format: transfer.Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is in its place, and the state still there."""
    with memory(plain(1500)) as kv, memory() as other:
        with monkeypatch.context() as patch:
            patch.setattr(transfer.state.State, "delete", lambda _: 1 / 0)
            state = tmp_path / "out.state"
            with pytest.raises(ZeroDivisionError):
                transfer.export(kv, tmp_path / "out", format=format, resume=True)
        assert state.exists()
        report = transfer.export(kv, tmp_path / "out", format=format, resume=True)
        assert (report.complete, report.done, report.resumed) == (True, 1500, 1500)
        assert report.requests == 0
        assert not state.exists()
        transfer.import_(tmp_path / "out", other)
        assert everything(other) == plain(1500)


def test_an_export_while_somebody_writes_is_whole_for_what_does_not_change(tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/busy.db"
    with kvdict.open(where, codec="bytes") as kv, memory() as other:
        kv.put_many(plain(5000))
        ended = threading.Event()

        def disturb() -> None:
            with kvdict.open(where, codec="bytes") as busy:
                for number in count():
                    busy[f"key:{number % 5000:07}:new"] = b"%d" % number
                    busy.put(f"changed:{number % 9}", b"%d" % number, metadata=number)
                    busy.delete(f"key:{(number * 7) % 5000:07}:new")
                    if ended.is_set():
                        return

        writer = threading.Thread(target=disturb)
        writer.start()
        try:
            transfer.export(kv, tmp_path / "out")
        finally:
            ended.set()
            writer.join()
        transfer.import_(tmp_path / "out", other)
        found = everything(other)
        assert {key: found.get(key) for key in plain(5000)} == plain(5000)
        changed = {key: entry for key, entry in found.items() if key.startswith("changed")}
        assert all(entry.value == b"%d" % entry.metadata for entry in changed.values())


def test_no_state_is_kept_where_none_can_be(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    with memory(plain(3)) as kv:
        transfer.export(kv, tmp_path / "out")
        tmp_path.chmod(0o500)
        [note] = transfer.import_(tmp_path / "out", kv).notes
        assert "no state was kept" in note
