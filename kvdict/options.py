"""Options of the parts that users make themselves, checked when they are given."""

from __future__ import annotations

from typing import TypeVar

from kvdict.errors import ConfigError

N = TypeVar("N", bound=float)


def at_least(least: float, **option: N) -> N:
    """Return the value of the one option; ConfigError if it is no number, or too small."""
    ((name, value),) = option.items()
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
        raise ConfigError(f"{name} is {value!r}, expected a number of at least {least:g}")
    return value


def function(**option: object) -> None:
    """Raise ConfigError if the one option is neither a function nor None."""
    ((name, value),) = option.items()
    if value is not None and not callable(value):
        raise ConfigError(f"{name} is {value!r}, expected a function, or None")


def whole(least: int, **option: int) -> int:
    """Return the value of the one option, a count; ConfigError if it is none, or too small."""
    ((name, value),) = option.items()
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return value
