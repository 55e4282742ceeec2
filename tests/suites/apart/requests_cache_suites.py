"""requests-cache's own suites on KVCache, in a process in which its package tests is the tests."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.integration.base_cache_test import BaseCacheTest
from tests.integration.base_storage_test import BaseStorageTest

from kvdict.contrib.requests_cache import KVCache, KVStorage

OPTIONS: dict[str, Any] = json.loads(os.environ["OPTIONS"])


class TestKVStorage(BaseStorageTest):
    """All of the suite of storages."""

    storage_class = KVStorage
    init_kwargs = OPTIONS


class TestKVCache(BaseCacheTest):
    """All of the suite of backends."""

    backend_class = KVCache
    init_kwargs = OPTIONS
