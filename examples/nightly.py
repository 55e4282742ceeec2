"""A nightly job: load a CSV of products by their sku, remove those that are gone.

Try it:      python examples/nightly.py examples/products.csv sqlite:///products.db
Cloudflare:  python examples/nightly.py examples/products.csv products
"""

import csv
import sys
from collections.abc import Iterable
from typing import Any

import kvdict


def load(rows: Iterable[dict[str, str]], products: kvdict.KVNamespace[Any]) -> tuple[int, int]:
    """Store every row under its sku and delete the rest; return how many were stored, deleted."""
    seen = set()

    def pairs() -> Iterable[tuple[str, dict[str, str]]]:
        for row in rows:
            seen.add(row["sku"])
            yield row["sku"], row

    products.update(pairs())
    if not seen:
        sys.exit("the file holds no product; nothing was deleted")
    gone = products.keys() - seen
    products.delete_many(gone)
    return len(seen), len(gone)


def main(path: str, where: str) -> None:
    """Load the file at `path` into the namespace that `where` names."""
    with open(path, newline="") as file, kvdict.open(where) as home:
        stored, deleted = load(csv.DictReader(file), home.prefixed("product:"))
        home.flush()  # writes to Cloudflare are buffered: now all have arrived, or it raises
        print(f"{stored} stored, {deleted} deleted, {home.stats()['requests']} requests")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
