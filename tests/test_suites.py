"""Public suites of others, run from where they are installed."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from typing import Any

import pytest
from test import mapping_tests
from zict.tests import utils_test

import kvdict
from kvdict.mapping import KVMapping


class _InMemory:
    """What CPython's suites need: a class that makes empty and filled namespaces."""

    type2test = KVMapping

    def setUp(self) -> None:
        self._opened: list[kvdict.KVNamespace[Any]] = []

    def tearDown(self) -> None:
        for kv in self._opened:
            kv.close()

    def _empty_mapping(self) -> kvdict.KVNamespace[Any]:
        kv = kvdict.open("memory://")
        self._opened.append(kv)
        return kv

    def _full_mapping(self, data: dict[str, Any]) -> kvdict.KVNamespace[Any]:
        kv = self._empty_mapping()
        kv.update(data)
        return kv


class TestBasicMappingProtocol(_InMemory, mapping_tests.BasicTestMappingProtocol):
    """All of CPython's basic mapping tests."""

    def _reference(self) -> dict[str, Any]:
        return {"1": "2", "key1": "value1", "key2": [1, 2, 3]}


class TestGeneralMappingProtocol(_InMemory, mapping_tests.TestMappingProtocol):
    """CPython's general mapping tests, those that do without keys that are not str."""

    def _reference(self) -> dict[str, Any]:
        return {"1": "2", "key1": "value1", "key2": [1, 2, 3]}

    # These use keys that are int; those of a namespace are str.
    test_clear = test_copy = test_items = test_update = test_values = None
    # A namespace is opened, not made from pairs.
    test_constructor = test_fromkeys = None
    # This changes a list that was passed in, and expects the stored one to change.
    test_setdefault = None

    @pytest.mark.slow  # 8,190 pairs, each set, listed, read and deleted
    def test_popitem(self) -> None:
        super().test_popitem()


def test_half_of_the_general_tests_at_least_are_run() -> None:
    load = unittest.TestLoader().getTestCaseNames
    every = set(load(mapping_tests.TestMappingProtocol))
    run = set(load(TestGeneralMappingProtocol))
    assert len(every - run) == 8
    assert len(run) >= 10


@pytest.fixture(params=["memory://", "sqlite"])
def stores_bytes(request: Any, tmp_path: Any) -> Iterator[kvdict.KVNamespace[bytes]]:
    where = request.param if "://" in request.param else f"sqlite:///{tmp_path}/zict.db"
    with kvdict.open(where, codec="bytes") as kv:
        yield kv


def test_zicts_contract_of_a_mapping_of_bytes(stores_bytes: kvdict.KVNamespace[bytes]) -> None:
    utils_test.check_mapping(stores_bytes)


def test_zicts_contract_of_emptiness(stores_bytes: kvdict.KVNamespace[bytes]) -> None:
    utils_test.check_empty_mapping(stores_bytes)


def test_zicts_contract_of_keys_and_values_of_other_types(
    stores_bytes: kvdict.KVNamespace[bytes],
) -> None:
    utils_test.check_bad_key_types(stores_bytes)
    utils_test.check_bad_value_types(stores_bytes)


def test_zicts_threads_that_write_different_keys(stores_bytes: kvdict.KVNamespace[bytes]) -> None:
    utils_test.check_different_keys_threadsafe(stores_bytes)


def test_zicts_threads_that_write_one_key(stores_bytes: kvdict.KVNamespace[bytes]) -> None:
    utils_test.check_same_key_threadsafe(stores_bytes)
