"""`kvdict rm` and `clear`."""

from __future__ import annotations

import os

import click

from kvdict.cli.command import command, max_wait_option, prefix_option, yes_option
from kvdict.cli.failures import Code, Failure
from kvdict.cli.opening import KV, open_kv
from kvdict.cli.output import say
from kvdict.cli.progress import Display
from kvdict.cli.questions import confirm
from kvdict.cli.words import many, printable
from kvdict.phrases import shorten
from kvdict.transfer.clearing import clear
from kvdict.where import URL_VARIABLE

NAMED = 3
"""Keys that a question names."""


@command(
    "rm",
    examples="kvdict rm sqlite:///app.db greeting farewell\n"
    "kvdict rm links --prefix session: --yes",
)
@click.argument("where", required=False)
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@prefix_option
@yes_option
@max_wait_option
def rm_command(
    where: str | None, keys: tuple[str, ...], prefix: str, yes: bool, max_wait: float
) -> None:
    """Delete keys, or all that begin with a prefix.

    Keys: a request a hundred to see which are there (a missing one is exit code 1; the others are
    deleted all the same), and a request ten thousand. A prefix: as clear.
    """
    if bool(keys) == bool(prefix):
        raise click.UsageError("give keys, or --prefix, and not both; all keys: `kvdict clear`")
    with open_kv(_named(where), max_wait) as kv:
        if prefix:
            _delete_all(kv, prefix, yes)
        else:
            _delete(kv, list(dict.fromkeys(keys)))


@command("clear", examples="kvdict clear sqlite:///app.db\nkvdict clear links --yes")
@click.argument("where", required=False)
@yes_option
@max_wait_option
def clear_command(where: str | None, yes: bool, max_wait: float) -> None:
    """Delete all keys, after a question.

    n / 1000 + n / 10,000 requests, and 1 to ask.
    """
    with open_kv(_named(where), max_wait) as kv:
        _delete_all(kv, "", yes)


def _named(where: str | None) -> str | None:
    if where is None and not os.environ.get(URL_VARIABLE):
        raise click.UsageError(f"expected WHERE, or the variable {URL_VARIABLE}")
    return where


def _delete(kv: KV, keys: list[str]) -> None:
    there = {key for key in keys if key in kv} if len(keys) == 1 else kv.keys() & set(keys)
    kv.delete_many(keys)  # the missing too: the service may not show yet what was just written
    missing = [key for key in keys if key not in there]
    if missing:
        named = ", ".join(map(shorten, missing[:NAMED]))
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        others = f"; deleted {many(len(there), 'key')}" if there else ""
        raise Failure(f"{kv.title}: no key {named}{more}{others}", Code.DIFFERENT)


def _delete_all(kv: KV, prefix: str, yes: bool) -> None:
    if not yes:
        confirm(_question(kv, prefix))
    with Display("delete", "key", kv, advice="run it again to go on") as display:
        report = clear(kv, prefix, progress=display.show, stop=display.stop)
    if not report.complete:
        raise display.stopped()
    say(f"deleted {many(report.done, 'key')}")


def _question(kv: KV, prefix: str) -> str:
    page = next(kv.pages(prefix))
    if not page.keys and page.cursor is None:
        raise Failure(f"{kv.title}: there is nothing to delete", Code.DONE)
    number = "" if page.cursor is None else "more than "
    number += many(len(page.keys), "key")
    named = ", ".join(printable(key.name) for key in page.keys[:NAMED])
    dots = ", ..." if len(page.keys) > NAMED else ""
    below = f" below {prefix!r}" if prefix else ""
    return f"Delete {number}{below} of {kv.title} ({named}{dots})?"
