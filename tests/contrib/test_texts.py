"""Serialised values as text: what comes back, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvdict.codecs import PICKLE
from kvdict.contrib.texts import BASE64, SIGNED, TextBytes

VALUES = st.binary() | st.text().map(str.encode) | st.sampled_from([BASE64, SIGNED, BASE64 + b"!"])


@given(VALUES, st.none() | st.text(min_size=1).filter(str.isprintable))
def test_bytes_come_back_and_travel_as_text(value: bytes, secret: str | None) -> None:
    codec = TextBytes(secret)
    stored = codec.dumps(value)
    stored.decode()
    assert codec.loads(stored) == value


def test_text_stands_as_it_is_if_it_is_not_signed() -> None:
    assert TextBytes().dumps('{"a": "ü"}') == '{"a": "ü"}'.encode()
    assert TextBytes("s").dumps("a").startswith(SIGNED)


@pytest.mark.parametrize(
    "stored",
    [b"", b"text", b"signed:", b"signed:AAAA", TextBytes("b").dumps("x"), PICKLE.dumps("x"),
     TextBytes("a").dumps("x")[:-4], b"base64:eA=="],
)  # fmt: skip
def test_what_was_not_signed_with_the_secret_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError, match=r"signature|base64|padding|Incorrect|decode"):
        TextBytes("a").loads(stored)


def test_what_is_signed_is_refused_without_a_secret() -> None:
    with pytest.raises(ValueError, match="no secret"):
        TextBytes().loads(TextBytes("a").dumps("x"))


@pytest.mark.parametrize("value", [None, 1, {"a": 1}])
def test_what_no_serializer_made_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="the serializer made"):
        TextBytes().dumps(value)


def test_the_secret_is_not_shown() -> None:
    assert "hush" not in repr(TextBytes("hush"))
