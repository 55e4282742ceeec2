"""A look at what a Worker counted: `await env.VISITS.put("2026-11-24:/about", "17")`.

Try it:      python -i examples/visits.py sqlite:///visits.db     (a new file gets a few counts)
Cloudflare:  python -i examples/visits.py visits
"""

import sys
from collections import Counter
from collections.abc import Iterator

import kvdict

COUNTED = {
    "2026-11-23:/": "130",
    "2026-11-23:/about": "9",
    "2026-11-24:/": "122",
    "2026-11-24:/about": "17",
    "2026-11-24:/blog": "41",
}


def play_the_worker(where: str) -> None:
    """Store a few counts, unless there are some already."""
    with kvdict.open(where, codec="text") as visits:
        if not visits:
            visits.update(COUNTED)


def counts(visits: kvdict.KVNamespace[str]) -> Iterator[tuple[str, str, int]]:
    """Yield day, page and count; what else the Worker keeps in the namespace is left out."""
    for key, count in visits.items():
        day, _, page = key.partition(":")
        if page and count.isdecimal():
            yield day, page, int(count)


def per_page(visits: kvdict.KVNamespace[str]) -> Counter[str]:
    """Add up the visits of each page over all days."""
    pages: Counter[str] = Counter()
    for _, page, count in counts(visits):
        pages[page] += count
    return pages


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    where = sys.argv[1]
    if where.startswith("sqlite:"):  # no Worker writes into a local file
        play_the_worker(where)
    visits = kvdict.open(where, codec="text", readonly=True)
    print(len(visits), "keys, for example", next(visits.scan(), None))
    for page, count in per_page(visits).most_common(10):
        print(f"{count:8} {page}")
    if latest := max((day for day, _, _ in counts(visits)), default=None):
        print(f"{latest}:", dict(visits.prefixed(f"{latest}:").items()))
