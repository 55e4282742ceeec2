from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import requests

from kvdict.emulator import Emulator, EmulatorAdapter, Store, StoreError
from kvdict.emulator.wsgi import Answer

from .home import EMBEDDED, Clock, Home, Space


@pytest.fixture
def near(emulator: Emulator, clock: Clock) -> Iterator[Space]:
    """A namespace in this process."""
    with requests.Session() as session:
        session.mount("http://kvdict.invalid/", EmulatorAdapter(emulator))
        yield Home(session, EMBEDDED, emulator, clock).create()


def with_length(near: Space, length: str) -> requests.PreparedRequest:
    """Return a write of one byte that announces another length."""
    request = requests.Request("PUT", f"{near.home.root}/{near.id}/values/k", data=b"v").prepare()
    request.headers["Content-Length"] = length
    return request


def test_a_response_is_one_of_requests(near: Space) -> None:
    near.put("k", "é".encode())
    response = near.value("GET", "k", params={"q": "1"})
    assert type(response) is requests.Response
    assert (response.status_code, response.reason, response.ok) == (200, "OK", True)
    assert response.headers["CONTENT-type"] == "application/octet-stream"
    assert response.url == f"{near.home.root}/{near.id}/values/k?q=1"
    assert response.request.url == response.url
    assert near.ask("GET").encoding == "utf-8"
    with pytest.raises(requests.exceptions.HTTPError):
        near.value("GET", "missing").raise_for_status()


def test_a_response_can_be_streamed(near: Space) -> None:
    data = bytes(range(256)) * 100
    near.put("k", data)
    with near.value("GET", "k", stream=True) as response:
        assert b"".join(response.iter_content(1000)) == data
    with near.value("GET", "k", stream=True) as response:
        copy = io.BytesIO()
        shutil.copyfileobj(response.raw, copy)
        assert copy.getvalue() == data
    assert b"".join(near.value("GET", "k").iter_content(7)) == data


@pytest.mark.parametrize(
    "body", [b"text", "text", bytearray(b"text"), io.BytesIO(b"text"), iter([b"te", b"xt"])]
)
def test_a_body_may_be_bytes_text_a_file_or_pieces(near: Space, body: object) -> None:
    assert near.value("PUT", "k", data=body).status_code == 200
    assert near.value("GET", "k").content == b"text"


def test_a_file_is_sent_from_where_it_stands(near: Space, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"read this not")
    with path.open("rb") as file:
        file.seek(5)
        assert near.value("PUT", "k", data=file).status_code == 200
    assert near.value("GET", "k").content == b"this not"


def test_a_body_shorter_than_announced_is_not_stored(near: Space) -> None:
    assert near.home.session.send(with_length(near, "5")).status_code == 400
    assert near.names() == []


@pytest.mark.parametrize("length", ["x", "-1", "1.5", "\N{SUPERSCRIPT TWO}"])
def test_a_length_that_is_no_number_is_refused(near: Space, length: str) -> None:
    assert near.home.session.send(with_length(near, length)).status_code == 400


def test_a_body_beyond_every_limit_is_not_read(near: Space) -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise AssertionError("it was read")

    for method, path in (("PUT", "/bulk"), ("PUT", "/values/k"), ("POST", "/bulk/get")):
        headers = {"Content-Length": str(200_000_000)}
        request = requests.Request(method, f"{near.home.root}/{near.id}{path}").prepare()
        request.body = Endless()
        request.headers.update(headers)
        assert near.home.session.send(request).status_code == 413


def test_a_store_error_reaches_the_caller_as_it_is(near: Space) -> None:
    near.home.emulator.store.close()
    with pytest.raises(StoreError, match="the store in memory has been closed"):
        near.value("GET", "k")


def test_any_wsgi_application_can_be_mounted() -> None:
    def app(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        start("200 OK", [("X-Path", environ["PATH_INFO"]), ("X-Host", environ["HTTP_HOST"])])
        return [environ["QUERY_STRING"].encode(), environ["wsgi.input"].read()]

    with requests.Session() as session:
        session.mount("http://", EmulatorAdapter(app))
        response = session.post("http://a.invalid/x%20y?q=%20", data=b"!")
        assert response.headers["X-Path"] == "/x y"
        assert response.headers["X-Host"] == "a.invalid"
        assert response.content == b"q=%20!"


def test_an_application_that_writes_its_body_itself_is_told_to_return_it() -> None:
    def app(_environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        start("200 OK", [])(b"body")
        return []

    with requests.Session() as session:
        session.mount("http://", EmulatorAdapter(app))
        with pytest.raises(NotImplementedError, match="must return its body"):
            session.get("http://a.invalid/")


def test_a_plain_wsgi_server_s_request_without_a_length_has_no_body(near: Space) -> None:
    answer = Answer()
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": "PUT",
        "PATH_INFO": f"/client/v4/accounts/{near.home.account}/storage/kv/namespaces/{near.id}"
        "/values/k",
        "wsgi.input": None,  # it would wait for more from the connection
    }
    list(near.home.emulator(environ, answer.start))
    assert answer.status == "200 OK"
    assert near.value("GET", "k").content == b""


def test_a_plain_wsgi_server_without_the_raw_target_is_served_as_well_as_it_can(
    near: Space,
) -> None:
    near.put("a é", b"v")
    answer = Answer()
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": f"/client/v4/accounts/{near.home.account}/storage/kv/namespaces/"
        f"{near.id}/values/" + "a é".encode().decode("latin-1"),
    }
    body = near.home.emulator(environ, answer.start)
    assert (answer.status, list(body)) == ("200 OK", [b"v"])
    environ["RAW_URI"] = f"http://host{environ.pop('PATH_INFO')[:-4]}a%20%C3%A9?x=1"
    body = near.home.emulator(environ, answer.start)
    assert (answer.status, list(body)) == ("200 OK", [b"v"])


def test_the_text_of_an_emulator_names_its_store() -> None:
    store = Store(None)
    assert repr(Emulator(store)) == "<Emulator over <Store the store in memory>>"
    store.close()


def test_a_file_of_the_callers_that_fails_is_the_callers_error(near: Space) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError("the disk is gone")

    request = with_length(near, "5")
    request.body = Broken()
    with pytest.raises(OSError, match="the disk is gone"):
        near.home.session.send(request)
    assert near.names() == []
