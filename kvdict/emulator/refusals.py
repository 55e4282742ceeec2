"""Refusals: how the service says no, with its codes, texts and statuses."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):  # noqa: N818 - not an error of the program
    """An answer other than success; `html` stands in for the envelope at the gateway."""

    def __init__(self, status: int, code: int = 0, message: str = "", **more: Any) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.errors: list[dict[str, Any]] = [{"code": code, "message": message, **more}]
        self.html: str | None = None
        self.headers: list[tuple[str, str]] = []

    def and_also(self, code: int, message: str) -> Refusal:
        """Add a second error to the envelope."""
        self.errors.append({"code": code, "message": message})
        return self


class CauseError(Exception):
    """What is wrong with an input, before it is known which operation met it."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.text = text

    def within(self, operation: str) -> Refusal:
        """Return the refusal, told as the operation's."""
        return Refusal(self.status, self.code, f"{operation}: '{self.text}'")


def gateway(status: int, title: str) -> Refusal:
    """Return an answer of the gateway in front of the service: a page, no envelope."""
    refusal = Refusal(status, 0, title)
    refusal.html = (
        f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{status} {title}</h1></center>\r\n<hr><center>cloudflare</center>\r\n"
        "</body>\r\n</html>\r\n"
    )
    return refusal


def no_route(path: str, status: int = 404) -> Refusal:
    """Return the answer to a path that names nothing."""
    shown = path.removeprefix("/client/v4")
    text = f"Could not route to {shown}, perhaps your object identifier is invalid?"
    return Refusal(status, 7003, text).and_also(7000, "No route for that URI")


def wrong_method(allowed: list[str]) -> Refusal:
    """Return the answer to a method that the route does not have."""
    refusal = Refusal(405, 10405, "Method not allowed for this authentication scheme")
    refusal.headers.append(("Allow", ", ".join(allowed)))
    return refusal


def missing_namespace() -> CauseError:
    """Return the cause for an id that no namespace of the account has."""
    return CauseError(404, 10013, "namespace not found")


def missing_key() -> CauseError:
    """Return the cause for a key that is not stored."""
    return CauseError(404, 10009, "key not found")
