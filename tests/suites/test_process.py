"""Suites that are given up leave nothing behind."""

from __future__ import annotations

import os
import sys

import pytest

from .process import Group

PARENT = """
import subprocess, sys
child = "print('started', flush=True); import time; time.sleep(600)"
subprocess.run([sys.executable, "-c", child], close_fds=False)
"""


def test_what_a_suite_started_is_killed_with_it() -> None:
    ours, theirs = os.pipe()
    with (
        pytest.raises(KeyboardInterrupt),
        Group([sys.executable, "-c", PARENT], pass_fds=[theirs]) as run,
    ):
        assert run.stdout
        assert run.stdout.readline() == "started\n"
        raise KeyboardInterrupt
    os.close(theirs)
    with open(ours, "rb") as held:
        assert held.read() == b"", "nobody holds the other end any more"
