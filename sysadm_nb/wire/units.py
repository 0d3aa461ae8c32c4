"""Sizes, percentages, ratios, priorities and times, as SysAdm and ``zpool list`` write them.

A display value that cannot be read is ``nan``: the reader of a table sees a missing value, and the
text is kept in the event's ``args``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

NAN: Final = math.nan

_UNITS: Final = "BKMGTPEZY"
_SIZE = re.compile(r"([+-]?[0-9][0-9.,]*)\s*([KMGTPEZY]?)(?:I?B)?", re.IGNORECASE)
_NUMBER = re.compile(r"([+-]?[0-9][0-9.,]*)")

# Display values repeat endlessly; a dictionary answers in 40 ns where the regular expression takes 400.
# Emptying it when it is full bounds it and keeps the common values one look-up away.
_MEMO_LIMIT: Final = 50_000
_MEMO_LONGEST: Final = 64  # characters: nobody shall fill the memory with long ones


def _number(text: str) -> float:
    """Read ``1,234.5`` and ``13,1``: commas before three digits group, any other is a decimal point."""
    if "," in text:
        if "." in text or re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+", text):
            text = text.replace(",", "")
        else:
            text = text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        return NAN


def _parse_size(text: str) -> float:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return NAN
    value = _number(match[1])
    return value * 1024.0 ** _UNITS.index(match[2].upper() or "B")


def _parse_with_suffix(text: str, suffix: str) -> float:
    match = _NUMBER.fullmatch(text.strip().removesuffix(suffix).rstrip())
    return NAN if match is None else _number(match[1])


class Memo(dict[object, float]):
    """Values of display texts, by text. Numbers are taken for what they are and not kept."""

    def __init__(self, parse: Callable[[str], float]) -> None:
        super().__init__({None: NAN, "-": NAN})
        self.parse = parse

    def __missing__(self, value: object) -> float:
        if not isinstance(value, str):
            return _from_number(value)
        result = self.parse(value)
        if len(value) <= _MEMO_LONGEST:
            if len(self) >= _MEMO_LIMIT:
                self.clear()
            self[value] = result
        return result

    def of(self, value: object) -> float:
        """The value of anything, lists and objects included: these say nothing."""
        try:
            return self[value]
        except TypeError:  # not hashable
            return NAN

    def of_all(self, values: Sequence[object]) -> list[float]:
        """The values of many texts: what a column is made of."""
        first = values[0]
        if type(first) is str and first == values[-1] and values.count(first) == len(values):
            return [self[first]] * len(values)
        try:
            return list(map(self.__getitem__, values))
        except TypeError:
            return [self.of(value) for value in values]


SIZES: Final = Memo(_parse_size)
PERCENTS: Final = Memo(lambda text: _parse_with_suffix(text, "%"))
RATIOS: Final = Memo(lambda text: _parse_with_suffix(text.replace("X", "x"), "x"))


def parse_size(value: object) -> float:
    """Bytes of a display size; 1024-based, as ``zpool list`` prints them.

    Parameters
    ----------
    value : str, int, float or None
        ``107G``, ``1.41T``, ``96K``, ``512B``, ``0``, ``-`` for none; decimals and commas are taken.

    Returns
    -------
    float
        Bytes, or ``nan`` where there is no size.

    Examples
    --------
    >>> parse_size("96K"), parse_size("1.5G"), parse_size("0")
    (98304.0, 1610612736.0, 0.0)
    >>> parse_size("-")
    nan
    """
    return SIZES.of(value)


def parse_percent(value: object) -> float:
    """Percent, 0 to 100 as a rule, of ``12%``, ``2.9%`` or ``12``; ``nan`` for ``-``.

    >>> parse_percent("12%"), parse_percent("2.9%")
    (12.0, 2.9)
    """
    return PERCENTS.of(value)


def parse_ratio(value: object) -> float:
    """Ratio of ``1.00x`` or ``1.00``; ``nan`` for ``-``.

    >>> parse_ratio("1.37x")
    1.37
    """
    return RATIOS.of(value)


def _from_number(value: object) -> float:
    """Take a JSON number for what it is; anything else that is no string says nothing."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return NAN
    try:
        return float(value)
    except OverflowError:
        return NAN


def text_or_none(value: object) -> str | None:
    """A name as it is; ``-`` and anything that is no text count as missing."""
    return value if isinstance(value, str) and value and value != "-" else None


def format_size(value: float) -> str:
    """Show bytes the way ``zpool list`` does: three significant digits, 1024-based.

    The rule is that of OpenZFS' ``zfs_nicenum``: a value below 1024 is printed whole; above, the
    number of decimals (2, 1 or 0) is the largest that keeps the text within five characters, and an
    exact multiple of its unit is printed without decimals.

    Parameters
    ----------
    value : float
        Bytes; ``nan`` gives ``-``.

    Examples
    --------
    >>> [format_size(v) for v in (0, 512, 98304, 1.81 * 2**40, 412.4 * 2**30, float("nan"))]
    ['0', '512', '96K', '1.81T', '412G', '-']
    """
    if math.isnan(value):
        return "-"
    n = max(0, int(value))
    index = 0
    while n >> (10 * (index + 1)) and index < len(_UNITS) - 1:
        index += 1
    if index == 0:
        return str(n)
    unit = _UNITS[index]
    if n % (1 << (10 * index)) == 0:
        return f"{n >> (10 * index)}{unit}"
    scaled = n / (1 << (10 * index))
    text = ""
    for decimals in (2, 1, 0):
        text = f"{scaled:.{decimals}f}{unit}"
        if len(text) <= 5:
            break
    return text


