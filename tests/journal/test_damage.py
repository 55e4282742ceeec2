"""A damaged journal is set aside byte for byte, and said."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.journal.conftest import Opener
from tests.journal.support import leave_behind, leave_two_behind, put, shown

Harm = Callable[[Path, Path], None]
"""What is done to the file and its log."""


def overwrite(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def not_sqlite(file: Path, log: Path) -> None:
    log.unlink()
    file.write_bytes(b"These are somebody's notes.\n" * 100)


def short_text(file: Path, log: Path) -> None:
    log.unlink()
    file.write_bytes(b"x")


def emptied_under_its_log(file: Path, log: Path) -> None:
    file.write_bytes(b"")


def removed_under_its_log(file: Path, log: Path) -> None:
    file.unlink()


def garbage_in_the_head_of_the_log(file: Path, log: Path) -> None:
    overwrite(log, 8, b"garbage")


def garbage_instead_of_the_log(file: Path, log: Path) -> None:
    log.write_bytes(random.Random(1).randbytes(5000))


def garbage_in_the_middle_of_the_log(file: Path, log: Path) -> None:
    overwrite(log, log.stat().st_size // 2, b"garbage" * 10)


def bring_home(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def garbage_in_the_pages(file: Path, log: Path) -> None:
    bring_home(file)
    overwrite(file, 4096, b"\xff" * (file.stat().st_size - 4096))


def cut_short(file: Path, log: Path) -> None:
    bring_home(file)
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - 3000)


def a_table_is_missing(file: Path, log: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TABLE writes")


def a_key_is_not_text(file: Path, log: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE writes SET key = CAST(x'ff' AS TEXT) WHERE number = 3")


def a_value_is_no_bytes(file: Path, log: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE writes SET value = 5 WHERE number = 3")


HARMS = (
    not_sqlite, short_text, emptied_under_its_log, removed_under_its_log,
    garbage_in_the_head_of_the_log, garbage_instead_of_the_log, garbage_in_the_middle_of_the_log,
    garbage_in_the_pages, cut_short, a_table_is_missing, a_key_is_not_text, a_value_is_no_bytes,
)  # fmt: skip


def contents(file: Path) -> dict[str, bytes]:
    """Return what the file and its log hold, those without content left out."""
    both = {"": file, "-wal": file.with_name(file.name + "-wal")}
    return {
        part: path.read_bytes()
        for part, path in both.items()
        if path.exists() and path.stat().st_size
    }


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_journal_is_set_aside_and_said(
    open_journal: Opener, place: Path, harm: Harm, caplog: pytest.LogCaptureFixture
) -> None:
    leave_behind(place, *(f"key{number}" for number in range(200)))
    harm(place, place.with_name("journal-wal"))
    before = contents(place)
    journal = open_journal()
    aside = place.with_name("journal.damaged-1")
    assert contents(aside) == before
    assert f"{place} is damaged" in caplog.text
    assert f"set aside as {aside}" in caplog.text
    journal.record(put(1, "new"))
    replay = journal.replay()
    assert (replay.writes, replay.damaged) == ([], [str(aside)])
    journal.close()
    again = open_journal().replay()
    assert (shown(again), again.damaged) == ({"new": "value"}, [])


def test_what_a_stranger_put_into_a_journal_is_not_trusted(
    open_journal: Opener, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leave_behind(place, "key")
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("ALTER TABLE writes RENAME TO others")
        connection.execute(
            "CREATE VIEW writes AS SELECT key, number, deadline, absolute, metadata,"
            " (SELECT file FROM pragma_database_list) AS value, recorded FROM others"
        )
    assert open_journal().replay().writes == []
    assert 'unsafe use of virtual table "pragma_database_list"' in caplog.text


def test_a_second_damaged_journal_gets_a_name_of_its_own(open_journal: Opener, place: Path) -> None:
    for text in ("first", "second"):
        place.write_text(text)
        place.with_name("journal.lock").touch()  # what a killed owner leaves
        open_journal().close()
    assert place.with_name("journal.damaged-1").read_text() == "first"
    assert place.with_name("journal.damaged-2").read_text() == "second"


def test_a_commit_that_broke_off_is_no_damage(open_journal: Opener, place: Path) -> None:
    leave_behind(place, "a", "b", "c")
    log = place.with_name("journal-wal")
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - 100)
    replay = open_journal().replay()
    assert (shown(replay), replay.damaged) == ({"a": "a", "b": "b"}, [])


def test_what_a_log_still_holds_of_an_earlier_round_is_no_damage(
    open_journal: Opener, place: Path
) -> None:
    journal = open_journal()
    for number in range(1, 4):
        journal.record(put(number, "k", b"v" * 1_000_000))
        journal.checkpoint()
    journal.record(put(4, "last"))
    log = place.with_name("journal-wal")
    copy = place.with_name("copy")
    copy.write_bytes(place.read_bytes())
    copy.with_name("copy-wal").write_bytes(log.read_bytes())
    replay = open_journal(copy).replay()
    assert (set(shown(replay)), replay.damaged) == ({"k", "last"}, [])


def test_a_damaged_file_in_a_folder_is_set_aside_and_the_others_adopted(
    open_journal: Opener, tmp_path: Path
) -> None:
    good, bad = map(Path, leave_two_behind(tmp_path, "good", "bad"))
    bad.write_bytes(b"no database")
    log = bad.with_name(bad.name + "-wal").read_bytes()
    replay = open_journal(tmp_path).replay()
    assert shown(replay) == {"good": "good"}
    assert replay.damaged == [f"{bad}.damaged-1"]
    assert contents(Path(f"{bad}.damaged-1")) == {"": b"no database", "-wal": log}
    assert not good.exists()
