"""The pages of the integrations are true: their blocks run, one after the other, as they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest

import kvdict
from kvdict.contrib.shared import close_all

ROOT = Path(__file__).parent.parent
PAGES = "shelve", "cachelib", "flask-caching"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def elsewhere(
    kvdict_offline: kvdict.Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in ("SHELF_SECRET", "SECRET_KEY"):
        monkeypatch.setenv(name, "for this test")
    yield
    close_all()


def run(page: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": page}
    for block in BLOCK.findall((ROOT / "docs" / f"{page}.md").read_text()):
        exec(block, names)
    return names


def test_the_page_of_shelve_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("shelve")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "(1+2j)"
    assert re.fullmatch(r"key 'tomorrow': .*under another key; .*", printed[1])
    assert printed[2:] == ["1", "(1+2j)"]
    with names["shelve"].open("mydata") as shelf:
        assert len(shelf["list"]) == 1000


def test_the_page_of_cachelib_runs(kvdict_offline: kvdict.Account) -> None:
    names = run("cachelib")
    cache = names["cache"]
    assert cache.get("basket:1") == {"tea": 2}
    assert cache.get_dict("item:1", "item:2", "gone") == {"item:1": 1, "item:2": 2, "gone": None}
    app: flask.Flask = names["app"]

    @app.post("/")
    def log_in() -> str:
        flask.session["user"] = "me"
        return ""

    app.test_client().post("/")
    with kvdict_offline.open("sessions", codec="bytes") as kv:
        assert len(kv) == 1


def test_the_page_of_flask_caching_runs_and_tells_its_costs(
    kvdict_offline: kvdict.Account,
) -> None:
    names = run("flask-caching")
    app, cache, square = names["app"], names["cache"], names["square"]
    web = app.test_client()
    kv = cache.cache._backend.kv
    spent = []

    def view() -> None:
        web.get("/")

    def call(number: int) -> None:
        with app.app_context():
            assert square(number) == number * number

    for use in (view, view, lambda: call(2), lambda: call(3), lambda: call(3)):
        before = kv.stats()["requests"]
        use()
        spent.append(kv.stats()["requests"] - before)
    assert spent == [2, 1, 6, 5, 2]


@pytest.mark.parametrize("page", sorted(path.stem for path in (ROOT / "docs").glob("*.md")))
def test_links_lead_to_pages_and_headings(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    links = re.findall(r"\]\((?!https)([^)#]*)#?([^)]*)\)", text)
    assert links or "include}" in text
    for path, anchor in links:
        target = (ROOT / "docs" / path).read_text() if path else text
        headings = re.findall(r"^#+ (.+)$", target, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
        assert not anchor or anchor in anchors
