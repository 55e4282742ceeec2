"""Long work: how far it is, Ctrl-C, and how to go on after what went wrong."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kvdict.cli.failures import Code, Failure, explain
from kvdict.cli.output import is_terminal, say, say_above, say_plainly
from kvdict.cli.words import duration, many
from kvdict.namespace import KVNamespace
from kvdict.transfer import Interrupts, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

REMINDER = 5.0
"""Seconds between two lines, where there is no terminal for a bar."""
STOPPING = b"\nkvdict: stopping after the request under way; Ctrl-C again stops at once\n"


class Display:
    """Shows how far long work is: a bar on a terminal, else a line now and then, all on stderr.

    Within its `with` block Ctrl-C asks to `stop`, and an error says how much was done before.
    `advice` says how to go on.
    """

    def __init__(
        self,
        verb: str,
        noun: str,
        kv: KVNamespace[bytes],
        *,
        advice: str,
        bar: bool = True,
        resumes: bool = False,
    ) -> None:
        self.stop = Interrupts(self._on_stop)
        self.done = 0
        self._verb = verb
        self._noun = noun
        self._transport = kv.client.transport
        self._advice = advice
        self._bar = _new_bar() if bar and has_bar() else None
        self._base: int | None = None if resumes else 0

    def __enter__(self) -> Self:
        """Begin."""
        self._began = self._told_at = time.monotonic()
        self.stop.__enter__()
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(self._verb, total=None, told="")
            say_above(self._bar.console.out)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away, and say of an error what was done before it."""
        if self._bar:
            say_plainly()
            self._bar.stop()
        self.stop.__exit__(kind, error, trace)
        if isinstance(error, KeyboardInterrupt):
            raise self.stopped() from error
        if isinstance(error, Exception) and not isinstance(error, Failure):
            failure = explain(error)
            if self.done:
                failure = Failure(f"{failure.sentence}; {self._so_far()}", Code.PARTLY)
            raise failure from error

    def stopped(self) -> Failure:
        """Return what to end with after Ctrl-C."""
        return Failure(f"stopped; {self._so_far()}", Code.PARTLY)

    def show(self, progress: Progress) -> None:
        """Show how far it is."""
        if self._base is None:
            self._base = progress.done
        self.done = progress.done
        now = time.monotonic()
        told = self._told(progress, now - self._began)
        if self._bar:
            fraction = progress.fraction
            total = None if fraction is None else 1.0
            self._bar.update(self._task, total=total, completed=fraction or 0.0, told=told)
        elif now >= self._told_at + REMINDER:
            self._told_at = now
            say(f"{self._verb}: {told}")

    def _told(self, progress: Progress, seconds: float) -> str:
        total = "" if progress.total is None else f" of {progress.total:,}"
        reached = progress.compared or progress.done
        told = f"{reached:,}{total} {self._noun}s"
        rate = (reached - (self._base or 0)) / seconds if seconds > 0 else 0.0
        if rate:
            told += f", {rate:,.0f}/s" if rate >= 10 else f", {rate:.1f}/s"
        if progress.seconds_left is not None:
            told += f", {duration(progress.seconds_left)} left"
        return told

    def _so_far(self) -> str:
        verb = "is" if self.done == 1 else "are"
        return f"{many(self.done, self._noun)} {verb} done: {self._advice}"

    def _on_stop(self) -> None:
        """Stop at once where no request is under way, else tell what is waited for."""
        if self._transport.metered and self._transport.budget.in_flight == 0:
            raise KeyboardInterrupt
        if sys.stderr is not None:  # not print(): the signal may have come in the middle of one
            os.write(sys.stderr.fileno(), STOPPING)


def has_bar() -> bool:
    """Tell whether there is a terminal for a bar."""
    return is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"


def _new_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
