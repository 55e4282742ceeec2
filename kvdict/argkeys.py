"""Keys made of a function's arguments: the same in every process and on every machine."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID

from kvdict.limits import key_problem
from kvdict.writes import quoted

SPELLED = (Decimal, Fraction, UUID, PurePath, date, time)
"""Types whose text says all there is but for a clock's zone and fold; `datetime` is a date."""
PLAIN = {bool, int, float, str, type(None)}
HASHED = "sha256:"
HASH_SIZE = len(HASHED) + 64


def name_of(function: Callable[..., Any]) -> str:
    """Return the function's module and qualified name."""
    return f"{_module_of(function)}.{function.__qualname__}"


def key_of(
    function: Callable[..., Any],
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> str:
    """Return the text of a call's arguments: the same however they were passed.

    TypeError for an argument that has no stable text, which names it.
    """
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    parts = []
    for name, value in bound.arguments.items():
        try:
            parts.append(text_of(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"{name_of(function)}: the argument {name!r} cannot be part of a key: {error};"
                " give memoize a key= function that returns a str"
            ) from None
    return ",".join(parts)


def fit(prefix: str, text: str) -> str:
    """Return the text, hashed where it makes no key, or could be taken for a hash."""
    if not text.startswith(HASHED) and key_problem(prefix + text) is None:
        return text
    return HASHED + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def text_of(value: Any) -> str:
    """Return a text that only equal values of the same type have; TypeError if there is none.

    Whatever may hold a comma or a bracket of its own is quoted.
    """
    kind = type(value)
    if kind in PLAIN:
        return quoted(value)
    if isinstance(value, Enum):  # flags put together have no name of their own
        return (
            f"{_type_name(kind)}[{text_of(value.value if isinstance(value, Flag) else value.name)}]"
        )
    if kind in {bytes, bytearray}:
        return f"{kind.__name__}:{value.hex()}"
    if isinstance(value, timedelta):
        return f"{_type_name(kind)}({value.days},{value.seconds},{value.microseconds})"
    if isinstance(value, SPELLED):
        return f"{_type_name(kind)}({quoted(str(value))}{_zone_of(value)})"
    if isinstance(value, type):
        return f"type:{_type_name(value)}"
    return _text_of_container(value)


def _text_of_container(value: Any) -> str:
    kind = type(value)
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value) if field.compare]
        inner = ",".join(f"{name}={text_of(getattr(value, name))}" for name in fields)
        return f"{_type_name(kind)}({inner})"
    if kind is list:
        return f"[{_joined(value)}]"
    if isinstance(value, tuple):
        return f"{'' if kind is tuple else _type_name(kind)}({_joined(value)})"
    if kind is dict:
        pairs = sorted((text_of(key), text_of(item)) for key, item in value.items())
        return "{" + ",".join(f"{key}:{item}" for key, item in pairs) + "}"
    if kind in {set, frozenset}:
        return f"{kind.__name__}({','.join(sorted(map(text_of, value)))})"
    raise TypeError(f"a {_type_name(kind)} has no text that is the same everywhere")


def _joined(values: Iterable[Any]) -> str:
    return ",".join(map(text_of, values))


def _zone_of(value: Any) -> str:
    """Return what the text of a moment leaves out."""
    if not isinstance(value, datetime | time):
        return ""
    fold = ",fold" if value.fold else ""
    if value.tzinfo is None:
        return fold
    kind = type(value.tzinfo)
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        raise TypeError(f"its time zone, a {_type_name(kind)}, has no text")
    return f",{quoted(str(value.tzinfo))}{fold}"


def _type_name(kind: type) -> str:
    return f"{_module_of(kind)}.{kind.__qualname__}"


def _module_of(named: Any) -> str:
    """Return the module's name: of a program that is run, that under which it is imported.

    Else two programs would share the results of `__main__.load`, and a worker that was spawned
    would not find those of its parent.
    """
    name: str = named.__module__
    if name == "pathlib._local":  # pragma: no cover - as Python 3.13 has it
        return "pathlib"
    if name not in {"__main__", "__mp_main__"}:
        return name
    main = sys.modules.get(name)
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name)
    return PurePath(file).stem if file else "__main__"
