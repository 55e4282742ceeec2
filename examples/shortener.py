"""A link shortener: Flask in front, a KV namespace behind.

Needs Flask beside kvdict: pip install flask

Try it:      flask --app examples/shortener run
Cloudflare:  KVDICT_URL=links flask --app examples/shortener run

At Cloudflare a new link leaves a second or so after the answer, or when the server is stopped with
Ctrl-C (the README says what SIGTERM needs). Open the namespace with `buffer=False` to answer only
once the link is stored.
"""

import os
import re
import secrets
from urllib.parse import urlsplit

from flask import Flask, Response, abort, jsonify, redirect, request
from flask.typing import ResponseReturnValue
from werkzeug.urls import iri_to_uri

import kvdict

WEEK = 7 * 24 * 3600


def is_web_address(url: str) -> bool:
    """Tell whether one may send people there: `javascript:...` would run in their browser."""
    try:
        parts = urlsplit(iri_to_uri(url))  # which also finds what no redirect could carry
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def create_app(where: str | None = None) -> Flask:
    """Make the application over the namespace that `where` names."""
    app = Flask(__name__)
    links = kvdict.open(
        where or os.environ.get("KVDICT_URL", "sqlite:///links.db"),
        codec="text",
        expiration_ttl=WEEK,
    )

    @app.errorhandler(kvdict.LimitError)
    def refuse(error: kvdict.LimitError) -> ResponseReturnValue:
        return jsonify(error=str(error)), 400  # a slug of 600 characters, say

    @app.post("/")
    def shorten() -> ResponseReturnValue:
        url = request.form["url"]
        slug = request.form.get("slug") or secrets.token_urlsafe(6)
        if not is_web_address(url):
            abort(400, "a link starts with http:// or https://")
        if not re.fullmatch(r"[\w-]+", slug):
            abort(400, "a slug has letters, digits, - and _")
        # One thread of this process gets a free slug. Between servers KV has no such promise:
        # of two that take the same slug at the same time, the later link stays.
        if links.setdefault(slug, url) != url:
            abort(409, f"{slug} is taken")
        return jsonify(slug=slug), 201

    @app.get("/<slug>")
    def follow(slug: str) -> ResponseReturnValue:
        url = links.get(slug)
        return redirect(url) if url else abort(404)

    @app.delete("/<slug>")
    def forget(slug: str) -> ResponseReturnValue:
        if links.pop(slug, None) is None:
            abort(404)
        return Response(status=204)

    @app.get("/")
    def everything() -> ResponseReturnValue:
        return jsonify([{"slug": key.name, "until": key.expiration} for key in links.scan()])

    return app
