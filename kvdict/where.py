"""What a WHERE means, a URL, a title, an id, a path or what the environment names; and back."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from kvdict.errors import ConfigError
from kvdict.transport import BASE_URL

TOKEN_VARIABLE = "CLOUDFLARE_API_TOKEN"  # noqa: S105 - a name, not a token
URL_VARIABLE = "KVDICT_URL"
DEFAULT_NAMESPACE = "default"
OFFLINE_VARIABLE = "KVDICT_OFFLINE"
WEB = {"http", "https"}
SECRETS = {"token", "api_token", "password"}
"""Options that people try to pass in a URL, and that no URL holds."""
OFFLINE_MEMORY = "kvdict-offline"
"""The memory that all namespaces share while KVDICT_OFFLINE is plain memory://."""

FORMS = """\
  sqlite:///app.db                   a local file, no account (?namespace=TITLE for one of several)
  memory://                          in memory (memory://NAME: shared in the process)
  links                              the namespace of that title at Cloudflare, or its id
  kv://ACCOUNT_ID/links              the same with the account (kv:///links: from the environment)
  kv+http://HOST:PORT/ACCOUNT/links  an emulator
and a pathlib.Path is a local file"""


@dataclass(frozen=True, slots=True)
class Target:
    """Which home, and the title or id of the namespace in it, None if it says none.

    `location` is a file, the name of a memory, or the base URL of an emulator.
    """

    kind: Literal["file", "memory", "kv"]
    location: str = ""
    name: str | None = None
    account_id: str | None = None
    token_variable: str = TOKEN_VARIABLE
    is_plain: bool = False
    """Tell that it was a word without a scheme: perhaps a file was meant."""

    @property
    def namespace(self) -> str:
        """Return the title or id to open, the default one's where it says none."""
        return self.name or DEFAULT_NAMESPACE

    @property
    def is_new_file(self) -> bool:
        """Tell whether it is a file that is not there yet."""
        return self.kind == "file" and not os.path.exists(self.location)

    def __str__(self) -> str:
        return f"kv://{self.account_id or ''}" if self.kind == "kv" else self.location


def parse_where(where: str | os.PathLike[str] | None) -> Target:
    """Say what a WHERE means; ConfigError if it means nothing."""
    if isinstance(where, os.PathLike):
        return Target("file", _checked(os.fspath(where)))
    if where is None:
        where = os.environ.get(URL_VARIABLE)
    if not where:
        raise ConfigError(f"nothing to open; give it, or set {URL_VARIABLE}, to one of\n{FORMS}")
    if not isinstance(where, str):
        raise ConfigError(f"expected a URL, a title or a path, not {where!r}; one of\n{FORMS}")
    if "://" in where:
        return _offline_or(_parse_url(where))
    if where.partition(":")[0] in _PARSERS and ":" in where:
        raise ConfigError(f"{_harmless(where)}: two slashes are missing; understood are\n{FORMS}")
    return _offline_or(Target("kv", name=where, is_plain=True))


def parse_account(where: str | os.PathLike[str] | None) -> Target:
    """Say which home a WHERE means, whatever namespace it names; a plain word is an account id."""
    if where is None:
        where = os.environ.get(URL_VARIABLE)
        if where is None or "://" not in where:
            return _offline_or(Target("kv"))
    if isinstance(where, str) and "://" not in where:
        return _offline_or(Target("kv", account_id=where))
    return replace(parse_where(where), name=None)


def check_base_url(url: str, where: str) -> str:
    """Return the base URL; ConfigError if it is not one of HTTP, or has a password in it."""
    if any(character.isspace() for character in url):
        raise ConfigError(f"{where}: there is white space in {_harmless(url)}; strip() it")
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is out of range
    except ValueError as error:
        raise ConfigError(f"{where}: expected a URL such as {BASE_URL}: {error}") from error
    if "@" in parts.netloc:
        raise ConfigError(f"{where}: a base URL must not hold a user name or password")
    if parts.scheme not in WEB or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{where}: expected a URL such as {BASE_URL}, not {_harmless(url)}")
    return url.rstrip("/")


def kv_address(target: Target, account: str, title: str) -> str:
    """Return the URL of a namespace in that account, where the target says it is."""
    emulator = target.location.removesuffix("/client/v4")
    root = f"kv+{emulator}/{account}" if emulator else f"kv://{account}"
    variable = target.token_variable
    query = "" if variable == TOKEN_VARIABLE else f"?token_env={quote(variable)}"
    return f"{root}/{quote(title, safe='')}{query}"


