"""Forked children leave the parent's journal alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.journal.conftest import Opener
from tests.journal.support import hear, run, shown, start

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def test_a_child_s_changes_are_not_in_a_file_of_the_parent_and_that_is_said(place: Path) -> None:
    said = run(
        """
import logging
logging.basicConfig(stream=sys.stdout, format='"%(message)s"')
journal = Journal(sys.argv[1], namespace=NAMESPACE)
journal.record(put(1, "before"))
pid = os.fork()
if not pid:
    say([journal.pending, journal.last_number, "the parent's" in repr(journal)])
    journal.record(put(1, "child"))
    journal.record(put(2, "child"))
    journal.forget([put(9, "before")])
    journal.checkpoint()
    journal.close()
    sys.exit()
say(ended(pid))
journal.record(put(2, "after"))
journal.close()
say(shown(Journal(sys.argv[1], namespace=NAMESPACE).replay()))
""",
        place,
    )
    assert said[0] == [0, 0, True]
    warnings = [line for line in said if "is the parent's: writes of this process" in str(line)]
    assert len(warnings) == 1
    assert said[-2:] == [0, {"before": "value", "after": "value"}]


def test_a_child_has_a_file_of_its_own_in_a_folder(tmp_path: Path) -> None:
    said = run(
        """
journal = Journal(sys.argv[1], namespace=NAMESPACE)
journal.record(put(1, "parent"))
pid = os.fork()
if not pid:
    say(journal.path)
    journal.record(put(1, "child"))
    say([journal.path, journal.pending, journal.last_number])
    os.kill(os.getpid(), signal.SIGKILL)
say(ended(pid))
say(journal.path)
other = Journal(sys.argv[1], namespace=NAMESPACE)
say(shown(other.replay()))
journal.close()
other.close()
say(shown(Journal(sys.argv[1], namespace=NAMESPACE).replay()))
""",
        tmp_path,
    )
    folder, child, killed, parent, adopted, both = said
    assert folder == str(tmp_path)
    assert isinstance(child, list)
    assert child[0] != parent
    assert child[1:] == [1, 0]
    assert killed == -9
    assert adopted == {"child": "value"}
    assert both == {"parent": "value", "child": "value"}


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)", "journal.close(); sys.exit()"])
def test_the_end_of_a_child_leaves_the_parent_s_log_and_lock(place: Path, end: str) -> None:
    said = run(
        f"""
journal = Journal(sys.argv[1], namespace=NAMESPACE)
for number in range(1, 100):
    journal.record(put(number, f"k{{number}}"))
pid = os.fork()
if not pid:
    {end}
say(ended(pid))
pid = os.fork()
if not pid:
    try:
        Journal(sys.argv[1], namespace=NAMESPACE)
    except JournalError as error:
        say(error.pid == os.getppid())
    os._exit(0)
ended(pid)
for number in range(100, 200):
    journal.record(put(number, f"k{{number}}"))
pid = os.fork()
if pid:
    ended(pid)
    say(journal.pending)
    os._exit(0)
{end}
""",
        place,
    )
    assert said == [0, True, 199]


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)", "journal.close(); sys.exit()"])
def test_a_parent_that_is_killed_after_its_child_s_end_loses_nothing(
    open_journal: Opener, place: Path, end: str
) -> None:
    parent = f"""
journal = Journal(sys.argv[1], namespace=NAMESPACE)
journal.record(put(1, "before"))
pid = os.fork()
if not pid:
    {end}
ended(pid)
journal.record(put(2, "after"))
say("recorded")
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""
    with start(parent, place) as process:
        assert hear(process) == "recorded"
        process.communicate(b"\n", timeout=60)
    replay = open_journal().replay()
    assert (shown(replay), replay.damaged) == ({"before": "value", "after": "value"}, [])


def test_a_child_that_outlives_its_parent_does_not_keep_the_journal(
    open_journal: Opener, place: Path
) -> None:
    child = """
journal = Journal(sys.argv[1], namespace=NAMESPACE)
journal.record(put(1, "a"))
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
say("child")
sys.stdin.readline()
sys.exit()
"""
    with start(child, place) as parent:
        assert hear(parent) == "child"
        parent.wait(60)
        journal = open_journal()
        assert shown(journal.replay()) == {"a": "value"}
        parent.communicate(b"\n", timeout=60)
    assert journal.pending == 1
    journal.close()
    assert shown(open_journal().replay()) == {"a": "value"}


def test_a_fork_while_threads_record_gives_the_child_fresh_locks(tmp_path: Path) -> None:
    said = run(
        """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forks beside threads
journal = Journal(sys.argv[1], namespace=NAMESPACE, durability="power")
stop = threading.Event()
numbers = iter(range(1, 10**9))
def work(name):
    while not stop.is_set():
        journal.record(put(next(numbers), name))
threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
for thread in threads:
    thread.start()
children = []
for turn in range(20):
    pid = os.fork()
    if not pid:
        signal.alarm(30)
        journal.record(put(1, f"child{turn}"))
        journal.close()
        os._exit(0)
    children.append(ended(pid))
stop.set()
for thread in threads:
    thread.join()
say(children)
journal.close()
say(sorted(shown(Journal(sys.argv[1], namespace=NAMESPACE).replay())))
""",
        tmp_path,
    )
    assert said == [[0] * 20, sorted(["a", "b", "c", "d", *(f"child{n}" for n in range(20))])]


def test_grandchildren_have_files_of_their_own_too(tmp_path: Path) -> None:
    said = run(
        """
journal = Journal(sys.argv[1], namespace=NAMESPACE)
for name in ("one", "two", "three"):
    journal.record(put(journal.last_number + 1, name))
    pid = os.fork()
    if pid:
        code = ended(pid)
        break
else:
    code = 0
journal.close()
if name == "one":
    say(shown(Journal(sys.argv[1], namespace=NAMESPACE).replay()))
""",
        tmp_path,
    )
    assert said == [{"one": "value", "two": "value", "three": "value"}]
