"""The sources are there, whole, and those of what is installed."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from . import SOURCES, needs, source


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in SOURCES])
def test_the_source_is_that_of_what_is_installed(name: str) -> None:
    about = (source(name) / "PKG-INFO").read_text()
    assert f"\nVersion: {version(name)}\n" in about
    assert (source(name) / "tests").is_dir()
