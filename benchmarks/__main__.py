"""The benchmarks as a command: `python -m benchmarks [--quick] [NAME ...]`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from urllib.request import getproxies_environment

from benchmarks import buffered, cached, embedded, imports, keepalive, latency, memory, threads
from benchmarks.harness import Row, Topic, table
from kvdict import __version__

TOPICS: dict[str, Topic] = {
    "keepalive": keepalive.rows,
    "embedded": embedded.rows,
    "latency": latency.rows,
    "memory": memory.rows,
    "imports": imports.rows,
    "buffered": buffered.rows,
    "cached": cached.rows,
    "threads": threads.rows,
}
PACKAGES = (
    "requests",
    "urllib3",
    "werkzeug",
    "cloudflare",
    "httpx",
    "cachetools",
    "diskcache",
    "sqlitedict",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the topics named, or all; print one table."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(TOPICS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(TOPICS)}")
    _go_round_proxies()
    started = time.monotonic()
    rows: list[Row] = []
    for name in options.names or TOPICS:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        rows += TOPICS[name](options.quick)
    print(table(rows))
    print(f"\n{_versions()}\n{time.monotonic() - started:.0f} s")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure kvdict beside others, in turns in the same run.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, rougher figures")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TOPICS)}")
    return parser


def _go_round_proxies() -> None:
    """Keep everything on this machine; without a proxy nothing is set, it costs requests time."""
    if getproxies_environment():
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"


def _versions() -> str:
    """Return the versions of everything that was measured."""
    named = [f"kvdict {__version__}", f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            named.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            named.append(f"{package} not installed")
    return f"{', '.join(named)}; {platform.system()} {platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.exit(main())
