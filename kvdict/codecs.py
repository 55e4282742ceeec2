"""How values become what KV stores: text or bytes, and back.

A codec is anything with `dumps(value) -> str | bytes` and `loads(bytes)`; the modules `json` and
`pickle` are codecs. Values whose encoding is text travel a hundred (reads) or ten thousand
(writes) to a request; values that are not text are read one by one.
"""

from __future__ import annotations

import base64
import binascii
import json
import pickle
from types import ModuleType
from typing import Any, NoReturn, Protocol, TypeVar

from kvdict.errors import CodecError, ConfigError
from kvdict.limits import refuse_other_keys
from kvdict.phrases import shorten
from kvdict.signing import sign, unsign

T = TypeVar("T")


class Codec(Protocol[T]):
    """What `codec=` takes: the modules `json` and `pickle` have these two functions too."""

    def dumps(self, value: T, /) -> str | bytes:
        """Return what is to be stored."""
        ...

    def loads(self, data: bytes, /) -> T:
        """Return the value whose encoding `data` is."""
        ...


PLAIN = (str, int, float, type(None))
"""What holds no other values."""
BYTES_LIKE = (bytes, bytearray, memoryview)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class JSONCodec:
    """JSON as a Worker's `get(key, "json")` reads it: UTF-8, compact.

    NaN, infinities and dict keys that are not str are refused, tuples come back as lists.
    """

    def __init__(self) -> None:
        encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self._encode = encoder.encode
        self._escape = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
        decoder = json.JSONDecoder(parse_constant=_no_constant)
        self._scan, self._decode = decoder.raw_decode, decoder.decode

    def dumps(self, value: Any, /) -> bytes:
        """Return the value as JSON; ValueError or TypeError if it has no JSON of its own."""
        text = self._encode(value)
        if not isinstance(value, PLAIN):
            refuse_other_keys(value)
        try:
            return text.encode()
        except UnicodeEncodeError:  # a lone surrogate: JSON can hold it as an escape
            return self._escape(value).encode()

    def loads(self, data: bytes, /) -> Any:
        """Return the value that the JSON text means."""
        text = data.decode()
        try:
            value, end = self._scan(text)
        except json.JSONDecodeError:  # space before it, perhaps
            return self._decode(text)
        return value if end == len(text) else self._decode(text)

    def __reduce__(self) -> str:
        return "JSON"

    def __repr__(self) -> str:
        return "'json'"


class TextCodec:
    """A str, stored as its UTF-8: what a Worker's `get(key)` gives."""

    def dumps(self, value: str, /) -> bytes:
        """Return the text as UTF-8."""
        if not isinstance(value, str):
            raise TypeError(f"it is {type(value).__name__}, not str")
        return value.encode()

    def loads(self, data: bytes, /) -> str:
        """Return the text."""
        return data.decode()

    def __reduce__(self) -> str:
        return "TEXT"

    def __repr__(self) -> str:
        return "'text'"


class BytesCodec:
    """Bytes, stored as they are: what a Worker's `get(key, "arrayBuffer")` gives."""

    def dumps(self, value: bytes, /) -> bytes:
        """Return the bytes."""
        if not isinstance(value, BYTES_LIKE):
            raise TypeError(f"it is {type(value).__name__}, not bytes")
        return bytes(value)

    def loads(self, data: bytes, /) -> bytes:
        """Return the bytes."""
        return data

    def __reduce__(self) -> str:
        return "BYTES"

    def __repr__(self) -> str:
        return "'bytes'"


