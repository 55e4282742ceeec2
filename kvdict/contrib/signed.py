"""`SignedPickle`: pickle that only those who know a secret can have written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from kvdict.codecs import PickleCodec
from kvdict.errors import ConfigError


class SignedPickle:
    """Pickle signed by the first secret; whatever any of them has signed is read.

    salt: before each secret, so that no other use of the secrets signs what would pass here.
    """

    def __init__(self, secrets: Sequence[str | bytes], salt: bytes = b"") -> None:
        if not secrets or isinstance(secrets, str | bytes):
            raise ConfigError("give a SignedPickle a list of secrets, the newest first")
        self._codecs = [
            PickleCodec(salt + (secret.encode() if isinstance(secret, str) else secret))
            for secret in secrets
        ]

    def dumps(self, value: Any, /) -> bytes:
        """Return the pickled object as base64, signed."""
        return self._codecs[0].dumps(value)

    def loads(self, data: bytes, /) -> Any:
        """Return the object; ValueError if none of the secrets has signed it."""
        *others, last = self._codecs
        for codec in others:
            with suppress(ValueError):
                return codec.loads(data)
        return last.loads(data)

    def __repr__(self) -> str:
        return "SignedPickle('***')"
