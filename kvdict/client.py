"""Every operation of the API, one method each, one request a method.

No paging, splitting or caching here. Paths and answers are those of
developers.cloudflare.com/api/resources/kv; unknown fields in answers are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode

from urllib3.fields import RequestField
from urllib3.filepost import encode_multipart_formdata

from kvdict.errors import ConfigError, LimitError
from kvdict.limits import ILLEGAL_KEYS
from kvdict.models import BulkResult, Entry, Key, KeyPage, Namespace, NamespacePage, RawValue
from kvdict.transport import BULK_READ_TIMEOUT, MAX_BULK_ANSWER, Request, Transport
from kvdict.writes import Expiry, PackedWrite, Write

T = TypeVar("T")
Envelope = Mapping[str, Any]

_COUNTS = "page", "per_page", "count", "total_count"
ID = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)


class Client:
    """The thirteen operations; namespaces are named by id, keys and values are raw.

    Every method makes one request (and the transport's attempts at it), and raises `APIError`,
    `TransportError` or one of their kinds. `max_wait` stands in for the transport's.
    """

    def __init__(
        self, transport: Transport, account_id: str, *, max_wait: float | None = None
    ) -> None:
        self.transport = transport
        self._max_wait = max_wait
        self.account_id = check_id(account_id, "account id")
        self._root = f"/accounts/{self.account_id}/storage/kv/namespaces"

    def list_namespaces(
        self,
        *,
        page: int | None = None,
        per_page: int | None = None,
        order: Literal["id", "title"] | None = None,
        direction: Literal["asc", "desc"] | None = None,
    ) -> NamespacePage:
        """Return one page of the account's namespaces; a page past the end is empty."""
        query = _query(page=page, per_page=per_page, order=order, direction=direction)
        return self._ask(Request("GET", self._root, query), _namespace_page)

    def create_namespace(self, title: str, *, jurisdiction: str | None = None) -> Namespace:
        """Make a namespace and return it; the only operation that is never tried twice."""
        body: dict[str, str] = {"title": title}
        if jurisdiction is not None:
            body["jurisdiction"] = jurisdiction
        request = Request("POST", self._root, body=_json(body), idempotent=False)
        namespace = self._ask(request, _namespace)
        self.transport.expect_newborn(namespace.id)
        return namespace

    def get_namespace(self, namespace_id: str) -> Namespace:
        """Return the namespace of that id."""
        return self._ask(Request("GET", self._path(namespace_id)), _namespace)

    def rename_namespace(self, namespace_id: str, title: str) -> Namespace:
        """Give the namespace another title and return it."""
        request = Request("PUT", self._path(namespace_id), body=_json({"title": title}))
        renamed = Namespace(namespace_id, title)  # services before 2026 answer null
        return self._ask(request, lambda told: _namespace(told) if _object(told) else renamed)

    def delete_namespace(self, namespace_id: str) -> None:
        """Delete the namespace and all its pairs."""
        self._ask(Request("DELETE", self._path(namespace_id)), _nothing)
        self.transport.expect_gone(namespace_id)

    def list_keys(
        self,
        namespace_id: str,
        *,
        prefix: str = "",
        cursor: str | None = None,
        limit: int | None = None,
    ) -> KeyPage:
        """Return one page of keys in the order of their UTF-8; an empty one may have a cursor."""
        query = _query(limit=limit, prefix=prefix or None, cursor=cursor or None)
        request = Request("GET", f"{self._path(namespace_id)}/keys", query)
        return self._ask(request, lambda told: _key_page(told, prefix))

    def get_value(self, namespace_id: str, key: str) -> RawValue:
        """Return the stored bytes and their expiration; NotFoundError for a missing key."""
        request = Request("GET", self._path(namespace_id, "values", key))
        answer = self.transport.send(request, self._max_wait)
        if answer.is_html:
            raise answer.unexpected()
        return RawValue(answer.data, _header_seconds(answer.headers.get("expiration", "")))

    def put_value(self, namespace_id: str, write: Write, *, retry_lost: bool = True) -> None:
        """Store a pair in place of what was there: value, expiration and metadata."""
        content_type, body = "application/octet-stream", write.data
        if write.metadata is not None:
            body, content_type = _multipart(write.data, write.metadata)
        path = self._path(namespace_id, "values", write.key)
        query = self._expiry_query(write.expiry)
        request = Request("PUT", path, query, body, content_type, retry_lost=retry_lost)
        self._ask(request, _nothing)

    def delete_value(self, namespace_id: str, key: str, *, retry_lost: bool = True) -> None:
        """Delete a pair; a missing one is a success too."""
        path = self._path(namespace_id, "values", key)
        self._ask(Request("DELETE", path, retry_lost=retry_lost), _nothing)

    def get_metadata(self, namespace_id: str, key: str) -> Any:
        """Return the metadata of a key, None if it has none; NotFoundError for a missing key."""
        request = Request("GET", self._path(namespace_id, "metadata", key))
        return self._ask(request, lambda told: told.get("result"))

    def bulk_put(
        self, namespace_id: str, items: Sequence[PackedWrite], *, retry_lost: bool = True
    ) -> BulkResult:
        """Store up to 10,000 pairs or 100 MB; the unsuccessful ones are to be sent again."""
        clock = self.transport.clock

        def body() -> bytes:
            now, wall = clock.now(), clock.wall()
            return b"[" + b",".join([item.body(now, wall) for item in items]) + b"]"

        path = f"{self._path(namespace_id)}/bulk"
        return self._bulk("PUT", path, body, len(items), retry_lost)

    def bulk_delete(
        self, namespace_id: str, keys: Sequence[str], *, retry_lost: bool = True
    ) -> BulkResult:
        """Delete up to 10,000 keys; missing ones count as deleted."""
        path = f"{self._path(namespace_id)}/bulk/delete"
        return self._bulk("POST", path, _json(keys), len(keys), retry_lost)

    def bulk_get(
        self,
        namespace_id: str,
        keys: Sequence[str],
        *,
        type: Literal["text", "json"] = "text",
        with_metadata: bool = False,
        retry_lost: bool = True,
    ) -> dict[str, Entry[Any] | None]:
        """Return up to 100 values, text or parsed JSON, None for a missing key.

        Without `with_metadata` the entries' expiration and metadata are None. The service refuses
        the whole (400, code 10029) if one value is not text, and (413) if all are over 25 MB.
        """
        asked = {"keys": keys, "type": type, "withMetadata": with_metadata}
        path = f"{self._path(namespace_id)}/bulk/get"
        entry = _entry if with_metadata else Entry

        def values(told: Envelope) -> dict[str, Entry[Any] | None]:
            found = told["result"]["values"]
            entries = {key: None if found.get(key) is None else entry(found[key]) for key in keys}
            if type == "text":
                for told_entry in filter(None, entries.values()):
                    _text(told_entry.value)
            return entries

        # Twice what a single value has, which is BULK_READ_TIMEOUT unless somebody has less time.
        patience = self.transport.timeout[1] * 2 if len(keys) > 1 else None
        request = Request(
            "POST",
            path,
            body=_json(asked),
            read_timeout=patience,
            retry_lost=retry_lost,
            most=MAX_BULK_ANSWER,
        )
        return self._ask(request, values)

    def _bulk(
        self,
        method: str,
        path: str,
        body: bytes | Callable[[], bytes],
        sent: int,
        retry_lost: bool,
    ) -> BulkResult:
        def result(told: Envelope) -> BulkResult:
            counts = _object(told)  # services before November 2024 answer null
            failed = [_text(key) for key in _list(counts.get("unsuccessful_keys"))]
            return BulkResult(int(counts.get("successful_key_count", sent - len(failed))), failed)

        request = Request(
            method, path, body=body, read_timeout=BULK_READ_TIMEOUT, retry_lost=retry_lost
        )
        return self._ask(request, result)

    def _ask(self, request: Request, meaning: Callable[[Envelope], T]) -> T:
        answer = self.transport.send(request, self._max_wait)
        envelope = answer.envelope()
        try:
            return meaning(envelope)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise answer.unexpected() from error

    def _path(self, namespace_id: str, kind: str = "", key: str = "") -> str:
        path = f"{self._root}/{check_id(namespace_id, 'namespace id')}"
        return f"{path}/{kind}/{quote_key(key)}" if kind else path

    def _expiry_query(self, expiry: Expiry | None) -> str | Callable[[], str]:
        if expiry is None:
            return ""
        clock = self.transport.clock
        return lambda: urlencode([expiry.option(clock.now(), clock.wall())])

    def __repr__(self) -> str:
        return f"<Client of account {self.account_id} at {self.transport.base_url}>"


def check_id(id_: str, what: str) -> str:
    """Return the id in lower case; ConfigError if it is not 32 hex digits."""
    if not isinstance(id_, str) or not ID.fullmatch(id_):
        # A token in the wrong variable is longer than most titles, and is not to be printed.
        shown = repr(id_) if isinstance(id_, str) and len(id_) < 32 else "given"
        raise ConfigError(
            f"{what} {shown}: expected 32 hex digits, as Cloudflare's dashboard shows them"
            + (" (CLOUDFLARE_ACCOUNT_ID)" if what == "account id" else "")
        )
    return id_.lower()


def quote_key(key: str) -> str:
    """Return the key as one path segment; LimitError for one that a listing alone can hold.

    `.` and `..` cannot be said in a URL: every layer on the way resolves them, even as `%2E%2E`.
    """
    if key in ILLEGAL_KEYS:
        raise LimitError(f"key {key!r}: it would name another resource in a URL")
    return quote(key, safe="")


def _multipart(data: bytes, metadata: str) -> tuple[bytes, str]:
    about = RequestField("metadata", metadata.encode())
    about.make_multipart(content_type="application/json")
    value = RequestField("value", data, filename="value")
    value.make_multipart(content_type="application/octet-stream")
    return encode_multipart_formdata([about, value])


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _query(**options: str | int | None) -> str:
    return urlencode({name: value for name, value in options.items() if value is not None})


def _nothing(_told: Envelope) -> None:
    return None


def _namespace_page(told: Envelope) -> NamespacePage:
    info = told.get("result_info") or {}
    counts = {name: _count(info.get(name)) for name in _COUNTS}
    found = _list(told["result"])
    return NamespacePage([_namespace({"result": item}) for item in found], **counts)


def _namespace(told: Envelope) -> Namespace:
    result = told["result"]
    return Namespace(
        _text(result["id"]),
        _text(result["title"]),
        result.get("supports_url_encoding"),
        result.get("jurisdiction"),
    )


def _key_page(told: Envelope, prefix: str) -> KeyPage:
    """Return the page; ValueError for a key that was not asked for: `clear` would delete it."""
    cursor = _text((told.get("result_info") or {}).get("cursor") or "")
    cursor.encode()
    keys = [_key(item) for item in _list(told["result"])]
    for key in keys:
        if not key.name.startswith(prefix):
            raise ValueError(f"{key.name!r:.80} is not below the prefix")
    return KeyPage(keys, cursor or None)


def _key(told: Envelope) -> Key:
    name = _text(told["name"])
    if not name.isascii():
        name.encode()  # ValueError for half a surrogate pair, which could not be asked for
    return Key(name, _seconds(told.get("expiration")), told.get("metadata"))


def _entry(told: Envelope) -> Entry[Any]:
    return Entry(told["value"], _seconds(told.get("expiration")), told.get("metadata"))


def _object(told: Envelope) -> dict[str, Any]:
    """Return the result, an empty one for null; TypeError for anything but an object."""
    result = told.get("result")
    if result is not None and not isinstance(result, dict):
        raise TypeError(f"a {type(result).__name__} is not an object")
    return result or {}


def _list(value: Any) -> list[Any]:
    """Return the list, an empty one for null; TypeError for anything else."""
    if value is not None and not isinstance(value, list):
        raise TypeError(f"a {type(value).__name__} is not a list")
    return value or []


def _text(value: Any) -> str:
    """Return the text; TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} is not a text")
    return value


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _header_seconds(text: str) -> int | None:
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return None


def _seconds(expiration: float | None) -> int | None:
    return None if expiration is None else int(float(expiration))  # as far as a float goes
