"""A tour of the main job on the embedded default: what it does, and how many requests it took.

Try it:      python examples/tour.py
Cloudflare:  python examples/tour.py TITLE     (stays behind the prefix "kvdict-tour:")
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kvdict


def main(where: str) -> None:
    """Use the namespace that `where` names as a dict, and print each step with its cost."""
    with kvdict.open(where, create=True) as whole:
        kv = whole.prefixed("kvdict-tour:")  # what else is in there stays as it is

        def step(words: str, call: Callable[[], Any]) -> None:
            before = kv.stats()["requests"]
            result = call()
            kv.flush()  # a local home has nothing to flush; at Cloudflare this sends the writes
            cost = kv.stats()["requests"] - before
            shown = "" if result is None else f"-> {result!r}"
            print(f"{cost:>4} request{'' if cost == 1 else 's'}  {words:<44} {shown}".rstrip())

        print(f"opened {kv!r}\n")
        kv.clear()
        step('kv["greeting"] = {"en": "hello"}', lambda: kv.update(greeting={"en": "hello"}))
        step('kv["greeting"]', lambda: kv["greeting"])
        step('"greeting" in kv', lambda: "greeting" in kv)
        step('kv.get("nothing", 0)', lambda: kv.get("nothing", 0))
        step(
            'kv.put("visit", 1, expiration_ttl=3600, ...)',
            lambda: kv.put("visit", 1, expiration_ttl=3600, metadata={"by": "tour"}),
        )
        step('kv.metadata("visit")', lambda: kv.metadata("visit"))
        users = kv.prefixed("user:")
        step(
            "users.update(10,000 pairs)",
            lambda: users.update((f"{number:05}", {"number": number}) for number in range(10_000)),
        )
        step("len(users)", lambda: len(users))
        step("sum over users.values()", lambda: sum(user["number"] for user in users.values()))
        step(
            "users.get_many(300 keys)", lambda: len(users.get_many(map("{:05}".format, range(300))))
        )
        step('users.pop("00007")', lambda: users.pop("00007"))
        step("users.clear()", lambda: users.clear())
        step("sorted(kv)", lambda: sorted(kv))
        step("kv.clear()", lambda: kv.clear())
        print(
            f"\nin all {kv.stats()['requests']} requests; Cloudflare allows 1,200 in five minutes"
        )
        if where.startswith("sqlite"):
            print("The same program runs on Cloudflare with another string: kvdict.open('TITLE')")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(f"sqlite:///{Path(folder) / 'tour.db'}")
