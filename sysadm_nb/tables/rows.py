"""Rows of the pools, system, life_preserver and bridge tables: what one event says, typed."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any, Final

from sysadm_nb.tables.job import Lead
from sysadm_nb.wire import parse_percent, parse_priority, parse_size
from sysadm_nb.wire.events import Pool
from sysadm_nb.wire.units import PERCENTS, RATIOS, SIZES

NAN: Final = math.nan

HEALTH: Final = frozenset(("ONLINE", "DEGRADED", "FAULTED", "OFFLINE", "UNAVAIL", "REMOVED", "SUSPENDED"))


def text_or_none(value: Any) -> str | None:
    """A name as it is; ``-`` and anything that is no text count as missing."""
    return value if value.__class__ is str and value and value != "-" else None


# Columns of `pools` whose cells are display texts until the column is built: converting a whole column
# at once takes half the time.
DISPLAYED: Final = {
    "size_bytes": SIZES,
    "alloc_bytes": SIZES,
    "free_bytes": SIZES,
    "expandsz_bytes": SIZES,
    "frag_pct": PERCENTS,
    "capacity_pct": PERCENTS,
    "dedup_ratio": RATIOS,
}


def pool_row(lead: Lead, hostname: str | None, name: str, pool: Pool) -> tuple[Any, ...]:
    """A row of the ``pools`` table, with display texts in the :data:`DISPLAYED` columns.

    A server that does not know the CKPOINT column of a newer ``zpool list`` takes every later value for
    its neighbour's: a health word stands in ``altroot`` then. The values are put back, and the row says so.
    """
    seq, time, received, server, origin = lead
    size, alloc, free, frag, capacity = pool.size, pool.alloc, pool.free, pool.frag, pool.capacity
    expandsz, dedup, altroot, health = pool.expandsz, pool.dedup, pool.altroot, pool.health
    repaired = False
    if capacity is None:
        capacity = pool.cap
    if altroot == "-":
        altroot = None
    elif altroot is not None:
        repaired = altroot.__class__ is str and altroot in HEALTH and health not in HEALTH
        if repaired:
            expandsz, frag, capacity, dedup, health, altroot = frag, capacity, dedup, health, altroot, None
        altroot = text_or_none(altroot)
    if pool.size_bytes is not None:
        size, free = pool.size_bytes, pool.free_bytes if pool.free_bytes is not None else free
        expandsz = expandsz if pool.expandsz_bytes is None else pool.expandsz_bytes
        if pool.alloc_bytes is not None:
            alloc = pool.alloc_bytes
            if size > 0:
                capacity = 100.0 * alloc / size
    return (
        seq,
        time,
        received,
        server,
        origin,
        hostname,
        name,
        size,
        alloc,
        free,
        expandsz,
        frag,
        capacity,
        dedup,
        altroot,
        health if health.__class__ is str and health != "-" else None,
        NAN if pool.priority is None else parse_priority(pool.priority)[0],
        repaired,
    )


def updates_status(updates: Any) -> str | None:
    """``noupdates``, ``updatesavailable``, ``rebootrequired`` …, wherever the server puts it."""
    return text_or_none(updates.get("status") if isinstance(updates, dict) else updates)


def is_true(value: Any) -> bool:
    """``"true"`` and ``true`` alike."""
    return value is True or (isinstance(value, str) and value.lower() == "true")


# -- life preserver ------------------------------------------------------------------------------------

_DATE = re.compile(
    r"(?P<date>[A-Za-z]{3} [A-Za-z]{3} +\d{1,2} \d\d:\d\d:\d\d)"
    r"(?: (?P<zone>[A-Za-z+\-0-9:]+))? (?P<year>\d{4}): "
)
_ACTIONS: Final = (
    (re.compile(r"New snapshot of (?P<dataset>.+)", re.DOTALL), "created"),
    (re.compile(r"Starting replication for (?P<dataset>.+)", re.DOTALL), "started"),
    (re.compile(r"Finished replication for (?P<dataset>.+)", re.DOTALL), "finished"),
    (
        re.compile(
            r"(?:Replication Failed for|Failed (?:creating )?(?:a )?snapshot (?:of|on)) (?P<dataset>[^\n]+)"
            r"(?:\nLogfile available at: (?P<logfile>.*))?",
            re.DOTALL,
        ),
        "failed",
    ),
    (
        re.compile(
            r"Replicating (?P<dataset>.+?): (?P<sent>\S+)/(?P<total>\S+)(?: \((?P<percent>[0-9.,]+) ?%\))?",
            re.DOTALL,
        ),
        "progress",
    ),
    # what our own servers tell beyond the real ones (sysadm_nb/server/life_preserver/notices.py)
    (re.compile(r"Failed deleting snapshot (?P<dataset>.+)", re.DOTALL), "failed"),
    (
        re.compile(
            r"(?:(?:Deleted|Skipped deleting) snapshot|Skipped replication for) (?P<dataset>.+)", re.DOTALL
        ),
        "other",
    ),
)


class Told:
    """What a life-preserver message says."""

    __slots__ = ("action", "dataset", "logfile", "percent", "sent", "total", "wall", "zoned")

    def __init__(self, message: str) -> None:
        self.action = "other"
        self.dataset: str | None = None
        self.logfile: str | None = None
        self.sent = self.total = self.percent = NAN
        self.wall: int | None = None  # the date in the message, in microseconds, read as if it were UTC
        self.zoned = False  # whether it really is UTC
        date = _DATE.match(message)
        if date is not None:
            self.wall = _wall(f"{date['date']} {date['year']}")
            self.zoned = date["zone"] in ("UTC", "GMT", "Z", "+00", "+0000")
            message = message[date.end() :]
        for pattern, action in _ACTIONS:
            match = pattern.fullmatch(message.strip())
            if match is None:
                continue
            self.action = action
            found = match.groupdict()
            self.dataset = match["dataset"].strip().partition("@")[0] or None
            self.logfile = found.get("logfile") or None
            if action == "progress":
                self.sent, self.total = parse_size(found["sent"]), parse_size(found["total"])
                self.percent = parse_percent(found["percent"])
                if self.percent != self.percent and self.total:
                    self.percent = 100.0 * self.sent / self.total
            break


def _wall(text: str) -> int | None:
    # Not strptime: it reads the names of months in whatever language the notebook runs.
    _, month, day, clock, year = text.split()
    try:
        moment = datetime.fromisoformat(f"{year}-{_MONTHS.index(month.lower()) + 1:02}-{int(day):02}T{clock}")
    except ValueError:
        return None
    return (moment - datetime(1970, 1, 1)) // datetime.resolution


_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
