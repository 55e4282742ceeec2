"""`open`: from a WHERE and the environment to a namespace."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, overload
from urllib.parse import quote

from kvdict.answers import NAMESPACE_NOT_FOUND
from kvdict.backing import Backing
from kvdict.buffer import WriteBuffer
from kvdict.cache import ReadCache
from kvdict.client import Client, check_id
from kvdict.codecs import Codec, find_codec
from kvdict.credentials import find_base_url, find_credentials
from kvdict.errors import ConfigError, NotFoundError
from kvdict.home import Home
from kvdict.limits import MAX_TITLE_LENGTH, check_prefix
from kvdict.local import LOCAL_ACCOUNT, LOCAL_BASE_URL, open_file, open_memory
from kvdict.namespace import KVNamespace
from kvdict.secret import Secret
from kvdict.transport import BASE_URL, TokenSource, Transport
from kvdict.where import Target, kv_address, local_address, parse_where
from kvdict.writes import Seconds

if TYPE_CHECKING:
    from typing import Unpack

V = TypeVar("V")


class InOptions(TypedDict, total=False):
    """What opening a namespace of an open home takes besides the codec."""

    buffer: bool | WriteBuffer | None
    cache: bool | ReadCache
    read_ahead: bool
    create: bool | None
    readonly: bool
    prefix: str
    expiration_ttl: Seconds | None


class Options(InOptions, total=False):
    """What `open` takes besides where and codec."""

    token: TokenSource
    account_id: str | None
    base_url: str | None
    max_wait: float


@overload
def open(
    where: str | os.PathLike[str] | None = None,
    /,
    *,
    codec: Literal["json"] = "json",
    **options: Unpack[Options],
) -> KVNamespace[Any]: ...
@overload
def open(
    where: str | os.PathLike[str] | None = None,
    /,
    *,
    codec: Literal["text"],
    **options: Unpack[Options],
) -> KVNamespace[str]: ...
@overload
def open(
    where: str | os.PathLike[str] | None = None,
    /,
    *,
    codec: Literal["bytes"],
    **options: Unpack[Options],
) -> KVNamespace[bytes]: ...
@overload
def open(
    where: str | os.PathLike[str] | None = None,
    /,
    *,
    codec: Literal["pickle"],
    **options: Unpack[Options],
) -> KVNamespace[Any]: ...
@overload
def open(
    where: str | os.PathLike[str] | None = None,
    /,
    *,
    codec: Codec[V],
    **options: Unpack[Options],
) -> KVNamespace[V]: ...
@overload
def open(
    where: str | os.PathLike[str] | None = None,
    /,
    *,
    codec: str,
    **options: Unpack[Options],
) -> KVNamespace[Any]: ...
def open(
    where: str | os.PathLike[str] | None = None,
    /,
    *,
    codec: str | Codec[Any] = "json",
    buffer: bool | WriteBuffer | None = None,
    cache: bool | ReadCache = False,
    read_ahead: bool = True,
    create: bool | None = None,
    readonly: bool = False,
    prefix: str = "",
    expiration_ttl: Seconds | None = None,
    token: TokenSource = None,
    account_id: str | None = None,
    base_url: str | None = None,
    max_wait: float = 300,
) -> KVNamespace[Any]:
    """Open a KV namespace as a dict.

    `where` is one of::

        sqlite:///app.db                   a local file, no account; also a pathlib.Path
        memory://                          in memory; memory://NAME is shared in the process
        links                              Cloudflare: a title, or an id (32 hex digits)
        kv://ACCOUNT_ID/links              the same with the account
        kv+http://HOST:PORT/ACCOUNT/links  an emulator

    and without it what KVDICT_URL holds. Account, token and base URL come from the arguments or
    from CLOUDFLARE_ACCOUNT_ID, CLOUDFLARE_API_TOKEN and CLOUDFLARE_API_BASE_URL; `?token_env=NAME`
    in a kv URL names another variable. In a local home `?namespace=TITLE` picks one of several.

    Costs no request for an id, else one for each hundred namespaces of the account.

    codec: "json", "text", "bytes", "pickle", or anything with dumps and loads.
    buffer: None: write-behind at Cloudflare and on an emulator, written through in a local home;
    True, False, or a WriteBuffer with options of its own.
    cache: True, or a ReadCache with options of its own: what was read or written is served from
    memory for a minute.
    read_ahead: whether a loop that reads the keys one by one in their order is served in bulk.
    create: whether to make a missing namespace; None: in a local home only.
    readonly: refuse writes before any request.
    prefix: put before every key.
    expiration_ttl: seconds or a timedelta, for every write that names no expiry of its own.
    account_id, base_url: instead of the environment's.
    token: a string, or a callable that is asked for each attempt.
    max_wait: seconds that one request may spend on allowance and retries together.

    Raises ConfigError where there is nothing to open, NotFoundError for an unknown title.
    """
    token = Secret(token) if isinstance(token, str) else token
    target = parse_namespace(where)
    if create is False:
        _check_there(target)
    with open_home(
        target,
        token=token,
        account_id=account_id,
        base_url=base_url,
        max_wait=max_wait,
        readonly=readonly,
    ) as home:
        return open_in(
            home,
            target.namespace,
            codec=codec,
            buffer=buffer,
            cache=cache,
            read_ahead=read_ahead,
            create=create,
            readonly=readonly,
            prefix=prefix,
            expiration_ttl=expiration_ttl,
        )


def parse_namespace(where: str | os.PathLike[str] | None) -> Target:
    """Say which namespace a WHERE means; ConfigError if it names an account alone."""
    target = parse_where(where)
    if target.name is None and target.kind == "kv":
        if target.account_id:
            try:
                check_id(target.account_id, "account id")
            except ConfigError as error:
                form = (
                    "the account: kv+http://HOST:PORT/ACCOUNT/TITLE" if target.location
                    else "a third slash: kv:///TITLE"
                )  # fmt: skip
                raise ConfigError(f"{error}; a title stands behind {form}") from error
        raise ConfigError(f"{target} names an account and no namespace in it; add /TITLE")
    return target


def _check_there(target: Target) -> None:
    """Raise NotFoundError for a file that is not there: opening its home would make it."""
    if target.is_new_file:
        raise NotFoundError(
            f"{target.location}: there is no such file; no namespace has the title"
            f" {target.namespace!r}; kvdict.open(..., create=True) makes a missing one",
            status=404,
            errors=[(NAMESPACE_NOT_FOUND, "namespace not found")],
        )


def open_in(
    home: Home,
    name: str,
    *,
    found: tuple[str, str | None] | None = None,
    codec: str | Codec[Any] = "json",
    buffer: bool | WriteBuffer | None = None,
    cache: bool | ReadCache = False,
    read_ahead: bool = True,
    create: bool | None = None,
    readonly: bool = False,
    prefix: str = "",
    expiration_ttl: Seconds | None = None,
) -> KVNamespace[Any]:
    """Open a namespace of this home by title or id, unless its id and title are `found`."""
    check_title(name)
    check_prefix(prefix)
    chosen = find_codec(codec)
    if not isinstance(buffer, WriteBuffer | bool | None):
        raise ConfigError(f"buffer is {buffer!r}, expected None, True, False or a WriteBuffer")
    if not isinstance(buffer, WriteBuffer):
        buffer = WriteBuffer(write_through=home.local if buffer is None else not buffer)
    reads = (ReadCache() if cache else None) if isinstance(cache, bool) else cache
    if reads is not None and not isinstance(reads, ReadCache):
        raise ConfigError(f"cache is {cache!r}, expected True, False or a ReadCache")
    make = home.local and not readonly if create is None else create
    namespace_id, title = found or home.find(name, create=make)
    return KVNamespace(
        Backing(home, namespace_id, title, buffer, reads, reads_ahead=read_ahead),
        chosen,
        prefix=prefix,
        expiration_ttl=expiration_ttl,
        readonly=readonly,
    )


def check_title(title: str) -> str:
    """Return the title; ConfigError for an empty or too long one."""
    if not title or len(title) > MAX_TITLE_LENGTH:
        raise ConfigError(
            f"a namespace's title has 1 to {MAX_TITLE_LENGTH} characters, not {len(title)}"
        )
    if any("\ud800" <= character <= "\udfff" for character in title):
        raise ConfigError(f"the title {title!r} holds half a character, a lone surrogate")
    return title


def open_home(
    target: Target,
    *,
    token: TokenSource = None,
    account_id: str | None = None,
    base_url: str | None = None,
    max_wait: float = 300,
    readonly: bool = False,
) -> Home:
    """Open the home of a target; it closes after its last user, `with` counts as one."""
    if isinstance(max_wait, str) or not max_wait >= 0:
        raise ConfigError(f"max_wait is {max_wait!r}, expected seconds, 0 and more")
    if target.kind == "kv":
        return _cloudflare_home(target, token, account_id, base_url, max_wait)
    return _local_home(target, readonly)


def _cloudflare_home(
    target: Target,
    token: TokenSource,
    account_id: str | None,
    base_url: str | None,
    max_wait: float,
) -> Home:
    url = find_base_url(target, base_url)
    account, token = find_credentials(target, account_id, token, url)
    transport = Transport(url, token, max_wait=max_wait)
    address = partial(kv_address, target, account)
    options: dict[str, Any] = {"max_wait": max_wait}
    if not target.location and url != BASE_URL:
        options["base_url"] = url
    return Home(
        address("").rstrip("/"),
        Client(transport, account),
        local=False,
        address=address,
        reopen=open,
        options=options,
        close=transport.close,
    )


def _local_home(target: Target, readonly: bool) -> Home:
    if target.kind == "file":
        path = os.path.abspath(target.location)
        root = f"sqlite:///{quote(os.fsencode(path))}"
        adapter, close_store = open_file(path, readonly=readonly)
    else:
        root = f"memory://{quote(target.location, safe='')}"
        adapter, close_store = open_memory(target.location)
    transport = Transport(LOCAL_BASE_URL, adapter=adapter)

    def close() -> None:
        transport.close()
        close_store()

    return Home(
        root,
        Client(transport, LOCAL_ACCOUNT),
        local=True,
        address=partial(local_address, root),
        reopen=None if root == "memory://" else open,
        options={},
        close=close,
    )
