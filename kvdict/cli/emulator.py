"""`kvdict emulator`."""

from __future__ import annotations

import click

from kvdict.cli.command import command


@command(
    "emulator",
    examples="kvdict emulator --db app.db\nkvdict emulator --port 0",
)
@click.option(
    "--db", type=click.Path(), metavar="FILE", help="An SQLite file [default: in memory]."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=int, default=8787, show_default=True, help="0 picks one.")
@click.option("--token", help="What clients must bear [default: anything, or nothing].")
def emulator_command(db: str | None, host: str, port: int, token: str | None) -> int:
    """Serve a local Workers KV, until Ctrl-C.

    For any client of the API. Writes the base URL to stdout, and the environment to paste for
    kvdict, wrangler and the official SDK to stderr.
    """
    from kvdict.emulator.__main__ import main

    options = {"--db": db, "--host": host, "--port": str(port), "--token": token}
    return main([f"{name}={value}" for name, value in options.items() if value is not None])
