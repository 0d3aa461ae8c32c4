"""What a gap hid, from the server's own logs.

``rpc/logs`` gives the events of a time range under the second in which they were logged, in the server's
local time with no zone. Entries of one second overwrite each other on real servers, so what comes back can
lack some; what came live already must not be counted again.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any, NamedTuple

import pandas as pd

from sysadm_nb import wire
from sysadm_nb.client.connection import Connection, now_us
from sysadm_nb.errors import InputError, RequestRefused, RequestTimeout
from sysadm_nb.tables import Tables
from sysadm_nb.tables.spans import timespan

LOGS = {
    "events-dispatcher": "dispatcher",
    "events-lifepreserver": "life-preserver",
    "events-state": "system-state",
}
SECOND = 1_000_000
QUARTER = 15 * 60 * SECOND
# Logs are read from before the gap: by a clock that is behind it began earlier, and what came live before it
# tells by how much.
MARGIN = 60 * SECOND
NEAR = (SECOND // 4, 2 * SECOND)  # the closest first: equal events can follow each other by a second or two


class Entry(NamedTuple):
    """An entry of a log: event class, between which local times it was written (µs), arguments."""

    event: str
    local: int
    until: int
    args: Any

    @property
    def width(self) -> int:
        """How much its time is unsure by: a second, or nothing where the server tells fractions."""
        return self.until - self.local


def read_entries(reply: Any) -> list[Entry]:
    """Take the reply of ``read_logs`` apart, in order of time.

    A time without a fraction can be any in its second; our own servers give one to all entries of a second
    but the first, so that one lies before the next.

    Examples
    --------
    >>> read_entries({"events-state": {"": {}, "2026-11-23T07:24:39": {"hostname": "nas"}}})[0].args
    {'hostname': 'nas'}
    """
    entries = []
    for log, event in LOGS.items():
        listed = reply.get(log) if isinstance(reply, dict) else None
        latest = None
        for text, args in sorted(listed.items(), reverse=True) if isinstance(listed, dict) else ():
            parsed = wire.parse_time(text)
            if parsed is None or not isinstance(args, dict):
                continue
            local = until = parsed[0]
            if "." not in text:
                until = local + SECOND if latest is None else min(local + SECOND, latest)
            entries.append(Entry(event, local, until, args))
            latest = local
    return sorted(entries, key=lambda entry: entry.local)


class Known:
    """The events of a server that are in the table already, by class and arguments."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], list[int]] = defaultdict(list)

    async def fill(self, events: pd.DataFrame, server: str, start: int) -> None:
        """Read those from a time on."""
        rows = events[
            (events["time"] >= pd.Timestamp(start, unit="us", tz="UTC"))
            & (events["server"] == server)
            & events["origin"].isin(["live", "backfill", "file"])
            & events["args"].notna()
        ]
        times = rows["time"].to_numpy("datetime64[us]").astype("int64").tolist()
        triples = zip(times, rows["event"].astype(str), rows["args"], strict=True)
        for number, (time, event, text) in enumerate(triples):
            self._times[event, canonical(text)].append(time)
            if number % 1000 == 999:
                await asyncio.sleep(0)  # live events go on

    def times(self, entry: Entry) -> list[int]:
        return self._times.get((entry.event, wire.dump_json(entry.args)), [])

    def take(self, entry: Entry, time: int, tolerance: int) -> bool:
        """Whether the entry is one of these; then it is taken, so that a second like it is not."""
        times = self.times(entry)
        middle = time + entry.width // 2
        reach = entry.width // 2 + tolerance
        near = times[bisect_left(times, middle - reach) : bisect_right(times, middle + reach)]
        if not near:
            return False
        times.remove(min(near, key=lambda known: abs(known - middle)))
        return True


def canonical(text: str) -> str:
    """Arguments as text that is equal when they are."""
    try:
        return wire.dump_json(wire.parse_json(text))
    except wire.NotJson:
        return text


