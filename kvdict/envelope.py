"""What the bytes of a shelf's values are stored in: base64, which is text, and perhaps signed."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from kvdict.errors import ConfigError
from kvdict.secret import Secret
from kvdict.signing import sign, unsign


@dataclass(frozen=True, slots=True)
class Envelope:
    """Turns a value's bytes into base64, signed if there is a secret, and back.

    The signature is over the full key, prefix included, and the bytes. Text is what bulk reads
    carry; but `as_it_is` leaves what is not signed alone.
    """

    secret: Secret | None
    prefix: str
    as_it_is: bool

    def seal(self, key: str, data: bytes) -> bytes:
        """Return what is to be stored."""
        if self.secret is not None:
            data = sign(_bytes(self.secret), data, self._about(key))
        elif self.as_it_is:
            return data
        return base64.b64encode(data)

    def unseal(self, key: str, stored: bytes) -> bytes:
        """Return the bytes that were sealed; ValueError if they were not, for this key."""
        if self.secret is None and self.as_it_is:
            return stored
        raw = base64.b64decode(stored, validate=True)
        data = raw if self.secret is None else unsign(_bytes(self.secret), raw, self._about(key))
        if data is None:
            raise ValueError("it was not written with this secret, or under another key")
        return data

    def _about(self, key: str) -> bytes:
        name = (self.prefix + key).encode("utf-8", "surrogatepass")
        return b"%d:%b" % (len(name), name)


def hide(secret: str | bytes | None) -> Secret | None:
    """Return the secret as one that does not show in a traceback."""
    if secret is None:
        return None
    if not secret:
        raise ConfigError("the secret must not be empty; None is no secret")
    return Secret(secret if isinstance(secret, str) else secret.decode("utf-8", "surrogateescape"))


def _bytes(secret: Secret) -> bytes:
    return secret.encode("utf-8", "surrogateescape")
