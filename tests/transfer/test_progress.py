"""Progress, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import kvdict
from kvdict import Entry, transfer
from kvdict.codecs import BYTES
from kvdict.transfer import Interrupts, Progress
from kvdict.transfer.clearing import clear
from tests.transfer.support import FORMATS, memory, plain
from tests.world import World


def test_an_export_says_how_far_it_is(tmp_path: Path) -> None:
    told: list[Progress] = []
    with memory(plain(2500)) as kv:
        transfer.export(kv, tmp_path / "out", count_first=True, progress=told.append)
        report = transfer.export(kv, tmp_path / "again", progress=told.append)
    assert [progress.done for progress in told] == [1000, 2000, 2500] * 2
    assert [progress.total for progress in told] == [2500] * 3 + [None] * 3
    assert [progress.fraction for progress in told] == [0.4, 0.8, 1, None, None, 1]
    assert [progress.requests for progress in told[3:]] == sorted(
        progress.requests for progress in told[3:]
    )
    assert (told[-1].requests, told[-1].bytes) == (report.requests, report.bytes)
    assert told[1].seconds_left is not None
    assert told[1].seconds_left > 0
    assert told[2].seconds_left == 0


@pytest.mark.parametrize("format", FORMATS)
def test_an_import_says_how_much_of_the_file_is_stored(
    tmp_path: Path, format: transfer.Format
) -> None:
    told: list[Progress] = []
    with memory(plain(25_000 if format != "dir" else 2500)) as kv, memory() as other:
        transfer.export(kv, tmp_path / "out", format=format)
        transfer.import_(tmp_path / "out", other, progress=told.append)
    if format != "dir":
        assert [progress.done for progress in told] == [10_000, 20_000, 25_000, 25_000]
        assert told[0].fraction == pytest.approx(0.4, abs=0.05)
        assert told[1].fraction == pytest.approx(0.8, abs=0.05)
    assert (told[-1].done, told[-1].fraction) == (25_000 if format != "dir" else 2500, 1)


def test_a_sync_has_done_what_is_equal_or_stored_and_tells_what_it_has_compared() -> None:
    told: list[Progress] = []
    wanted = {key: entry.value for key, entry in plain(12_500).items()}
    with memory(plain(1000)) as kv:
        kv["more"] = b""
        kvdict.sync(wanted, kv, delete=True, dry_run=True, progress=told.append)
        assert {progress.done for progress in told} == {0}
        assert (told[-1].compared, told[-1].fraction) == (12_500, 1)
        told.clear()
        kvdict.sync(wanted, kv, delete=True, progress=told.append)
    assert [progress.compared for progress in told] == sorted(
        progress.compared for progress in told
    )
    done = list(dict.fromkeys(progress.done for progress in told))
    assert done == [1000, 11_000, 12_500, 12_501]
    assert all(progress.fraction == progress.compared / 12_500 for progress in told)


def test_a_sync_that_fails_says_how_much_it_has_compared_and_done() -> None:
    def refuse(method: str, _url: str) -> None:
        if method == "PUT":
            raise OSError("the cable is cut")

    world = World(codec=BYTES)
    world.fill({"same": b"v"})
    world.kv.client.transport.max_wait = 0
    world.adapter.before = refuse
    with pytest.raises(kvdict.TransportError) as raised:
        kvdict.sync({"same": b"v", "new": b"v"}, world.kv)
    assert raised.value.__notes__[-1] == "kvdict: 2 pairs were compared, 1 are done"
    world.adapter.before = None
    world.kv.close()


def test_a_clear_says_how_far_it_is_and_stops_between_requests() -> None:
    told: list[Progress] = []
    with memory(plain(25_000) | {"other": Entry(b"")}) as kv:
        report = clear(kv, "key", progress=told.append, stop=lambda: bool(told))
        assert (report.complete, report.done, len(kv)) == (False, 10_000, 15_001)
        report = clear(kv, "key", progress=told.append)
        assert (report.complete, report.done, list(kv)) == (True, 15_000, ["other"])
    assert [progress.done for progress in told] == [10_000] * 3 + [15_000] * 2


@pytest.fixture
def press() -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), signal.SIGINT)


def test_the_first_ctrl_c_stops_and_the_second_interrupts(
    tmp_path: Path, press: Callable[[], None]
) -> None:
    told: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with memory(plain(3000)) as kv, Interrupts(lambda: told.append("stopping")) as stop:

        def press_once(_progress: Progress) -> None:
            if not stop():
                press()

        report = transfer.export(kv, tmp_path / "out", progress=press_once, stop=stop)
        assert (report.complete, report.done, told) == (False, 1000, ["stopping"])
    with memory(plain(3000)) as kv, Interrupts() as stop:
        press()
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            press()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_plain_keyboard_interrupt_leaves_a_state(
    tmp_path: Path, press: Callable[[], None]
) -> None:
    with memory(plain(3000)) as kv:
        with pytest.raises(KeyboardInterrupt) as raised:
            transfer.export(kv, tmp_path / "out", progress=lambda _: press())
        assert "1000 pairs were transferred; with resume=True" in raised.value.__notes__[0]
        assert transfer.export(kv, tmp_path / "out", resume=True).resumed == 1000


def test_a_report_says_what_it_took(tmp_path: Path) -> None:
    began = time.monotonic()
    with memory(plain(1000)) as kv:
        report = transfer.export(kv, tmp_path / "out")
    assert 0 < report.seconds <= time.monotonic() - began
    assert report.bytes == sum(len(entry.value) for entry in plain(1000).values())
