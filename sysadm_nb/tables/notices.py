"""What the messages of life-preserver say: dates, datasets, progress, log files."""

from __future__ import annotations

import math
import re
from datetime import datetime
from functools import lru_cache
from typing import Final

from sysadm_nb.wire import parse_percent, parse_size

NAN: Final = math.nan

_DATE = re.compile(r"([A-Za-z]{3} [A-Za-z]{3} +\d{1,2} \d\d:\d\d):(\d\d)(?: ([A-Za-z+\-0-9:]+))? (\d{4}): ")
_UTC: Final = frozenset(("UTC", "GMT", "Z", "+00", "+0000"))
# How a message begins that names a dataset and nothing else, and the action. The last ones are what our own
# servers tell beyond the real ones (sysadm_nb/server/life_preserver/notices.py).
_BEGINNINGS: Final = (
    ("New snapshot of ", "created"),
    ("Starting replication for ", "started"),
    ("Finished replication for ", "finished"),
    ("Failed deleting snapshot ", "failed"),
    ("Deleted snapshot ", "other"),
    ("Skipped deleting snapshot ", "other"),
    ("Skipped replication for ", "other"),
)
_PROGRESS = re.compile(r"Replicating (.+?): (\S+)/(\S+)(?: \(([0-9.,]+) ?%\))?", re.DOTALL)
_FAILED = re.compile(
    r"(?:Replication Failed for|Failed (?:creating )?(?:a )?snapshot (?:of|on)) ([^\n]+)"
    r"(?:\nLogfile available at: (.*))?",
    re.DOTALL,
)


Notice = tuple[str, str | None, float, float, float, str | None, int | None, bool]
"""Action, dataset, bytes sent, total bytes, percent done, log file (the cells of the life_preserver table),
then the date in the message in microseconds, read as if it were UTC, and whether it really is UTC."""


def read_notice(message: str) -> Notice:
    """Read the message of a life-preserver event.

    Examples
    --------
    >>> read_notice("Replicating tank/home: 1G/4G (25%)")[:5]
    ('progress', 'tank/home', 1073741824.0, 4294967296.0, 25.0)
    """
    date = _DATE.match(message)
    wall, zoned = None, False
    if date is not None:
        minute, second, zone, year = date.groups()
        wall = _minute(minute, year)
        if wall is not None:
            wall = wall + int(second) * 1_000_000 if second < "60" else None
        zoned = zone in _UTC
        message = message[date.end() :]
    message = message.strip()
    for beginning, action in _BEGINNINGS:
        if message.startswith(beginning):
            return action, _dataset(message[len(beginning) :]), NAN, NAN, NAN, None, wall, zoned
    match = _PROGRESS.fullmatch(message)
    if match is not None:
        sent, total = parse_size(match[2]), parse_size(match[3])
        percent = parse_percent(match[4])
        if percent != percent and total:
            percent = 100.0 * sent / total
        return "progress", _dataset(match[1]), sent, total, percent, None, wall, zoned
    match = _FAILED.fullmatch(message)
    if match is not None:
        return "failed", _dataset(match[1]), NAN, NAN, NAN, match[2] or None, wall, zoned
    return "other", None, NAN, NAN, NAN, None, wall, zoned


def _dataset(name: str) -> str | None:
    return name.strip().partition("@")[0] or None


@lru_cache(1000)
def _minute(text: str, year: str) -> int | None:
    # Not strptime: it reads the names of months in whatever language the notebook runs.
    _, month, day, time = text.split()
    try:
        moment = datetime(int(year), _MONTHS.index(month.lower()) + 1, int(day), int(time[:2]), int(time[3:]))
    except ValueError:
        return None
    return (moment - datetime(1970, 1, 1)) // datetime.resolution


_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
