"""A folder: a file for each process, and those of the dead are adopted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kvdict.journalfile import VERSION
from tests.journal.conftest import Opener
from tests.journal.support import (
    deletion,
    hear,
    leave_behind,
    leave_two_behind,
    put,
    run,
    shown,
    start,
)
from tests.journal.test_opening import files

OWNER = """
journal = Journal(sys.argv[1], namespace=NAMESPACE)
say([shown(journal.replay()), journal.path])
journal.record(put(journal.last_number + 1, sys.argv[2]))
say("recorded")
sys.stdin.readline()
journal.close()
say("closed")
"""


def test_each_journal_has_a_file_of_its_own(open_journal: Opener, tmp_path: Path) -> None:
    one, two = open_journal(tmp_path), open_journal(tmp_path)
    one.record(put(1, "a"))
    two.record(put(1, "b"))
    assert one.path != two.path
    assert one.folder == two.folder == str(tmp_path)
    assert f"-{os.getpid()}-" in one.path
    assert (one.pending, two.pending) == (1, 1)


def test_a_folder_that_ends_in_a_separator_is_made(open_journal: Opener, tmp_path: Path) -> None:
    journal = open_journal(f"{tmp_path}/new/")
    assert os.path.dirname(journal.path) == f"{tmp_path}/new"
    assert stat.S_IMODE(os.stat(f"{tmp_path}/new").st_mode) == 0o700
    assert open_journal(f"{tmp_path}/new/").folder == f"{tmp_path}/new"


def test_every_file_in_a_folder_is_its_owners_alone(open_journal: Opener, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    open_journal(tmp_path).record(put(1, "a"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_a_journal_with_nothing_pending_leaves_nothing(
    open_journal: Opener, tmp_path: Path
) -> None:
    journal = open_journal(tmp_path)
    change = put(1, "a")
    journal.record(change)
    journal.forget([change])
    journal.close()
    assert files(tmp_path) == {}


def test_a_journal_with_something_pending_is_there_for_the_next(
    open_journal: Opener, tmp_path: Path
) -> None:
    journal = open_journal(tmp_path)
    journal.record(put(1, "a"))
    journal.close()
    assert journal.pending == 1
    again = open_journal(tmp_path)
    assert not Path(journal.path).exists()
    assert shown(again.replay()) == {"a": "value"}
    assert (again.pending, again.last_number) == (1, 1)


def test_a_living_process_keeps_its_file_and_a_dead_one_s_is_adopted(
    open_journal: Opener, tmp_path: Path
) -> None:
    with start(OWNER, tmp_path, "a") as living:
        first = hear(living)
        hear(living)
        assert isinstance(first, list)
        before = Path(first[1]).read_bytes()
        dead = leave_behind(tmp_path, "b")
        journal = open_journal(tmp_path)
        assert shown(journal.replay()) == {"b": "b"}
        assert not Path(dead).exists()
        assert Path(first[1]).read_bytes() == before
        living.communicate(b"\n", timeout=60)
    assert shown(open_journal(tmp_path).replay()) == {"a": "value"}


def test_a_killed_process_s_files_are_gone_once_adopted(
    open_journal: Opener, tmp_path: Path
) -> None:
    leave_two_behind(tmp_path, "a", "b")
    assert len(list(tmp_path.glob("*.journal"))) == 2
    journal = open_journal(tmp_path)
    own = os.path.basename(journal.path)
    assert set(files(tmp_path)) == {own, f"{own}-wal", f"{own}.lock"}


def test_changes_of_several_dead_processes_are_merged_in_order_of_time(
    open_journal: Opener, tmp_path: Path
) -> None:
    clocks = iter([10.0, 20.0, 40.0, 5.0, 30.0, 35.0])
    one = open_journal(tmp_path, wall=lambda: next(clocks))
    two = open_journal(tmp_path, wall=lambda: next(clocks))
    for change in (put(1, "x", b"10"), put(2, "y", b"20"), put(3, "z", b"40")):
        one.record(change)
    for change in (put(1, "y", b"5"), deletion(2, "x"), put(3, "z", b"35")):
        two.record(change)
    one.close()
    two.close()
    journal = open_journal(tmp_path)
    assert list(shown(journal.replay()).items()) == [("y", "20"), ("x", None), ("z", "40")]
    assert journal.last_number == 3
    journal.close()
    assert shown(open_journal(tmp_path).replay()) == {"y": "20", "x": None, "z": "40"}


def test_the_age_of_adopted_changes_counts_from_their_first_record(
    open_journal: Opener, tmp_path: Path
) -> None:
    journal = open_journal(tmp_path, wall=lambda: 1000.0)
    journal.record(put(1, "a"))
    journal.close()
    open_journal(tmp_path, wall=lambda: 1050.0).close()
    replay = open_journal(tmp_path, wall=lambda: 1101.0, max_age=100).replay()
    assert list(replay.failed) == ["a"]


def test_files_of_other_namespaces_and_strangers_are_left_alone(
    open_journal: Opener, tmp_path: Path
) -> None:
    journal = open_journal(tmp_path, namespace="other")
    journal.record(put(1, "a"))
    journal.close()
    (tmp_path / "notes.journal").write_text("mine")
    before = files(tmp_path)
    assert not open_journal(tmp_path).replay().writes
    assert {name: data for name, data in files(tmp_path).items() if name in before} == before
    assert shown(open_journal(tmp_path, namespace="other").replay()) == {"a": "value"}


def test_a_newer_file_in_a_folder_is_left_alone_and_said(
    open_journal: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(tmp_path)
    journal.record(put(1, "a"))
    connection = journal._connection
    assert connection
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    journal.close()
    before = Path(journal.path).read_bytes()
    again = open_journal(tmp_path)
    assert not again.replay().writes
    assert Path(journal.path).read_bytes() == before
    assert "was not adopted, and left as it is" in caplog.text
    assert f"format {VERSION + 1}" in caplog.text


def test_an_adoption_for_which_there_is_no_room_loses_nothing(
    open_journal: Opener, tmp_path: Path
) -> None:
    dead = leave_behind(tmp_path, *(f"k{number}" for number in range(200)))
    said = run(
        """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, resource.RLIM_INFINITY))
try:
    Journal(sys.argv[1], namespace=NAMESPACE)
except JournalError as error:
    say(str(error))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
""",
        tmp_path,
    )
    assert "disk" in str(said[0])
    names = os.path.basename(dead), os.path.basename(dead) + "-wal"
    assert set(files(tmp_path)) == set(names)
    assert len(open_journal(tmp_path).replay().writes) == 200


def test_two_that_open_at_once_share_the_dead_ones_between_them(tmp_path: Path) -> None:
    leave_two_behind(tmp_path, "a", "b", "c", "d")
    processes = [start(OWNER, tmp_path, f"own{number}") for number in range(3)]
    replayed: list[str] = []
    for process in processes:
        said = hear(process)
        assert isinstance(said, list)
        replayed += said[0]
        assert hear(process) == "recorded"
    assert sorted(replayed) == ["a", "b", "c", "d"]
    for process in processes:
        with process:
            process.communicate(b"\n", timeout=60)
    assert len(list(tmp_path.glob("*.journal"))) == 3


def test_what_the_owner_s_death_leaves_behind_while_another_one_lives(tmp_path: Path) -> None:
    with start(OWNER, tmp_path, "a") as living:
        hear(living)
        path = leave_behind(tmp_path, "b")
        assert Path(path).exists()
        said = run("say(shown(Journal(sys.argv[1], namespace=NAMESPACE).replay()))", tmp_path)
        assert said == [{"b": "b"}]
        living.communicate(b"\n", timeout=60)
