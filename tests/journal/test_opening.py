"""Who may open a journal, and what it says to others."""

from __future__ import annotations

import os
import pickle
import socket
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kvdict.errors import JournalError, KVError
from kvdict.journalfile import VERSION
from tests.journal.conftest import Opener
from tests.journal.support import leave_behind, put, run, shown, start

OPENED_BY_NOBODY = """
if os.getuid() == 0:
    os.setuid(65534)
try:
    Journal(sys.argv[1], namespace=NAMESPACE)
except JournalError as error:
    say(str(error))
"""
"""Says why a journal cannot be opened, as a user who is not root: that one may write anything."""


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_journal_in_use_is_refused_with_path_and_process(
    open_journal: Opener, place: Path
) -> None:
    open_journal()
    (said,) = run(
        """
        try:
            Journal(sys.argv[1], namespace=NAMESPACE)
        except JournalError as error:
            say([str(error), error.path, error.pid])
        """.replace("\n        ", "\n"),
        place,
    )
    assert isinstance(said, list)
    assert said[1:] == [str(place), os.getpid()]
    assert str(place) in said[0]
    assert f"process {os.getpid()}," in said[0]


def test_a_journal_is_opened_once_in_a_process(open_journal: Opener, place: Path) -> None:
    journal = open_journal()
    with pytest.raises(JournalError, match=f"process {os.getpid()}"):
        open_journal()
    linked = place.with_name("link")
    linked.symlink_to(place)
    with pytest.raises(JournalError, match=f"process {os.getpid()}"):
        open_journal(linked)
    journal.record(put(1, "a"))
    assert journal.pending == 1


def test_a_killed_owner_leaves_a_journal_that_can_be_opened(
    open_journal: Opener, place: Path
) -> None:
    leave_behind(place, "a", "b")
    assert place.with_name("journal.lock").exists()
    assert shown(open_journal().replay()) == {"a": "a", "b": "b"}


def test_closing_removes_the_lock_file(open_journal: Opener, place: Path) -> None:
    open_journal().close()
    assert list(modes(place.parent)) == ["journal"]


def test_many_threads_that_open_at_once_have_one_owner(open_journal: Opener) -> None:
    barrier = threading.Barrier(8)
    outcomes: list[str] = []

    def work() -> None:
        for _ in range(20):
            barrier.wait()
            try:
                journal = open_journal()
            except JournalError:
                outcomes.append("refused")
                barrier.wait()
            else:
                outcomes.append("owner")
                barrier.wait()
                journal.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("owner") == 20


