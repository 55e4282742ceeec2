"""EmulatorAdapter: the emulator mounted on a `requests` session, without a socket."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

from kvdict.emulator.call import EMBEDDED
from kvdict.emulator.wsgi import Answer, variable


class EmulatorAdapter(BaseAdapter):
    """Answers a session's requests by calling a WSGI application in this process.

    A StoreError of the emulator reaches the caller as it is.
    """

    def __init__(self, app: WSGIApplication) -> None:
        super().__init__()
        self.app = app

    def send(self, request: PreparedRequest, *_args: Any, **_options: Any) -> Response:
        """Return the application's answer to the request; options of a connection are ignored."""
        answer = Answer()
        try:
            body = b"".join(self.app(_environ(request), answer.start))
        except ConnectionResetError as error:
            raise RequestsConnectionError(error, request=request) from error
        return _response(request, answer, body)

    def close(self) -> None:
        """Do nothing: the application is its owner's to close."""


def _response(request: PreparedRequest, answer: Answer, body: bytes) -> Response:
    """Return the response, its content already read."""
    response = Response()
    code, _, response.reason = answer.status.partition(" ")
    response.status_code = int(code)
    response.headers = CaseInsensitiveDict(answer.headers)
    response.encoding = _encoding(response.headers.get("content-type"))
    response.url = request.url or ""
    response.request = request
    response.raw = BytesIO(body)
    return response


@lru_cache(maxsize=64)
def _encoding(kind: str | None) -> str | None:
    return get_encoding_from_headers(CaseInsensitiveDict({"content-type": kind})) if kind else None


def _environ(request: PreparedRequest) -> WSGIEnvironment:
    """Return the request as WSGI has it, the target unquoted only in PATH_INFO."""
    url = (request.url or "").partition("#")[0]
    scheme, _, rest = url.partition("://")
    host, slash, target = rest.partition("/")
    path, _, query = target.partition("?")
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": slash + (unquote_to_bytes(path).decode("latin-1") if "%" in path else path),
        "QUERY_STRING": query,
        "REQUEST_URI": slash + target,
        "SERVER_NAME": host,
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": host,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        EMBEDDED: True,
    }
    for name, value in request.headers.items():
        environ[variable(name)] = value if isinstance(value, str) else value.decode("latin-1")
    environ["wsgi.input"] = _input(request.body, environ)
    return environ


def _input(body: Any, environ: WSGIEnvironment) -> Any:
    if body is None:
        return BytesIO()
    if isinstance(body, str):
        body = body.encode()
    if isinstance(body, bytes | bytearray):
        return BytesIO(body)
    if "CONTENT_LENGTH" not in environ:
        environ["wsgi.input_terminated"] = True
    return body if hasattr(body, "read") else BytesIO(b"".join(_chunks(body)))


def _chunks(body: Iterable[bytes | str]) -> Iterable[bytes]:
    return (chunk.encode() if isinstance(chunk, str) else chunk for chunk in body)
