"""Namespaces: the routes that list, create, show, rename and delete them."""

from __future__ import annotations

from typing import Any

from kvdict.emulator.call import Call
from kvdict.emulator.refusals import CauseError, Refusal
from kvdict.emulator.reply import DONE, Reply, success
from kvdict.emulator.store import CrowdedError, Namespace, Store, TitleTakenError
from kvdict.limits import MAX_NAMESPACES, MAX_NAMESPACES_PER_PAGE, MAX_TITLE_LENGTH

DEFAULT_PER_PAGE = 20
JURISDICTIONS = ("eu", "us", "fedramp")
FARTHEST = 10**9
"""No account has that many namespaces: a page behind it is empty, however far."""


class Namespaces:
    """The routes of an account's namespaces."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(self, call: Call) -> Reply:
        """Answer GET on the collection: one page."""
        query = call.query()
        page = min(_positive(query.get("page", "1"), 10007, "page"), FARTHEST)
        per_page = _positive(query.get("per_page", str(DEFAULT_PER_PAGE)), 10008, "per_page")
        if per_page > MAX_NAMESPACES_PER_PAGE:
            raise CauseError(400, 10008, f"per_page must be at most {MAX_NAMESPACES_PER_PAGE}")
        order = _one_of(query.get("order", "id"), ("id", "title"), 10043, "order")
        direction = _one_of(query.get("direction", "asc"), ("asc", "desc"), 10044, "direction")
        found = self._store.namespaces(
            call.account,
            order=order,
            descending=direction == "desc",
            limit=per_page,
            offset=(page - 1) * per_page,
        )
        total = self._store.count(call.account)
        info = {
            "page": page,
            "per_page": per_page,
            "count": len(found),
            "total_count": total,
            "total_pages": -(-total // per_page),
        }
        return success([_shown(namespace) for namespace in found], info)

    def create(self, call: Call) -> Reply:
        """Answer POST on the collection."""
        body = _read(call)
        jurisdiction = body.get("jurisdiction")
        if jurisdiction is not None and jurisdiction not in JURISDICTIONS:
            raise CauseError(400, 10010, f"jurisdiction must be one of {', '.join(JURISDICTIONS)}")
        try:
            namespace = self._store.create(
                call.account, _title(body), jurisdiction, most=MAX_NAMESPACES
            )
        except TitleTakenError:
            raise _taken() from None
        except CrowdedError:
            text = f"an account may have at most {MAX_NAMESPACES} namespaces"
            raise CauseError(400, 10018, text) from None
        return success(_shown(namespace))

    def show(self, call: Call) -> Reply:
        """Answer GET on one namespace."""
        return success(_shown(self._store.namespace(call.account, call.namespace)))

    def rename(self, call: Call) -> Reply:
        """Answer PUT on one namespace."""
        title = _title(_read(call))
        try:
            return success(_shown(self._store.rename(call.account, call.namespace, title)))
        except TitleTakenError:
            raise _taken() from None

    def delete(self, call: Call) -> Reply:
        """Answer DELETE on one namespace: its keys go too."""
        self._store.drop(call.account, call.namespace)
        return DONE


def _shown(namespace: Namespace) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": namespace.id,
        "title": namespace.title,
        "supports_url_encoding": True,
    }
    if namespace.jurisdiction is not None:
        shown["jurisdiction"] = namespace.jurisdiction
    return shown


def _read(call: Call) -> dict[str, Any]:
    body = call.json("could not parse request body", 10010)
    if not isinstance(body, dict):
        raise CauseError(400, 10010, "the request body must be an object")
    return body


def _title(body: dict[str, Any]) -> str:
    title = body.get("title")
    if title is None or title == "":
        raise Refusal(400, 10019, "request is missing a title definition")
    if not isinstance(title, str) or not _is_text(title):
        raise CauseError(400, 10010, "the title must be a string")
    if len(title) > MAX_TITLE_LENGTH:
        raise CauseError(400, 10010, f"the title is longer than {MAX_TITLE_LENGTH} characters")
    return title


def _is_text(title: str) -> bool:
    try:
        title.encode()
    except UnicodeEncodeError:
        return False
    return True


def _taken() -> Refusal:
    return Refusal(400, 10014, "a namespace with this account ID and title already exists")


def _positive(text: str, code: int, name: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= len(text.lstrip("0")) <= 18):
        raise CauseError(400, code, f"{name} must be an integer of at least 1")
    return int(text)


def _one_of(text: str, choices: tuple[str, ...], code: int, name: str) -> str:
    if text not in choices:
        raise CauseError(400, code, f"{name} must be one of {', '.join(choices)}")
    return text
