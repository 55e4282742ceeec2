"""Call: one request to the emulator, read as far as somebody asks."""

from __future__ import annotations

from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes
from wsgiref.types import InputStream, WSGIEnvironment

from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from kvdict.emulator.checks import check_value_size, parse_json
from kvdict.emulator.refusals import CauseError, Refusal, gateway
from kvdict.limits import MAX_BULK_BYTES, MAX_VALUE_BYTES

EMBEDDED = "kvdict.embedded"
"""The environ key by which an adapter says that the caller sits in this process."""
FORM_SLACK = 64 * 1024
"""Bytes that a multipart form may have beside its value."""


class Call:
    """A request: its method, the ids and the key in its path, and on demand its query and body."""

    __slots__ = ("account", "environ", "key", "method", "namespace", "partial", "path")

    def __init__(self, environ: WSGIEnvironment) -> None:
        self.environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        self.path = raw_path(environ)
        self.account = self.namespace = self.key = ""
        self.partial = False

    def query(self) -> dict[str, str]:
        """Return the query's parameters; a blank one counts as not given."""
        text = self.environ.get("QUERY_STRING")
        if not text:
            return {}
        try:
            return dict(parse_qsl(text.encode("ascii").decode(), errors="strict"))
        except ValueError:
            raise Refusal(400, 10029, "Could not URL-decode the query") from None

    def json(self, problem: str, code: int) -> Any:
        """Return the body as JSON; refuse anything else with that code."""
        body = self.body()
        try:
            return parse_json(body)
        except (ValueError, RecursionError) as error:
            raise CauseError(400, code, f"{problem}: {error}") from None

    def value_and_metadata(self) -> tuple[bytes, bytes | None]:
        """Return what a write of a value sends: the whole body, or two parts of a form."""
        kind = self.environ.get("CONTENT_TYPE", "")
        form = kind[:19].lower() == "multipart/form-data"
        length = self._length()
        room = MAX_VALUE_BYTES + (FORM_SLACK if form else 0)
        if length is not None and length > room:
            check_value_size(length)
        body = self.body()
        return _parts(body, kind) if form else (body, None)

    def body(self) -> bytes:
        """Return the body; the gateway refuses one of more than 100 MB."""
        length = self._length()
        if length is not None:
            _check_body_size(length)
            data = self._read(length)
            if len(data) < length:
                raise _cut_short()
            return data
        if not self.environ.get("wsgi.input_terminated"):
            return b""
        data = self._read(MAX_BULK_BYTES + 1)
        _check_body_size(len(data))
        return data

    def _read(self, size: int) -> bytes:
        try:
            return _read_fully(self.environ["wsgi.input"], size)
        except (OSError, ValueError):  # the connection ended, or its chunks make no sense
            if EMBEDDED in self.environ:  # what fails is a file of the caller's
                raise
            raise _cut_short() from None

    def _length(self) -> int | None:
        text = self.environ.get("CONTENT_LENGTH")
        if not text:
            return None
        if not (text.isascii() and text.isdigit()):
            raise Refusal(400, 6003, "Invalid request headers")
        return int(text)


def _check_body_size(size: int) -> None:
    if size > MAX_BULK_BYTES:
        raise gateway(413, "Request Entity Too Large")


def _read_fully(source: InputStream, size: int) -> bytes:
    """Read up to `size` bytes; only an empty read is the end."""
    pieces = []
    while size > 0 and (piece := source.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _cut_short() -> Refusal:
    return Refusal(400, 10012, "could not read the request body to its end")


def raw_path(environ: WSGIEnvironment) -> str:
    """Return the path as it was sent: PATH_INFO no longer tells %2F from a slash."""
    target = environ.get("REQUEST_URI") or environ.get("RAW_URI")
    if not target:
        return quote(f"{environ.get('SCRIPT_NAME', '')}{environ['PATH_INFO']}", encoding="latin-1")
    path = str(target).partition("?")[0]
    if path.startswith("/"):
        return path
    return "/" + path.partition("://")[2].partition("/")[2]  # as proxies ask, with the host


def decode_key(text: str) -> str:
    """Decode the key of a path, once."""
    if "%" not in text:
        if text.isascii():
            return text
        raise CauseError(400, 10042, "Could not URL-decode key name")
    pieces = text.split("%")
    if not all(_is_hex(piece[:2]) for piece in pieces[1:]):
        raise CauseError(400, 10042, "Could not URL-decode key name")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise CauseError(400, 10042, "Could not URL-decode key name") from None


def _is_hex(pair: str) -> bool:
    return len(pair) == 2 and all(digit in "0123456789abcdefABCDEF" for digit in pair)


def _parts(body: bytes, kind: str) -> tuple[bytes, bytes | None]:
    boundary = parse_options_header(kind)[1].get("boundary", "")
    try:
        parts = _read_form(body, boundary.encode())
    except (ValueError, UnicodeError):
        raise CauseError(400, 10012, "could not parse multipart form") from None
    if "value" not in parts:
        raise CauseError(400, 10012, "multipart put request has no form field 'value'")
    return parts["value"], parts.get("metadata")


def _read_form(body: bytes, boundary: bytes) -> dict[str, bytes]:
    """Return the form's parts as bytes, whether they came as text or as files."""
    if not boundary:
        raise ValueError("no boundary")
    decoder = MultipartDecoder(boundary, max_parts=100)
    decoder.receive_data(body)
    decoder.receive_data(None)
    parts: dict[str, BytesIO] = {}
    part = BytesIO()
    while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
        if isinstance(event, Field | File):
            part = parts.setdefault(event.name, BytesIO())
        elif isinstance(event, Data):
            part.write(event.data)
    return {name: part.getvalue() for name, part in parts.items()}
