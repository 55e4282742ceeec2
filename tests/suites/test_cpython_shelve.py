"""CPython's own tests of shelve, run from where they are installed.

Those of files run once for each protocol, not once for each dbm module: there is none here.
"""

from __future__ import annotations

import unittest
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test import mapping_tests, test_shelve

from kvdict import shelve

from .process import MODES

PROTOCOLS = range(6)
NAMED_MODES = {mode.title().replace("-", ""): options for mode, options in MODES.items()}
NAMED_MODES["Signed"] = {"secret": "for these tests"}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class OnKVDict:
    """Puts kvdict's shelve under the name by which the tests know the standard library's."""

    options: dict[str, Any]

    def run(self, result: Any = None) -> Any:
        theirs = test_shelve.shelve
        test_shelve.shelve = SimpleNamespace(
            open=partial(shelve.open, **self.options), Shelf=shelve.Shelf
        )
        try:
            return super().run(result)  # type: ignore[misc]  # TestCase stands behind this class
        finally:
            test_shelve.shelve = theirs


class OfURLs(test_shelve.TestShelveBase):
    """Makes the empty mapping at a URL."""

    def _empty_mapping(self) -> Any:
        shelf = test_shelve.shelve.open("memory://", **self._args)
        self.addCleanup(shelf.close)
        return shelf


class DoesWithoutIntKeys:
    """Leaves those of the general mapping tests that do without keys that are not str."""

    # These use keys that are int; those of a shelf are str. A shelf has no copy and no fromkeys.
    test_clear = test_copy = test_items = test_update = test_values = None
    test_constructor = test_fromkeys = None
    # This changes a list that was passed in, and expects the stored one to change.
    test_setdefault = None

    # This goes on to copies.
    test_popitem = mapping_tests.BasicTestMappingProtocol.test_popitem

    type2test = shelve.KVShelf

    def _reference(self) -> Any:
        return {"1": "2", "key1": "value1", "key2": [1, 2, 3]}

    def _full_mapping(self, data: Any) -> Any:
        shelf = self._empty_mapping()  # type: ignore[attr-defined]  # OfURLs has it
        shelf.update(data)
        return shelf


def _cases() -> dict[str, type]:
    """Return a class of tests for each of theirs, with each way to write."""
    made = {"TestInMemory": type("TestInMemory", (OnKVDict, test_shelve.TestCase), {"options": {}})}
    for protocol in PROTOCOLS:
        name = f"TestProto{protocol}MemShelve"
        made[name] = type(name, (OnKVDict, getattr(test_shelve, name)), {"options": {}})
        basic = getattr(test_shelve, f"TestProto{protocol}File_dumbShelve")
        for label, options in NAMED_MODES.items():
            for kind, bases in {
                "File": (OnKVDict, basic),
                "URL": (OnKVDict, OfURLs, mapping_tests.BasicTestMappingProtocol),
            }.items():
                name = f"TestProto{protocol}{kind}{label}"
                made[name] = type(
                    name, bases, {"options": options, "_args": {"protocol": protocol}}
                )
    for label, options in NAMED_MODES.items():
        made[f"TestOpen{label}"] = type(
            f"TestOpen{label}", (OnKVDict, test_shelve.TestCase), {"options": options}
        )
        for writeback in (False, True):
            name = f"TestGeneral{'Writeback' if writeback else ''}{label}"
            made[name] = type(
                name,
                (OnKVDict, DoesWithoutIntKeys, OfURLs, mapping_tests.TestMappingProtocol),
                {"options": options, "_args": {"writeback": writeback}},
            )
    return made


globals().update(_cases())


def test_none_of_theirs_is_left_out_unnoticed() -> None:
    made = [case for case in globals().values() if isinstance(case, type)]
    cases = [case for case in made if issubclass(case, unittest.TestCase)]
    assert len(cases) == 1 + 6 + (2 * 6 + 3) * len(NAMED_MODES)
    names = unittest.TestLoader().getTestCaseNames
    assert sum(len(names(case)) for case in cases) > 200
