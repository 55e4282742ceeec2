"""Bytes behind a signature (HMAC-SHA256): who does not know the secret cannot make them."""

from __future__ import annotations

import hashlib
import hmac

SIZE = hashlib.sha256().digest_size


def sign(secret: bytes, data: bytes, about: bytes = b"") -> bytes:
    """Return the data behind its signature, which covers what it is `about` too."""
    return hmac.digest(secret, about + data, hashlib.sha256) + data


def unsign(secret: bytes, signed: bytes, about: bytes = b"") -> bytes | None:
    """Return the data, None if it was not signed so with this secret."""
    signature, data = signed[:SIZE], signed[SIZE:]
    expected = hmac.digest(secret, about + data, hashlib.sha256)
    return data if hmac.compare_digest(signature, expected) else None
