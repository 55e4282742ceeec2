"""namespaces, emulator, completion, and what the README says of them all."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from kvdict.cli.root import COMMANDS, root
from kvdict.emulator import Server
from tests.conftest import account_of
from tests.processes import Program

from .conftest import COMMAND, TOKEN, Ran, contents, fill

Cli = Callable[..., Ran]
Shell = Callable[[str], Ran]
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs" / "command.md").read_text()


@pytest.mark.parametrize("home", ["file", "served"])
def test_namespaces_are_made_renamed_and_deleted(
    cli: Cli, bearing: Server, tmp_path: Path, home: str
) -> None:
    account = f"sqlite:///{tmp_path}/app.db" if home == "file" else account_of(bearing)
    old, new = f"{home} links", f"{home} urls"
    ran = cli("namespaces", "create", old, "--account", account)
    assert ran.code == 0
    id_ = ran.out.decode().strip()
    assert re.fullmatch("[0-9a-f]{32}", id_)
    assert cli("namespaces", "create", old, "--account", account).code == 3
    assert f"{id_}\t{old}" in cli("namespaces", "list", "--account", account).lines
    assert cli("namespaces", "rename", old, new, "--account", account) == Ran(0, b"", "")
    told = [json.loads(line) for line in
            cli("namespaces", "list", "--json", "--account", account).lines]  # fmt: skip
    assert {"id": id_, "title": new} in told
    ran = cli("namespaces", "delete", old, "--account", account)
    assert ran.code == 3
    assert f"did you mean '{new}'" in ran.err
    ran = cli("namespaces", "delete", new, "--account", account, stdin=b"something else\n")
    assert ran.code == 2
    assert "nothing was deleted" in ran.err
    ran = cli("namespaces", "delete", new, "--account", account, stdin=f"{new}\n".encode())
    assert ran.code == 0
    assert "Type its title to delete it:" in ran.err
    assert new not in cli("namespaces", "list", "--account", account).out.decode()


def test_listing_the_namespaces_of_a_misspelt_file_makes_none(cli: Cli, tmp_path: Path) -> None:
    ran = cli("namespaces", "list", "--account", f"sqlite:///{tmp_path}/typo.db")
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err == f"kvdict: {tmp_path}/typo.db: there is no such file; is its name right?\n"
    assert not (tmp_path / "typo.db").exists()


def test_deleting_a_namespace_may_go_unasked(cli: Cli, tmp_path: Path) -> None:
    account = f"sqlite:///{tmp_path}/app.db"
    fill(account, {"k": b"v"})
    assert cli("namespaces", "delete", "default", "--yes", "--account", account).code == 0
    assert cli("namespaces", "list", "--account", account) == Ran(0, b"", "")


@pytest.fixture
def emulator(environment: dict[str, str], tmp_path: Path) -> Iterator[Program[str]]:
    command = [*COMMAND, "emulator", "--port", "0", "--db", "app.db"]
    with Program(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=environment,
    ) as process:  # fmt: skip
        yield process
        process.kill()


def test_what_the_emulator_prints_is_pasted(emulator: Program[str], shell: Shell) -> None:
    assert emulator.stdout
    assert emulator.stderr
    url = emulator.stdout.readline()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/client/v4\n", url)
    paste: list[str] = []
    for line in emulator.stderr:
        paste.append(line)
        if "API_TOKEN" in line:
            break
    for name in ("CLOUDFLARE_API_BASE_URL", "CLOUDFLARE_BASE_URL", "CLOUDFLARE_ACCOUNT_ID"):
        assert f"export {name}=" in "".join(paste)
    ran = shell(
        "".join(paste)
        + "kvdict namespaces create links && kvdict put links k v && kvdict get links k"
    )
    assert (ran.code, ran.out[33:]) == (0, b"v")
    emulator.send_signal(signal.SIGINT)
    out, err = emulator.communicate(timeout=20)
    assert (emulator.returncode, out, err) == (0, "", "")


def test_an_emulator_that_cannot_serve_is_code_2(cli: Cli) -> None:
    ran = cli("emulator", "--port", "70000")
    assert (ran.code, ran.err.count("\n")) == (2, 1)


def test_bash_completes(shell: Shell) -> None:
    ran = shell(
        'eval "$(kvdict completion bash)"; COMP_WORDS=(kvdict na); COMP_CWORD=1;'
        ' _kvdict_completion kvdict; echo "${COMPREPLY[@]}"; complete -p kvdict'
    )
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines[0] == "namespaces"
    assert "_kvdict_completion" in ran.lines[1]


@pytest.mark.parametrize("name", ["zsh", "fish"])
def test_other_shells_load_their_script(shell: Shell, tmp_path: Path, name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    program = {
        "zsh": 'autoload -U compinit; compinit -u; eval "$(kvdict completion zsh)";'
               " print $_comps[kvdict]",
        "fish": "kvdict completion fish | source; complete -C 'kvdict na'",
    }[name]  # fmt: skip
    (tmp_path / "script").write_text(program)
    ran = shell(f"{name} {'-f' if name == 'zsh' else '--no-config'} script")
    assert ran.code == 0, ran.err
    assert "kvdict" in ran.out.decode() or "namespaces" in ran.out.decode()


def test_options_and_nested_commands_are_completed(cli: Cli) -> None:
    def completed(*words: str) -> set[str]:
        ran = cli(COMP_WORDS=" ".join(words), COMP_CWORD=str(len(words) - 1),
                  _KVDICT_COMPLETE="bash_complete")  # fmt: skip
        return {line.partition(",")[2] for line in ran.lines}

    assert completed("kvdict", "namespaces", "re") == {"rename"}
    assert completed("kvdict", "ls", "--l") == {"--long", "--limit"}
    assert completed("kvdict", "export", "--format", "w") == {"wrangler"}
    ran = cli(COMP_WORDS="kvdict import here fi", COMP_CWORD="3", _KVDICT_COMPLETE="bash_complete")
    assert ran.lines == ["file,fi"]


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(root, info_name="kvdict")
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            for inner, of_group in command.commands.items():
                yield f"{name} {inner}", of_group
        yield name, command


def test_every_help_has_an_example_that_uses_it() -> None:
    for name, command in commands():
        context = click.Context(command, info_name=f"kvdict {name}")
        told = command.get_help(context)
        examples = told.partition("\nExamples:\n")[2].splitlines()
        assert examples, name
        assert all(f"kvdict {name.partition(' ')[0]}" in example for example in examples), name
        assert max(map(len, told.partition("\nExamples:\n")[0].splitlines())) <= 80, name
        for example in examples:
            known = {word for option in command.params for word in option.opts}
            used = set(re.findall(r" (--[\w-]+)", example.partition(" | ")[0]))
            if not isinstance(command, click.Group):
                assert used <= known | {"--help"}, example


def test_the_page_names_the_commands_and_options_that_there_are() -> None:
    rows = re.findall(r"^\| `kvdict (.+?)` \|", PAGE, re.MULTILINE)
    told = {}
    for row in rows:
        (name,) = re.findall(r"^[a-z]+(?: (?:list|create|rename|delete))?", row)
        told[name] = set(re.findall(r"(?<![\w-])(--[a-z-]+|-o)", row))
    there = dict(commands())
    assert told.keys() == there.keys() - {"namespaces"}
    everywhere = {"--help", "--debug", "--max-wait", "--state", "--account"}
    for name, options in told.items():
        known = {
            word for option in there[name].params for word in option.opts + option.secondary_opts
        }
        named = {word for option in there[name].params if isinstance(option, click.Option)
                 for word in option.opts[-1:]}  # fmt: skip
        assert options <= known, name
        assert {o for o in named if not options & {o, *aliases(there[name], o)}} <= everywhere, name


def aliases(command: click.Command, word: str) -> set[str]:
    """Return the other spellings of an option."""
    return {
        other for option in command.params if word in option.opts
        for other in option.opts + option.secondary_opts
    }  # fmt: skip


def test_the_readme_s_lines_run(shell: Shell, tmp_path: Path) -> None:
    (section,) = re.findall(r"^## The command\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    ran = shell(f"set -e\n{block}")
    assert ran.code == 0, ran.err
    assert contents(f"sqlite:///{tmp_path}/copy.db")
    assert TOKEN not in ran.err
