"""export, import, copy, sync and diff."""

from __future__ import annotations

import json
import os
import shelve
import time
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

import pytest

import kvdict
import kvdict.shelve
from kvdict.emulator import Knobs, Server
from tests.conftest import account_of, serving

from .conftest import TOKEN, Ran, contents, fill

Cli = Callable[..., Ran]
Shell = Callable[[str], Ran]


@pytest.fixture
def hour_ago() -> Iterator[Server]:
    """Serve an emulator whose clock is an hour slow."""
    with serving(clock=lambda: time.time() - 3600) as (server, _):
        yield server


def entries(where: str) -> dict[str, kvdict.Entry[bytes]]:
    with kvdict.open(where, codec="bytes", token=TOKEN, readonly=True) as kv:
        return kv.entries(list(kv))


def fill_with_all_sorts(where: str) -> None:
    until = int(time.time()) + 100_000
    with kvdict.open(where, codec="bytes", token=TOKEN) as kv:
        kv.put_many(
            {
                "text": b"hello", "é/../x": kvdict.Entry("ü".encode(), None, {"n": 1}),
                "bytes": kvdict.Entry(os.urandom(500), until), "line\nbreak": b"\r\n",
                "con": b"", "UPPER": b"1", "upper": b"2", "." * 100: b"3",
            }
        )  # fmt: skip


@pytest.mark.parametrize("format", ["jsonl", "wrangler", "dir"])
def test_what_is_exported_is_imported_again(
    cli: Cli, served: str, tmp_path: Path, format: str
) -> None:
    fill_with_all_sorts(served)
    ran = cli("export", served, "--format", format, "-o", "all")
    assert (ran.code, ran.out) == (0, b"")
    assert ran.err.startswith("kvdict: exported 8 pairs (")
    assert ran.err.count("\n") == 1
    there = f"sqlite:///{tmp_path}/there.db"
    ran = cli("import", there, "all")
    assert (ran.code, ran.out) == (0, b"")
    assert ran.err.startswith("kvdict: imported 8 pairs (")
    assert entries(there) == entries(served)
    assert cli("diff", served, there) == Ran(0, b"", "")


def test_exports_and_imports_are_piped(shell: Shell, where: str, tmp_path: Path) -> None:
    fill_with_all_sorts(where)
    there = f"sqlite:///{tmp_path}/there.db"
    ran = shell(f"kvdict export {where} | kvdict import {there} -")
    assert (ran.code, ran.out) == (0, b"")
    assert entries(there) == entries(where)
    ran = shell(f"kvdict export {where} --prefix up --format wrangler")
    assert json.loads(ran.out) == [{"key": "upper", "value": "2"}]


def test_pipes_that_have_a_name_are_written_and_read(shell: Shell, tmp_path: Path) -> None:
    where, there = f"sqlite:///{tmp_path}/app.db", f"sqlite:///{tmp_path}/there.db"
    fill(where, {"k": b"v"})
    for line in (
        "kvdict export {} -o /dev/stdout | kvdict import {} /dev/stdin",
        "kvdict import {1} <(kvdict export {0})",
    ):
        assert shell(line.format(where, there)).code == 0
        assert contents(there) == {"k": b"v"}
        kvdict.open(there).clear()


def test_the_requests_are_the_fewest(cli: Cli, served: str, tmp_path: Path) -> None:
    fill(served, {f"{n:05}": b"x" for n in range(2500)})
    ran = cli("export", served, "-o", "all")
    assert f" in {ceil(2500 / 1000) + ceil(2500 / 100)} requests, " in ran.err
    assert " in 1 request, " in cli("import", served, "all").err
    there = f"sqlite:///{tmp_path}/there.db"
    assert cli("copy", served, there).code == 0
    told = json.loads(cli("sync", served, there, "--json").out)
    assert (told["puts"], told["requests"], told["unchanged"]) == (0, 0, 2500)


def test_a_diff_is_for_people_and_for_programs(cli: Cli, where: str, tmp_path: Path) -> None:
    there = f"sqlite:///{tmp_path}/there.db"
    fill(where, {"a": b"1", "b": b"1", "same": b"1"})
    fill(there, {"b": b"2", "c": b"1", "same": b"1"})
    ran = cli("diff", where, there)
    assert (ran.code, ran.err) == (1, "")
    assert ran.lines == ["- a", "~ b\tvalue", "+ c"]
    ran = cli("diff", where, there, "--json")
    assert ran.code == 1
    assert [json.loads(line) for line in ran.lines] == [
        {"key": "a", "side": "left", "parts": []},
        {"key": "b", "side": "both", "parts": ["value"]},
        {"key": "c", "side": "right", "parts": []},
    ]
    assert cli("diff", where, there, "--prefix", "same") == Ran(0, b"", "")


