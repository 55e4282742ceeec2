"""Folders that others may write to: links, journals of strangers, rights."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import kvdict
from kvdict import JournalError, transfer
from kvdict.journal import Journal
from tests.journal.support import NAMESPACE, leave_behind, shown

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="links and owners are POSIX's")
pytestmark = posix


def victim(tmp_path: Path) -> Path:
    file = tmp_path / "victim"
    file.write_text("precious")
    return file


def test_a_link_in_place_of_the_lock_empties_no_other_file(tmp_path: Path) -> None:
    precious = victim(tmp_path)
    (tmp_path / "journal.lock").symlink_to(precious)
    with pytest.raises(JournalError, match="symbolic links"):
        Journal(tmp_path / "journal", namespace=NAMESPACE)
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("part", [".lock", ".new", "-wal", "-shm", "-journal"])
def test_a_link_in_place_of_a_part_makes_no_file_elsewhere(tmp_path: Path, part: str) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / f"journal{part}").symlink_to(tmp_path / "elsewhere")
    with suppress(JournalError):
        Journal(tmp_path / "shared" / "journal", namespace=NAMESPACE).close()
    assert not (tmp_path / "elsewhere").exists()


def written_by_another(place: Path) -> str:
    """Have another user write a journal there and die; return its path."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    left = leave_behind(place, "evil")
    for name in (left, f"{left}-wal"):
        os.chown(name, 65534, 65534)
        os.chmod(name, 0o666)
    return left


def test_a_journal_of_another_user_is_not_sent(tmp_path: Path) -> None:
    place = tmp_path / "journal"
    left = written_by_another(place)
    before = Path(left).read_bytes()
    with pytest.raises(JournalError, match="belongs to another user"):
        Journal(place, namespace=NAMESPACE)
    assert Path(left).read_bytes() == before


def test_in_a_folder_that_others_write_to_only_own_journals_are_taken_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    written_by_another(folder)
    leave_behind(folder, "mine")  # takes up what was there, which is nothing of theirs
    journal = Journal(folder, namespace=NAMESPACE)
    assert shown(journal.replay()) == {"mine": "mine"}
    assert "belongs to another user" in caplog.text
    journal.close()


def test_an_export_follows_no_link_that_lies_in_its_way(tmp_path: Path) -> None:
    precious = victim(tmp_path)
    with kvdict.open("memory://") as kv:
        kv["k"] = 1
        for name in ("out.jsonl.part", "out.jsonl.state", "out.jsonl.state.new"):
            (tmp_path / name).symlink_to(precious)
        with suppress(OSError, kvdict.KVError):
            transfer.export(kv, tmp_path / "out.jsonl")
    assert precious.read_text() == "precious"


def test_an_export_to_a_directory_follows_no_link_either(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with kvdict.open("memory://") as kv:
        kv["k"] = 1
        (tmp_path / "out.part").symlink_to(outside)
        with pytest.raises(kvdict.TransferError, match="is in the way"):
            transfer.export(kv, tmp_path / "out", format="dir")
    assert list(outside.iterdir()) == []


def test_what_a_namespace_writes_on_disk_is_no_one_s_to_run(tmp_path: Path) -> None:
    with kvdict.open("memory://", buffer=kvdict.WriteBuffer(journal=tmp_path / "journal")) as kv:
        kv["k"] = 1
        transfer.export(kv, tmp_path / "out.jsonl")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["journal"] == modes["journal-wal"] == modes["journal.lock"] == 0o600
    assert not any(mode & 0o133 for mode in modes.values())


WRONG: tuple[Any, ...] = (
    5, {"place": None}, {"place": 5}, {"place": {"cursor": 5, "last": "a"}},
    {"place": {"evil": "a"}}, {"offset": "x"}, {"offset": -5}, {"done": "x"}, {"done": 1e999},
    {"whole": 1}, {"position": []}, {"digest": 1},
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_a_state_that_was_tampered_with_is_refused(tmp_path: Path, wrong: Any) -> None:
    state = tmp_path / "out.state"
    asked = iter(range(99))
    with kvdict.open("memory://") as kv:
        kv.update({f"k{number}": number for number in range(3000)})
        transfer.export(kv, tmp_path / "out", stop=lambda: next(asked) > 1)
        told = json.loads(state.read_text())
        at = {**told["at"], **wrong} if isinstance(wrong, dict) else wrong
        state.write_text(json.dumps({**told, "at": at}))
        with pytest.raises(kvdict.TransferError, match="is not the state of a transfer"):
            transfer.export(kv, tmp_path / "out", resume=True)
        state.write_text(json.dumps(told))
        assert transfer.export(kv, tmp_path / "out", resume=True).done == 3000
