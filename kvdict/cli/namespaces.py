"""`kvdict namespaces`: the namespaces of an account."""

from __future__ import annotations

import sys

import click

from kvdict.cli.command import Command, Group, json_option, max_wait_option, options, yes_option
from kvdict.cli.opening import look_into, open_account
from kvdict.cli.output import is_terminal, put_json, put_line, say
from kvdict.cli.questions import confirm_by
from kvdict.cli.words import printable
from kvdict.models import Namespace

account_options = options(
    click.option(
        "--account",
        metavar="WHERE",
        help="An account id, kv://ACCOUNT_ID, kv+http://HOST:PORT/ACCOUNT, sqlite:///app.db"
        " [default: that of KVDICT_URL, or of CLOUDFLARE_ACCOUNT_ID].",
    ),
    max_wait_option,
)
"""The account, and how long to wait for it."""


@click.command(
    "namespaces",
    cls=Group,
    examples="kvdict namespaces list\nkvdict namespaces create links --account sqlite:///app.db",
)
def namespaces_command() -> None:
    """List, create, rename and delete namespaces."""


@namespaces_command.command(
    "list",
    cls=Command,
    examples="kvdict namespaces list\nkvdict namespaces list --json | jq -r .title",
)
@json_option
@account_options
def list_command(as_lines: bool, account: str | None, max_wait: float) -> None:
    """Write ids and titles: a request a hundred.

    In a pipe a tab is between them.
    """
    with look_into(account, max_wait) as home:
        found = home.namespaces()
        if is_terminal(sys.stdout) and not as_lines:
            _show(list(found))
            return
        for one in found:
            if as_lines:
                put_json({"id": one.id, "title": one.title})
            else:
                put_line(f"{one.id}\t{one.title}")


@namespaces_command.command("create", cls=Command, examples="kvdict namespaces create links")
@click.argument("title")
@click.option("--jurisdiction", metavar="NAME", help="Where the data stays: eu, us, fedramp.")
@account_options
def create_command(
    title: str, jurisdiction: str | None, account: str | None, max_wait: float
) -> None:
    """Make a namespace and write its id.

    1 request, never tried twice.
    """
    with (
        open_account(account, max_wait, creates=True) as opened,
        opened.create(title, jurisdiction=jurisdiction) as kv,
    ):
        put_line(kv.id)


@namespaces_command.command(
    "rename", cls=Command, examples="kvdict namespaces rename links old-links"
)
@click.argument("old")
@click.argument("new")
@account_options
def rename_command(old: str, new: str, account: str | None, max_wait: float) -> None:
    """Give a namespace another title.

    1 request, beside the look-up of a request a hundred namespaces.
    """
    with open_account(account, max_wait) as opened:
        opened.rename(old, new)


@namespaces_command.command("delete", cls=Command, examples="kvdict namespaces delete old-links")
@click.argument("title")
@yes_option
@account_options
def delete_command(title: str, yes: bool, account: str | None, max_wait: float) -> None:
    """Delete a namespace with all its keys.

    Asks for its title to be typed. 1 request, beside the look-up of a request a hundred namespaces.
    """
    with open_account(account, max_wait) as opened:
        if not yes:
            opened.open(title).close()  # a title that is not there is told before the question
            confirm_by(title, f"All keys of {title} go with it. Type its title to delete it:")
        opened.delete(title)
    say(f"deleted the namespace {title}")


def _show(found: list[Namespace]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "title", box=None, header_style="bold")
    for one in found:
        table.add_row(Text(printable(one.id), style="cyan"), Text(printable(one.title)))
    Console(highlight=False).print(table)
