"""The examples are programs that work, and cheap ones."""

from __future__ import annotations

import csv
import importlib.util
import os
import runpy
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kvdict
from kvdict.emulator import Server
from tests.conftest import account_of
from tests.processes import Program

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_shortener_makes_follows_lists_and_forgets_links(tmp_path: Any) -> None:
    app = load("shortener").create_app(f"sqlite:///{tmp_path}/links.db")
    web = app.test_client()
    made = web.post("/", data={"url": "https://example.com/a?b=c", "slug": "ex"})
    assert (made.status_code, made.json) == (201, {"slug": "ex"})
    assert web.post("/", data={"url": "https://example.org/", "slug": "ex"}).status_code == 409
    assert web.get("/ex").headers["Location"] == "https://example.com/a?b=c"
    slug = web.post("/", data={"url": "https://example.com/"}).json["slug"]
    links = web.get("/").json
    assert {link["slug"] for link in links} == {"ex", slug}
    week = 7 * 24 * 3600
    assert all(week - 60 < link["until"] - time.time() < week + 60 for link in links)
    assert web.delete("/ex").status_code == 204
    assert web.delete("/ex").status_code == 404
    assert web.get("/ex").status_code == 404


@pytest.mark.parametrize("slug", ["..", ".", "a/b", "a b", "x" * 600, "é" * 300])
def test_the_shortener_refuses_slugs_that_kv_or_an_address_cannot_have(slug: str) -> None:
    web = load("shortener").create_app("memory://").test_client()
    refused = web.post("/", data={"url": "https://example.com/", "slug": slug})
    assert refused.status_code == 400
    assert web.get("/").json == []


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "data:text/html,x", "//example.com", "example.com", "https://", "",
        "http://[", "https://a:b/", "https://a..b/", f"https://{'a' * 64}/", "https://a\r\nB: c/",
    ],
)  # fmt: skip
def test_the_shortener_leads_to_web_addresses_only(url: str) -> None:
    web = load("shortener").create_app("memory://").test_client()
    assert web.post("/", data={"url": url}).status_code == 400
    assert web.get("/").json == []


def test_of_two_who_want_a_slug_at_once_one_gets_it() -> None:
    app = load("shortener").create_app("memory://")
    together = threading.Barrier(8)

    def shorten(number: int) -> int:
        together.wait(30)
        url = f"https://example.com/{number}"
        answer = app.test_client().post("/", data={"url": url, "slug": "s"})
        return int(answer.status_code)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(shorten, range(8))) == [201] + [409] * 7


def test_the_nightly_job_stores_50_000_rows_and_removes_what_is_gone(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    nightly = load("nightly")
    where = f"sqlite:///{tmp_path}/products.db"
    with kvdict.open(where) as kv:
        kv["unrelated"] = True
        kv.update((f"product:gone {number}", {}) for number in range(300))
    with open(tmp_path / "products.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sku", "name", "price"])
        rows.writerows([f"{number:05}", f"Product {number}", "9.95"] for number in range(50_000))
    nightly.main(str(tmp_path / "products.csv"), where)
    with kvdict.open(where, readonly=True) as kv:
        assert kv["product:00042"] == {"sku": "00042", "name": "Product 42", "price": "9.95"}
        assert kv["unrelated"] is True
        assert len(kv) == 50_001
    # 5 bulk puts, 51 pages of keys, 1 bulk delete, 1 to open
    assert capsys.readouterr().out == "50000 stored, 300 deleted, 58 requests\n"


