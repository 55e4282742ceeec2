"""`KVCache`: a cache for Flask-Caching: `CACHE_TYPE = "kvdict.contrib.flask_caching.KVCache"`."""

from __future__ import annotations

from typing import Any

from kvdict.contrib.backend import SignedPickle
from kvdict.contrib.extras import needs

with needs("flask-caching"):
    from flask import Flask
    from flask_caching.backends.base import BaseCache

    from kvdict.contrib import cachelib

SALT = b"kvdict.contrib.flask_caching:"


class KVCache(cachelib.KVCache, BaseCache):
    """The cachelib KVCache, made from the configuration of an application."""

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> KVCache:
        """Make it as Flask-Caching asks.

        Where is CACHE_KVDICT_URL, or the first of CACHE_ARGS, or `where` in CACHE_OPTIONS, or
        KVDICT_URL of the environment; CACHE_OPTIONS holds the options of the cachelib KVCache.
        Values are pickled, and signed with the application's SECRET_KEY if it has one and no
        codec or secret is given; those signed with one of SECRET_KEY_FALLBACKS are read.
        """
        options = {
            "key_prefix": config.get("CACHE_KEY_PREFIX"),
            "prefix": "flask-caching:",
            "ignore_delete_many_errors": config.get("CACHE_IGNORE_ERRORS", False),
            **kwargs,
        }
        if not args and "where" not in options:
            options["where"] = config.get("CACHE_KVDICT_URL")
        if cls._own is None and options.get("codec") is None and options.get("secret") is None:
            options["codec"] = _signed_with(app)
        return cls(*args, **options)


def _signed_with(app: Flask) -> SignedPickle | None:
    if not app.secret_key:
        return None
    secrets = [app.secret_key, *(app.config.get("SECRET_KEY_FALLBACKS") or ())]
    return SignedPickle(secrets, SALT)
