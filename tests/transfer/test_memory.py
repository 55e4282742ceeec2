"""Memory is flat: a million keys take no more than a hundred thousand."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.transfer.support import ENVIRONMENT, ROOT, python

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's /proc to measure"
)
MEGABYTE = 1_000_000

PROGRAM = """
import json, sys, time
import kvdict
from kvdict import transfer

work, home, file, *more = sys.argv[1:]
began = time.monotonic()
with kvdict.open(home, codec="bytes") as kv:
    if work == "fill":
        about = {"about": "this pair"}
        kv.put_many(
            ((f"user:{n:08}:name", kvdict.Entry(b"value of %d" % n * 5, None, about))
             for n in range(int(more[0])))
        )
        done = int(more[0])
    elif work == "copy":
        with kvdict.open(file, codec="bytes") as other:
            done = transfer.copy(kv, other).done
    elif work == "sync":
        with kvdict.open(file, codec="bytes") as other:
            report = kvdict.sync(kv, other, delete=True)
            done = report.puts + report.unchanged
    else:
        call = transfer.export if work == "export" else transfer.import_
        options = {"format": more[0]} if work == "export" else {}
        places = (kv, file) if work == "export" else (file, kv)
        done = call(*places, **options).done
with open("/proc/self/status") as status:  # what getrusage tells begins with the parent's
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps({"done": done, "peak": peak, "seconds": time.monotonic() - began}))
"""


def run(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        python("-c", PROGRAM, *arguments),
        capture_output=True,
        cwd=ROOT,
        env=ENVIRONMENT,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    print(arguments[0], arguments[-1][-20:], told)
    return told


def move(
    tmp_path: Path, count: int, bound: int, formats: tuple[str, ...], *, works: tuple[str, ...]
) -> None:
    origin, file = f"sqlite:///{tmp_path}/origin.db", str(tmp_path / "out")
    run("fill", origin, "", str(count))
    for format in formats:
        for told in (
            run("export", origin, f"{file}.{format}", format),
            run("import", f"sqlite:///{tmp_path}/{format}.db", f"{file}.{format}"),
        ):
            assert told["done"] == count
            assert told["peak"] < bound
    for work in works:
        told = run(work, origin, f"sqlite:///{tmp_path}/copy.db")
        assert told["done"] == count
        assert told["peak"] < bound


def test_twenty_thousand_keys_take_little_memory(tmp_path: Path) -> None:
    move(tmp_path, 20_000, 150 * MEGABYTE, ("jsonl",), works=("copy", "sync"))


@pytest.mark.slow
def test_a_million_keys_take_less_than_200_megabytes(tmp_path: Path) -> None:
    move(tmp_path, 1_000_000, 200 * MEGABYTE, ("jsonl",), works=())
    assert (tmp_path / "out.jsonl").stat().st_size > 80 * MEGABYTE


@pytest.mark.slow
def test_two_hundred_thousand_keys_take_less_than_200_megabytes(tmp_path: Path) -> None:
    move(tmp_path, 200_000, 200 * MEGABYTE, ("wrangler",), works=("copy", "sync"))


@pytest.mark.slow
def test_fifty_thousand_files_take_less_than_150_megabytes(tmp_path: Path) -> None:
    move(tmp_path, 50_000, 150 * MEGABYTE, ("dir",), works=())
