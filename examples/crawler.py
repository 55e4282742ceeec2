"""A crawler that may be killed at any moment: the next run goes on, and fetches nothing twice.

Try it:      python -m http.server -b localhost -d docs & sleep 1
             python examples/crawler.py http://localhost:8000/; kill %1
Cloudflare:  python examples/crawler.py https://SITE/ TITLE     (a site that wants to be crawled)

A page is fetched once a day at most, by whichever run. What was found is in a local file, crawl.db,
or in the namespace TITLE, under "page:"; see it with `kvdict ls sqlite:///crawl.db --prefix page:`.
"""

import sys
import time
from collections import deque
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urldefrag, urljoin

import requests

import kvdict

DAY = 24 * 3600
LONGEST = 240  # bytes of an address: two of them fit into a key, which has at most 512


class Page(HTMLParser):
    """The title of a page, and the addresses that it links to."""

    def __init__(self, url: str, text: str) -> None:
        super().__init__()
        self.url, self.title, self.links = url, "", dict[str, None]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where a link leads to."""
        if tag == "a" and (target := dict(attrs).get("href")):
            self.links[urldefrag(urljoin(self.url, target)).url] = None

    def handle_data(self, data: str) -> None:
        """Note the title."""
        if self.lasttag == "title" and not self.title:
            self.title = data.strip()


def fetch(url: str) -> dict[str, Any]:
    """Ask the web for a page; what is no HTML has neither title nor links."""
    answer = requests.get(url, timeout=10)
    is_page = answer.ok and "html" in answer.headers.get("Content-Type", "")
    page = Page(answer.url, answer.text if is_page else "")
    return {"status": answer.status_code, "title": page.title, "links": list(page.links)}


def crawl(start: str, home: kvdict.KVNamespace[Any], pause: float) -> int:
    """Visit all pages whose address begins with `start`; return how often the site was asked."""
    look = home.memoize(expiration_ttl=DAY, prefix="fetched:")(fetch)
    pages = home.prefixed("page:")
    queue = home.prefixed(f"queue:{start} ")  # this crawl's addresses, and whether each is done
    known = dict(queue.items()) or {start: False}
    frontier = deque(url for url, done in known.items() if not done)
    while frontier:
        url = frontier.popleft()
        before = look.cache_info().misses
        try:
            page = look(url)
        except requests.RequestException as error:
            print(f"{url}: {error}; the next run tries it again", file=sys.stderr)
            continue
        for link in page["links"]:
            if link.startswith(start) and link not in known and len(link.encode()) <= LONGEST:
                known[link] = queue[link] = False
                frontier.append(link)
        pages[url] = {"status": page["status"], "title": page["title"]}
        known[url] = queue[url] = True  # last: all that it led to is written down
        if look.cache_info().misses > before:
            time.sleep(pause)  # be kind to the site
    if all(known.values()):
        queue.clear()  # the next run begins anew
    return look.cache_info().misses


def main(start: str, where: str, pause: float = 0.5) -> None:
    """Crawl into the namespace that `where` names."""
    # Collected writes are cheap; the journal has them on disk when an assignment is done.
    buffer = kvdict.WriteBuffer(journal="crawl.journal")
    with kvdict.open(where, create=True, buffer=buffer) as home:
        asked = crawl(start, home, pause)
        known = len(home.prefixed("page:"))
        print(f"asked the site {asked} times, know {known} pages")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "sqlite:///crawl.db")
    except KeyboardInterrupt:
        sys.exit("stopped; run it again to go on")
