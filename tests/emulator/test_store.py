from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from kvdict.emulator import Store, StoreError
from kvdict.emulator.database import IDLE_CONNECTIONS
from kvdict.emulator.files import (
    APPLICATION_ID,
    JOURNAL_MAGIC,
    SCHEMA,
    VERSION,
    Connection,
    connect,
)
from kvdict.emulator.forks import watch
from kvdict.emulator.store import MissingNamespaceError, Pair
from tests.processes import Program

from .home import ACCOUNT, Clock

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kv.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path)
    yield store
    store.close()


@pytest.fixture
def space(store: Store) -> str:
    return store.create(ACCOUNT, "links", most=9).id


@pytest.fixture
def everybodys_folder() -> Iterator[Path]:
    """Give a folder that other users can enter; pytest closes its own to them at any time."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def pair(data: bytes = b"v", expiration: int | None = None) -> Pair:
    return Pair(data, expiration, None)


def run(code: str, *arguments: object) -> Program[str]:
    """Run Python code in another process."""
    header = f"import sys; sys.path.insert(0, {ROOT!r})\nfrom kvdict.emulator.store import *\n"
    header += f"from kvdict.emulator import StoreError\nACCOUNT = {ACCOUNT!r}\n"
    command = [sys.executable, "-W", "error", "-c", header + code, *map(str, arguments)]
    return Program(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def in_child(work: Callable[[], bool]) -> bool:
    """Fork, do the work in the child, and say whether it was true there."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def files(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


def test_a_file_keeps_its_pairs(path: Path, store: Store, space: str) -> None:
    store.put(ACCOUNT, space, "k", Pair(b"\x00\xff", 2_000_000_000, '{"a":1}'))
    store.close()
    with closing(Store(str(path))) as again:
        assert again.get(ACCOUNT, space, "k") == (b"\x00\xff", 2_000_000_000, '{"a":1}')
    assert [entry.name for entry in path.parent.iterdir()] == ["kv.db"]


def test_a_file_is_in_wal_mode_and_says_whose_it_is(path: Path, store: Store) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA application_id").fetchone() == (0x6B764469,)
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = Store("kv.db")
    monkeypatch.chdir("elsewhere")
    store.create(ACCOUNT, "links", most=9)
    store.close()
    assert store.path == str(tmp_path / "kv.db")
    assert (tmp_path / "kv.db").exists()


