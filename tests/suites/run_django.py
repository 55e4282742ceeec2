"""Run Django's own suites on KVCache: python run_django.py SOURCE LOCATION OPTIONS (as JSON)."""

from __future__ import annotations

import json
import sys
import unittest
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.test.runner import DiscoverRunner
from django.test.utils import override_settings

BACKEND = "kvdict.contrib.django.KVCache"
NOT_CULLED = {"cull", "zero_cull"}
"""Caches of tests that count what is left after culling: KV does not cull, neither does Redis."""


def configure(tests: Path, location: str, options: dict[str, Any]) -> None:
    """Set what the suites need, and the backend under test as the default cache."""
    sys.path.insert(0, str(tests))
    settings.configure(
        SECRET_KEY="not a secret",
        CACHES={"default": {"BACKEND": BACKEND, "LOCATION": location, "OPTIONS": options}},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["django.contrib.sessions", "cache", "sessions_tests"],
        USE_TZ=False,
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    django.setup()


def suites(location: str, options: dict[str, Any]) -> unittest.TestSuite:
    """Return the suites, Django's classes with the backend under test."""
    import cache.tests
    import sessions_tests.tests
    from django.test import TestCase

    caches = cache.tests.caches_setting_for_tests(
        BACKEND=BACKEND, LOCATION=location, exclude=NOT_CULLED
    )
    for each in caches.values():
        each["OPTIONS"] = options

    @override_settings(CACHES=caches)
    class KVCacheTests(cache.tests.BaseCacheTests, TestCase):  # type: ignore[misc] # Django has no types
        pass

    load = unittest.defaultTestLoader.loadTestsFromTestCase
    return unittest.TestSuite(
        map(load, [KVCacheTests, sessions_tests.tests.CacheSessionTests,
                   sessions_tests.tests.CacheDBSessionTests])
    )  # fmt: skip


class Runner(DiscoverRunner):  # type: ignore[misc] # Django has no types
    """Django's runner on one suite, which ends with a report as JSON."""

    suite: unittest.TestSuite

    def build_suite(self, *_labels: Any, **_options: Any) -> unittest.TestSuite:
        return self.suite

    def suite_result(self, suite: Any, result: Any, **options: Any) -> int:
        skipped = [[test.id().rpartition(".")[2], reason] for test, reason in result.skipped]
        print(json.dumps({"run": result.testsRun, "skipped": skipped}))
        return int(super().suite_result(suite, result, **options))


if __name__ == "__main__":
    source, location, text = sys.argv[1:]
    configure(Path(source) / "tests", location, json.loads(text))
    runner = Runner(verbosity=0)
    runner.suite = suites(location, json.loads(text))
    sys.exit(bool(runner.run_tests([])))