def run(name: str, *arguments: str, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == (done.stderr == ""), done.stderr
    return done.stdout + done.stderr


def test_the_nightly_job_loads_the_file_beside_it(tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/products.db"
    assert "2 stored, 0 deleted" in run("nightly", "examples/products.csv", where)
    with kvdict.open(where, readonly=True) as kv:
        assert kv["product:00042"]["name"] == "Towel"


def test_the_nightly_job_takes_an_empty_file_for_a_mistake(tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/products.db"
    with kvdict.open(where) as kv:
        kv["product:1"] = {}
    (tmp_path / "empty.csv").write_text("sku,name\n")
    assert "nothing was deleted" in run("nightly", str(tmp_path / "empty.csv"), where)
    with kvdict.open(where, readonly=True) as kv:
        assert list(kv) == ["product:1"]


def test_the_nightly_job_has_stored_all_when_it_speaks(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = account_of(server, uuid.uuid4().hex)  # one page of titles
    where = f"{alone}/nightly"
    with kvdict.open(where, create=True) as kv:
        kv["product:gone"] = {}
    load("nightly").main(str(EXAMPLES / "products.csv"), where)
    # 1 to open, 1 bulk put, 1 page of keys, 1 delete
    assert capsys.readouterr().out == "2 stored, 1 deleted, 4 requests\n"


class Web:
    """A site on loopback of so many pages, each of which links to two more, the next and itself.

    It counts who asks for what, and can kill who asks for the `fatal`-th page.
    """

    def __init__(self, pages: int, fatal: int = 0) -> None:
        self.asked: Counter[str] = Counter()
        self.fatal = fatal
        self.crawler: Program[str] | None = None
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked[self.path] += 1
                if web.asked.total() == web.fatal:
                    assert web.crawler
                    web.crawler.kill()
                    web.crawler.wait()
                    return
                number = int(self.path[1:] or 0)
                targets = (number, number + 1, 2 * number + 1, 2 * number + 2)
                links = "".join(
                    f'<a href="/{target or ""}#top">' for target in targets if target < pages
                )
                body = f"<title>page {number}</title>{links}<a href=http://elsewhere.invalid/>"
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def __enter__(self) -> Web:
        threading.Thread(target=self.server.serve_forever, args=(0.01,)).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def crawl(self, where: str, folder: Path) -> str:
        program = f"import crawler; crawler.main({self.url!r}, {where!r}, pause=0)"
        self.crawler = Program(
            [sys.executable, "-W", "error", "-c", program],
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{EXAMPLES}"}, cwd=folder,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return self.crawler.communicate(timeout=60)[0]


@pytest.mark.parametrize(
    ("home", "fatal"), [("file", 1), ("file", 13), ("emulator", 2), ("emulator", 30)]
)
def test_a_crawler_that_was_killed_goes_on_and_fetches_nothing_twice(
    tmp_path: Path, server: Server, home: str, fatal: int
) -> None:
    served = f"{account_of(server, uuid.uuid4().hex)}/crawl"
    where = "sqlite:///crawl.db" if home == "file" else served
    with Web(30, fatal) as web:
        assert web.crawl(where, tmp_path) == ""
        assert web.asked.total() == fatal
        (unanswered,) = list(web.asked)[-1:]
        assert web.crawl(where, tmp_path) == f"asked the site {31 - fatal} times, know 30 pages\n"
        assert web.asked == {f"/{number or ''}": 1 for number in range(30)} | {unanswered: 2}
        assert web.crawl(where, tmp_path) == "asked the site 0 times, know 30 pages\n"
    with kvdict.open(where if home == "emulator" else tmp_path / "crawl.db", readonly=True) as kv:
        pages = dict(kv.prefixed("page:").items())
        titles = {f"{web.url}{number or ''}": f"page {number}" for number in range(30)}
        assert {url: page["title"] for url, page in pages.items()} == titles
        assert not kv.prefixed("queue:")


def test_a_crawler_keeps_the_sites_of_one_database_apart(tmp_path: Path) -> None:
    where = "sqlite:///crawl.db"
    with Web(5, fatal=3) as one, Web(7) as two:
        assert one.crawl(where, tmp_path) == ""
        assert two.crawl(where, tmp_path) == "asked the site 7 times, know 9 pages\n"
        assert one.crawl(where, tmp_path) == "asked the site 3 times, know 12 pages\n"


def test_a_page_that_cannot_be_had_is_left_for_the_next_run(tmp_path: Path) -> None:
    where = "sqlite:///crawl.db"
    with Web(1) as web:
        pass
    said = web.crawl(where, tmp_path)
    assert said.startswith(f"{web.url}: ")
    assert said.endswith("; the next run tries it again\nasked the site 1 times, know 0 pages\n")


@pytest.mark.parametrize("name", ["nightly", "visits", "crawler"])
def test_a_program_that_is_told_too_little_says_how_to_run_it(name: str) -> None:
    assert "Try it:" in run(name)


def test_the_tour_leaves_what_was_there_and_nothing_of_its_own(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    where = f"{account_of(server, uuid.uuid4().hex)}/tour"
    with kvdict.open(where, create=True) as kv:
        kv["mine"] = 1
    load("tour").main(where)
    assert "users.update(10,000 pairs)" in capsys.readouterr().out
    with kvdict.open(where) as kv:
        assert dict(kv.items()) == {"mine": 1}


def test_the_look_at_visits_works_without_a_worker(tmp_path: Path) -> None:
    for _ in range(2):  # the second time it adds nothing
        printed = run("visits", "sqlite:///visits.db", folder=tmp_path)
        assert printed.startswith("5 keys, for example Key(name='2026-11-23:/'")
        assert printed.endswith("2026-11-24: {'/': '122', '/about': '17', '/blog': '41'}\n")


def test_the_look_at_a_workers_plain_text_adds_up(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"sqlite:///{tmp_path}/visits.db"
    with kvdict.open(where, codec="text") as kv:
        kv.update({f"2026-05-0{day}:/about": str(day) for day in range(1, 4)})
        kv["2026-05-03:/"] = "40"
        kv["settings"] = "not a count"
    monkeypatch.setattr(sys, "argv", ["visits.py", where])
    names = runpy.run_path(str(EXAMPLES / "visits.py"), run_name="__main__")
    names["visits"].close()
    printed = capsys.readouterr().out
    assert printed.startswith("5 keys, for example Key(name='2026-05-01:/about'")
    assert "      40 /\n       6 /about\n" in printed
    assert printed.endswith("2026-05-03: {'/': '40', '/about': '3'}\n")
