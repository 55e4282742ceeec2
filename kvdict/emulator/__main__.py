"""The emulator as a command: `python -m kvdict.emulator`."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
import threading
from collections.abc import Sequence

from kvdict.emulator import Emulator, Server, Store, StoreError, serve
from kvdict.emulator.auth import is_loopback

ACCOUNT_ID = "0123456789abcdef0123456789abcdef"
"""Any 32 hex digits are an account here; these stand in the example."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit code."""
    options = _parser().parse_args(arguments)
    if options.token == "":
        return _complain("the token is empty; leave --token out to ask for none")
    stop = threading.Event()
    _stop_on_signals(stop)
    try:
        store = Store(options.db)
    except StoreError as error:
        return _complain(str(error))
    try:
        with serve(Emulator(store, token=options.token), options.host, options.port) as server:
            _announce(server, options.host, options.token)
            stop.wait()
    except (OSError, OverflowError) as error:
        is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        advice = "--port 0 picks a free one" if is_taken else "look at --host and --port"
        said = str(error).rstrip(".")
        return _complain(f"cannot listen on {options.host} port {options.port}: {said}; {advice}")
    finally:
        store.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kvdict.emulator",
        description="Serve a local Cloudflare Workers KV, for any client of its REST API.",
    )
    parser.add_argument("--db", metavar="FILE", help="an SQLite file (default: in memory)")
    parser.add_argument("--host", default="127.0.0.1", help="(default: %(default)s)")
    parser.add_argument("--port", type=int, default=8787, help="0 picks one (default: %(default)s)")
    parser.add_argument("--token", help="what clients must bear (default: anything, or nothing)")
    return parser


def _stop_on_signals(stop: threading.Event) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())


def _announce(server: Server, host: str, token: str | None) -> None:
    print(server.url, flush=True)
    word = "the token you gave" if token else "anything"
    lines = (
        f"export CLOUDFLARE_API_BASE_URL={server.url}",
        f"export CLOUDFLARE_BASE_URL={server.url}    # the official SDK's name for it",
        f"export CLOUDFLARE_ACCOUNT_ID={ACCOUNT_ID}    # any 32 hex digits",
        f"export CLOUDFLARE_API_TOKEN=...    # {word}",
    )
    print(*lines, sep="\n", file=sys.stderr, flush=True)
    if not is_loopback(host):
        print(
            f"warning: {host} is open to other machines; there is no encryption here",
            file=sys.stderr,
            flush=True,
        )


def _complain(text: str) -> int:
    print(f"kvdict.emulator: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
