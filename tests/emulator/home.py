"""What the emulator's tests share: a place where one answers, and words to ask with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests

from kvdict.emulator import Emulator

ACCOUNT = "a" * 32
EMBEDDED = "http://kvdict.invalid/client/v4"


class Clock:
    """A time that passes when told to."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Home:
    """An emulator that is reached through a session."""

    session: requests.Session
    base: str
    emulator: Emulator
    clock: Clock
    account: str = ACCOUNT

    @property
    def root(self) -> str:
        return f"{self.base}/accounts/{self.account}/storage/kv/namespaces"

    def ask(self, method: str, path: str = "", **options: Any) -> requests.Response:
        return self.session.request(method, self.root + path, timeout=30, **options)

    def ask_raw(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> requests.Response:
        """Send a path that `requests` would have tidied up."""
        request = requests.Request(method, self.root, data=body, headers=headers).prepare()
        request.url = self.root + path
        return self.session.send(request, timeout=30)

    def create(self, title: str = "links") -> Space:
        response = self.ask("POST", json={"title": title})
        assert response.status_code == 200, response.text
        return Space(self, response.json()["result"]["id"])


@dataclass
class Space:
    """One namespace of a home."""

    home: Home
    id: str

    def ask(self, method: str, path: str = "", **options: Any) -> requests.Response:
        return self.home.ask(method, f"/{self.id}{path}", **options)

    def value(self, method: str, key: str, **options: Any) -> requests.Response:
        return self.ask(method, f"/values/{quote(key, safe='')}", **options)

    def put(self, key: str, data: bytes = b"v", **query: Any) -> None:
        response = self.value("PUT", key, data=data, params=query)
        assert response.json() == DONE

    def names(self, **query: Any) -> list[str]:
        response = self.ask("GET", "/keys", params=query)
        assert response.status_code == 200, response.text
        return [key["name"] for key in response.json()["result"]]


DONE: dict[str, Any] = {"result": None, "success": True, "errors": [], "messages": []}


def refusal(response: requests.Response) -> tuple[int, int, str]:
    """Return status, code and text of a refusal, whose envelope is as it should be."""
    assert response.headers["Content-Type"] == "application/json"
    envelope = response.json()
    assert envelope["result"] is None
    assert envelope["success"] is False
    assert envelope["messages"] == []
    error = envelope["errors"][0]
    return response.status_code, error["code"], error["message"]
