"""What a type checker tells those who use kvdict; mypy reads this file, pytest runs it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, assert_type

import pytest

import kvdict
from kvdict import Entry, Key, KVNamespace


def test_a_codec_says_what_the_values_are() -> None:
    with kvdict.open("memory://") as kv:
        assert_type(kv, KVNamespace[Any])
        assert_type(kv.using("text"), KVNamespace[str])
        assert_type(kv.prefixed("a").using("bytes"), KVNamespace[bytes])
    with kvdict.open("memory://", codec="text", expiration_ttl=60) as texts:
        assert_type(texts, KVNamespace[str])
        texts["k"] = "v"
        assert_type(texts["k"], str)
        assert_type(texts.get("k"), str | None)
        assert_type(texts.pop("k", None), str | None)
        assert_type(texts.setdefault("k", "v"), str)
        assert_type(texts.get_many(["k"]), dict[str, str])
        assert_type(texts.entry("k"), Entry[str])
        assert_type(texts.copy(), dict[str, str])
        assert_type(next(texts.scan()), Key)
        assert_type([*texts.items()], list[tuple[str, str]])
        assert_type([*texts.values()], list[str])
    with kvdict.open("memory://", codec="bytes") as raw:
        assert_type(raw, KVNamespace[bytes])
    with kvdict.open("memory://", codec=json) as module:
        assert_type(module, KVNamespace[Any])


class Celsius:
    """A codec of one's own."""

    def dumps(self, value: float, /) -> str:
        return f"{value} C"

    def loads(self, data: bytes, /) -> float:
        return float(data.split()[0])


def test_a_codec_of_ones_own_does_too() -> None:
    with kvdict.open("memory://", codec=Celsius()) as kv:
        assert_type(kv, KVNamespace[float])
        kv["today"] = 21.5
        assert kv["today"] == 21.5
        assert kv.using("text")["today"] == "21.5 C"


def test_a_memoized_function_takes_and_gives_what_it_did() -> None:
    with kvdict.open("memory://") as kv:

        @kv.memoize(60)
        def add(a: int, b: int = 1) -> float:
            return a + b

        @kv.memoize
        def bare(a: int) -> str:
            return str(a)

        assert_type(add(1, b=2), float)
        assert_type(add.refresh(1), float)
        assert_type(add.cache_info().hits, int)
        assert_type(bare(1), str)
        with pytest.raises(TypeError):
            add("1", c=2)  # type: ignore[arg-type, call-arg] # as it would of the function itself
        with pytest.raises(TypeError):
            bare()  # type: ignore[call-arg]  # the mistake is meant


def test_so_does_a_coroutine_function() -> None:
    with kvdict.open("memory://") as kv:

        @kv.memoize(60)
        async def add(a: int, b: int = 1) -> float:
            return a + b

        @kv.memoize
        async def bare(a: int) -> str:
            return str(a)

        async def main() -> None:
            assert_type(await add(1, b=2), float)
            assert_type(await add.refresh(1), float)
            assert_type(await bare(1), str)

        asyncio.run(main())


def test_so_do_methods() -> None:
    with kvdict.open("memory://") as kv:

        @dataclass
        class Shop:
            name: str

            @kv.memoize(60)
            def price(self, article: str) -> int:
                return len(article)

            @kv.memoize(60)
            async def size(self) -> str:
                return self.name

            @kv.memoize(60)
            @classmethod
            def make(cls, n: int) -> str:
                return cls.__name__ * n

            @kv.memoize(60)
            @staticmethod
            def count(n: int) -> float:
                return n

        async def main() -> None:
            assert_type(await Shop("a").size(), str)

        asyncio.run(main())
        assert_type(Shop("a").price("milk"), int)
        assert_type(Shop("a").price.refresh("milk"), int)
        assert_type(Shop.make(1), str)
        assert_type(Shop("a").make(1), str)
        assert_type(Shop.count(1), float)
        assert_type(Shop("a").count(1), float)


def test_an_edited_value_is_of_the_codecs_type() -> None:
    with kvdict.open("memory://", codec=Cart()) as kv, kv.edit("cart", default={}) as cart:
        assert_type(cart, dict[str, int])


class Cart:
    """A codec of dicts of numbers."""

    def dumps(self, value: dict[str, int], /) -> str:
        return json.dumps(value)

    def loads(self, data: bytes, /) -> dict[str, int]:
        return {name: int(number) for name, number in json.loads(data).items()}
