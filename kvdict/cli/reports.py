"""What moving data came to, in a sentence and a code."""

from __future__ import annotations

import shlex

import click

from kvdict.cli.failures import Code, Failure, in_words
from kvdict.cli.output import say
from kvdict.cli.progress import Display
from kvdict.cli.words import duration, many, size
from kvdict.transfer import LeftOut, Report, SyncReport


def how_to_go_on() -> str:
    """Return the command line that goes on with this one."""
    arguments = list(click.get_current_context().obj)
    if "--resume" not in arguments:
        arguments.insert(1, "--resume")
    return f"go on with `{shlex.join(['kvdict', *arguments])}`"


def say_left_out(left_out: LeftOut) -> None:
    """Name a pair that is left out."""
    say(f"left out: {left_out}")


def finish(verb: str, report: Report, display: Display) -> None:
    """Say what was done; end with code 4 if that was not all."""
    display.done = report.done
    if not report.complete:
        raise display.stopped()
    sentence = (
        f"{verb} {many(report.done, 'pair')} ({size(report.bytes)}) in"
        f" {many(report.requests, 'request')}, {duration(report.seconds)}"
    )
    for number, what in (
        (report.resumed, "of them were there from earlier runs"),
        (report.expired, "expired ones skipped"),
        (report.gone, "deleted meanwhile"),
        (report.invalid, "invalid ones left out"),
    ):
        if number:
            sentence += f"; {number:,} {what}"
    if report.invalid:
        raise Failure(sentence, Code.PARTLY)
    say(sentence)
    for note in report.notes:
        say(in_words(note))


def sync_sentence(report: SyncReport) -> str:
    """Return what a sync sent, or would send."""
    would = "would send" if report.dry_run else "sent"
    delete = "would delete" if report.dry_run else "deleted"
    sentence = f"{would} {many(report.puts, 'pair')} ({size(report.bytes)})"
    if report.deletions:
        sentence += f", {delete} {many(report.deletions, 'key')}"
    sentence += f", in {many(report.requests, 'request')}; {report.unchanged:,} unchanged"
    if report.expired:
        sentence += f"; {report.expired:,} expired ones skipped"
    return sentence + (f"; {wait(report.seconds)}" if report.dry_run else "")


def wait(seconds: float) -> str:
    """Return how long the request allowance makes something wait."""
    if not seconds:
        return "no wait for the request allowance"
    return f"the request allowance makes that wait {duration(seconds)}"