def test_a_sync_says_before_what_it_does_then(cli: Cli, where: str, tmp_path: Path) -> None:
    there = f"sqlite:///{tmp_path}/there.db"
    fill(where, {"a": b"1", "b": b"1", "same": b"1"})
    fill(there, {"b": b"2", "c": b"1", "same": b"1"})
    ran = cli("sync", where, there, "--delete", "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines[:3] == ["+ a", "~ b\tvalue", "- c"]
    assert "\n".join(ran.lines[3:]) == (
        "would send 2 pairs (2 bytes), would delete 1 key, in 2 requests; 1 unchanged; no wait"
        " for the request allowance"
    )
    assert contents(there) == {"b": b"2", "c": b"1", "same": b"1"}
    ran = cli("sync", where, there, "--delete", "--dry-run", "--json")
    assert (ran.code, ran.err) == (0, "")
    *told, summary = [json.loads(line) for line in ran.lines]
    differences = [json.loads(line) for line in cli("diff", where, there, "--json").lines]
    assert told == sorted(differences, key=lambda found: found["side"] == "right")
    assert (summary["dry_run"], summary["puts"], summary["deletions"]) == (True, 2, 1)
    ran = cli("sync", where, there, "--prefix", "a", "--dry-run", "--json")
    assert json.loads(ran.lines[0]) == {"key": "a", "side": "left", "parts": []}
    ran = cli("sync", where, there)
    assert (ran.code, ran.out) == (0, b"")
    assert ran.err == "kvdict: sent 2 pairs (2 bytes), in 1 request; 1 unchanged\n"
    assert contents(there) == contents(where) | {"c": b"1"}
    assert cli("sync", where, there, "--delete").code == 0
    assert contents(there) == contents(where)


def test_dry_runs_make_nothing_and_tell_of_the_allowance(
    cli: Cli, where: str, tmp_path: Path
) -> None:
    fill(where, {f"{n:05}": b"x" for n in range(1500)})
    new = f"sqlite:///{tmp_path}/new.db"
    ran = cli("copy", where, new, "--dry-run")
    assert ran.out.startswith(b"would send 1,500 pairs, in 17 requests to read and 1 to write")
    ran = cli("sync", where, new, "--dry-run")
    assert ran.lines[-1].startswith("would send 1,500 pairs (1.5 kB), in 1 request")
    assert ran.lines[0] == "+ 00000"
    assert not (tmp_path / "new.db").exists()


def test_a_dry_run_says_how_long_the_allowance_makes_it(
    cli: Cli, slow: tuple[Server, Knobs], tmp_path: Path
) -> None:
    server, knobs = slow
    where, new = f"{account_of(server)}/links", f"sqlite:///{tmp_path}/new.db"
    fill(where, {f"{n:05}": b"x" for n in range(3000)})
    knobs.rate_limit = 30, 3600
    ran = cli("copy", where, new, "--dry-run")
    assert ran.code == 0
    assert ran.lines[-1].endswith("; the request allowance makes that wait 1 h 0 min")


def test_what_has_expired_by_this_machine_s_clock_is_not_sent(
    cli: Cli, tmp_path: Path, hour_ago: Server
) -> None:
    here = f"{account_of(hour_ago)}/links"
    with kvdict.open(here, codec="bytes", token=TOKEN, create=True) as kv:
        kv.put("over", b"v", expiration_ttl=600)
        kv.put("lasts", b"v", expiration_ttl=7200)
    for command, said in (
        ("sync", "sent 1 pair (1 bytes), in 1 request; 0 unchanged; 1 expired ones skipped\n"),
        ("copy", "; 1 expired ones skipped\n"),
    ):
        there = f"sqlite:///{tmp_path}/{command}.db"
        ran = cli(command, here, there)
        assert ran.code == 0
        assert ran.err.endswith(said)
        assert contents(there) == {"lasts": b"v"}


def test_source_and_target_are_not_the_same(cli: Cli, where: str) -> None:
    fill(where, {"k": b"v"})
    for arguments in (["copy"], ["sync"], ["sync", "--delete"], ["sync", "--dry-run"], ["diff"]):
        ran = cli(arguments[0], where, where, *arguments[1:])
        assert (ran.code, ran.out) == (2, b"")
        assert "source and target are the same" in ran.err
        assert ran.err.count("\n") == 1
    assert contents(where) == {"k": b"v"}


def test_invalid_pairs_are_named_by_line_and_key(cli: Cli, where: str, tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"key": "a", "value": "1"}, {"key": "..", "value": "1"},
        {"key": "old", "value": "1", "expiration": 1}, {"key": "b", "value": "1"},
    ]  # fmt: skip
    (tmp_path / "bad.jsonl").write_text("\n".join(map(json.dumps, lines)))
    ran = cli("import", where, "bad.jsonl")
    assert ran.code == 2
    assert ran.err.startswith("kvdict: line 2, key '..': ")
    assert "--skip-invalid" in ran.err
    ran = cli("import", where, "bad.jsonl", "--skip-invalid")
    assert ran.code == 4
    assert ran.err.splitlines()[0].startswith("kvdict: left out: line 2, key '..': ")
    assert ran.err.endswith("; 1 expired ones skipped; 1 invalid ones left out\n")
    assert contents(where) == {"a": b"1", "b": b"1"}


