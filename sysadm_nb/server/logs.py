"""The logs behind ``rpc/logs`` ``read_logs``: what happened lately, kept in memory.

This is where a client fetches what it missed. Kept are the newest entries of each log, within a bound in
bytes. The reply is that of real servers, an object ``{"<local ISO second>": entry}`` for each log, with one
extension: an entry of a second that already has one is not lost but gets its microseconds in the key
(``2026-11-23T07:24:37.482193``).
"""

from __future__ import annotations

import calendar
import re
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from sysadm_nb import wire

EVENT_LOGS: Final = {
    "dispatcher": "events-dispatcher",
    "life-preserver": "events-lifepreserver",
    "system-state": "events-state",
}
TEXT_LOGS: Final = ("hostinfo", "dispatcher")
NAMES: Final = (*EVENT_LOGS.values(), *TEXT_LOGS)

_DEFAULT_US: Final = 12 * 3600 * 10**6
_KEY_BYTES: Final = 32  # what an entry's time takes in a reply
REPLY_BYTES: Final = 32 * 2**20  # a reply is one frame: leave room in a client's 64 MiB
RELAYED_BYTES: Final = 5 * 2**20
"""Less goes over a bridge: base64 adds a third, and 8 MiB may wait for a client."""


class Log:
    """The newest entries of one log, bounded in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: deque[tuple[int, bytes]] = deque()
        self._size = 0

    def add(self, time: int, text: bytes) -> None:
        self._entries.append((time, text))
        self._size += len(text)
        while self._size > self._limit and len(self._entries) > 1:
            self._size -= len(self._entries.popleft()[1])

    def between(self, start: int, end: int) -> list[tuple[int, bytes]]:
        return sorted(
            (entry for entry in self._entries if start <= entry[0] <= end), key=lambda entry: entry[0]
        )


class Logs:
    """All logs of a server.

    Parameters
    ----------
    clock : callable
        The time, in microseconds since the epoch, UTC.
    limit : int
        Bytes kept of each log.
    """

    def __init__(self, clock: Callable[[], int], limit: int = 16 * 2**20) -> None:
        self._clock = clock
        self._logs = {name: Log(limit) for name in NAMES}

    def add_event(self, name: str, args: Mapping[str, Any], text: bytes, time: int) -> None:
        """Keep an event; ``text`` is the JSON of its ``args``."""
        log = EVENT_LOGS.get(name)
        if log is not None:
            self._logs[log].add(time, text)
        if name == "dispatcher" and args.get("state") == "finished":
            details = wire.dump_json(args.get("process_details", args))
            self._logs["dispatcher"].add(time, _json(details))

    def note(self, text: str) -> None:
        """Add a line to ``hostinfo``: who connected, who ran what."""
        self._logs["hostinfo"].add(self._clock(), _json(text))

    def read(self, args: Mapping[str, Any], room: int = REPLY_BYTES) -> dict[str, Any]:
        """Answer ``read_logs``.

        Parameters
        ----------
        args : mapping
            ``logs``: a name or a list of names, by default all. ``time_format`` with ``start_time`` and
            ``end_time``: see `read_time`. Without a range the last twelve hours.
        room : int
            Bytes the reply may have; where there is more, the newest entries are given.
        """
        wanted = args.get("logs")
        names = (
            [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) and wanted else NAMES
        )
        now = self._clock()
        time_format = args.get("time_format")
        start = read_time(args.get("start_time"), time_format, now)
        end = read_time(args.get("end_time"), time_format, now, end=True)
        start = now - _DEFAULT_US if start is None else start
        end = now if end is None else end
        reply: dict[str, Any] = {}
        for name in NAMES:
            if name in names:
                entries = self._logs[name].between(start, end)
                while entries and _size(entries) > room:
                    del entries[: len(entries) // 2 or 1]  # the newest are kept
                room -= _size(entries)
                if entries:
                    reply[name] = _by_time(entries)
        return reply


def _json(text: str) -> bytes:
    return wire.dump_json(text).encode("utf-8", "replace")


def _size(entries: list[tuple[int, bytes]]) -> int:
    return sum(len(text) + _KEY_BYTES for _, text in entries)


def _by_time(entries: list[tuple[int, bytes]]) -> dict[str, Any]:
    keyed: dict[str, Any] = {}
    last = 0
    for time, text in entries:
        last = max(time, last + 1)  # entries of the very same moment are a microsecond apart
        key = datetime.fromtimestamp(last // 10**6).isoformat()
        keyed[f"{key}.{last % 10**6:06}" if key in keyed else key] = msgspec.Raw(text)
    return keyed


# --- times --------------------------------------------------------------------------------------------------

_UNITS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}


def read_time(value: Any, time_format: Any, now: int, *, end: bool = False) -> int | None:
    """Read one end of a range.

    Parameters
    ----------
    value : str or number
        Real servers ignore numbers; here they count as their text.
    time_format : str
        ``time_t_seconds``, ``epoch_mseconds``, ``relative_second`` (``minute``, ``hour``, ``day``, ``week``,
        ``month``) for that long ago, or a Qt date format such as ``yyyy-MM-dd hh:mm:ss``, local time.
    now : int
        Microseconds since the epoch, UTC.
    end : bool
        Read as the end of a range: a whole second or day counts to its last microsecond.

    Returns
    -------
    int or None
        Microseconds since the epoch, UTC; None if there is no time or it cannot be read, which leaves that
        end of the range at its default, as on real servers.

    Examples
    --------
    >>> read_time("1795418682", "time_t_seconds", 0)
    1795418682000000
    >>> read_time("4", "relative_second", 10_000_000)
    6000000
    >>> read_time("soon", "relative_second", 0) is None
    True
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, str | int | float)
        or not isinstance(time_format, str)
    ):
        return None
    text = str(value).strip()
    try:
        if time_format == "time_t_seconds":
            seconds = float(text)
            return int(seconds * 1e6) + (999_999 if end and seconds.is_integer() else 0)
        if time_format == "epoch_mseconds":
            return int(float(text) * 1e3) + (999 if end else 0)
        if time_format.startswith("relative_"):
            return _ago(float(text), time_format.removeprefix("relative_"), now)
        return _read_qt(text, time_format, end, now)
    except (ValueError, OverflowError, OSError, re.error):  # re.error: a part that stands there twice
        return None


