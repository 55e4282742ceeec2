"""One get over a connection that stays open: the client's CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import requests

import kvdict
from benchmarks.children import ACCOUNT, AUTH, TOKEN, official, server, where
from benchmarks.harness import KVDICT, Row, alternate, at_most, compare, missing, repeat

NAMESPACE = "fedcba9876543210fedcba9876543210"
PATH = f"/accounts/{ACCOUNT}/storage/kv/namespaces/{NAMESPACE}/values/"
GETS = 100
KINDS = {
    "bare": "get over keep-alive, CPU",
    "cloudflare": "the same, answers with Cloudflare's headers",
}


def rows(quick: bool) -> Iterator[Row]:
    """Yield kvdict beside requests and the official SDK."""
    for kind, what in KINDS.items():
        with ExitStack() as stack:
            url = stack.enter_context(server("reply_server", kind))
            contenders = _contenders(url, stack)
            rounds = alternate(contenders, 5 if quick else 25, time.process_time)
            scale = 1 / GETS
            yield compare(what, rounds, "requests", scale=scale, target=at_most(0.6))
            if "cloudflare" in contenders:
                yield compare(what, rounds, "cloudflare", scale=scale)
            else:
                yield missing(what, "cloudflare")


def _contenders(url: str, stack: ExitStack) -> dict[str, Callable[[], None]]:
    kv = stack.enter_context(kvdict.open(where(url, NAMESPACE), codec="text", token=TOKEN))
    session = stack.enter_context(requests.Session())
    keys = [f"user:{number}" for number in range(GETS)]
    urls = [f"{url}{PATH}{key}" for key in keys]
    contenders = {
        KVDICT: repeat(kv.__getitem__, keys),
        "requests": repeat(lambda each: session.get(each, headers=AUTH).content, urls),
    }
    sdk = official(url)
    if sdk is not None:
        get = stack.enter_context(sdk).kv.namespaces.values.get
        contenders["cloudflare"] = repeat(
            lambda key: get(key, account_id=ACCOUNT, namespace_id=NAMESPACE).read(), keys
        )
    return contenders
