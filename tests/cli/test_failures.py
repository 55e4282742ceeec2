"""What goes wrong is one sentence with what to do, and a code."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import click
import pytest

import kvdict
from kvdict.cli import run
from kvdict.cli.failures import explain
from kvdict.emulator import Emulator, Knobs, Server, Store, serve
from kvdict.emulator.knobs import Fault
from kvdict.emulator.store import Pair
from tests.conftest import ACCOUNT, account_of
from tests.processes import Program

from .conftest import COMMAND, Gate, Ran, contents, fill

Cli = Callable[..., Ran]
Shell = Callable[[str], Ran]


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("nope://x", "unknown scheme in 'nope://x'; `kvdict --help` says what WHERE can be"),
        ("http://x/y", "an emulator is kv+http://"),
        ("sqlite://app.db", "three or four slashes"),
        ("links", "no account id: set CLOUDFLARE_ACCOUNT_ID or write kv://ACCOUNT_ID/TITLE"),
        ("app.db", "Was a local file meant? That is sqlite:///app.db"),
        (f"kv://{ACCOUNT}", "names an account and no namespace in it"),
        ("kv://links", "account id 'links': expected 32 hex digits"),
        (f"kv://{ACCOUNT}/links", "no API token: set CLOUDFLARE_API_TOKEN; make one"),
        ("kv://user:s3cret@x/links", "a URL never holds a token"),
        ("sqlite:///missing.db", "missing.db: there is no such file; is its name right?"),
        ("sqlite:////etc/passwd", "/etc/passwd is not an SQLite database; name another file"),
    ],
)
def test_a_where_that_opens_nothing(
    capsys: pytest.CaptureFixture[str], where: str, says: str
) -> None:
    assert run(["ls", where]) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert "s3cret" not in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert not re.search(r"pass \w+=|kvdict\.open|create=|readonly=", told.err)


NO_FILE = "there is no such file; is its name right?"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("rm {} k", NO_FILE),
        ("rm {} --prefix k --yes", NO_FILE),
        ("touch {} k", NO_FILE),
        ("clear {} --yes", NO_FILE),
        ("namespaces rename old new --account {}", NO_FILE),
        ("namespaces delete old --yes --account {}", NO_FILE),
        ("import {} missing", "missing: No such file or directory; is its name right?"),
        ("import {} missing --format dbm", "does not exist"),
        ("import {} bad", "line 1, key '..': a key must not be empty"),
        ("put {} k v --ttl 5", "the time to live (--ttl) is 5 s"),
        ("put {} .. v", "must not be empty, '.' or '..'"),
    ],
)
def test_what_changes_nothing_makes_no_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, line: str, says: str
) -> None:
    (tmp_path / "bad").write_text('{"key":"..","value":"1"}\n{"key":"k","value":"1"}\n')
    files = {"missing": tmp_path / "missing", "bad": tmp_path / "bad"}
    words = line.format(f"sqlite:///{tmp_path}/typo.db").split()
    assert run([str(files.get(word, word)) for word in words]) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert list(tmp_path.iterdir()) == [tmp_path / "bad"]


def test_what_deletes_or_touches_makes_no_namespace(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    with kvdict.Account(where) as account:
        account.create("links").close()
        for arguments in (["rm", where, "k"], ["touch", where, "k"], ["clear", where, "--yes"]):
            assert run(arguments) == 3
            assert "no namespace has the title 'default'" in capsys.readouterr().err
        assert list(account) == ["links"]


def test_a_first_pair_and_an_import_make_the_file(cli: Cli, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "all").write_text('{"key":"..","value":"1"}\n{"key":"k","value":"v"}\n')
    assert cli("put", f"sqlite:///{tmp_path}/put.db", "k", "v").code == 0
    read = cli("import", f"sqlite:///{tmp_path}/read.db", "all", "--skip-invalid")
    assert (read.code, read.err.count("left out: ")) == (4, 1)
    assert shell(f"kvdict import sqlite:///{tmp_path}/pipe.db <(tail -n 1 all)").code == 0
    for name in ("put", "read", "pipe"):
        assert contents(f"sqlite:///{tmp_path}/{name}.db") == {"k": b"v"}


def test_a_missing_namespace_names_its_neighbours(cli: Cli, served: str) -> None:
    ran = cli("ls", served[:-1])
    assert ran.code == 3
    assert served.rpartition("/")[2] in ran.err.partition("did you mean ")[2]
    assert "`kvdict namespaces list --account kv+http://" in ran.err
    assert "`kvdict namespaces create` makes a missing one" in ran.err
    assert ran.err.count("\n") == 1


def test_an_id_that_no_namespace_has_says_how_to_list_them(cli: Cli, served: str) -> None:
    ran = cli("ls", f"{served.rpartition('/')[0]}/{'0' * 32}")
    assert ran.code == 3
    assert "; look at the namespace's id: `kvdict namespaces list` lists what there is" in ran.err


def test_where_no_state_can_be_kept_it_says_which_option_names_a_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    (tmp_path / "all").write_bytes(b'{"key":"k","value":"v"}\n')
    assert run(["import", f"sqlite:///{tmp_path}/app.db", str(tmp_path / "all")]) == 0
    assert capsys.readouterr().err.endswith(" is not writable; name a file with --state\n")


def test_a_token_that_may_not_is_code_3(cli: Cli, served: str) -> None:
    ran = cli("ls", served, CLOUDFLARE_API_TOKEN="an0ther-t0ken-than-that")
    assert ran.code == 3
    assert 'permission "Workers KV Storage: Edit"' in ran.err
    assert "an0ther" not in ran.err
    assert ran.err.count("\n") == 1


@pytest.fixture
def read_only() -> Iterator[tuple[Server, Store]]:
    """Serve what a token may only read."""
    with closing(Store(None)) as store:
        app = Emulator(store)

        def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            path = str(environ["PATH_INFO"])
            if environ["REQUEST_METHOD"] == "GET" or path.endswith("/bulk/get"):
                return app(environ, start_response)
            environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            body = b'{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}'
            start_response("403 Forbidden", [("Content-Length", str(len(body)))])
            return [body]

        with serve(answer) as server:
            yield server, store


def test_what_is_refused_as_a_whole_is_code_3_and_claims_nothing(
    cli: Cli, read_only: tuple[Server, Store], tmp_path: Path
) -> None:
    server, store = read_only
    space = store.create(ACCOUNT, "links", most=9).id
    here, there = f"sqlite:///{tmp_path}/app.db", f"{account_of(server)}/links"
    fill(here, {f"k{number:02}": b"v" for number in range(20)})
    assert cli("export", here, "-o", "all").code == 0
    commands = (
        ["sync", here, there], ["sync", here, there, "--delete"], ["copy", here, there],
        ["import", there, "all"],
    )  # fmt: skip
    for command in commands:
        ran = cli(*command)
        assert ran.code == 3, command
        assert "no other write was accepted" in ran.err
        assert " done" not in ran.err
    for number in range(5):
        store.put(ACCOUNT, space, f"k{number:02}", Pair(b"v", None, None))
    ran = cli("sync", here, there)
    assert (ran.code, ran.err.count("\n")) == (4, 1)
    assert ran.err.endswith("; 5 pairs are done: run it again to go on\n")


def test_nobody_listens(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    ran = cli("ls", f"kv+http://127.0.0.1:{port}/{ACCOUNT}/links", "--max-wait", "0.8")
    assert ran.code == 3
    first, last = ran.err.splitlines()
    assert "trying again for up to 1 s" in first
    assert last.endswith("; gave up after 0.8 s (--max-wait)")


def test_somebody_listens_and_does_not_answer(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        ran = cli("ls", f"kv+http://127.0.0.1:{port}/{ACCOUNT}/links", "--max-wait", "2")
    assert ran.code == 3
    assert ": timed out" in ran.err
    assert "trying again" in ran.err
    assert ran.err.endswith("; gave up after 2 s (--max-wait)\n")


def test_a_short_trouble_is_said_once_and_passes(cli: Cli, slow: tuple[Server, Knobs]) -> None:
    server, knobs = slow
    where = f"{account_of(server)}/links"
    fill(where, {"k": b"v"})
    knobs.planned.extend([Fault("500")] * 2)
    ran = cli("get", where, "k")
    assert (ran.code, ran.out) == (0, b"v")
    assert ran.err.count("trying again") == 1


def test_a_write_that_the_service_did_not_store_is_named(
    cli: Cli, slow: tuple[Server, Knobs], tmp_path: Path
) -> None:
    server, knobs = slow
    where = f"{account_of(server)}/links"
    fill(where, {})
    (tmp_path / "all").write_bytes(b'{"key":"a","value":"1"}\n{"key":"b","value":"2"}\n')
    knobs.faults, knobs.kinds = 1.0, ["partial"]
    ran = cli("import", where, "all", "--max-wait", "0")
    assert ran.code == 4
    (key,) = {"a", "b"} - contents(where).keys()
    assert f"; '{key}': not written to all of Cloudflare's storage" in ran.err


def test_a_spent_allowance_is_waited_for_however_long(cli: Cli, slow: tuple[Server, Knobs]) -> None:
    server, knobs = slow
    where = f"{account_of(server)}/links"
    fill(where, {f"k{n}": b"v" for n in range(500)})
    knobs.rate_limit = 4, 1.5
    ran = cli("export", where, "-o", "all.jsonl", "--max-wait", "0.5")
    assert ran.code == 0
    assert "exported 500 pairs" in ran.err
    assert "allowance is spent; waiting" in ran.err or "s for more allowance" in ran.err
    assert "for up to" not in ran.err


def test_a_reader_that_goes_away(shell: Shell, tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    fill(where, {f"key:{n:06}": b"x" * 100 for n in range(5000)})
    for line in (f"kvdict ls {where}", f"kvdict export {where}"):
        ran = shell(f"{line} | head -n 1")
        assert (ran.code, len(ran.lines)) == (4, 1)
        assert "kvdict: the reader closed the pipe: not all was written" in ran.err
        assert ran.err.count("\n") == 1


def test_a_full_disk(shell: Shell, tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    fill(where, {"k": b"v"})
    fill(f"{where}2", {})
    for line in ("ls {}", "get {} k", "get {} k -o /dev/full", "export {}",
                 "export {} -o /dev/full", "diff {} {}2"):  # fmt: skip
        ran = shell(f"kvdict {line.format(where, where)} > /dev/full")
        assert ran.code == 4, line
        assert "No space left on device; make room" in ran.err
        assert ran.err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/1").exists(), reason="needs Linux")
@pytest.mark.parametrize("transient", [True, False])
def test_it_gave_up_after_a_time_only_where_it_tried_again(transient: bool) -> None:
    context = click.Context(click.Command("put"))
    context.params["max_wait"] = 30.0
    with context:
        said = explain(kvdict.TransportError("PUT /x: a reason", transient=transient)).sentence
    assert said == "PUT /x: a reason" + ("; gave up after 30 s (--max-wait)" if transient else "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lst", "links"], "No such command 'lst', did you mean 'ls'?; see `kvdict --help`"),
        (["Get"], "No such command 'Get', did you mean 'get'?; see `kvdict --help`"),
        (["namespace", "list"], "No such command 'namespace', did you mean 'namespaces'?;"),
        (["namespaces", "ls"], "No such command 'ls', did you mean 'list'?;"),
        (["frobnicate"], "No such command 'frobnicate'; see `kvdict --help`"),
    ],
)
def test_a_misspelt_command_names_the_near_one(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"kvdict: {said}")
    assert (told.out, told.err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ls", "--prefix"], "'--prefix' requires an argument; see `kvdict ls --help`"),
        (["namespaces", "create", "--account"], "see `kvdict namespaces create --help`"),
        (["get", "memory://", "a", "b"], "expected WHERE and KEY, not 3 arguments; see"),
        (["get"], "expected WHERE and KEY, not 0 arguments; see `kvdict get --help`"),
        (["completion"], "Choose from: bash, zsh, fish; see `kvdict completion --help`"),
    ],
)
def test_a_wrong_number_of_arguments_names_the_commands_own_help(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)


def test_an_option_before_the_command_is_told_where_it_belongs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["--max-wait", "2", "ls", "memory://"]) == 2
    assert "options follow the command" in capsys.readouterr().err


def test_places_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    fill(where, {"k": b"v"})
    (tmp_path / "folder").mkdir()
    for output in ("/proc/1/x", "missing/x", "folder", "app.db/x"):
        for arguments in (["get", where, "k"], ["export", where]):
            ran = cli(*arguments, "-o", output)
            assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
            if output == "missing/x":
                assert "there is no folder" in ran.err


def test_a_closed_stdout(shell: Shell, tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    assert shell(f"kvdict put {where} k v >&- 2>&- <&-").code == 0
    ran = shell(f"kvdict get {where} k >&-")
    assert (ran.code, ran.err) == (2, "kvdict: the output: Bad file descriptor\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("put {} k", "there is no value; give VALUE, --path FILE, or - for stdin"),
        ("put {} k -", "stdin: Bad file descriptor"),
        ("import {} -", "stdin: Bad file descriptor"),
        ("clear {}", "nothing was deleted; answer y, or give --yes"),
    ],
)
def test_a_closed_stdin(shell: Shell, tmp_path: Path, line: str, said: str) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    fill(where, {"old": b"v"})
    ran = shell(f"kvdict {line.format(where)} <&-")
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err.splitlines()[-1].startswith(f"kvdict: {said}")
    assert contents(where) == {"old": b"v"}


def test_without_a_value_and_a_pipe_nothing_is_put(cli: Cli, tmp_path: Path) -> None:
    ran = cli("put", f"sqlite:///{tmp_path}/app.db", "k")
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err.startswith("kvdict: there is no value; give VALUE, --path FILE, or - for stdin;")
    assert not (tmp_path / "app.db").exists()


def test_a_service_that_falls_silent_is_given_up_in_time(
    cli: Cli, slow: tuple[Server, Knobs], tmp_path: Path
) -> None:
    server, knobs = slow
    where = f"{account_of(server)}/links"
    fill(where, {f"{n:04}": b"" for n in range(300)})
    gate = Gate(knobs, 3)
    ran = cli("export", where, "-o", "all", "--max-wait", "1")
    gate.open()
    assert ran.code in (3, 4)
    assert "gave up after 1 s (--max-wait)" in ran.err


def test_bad_numbers_are_usage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for option in ("--limit=-1", "--max-wait=-1", "--max-wait=nan", "--max-wait=soon"):
        assert run(["ls", f"sqlite:///{tmp_path}/app.db", option]) == 2
        told = capsys.readouterr().err
        assert (option.partition("=")[0] in told, told.count("\n")) == (True, 1)


def test_without_arguments_it_shows_its_help(cli: Cli) -> None:
    for arguments in ([], ["namespaces"]):
        ran = cli(*arguments)
        assert (ran.code, ran.out) == (2, b"")
        assert ran.err.startswith("Usage: kvdict")


def test_the_traceback_is_for_those_who_ask(cli: Cli, tmp_path: Path) -> None:
    ran = cli("get", f"sqlite:///{tmp_path}/missing.db", "k", "--debug", debug=True)
    assert ran.code == 2
    assert "Traceback" in ran.err
    assert "ConfigError" in ran.err
    assert ran.err.splitlines()[-1].startswith("kvdict: ")
    fill(f"sqlite:///{tmp_path}/app.db", {})
    assert cli("put", f"sqlite:///{tmp_path}/app.db", "--", "k", "--debug").code == 0


def test_without_click_and_rich_it_says_how_to_get_them() -> None:
    program = (
        "import sys\n"
        "class Nowhere:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('click', 'rich'):\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "import importlib.util\n"
        "found = importlib.util.find_spec\n"
        "def find_spec(name, *more):\n"
        "    return None if name in ('click', 'rich') else found(name, *more)\n"
        "importlib.util.find_spec = find_spec\n"
        "import runpy; runpy.run_module('kvdict', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    said = "kvdict: the command needs click and rich: pip install 'kvdict[cli]'\n"
    assert (done.stdout, done.stderr) == ("", said)


def test_an_error_of_ours_is_a_sentence_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    where = f"sqlite:///{tmp_path}/app.db"
    fill(where, {"k": b"v"})
    monkeypatch.setattr("kvdict.cli.listing.shown", lambda text: 1 // 0)
    assert run(["ls", where]) == 4
    told = capsys.readouterr().err
    assert told.startswith("kvdict: unexpected ZeroDivisionError: ")
    assert "--debug" in told


def test_the_version_is_told_without_much_ado(cli: Cli) -> None:
    assert cli("--version").out.decode() == f"kvdict {kvdict.__version__}\n"
    program = (
        "import sys; from kvdict.cli import run\n"
        "try: run(['--version'])\n"
        "finally: print({'rich', 'kvdict.cli.files', 'werkzeug'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1:] == ["set()"]


def test_the_first_keys_come_while_the_service_still_works_on_the_rest(
    environment: dict[str, str], slow: tuple[Server, Knobs]
) -> None:
    server, knobs = slow
    where = f"{account_of(server)}/links"
    fill(where, {f"{n:04}": b"" for n in range(2500)})
    gate = Gate(knobs, 2)
    with Program(
        [*COMMAND, "ls", where], stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "0000\n"
        assert gate.reached.wait(30)
        assert process.poll() is None
        gate.open()
        assert len(process.stdout.readlines()) == 2499
    assert process.returncode == 0
