"""`Account`: the namespaces of an account, by title."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from kvdict.client import Client
from kvdict.codecs import Codec
from kvdict.config import InOptions, check_title, open_home, open_in
from kvdict.errors import ClosedError, NotFoundError
from kvdict.home import Home
from kvdict.models import Namespace
from kvdict.namespace import KVNamespace
from kvdict.secret import Secret
from kvdict.transport import TokenSource
from kvdict.where import parse_account

if TYPE_CHECKING:
    from typing import Unpack


class Account(Mapping[str, KVNamespace[Any]]):
    """A mapping from title to open namespace.

    `where` is kv://ACCOUNT_ID, kv+http://HOST:PORT/ACCOUNT, sqlite:///app.db, memory://NAME, a
    path, or the environment's account. Looking up a title costs a request for each hundred
    namespaces; nothing is remembered in between. What was opened from an account has to be
    closed by itself, and stays open when the account is closed.
    """

    def __init__(
        self,
        where: str | os.PathLike[str] | None = None,
        /,
        *,
        token: TokenSource = None,
        account_id: str | None = None,
        base_url: str | None = None,
        max_wait: float = 300,
    ) -> None:
        token = Secret(token) if isinstance(token, str) else token
        self._closed = False
        self._home = open_home(
            parse_account(where),
            token=token,
            account_id=account_id,
            base_url=base_url,
            max_wait=max_wait,
        ).acquire()

    @property
    def _open_home(self) -> Home:
        self._check_open()
        return self._home

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{self!r} is closed; open it again")

    @property
    def client(self) -> Client:
        """The client: one method per operation of the API."""
        return self._open_home.client

    def __getitem__(self, title: str) -> KVNamespace[Any]:
        """Open the namespace of that title with the default options; KeyError without it."""
        try:
            return self.open(title)
        except NotFoundError as error:
            raise KeyError(title) from error

    def __iter__(self) -> Iterator[str]:
        """Yield the titles: a request a hundred."""
        return (namespace.title for namespace in self._open_home.namespaces())

    def __len__(self) -> int:
        """Count the namespaces: a request a hundred."""
        return sum(1 for _ in self)

    def __contains__(self, title: object) -> bool:
        """Tell whether a namespace has that title: a request a hundred; opens nothing."""
        return any(title == known for known in self)

    def namespaces(self) -> Iterator[Namespace]:
        """Yield the namespaces with id and title: a request a hundred; opens nothing."""
        return self._open_home.namespaces()

    def open(
        self, title: str, *, codec: str | Codec[Any] = "json", **options: Unpack[InOptions]
    ) -> KVNamespace[Any]:
        """Open the namespace of that title, with the options of `kvdict.open`.

        A missing one is a NotFoundError that names the near titles, in every home.
        """
        options.setdefault("create", False)
        return open_in(self._open_home, title, codec=codec, **options)

    def create(self, title: str, *, jurisdiction: str | None = None) -> KVNamespace[Any]:
        """Make a namespace and open it: 1 request, never tried twice.

        `jurisdiction` ("eu", "us", "fedramp") says where Cloudflare keeps the data, for good.
        """
        made = self.client.create_namespace(check_title(title), jurisdiction=jurisdiction)
        return open_in(self._open_home, title, found=(made.id, made.title))

    def rename(self, old: str, new: str) -> None:
        """Give a namespace another title: 1 request beside the look-up."""
        check_title(new)
        namespace_id, _ = self._open_home.find(old)
        self.client.rename_namespace(namespace_id, new)

    def delete(self, title: str) -> None:
        """Delete a namespace and all its pairs: 1 request beside the look-up."""
        namespace_id, _ = self._open_home.find(title)
        self.client.delete_namespace(namespace_id)

    def close(self) -> None:
        """Close the account; namespaces opened from it stay open."""
        if not self._closed:
            self._closed = True
            self._home.release()

    def __enter__(self) -> Self:
        """Return the account, closed at the end of the block."""
        self._check_open()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the account."""
        self.close()

    def __repr__(self) -> str:
        home = getattr(self, "_home", None)  # None in the traceback of a failed __init__
        return f"<Account {home.place!r}>" if home else "<Account, not open>"
