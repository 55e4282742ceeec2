"""What all commands have: examples in their help, --debug, --max-wait, a WHERE to leave out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeVar

import click

from kvdict.cli.failures import Failure, explain
from kvdict.cli.output import discard_output, flush
from kvdict.where import URL_VARIABLE

F = TypeVar("F", bound=Callable[..., Any])


class Help(click.Command):
    """A help that ends with examples, as they are typed."""

    def __init__(self, *args: Any, examples: str = "", **options: Any) -> None:
        options.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*args, **options)
        self.examples = examples

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        """Take the arguments apart; a usage error knows of which command it is."""
        try:
            return super().parse_args(context, arguments)
        except click.UsageError as error:
            error.ctx = error.ctx or context
            raise

    def format_epilog(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            for example in self.examples.splitlines():
                formatter.write(f"{' ' * formatter.current_indent}{example}\n")


class Command(Help):
    """A command whose errors are explained while it is known what was asked for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        debug = click.Option(
            ["--debug"], is_flag=True, expose_value=False, help="Show the traceback of an error."
        )
        self.params.append(debug)

    def invoke(self, context: click.Context) -> Any:
        """Run the command, and see all that it wrote on its way."""
        try:
            code = super().invoke(context)
            flush()
        except (Failure, click.UsageError):
            discard_output()
            raise
        except BaseException as error:
            failure = explain(error)
            discard_output()
            raise failure from error
        return code


class Group(Help, click.Group):
    """A group of commands, which names the near ones of a name that is none."""

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments begin with, and the rest of them."""
        name, names = arguments[0], self.list_commands(context)
        near = get_close_matches(name.lower(), names, n=1)
        if name not in names and near and not context.resilient_parsing:
            raise click.UsageError(f"No such command {name!r}, did you mean {near[0]!r}?", context)
        return super().resolve_command(context, arguments)


command = partial(click.command, cls=Command)


def options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator for several options, in the order of the help."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def not_negative(_context: click.Context, option: click.Parameter, value: Any) -> Any:
    """Return the number; a usage error for one below 0."""
    if value is not None and not value >= 0:
        raise click.BadParameter(f"{value} is no number of 0 and more", param=option)
    return value


max_wait_option = click.option(
    "--max-wait",
    type=float,
    callback=not_negative,
    default=30,
    metavar="SECONDS",
    help="How long to try a service that does not answer [default: 30].",
)
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
json_option = click.option("--json", "as_lines", is_flag=True, help="Write a JSON object a line.")
prefix_option = click.option(
    "--prefix", default="", metavar="P", help="Only the keys that begin with P."
)
resume_options = options(
    click.option("--resume", is_flag=True, help="Go on where the last run stopped."),
    click.option(
        "--state", type=click.Path(), metavar="FILE", help="Keep the state to go on from there."
    ),
)


def where_and(*names: str) -> Callable[[F], F]:
    """Take the arguments [WHERE] and these names, as many as there are."""
    usage = " ".join(["[WHERE]", *names])

    def split(context: click.Context, _option: Any, given: Sequence[str]) -> list[str | None]:
        if len(given) == len(names) + 1:
            return list(given)
        if len(given) == len(names) and (os.environ.get(URL_VARIABLE) or context.resilient_parsing):
            return [None, *given]
        raise click.UsageError(_wrong_number(len(given), names), context)

    kind = click.Path() if "FILE" in names else click.STRING  # for the shell's completion
    return click.argument("arguments", nargs=-1, type=kind, metavar=usage, callback=split)


def _wrong_number(given: int, names: Sequence[str]) -> str:
    expected = " and ".join(["WHERE", *names])
    if given == len(names):
        return f"expected {expected}; without WHERE the variable {URL_VARIABLE} has to name it"
    return f"expected {expected}, not {given} arguments"
