"""The suites of those who define what a cache, a session or a shelf is, run from their own files.

They stand in source distributions alone; `python -m tests.suites.fetch` brings those into
`build/suites`, in the versions that are installed.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "build" / "suites"
SOURCES = "django", "cachelib", "requests-cache"
"""Distributions whose suites are run."""


def source(name: str) -> Path:
    """Return the unpacked source distribution of what is installed under that name."""
    return FOLDER / f"{name.replace('-', '_')}-{version(name)}"


def needs(name: str) -> list[pytest.MarkDecorator]:
    """Return the marks of tests that need a source: without it they are skipped, in CI they fail.

    Look for the source in the test, not at import: `-m "not suites"` has to do without.
    """
    return [
        pytest.mark.suites,
        pytest.mark.skipif(
            not source(name).is_dir() and "CI" not in os.environ,
            reason=f"no source of {name}: python -m tests.suites.fetch",
        ),
    ]
