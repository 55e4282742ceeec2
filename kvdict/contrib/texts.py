"""`TextBytes`: values that a framework has serialised, stored so that bulk reads can carry them."""

from __future__ import annotations

import base64

from kvdict.errors import ConfigError
from kvdict.reader import is_text
from kvdict.signing import sign, unsign

BASE64 = b"base64:"
SIGNED = b"signed:"


class TextBytes:
    """Bytes as text: UTF-8 as it is, anything else as base64 behind a mark.

    With a secret each value is base64 behind its signature (HMAC-SHA256), and one without a
    signature of that secret is refused. The signature covers the value, not its key.
    """

    def __init__(self, secret: str | bytes | None = None) -> None:
        if not isinstance(secret, str | bytes | None):
            raise ConfigError(f"a secret is a str or bytes, not {type(secret).__name__}")
        if secret is not None and not secret:
            raise ConfigError("the secret must not be empty")
        self._secret = secret.encode() if isinstance(secret, str) else secret

    def dumps(self, value: str | bytes, /) -> bytes:
        """Return the value as text."""
        data = value.encode() if isinstance(value, str) else value
        if not isinstance(data, bytes):
            raise TypeError(f"the serializer made {type(value).__name__}, not str or bytes")
        if self._secret:
            return SIGNED + base64.b64encode(sign(self._secret, data))
        if data.startswith((BASE64, SIGNED)) or not is_text(data):
            return BASE64 + base64.b64encode(data)
        return data

    def loads(self, data: bytes, /) -> bytes:
        """Return the value's bytes; ValueError if its signature is missing, or not ours."""
        if self._secret:
            raw = base64.b64decode(data.removeprefix(SIGNED), validate=True)
            value = unsign(self._secret, raw)
            if value is None:
                raise ValueError("the signature is wrong: it was not written with this secret")
            return value
        if data.startswith(SIGNED):
            raise ValueError("it is signed, and there is no secret here to check it with")
        if data.startswith(BASE64):
            return base64.b64decode(data.removeprefix(BASE64), validate=True)
        return data

    def __repr__(self) -> str:
        return "TextBytes(secret='***')" if self._secret else "TextBytes()"
