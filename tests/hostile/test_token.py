"""A token that is looked for everywhere: it is in the Authorization header, and nowhere else."""

from __future__ import annotations

import copy
import gc
import logging
import os
import pickle
import subprocess
import sys
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

import kvdict
from kvdict import Account, KVError, ReadCache, WriteBuffer, transfer
from kvdict.emulator import Emulator, Knobs, Server, Store, serve
from kvdict.secret import Secret
from tests.wire.support import ACCOUNT, Connection, RawServer, Reply, keep_answering, ok

CANARY = "".join(["canary", "-of-the-", "token", "-4f1d9c"])  # pytest shows the line, not its value
WAYS = ("argument", "environment", "named", "callable", "secret")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with closing(Store(None)) as store, serve(Emulator(store, token=CANARY)) as server:
        yield server


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def given(way: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """Return what the URL ends in, and the options: the token comes by each way."""
    if way in {"environment", "named"}:
        name = "CLOUDFLARE_API_TOKEN" if way == "environment" else "THEIR_TOKEN"
        monkeypatch.setenv(name, CANARY)
        return ("?token_env=THEIR_TOKEN" if way == "named" else ""), {}
    tokens = {"argument": CANARY, "callable": lambda: CANARY, "secret": Secret(CANARY)}
    return "", {"token": tokens[way]}


def address(url: str, title: str, end: str = "") -> str:
    return f"kv+{url.removesuffix('/client/v4')}/{ACCOUNT}/{title}{end}"


def reachable(*roots: Any) -> list[Any]:
    """Return all objects of kvdict's classes that these lead to."""
    seen: dict[int, Any] = {}
    rest: list[Any] = list(roots)
    while rest:
        one = rest.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        ours = type(one).__module__.startswith("kvdict")
        if not ours and not isinstance(one, dict | list | tuple | set):
            continue
        seen[id(one)] = one
        rest += gc.get_referents(one)
    return [one for one in seen.values() if type(one).__module__.startswith("kvdict")]


def texts_of(one: Any) -> Iterator[str]:
    yield repr(one)
    yield "" if isinstance(one, Secret) else str(one)
    yield repr(vars(one)) if hasattr(one, "__dict__") else ""
    yield repr(one.args) if isinstance(one, BaseException) else ""


def copies_of(one: Any) -> Iterator[bytes]:
    """Yield the pickles of an object, and of its copies, where it lets itself be pickled."""
    copiers: list[Callable[[Any], Any]] = [lambda it: it, copy.copy, copy.deepcopy]
    for make in copiers:
        with suppress(Exception):
            made = make(one)
            yield pickle.dumps(made)
            if made is not one and isinstance(made, kvdict.KVNamespace):
                made.close()


def frames_of(error: BaseException) -> str:
    """Return what a tool shows that prints tracebacks with locals: frames of kvdict and below."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    shown = []
    links: list[Any] = [told]
    while links:
        link = links.pop()
        inside = False
        for frame in link.stack:
            inside = inside or f"{os.sep}kvdict{os.sep}" in frame.filename
            shown += [str(frame.locals)] if inside and "tests" not in frame.filename else []
        shown += list(link.format_exception_only())
        links += [cause for cause in (link.__cause__, link.__context__) if cause]
    return "".join(shown)


def test_it_is_in_no_object_and_no_copy_of_it_and_in_no_file(
    server: Server,
    given: tuple[str, dict[str, Any]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("", "kvdict", "urllib3", "requests"):
        caplog.set_level(logging.DEBUG, name or None)
    end, options = given
    where = address(server.url, f"test-{uuid.uuid4().hex}", end)
    buffer = WriteBuffer(journal=tmp_path / "journal", max_age=60)
    kv = kvdict.open(where, create=True, buffer=buffer, cache=ReadCache(), **options)
    account = Account(where, **options)
    with warnings.catch_warnings(record=True) as warned, kv, account:
        kv["a"] = {"n": 1}
        kv.put("b", 2, metadata={"m": 1})
        objects = reachable(kv, account, kv.client, kv.prefixed("a"), kv.using("text"))
        assert len(objects) > 20
        kv.flush()
        assert kv["a"] == {"n": 1}
        assert dict(kv) == {"a": {"n": 1}, "b": 2}
        transfer.export(kv, tmp_path / "out.jsonl")
        stopped = iter([False, False, True])
        transfer.export(kv, tmp_path / "half.jsonl", stop=lambda: next(stopped, True))
        with closing_local(tmp_path / "local.db") as local:
            transfer.copy(kv, local, state=tmp_path / "copy.state")
        objects += reachable(kv, account, kv.client.list_namespaces())
        told = [str(kv.stats()), repr(kv.budget), repr(account.client), str(warned)]
        told += [text for one in objects for text in texts_of(one)]
        assert CANARY not in "".join(told)
        assert CANARY.encode() not in b"".join(data for one in objects for data in copies_of(one))
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) >= 5
        assert CANARY.encode() not in b"".join(path.read_bytes() for path in files)
    assert any(record.name.startswith("urllib3") for record in caplog.records)
    for record in caplog.records:
        assert CANARY not in record.getMessage() + repr(vars(record))


def closing_local(path: Path) -> kvdict.KVNamespace[Any]:
    return kvdict.open(path)


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """Else all of this would prove nothing."""

    class Loud(kvdict.Entry[str]):
        __module__ = "kvdict.models"

    (found,) = reachable([{"a": (Loud(CANARY),)}])
    assert any(CANARY in text for text in texts_of(found))
    assert any(CANARY.encode() in data for data in copies_of(kvdict.Entry(CANARY)))

    def failing() -> None:
        token = CANARY
        raise ValueError(str(len(token)))

    code = compile(
        "def call(work):\n    kept = work\n    kept()\n", f"{os.sep}kvdict{os.sep}x", "exec"
    )
    names: dict[str, Any] = {}
    exec(code, names)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it says is looked at below
        names["call"](failing)
    assert "failing" in frames_of(caught.value)


def never(_connection: Connection) -> None:
    _connection.read()
    _connection.reset()


def nonsense(connection: Connection) -> None:
    while connection.read():
        connection.answer(Reply(200, b"<html>"))


def echo(connection: Connection) -> None:
    while seen := connection.read():
        said = f"you said {dict(seen.headers)}"
        headers = {"cf-ray": seen.headers["Authorization"], "X-Echo": said}
        connection.answer(Reply(500, said.encode(), headers))


def redirect(connection: Connection) -> None:
    while seen := connection.read():
        target = f"http://127.0.0.1:1/?{seen.headers['Authorization']}"
        connection.answer(Reply(302, b"", {"Location": target}))


def one() -> int:
    return 1


CALLS: dict[str, Callable[[kvdict.KVNamespace[Any]], object]] = {
    "get": lambda kv: kv["a"],
    "put": lambda kv: kv.put("a", 1),
    "put_many": lambda kv: kv.put_many({"a": 1, "b": 2}),
    "large": lambda kv: kv.put("a", "v" * 200_000),
    "get_many": lambda kv: kv.get_many(["a", "b"]),
    "list": list,
    "clear": lambda kv: kv.clear(),
    "limit": lambda kv: kv.put("a" * 600, 1),
    "codec": lambda kv: kv.put("a", object()),
    "memoize": lambda kv: kv.memoize(on_error="raise")(one)(),
    "edit": lambda kv: kv.edit("a").__enter__(),
}


@pytest.mark.parametrize("way", ["argument", "environment", "callable"], indirect=True)
@pytest.mark.parametrize("behave", [never, nonsense, echo, redirect])
def test_it_is_in_no_error_and_in_no_frame_of_ours(
    given: tuple[str, dict[str, Any]],
    behave: Callable[[Connection], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    end, options = given
    with RawServer(behave) as server:
        where = address(server.url, "0123456789abcdef0123456789abcdef", end)
        with kvdict.open(where, buffer=False, max_wait=0, **options) as kv:
            for call in CALLS.values():
                with pytest.raises(KVError) as caught:
                    call(kv)
                shown = frames_of(caught.value)
                assert shown
                told = [shown, *(text for one in chain_of(caught.value) for text in texts_of(one))]
                assert CANARY not in "".join(told)
                assert CANARY.encode() not in pickle.dumps(caught.value)
        assert any(CANARY in str(seen.headers["Authorization"]) for seen in server.requests)
    for record in caplog.records:
        assert CANARY not in record.getMessage() + repr(vars(record))


def chain_of(error: BaseException) -> Iterator[BaseException]:
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is not None:
            yield link
            links += [link.__cause__, link.__context__]


@pytest.mark.parametrize("way", ["argument", "callable"], indirect=True)
@pytest.mark.parametrize("behave", [never, nonsense, echo])
def test_it_is_in_nothing_that_the_background_says(
    given: tuple[str, dict[str, Any]],
    behave: Callable[[Connection], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    end, options = given
    told: list[Exception] = []
    buffer = WriteBuffer(on_error=told.append, max_age=60)
    now = [behave]
    with RawServer(lambda connection: now[0](connection)) as server:
        where = address(server.url, "0123456789abcdef0123456789abcdef", end)
        kv = kvdict.open(where, buffer=buffer, max_wait=0, **options)
        kv.put_many({"a": 1, "b": 2})
        for leave in (lambda: kv.flush(timeout=0.05), lambda: kv.close(timeout=0.05)):
            with pytest.raises(KVError) as caught:
                leave()
            told.append(caught.value)
        now[0] = keep_answering(ok({"successful_key_count": 2, "unsuccessful_keys": []}))
        for connection in server.connections:
            with suppress(OSError):  # it is closed
                connection.reset()
        kv.close()
    assert told
    for error in told:
        assert CANARY not in frames_of(error) + "".join(texts_of(error))
    for record in caplog.records:
        assert CANARY not in record.getMessage() + repr(vars(record))


def test_it_is_in_nothing_that_the_command_says(server: Server, tmp_path: Path) -> None:
    where = address(server.url, "links")
    state = str(tmp_path / "state")
    environment = {**os.environ, "CLOUDFLARE_API_TOKEN": CANARY, "XDG_STATE_HOME": state}
    dead = "kv+http://127.0.0.1:1/" + ACCOUNT + "/links"
    runs = [
        ["--help"], ["put", "--help"], ["emulator", "--help"],
        ["namespaces", "create", "links", "--account", where],
        ["put", where, "k", "v"], ["ls", where, "--long"],
        ["export", where, "-o", str(tmp_path / "out")], ["--debug", "get", where, "missing"],
        ["--debug", "get", dead, "k", "--max-wait", "0"],
        ["--debug", "copy", where, dead, "--max-wait", "0"],
    ]  # fmt: skip
    for run in runs:
        done = subprocess.run(
            [sys.executable, "-m", "kvdict", *run], env=environment, capture_output=True, timeout=60
        )
        assert done.returncode in {0, 1, 2, 3}, run
        assert CANARY.encode() not in done.stdout + done.stderr, run
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert CANARY.encode() not in b"".join(path.read_bytes() for path in files)


def test_it_goes_to_one_host_alone_and_into_no_url(way: str, given: Any) -> None:
    end, options = given
    with RawServer(echo) as elsewhere, RawServer(redirect_to(elsewhere)) as server:
        where = address(server.url, "0123456789abcdef0123456789abcdef", end)
        with kvdict.open(where, buffer=False, max_wait=0, **options) as kv:
            for call in CALLS.values():
                with suppress(KVError):
                    call(kv)
        assert server.requests
        assert not any(CANARY in seen.url for seen in server.requests)
        assert elsewhere.connections == []


def redirect_to(elsewhere: RawServer) -> Callable[[Connection], None]:
    def behave(connection: Connection) -> None:
        while connection.read():
            connection.answer(Reply(307, b"", {"Location": elsewhere.url}))

    return behave


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("kv+http://kv.test:8787", 1), ("kv+http://192.0.2.7", 1), ("kv+http://[2001:db8::1]", 1),
        ("kv+https://kv.test", 0), ("kv+http://127.0.0.9:8787", 0), ("kv+http://[::1]:8787", 0),
        ("kv+http://localhost:8787", 0), ("kv+http://kv.localhost.", 0), ("kv+http://0.0.0.0", 0),
    ],
)  # fmt: skip
def test_a_token_that_would_leave_this_machine_in_clear_is_warned_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, host: str, told: int
) -> None:
    monkeypatch.setattr("kvdict.credentials._told_of", set())
    where = f"{host}/{ACCOUNT}/0123456789abcdef0123456789abcdef"
    kvdict.open(where).close()
    assert caplog.messages == []  # there is nothing to read
    for _ in range(2):
        kvdict.open(where, token=CANARY).close()
    assert len(caplog.messages) == told
    for message in caplog.messages:
        assert f"sent to {host.removeprefix('kv+http://')} without encryption" in message
        assert CANARY not in message


def test_an_emulator_keeps_its_token_to_itself(capfd: pytest.CaptureFixture[str]) -> None:
    with closing(Store(None)) as store:
        emulator = Emulator(store, token=CANARY, knobs=Knobs())
        with serve(emulator) as server:
            for token in ("", CANARY[:-1], f"{CANARY} "):
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                url = f"{server.url}/accounts/{ACCOUNT}/storage/kv/namespaces"
                answer = requests.get(url, headers=headers, timeout=10)
                assert CANARY not in answer.text + str(answer.headers)
            assert CANARY not in repr(emulator) + repr(server) + str(emulator.requests)
    assert CANARY not in "".join(capfd.readouterr())
