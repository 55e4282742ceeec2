"""Every method that Cloudflare's Python SDK has for KV, in its synchronous client."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from kvdict.emulator import Emulator, Server

from .conftest import ACCOUNT, TOKEN

cloudflare = pytest.importorskip("cloudflare")


@dataclass
class Cloud:
    """The SDK's methods for one namespace."""

    kv: Any
    id: str

    def values(self, method: str, key: str, **more: Any) -> Any:
        call = getattr(self.kv.values, method)
        return call(key, account_id=ACCOUNT, namespace_id=self.id, **more)

    def metadata(self, key: str) -> Any:
        return self.kv.metadata.get(key, account_id=ACCOUNT, namespace_id=self.id)


@pytest.fixture
def cloud(server: Server) -> Iterator[Cloud]:
    with cloudflare.Cloudflare(api_token=TOKEN, base_url=server.url, max_retries=0) as client:
        kv = client.kv.namespaces
        yield Cloud(kv, kv.create(account_id=ACCOUNT, title="links").id)


def test_namespaces_are_created_listed_renamed_and_deleted(cloud: Cloud) -> None:
    kv = cloud.kv
    assert kv.get(cloud.id, account_id=ACCOUNT).title == "links"
    assert kv.get(cloud.id, account_id=ACCOUNT).supports_url_encoding is True
    assert kv.update(cloud.id, account_id=ACCOUNT, title="renamed").title == "renamed"
    for number in range(45):
        kv.create(account_id=ACCOUNT, title=f"n{number:02}")
    listed = kv.list(account_id=ACCOUNT, order="title", direction="desc", per_page=20)
    titles = [namespace.title for namespace in listed]
    assert titles == ["renamed", *(f"n{number:02}" for number in range(44, -1, -1))]
    assert kv.delete(cloud.id, account_id=ACCOUNT) is None
    with pytest.raises(cloudflare.NotFoundError) as caught:
        kv.get(cloud.id, account_id=ACCOUNT)
    assert caught.value.errors[0].code == 10013


@pytest.mark.parametrize("key", ["k", "a/b", "é ü?#%", "a+b", "...", "\x00", "!$&'()*,;=:@"])
def test_a_value_comes_back(cloud: Cloud, key: str) -> None:
    cloud.values("update", key, value=b"\xff\x00")
    assert cloud.values("get", key).read() == b"\xff\x00"
    assert cloud.values("delete", key) is None
    with pytest.raises(cloudflare.NotFoundError) as caught:
        cloud.values("get", key)
    assert caught.value.errors[0].code == 10009


def test_a_value_may_come_from_a_file(cloud: Cloud, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "value"
    path.write_bytes(b"from a file")
    cloud.values("update", "k", value=path)
    assert cloud.values("get", "k").read() == b"from a file"


@pytest.mark.parametrize("metadata", [{"a": [1, None]}, [0], {}, 0, True])
def test_metadata_comes_back(cloud: Cloud, metadata: Any) -> None:
    if metadata is True:
        metadata = "true"
    cloud.values("update", "k", value=b"v", metadata=metadata)
    expected = True if metadata == "true" else metadata
    assert cloud.metadata("k") == expected


@pytest.mark.parametrize("metadata", ["plain", None])
def test_metadata_that_the_sdk_does_not_encode_is_refused(cloud: Cloud, metadata: Any) -> None:
    with pytest.raises(cloudflare.BadRequestError) as caught:
        cloud.values("update", "k", value=b"v", metadata=metadata)
    assert caught.value.errors[0].code == 10147


def test_an_expiry_shows_in_header_and_list(cloud: Cloud) -> None:
    cloud.values("update", "k", value=b"v", expiration_ttl=120, metadata={"a": 1})
    response = cloud.values("get", "k")
    [key] = cloud.kv.keys.list(cloud.id, account_id=ACCOUNT)
    assert key.name == "k"
    assert key.expiration == int(response.headers["expiration"])
    assert key.metadata == {"a": 1}
    with pytest.raises(cloudflare.BadRequestError) as caught:
        cloud.values("update", "k", value=b"v", expiration_ttl=1)
    assert caught.value.errors[0].code == 10034


@pytest.mark.filterwarnings("ignore:Please use kv.namespaces:DeprecationWarning")
@pytest.mark.parametrize("place", ["keys", "namespaces"])
def test_bulk_methods_do_as_they_say(cloud: Cloud, place: str) -> None:
    methods = cloud.kv.keys if place == "keys" else cloud.kv
    pairs = [{"key": f"k{number:02}", "value": f"{number}"} for number in range(25)]
    pairs.append({"key": "bin", "value": "/w==", "base64": True, "metadata": 0})  # type: ignore[dict-item]  # the SDK sends any JSON
    written = methods.bulk_update(cloud.id, account_id=ACCOUNT, body=pairs)
    assert (written.successful_key_count, written.unsuccessful_keys) == (26, [])
    listed = cloud.kv.keys.list(cloud.id, account_id=ACCOUNT, limit=10, prefix="k")
    assert [key.name for key in listed] == [f"k{number:02}" for number in range(25)]
    read = methods.bulk_get(cloud.id, account_id=ACCOUNT, keys=["k01", "nobody"])
    assert read.values == {"k01": "1", "nobody": None}
    read = methods.bulk_get(cloud.id, account_id=ACCOUNT, keys=["k01"], with_metadata=True)
    assert read.values["k01"].value == "1"
    with pytest.raises(cloudflare.BadRequestError) as caught:
        methods.bulk_get(cloud.id, account_id=ACCOUNT, keys=["k01", "bin"])
    assert caught.value.errors[0].code == 10029
    gone = methods.bulk_delete(cloud.id, account_id=ACCOUNT, body=["k01", "bin", "nobody"])
    assert gone.successful_key_count == 3
    assert len(list(cloud.kv.keys.list(cloud.id, account_id=ACCOUNT))) == 24


def test_a_wrong_token_is_an_authentication_error(server: Server) -> None:
    with (
        cloudflare.Cloudflare(api_token="other", base_url=server.url) as client,
        pytest.raises(cloudflare.AuthenticationError) as caught,
    ):
        client.kv.namespaces.create(account_id=ACCOUNT, title="x")
    assert caught.value.errors[0].code == 10000


def test_a_body_too_large_for_the_gateway_has_no_errors_to_read(
    cloud: Cloud, emulator: Emulator
) -> None:
    pairs = [{"key": f"k{number}", "value": "x" * 25_000_000} for number in range(5)]
    with pytest.raises(cloudflare.APIStatusError) as caught:
        cloud.kv.bulk_update(cloud.id, account_id=ACCOUNT, body=pairs)
    assert caught.value.status_code == 413
    assert caught.value.errors == []
