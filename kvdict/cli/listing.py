"""`kvdict ls`."""

from __future__ import annotations

import sys
from itertools import islice

import click

from kvdict.cli.command import (
    command,
    json_option,
    max_wait_option,
    not_negative,
    prefix_option,
    where_and,
)
from kvdict.cli.opening import open_kv
from kvdict.cli.output import as_json, data_out, is_terminal, paint, put_json, put_line, shown
from kvdict.cli.words import moment
from kvdict.models import Key

WIDTH = len("2026-11-24 17:00:00Z")

AT_ONCE = 100
"""Lines that a reader may have to wait for, together."""


@command(
    "ls",
    examples="kvdict ls sqlite:///app.db\nkvdict ls links --prefix user: --long\n"
    "kvdict ls links --json | jq -r 'select(.expiration) | .name'",
)
@where_and()
@prefix_option
@click.option("--long", "-l", is_flag=True, help="Show expiration and metadata too.")
@click.option("--limit", type=int, callback=not_negative, metavar="N", help="The first N keys.")
@json_option
@max_wait_option
def ls_command(
    arguments: list[str],
    prefix: str,
    long: bool,
    limit: int | None,
    as_lines: bool,
    max_wait: float,
) -> None:
    """List the keys, in the order of their UTF-8.

    A request a thousand; what has come is written at once. In a pipe a line is a key as it is,
    with --long key, expiration (epoch seconds) and metadata (JSON) between tabs; keys that may
    hold line breaks are safe in --json, which always tells name, expiration and metadata.
    """
    with open_kv(arguments[0], max_wait, reads=True) as kv:
        for number, key in enumerate(islice(kv.scan(prefix), limit)):
            if number % AT_ONCE == 1:
                data_out().flush()
            if as_lines:
                put_json({"name": key.name, "expiration": key.expiration, "metadata": key.metadata})
            else:
                put_line(_long(key) if long else shown(key.name))


def _long(key: Key) -> str:
    about = "" if key.metadata is None else as_json(key.metadata)
    if not is_terminal(sys.stdout):
        return f"{key.name}\t{'' if key.expiration is None else key.expiration}\t{about}"
    until = paint(f"{moment(key.expiration):{WIDTH}}", fg="cyan")
    return f"{until}  {paint(shown(key.name), bold=True)}  {paint(shown(about), dim=True)}".rstrip()