def local_address(root: str, title: str) -> str:
    """Return the URL of a namespace in a file or memory, whose own is `root`."""
    return root if title == DEFAULT_NAMESPACE else f"{root}?namespace={quote(title, safe='')}"


def _parse_url(url: str) -> Target:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"{_harmless(url)}: {error}; understood are\n{FORMS}") from error
    parse = _PARSERS.get(parts.scheme)
    if parse is None:
        hint = f"; an emulator is kv+{parts.scheme}://..." if parts.scheme in WEB else ""
        raise ConfigError(f"unknown scheme in {_harmless(url)}{hint}; understood are\n{FORMS}")
    if "@" in parts.netloc:
        raise _with_secret(url)
    if parts.fragment:
        raise ConfigError(f"{_harmless(url)}: write # as %23")
    option = "token_env" if parts.scheme.startswith("kv") else "namespace"
    return parse(url, parts, _option(url, parts.query, option))


def _parse_sqlite(url: str, parts: SplitResult, namespace: str | None) -> Target:
    path = unquote(parts.path)[1:]
    if path == ":memory:":
        raise ConfigError(f"{url!r}: in memory is memory:// here")
    if parts.netloc or not path:
        raise ConfigError(
            f"{url!r}: expected sqlite:///RELATIVE.db or sqlite:////ABSOLUTE.db, with three or"
            " four slashes; memory:// is in memory"
        )
    return Target("file", _checked(path), namespace)


def _checked(path: str) -> str:
    """Return the path; ConfigError for one that no file system takes."""
    try:
        if b"\0" not in os.fsencode(path):
            return path
    except UnicodeEncodeError:
        pass
    raise ConfigError(f"{path!r} is no name of a file: it holds a NUL or half a character")


def _parse_memory(_url: str, parts: SplitResult, namespace: str | None) -> Target:
    return Target("memory", unquote(parts.netloc + parts.path), namespace)


def _parse_kv(_url: str, parts: SplitResult, token_variable: str | None) -> Target:
    name = unquote(parts.path[1:]) or None
    account = unquote(parts.netloc) or None
    return Target("kv", "", name, account, token_variable or TOKEN_VARIABLE)


def _parse_emulator(url: str, parts: SplitResult, token_variable: str | None) -> Target:
    scheme = parts.scheme.removeprefix("kv+")
    base_url = check_base_url(f"{scheme}://{parts.netloc}/client/v4", _harmless(url))
    account, _, name = parts.path[1:].partition("/")
    return Target(
        "kv",
        base_url,
        unquote(name) or None,
        unquote(account) or None,
        token_variable or TOKEN_VARIABLE,
    )


_PARSERS: dict[str, Callable[[str, SplitResult, str | None], Target]] = {
    "sqlite": _parse_sqlite,
    "memory": _parse_memory,
    "kv": _parse_kv,
    "kv+http": _parse_emulator,
    "kv+https": _parse_emulator,
}


def _option(url: str, query: str, known: str) -> str | None:
    """Return the value of the one option that this kind of URL has."""
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in options.items():
        if name in SECRETS:
            raise _with_secret(url)
        if name != known:
            raise ConfigError(
                f"{_harmless(url)}: unknown option {name!r}; understood in the URL is ?{known}=,"
                " other options are keyword arguments of kvdict.open"
            )
        if not value:
            raise ConfigError(f"{_harmless(url)}: the option ?{known}= is empty; give it a value")
    return options.get(known)


def _with_secret(url: str) -> ConfigError:
    return ConfigError(
        f"{_harmless(url)}: a URL never holds a token or password; put the token into"
        f" {TOKEN_VARIABLE}, or name another variable with ?token_env=NAME"
    )


def _harmless(url: str) -> str:
    """Return the URL as it may stand in a message: what may be a password or token is left out."""
    before, at, after = url.rpartition("@")
    shown = f"{before.partition('://')[0]}://***@{after}" if at else url
    return repr(re.sub(r"([?&][^=&#]*=|#)[^&#]+", r"\1***", shown))


def _offline_or(target: Target) -> Target:
    """Return the target, or its stand-in where KVDICT_OFFLINE names one."""
    url = os.environ.get(OFFLINE_VARIABLE)
    if not url or target.kind != "kv" or target.location:
        return target
    stand_in = _parse_url(url) if "://" in url else target
    if stand_in.kind == "kv":
        raise ConfigError(f"{OFFLINE_VARIABLE} is {_harmless(url)}, not a sqlite or memory URL")
    return replace(stand_in, location=stand_in.location or OFFLINE_MEMORY, name=target.name)