LEVELS: Final = ("Information", "Warning", "Critical", "Urgent")
_LEVEL_OF_WORD: Final = {
    "information": "Information",
    "info": "Information",
    "notice": "Information",
    "warning": "Warning",
    "warn": "Warning",
    "critical": "Critical",
    "urgent": "Urgent",
}
_LOWEST: Final = {"Information": 0.0, "Warning": 3.0, "Critical": 6.0, "Urgent": 9.0}
_PRIORITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)?\s*[-/:]?\s*([A-Za-z]*).*", re.DOTALL)


def level_of(priority: float) -> str | None:
    """Word for a priority: 0–2 Information, 3–5 Warning, 6–8 Critical, 9–10 Urgent.

    >>> level_of(7), level_of(2)
    ('Critical', 'Information')
    """
    if math.isnan(priority):
        return None
    return LEVELS[min(3, max(0, int(priority) // 3))] if math.isfinite(priority) else "Urgent"


def format_priority(priority: int) -> str:
    """Write a priority as real servers do.

    >>> format_priority(6)
    '6 - Critical'
    """
    return f"{priority} - {level_of(priority)}"


def _parse_priority(text: str) -> tuple[float, str | None]:
    match = _PRIORITY.fullmatch(text.strip())
    if match is None:  # pragma: no cover - the pattern takes any text
        return NAN, None
    number = float(match[1]) if match[1] else NAN
    level = _LEVEL_OF_WORD.get(match[2].lower())
    if level is None:
        return number, level_of(number)
    return (number if match[1] else _LOWEST[level]), level


_priorities: dict[str, tuple[float, str | None]] = {}
_NO_PRIORITY: Final = (NAN, None)


def parse_priority(value: object) -> tuple[float, str | None]:
    """Number and level of a priority in every notation seen.

    Parameters
    ----------
    value : str, int, float or None
        ``6 - Critical`` (real servers), ``6/Critical`` (the document), ``6``, or a word alone, which
        gets the lowest number of its level.

    Returns
    -------
    tuple of (float, str or None)
        ``(nan, None)`` where it says nothing.

    Examples
    --------
    >>> parse_priority("6 - Critical"), parse_priority("3/Warning"), parse_priority(9)
    ((6.0, 'Critical'), (3.0, 'Warning'), (9.0, 'Urgent'))
    """
    try:
        return _priorities[value]  # type: ignore[index]
    except (KeyError, TypeError):
        pass
    if not isinstance(value, str):
        number = _from_number(value)
        return (number, level_of(number)) if number == number else _NO_PRIORITY
    result = _parse_priority(value)
    if len(value) <= _MEMO_LONGEST:
        if len(_priorities) >= _MEMO_LIMIT:
            _priorities.clear()
        _priorities[value] = result
    return result


def parse_priorities(values: Sequence[object]) -> list[tuple[float, str | None]]:
    """Number and level of many priorities.

    >>> parse_priorities(["6 - Critical", 9])
    [(6.0, 'Critical'), (9.0, 'Urgent')]
    """
    try:
        return list(map(_priorities.__getitem__, values))  # type: ignore[arg-type]
    except (KeyError, TypeError):
        return list(map(parse_priority, values))


EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH: Final = datetime(1970, 1, 1)
_MICROSECOND: Final = timedelta(microseconds=1)
# What fits a pandas timestamp in microseconds and a Python datetime alike.
MIN_TIME: Final = -62_135_596_800_000_000
MAX_TIME: Final = 253_402_300_799_999_999


def to_microseconds(time: datetime) -> int:
    """Microseconds since 1970 in UTC of an aware datetime.

    Raises
    ------
    InputError
        If the datetime has no zone: guessing one is how samples get lost.
    """
    if time.tzinfo is None:
        from sysadm_nb.errors import InputError

        raise InputError(f"{time!r} has no time zone; pass an aware datetime such as datetime.now(UTC)")
    return (time - EPOCH) // _MICROSECOND


def to_datetime(microseconds: int) -> datetime:
    """Aware UTC datetime of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=microseconds)


@lru_cache(maxsize=4096)
def parse_time(text: str) -> tuple[int, bool] | None:
    """Read an ISO 8601 time.

    Returns
    -------
    tuple of (int, bool) or None
        Microseconds since 1970 and whether the text named its zone. Without a zone the wall clock is
        read as if it were UTC, and it is for the caller to work the offset out. ``None`` if it is no time.

    Examples
    --------
    >>> parse_time("1970-01-01T00:00:01.5Z"), parse_time("1970-01-01T00:00:01")
    ((1500000, True), (1000000, False))
    >>> parse_time("yesterday") is None
    True
    """
    try:
        time = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        return None
    try:
        if time.tzinfo is None:
            return (time - _NAIVE_EPOCH) // _MICROSECOND, False
        return (time - EPOCH) // _MICROSECOND, True
    except OverflowError:
        return None


def format_time(time: int | datetime) -> str:
    """ISO 8601 in UTC with microseconds, the form our servers put into the envelope.

    >>> format_time(1_500_000)
    '1970-01-01T00:00:01.500000Z'
    """
    moment = to_datetime(time) if isinstance(time, int) else time.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment.year >= 1000 else moment.isoformat()


# Cc and Cf (other than line ends and tabs where kept), the line separators and bidirectional marks:
# what a terminal or a one-line summary must not get from a stranger.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def shell_text(text: str) -> str:
    """Text that is safe in a terminal: escape sequences and control characters taken out, line ends kept.

    >>> shell_text("\\x1b[31mred\\x1b[0m\\x07 end")
    'red end'
    """
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def one_line(text: str, limit: int = 160) -> str:
    """Safe text on one line, cut at ``limit`` characters."""
    if len(text) > 4 * limit:
        text = text[: 4 * limit]
    if not text.isprintable():
        text = " ".join(shell_text(text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