class PickleCodec:
    """Any picklable object, stored as base64 text so that bulk reads can carry it.

    Unpickling runs code that whoever wrote the value chose. With `secret=` each value is signed
    (HMAC-SHA256) and one with a wrong signature is refused before it is unpickled; the signature
    covers the value, not its key, so a writer may still move a signed value to another key.
    """

    def __init__(self, secret: str | bytes | None = None, *, protocol: int | None = None) -> None:
        if not isinstance(secret, str | bytes | None):
            raise ConfigError(f"a secret is str or bytes, not {type(secret).__name__}")
        if secret is not None and not secret:
            raise ConfigError("the secret of a PickleCodec must not be empty")
        self._secret = secret.encode() if isinstance(secret, str) else secret
        self.protocol = protocol

    def dumps(self, value: Any, /) -> bytes:
        """Return the pickled object as base64, signed if there is a secret."""
        data = pickle.dumps(value, self.protocol)
        return base64.b64encode(sign(self._secret, data) if self._secret else data)

    def loads(self, data: bytes, /) -> Any:
        """Return the object; ValueError if the signature is not ours."""
        raw = binascii.a2b_base64(data, strict_mode=True)
        pickled = unsign(self._secret, raw) if self._secret else raw
        if pickled is None:
            raise ValueError("the signature is wrong: it was not written with this secret")
        return pickle.loads(pickled)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._secret:
            raise TypeError("a PickleCodec with a secret is not pickled: it would be written down")
        return PickleCodec, (), {"protocol": self.protocol}

    def __repr__(self) -> str:
        return "PickleCodec(secret='***')" if self._secret else "'pickle'"


JSON = JSONCodec()
TEXT = TextCodec()
BYTES = BytesCodec()
PICKLE = PickleCodec()
BY_NAME: dict[str, Codec[Any]] = {"json": JSON, "text": TEXT, "bytes": BYTES, "pickle": PICKLE}


def find_codec(codec: str | Codec[Any]) -> Codec[Any]:
    """Return the codec of that name, or the codec itself; ConfigError if it is none."""
    if isinstance(codec, str):
        if codec not in BY_NAME:
            raise ConfigError(f"unknown codec {codec!r}; known are {', '.join(BY_NAME)}")
        return BY_NAME[codec]
    if not callable(getattr(codec, "dumps", None)) or not callable(getattr(codec, "loads", None)):
        raise ConfigError(
            f"{codec!r} is no codec: it needs dumps(value) -> str | bytes and loads(bytes)"
        )
    return codec


def codec_name(codec: Codec[Any]) -> str:
    """Return the codec as messages name it."""
    return codec.__name__ if isinstance(codec, ModuleType) else repr(codec)


def encode(codec: Codec[Any], key: str, value: Any) -> bytes:
    """Return the bytes to store for a value; CodecError if the codec does not take it."""
    try:
        data = codec.dumps(value)
        if isinstance(data, str):
            return data.encode()
    except Exception as error:  # a codec is the user's own code
        raise CodecError(
            f"key {shorten(key)}: {codec_name(codec)} cannot encode this {type(value).__name__}:"
            f" {error}; {_advice(codec, value)}"
        ) from error
    if isinstance(data, bytes):
        return data
    raise CodecError(
        f"key {shorten(key)}: {codec_name(codec)}.dumps returned {type(data).__name__},"
        " not str or bytes"
    )


def decode(codec: Codec[T], key: str, data: bytes) -> T:
    """Return the value of stored bytes; CodecError if the codec cannot read them."""
    try:
        return codec.loads(data)
    except Exception as error:  # a codec is the user's own code
        kind = type(error).__name__
        raise CodecError(
            f"key {shorten(key)}: {codec_name(codec)} cannot decode what is stored"
            f" ({len(data)} bytes): {kind}: {error}; see it with"
            f" kv.using('bytes')[{shorten(key)}]"
            + (
                ""
                if isinstance(codec, TextCodec)
                else ", and open text that a Worker wrote with codec='text'"
            )
        ) from error


def _advice(codec: Codec[Any], value: object) -> str:
    if codec is BYTES or codec is TEXT:
        return "convert it, or open the namespace with codec='json'"
    if isinstance(value, bytes):
        return "store it through kv.using('bytes')"
    return "convert it first, or open the namespace with a codec that takes it"