def test_a_lock_file_that_its_owner_removes_meanwhile_is_no_lock(
    open_journal: Opener, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    flock, leaving = fcntl.flock, [place.with_name("journal.lock")]

    def late(*arguments: Any) -> None:
        while leaving:
            leaving.pop().unlink()
        flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", late)
    open_journal()
    assert not leaving
    with pytest.raises(JournalError, match=f"process {os.getpid()}"):
        open_journal()


def test_another_namespaces_journal_is_refused_and_both_are_named(
    open_journal: Opener, place: Path
) -> None:
    journal = open_journal(namespace="ours")
    journal.record(put(1, "a"))
    journal.close()
    before = files(place.parent)
    with pytest.raises(JournalError, match="'ours'.*'theirs'"):
        open_journal(namespace="theirs")
    assert files(place.parent) == before
    assert shown(open_journal(namespace="ours").replay()) == {"a": "value"}


def test_a_newer_format_is_refused_and_left_alone(open_journal: Opener, place: Path) -> None:
    open_journal().close()
    with closing(sqlite3.connect(place)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = files(place.parent)
    with pytest.raises(JournalError, match=f"format {VERSION + 1}.*newer kvdict"):
        open_journal()
    assert files(place.parent) == before


def test_another_applications_database_is_refused_and_left_alone(
    open_journal: Opener, place: Path
) -> None:
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("CREATE TABLE people (name)")
    before = files(place.parent)
    with pytest.raises(JournalError, match="another application"):
        open_journal()
    assert files(place.parent) == before


@pytest.mark.parametrize("text", ["notes", "somebody's own notes\n" * 100])
def test_a_file_of_somebodys_is_refused_and_left_alone(
    open_journal: Opener, place: Path, text: str
) -> None:
    place.write_text(text)
    before = files(place.parent)
    with pytest.raises(JournalError, match="is no journal and no database; name another file"):
        open_journal()
    assert files(place.parent) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that have a name")
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "socket"])
def test_what_is_no_file_is_refused_and_left_alone(
    open_journal: Opener, place: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "link to a pipe":
        os.mkfifo(place.with_name("pipe"))
        place.symlink_to("pipe")
    else:
        monkeypatch.chdir(place.parent)  # the whole path may be too long for one
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(place.name)
    before = {path.name: path.lstat().st_mode for path in place.parent.iterdir()}
    with pytest.raises(JournalError, match="is no file, and keeps nothing; name a file"):
        open_journal()
    assert {path.name: path.lstat().st_mode for path in place.parent.iterdir()} == before


@pytest.mark.parametrize("kind", ["empty file", "empty database"])
def test_an_empty_file_becomes_a_journal(open_journal: Opener, place: Path, kind: str) -> None:
    place.touch()
    if kind == "empty database":
        with closing(sqlite3.connect(place)) as connection:
            connection.execute("VACUUM")
    journal = open_journal()
    journal.record(put(1, "a"))
    journal.close()
    again = open_journal().replay()
    assert (shown(again), again.damaged) == ({"a": "value"}, [])


def test_a_missing_folder_is_named(open_journal: Opener, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="see that its folder exists") as caught:
        open_journal(tmp_path / "missing" / "journal")
    assert caught.value.path == str(tmp_path / "missing" / "journal")
    with pytest.raises(JournalError, match="see that its folder exists"):
        open_journal(f"{tmp_path / 'missing' / 'folder'}{os.sep}")


def test_a_path_that_goes_through_a_file_is_refused(open_journal: Opener, place: Path) -> None:
    place.write_text("x")
    with pytest.raises(JournalError, match="Not a directory"):
        open_journal(place / "journal")


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_every_file_is_its_owners_alone(open_journal: Opener, place: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        journal = open_journal()
        journal.record(put(1, "a"))
    finally:
        os.umask(before)
    found = modes(place.parent)
    assert set(found) == {"journal", "journal-wal", "journal.lock"}
    assert found["journal"] == found["journal-wal"] == 0o600
    assert found["journal.lock"] & 0o077 == 0


def test_a_journal_that_others_could_read_is_closed_to_them(
    open_journal: Opener, place: Path
) -> None:
    leave_behind(place, "a")
    for path in place.parent.iterdir():
        path.chmod(0o666)
    open_journal()
    assert modes(place.parent)["journal"] == modes(place.parent)["journal-wal"] == 0o600


def test_a_folder_that_is_read_only_is_refused(open_world: Path) -> None:
    folder = open_world / "folder"
    folder.mkdir(mode=0o555)
    (said,) = run(OPENED_BY_NOBODY, folder / "journal")
    assert str(folder / "journal") in str(said)
    assert "Permission denied; see that its folder exists, has room and is yours" in str(said)


def test_a_file_that_is_read_only_is_refused_and_left_alone(open_world: Path) -> None:
    place = open_world / "journal"
    leave_behind(place, "a")
    place.with_name("journal.lock").unlink()
    place.chmod(0o444)
    before = files(open_world)
    (said,) = run(OPENED_BY_NOBODY, place)
    assert "Permission denied" in str(said)
    assert files(open_world) == before


@pytest.fixture
def open_world(tmp_path: Path) -> Path:
    """Return a folder that every user can reach."""
    world = tmp_path / "world"
    world.mkdir()
    world.chmod(0o777)
    folder = world
    while folder != Path(folder.anchor) and folder.name != "tmp":
        if folder.stat().st_uid == os.getuid():
            folder.chmod(folder.stat().st_mode | 0o055)
        folder = folder.parent
    return world


FULL = """
import resource
journal = Journal(sys.argv[1], namespace=NAMESPACE, durability=sys.argv[2])
journal.record(put(1, "a", b"first"))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
accepted = {"a": "first"}
for number in range(2, 100):
    try:
        journal.record(put(number, f"k{number}", b"v" * 5000))
    except JournalError as error:
        say(str(error))
        break
    accepted[f"k{number}"] = "v" * 5000
try:
    journal.record(put(100, "a", b"v" * 50_000))
except JournalError as error:
    say("again")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.record(put(101, "after"))
journal.close()
again = Journal(sys.argv[1], namespace=NAMESPACE).replay()
say(shown(again) == {**accepted, "after": "value"})
say(again.damaged)
"""


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_full_disk_refuses_a_record_and_loses_nothing(place: Path, durability: str) -> None:
    said = run(FULL, place, durability)
    assert f"journal {place}" in str(said[0])
    assert "disk" in str(said[0])
    assert said[1:] == ["again", True, []]


def test_a_large_change_that_finds_no_room_takes_no_other_with_it(place: Path) -> None:
    said = run(
        """
import resource
journal = Journal(sys.argv[1], namespace=NAMESPACE)
journal._queue[2] = put(2, "large", b"v" * 500_000)  # of a thread that waits
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
journal.record(put(1, "small"))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.close()
say(shown(Journal(sys.argv[1], namespace=NAMESPACE).replay()))
""",
        place,
    )
    assert said == [{"small": "value"}]


def test_a_journal_on_a_full_disk_is_not_opened_and_not_lost(place: Path) -> None:
    leave_behind(place, *(f"k{number}" for number in range(100)))
    said = run(
        """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, resource.RLIM_INFINITY))
for path in (sys.argv[1], sys.argv[1] + "-new"):
    try:
        Journal(path, namespace=NAMESPACE)
    except JournalError as error:
        say("disk" in str(error))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
say(sorted(os.listdir(os.path.dirname(sys.argv[1]))))
say(len(Journal(sys.argv[1], namespace=NAMESPACE).replay().writes))
""",
        place,
    )
    assert said == [True, True, ["journal", "journal-wal"], 100]


def test_a_journal_that_is_open_in_another_program_is_refused(
    open_journal: Opener, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_journal().close()
    monkeypatch.setattr("kvdict.journalfile.BUSY_SECONDS", 0.0)
    with start(
        """
import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
say("open")
sys.stdin.read()
connection.close()
""",
        place,
    ) as program:
        assert program.stdout
        program.stdout.readline()
        with pytest.raises(JournalError, match="open in another program; close it there"):
            open_journal()
        program.communicate()
    open_journal()


def test_the_error_is_an_os_error_of_ours_and_can_be_pickled() -> None:
    assert issubclass(JournalError, KVError)
    assert issubclass(JournalError, OSError)
    error = pickle.loads(pickle.dumps(JournalError("text", path="/p", pid=3)))
    assert (str(error), error.path, error.pid) == ("text", "/p", 3)
