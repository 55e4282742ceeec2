"""A process that exports, imports or copies, and may be killed: WORK SOURCE TARGET [OPTION...].

Prints the report as JSON. Options: resume, format=F, state=PATH, kill=SECONDS from now.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict
from signal import SIGKILL
from typing import Any

import kvdict
from kvdict import transfer


def main(work: str, source: str, target: str, *options: str) -> None:
    named: dict[str, Any] = dict(option.split("=", 1) for option in options if "=" in option)
    named["resume"] = "resume" in options
    killer = threading.Timer(float(named.pop("kill", "1e6")), os.kill, (os.getpid(), SIGKILL))
    killer.daemon = True
    killer.start()
    calls: dict[str, Any] = {
        "export": transfer.export, "import": transfer.import_, "copy": transfer.copy,
    }  # fmt: skip
    places: list[Any] = [
        kvdict.open(place, codec="bytes", create=True) if "://" in place else place
        for place in (source, target)
    ]
    report = calls[work](*places, **named)
    print(json.dumps(asdict(report), default=str))
    for place in places:
        if isinstance(place, kvdict.KVNamespace):
            place.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