def _ago(count: float, unit: str, now: int) -> int | None:
    if unit == "month":
        moment = datetime.fromtimestamp(now / 1e6)
        months = moment.year * 12 + moment.month - 1 - int(count)
        year, month = divmod(months, 12)
        day = min(moment.day, calendar.monthrange(year, month + 1)[1])
        return int(moment.replace(year=year, month=month + 1, day=day).timestamp() * 1e6)
    seconds = _UNITS.get(unit)
    return None if seconds is None else now - int(count * seconds * 1e6)


_QT: Final = {
    "yyyy": "%Y", "yy": "%y", "MMMM": "%B", "MMM": "%b", "MM": "%m", "M": "%m", "dddd": "%A", "ddd": "%a",
    "dd": "%d", "d": "%d", "HH": "%H", "H": "%H", "hh": "%H", "h": "%H", "mm": "%M", "m": "%M", "ss": "%S",
    "s": "%S", "zzz": "%f", "z": "%f", "AP": "%p", "ap": "%p", "A": "%p", "a": "%p", "t": "%Z",
}  # fmt: skip
_QT_PARTS: Final = re.compile(r"'([^']*)'|" + "|".join(sorted(_QT, key=len, reverse=True)))


def _read_qt(text: str, qt_format: str, end: bool, now: int) -> int | None:
    twelve = re.search(r"AP|ap|A|a", re.sub(r"'[^']*'", "", qt_format)) is not None

    def directive(part: re.Match[str]) -> str:
        if part[1] is not None:
            return part[1].replace("%", "%%")
        return "%I" if twelve and part[0] in ("h", "hh") else _QT[part[0]]

    parts = {part[0] for part in _QT_PARTS.finditer(qt_format) if part[1] is None}
    pattern = _QT_PARTS.sub(directive, qt_format.replace("%", "%%"))
    if not parts & {"yyyy", "yy"}:  # this one: without any, 29 February could not be read
        text, pattern = f"{datetime.fromtimestamp(now / 1e6).year} {text}", f"%Y {pattern}"
    moment = datetime.strptime(text, pattern)
    if not end:
        rest = 0
    elif parts & {"zzz", "z"}:
        rest = 999
    elif parts & {"ss", "s"}:
        rest = 999_999
    elif parts & {"mm", "m"}:
        rest = 60 * 10**6 - 1
    else:
        rest = 86400 * 10**6 - 1
    return int(moment.timestamp() * 1e6) + rest
