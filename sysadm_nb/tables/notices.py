"""What the messages of life-preserver say: dates, datasets, progress, log files."""

from __future__ import annotations

import math
import re
from datetime import datetime
from functools import lru_cache
from typing import Final

from sysadm_nb.wire import parse_percent, parse_size

NAN: Final = math.nan

_DATE = re.compile(r"([A-Za-z]{3} [A-Za-z]{3} +\d{1,2} \d\d:\d\d:\d\d)(?: ([A-Za-z+\-0-9:]+))? (\d{4}): ")
# How a message begins, the whole of it, and the action. The last ones are what our own servers tell
# beyond the real ones (sysadm_nb/server/life_preserver/notices.py).
_KINDS: Final = tuple(
    (beginning, re.compile(pattern, re.DOTALL), action)
    for beginning, pattern, action in (
        ("New ", r"New snapshot of (?P<dataset>.+)", "created"),
        ("Starting ", r"Starting replication for (?P<dataset>.+)", "started"),
        ("Finished ", r"Finished replication for (?P<dataset>.+)", "finished"),
        (
            "Replicating ",
            r"Replicating (?P<dataset>.+?): (?P<sent>\S+)/(?P<total>\S+)(?: \((?P<percent>[0-9.,]+) ?%\))?",
            "progress",
        ),
        (
            ("Replication Failed ", "Failed "),
            r"(?:Replication Failed for|Failed (?:creating )?(?:a )?snapshot (?:of|on)) (?P<dataset>[^\n]+)"
            r"(?:\nLogfile available at: (?P<logfile>.*))?",
            "failed",
        ),
        ("Failed ", r"Failed deleting snapshot (?P<dataset>.+)", "failed"),
        (
            ("Deleted ", "Skipped "),
            r"(?:(?:Deleted|Skipped deleting) snapshot|Skipped replication for) (?P<dataset>.+)",
            "other",
        ),
    )
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
        day, zone, year = date.groups()
        wall = _wall(day, year)
        zoned = zone in ("UTC", "GMT", "Z", "+00", "+0000")
        message = message[date.end() :]
    message = message.strip()
    for beginning, pattern, action in _KINDS:
        if not message.startswith(beginning):
            continue
        match = pattern.fullmatch(message)
        if match is None:
            continue
        dataset = match["dataset"].strip().partition("@")[0] or None
        if action == "progress":
            sent, total = parse_size(match["sent"]), parse_size(match["total"])
            percent = parse_percent(match["percent"])
            if percent != percent and total:
                percent = 100.0 * sent / total
            return action, dataset, sent, total, percent, None, wall, zoned
        logfile = (match["logfile"] or None) if "logfile" in pattern.groupindex else None
        return action, dataset, NAN, NAN, NAN, logfile, wall, zoned
    return "other", None, NAN, NAN, NAN, None, wall, zoned


def _wall(text: str, year: str) -> int | None:
    midnight = _day(text[:-9], year)
    hours, minutes, seconds = int(text[-8:-6]), int(text[-5:-3]), int(text[-2:])
    if midnight is None or hours > 23 or minutes > 59 or seconds > 59:
        return None
    return midnight + (hours * 3600 + minutes * 60 + seconds) * 1_000_000


@lru_cache(1000)
def _day(text: str, year: str) -> int | None:
    # Not strptime: it reads the names of months in whatever language the notebook runs.
    _, month, day = text.split()
    try:
        moment = datetime(int(year), _MONTHS.index(month.lower()) + 1, int(day))
    except ValueError:
        return None
    return (moment - datetime(1970, 1, 1)) // datetime.resolution


_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