@pytest.mark.parametrize("name", ["a b?#%.db", "é\n.db", ":memory:", "file:x"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    with closing(Store(tmp_path / name)) as store:
        store.create(ACCOUNT, "links", most=9)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    with closing(Store(path)) as store:
        store.create(ACCOUNT, "links", most=9)
    with closing(Store(path)) as store:
        assert store.count(ACCOUNT) == 1


def text_file(path: Path) -> None:
    path.write_text("Dear diary, " * 500)


def short_file(path: Path) -> None:
    path.write_bytes(b"\x00")


def other_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE pairs (key, value)")


def other_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 42")
        connection.execute("PRAGMA user_version = 1")


def other_version(path: Path) -> None:
    Store(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
        connection.execute("PRAGMA journal_mode = DELETE")


def other_in_wal_mode(path: Path) -> None:
    """Leave a log that nobody has folded into the file."""
    code = """if 1:
        import os, sqlite3
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        os.kill(os.getpid(), 9)
    """
    with run(code, path) as process:
        process.wait(20)
    (path.parent / "kv.db-shm").unlink()


def other_with_our_mark(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE others (x)")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")


@pytest.mark.parametrize(
    "foreign",
    [text_file, short_file, other_tables, other_application, other_version, other_in_wal_mode,
     other_with_our_mark],
)  # fmt: skip
@pytest.mark.parametrize("readonly", [False, True])
def test_a_foreign_file_is_refused_and_left_as_it_was(
    path: Path, foreign: Callable[[Path], None], readonly: bool
) -> None:
    foreign(path)
    before = files(path.parent)
    with pytest.raises(StoreError) as caught:
        Store(path, readonly=readonly)
    assert str(path) in str(caught.value)
    after = files(path.parent)
    after.pop("kv.db-shm", None)
    assert after == before


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no folder .*nowhere; create it first"):
        Store(tmp_path / "nowhere" / "kv.db")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is not a file"):
        Store(tmp_path)


def test_a_path_that_cannot_be_followed_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/kv.db cannot be opened: Not a directory"):
        Store(tmp_path / "file" / "kv.db")
    with pytest.raises(StoreError, match="cannot be opened: File name too long"):
        Store(tmp_path / ("x" * 300))


def test_nothing_to_read_is_told(path: Path) -> None:
    with pytest.raises(StoreError, match="there is nothing to read"):
        Store(path, readonly=True)
    assert not path.exists()


def test_a_readonly_store_reads_and_does_not_write(path: Path, store: Store, space: str) -> None:
    store.put(ACCOUNT, space, "k", pair())
    with closing(Store(path, readonly=True)) as reader:
        assert reader.get(ACCOUNT, space, "k") == pair()
        with pytest.raises(StoreError, match=r"kv\.db is read-only"):
            reader.put(ACCOUNT, space, "k", pair(b"w"))
        with pytest.raises(StoreError, match=r"kv\.db is read-only"):
            reader.put_many(ACCOUNT, space, [("k", pair(b"w"))])
        store.put(ACCOUNT, space, "k", pair(b"2"))
        assert reader.get(ACCOUNT, space, "k") == pair(b"2")


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("folder_too", [False, True])
def test_a_file_that_may_only_be_read_can_be_read(
    everybodys_folder: Path, folder_too: bool, mode: str
) -> None:
    path = everybodys_folder / "kv.db"
    store = Store(path)
    space = store.create(ACCOUNT, "links", most=9).id
    store.put(ACCOUNT, space, "k", pair())
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)
    before = path.read_bytes()
    code = """if 1:
        import os
        if os.getuid() == 0:
            os.seteuid(65534)
        store = Store(sys.argv[1])
        print(store.get(ACCOUNT, sys.argv[2], "k").value)
        try:
            store.put(ACCOUNT, sys.argv[2], "k", Pair(b"w", None, None))
        except StoreError as error:
            print(error)
        store.close()
        os.seteuid(os.getuid())  # what measures coverage writes as who began
    """
    path.chmod(0o444)
    path.parent.chmod(0o555 if folder_too else 0o777)
    try:
        with run(code, path, space) as process:
            out = process.communicate(timeout=20)[0]
    finally:
        path.parent.chmod(0o755)
    assert out.startswith(f"b'v'\n{path} is read-only")
    assert path.read_bytes() == before


def test_a_file_that_may_not_be_read_says_what_to_do(everybodys_folder: Path) -> None:
    path = everybodys_folder / "kv.db"
    Store(path).close()
    path.chmod(0)
    code = """if 1:
        import os
        if os.getuid() == 0:
            os.seteuid(65534)
        try:
            Store(sys.argv[1])
        except StoreError as error:
            print(error)
        os.seteuid(os.getuid())  # what measures coverage writes as who began
    """
    with run(code, path) as process:
        out = process.communicate(timeout=20)[0]
    assert out.startswith(f"{path} cannot be opened; see that its folder exists and is yours")


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_gone_from_its_path_is_not_written_to(
    path: Path, store: Store, space: str, replaced: bool
) -> None:
    store.put(ACCOUNT, space, "k", pair())
    path.rename(path.with_name("moved.db"))
    if replaced:
        Store(path).close()
    with pytest.raises(StoreError, match="was removed or replaced while open; open it again"):
        store.put(ACCOUNT, space, "k", pair(b"lost"))
    assert path.exists() is replaced


def test_a_disk_without_room_is_told_and_the_store_lives_on(
    path: Path, store: Store, space: str
) -> None:
    store.put(ACCOUNT, space, "k", pair())
    store.close()
    code = """if 1:
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = Store(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        for write in (store.put, lambda *a: store.put_many(*a[:2], [a[2:]])):
            try:
                write(ACCOUNT, sys.argv[2], "k", Pair(bytes(1_000_000), None, None))
            except StoreError as error:
                print(error)
        store.put(ACCOUNT, sys.argv[2], "k2", Pair(b"small", None, None))
        store.close()
    """
    with run(code, path, space) as process:
        lines = process.communicate(timeout=20)[0].splitlines()
    assert len(lines) == 2
    assert all(line.startswith(str(path)) and " disk" in line for line in lines)
    with closing(Store(path)) as again:
        assert again.get(ACCOUNT, space, "k") == pair()
        assert again.get(ACCOUNT, space, "k2") == pair(b"small")


def test_what_was_written_survives_sigkill(path: Path, store: Store, space: str) -> None:
    code = """if 1:
        store = Store(sys.argv[1])
        for number in range(10**9):
            store.put(ACCOUNT, sys.argv[2], f"k{number}", Pair(b"%d" % number, None, None))
            print(number, flush=True)
    """
    with run(code, path, space) as process:
        assert process.stdout is not None
        for _ in range(200):
            line = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        last = int((process.stdout.read().splitlines() or [line])[-1])
    store.close()
    with closing(Store(path)) as again:
        for number in range(last + 1):
            assert again.get(ACCOUNT, space, f"k{number}") == pair(b"%d" % number)


def interrupt(path: Path, statements: list[str]) -> None:
    """Have a process die in the middle of a transaction that has reached the file."""
    code = (
        "import os, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "first = ['PRAGMA journal_mode = DELETE', 'PRAGMA cache_size = 1']\n"
        "for statement in [*first, *sys.argv[2:]]:\n"
        "    connection.execute(statement)\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path), *statements], check=True)
    assert Path(f"{path}-journal").stat().st_size > 0


PAIRS = " CROSS JOIN ".join(["(SELECT 1 UNION ALL SELECT 2)"] * 6)
FILLING = f"INSERT INTO filling SELECT randomblob(4000) FROM {PAIRS}"


def test_a_file_whose_maker_was_killed_is_made_again(path: Path) -> None:
    interrupt(path, ["BEGIN IMMEDIATE", *SCHEMA, "CREATE TABLE filling (x)", FILLING])
    with closing(Store(path)) as store:
        assert store.create(ACCOUNT, "links", most=9)


def test_a_file_whose_writer_was_killed_before_it_had_a_log_is_as_before(
    path: Path, store: Store, space: str
) -> None:
    store.close()
    interrupt(path, ["BEGIN IMMEDIATE", "CREATE TABLE filling (x)", FILLING])
    with closing(Store(path)) as again:
        assert again.namespace(ACCOUNT, space).title == "links"


def test_a_file_whose_writer_was_killed_before_its_journal_said_anything_is_as_before(
    path: Path, store: Store, space: str
) -> None:
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    Path(f"{path}-journal").write_bytes(JOURNAL_MAGIC)
    with closing(Store(path)) as again:
        assert again.namespace(ACCOUNT, space).title == "links"


def writing(path: Path) -> sqlite3.Connection:
    """Return a connection that writes to a file which is not in WAL mode."""
    Store(path).close()
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode = DELETE")
    writer.execute("BEGIN IMMEDIATE")
    return writer


def test_a_file_that_somebody_writes_to_is_switched_to_wal_mode_when_that_is_done(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            writer.execute("COMMIT")

    monkeypatch.setattr("kvdict.emulator.files.time.sleep", sleep)
    with closing(writing(path)) as writer:
        Store(path).close()
    assert len(waits) == 3
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_somebody_writes_to_for_long_is_said_to_be_held(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvdict.emulator.files.BUSY_SECONDS", 0.0)
    with closing(writing(path)), pytest.raises(StoreError, match="is held by another process; try"):
        Store(path)


def test_a_foreign_file_whose_writer_was_killed_is_refused_and_left_as_it_was(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE filling (x)")
    interrupt(path, ["BEGIN IMMEDIATE", FILLING])
    files = path, Path(f"{path}-journal")
    before = [file.read_bytes() for file in files]
    with pytest.raises(StoreError, match="another application"):
        Store(path)
    assert [file.read_bytes() for file in files] == before


def test_two_processes_share_a_file(path: Path, store: Store, space: str) -> None:
    code = """if 1:
        store = Store(sys.argv[1])
        for number in range(300):
            store.put(ACCOUNT, sys.argv[2], f"theirs{number}", Pair(b"v", None, None))
            store.put_many(ACCOUNT, sys.argv[2], [(f"bulk{number}", Pair(b"v", None, None))])
        print(store.get(ACCOUNT, sys.argv[2], "ours0").value)
        store.close()
    """
    store.put(ACCOUNT, space, "ours0", pair())
    with run(code, path, space) as process:
        for number in range(300):
            store.put(ACCOUNT, space, f"ours{number}", pair())
            store.get(ACCOUNT, space, f"theirs{number}")
        assert process.communicate(timeout=30)[0] == "b'v'\n"
    assert process.returncode == 0
    assert len(store.keys(ACCOUNT, space, limit=1000)) == 900


def test_large_values_are_not_in_the_way_of_others(path: Path, store: Store, space: str) -> None:
    """With little memory to be had, which SQLite asks for to read a large value past a page."""
    keys = [f"k{number:04d}" for number in range(2000)]
    store.put_many(ACCOUNT, space, ((key, pair()) for key in keys))
    for number in range(0, 2000, 200):
        store.put(ACCOUNT, space, f"k{number:04d}-large", pair(b"x" * 10_000_000))
    code = """if 1:
        import sqlite3
        store = Store(sys.argv[1])
        sqlite3.connect(":memory:").execute("PRAGMA hard_heap_limit = 8000000")
        keys = [f"k{number:04d}" for number in range(2000)]
        for key in keys:
            assert store.get(ACCOUNT, sys.argv[2], key).value == b"v"
            store.put(ACCOUNT, sys.argv[2], key, Pair(b"w", None, None))
        print(len(store.keys(ACCOUNT, sys.argv[2], limit=3000)))
    """
    with run(code, path, space) as process:
        assert process.communicate(timeout=60)[0] == "2010\n"


def test_two_processes_may_make_the_file_at_once(path: Path) -> None:
    code = """if 1:
        sys.stdin.readline()
        store = Store(sys.argv[1])
        store.create(ACCOUNT, sys.argv[2], most=9)
        store.close()
    """
    processes = [run(code, path, number) for number in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=30)
    assert [process.returncode for process in processes] == [0] * 4
    with closing(Store(path)) as store:
        assert store.count(ACCOUNT) == 4


@pytest.mark.parametrize("place", ["file", "memory"])
def test_threads_share_a_store(tmp_path: Path, place: str) -> None:
    store = Store(tmp_path / "kv.db" if place == "file" else None)
    space = store.create(ACCOUNT, "links", most=9).id
    wrong: list[object] = []

    def work(name: int) -> None:
        for number in range(50):
            key = f"{name}-{number}"
            store.put(ACCOUNT, space, key, pair(key.encode()))
            found = store.get(ACCOUNT, space, key)
            if found != pair(key.encode()):
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(store.keys(ACCOUNT, space, limit=1000)) == 400
    store.close()


def test_a_reader_does_not_wait_for_a_writer(path: Path, store: Store, space: str) -> None:
    store.put(ACCOUNT, space, "k", pair())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM pairs")
        assert store.get(ACCOUNT, space, "k") == pair()
        assert len(store.keys(ACCOUNT, space, limit=10)) == 1
        other.execute("ROLLBACK")


def test_a_transaction_stores_all_or_nothing(store: Store, space: str) -> None:
    def pairs() -> Iterator[tuple[str, Pair]]:
        yield "a", pair()
        yield "b", Pair(None, None, None)  # type: ignore[arg-type]  # the table refuses it

    with pytest.raises(StoreError):
        store.put_many(ACCOUNT, space, pairs())
    assert store.keys(ACCOUNT, space, limit=10) == []
    store.put(ACCOUNT, space, "c", pair())
    assert len(store.keys(ACCOUNT, space, limit=10)) == 1


def test_a_signal_handler_s_write_joins_the_transaction_that_it_interrupts(path: Path) -> None:
    calls: list[str] = []

    def clock() -> float:
        if calls == ["about to write"]:
            calls.append("interrupted")
            signal.raise_signal(signal.SIGUSR1)
        return 1000.0

    with closing(Store(path, clock=clock)) as store:
        space = store.create(ACCOUNT, "links", most=9).id

        def handle(*_: object) -> None:
            store.put_many(ACCOUNT, space, [("theirs", pair())])

        before = signal.signal(signal.SIGUSR1, handle)
        try:
            calls.append("about to write")
            store.put_many(ACCOUNT, space, [("ours", pair()), ("more", pair())])
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert calls == ["about to write", "interrupted"]
        names = [key.name for key in store.keys(ACCOUNT, space, limit=10)]
        assert names == ["more", "ours", "theirs"]


@pytest.mark.parametrize("place", ["file", "memory"])
def test_a_closed_store_says_so(tmp_path: Path, place: str) -> None:
    store = Store(tmp_path / "kv.db" if place == "file" else None)
    space = store.create(ACCOUNT, "links", most=9).id
    store.close()
    store.close()
    with pytest.raises(StoreError, match="has been closed; open it anew"):
        store.get(ACCOUNT, space, "k")
    with pytest.raises(StoreError, match="has been closed; open it anew"):
        store.put(ACCOUNT, space, "k", pair())
    assert repr(store).endswith("(closed)>")


def test_expired_pairs_are_purged_a_few_with_each_write(path: Path) -> None:
    clock = Clock(1000.0)
    with closing(Store(path, clock=clock)) as store, closing(sqlite3.connect(path)) as raw:
        space = store.create(ACCOUNT, "links", most=9).id
        pairs = [(f"k{number:03}", pair(expiration=1060)) for number in range(250)]
        store.put_many(ACCOUNT, space, pairs)

        def stored() -> int:
            return int(raw.execute("SELECT count(*) FROM pairs").fetchone()[0])

        clock.now = 1060.0
        assert store.keys(ACCOUNT, space, limit=1000) == []
        assert stored() == 250
        counts = []
        for _ in range(4):
            store.put(ACCOUNT, space, "new", pair())
            counts.append(stored())
        assert counts == [151, 51, 1, 1]


def test_a_fork_leaves_both_with_a_store_that_works(store: Store, space: str) -> None:
    store.put(ACCOUNT, space, "before", pair())

    def work() -> bool:
        store.put(ACCOUNT, space, "child", pair())
        return store.get(ACCOUNT, space, "before") == pair()

    assert in_child(work)
    store.put(ACCOUNT, space, "parent", pair())
    names = [key.name for key in store.keys(ACCOUNT, space, limit=10)]
    assert names == ["before", "child", "parent"]


def test_a_child_goes_on_writing_after_its_parent_has_closed(
    path: Path, store: Store, space: str
) -> None:
    store.put(ACCOUNT, space, "before", pair())
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            store.put(ACCOUNT, space, "early", pair())
            os.read(ready, 1)
            store.put(ACCOUNT, space, "late", pair())
            code = 0
        finally:
            os._exit(code)
    store.close()
    os.write(go, b"!")
    os.close(go)
    os.close(ready)
    assert os.waitpid(child, 0)[1] == 0
    with closing(Store(path)) as again:
        names = [key.name for key in again.keys(ACCOUNT, space, limit=10)]
    assert names == ["before", "early", "late"]


def test_a_fork_while_others_write_leaves_no_lock_held(store: Store, space: str) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            store.put(ACCOUNT, space, "busy", pair())
            store.get(ACCOUNT, space, "busy")

    threads = [threading.Thread(target=write) for _ in range(3)]

    def puts(key: str) -> bool:
        store.put(ACCOUNT, space, key, pair())
        return True

    for thread in threads:
        thread.start()
    try:
        for number in range(10):
            assert in_child(partial(puts, f"{number}"))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(store.keys(ACCOUNT, space, limit=100)) == 11


def test_of_two_threads_that_fork_at_once_one_waits() -> None:
    """Else the first, done, would release what the second has just locked."""
    second_came = threading.Event()
    overlaps: list[bool] = []

    class Holder:
        def before_fork(self) -> None:
            if second.ident is None:
                second.start()
                overlaps.append(second_came.wait(0.2))
            else:
                second_came.set()

        def after_fork(self, child: bool) -> None:
            pass

    second = threading.Thread(target=in_child, args=(lambda: True,))
    holder = Holder()
    watch(holder)
    assert in_child(lambda: True)
    second.join()
    assert overlaps == [False]
    assert second_came.is_set()


def test_who_is_gone_when_its_turn_comes_is_passed_over_by_a_fork() -> None:
    class Holder:
        def before_fork(self) -> None:
            others.clear()

        def after_fork(self, child: bool) -> None:
            pass

    holder, others = Holder(), [Holder()]
    watch(holder)
    watch(others[0])
    assert in_child(lambda: True)  # pytest would tell of what a fork raised
    assert others == []


def test_a_store_in_memory_is_a_childs_own_after_a_fork() -> None:
    store = Store(None)
    space = store.create(ACCOUNT, "links", most=9).id
    store.put(ACCOUNT, space, "k", pair())

    def work() -> bool:
        found = store.get(ACCOUNT, space, "k") == pair()
        store.put(ACCOUNT, space, "child", pair())
        return found

    assert in_child(work)
    assert store.get(ACCOUNT, space, "child") is None
    store.close()


def test_a_stores_connections_do_not_grow_with_its_threads(store: Store, space: str) -> None:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("this machine does not list open files")
    for _ in range(60):
        thread = threading.Thread(target=store.get, args=(ACCOUNT, space, "k"))
        thread.start()
        thread.join()
    ours = [entry for entry in folder.iterdir() if _target(entry).startswith(store.path or "?")]
    assert len(ours) < 15


def test_of_many_connections_a_few_are_kept_and_none_outlives_the_store(
    store: Store, space: str
) -> None:
    def is_open(connection: sqlite3.Connection) -> bool:
        try:
            return bool(connection.execute("SELECT 1"))
        except sqlite3.ProgrammingError:
            return False

    with ExitStack() as lent:
        connections = [lent.enter_context(store._database.reading()) for _ in range(12)]
    assert sum(map(is_open, connections)) == IDLE_CONNECTIONS
    with store._database.reading() as last:
        store.close()
        assert is_open(last)
    assert not any(map(is_open, [*connections, last]))


def test_what_a_stranger_put_into_a_file_is_not_trusted(
    path: Path, store: Store, space: str
) -> None:
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TRIGGER theirs AFTER INSERT ON pairs BEGIN"
            " SELECT file FROM pragma_database_list; END"
        )
    refused = pytest.raises(StoreError, match="unsafe use of virtual table .pragma_database_list")
    with closing(Store(path)) as opened, refused:
        opened.put(ACCOUNT, space, "k", pair())


def test_a_connection_that_is_dropped_closes_itself_before_sqlite3_warns_of_it() -> None:
    connection = connect(":memory:")
    connection.__del__()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
    Connection.__new__(Connection)  # pytest would tell of what dropping it raised


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""


def test_a_missing_namespace_is_told_by_every_operation(store: Store) -> None:
    for work in (
        lambda: store.get(ACCOUNT, "x", "k"),
        lambda: store.put(ACCOUNT, "x", "k", pair()),
        lambda: store.put_many(ACCOUNT, "x", []),
        lambda: store.delete_many(ACCOUNT, "x", []),
        lambda: store.keys(ACCOUNT, "x", limit=1),
    ):
        with pytest.raises(MissingNamespaceError):
            work()


def test_a_damaged_file_is_told(path: Path, store: Store, space: str) -> None:
    store.put_many(ACCOUNT, space, [(f"k{n}", pair(bytes(1000))) for n in range(200)])
    store.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"kv\.db"), closing(Store(path)) as again:
        again.get(ACCOUNT, space, "k1")


def test_damage_that_is_met_later_is_told(path: Path, store: Store, space: str) -> None:
    store.put_many(ACCOUNT, space, [(f"k{n:03}", pair(bytes(1000))) for n in range(400)])
    store.close()
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half:] = b"\xa5" * (len(data) - half)
    path.write_bytes(data)
    with closing(Store(path)) as again, pytest.raises(StoreError, match=r"kv\.db is damaged"):
        for n in range(400):
            again.get(ACCOUNT, space, f"k{n:03}")


def test_a_link_leads_to_its_targets_store(tmp_path: Path, store: Store, space: str) -> None:
    (tmp_path / "link.db").symlink_to("kv.db")
    with closing(Store(tmp_path / "link.db")) as linked:
        linked.put(ACCOUNT, space, "k", pair())
    assert store.get(ACCOUNT, space, "k") == pair()


def test_a_link_to_a_foreign_file_is_refused_too(tmp_path: Path, path: Path) -> None:
    other_in_wal_mode(path)
    (tmp_path / "link.db").symlink_to("kv.db")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="database of another application"):
        Store(tmp_path / "link.db")
    assert path.read_bytes() == before


def test_a_later_page_costs_no_more_than_the_first(store: Store, space: str) -> None:
    store.put_many(ACCOUNT, space, [(f"k{number:05}", pair()) for number in range(20_000)])
    with store._database.reading() as connection:
        pass  # the pool's only one, which the store's next read will take
    steps: list[str] = []
    costs = []
    for after in ("", "k19000"):
        steps.clear()
        connection.set_progress_handler(lambda: steps.append("ten more"), 10)
        assert len(store.keys(ACCOUNT, space, prefix="k", after=after, limit=50)) == 50
        costs.append(len(steps))
    connection.set_progress_handler(None, 0)
    assert 10 < costs[1] <= costs[0] + 5
