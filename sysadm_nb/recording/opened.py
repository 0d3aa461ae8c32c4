"""A recording as tables: opened in part or whole, and followed while it grows."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

import pandas as pd

from sysadm_nb import loop
from sysadm_nb.errors import InputError, RecordingError
from sysadm_nb.recording import file, parquet, reader
from sysadm_nb.recording.reader import Note, Place, Selection
from sysadm_nb.tables import SCHEMA, Tables
from sysadm_nb.tables.spans import is_number

log = logging.getLogger("sysadm_nb.recording")

Moment: TypeAlias = str | datetime | pd.Timestamp | int | None

_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|min|m|h|hours?|d|days?|w|weeks?)", re.IGNORECASE)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def open_recording(
    path: str | Path,
    start: Moment = None,
    end: Moment = None,
    events: str | Iterable[str] | None = None,
    *,
    max_rows: int = 1_000_000,
    max_text: int = 256 * 2**20,
) -> Recording:
    """Open a recording: the same tables as a monitor has.

    Only what is asked for is read. Several notebooks may read a recording while it is written.

    Parameters
    ----------
    path : str or Path
        The file; where rotation made more of it, all of them are read.
    start, end : str, datetime or int, optional
        Only what happened in ``start <= time < end``: a time (UTC if it has no zone), microseconds since
        1970, or how long before the newest frame: ``"24h"``, ``"7d"``.
    events : str or iterable of str, optional
        Only these: ``"dispatcher"``, ``"system-state"``, ``"life-preserver"``, ``"bridge"``, …
    max_rows, max_text : int
        Bounds of the tables, as for ``Tables``: the newest rows are kept, and a warning says if there were
        more.

    Returns
    -------
    Recording

    Raises
    ------
    RecordingError
        If there is no such file, or it is torn, of another program or of a newer version.
    InputError
        If a time cannot be read.

    Examples
    --------
    >>> past = sa.open_recording("tank.sysadm", start="7d", events="system-state")    # doctest: +SKIP
    >>> past.pools.groupby("pool").capacity_pct.last()                                # doctest: +SKIP
    """
    path = file.locate(path)
    span = reader.span(path)
    newest = span[1] if span else 0
    selection = Selection(
        start=-reader.FOREVER if start is None else moment(start, newest),
        end=reader.FOREVER if end is None else moment(end, newest),
        events=None
        if events is None
        else reader.known_events([events] if isinstance(events, str) else events),
    )
    if selection.start >= selection.end:
        raise InputError(f"start {start!r} is not before end {end!r}: nothing would be read.")
    return Recording(path, selection, max_rows, max_text)


def moment(value: str | datetime | int, newest: int) -> int:
    """Microseconds since 1970 of a time, or of a time before ``newest``.

    >>> moment("1970-01-01T00:00:01", 0), moment("2s", 10_000_000)
    (1000000, 8000000)
    """
    ago = _AGO.fullmatch(value.strip()) if isinstance(value, str) else None
    if ago is not None:
        return newest - int(float(ago[1]) * _SECONDS[ago[2][0].lower()] * 1_000_000)
    try:
        if is_number(value):
            return int(value)
        parsed = pd.Timestamp(value)
        if not pd.isna(parsed):
            parsed = parsed.tz_localize("UTC") if parsed.tzinfo is None else parsed
            return int(parsed.value // 1000)
    except (ValueError, TypeError, OverflowError):
        raise InputError(
            f"{value!r} is no time: use '2026-11-23 07:15' (UTC), an aware datetime, or '24h' (the last day)."
        ) from None
    raise InputError("a time is missing: leave start or end out instead.")


class Recording:
    """The tables of a recording; made by `open_recording`.

    Attributes
    ----------
    tables : Tables
    events, jobs, commands, pools, system, life_preserver, bridge, connection : pandas.DataFrame
        As of a monitor.
    """

    def __init__(self, path: Path, selection: Selection, max_rows: int, max_text: int) -> None:
        self.path = path
        self.selection = selection
        self.tables = Tables(max_rows=max_rows, max_text=max_text)
        self._place = Place()
        self._reading = threading.Lock()
        self._unfollow: Callable[[], None] | None = None
        self.refresh()
        more = {name: self.tables.count(name) - max_rows for name in SCHEMA if name not in parquet.CHANGING}
        gone = {name: count for name, count in more.items() if count > 0}
        if gone:
            lost = ", ".join(f"{count:,} of {name}" for name, count in gone.items())
            warnings.warn(
                f"{path} holds more rows than max_rows: the oldest are not in the tables ({lost}). "
                "Open less of it (start=, end=, events=) or pass a larger max_rows.",
                stacklevel=3,
            )

    events = property(lambda self: self.tables["events"], doc="One row a frame that was not a reply.")
    jobs = property(lambda self: self.tables["jobs"], doc="One row a run of a process id.")
    commands = property(lambda self: self.tables["commands"], doc="One row a command of a job.")
    pools = property(lambda self: self.tables["pools"], doc="One row a pool in a sample.")
    system = property(lambda self: self.tables["system"], doc="One row a system-state event.")
    life_preserver = property(
        lambda self: self.tables["life_preserver"], doc="One row a life-preserver event."
    )
    bridge = property(lambda self: self.tables["bridge"], doc="One row a peer at a bridge event.")
    connection = property(lambda self: self.tables["connection"], doc="One row a change of a connection.")

    def refresh(self) -> int:
        """Read what was recorded since, and return how many frames that were."""
        with self._reading:
            return feed(self.tables, reader.read(self.path, self.selection, self._place))

    def follow(self, seconds: float = 1.0) -> Callable[[], None]:
        """Refresh every so many seconds in the background, until undone or closed.

        Views and alerts can be put on a recording that another notebook, or ``sysadm-nb record``, writes.
        Called again, it goes on with the new pause.

        Returns
        -------
        callable
            Stops it.

        Raises
        ------
        InputError
            ``seconds`` is no number above 0.
        """
        if not is_number(seconds) or not seconds > 0:
            raise InputError(f"follow({seconds!r}): pass a number of seconds, such as 1.")
        if self._unfollow is not None:
            self._unfollow()
        handle = loop.acquire()
        recording = weakref.ref(self)
        future = handle.start(_refresh_every(seconds, recording))

        def stop(wait: bool) -> None:
            future.cancel()
            handle.release(wait=wait)

        finalizer = weakref.finalize(self, stop, wait=False)

        def undo() -> None:
            if finalizer.detach():
                followed = recording()
                if followed is not None:
                    followed._unfollow = None
                stop(wait=not loop.on_loop_thread())

        self._unfollow = undo
        return undo

    def records(self, kind: str) -> pd.DataFrame:
        """What was kept beside the frames: ``incident``, ``label``, … within the selected time.

        Returns
        -------
        pandas.DataFrame
            ``time``, and a column for each key of the records.
        """
        found = reader.notes(self.path, kind, self.selection.start, self.selection.end)
        times = pd.to_datetime([note.time for note in found], unit="us", utc=True).astype(
            "datetime64[us, UTC]"
        )
        rows = pd.DataFrame([note.data for note in found]).drop(columns="time", errors="ignore")
        rows.insert(0, "time", times)
        return rows

    def to_parquet(self, folder: str | Path) -> dict[str, int]:
        """Write the tables as Parquet datasets that pandas, polars, DuckDB and Dask read.

        What the recording holds in the selected time is written, also what is more than ``max_rows``. Each
        table is a folder with a partition for each day (UTC): ``folder/pools/date=2026-11-23/…``; empty
        tables have a file as well, so that every reader finds the columns.

        Parameters
        ----------
        folder : str or Path
            Made if needed; must be empty.

        Returns
        -------
        dict
            Rows written, by table.

        Raises
        ------
        InputError
            If the folder holds something already.

        Examples
        --------
        >>> past.to_parquet("tank")                                                   # doctest: +SKIP
        >>> duckdb.sql("FROM read_parquet('tank/pools/**/*.parquet')")                # doctest: +SKIP
        """
        return parquet.write(self.path, self.selection, Path(folder), feed)

    def close(self) -> None:
        """Stop following; the tables stay. Closing twice is fine."""
        unfollow, self._unfollow = self._unfollow, None
        if unfollow is not None:
            unfollow()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        following = ", following" if self._unfollow is not None else ""
        return f"<Recording {self.path.name}: {self.tables.count('events'):,} events{following}>"

    def _repr_html_(self) -> str:
        from html import escape

        times = self.events["time"]
        span = (
            ""
            if times.empty
            else f" from {times.iloc[0]:%Y-%m-%d %H:%M:%S} to {times.iloc[-1]:%Y-%m-%d %H:%M:%S} UTC"
        )
        counts = "".join(
            f"<tr><td>{name}</td><td style='text-align:right'>{self.tables.count(name):,}</td></tr>"
            for name in ("events", "jobs", "pools", "system", "life_preserver", "bridge", "connection")
        )
        return (
            f"<b>Recording {escape(self.path.name)}</b>{span}<table>{counts}</table>"
            "<small>Tables are attributes (<code>.pools</code>); <code>.follow()</code> a file that grows, "
            "export with <code>.to_parquet(folder)</code>.</small>"
        )


async def _refresh_every(seconds: float, recording: weakref.ref[Recording]) -> None:
    failed = False
    while True:
        await asyncio.sleep(seconds)
        followed = recording()
        if followed is None:
            return
        try:
            await asyncio.to_thread(followed.refresh)
            failed = False
        except RecordingError as error:
            if not failed:
                log.warning("Cannot follow the recording for now: %s", error)
            failed = True
        del followed


def feed(tables: Tables, entries: Iterable[reader.Entry], origin: str | None = None) -> int:
    """Put entries of a recording into tables as they once came; returns the number of frames.

    Parameters
    ----------
    origin : str, optional
        What becomes of the origin ``live``.
    """
    count = 0
    for entry in entries:
        if isinstance(entry, Note):
            _feed_connection(tables, entry, origin or "live")
            continue
        was = entry.origin if origin is None or entry.origin != "live" else origin
        tables.append(entry.frame, received=entry.received, server=entry.server, origin=was)
        count += 1
    return count


def _feed_connection(tables: Tables, note: Note, origin: str) -> None:
    said = note.data
    what, server = said["what"], said["server"]
    if what == "lost":
        tables.lose_jobs(server)
    tables.append_connection(
        what,
        server=server,
        time=said.get("time") or note.time,
        gap_start=said.get("gap_start"),
        gap_end=said.get("gap_end"),
        detail=said.get("detail") or "",
        origin=origin,
    )


def remember(tables: Tables, path: str | Path) -> dict[str, int]:
    """Fill a monitor's tables from its recording, before it connects again after a kernel restart.

    As many of the newest frames are read as the tables keep rows. What was ``live`` becomes ``file``; jobs
    that were going on are ``unknown`` until the server tells. What was missed since is the caller's to fetch
    and to mark as a gap.

    Parameters
    ----------
    tables : Tables
    path : str or Path
        A recording; where there is none yet, nothing happens.

    Returns
    -------
    dict
        When the newest frame of each server came, in microseconds since 1970 UTC.
    """
    path = file.locate(path)
    if not file.parts(path):
        return {}
    heard: dict[str, int] = {}

    def listen(entries: Iterable[reader.Entry]) -> Iterable[reader.Entry]:
        for entry in entries:
            if isinstance(entry, reader.Row):
                heard[entry.server] = max(entry.received, heard.get(entry.server, 0))
            yield entry

    place = reader.place_before_end(path, tables.max_rows)
    feed(tables, listen(reader.read(path, Selection(), place)), origin="file")
    for server in heard:
        tables.lose_jobs(server)
    return heard