def offset_by_events(entries: Iterable[Entry], known: Known) -> int | None:
    """How far the server's local time is ahead (µs), from events that we have live and that are unique."""
    entries = list(entries)
    often = Counter((entry.event, wire.dump_json(entry.args)) for entry in entries)
    found = []
    for entry in entries:
        times = known.times(entry)
        if len(times) == 1 and often[entry.event, wire.dump_json(entry.args)] == 1:
            found.append(entry.local + entry.width // 2 - times[0])
    if not found:
        return None
    ahead = round(median(found))
    quarter = round(ahead / QUARTER) * QUARTER
    return quarter if abs(ahead - quarter) <= SECOND else ahead  # else its clock is wrong as well


def offset_by_range(entries: list[Entry], start: int, end: int) -> int | None:
    """The zone, where all entries must be from a known range and only one quarter of an hour fits.

    The range that is asked for is absolute, and the entries are in local time.
    """
    if not entries:
        return None
    least, most = entries[-1].local - end, entries[0].local - start
    first = -(-(least - 5 * SECOND) // QUARTER)
    last = (most + 5 * SECOND) // QUARTER
    return first * QUARTER if first == last else None


async def offset_by_visit(connection: Connection, connected: int) -> int | None:
    """The zone, from the server's log of hosts: it notes our own connecting."""
    try:
        reply = await read_logs(connection, ["hostinfo"], connected - MARGIN)
    except (RequestRefused, RequestTimeout):
        return None
    lines = reply.get("hostinfo") if isinstance(reply, dict) else None
    moments = [
        parsed[0]
        for text, line in (lines.items() if isinstance(lines, dict) else ())
        if isinstance(line, str) and line.startswith("New Connection") and (parsed := wire.parse_time(text))
    ]
    return round((max(moments) - connected) / QUARTER) * QUARTER if moments else None


async def read_logs(connection: Connection, logs: list[str], start: int) -> Any:
    """Ask for logs from an absolute time on; numbers are ignored by real servers, so it goes as text."""
    return await connection.request(
        "rpc",
        "logs",
        {
            "action": "read_logs",
            "logs": logs,
            "time_format": "time_t_seconds",
            "start_time": str(start // SECOND),
        },
    )


async def backfill(
    connection: Connection,
    tables: Tables,
    *,
    start: int,
    end: int,
    connected: int,
    insert: Callable[[str], object],
) -> str:
    """Fetch what happened in a gap and insert what is not there yet.

    Parameters
    ----------
    connection : Connection
    tables : Tables
        What is there already.
    start, end : int
        The gap, in microseconds, by the clock that stamps the events.
    connected : int
        When this connection was made (µs).
    insert : callable
        Called with a frame for each event that was missing; its time is in the frame.

    Returns
    -------
    str
        What came of it, in a sentence.

    Raises
    ------
    RequestRefused, RequestTimeout, ConnectionLost
    """
    entries: list[Entry] = []
    for log in LOGS:  # one by one, because each reply is one frame and frames are bounded
        reply = await read_logs(connection, [log], start - MARGIN)
        entries += read_entries({log: reply.get(log)} if isinstance(reply, dict) else None)
    entries.sort(key=lambda entry: entry.local)
    if not entries:
        return "the server's logs have nothing for this time"
    known = Known()
    await known.fill(tables.events, connection.name, start - MARGIN - NEAR[-1])
    sure = True
    offset = offset_by_events(entries, known)
    if offset is None:
        offset = tables.offset(connection.name)
    if offset is None:
        offset = await offset_by_visit(connection, connected)
    if offset is None:
        offset = offset_by_range(entries, start - MARGIN, now_us())
    if offset is None:
        offset, sure = 0, False
    there: set[int] = set()
    for tolerance in NEAR:
        for number, entry in enumerate(entries):
            if number not in there and known.take(entry, entry.local - offset, tolerance):
                there.add(number)
            if number % 500 == 499:
                await asyncio.sleep(0)  # live events go on
    added = doubles = 0
    for number, entry in enumerate(entries):
        time = entry.local - offset
        if time + entry.width < start or time > end:
            continue
        if number in there:
            doubles += 1
            continue
        # An entry stands under its full second, which can lie just before the gap: it does not.
        time = min(max(time, start), end)
        insert(wire.encode_event(entry.event, entry.args, time))
        added += 1
        if added % 200 == 0:
            await asyncio.sleep(0)
    zone = "" if sure else "; its zone is not known, taken as UTC"
    return (
        f"{added} events from the server's logs, {doubles} were there already{zone}; "
        "what the logs keep no trace of (they may hold one event of a second) is lost"
    )


def parse_since(since: Any, now: int) -> int | None:
    """When to begin, in microseconds: from a span (``"24h"``, a timedelta) or a moment (ISO text, datetime).

    Examples
    --------
    >>> parse_since("1h", 7_200_000_000)
    3600000000
    """
    if since is None:
        return None
    try:
        if isinstance(since, str) and not since[:4].isdigit():
            since = timespan(since)
        elif isinstance(since, str):
            try:
                since = pd.Timestamp(since)
            except ValueError:
                since = timespan(since)
        if hasattr(since, "total_seconds"):
            moment = now - round(float(since.total_seconds()) * SECOND)
        else:
            moment = wire.to_microseconds(since)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise InputError(
            f'since={since!r}: use a span such as "24h" or "7 days", or a moment such as "2026-11-23T07:00Z".'
        ) from None
    if moment > now:
        raise InputError(f"since={since!r} lies in the future: only what has happened can be fetched.")
    return moment
