"""Durations as people write them."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias

import pandas as pd

from ..errors import RuleError
from ..tables.spans import is_number, timespan

Duration: TypeAlias = str | timedelta | int | float
"""``"30min"``, ``"6h"``, ``"14D"``, a timedelta, or a number of seconds; text needs its unit."""


def duration_us(value: Duration, what: str = "a duration") -> int:
    """Microseconds of a duration.

    Raises
    ------
    RuleError
        It is no duration, or a negative one.

    Examples
    --------
    >>> duration_us("30min"), duration_us(90)
    (1800000000, 90000000)
    """
    try:
        if is_number(value):
            value = timedelta(microseconds=round(float(value) * 1e6))
        span = timespan(value)
        micro = int(span // pd.Timedelta(microseconds=1))
    except (ValueError, TypeError, OverflowError):
        raise RuleError(
            f"{what}: {value!r} is no duration; write '90s', '30min', '6h' or '14D', with the unit"
        ) from None
    if pd.isna(span) or micro < 0:
        raise RuleError(f"{what}: {value!r} must not be negative or missing")
    return micro


def duration_text(micro: float) -> str:
    """The shortest exact writing of a duration.

    >>> duration_text(1_800_000_000), duration_text(93_600_000_000), duration_text(1_209_600_000_000)
    ('30min', '26h', '14D')
    """
    for size, unit in ((86_400_000_000, "D"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s")):
        if micro and micro % size == 0:
            return f"{micro // size:.0f}{unit}"
    return f"{micro / 1e6:g}s"


def duration_words(micro: float) -> str:
    """A duration for people, in two units at most.

    >>> duration_words(93_784_000_000), duration_words(12_000_000)
    ('1 day 2 h', '12 s')
    """
    seconds = round(micro / 1e6)
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, seconds = divmod(rest, 60)
    parts = [(days, "day" if days == 1 else "days"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    first = next((i for i, (n, _) in enumerate(parts) if n), 3)
    return " ".join(f"{n} {unit}" for n, unit in parts[first : first + 2] if n) or "0 s"
