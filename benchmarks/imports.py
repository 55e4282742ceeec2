"""What `import kvdict` adds to a program that has requests anyway.

CPU time: once the files are in memory an import waits for nothing but other programs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from benchmarks.children import run
from benchmarks.harness import KVDICT, Rounds, Row, Target, duration, in_turn

TARGET = Target(30e-3, "difference <= 30 ms")
CODE = """
import time
started = time.process_time()
import {module}
print(time.process_time() - started)
"""


def rows(quick: bool) -> Iterator[Row]:
    """Yield the line."""
    rounds = Rounds()
    modules = [KVDICT, "requests"]
    with tempfile.TemporaryDirectory() as folder:
        # Compiled once, whatever the environment says, and nothing left in the project's folder.
        environment = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        for number in range(-1, 5 if quick else 15):
            for module in in_turn(modules, number):
                seconds = float(run(["-c", CODE.format(module=module)], environment))
                if number >= 0:
                    rounds.note(module, seconds)
    more = rounds.difference(KVDICT, "requests")
    yield Row(
        f"import kvdict, CPU ({duration(more)} more)",
        duration(rounds.median(KVDICT)),
        f"import requests: {duration(rounds.median('requests'))}",
        f"{rounds.ratio(KVDICT, 'requests'):.2f}",
        TARGET.text,
        TARGET.verdict(more),
    )
