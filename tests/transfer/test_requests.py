"""What a transfer costs, in requests."""

from __future__ import annotations

from pathlib import Path

import pytest

import kvdict
from kvdict import Entry, transfer
from tests.conftest import Opener
from tests.transfer.support import KV, Pairs, everything, memory, plain


@pytest.fixture(params=["memory", "served"])
def home(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(open_kv: Opener, pairs: Pairs) -> KV:
    kv = open_kv(codec="bytes", buffer=False)
    kv.put_many(pairs)
    return kv


@pytest.mark.parametrize(
    ("count", "cost"), [(0, 1), (1, 2), (100, 2), (101, 3), (1000, 11), (1001, 13), (2500, 28)]
)
def test_an_export_costs_a_listing_and_bulk_reads(
    open_kv: Opener, tmp_path: Path, count: int, cost: int
) -> None:
    kv = opened(open_kv, plain(count))
    if kv.buffer.settle:  # what was written a moment ago costs no request to read
        kv = kvdict.open(repr(kv).split("'")[1], codec="bytes")
    assert (
        transfer.export(kv, tmp_path / "out").requests
        == cost
        == -(-count // 100) + max(1, -(-count // 1000))
    )
    with memory() as other:
        assert transfer.copy(kv, other).requests == cost + -(-count // 10_000)
    kv.close()


def test_an_import_costs_a_request_for_ten_thousand(open_kv: Opener, tmp_path: Path) -> None:
    with memory(plain(20_001)) as kv:
        transfer.export(kv, tmp_path / "out")
    kv = opened(open_kv, {})
    assert transfer.import_(tmp_path / "out", kv).requests == 3
    assert len(kv) == 20_001


def test_an_import_is_cut_by_bytes(tmp_path: Path) -> None:
    with memory({f"k{n}": Entry(b"v" * 4_000_000) for n in range(5)}) as kv, memory() as other:
        transfer.export(kv, tmp_path / "out")
        assert transfer.import_(tmp_path / "out", other).requests == 3
        assert everything(other) == everything(kv)


def test_values_that_are_no_text_cost_one_request_each(tmp_path: Path) -> None:
    pairs = {f"k{n:04}": Entry(b"\xff%d" % n, None, {"n": n}) for n in range(1000)}
    with memory(pairs) as kv:
        requests = transfer.export(kv, tmp_path / "out").requests
        assert requests == 1 + 1000 + 1  # the refused bulk read tells it
    with memory() as other:
        transfer.import_(tmp_path / "out", other)
        assert everything(other) == pairs


def test_a_sync_of_equal_namespaces_reads_only() -> None:
    with memory(plain(2500)) as kv, memory(plain(2500)) as other:
        before = other.stats()["requests"]
        report = kvdict.sync(kv, other)
        assert (report.puts, report.requests, report.unchanged) == (0, 0, 2500)
        assert report.reads == 2 * (3 + 25)
        assert other.stats()["requests"] - before == 3 + 25


def test_a_sync_to_an_empty_namespace_reads_no_values_there() -> None:
    with memory(plain(2500)) as kv, memory() as other:
        report = kvdict.sync(kv, other)
        assert (report.puts, report.requests, report.reads) == (2500, 1, 1 + 28)


def test_a_comparison_reads_values_that_both_have() -> None:
    with memory(plain(1000)) as kv, memory() as other:
        before = kv.stats()["requests"]
        assert len(list(transfer.diff(kv, other))) == 1000
        assert kv.stats()["requests"] - before == 1


def test_a_copy_counts_first_if_it_is_told_to() -> None:
    with memory(plain(1500)) as kv, memory() as other:
        told: list[transfer.Progress] = []
        transfer.copy(kv, other, count_first=True, progress=told.append)
        assert {one.total for one in told} == {1500}


def test_the_count_first_costs_a_listing(tmp_path: Path) -> None:
    with memory(plain(1500)) as kv:
        assert transfer.export(kv, tmp_path / "out", count_first=True).requests == 2 + 2 + 15
