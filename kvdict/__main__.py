"""The command `kvdict`: `python -m kvdict`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

NEEDED = "click", "rich"


def main() -> int:
    """Run the command, or say how to get what it needs; return the exit code."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        needed = " and ".join(missing)
        sys.stderr.write(f"kvdict: the command needs {needed}: pip install 'kvdict[cli]'\n")
        return 2
    from kvdict.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
