"""Bring the source distributions of what is installed into build/suites: those not there yet."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.suites import FOLDER, SOURCES, source


def fetch(name: str) -> None:
    """Download and unpack one, unless it is there."""
    if source(name).is_dir():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch,
             "--no-binary", name, f"{name}=={version(name)}"],
            check=True,
        )  # fmt: skip
        (archive,) = Path(scratch).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        (unpacked,) = (path for path in Path(scratch).iterdir() if path.is_dir())
        unpacked.rename(source(name))


if __name__ == "__main__":
    for each in SOURCES:
        fetch(each)
