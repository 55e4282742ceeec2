"""`kvdict export` and `import`: between a namespace and files."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, get_args

import click

from kvdict.cli.command import command, max_wait_option, prefix_option, resume_options, where_and
from kvdict.cli.input import data_in
from kvdict.cli.opening import is_new_file, open_kv
from kvdict.cli.output import data_out, is_terminal
from kvdict.cli.progress import Display, has_bar
from kvdict.cli.reports import finish, how_to_go_on, say_left_out
from kvdict.transfer import Format, SourceFormat, export, import_
from kvdict.transfer.formats import open_source
from kvdict.transfer.paths import is_device
from kvdict.transfer.state import State
from kvdict.transfer.work import Work

FORMATS = click.Choice(get_args(Format))
SOURCE_FORMATS = click.Choice(get_args(SourceFormat))
STDIO = "-"


@command(
    "export",
    examples="kvdict export links -o links.jsonl\n"
    "kvdict export links --format wrangler -o bulk.json\n"
    "kvdict export links --prefix user: --format dir -o users/\n"
    "kvdict export links | gzip > links.jsonl.gz",
)
@where_and()
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    default=STDIO,
    help="A file, or a directory for dir.",
)
@click.option(
    "--format", type=FORMATS, default="jsonl", show_default=True, help="How to write them."
)
@prefix_option
@resume_options
@click.option(
    "--count/--no-count",
    default=None,
    help="Count the keys first, for an ETA: n / 1000 requests [default: on a terminal].",
)
@max_wait_option
def export_command(
    arguments: list[str],
    output: str,
    format: Format,
    prefix: str,
    resume: bool,
    state: str | None,
    count: bool | None,
    max_wait: float,
) -> None:
    """Write all pairs, with value, metadata and expiration.

    n / 1000 + n / 100 requests. jsonl is a JSON object a line, wrangler the array that `wrangler
    kv bulk put` reads, dir a directory with a file a key. What is no text is in base64. A file is
    written beside its name and moved into place when it is whole.
    """  # fmt: skip
    piped = output == STDIO
    if piped and format == "dir":
        raise click.UsageError("a directory needs a name: -o DIR")
    if piped and (resume or state):
        raise click.UsageError("what goes to stdout cannot be gone on with; name a file with -o")
    target: str | BinaryIO = data_out() if piped else output
    bar = not (piped and is_terminal(sys.stdout))
    advice = "run it again, into a file (-o) it can be gone on with" if piped else how_to_go_on()
    with (
        open_kv(arguments[0], max_wait, reads=True) as kv,
        Display("export", "pair", kv, advice=advice, bar=bar, resumes=resume) as display,
    ):
        report = export(
            kv,
            target,
            format=format,
            prefix=prefix,
            resume=resume,
            state=state,
            count_first=bar and has_bar() if count is None else count,
            progress=display.show,
            stop=display.stop,
        )
    finish("exported", report, display)


@command(
    "import",
    examples="kvdict import sqlite:///app.db links.jsonl\n"
    "kvdict import links bulk.json --skip-invalid\n"
    "kvdict import sqlite:///shelf.kv mydata --format shelve\n"
    "gunzip < links.jsonl.gz | kvdict import links -",
)
@where_and("FILE")
@click.option("--format", type=SOURCE_FORMATS, help="[default: as the file looks]")
@click.option("--skip-invalid", is_flag=True, help="Leave out invalid pairs, and name them.")
@resume_options
@max_wait_option
def import_command(
    arguments: list[str],
    format: SourceFormat | None,
    skip_invalid: bool,
    resume: bool,
    state: str | None,
    max_wait: float,
) -> None:
    """Store all pairs of a file, a directory, or stdin (-).

    A request ten thousand, or 10 MB. Reads what export writes, and what `wrangler kv bulk put`
    reads; dbm and shelve are files of Python's own modules of these names. An invalid pair ends
    it, named by line and key; pairs before it may be stored. Expired pairs are skipped and counted.
    """
    where, file = arguments
    piped = file == STDIO
    if piped and resume and not state:
        raise click.UsageError("to go on with stdin the state has to be named: --state FILE")
    advice = (
        how_to_go_on() if state or not piped else "run it again, from a file it can be gone on with"
    )
    if not piped and is_new_file(where):
        _check_source(file, format, skip_invalid)
    with (
        open_kv(where, max_wait, creates=True) as kv,
        Display("import", "pair", kv, advice=advice, resumes=resume) as display,
    ):
        report = import_(
            data_in() if piped else file,
            kv,
            format=format,
            skip_invalid=skip_invalid,
            resume=resume,
            state=state,
            progress=display.show,
            on_left_out=say_left_out,
            stop=display.stop,
        )
    finish("imported", report, display)


def _check_source(file: str, format: SourceFormat | None, skip_invalid: bool) -> None:
    """Read the first pair, so that no database is made for a file of which none can be read."""
    if not is_device(Path(file)):  # which cannot be read twice
        work = Work([], State(None, {}), skip_invalid=skip_invalid)
        with closing(open_source(file, format, work.reject)) as opened:
            next(opened.records, None)
