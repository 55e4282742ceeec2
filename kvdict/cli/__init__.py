"""The command `kvdict`: the library's own methods, one to one, for a person and for a pipe."""

from kvdict.cli.root import run

__all__ = ["run"]
