"""A process that has the command imported, and forks a child for each run of it.

Importing anew for each of them would take most of the time that these tests take.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib import import_module

from kvdict.__main__ import main
from kvdict.cli.root import COMMANDS

LONGEST = 60
"""Seconds after which a child that hangs is ended."""


def become(run: dict[str, list[str]]) -> None:
    """Take the child's arguments, directory, environment, and standard files."""
    signal.alarm(LONGEST)
    sys.argv = ["kvdict", *run["arguments"]]
    os.chdir(run["folder"][0])
    os.environ.clear()
    for entry in run["environment"]:
        name, _, value = entry.partition("=")
        os.environ[name] = value
    flags = os.O_RDONLY, os.O_WRONLY, os.O_WRONLY
    for number, (name, flag) in enumerate(zip(run["files"], flags, strict=True)):
        os.dup2(os.open(name, flag), number)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)


if __name__ == "__main__":
    for module in {*COMMANDS.values()}:
        import_module(f"kvdict.cli.{module}")
    import_module("kvdict.emulator")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            become(json.loads(line))
            sys.exit(main())
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
