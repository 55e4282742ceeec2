"""The reference holds every public name, and none that is gone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Literal, get_origin

import pytest

import kvdict
from kvdict import emulator, shelve, transfer

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "reference"
DIRECTIVE = re.compile(r"^\.\. (?:auto)?(?:class|data|exception|function):: ([\w.]+)", re.MULTILINE)
WITHIN = "texts", "shared", "names", "signed", "extras"
"""Modules of `contrib` with what only its caches use."""


def defined(path: Path, kind: type[ast.AST]) -> Iterator[str]:
    """Yield the names of this kind that a module defines."""
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and isinstance(node, kind):
            yield f"{module}.{node.name}"


def public() -> Iterator[str]:
    for module in (kvdict, emulator, shelve, transfer):
        yield from (f"{module.__name__}.{name}" for name in module.__all__)
    for path in (ROOT / "kvdict" / "contrib").glob("*.py"):
        if path.stem not in WITHIN:
            yield from defined(path, ast.ClassDef)
    yield from defined(ROOT / "pytest_kvdict.py", ast.FunctionDef)


def told() -> list[str]:
    """Return the names that the pages tell of, in full."""
    names = []
    for page in PAGES.glob("*.rst"):
        for name in DIRECTIVE.findall(page.read_text()):
            names.append(name if "." in name else f"kvdict.{page.stem}.{name}")
    return names


def test_every_public_name_is_in_the_reference_once() -> None:
    names = told()
    assert sorted(names) == sorted(set(names))
    assert set(public()) <= set(names)
    assert len(set(public())) > 70


@pytest.mark.parametrize("name", told())
def test_what_the_reference_tells_of_is_there_and_says_what_it_is(name: str) -> None:
    module, _, last = name.rpartition(".")
    thing = getattr(import_module(module), last)
    assert thing.__doc__ or get_origin(thing) is Literal


def test_all_pages_are_in_the_table_of_contents() -> None:
    listed = set((ROOT / "docs" / "index.md").read_text().splitlines())
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.*")}
    names = {str(page.with_suffix("")) for page in pages if page.suffix in {".md", ".rst"}}
    assert names - {"index"} <= listed
