"""Where namespaces live: an account at Cloudflare, a file, this process's memory."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from itertools import count
from typing import Any

from kvdict.answers import NAMESPACE_NOT_FOUND, TITLE_EXISTS
from kvdict.client import ID, Client
from kvdict.errors import APIError, NotFoundError
from kvdict.flights import MAX_REQUESTS
from kvdict.forks import renew_in_children
from kvdict.models import Namespace

PER_PAGE = 100
"""Namespaces asked for at once: what the service takes has changed between 100 and 1,000."""


class Home:
    """An account's client, shared by what was opened in it and closed after the last of them.

    `place` is its URL. `address(title)` is the URL of a namespace in it, and `reopen` with that
    URL and `options` opens the namespace again elsewhere; None if there is no elsewhere.
    """

    def __init__(
        self,
        place: str,
        client: Client,
        *,
        local: bool,
        address: Callable[[str], str],
        reopen: Callable[..., Any] | None,
        options: Mapping[str, Any],
        close: Callable[[], None],
    ) -> None:
        self.place = place
        self.client = client
        self.local = local
        self.address = address
        self.reopen = reopen
        self.options = dict(options)
        self.parallel = 1 if local else MAX_REQUESTS
        self._users = 0
        self.start_again()
        renew_in_children(self)
        self._close = weakref.finalize(self, close)
        self._close.atexit = False

    def start_again(self) -> None:
        """Take a lock of its own in a forked child."""
        self._lock = threading.RLock()

    def acquire(self) -> Home:
        """Count one more user."""
        with self._lock:
            self._users += 1
        return self

    def release(self) -> None:
        """Count one user less; close after the last."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self._close()

    def __enter__(self) -> Home:
        """Use it for a while."""
        return self.acquire()

    def __exit__(self, *_exception: object) -> None:
        """Let go of it."""
        self.release()

    def namespaces(self) -> Iterator[Namespace]:
        """Yield the namespaces: a request a hundred."""
        seen = 0
        last: list[Namespace] = []
        for page in count(1):  # pragma: no branch - it has no end
            told = self.client.list_namespaces(page=page, per_page=PER_PAGE)
            if told.namespaces == last:  # none, or the same whatever page is asked for
                return
            yield from told.namespaces
            last = told.namespaces
            seen += len(last)
            if told.total_count is not None and seen >= told.total_count:
                return

    def find(self, wanted: str, *, create: bool = False) -> tuple[str, str | None]:
        """Return (id, title) of the namespace of that title; an id is taken as it is, title None.

        Costs a request a hundred namespaces, none for an id at Cloudflare.
        """
        if ID.fullmatch(wanted) and not self.local:
            return wanted.lower(), None
        titles = []
        for namespace in self.namespaces():
            if wanted in {namespace.title, namespace.id}:
                return namespace.id, namespace.title
            titles.append(namespace.title)
        if create:
            return self._create(wanted)
        raise self._unknown(wanted, titles)

    def _create(self, title: str) -> tuple[str, str | None]:
        try:
            namespace = self.client.create_namespace(title)
        except APIError as error:
            if error.code != TITLE_EXISTS:  # else somebody was faster
                raise
            return self.find(title)
        return namespace.id, namespace.title

    def _unknown(self, title: str, titles: list[str]) -> NotFoundError:
        folded = {known.casefold(): known for known in titles}
        near = [folded[one] for one in get_close_matches(title.casefold(), folded, 3, 0.5)]
        hint = f", did you mean {' or '.join(map(repr, near))}?" if near else ""
        others = f" kvdict.Account({self.place!r}) lists the {len(titles)} there," if titles else ""
        return NotFoundError(
            f"{self.place}: no namespace has the title {title!r}{hint};{others}"
            f" kvdict.open(..., create=True) makes a missing one{self._maybe_a_file(title)}",
            status=404,
            errors=[(NAMESPACE_NOT_FOUND, "namespace not found")],
        )

    def _maybe_a_file(self, title: str) -> str:
        if self.local or not os.path.isfile(title):
            return ""
        return f". Was the file of that name meant? That is kvdict.open('sqlite:///{title}')"

    def __repr__(self) -> str:
        return f"<Home {self.place}>"
