"""Numbers, times and keys as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime


def printable(text: str) -> str:
    """Return a key as a terminal can bear it: control characters become escapes."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escape(one) for one in text)


def moment(seconds: float | None) -> str:
    """Return a point in time for a person, a dash for never."""
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError):  # beyond the year 9999
        return str(seconds)


def duration(seconds: float) -> str:
    """Return a length of time for a person."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(count: int) -> str:
    """Return a number of bytes for a person."""
    number = float(count)
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def many(count: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _escape(one: str) -> str:
    return one.encode("unicode_escape").decode()
