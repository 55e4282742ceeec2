"""Asking before what cannot be undone."""

from __future__ import annotations

import click

from kvdict.cli.failures import Code, Failure
from kvdict.cli.input import answer


def ask(question: str) -> str:
    """Return the answer to a question on stderr, empty where nobody answers."""
    click.echo(f"{question} ", nl=False, err=True)
    said = answer()
    if not said.endswith("\n"):
        click.echo(err=True)
    return said.strip("\r\n")


def confirm(question: str) -> None:
    """Ask; anything but yes ends the command."""
    if ask(f"{question} [y/N]").strip().lower() not in {"y", "yes"}:
        raise Failure("nothing was deleted; answer y, or give --yes", Code.USAGE)


def confirm_by(text: str, question: str) -> None:
    """Ask for the text to be typed; anything else ends the command."""
    if ask(question) != text:
        raise Failure("that is not its title: nothing was deleted; or give --yes", Code.USAGE)
