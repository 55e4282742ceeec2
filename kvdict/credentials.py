"""Which account, which token, at which base URL: from the WHERE, an argument, the environment."""

from __future__ import annotations

import logging
import os
from urllib.parse import urlsplit

from kvdict.client import check_id
from kvdict.errors import ConfigError
from kvdict.hosts import is_loopback
from kvdict.secret import Secret, check_token
from kvdict.transport import BASE_URL, TokenSource
from kvdict.where import Target, check_base_url

ACCOUNT_VARIABLE = "CLOUDFLARE_ACCOUNT_ID"
BASE_URL_VARIABLE = "CLOUDFLARE_API_BASE_URL"
HOMELESS = (
    f"no account id: set {ACCOUNT_VARIABLE}, pass account_id=, or write kv://ACCOUNT_ID/TITLE;"
    " Cloudflare's dashboard shows it under Workers & Pages"
)
TOKENLESS = (
    "no API token: set {} or pass token=; make one in Cloudflare's dashboard under My Profile,"
    " API Tokens, with the permission Workers KV Storage: Edit"
)

UNSPECIFIED = ("0.0.0.0", "::")  # noqa: S104 - whoever connects there reaches this machine

_told_of: set[str] = set()
"""The hosts of which it was said that a token goes there in clear."""

log = logging.getLogger("kvdict")


def find_base_url(target: Target, base_url: str | None) -> str:
    """Return the base URL: Cloudflare's if nothing names another."""
    url = target.location or base_url or os.environ.get(BASE_URL_VARIABLE) or BASE_URL
    return check_base_url(url, "base_url" if base_url else BASE_URL_VARIABLE)


def find_credentials(
    target: Target, account_id: str | None, token: TokenSource, base_url: str
) -> tuple[str, TokenSource]:
    """Return the id of the account and the token; one ConfigError for all that is missing."""
    account = target.account_id or account_id or os.environ.get(ACCOUNT_VARIABLE)
    token = token or _token_from(target.token_variable)
    needs_token = token is None and base_url == BASE_URL
    missing = [HOMELESS] if not account else []
    missing += [TOKENLESS.format(target.token_variable)] if needs_token else []
    if not account or missing:
        raise ConfigError("; ".join(missing) + _maybe_a_file(target))
    if token is not None:
        _warn_of_clear_text(base_url)
    return check_id(account, "account id"), token


def _token_from(variable: str) -> TokenSource:
    token = Secret(os.environ.get(variable, ""))
    return check_token(token, variable) if token else None


def _warn_of_clear_text(base_url: str) -> None:
    """Say once for each host that whoever is between here and there can read the token."""
    parts = urlsplit(base_url)
    host = parts.netloc
    name = parts.hostname or ""
    is_near = is_loopback(name) or name in UNSPECIFIED
    if parts.scheme == "https" or is_near or host in _told_of:
        return
    _told_of.add(host)
    log.warning(
        "the API token is sent to %s without encryption: all that is between can read it; use"
        " https (kv+https://...), or a token that is good for nothing else",
        host,
    )


def _maybe_a_file(target: Target) -> str:
    if not target.is_plain:
        return ""
    name = str(target.name)
    file = name if "." in name or "/" in name else f"{name}.db"
    return f". Was a local file meant? That is kvdict.open('sqlite:///{file}')"
