"""Cloudflare's command line reads what is exported, and what it prints is imported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings

import kvdict
from kvdict import Entry, transfer
from kvdict.emulator import Emulator, Server, Store, serve
from tests.conftest import account_of
from tests.third_party.conftest import ACCOUNT
from tests.third_party.test_wrangler import Wrangler, pytestmark  # noqa: F401 - marks this module
from tests.transfer.support import Pairs, all_kinds, everything, memory
from tests.transfer.test_formats import PAIRS


@pytest.fixture(scope="module")
def service() -> Iterator[Server]:
    with closing(Store(None)) as store, serve(Emulator(store)) as running:
        yield running


def put_by_wrangler(service: Server, folder: Path, pairs: Pairs) -> Pairs:
    """Export the pairs, let wrangler put the file into an empty namespace, and read that."""
    where = f"{account_of(service, ACCOUNT)}/test-{uuid4().hex}"
    with memory(pairs) as kv, kvdict.open(where, codec="bytes", create=True) as other:
        report = transfer.export(kv, folder / "pairs.json", format="wrangler")
        assert report.notes == ()
        Wrangler(folder, service.url)(
            "bulk", "put", "pairs.json", "--remote", "--namespace-id", other.id
        )
        return everything(other)


def with_objects(pairs: Pairs) -> Pairs:
    """Return the pairs with metadata that wrangler takes: objects and arrays."""
    return {
        key: Entry(
            entry.value,
            entry.expiration,
            entry.metadata if isinstance(entry.metadata, dict | list | None) else [entry.metadata],
        )
        for key, entry in pairs.items()
    }


def with_floats(pairs: Pairs) -> Pairs:
    """Return the pairs with all numbers of the metadata as JavaScript has them."""
    return {
        key: replace(entry, metadata=json.loads(json.dumps(entry.metadata), parse_int=float))
        for key, entry in pairs.items()
    }


def test_wrangler_puts_what_was_exported(service: Server, tmp_path: Path) -> None:
    pairs = with_objects(all_kinds())
    assert put_by_wrangler(service, tmp_path, pairs) == pairs


@pytest.mark.slow
@given(pairs=PAIRS)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_wrangler_puts_any_pairs(service: Server, tmp_path: Path, pairs: Pairs) -> None:
    pairs = with_objects(pairs)
    assert with_floats(put_by_wrangler(service, tmp_path, pairs)) == with_floats(pairs)


def test_what_wrangler_prints_is_imported(service: Server, tmp_path: Path) -> None:
    where = f"{account_of(service, ACCOUNT)}/test-{uuid4().hex}"
    with kvdict.open(where, codec="bytes", create=True) as kv, memory() as other:
        kv.update({"a": b"1", "b": "é\n".encode()})
        kv.flush()
        (tmp_path / "keys.json").write_text('["a", "missing", "b"]')
        printed = Wrangler(tmp_path, service.url)(
            "bulk", "get", "keys.json", "--remote", "--namespace-id", kv.id
        )
        (tmp_path / "printed").write_bytes(printed)
        assert transfer.import_(tmp_path / "printed", other).done == 2
        assert everything(other) == {"a": Entry(b"1"), "b": Entry("é\n".encode())}
