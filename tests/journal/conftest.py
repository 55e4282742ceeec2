from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvdict.journal import Journal
from tests.journal.support import NAMESPACE

Opener = Callable[..., Journal]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return where a journal is opened if a test does not say."""
    return tmp_path / "journal"


@pytest.fixture
def open_journal(place: Path) -> Iterator[Opener]:
    """Open journals that are closed after the test."""
    opened = []

    def open_one(path: Any = place, *, namespace: str = NAMESPACE, **options: Any) -> Journal:
        opened.append(Journal(path, namespace=namespace, **options))
        return opened[-1]

    yield open_one
    for journal in opened:
        journal.close()
