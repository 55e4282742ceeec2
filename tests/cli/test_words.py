"""Numbers, times and keys as a person reads them."""

from __future__ import annotations

import pytest

from kvdict.cli.words import duration, many, moment, printable, size


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (10, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s"),
     (3599, "59 min 59 s"), (3600, "1 h 0 min"), (90_061, "25 h 1 min")],
)  # fmt: skip
def test_a_duration_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(999, "999 bytes"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (2_000_000_000, "2.0 GB"),
     (3_000_000_000_000, "3000.0 GB")],
)  # fmt: skip
def test_a_size_is_said_in_its_largest_unit(count: int, said: str) -> None:
    assert size(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "-"), (0, "1970-01-01 00:00:00Z"), (1_896_087_600.5, "2030-01-31 11:00:00Z"),
     (253_402_300_800, "253402300800"), (1e30, "1e+30")],
)  # fmt: skip
def test_a_moment_beyond_the_calendar_is_said_in_seconds(seconds: float | None, said: str) -> None:
    assert moment(seconds) == said


def test_nouns_and_keys_are_fit_to_be_read() -> None:
    assert [many(number, "key") for number in (0, 1, 1200)] == ["0 keys", "1 key", "1,200 keys"]
    assert printable("é\x1b[2J\u202e") == r"é\x1b[2J\u202e"
