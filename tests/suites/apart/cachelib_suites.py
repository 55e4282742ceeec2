"""cachelib's own suites on KVCache, with the folder of its tests on the path."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from clear import ClearTests
from common import CommonTests
from delete_many_with_prefix import DeleteManyWithPrefixTests
from has import HasTests
from serializer import SerializerTests

from kvdict.contrib.cachelib import KVCache

OPTIONS: dict[str, Any] = json.loads(os.environ["OPTIONS"])


class TestKVCache(CommonTests, HasTests, ClearTests, DeleteManyWithPrefixTests, SerializerTests):
    """All of its suites but those of one backend's own."""

    @pytest.fixture(autouse=True, params=[None, "own:"])
    def cache_factory(self, request: Any) -> None:
        """Put a factory of empty caches where the suites look for it."""

        def make(_self: Any, **options: Any) -> KVCache:
            options.setdefault("key_prefix", request.param)
            cache = KVCache(**OPTIONS, **options)
            cache.clear()
            return cache

        request.cls.cache_factory = make