def test_an_invalid_pair_without_line_and_key_is_named_as_a_file(
    cli: Cli, where: str, tmp_path: Path
) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "%4").write_text("")
    said = "a file: the name of the file '%4' says no key, and no side file does"
    assert cli("import", where, "all").err.startswith(f"kvdict: {said}; mend it")
    ran = cli("import", where, "all", "--skip-invalid")
    assert ran.err.splitlines()[0] == f"kvdict: left out: {said}"


def test_a_copy_that_cannot_keep_its_state_says_so(cli: Cli, tmp_path: Path) -> None:
    here, there = f"sqlite:///{tmp_path}/here.db", f"sqlite:///{tmp_path}/there.db"
    fill(here, {"k": b"v"})
    ran = cli("copy", here, there, XDG_STATE_HOME=f"{tmp_path}/here.db")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "name one with --state FILE" in ran.err
    state = str(tmp_path / "my.state")
    assert cli("copy", here, there, "--state", state, XDG_STATE_HOME="/dev/null").code == 0
    assert contents(there) == {"k": b"v"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("import {} all --state all", "all is a part of what is read or written; name another"),
        ("export {} -o out --state app.db", "app.db is a file of 'sqlite:///"),
        ("export {} -o out --state notes", "notes is in the way: it is not the state of a"),
        ("import {} all", "all.state is in the way"),
    ],
)
def test_no_file_but_a_state_is_taken_for_the_state(
    cli: Cli, tmp_path: Path, arguments: str, says: str
) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    fill(where, {"k": b"v"})
    files = {"all": '{"key":"new","value":"1"}', "notes": "mine", "all.state": "mine"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    ran = cli(*arguments.format(where).split())
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, b"", 1)
    assert says in ran.err
    assert "state=" not in ran.err
    assert contents(where) == {"k": b"v"}
    assert {name: (tmp_path / name).read_text() for name in files} == files


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "{}", "--format", "dir"], "a directory needs a name"),
        (["export", "{}", "--resume"], "cannot be gone on with"),
        (["import", "{}", "-", "--resume"], "--state FILE"),
        (["import", "{}", "missing"], "missing: No such file or directory"),
        (["copy", "{}"], "Missing argument 'B'"),
    ],
)
def test_what_cannot_be_meant(cli: Cli, tmp_path: Path, arguments: list[str], says: str) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    fill(where, {})
    ran = cli(*(argument.format(where) for argument in arguments))
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, b"", 1)
    assert says in ran.err


def test_a_shelf_of_the_standard_library_is_imported(cli: Cli, tmp_path: Path) -> None:
    with shelve.open(str(tmp_path / "mydata")) as shelf:
        shelf["cart"] = {"apples": 3}
    there = f"sqlite:///{tmp_path}/there.db"
    ran = cli("import", there, str(tmp_path / "mydata"), "--format", "shelve")
    assert (ran.code, ran.out) == (0, b"")
    with kvdict.shelve.open(there) as again:
        assert dict(again) == {"cart": {"apples": 3}}


def test_a_database_is_told_to_be_copied_open_or_not(cli: Cli, tmp_path: Path) -> None:
    where, into = f"sqlite:///{tmp_path}/app.db", f"sqlite:///{tmp_path}/other.db"
    fill(where, {"k": b"v"})
    closed = cli("import", into, "app.db")
    with kvdict.open(where) as kv:
        kv["k"] = "w"
        opened = cli("import", into, "app.db")
    for ran in (closed, opened):
        assert ran.code == 2
        assert "one of kvdict's is a namespace, sqlite:///FILE, to be copied" in ran.err
        assert "(--format shelve), or not (--format dbm)" in ran.err
        assert ran.err.count("\n") == 1
