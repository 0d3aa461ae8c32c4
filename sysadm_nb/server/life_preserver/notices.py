"""Life-preserver events in the words of the real server, and in the same notation where it has no words.

The real server sends five messages: a new snapshot, and a replication's start, progress, end and failure.
It is silent about the rest of lpreserver's log; those messages are ours:

==============================================  =====================
message (after the date)                        priority
==============================================  =====================
``New snapshot of tank/home``                   ``1 - Information``
``Deleted snapshot tank/home@auto-…``           ``1 - Information``
``Failed creating snapshot of tank/home``        ``7 - Critical``
``Failed deleting snapshot tank/home@…``         ``4 - Warning``
``Skipped deleting snapshot tank/home@…``        ``3 - Warning``
``Starting replication for tank``               ``1 - Information``
``Finished replication for tank``               ``1 - Information``
``Replication Failed for tank`` + log file      ``7 - Critical``
``Skipped replication for tank``                 ``3 - Warning``
``Replicating tank@auto-…: 128M/4.20G (2.9%)``  ``0 - Information``
==============================================  =====================

Where more is known than the message has room for, it stands beside it: ``snapshot`` (its full name),
``reason`` (the tool's words).
"""

from __future__ import annotations

import calendar
import re
import time
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sysadm_nb import wire

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DATE: Final = re.compile(r"\w{3} +(\w{3}) +(\d{1,2}) +(\d\d):(\d\d):(\d\d) +(?:(\S+) +)?(\d{4})$")

YEAR_10000: Final = 253_402_300_800  # no event can be dated then, nor before 1970: a clock was wrong


class When(NamedTuple):
    """A moment: as ``date`` prints it, and in microseconds since 1970, UTC (None: unreadable, so now)."""

    text: str
    us: int | None


@dataclass(frozen=True, slots=True)
class Notice:
    """One life-preserver event to send: its args, and when it happened (None: now)."""

    args: dict[str, Any]
    time: int | None = None


def read_date(text: str) -> When:
    """The moment that ``date`` printed as `text`.

    Dates with another zone than UTC are taken for this machine's local time: the log is this machine's, and
    a zone's abbreviation does not say which zone it is.

    Examples
    --------
    >>> read_date("Mon Nov 23 07:21:06 UTC 2026").us
    1795418466000000
    >>> read_date("yesterday").us is None
    True
    """
    text = " ".join(text.split())
    match = _DATE.match(text)
    if match is None or match[1] not in _MONTHS:
        return When(text, None)
    month, day = _MONTHS.index(match[1]) + 1, int(match[2])
    hour, minute, second, year = int(match[3]), int(match[4]), int(match[5]), int(match[7])
    fields = (year, month, day, hour, minute, second, 0, 0)
    try:
        utc = match[6] in ("UTC", "GMT", "Z")
        seconds = calendar.timegm((*fields, 0)) if utc else time.mktime((*fields, -1))
    except (OverflowError, ValueError):
        return When(text, None)
    return When(text, int(seconds) * 1_000_000 if 0 <= seconds < YEAR_10000 else None)


def write_date(us: int) -> When:
    """`us` (microseconds since 1970, UTC) as ``date`` prints it on this machine, in English."""
    now = time.localtime(us // 1_000_000)
    text = (
        f"{_DAYS[now.tm_wday]} {_MONTHS[now.tm_mon - 1]} {now.tm_mday:2} "
        f"{now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02} {now.tm_zone} {now.tm_year}"
    )
    return When(text, us)


def _notice(kind: str, priority: int, message: str, when: When | None, **more: str) -> Notice:
    dated = message if when is None else f"{when.text}: {message}"
    args = {"class": kind, "message": dated, "priority": wire.format_priority(priority)}
    return Notice(args | {key: value for key, value in more.items() if value}, when.us if when else None)


def created(when: When, dataset: str, snapshot: str = "") -> Notice:
    return _notice("snapshot", 1, f"New snapshot of {dataset}", when, snapshot=snapshot)


def deleted(when: When, snapshot: str) -> Notice:
    return _notice("snapshot", 1, f"Deleted snapshot {snapshot}", when)


def create_failed(when: When, dataset: str, reason: str = "") -> Notice:
    return _notice("snapshot", 7, f"Failed creating snapshot of {dataset}", when, reason=reason)


def delete_failed(when: When, snapshot: str, reason: str = "") -> Notice:
    return _notice("snapshot", 4, f"Failed deleting snapshot {snapshot}", when, reason=reason)


def delete_skipped(when: When, snapshot: str, reason: str = "") -> Notice:
    return _notice("snapshot", 3, f"Skipped deleting snapshot {snapshot}", when, reason=reason)


def started(when: When, dataset: str) -> Notice:
    return _notice("replication", 1, f"Starting replication for {dataset}", when)


def finished(when: When, dataset: str) -> Notice:
    return _notice("replication", 1, f"Finished replication for {dataset}", when)


def failed(when: When, dataset: str, logfile: str, reason: str = "") -> Notice:
    text = f"Replication Failed for {dataset}\nLogfile available at: {logfile}"
    return _notice("replication", 7, text, when, reason=reason)


def skipped(when: When, dataset: str, reason: str = "") -> Notice:
    return _notice("replication", 3, f"Skipped replication for {dataset}", when, reason=reason)


def progress(dataset: str, sent: str, total: str = "", percent: float | None = None) -> Notice:
    """Progress in display sizes; the percentage is cut after one decimal, as the real server does.

    Parameters
    ----------
    dataset : str
        What is sent, with its snapshot where that is known.
    sent, total : str
        As the tool printed them (``128M``); an unknown total is shown as ``??``.
    percent : float, optional
        Where the tool says it; else it follows from the sizes.

    Examples
    --------
    >>> progress("tank@auto-1", "128M", "4.20G").args["message"]
    'Replicating tank@auto-1: 128M/4.20G (2.9%)'
    >>> progress("tank@auto-1", "128M").args["message"]
    'Replicating tank@auto-1: 128M/??'
    """
    if percent is None and total:
        whole = wire.parse_size(total)
        percent = 100 * wire.parse_size(sent) / whole if whole > 0 else None
    share = "" if percent is None or percent != percent else f" ({int(percent * 10) / 10:g}%)"
    return _notice("replication", 0, f"Replicating {dataset}: {sent}/{total or '??'}{share}", None)
