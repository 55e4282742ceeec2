"""dogpile.cache's own suites of backends and serializers on KVBackend."""

from __future__ import annotations

import json
import os

from dogpile.testing.fixtures import (
    _GenericBackendFixture,
    _GenericBackendTestSuite,
    _GenericSerializerTestSuite,
)

ARGUMENTS = {"arguments": json.loads(os.environ["OPTIONS"])}


class TestKVBackend(_GenericBackendTestSuite):
    """All of the suite of backends."""

    backend = "kvdict"
    config_args = ARGUMENTS


class TestSerialized(_GenericSerializerTestSuite, _GenericBackendFixture):
    """All of the suite of serializers."""

    backend = "kvdict"
    config_args = ARGUMENTS


# dogpile's suite of mutexes is not run: the backend has none, which its page says.
