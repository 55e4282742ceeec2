"""A token that does not show: in a repr, in a traceback with locals, in a pickle."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NoReturn

from kvdict.errors import ConfigError


class Secret(str):
    """A str whose repr is masked and which is not pickled."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled; take it from the environment again")


def bare(error: BaseException) -> BaseException:
    """Return the error without what may hold a token: its request, its frames, and its causes'."""
    seen: set[int] = set()
    links: list[object] = [error]
    while links:
        link = links.pop()
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        link.__traceback__ = None
        for name in ("request", "response"):
            if name in getattr(link, "__dict__", ()):
                with suppress(AttributeError):
                    setattr(link, name, None)
        links += [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]
        links += getattr(link, "exceptions", ())  # those of a group
    return error


def check_token(token: Any, where: str) -> Secret:
    """Return the token; ConfigError, without showing it, for one that no header can carry."""
    if not isinstance(token, str) or not token:
        kind, token = _kind(token), None  # bytes, say: a traceback with locals would show them
        raise ConfigError(f"{where}: expected an API token as a str, not {kind}")
    token = hidden = Secret(token)
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{where}: the API token holds a space, a newline or another character that no token"
            " has; was it read from a file without .strip()?"
        )
    return hidden


def _kind(token: Any) -> str:
    return "an empty one" if token == "" else type(token).__name__
