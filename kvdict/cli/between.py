"""`kvdict copy`, `sync` and `diff`: between two namespaces."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from math import ceil
from pathlib import Path

import click

from kvdict.cli.command import command, json_option, max_wait_option, prefix_option, resume_options
from kvdict.cli.failures import Code, Failure
from kvdict.cli.opening import KV, is_new_file, open_kv
from kvdict.cli.output import paint, put_json, put_line, say, shown
from kvdict.cli.progress import Display, has_bar
from kvdict.cli.reports import finish, how_to_go_on, sync_sentence, wait
from kvdict.cli.words import many
from kvdict.limits import MAX_BULK_GET_KEYS, MAX_BULK_PAIRS, MAX_LIST_KEYS
from kvdict.transfer import Difference, copy, diff, seconds_for, sync
from kvdict.transfer.identity import check_apart, identity
from kvdict.transfer.namespaces import count_keys

MARKS = {"left": ("-", "red"), "right": ("+", "green"), "both": ("~", "yellow")}
SYNC_MARKS = {"left": "right", "right": "left", "both": "both"}
"""What a sync adds is new on the right, what it deletes was there alone."""

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be sent, send nothing."
)


@command(
    "copy",
    examples="kvdict copy links sqlite:///app.db\n"
    "kvdict copy kv://ACCOUNT_ID/links kv://OTHER_ID/links --prefix user:",
)
@click.argument("source", metavar="A")
@click.argument("target", metavar="B")
@prefix_option
@dry_run_option
@resume_options
@max_wait_option
def copy_command(
    source: str,
    target: str,
    prefix: str,
    dry_run: bool,
    resume: bool,
    state: str | None,
    max_wait: float,
) -> None:
    """Store all pairs of A in B, with metadata and expiration.

    n / 1000 + n / 100 + n / 10,000 requests. What else B holds stays. The state to go on from lies
    in ~/.local/state/kvdict, or where --state says.
    """
    with (
        open_kv(source, max_wait, reads=True) as left,
        _open_target(target, max_wait, dry_run) as right,
    ):
        check_apart(left, right, prefix)
        if dry_run:
            put_line(_copy_plan(left, right, prefix))
            return
        advice = how_to_go_on()
        kept = Path(state) if state else _state(left, right, prefix)
        with Display("copy", "pair", right, advice=advice, resumes=resume) as display:
            report = copy(
                left,
                right,
                prefix=prefix,
                resume=resume,
                state=kept,
                count_first=has_bar(),
                progress=display.show,
                stop=display.stop,
            )
    finish("copied", report, display)


@command(
    "sync",
    examples="kvdict sync links sqlite:///app.db --dry-run\n"
    "kvdict sync links copy-of-links --delete",
)
@click.argument("source", metavar="A")
@click.argument("target", metavar="B")
@click.option("--delete", is_flag=True, help="Delete from B what A does not have.")
@dry_run_option
@prefix_option
@json_option
@max_wait_option
def sync_command(
    source: str,
    target: str,
    delete: bool,
    dry_run: bool,
    prefix: str,
    as_lines: bool,
    max_wait: float,
) -> None:
    """Make B hold what A holds, sending only what differs.

    Reads both (n / 1000 + n / 100 requests each), and sends a request ten thousand. A dry run
    writes a line for each key: + new, ~ changed, - deleted; with --json what `kvdict diff --json`
    does. The last line of --json is the summary.
    """
    with (
        open_kv(source, max_wait, reads=True) as left,
        _open_target(target, max_wait, dry_run) as right,
        Display("sync", "pair", right, advice="run it again to go on") as display,
    ):
        report = sync(
            left.prefixed(prefix),
            right.prefixed(prefix),
            delete,
            dry_run,
            progress=display.show,
            on_difference=_put_change(prefix, as_lines) if dry_run else None,
            stop=display.stop,
        )
    if not report.complete:
        raise display.stopped()
    if as_lines:
        put_json(asdict(report))
    elif dry_run:
        put_line(sync_sentence(report))
    else:
        say(sync_sentence(report))


@command(
    "diff",
    examples="kvdict diff links sqlite:///app.db\n"
    "kvdict diff links sqlite:///app.db --json | jq -r .key",
)
@click.argument("left", metavar="A")
@click.argument("right", metavar="B")
@prefix_option
@json_option
@max_wait_option
def diff_command(left: str, right: str, prefix: str, as_lines: bool, max_wait: float) -> int:
    """Write the keys in which A and B differ.

    A line is - KEY (only in A), + KEY (only in B), or ~ KEY and what differs. Compares value,
    metadata and expiration; reads both: n / 1000 + n / 100 requests each. The exit code is 1 if
    there is a difference.
    """
    code = Code.DONE
    with (
        open_kv(left, max_wait, reads=True) as one,
        open_kv(right, max_wait, reads=True) as other,
    ):
        check_apart(one, other, prefix)
        for difference in diff(one, other, prefix=prefix):
            code = Code.DIFFERENT
            if as_lines:
                put_json(asdict(difference))
            else:
                _put_difference(difference.side, difference.key, difference)
    return code


def _open_target(where: str, max_wait: float, dry_run: bool) -> KV:
    """Open what is written to; a dry run makes no file that is not there yet."""
    if dry_run and is_new_file(where):
        where = "memory://"
    creates = not dry_run or where == "memory://"
    return open_kv(where, max_wait, reads=not creates, creates=creates)


def _put_difference(side: str, key: str, difference: Difference) -> None:
    mark, colour = MARKS[side]
    parts = f"\t{', '.join(difference.parts)}" if difference.parts else ""
    put_line(paint(f"{mark} {shown(key)}", fg=colour) + parts)


def _put_change(prefix: str, as_lines: bool) -> Callable[[Difference], None]:
    def put(difference: Difference) -> None:
        difference = replace(difference, key=prefix + difference.key)
        if as_lines:
            put_json(asdict(difference))
        else:
            _put_difference(SYNC_MARKS[difference.side], difference.key, difference)

    return put


def _copy_plan(left: KV, right: KV, prefix: str) -> str:
    pairs = count_keys(left, prefix)
    reads = max(1, ceil(pairs / MAX_LIST_KEYS)) + ceil(pairs / MAX_BULK_GET_KEYS)
    writes = ceil(pairs / MAX_BULK_PAIRS)
    shared = left.budget is right.budget
    seconds = max(seconds_for(reads + writes * shared, left), seconds_for(writes, right))
    return (
        f"would send {many(pairs, 'pair')}, in {many(reads, 'request')} to read and"
        f" {writes:,} to write, more where values are large or no text; {wait(seconds)}"
    )


def _state(left: KV, right: KV, prefix: str) -> Path:
    """Return where the state of this copy lies, beside no file of its own."""
    about = "\0".join([identity(left), identity(right), prefix])
    name = f"copy-{hashlib.sha256(about.encode()).hexdigest()[:16]}.state"
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return _state_folder(Path(home)) / name


def _state_folder(home: Path) -> Path:
    """Return the directory for states that lie beside no file; it is made."""
    folder = home / "kvdict"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(
            f"{folder}: {error.strerror}: no place to keep the state; name one with --state FILE",
            Code.USAGE,
        ) from error
    return folder
