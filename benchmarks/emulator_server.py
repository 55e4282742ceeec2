"""A served emulator of its own process, with latency and an allowance that nobody uses up.

Without the large allowance it would announce Cloudflare's 1,200 requests in five minutes: kvdict
heeds that and would wait, what stands beside it would not.
"""

from __future__ import annotations

import argparse
import sys

from kvdict.emulator import Emulator, Knobs, Store, serve

PLENTY = (10**9, 10.0**9)
"""Requests, and the seconds of their window."""


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--db")
    options = parser.parse_args()
    store = Store(options.db)
    knobs = Knobs(latency=options.latency, rate_limit=PLENTY)
    try:
        with serve(Emulator(store, knobs=knobs)) as server:
            print(server.url, flush=True)
            sys.stdin.read()
    finally:
        store.close()


if __name__ == "__main__":
    main()
