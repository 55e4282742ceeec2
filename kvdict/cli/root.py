"""The command itself: which commands there are, and what becomes of their errors."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from importlib import import_module
from itertools import takewhile

import click

from kvdict.cli.command import Group
from kvdict.cli.failures import Code, explain
from kvdict.cli.output import say
from kvdict.cli.retries import tell_of_retries
from kvdict.version import __version__

COMMANDS = {
    "ls": "listing",
    "get": "values",
    "put": "values",
    "touch": "values",
    "rm": "removal",
    "clear": "removal",
    "export": "files",
    "import": "files",
    "copy": "between",
    "sync": "between",
    "diff": "between",
    "namespaces": "namespaces",
    "emulator": "emulator",
    "completion": "completion",
}
"""The commands and the modules that hold them, each imported when it is used."""

WHERE_HELP = """
\b
WHERE is what kvdict.open takes:
  sqlite:///app.db                   a local file (?namespace=TITLE for one of several)
  links                              the namespace of that title at Cloudflare, or its id
  kv://ACCOUNT_ID/links              the same with the account
  kv+http://HOST:PORT/ACCOUNT/links  one of an emulator

Where brackets say that WHERE may be left out, the variable KVDICT_URL names it. Account and token
come from CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN.

\b
Exit codes: 0 done, 1 differences or a missing key, 2 usage, 3 the service refused
or did not answer, 4 partly done.
"""


class Root(Group):
    """The group of all commands, which imports each when it is asked for."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Return the command of that name."""
        if name not in COMMANDS:
            return None
        found = getattr(import_module(f"kvdict.cli.{COMMANDS[name]}"), f"{name}_command")
        assert isinstance(found, click.Command)
        return found


@click.command(
    "kvdict",
    cls=Root,
    help=f"Look at the data of Cloudflare Workers KV namespaces, and move it.\n{WHERE_HELP}",
    examples="kvdict ls sqlite:///app.db\nkvdict export links -o links.jsonl",
)
@click.version_option(__version__, message="kvdict %(version)s")
def root() -> None:
    """Run a command."""


def run(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    with tell_of_retries():
        try:
            code = root.main(list(arguments), "kvdict", standalone_mode=False, obj=list(arguments))
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return Code.USAGE
        except BaseException as error:
            if isinstance(error, SystemExit):  # of what a completion script asks
                raise
            if "--debug" in takewhile("--".__ne__, arguments):
                traceback.print_exception(error)
            failure = explain(error)
            say(failure.sentence)
            return failure.code
    return int(code or 0)
