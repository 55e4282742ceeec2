"""A framework that is missing is answered with what installs it."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("django", "asgiref", "django"),
        ("cachelib", "cachelib", "cachelib"),
        ("flask_caching", "cachelib", "flask-caching"),
        ("flask_caching", "flask", "flask-caching"),
        ("dogpile", "dogpile", "dogpile"),
        ("requests_cache", "attrs", "requests-cache"),
    ],
)
def test_a_missing_framework_is_named_with_the_extra_that_brings_it(
    module: str, package: str, extra: str
) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; import kvdict.contrib.{module}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    said = done.stderr.splitlines()[-1]
    assert said.startswith("ModuleNotFoundError: this part of kvdict needs ")
    assert said.endswith(f": pip install 'kvdict[{extra}]'")
