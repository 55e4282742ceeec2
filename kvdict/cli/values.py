"""`kvdict get`, `put` and `touch`: one key."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, BinaryIO

import click

from kvdict.cli.command import command, max_wait_option, options, where_and
from kvdict.cli.failures import Code, Failure
from kvdict.cli.input import data_in, is_piped
from kvdict.cli.opening import KV, is_new_file, open_kv
from kvdict.cli.output import as_json, data_out, is_terminal
from kvdict.edit import KEEP
from kvdict.limits import MAX_VALUE_BYTES
from kvdict.phrases import shorten

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
"""Seconds by the letter that stands behind a number."""


def parse_seconds(text: str) -> float:
    """Return a time to live: a number of seconds, or of a unit that is named behind it."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    try:
        return float(number) * UNITS[unit]
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time to live, which is seconds such as 3600, or 90m, 12h, 7d"
        ) from None


def parse_moment(text: str) -> float | datetime:
    """Return a point in time: epoch seconds, or ISO 8601, which may still lack its time zone."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither epoch seconds nor 2030-01-31T12:00:00Z; a time to live is --ttl"
        ) from None


def parse_json(text: str) -> Any:
    """Return what a JSON text says."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not JSON ({error}); a text needs quotes") from None


about_options = options(
    click.option(
        "--ttl",
        type=parse_seconds,
        metavar="S",
        help="In how many seconds the key ends, 60 at least; or 90m, 12h, 7d.",
    ),
    click.option(
        "--expiration",
        type=parse_moment,
        metavar="T",
        help="When the key ends: epoch seconds, or 2030-01-31T12:00:00Z.",
    ),
    click.option(
        "--metadata", type=parse_json, metavar="JSON", help="Any JSON of up to 1,024 bytes."
    ),
)
"""A time to live, an expiration, and metadata."""


@command(
    "get",
    examples="kvdict get sqlite:///app.db greeting\nkvdict get links logo.png -o logo.png\n"
    "kvdict get links logo.png --metadata",
)
@where_and("KEY")
@click.option(
    "-o", "--output", type=click.Path(), metavar="FILE", help="Write into a file, - for stdout."
)
@click.option("--metadata", is_flag=True, help="Write the metadata, as JSON, not the value.")
@max_wait_option
def get_command(arguments: list[str], output: str | None, metadata: bool, max_wait: float) -> None:
    """Write a value, byte for byte: 1 request."""
    where, key = arguments
    with open_kv(where, max_wait, reads=True) as kv:
        write = _write_out if output is None or output == "-" else _into(output, kv)
        try:
            data = as_json(kv.metadata(key)).encode() + b"\n" if metadata else kv[key]
        except KeyError:
            raise _missing(key, kv) from None
    write(data)


@command(
    "put",
    examples="kvdict put sqlite:///app.db greeting hello --ttl 3600\n"
    "kvdict put links logo.png --path logo.png --metadata '{\"width\": 800}'\n"
    "date | kvdict put links now -",
)
@click.argument("where")
@click.argument("key")
@click.argument("value", required=False, metavar="[VALUE | -]")
@click.option("--path", type=click.Path(), metavar="FILE", help="Take the value from a file.")
@about_options
@max_wait_option
def put_command(
    where: str,
    key: str,
    value: str | None,
    path: str | None,
    ttl: float | None,
    expiration: float | datetime | None,
    metadata: Any,
    max_wait: float,
) -> None:
    """Store a value, byte for byte: 1 request.

    Takes the place of value, expiration and metadata. The value is VALUE, or the content of a
    file, or stdin (-, or without a VALUE what is piped).
    """
    data = _given_value(key, value, path)
    rehearsal = ["memory://"] if is_new_file(where) else []  # what is refused makes no file
    for place in [*rehearsal, where]:
        with open_kv(place, max_wait, creates=True) as kv:
            kv.put(key, data, expiration_ttl=ttl, expiration=expiration, metadata=metadata)


@command(
    "touch",
    examples="kvdict touch links session:7 --ttl 3600\nkvdict touch links session:7 --forever",
)
@where_and("KEY")
@about_options
@click.option("--forever", is_flag=True, help="Take the expiration away.")
@max_wait_option
def touch_command(
    arguments: list[str],
    ttl: float | None,
    expiration: float | datetime | None,
    metadata: Any,
    forever: bool,
    max_wait: float,
) -> None:
    """Change expiration or metadata: 2 requests.

    Keeps what is not named. Reads the pair and writes it again: another writer's change in
    between is lost.
    """
    where, key = arguments
    if sum([ttl is not None, expiration is not None, forever]) > 1:
        raise click.UsageError("give one of --ttl, --expiration and --forever")
    with open_kv(where, max_wait) as kv:
        try:
            kv.touch(
                key,
                expiration_ttl=KEEP if ttl is None else ttl,
                expiration=None if forever else KEEP if expiration is None else expiration,
                metadata=KEEP if metadata is None else metadata,
            )
        except KeyError:
            raise _missing(key, kv) from None


def _into(output: str, kv: KV) -> Callable[[bytes], None]:
    from kvdict.cli.target import writable, write_file  # loads what moves data

    return partial(write_file, writable(output, kv))


def _missing(key: str, kv: KV) -> Failure:
    return Failure(f"{kv.title}: no key {shorten(key)}", Code.DIFFERENT)


def _write_out(data: bytes) -> None:
    if not is_terminal(sys.stdout):
        data_out().write(data)
        return
    if not _is_for_eyes(data):
        raise click.UsageError("the value is binary, and stdout a terminal; name a file with -o")
    data_out().write(data if data.endswith(b"\n") else data + b"\n")


def _is_for_eyes(data: bytes) -> bool:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return all(one.isprintable() or one in "\t\r\n" for one in text)


def _given_value(key: str, value: str | None, path: str | None) -> bytes:
    if value is not None and path is not None:
        raise click.UsageError("give VALUE or --path, not both")
    if path is not None:
        with open(path, "rb") as file:
            return _read(key, file)
    if value is None and not is_piped():
        raise click.UsageError("there is no value; give VALUE, --path FILE, or - for stdin")
    if value is None or value == "-":
        return _read(key, data_in())
    return os.fsencode(value)


def _read(key: str, file: BinaryIO) -> bytes:
    """Read no more of a file than shows that it is too large."""
    data = file.read(MAX_VALUE_BYTES + 1)
    if len(data) > MAX_VALUE_BYTES:
        raise Failure(
            f"key {shorten(key)}: the value has more than {MAX_VALUE_BYTES} bytes (25 MiB), which"
            " is the limit; split it over several keys",
            Code.USAGE,
        )
    return data
