"""Reading frames back, a part of them or all, without loading the rest."""

from __future__ import annotations

import collections
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from sysadm_nb.errors import RecordingError
from sysadm_nb.recording import file

CHUNK: Final = 1000
MANY_EVENTS: Final = 200
TWIN_US: Final = 5_000_000
TIMELESS: Final = ("polled", "request", "malformed")
FOREVER: Final = 2**62


class Row(NamedTuple):
    """A frame of a recording; times in microseconds since 1970 UTC."""

    id: int
    time: int
    received: int
    server: str
    origin: str
    event: str
    recorder: int
    frame: str | bytes


class Note(NamedTuple):
    """A record of a recording that is no frame; ``data`` holds plain JSON values."""

    id: int
    kind: str
    time: int
    after: int
    recorder: int
    data: dict[str, Any]


def _note(row: tuple[int, str, int, int, int, str]) -> Note:
    return Note(*row[:5], json.loads(row[5]))


Entry: TypeAlias = Row | Note


@dataclass(frozen=True)
class Selection:
    """Which frames: ``start <= time < end``, and these events (None: all)."""

    start: int = -FOREVER
    end: int = FOREVER
    events: frozenset[str] | None = None

    @property
    def everything(self) -> bool:
        return self.start == -FOREVER and self.end == FOREVER and self.events is None


@dataclass
class Place:
    """How far somebody has read: per file the last frame and the last record."""

    frames: dict[Path, int] = field(default_factory=dict)
    notes: dict[Path, int] = field(default_factory=dict)
    twins: Twins = field(default_factory=lambda: Twins())
    told: set[tuple[int, str]] = field(default_factory=set)  # changes of connections


def existing_parts(path: Path) -> list[Path]:
    """The files of a recording; an error where there is none."""
    found = file.parts(path)
    if not found:
        raise RecordingError(f"There is no recording {path}.")
    return found


def read(path: Path, selection: Selection, place: Place) -> Iterator[Entry]:
    """Yield what is new since ``place``, in order of arrival, and move ``place`` on.

    The same frame written by two recorders that watched the same server comes once, and so does a change of
    a connection: whoever records into a file again writes all that the monitor knows of.

    Raises
    ------
    RecordingError
        If a file is missing, torn, foreign or newer than this version.
    """
    found = existing_parts(path)
    for part in found:
        if place.frames.get(part) == FOREVER:
            continue
        with file.reading(part) as connection:
            yield from _read_part(connection, part, selection, place)
        if part not in found[-2:]:
            place.frames[part] = FOREVER  # rotation has left it behind: it grows no more


def _read_part(
    connection: sqlite3.Connection, part: Path, selection: Selection, place: Place
) -> Iterator[Entry]:
    (newest,) = connection.execute("SELECT coalesce(max(id), 0) FROM frames").fetchone()
    place.twins.join(connection.execute("SELECT id, started FROM recorders").fetchall())
    waiting = collections.deque(_notes(connection, selection, place.notes.get(part, 0), place.told))
    for row in _frames(connection, selection, place.frames.get(part, 0)):
        while waiting and waiting[0].after < row.id:
            place.notes[part] = waiting[0].id
            yield waiting.popleft()
        place.frames[part] = row.id
        if not place.twins.seen(row):
            yield row
    for note in waiting:
        place.notes[part] = note.id
        yield note
    place.frames[part] = max(newest, place.frames.get(part, 0))


def _frames(connection: sqlite3.Connection, selection: Selection, after: int) -> Iterator[Row]:
    """Frames behind ``after``, a thousand a read: while a read goes on, the writer's log grows."""
    if selection.everything:
        sql = "SELECT * FROM frames WHERE id > ? ORDER BY id LIMIT ?"
        while rows := connection.execute(sql, (after, CHUNK)).fetchall():
            after = rows[-1][0]
            yield from map(Row._make, rows)
        return
    ids = _select(connection, selection, after)
    sql = "SELECT * FROM frames WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
    for begin in range(0, len(ids), CHUNK):
        wanted = json.dumps(ids[begin : begin + CHUNK])
        yield from map(Row._make, connection.execute(sql, (wanted,)).fetchall())


def _select(connection: sqlite3.Connection, selection: Selection, after: int) -> list[int]:
    """Ids of the selected frames in order of arrival."""
    names = sorted(selection.events) if selection.events is not None else event_names(connection)
    where = "time >= ? AND time < ?"
    values: list[int | str] = [after, selection.start, selection.end]
    if selection.events is not None or len(names) <= MANY_EVENTS:
        where += " AND event IN (SELECT value FROM json_each(?))"
        values.append(json.dumps(names))
    # At first by the index on event and time; later only the newest frames are looked at, from the end.
    source = "frames NOT INDEXED" if after else "frames"
    sql = f"SELECT id FROM {source} WHERE id > ? AND {where}"  # noqa: S608
    return sorted(id for (id,) in connection.execute(sql, values))


def event_names(connection: sqlite3.Connection) -> list[str]:
    """Every event there is, found by leaps in the index; at most a few more than `MANY_EVENTS`."""
    sql = """
    WITH RECURSIVE names (name) AS (
        SELECT min(event) FROM frames
        UNION ALL
        SELECT (SELECT min(event) FROM frames WHERE event > name) FROM names WHERE name IS NOT NULL
    )
    SELECT name FROM names WHERE name IS NOT NULL LIMIT ?
    """
    return [name for (name,) in connection.execute(sql, (MANY_EVENTS + 1,))]


def _notes(
    connection: sqlite3.Connection, selection: Selection, after: int, told: set[tuple[int, str]]
) -> Iterator[Note]:
    """Changes of the connection that belong to the selected time: gaps that reach into it as well."""
    sql = "SELECT * FROM records WHERE kind = 'connection' AND id > ? ORDER BY after, id"
    for row in connection.execute(sql, (after,)).fetchall():
        note = _note(row)
        if (note.time, row[5]) in told:
            continue
        told.add((note.time, row[5]))
        times = (note.time, note.data.get("gap_start"), note.data.get("gap_end"))
        known = [time for time in times if time is not None]
        if min(known) < selection.end and max(known) >= selection.start:
            yield note


def notes(path: Path, kind: str, start: int = -FOREVER, end: int = FOREVER) -> list[Note]:
    """Records of a kind in order of time."""
    found: list[Note] = []
    for part in existing_parts(path):
        with file.reading(part) as connection:
            sql = "SELECT * FROM records WHERE kind = ? AND time >= ? AND time < ?"
            found += map(_note, connection.execute(sql, (kind, start, end)).fetchall())
    return sorted(found, key=lambda note: note.time)


def span(path: Path) -> tuple[int, int] | None:
    """Oldest and newest time of the events; None in an empty recording.

    Frames that cannot say when they happened count only if there is nothing else: a demo machine or a replay
    lives in another time than we do.
    """
    times: dict[bool, list[int]] = {True: [], False: []}
    for part in existing_parts(path):
        with file.reading(part) as connection:
            for name in event_names(connection):
                for order in ("ASC", "DESC"):
                    sql = f"SELECT time FROM frames WHERE event = ? ORDER BY time {order} LIMIT 1"  # noqa: S608
                    times[name in TIMELESS] += connection.execute(sql, (name,)).fetchone()
    found = times[False] or times[True]
    return (min(found), max(found)) if found else None


def servers(path: Path) -> list[str]:
    """Names of the servers whose frames are in a recording."""
    names: set[str] = set()
    for part in existing_parts(path):
        with file.reading(part) as connection:
            names.update(name for (name,) in connection.execute("SELECT name FROM servers"))
    return sorted(names)


def place_at(path: Path, time: int) -> Place:
    """The place from which on frames of this time and later stand."""
    place = Place()
    for part in existing_parts(path):
        with file.reading(part) as connection:
            sql = "SELECT id FROM frames WHERE event = ? AND time >= ? ORDER BY time, id LIMIT 1"
            found = [connection.execute(sql, (name, time)).fetchone() for name in event_names(connection)]
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM frames").fetchone()
        ids = [row[0] for row in found if row is not None]
        place.frames[part] = min(ids) - 1 if ids else last
        if ids:
            break
    return place


def place_before_end(path: Path, count: int) -> Place:
    """The place from which on the newest ``count`` frames stand, or a few more."""
    place = Place()
    found = existing_parts(path)
    for number, part in reversed(list(enumerate(found))):
        with file.reading(part) as connection:
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM frames").fetchone()
            place.frames[part] = max(0, last - count)
            sql = "SELECT coalesce(max(id), 0) FROM records WHERE after < ?"
            (place.notes[part],) = connection.execute(sql, (place.frames[part],)).fetchone()
        count -= last
        if count <= 0:
            for older in found[:number]:
                place.frames[older] = place.notes[older] = FOREVER
            break
    return place


def newest(path: Path, event: str, before: int, server: str) -> Row | None:
    """The newest frame of an event and a server before a time."""
    for part in reversed(existing_parts(path)):
        with file.reading(part) as connection:
            sql = (
                "SELECT * FROM frames WHERE event = ? AND time < ? AND server = ? ORDER BY time DESC LIMIT 1"
            )
            row = connection.execute(sql, (event, before, server)).fetchone()
        if row is not None:
            return Row._make(row)
    return None


class Twins:
    """Finds frames that two recorders, watching the same server at once, both wrote.

    A frame is a twin when another recorder has the same text from the same server a few seconds around, and
    this recorder was there when that came. Each copy answers for one copy, so that a server that says the
    same twice is heard twice.
    """

    def __init__(self) -> None:
        self._started: dict[int, int] = {}
        self._copies: dict[tuple[str, str | bytes], list[tuple[int, set[int]]]] = {}
        self._order: collections.deque[tuple[int, tuple[str, str | bytes]]] = collections.deque()

    def join(self, recorders: Iterable[tuple[int, int]]) -> None:
        self._started.update(recorders)

    def seen(self, row: Row) -> bool:
        if len(self._started) < 2:
            return False
        key = (row.server, row.frame)
        self._forget(row.received - TWIN_US)
        copies = self._copies.setdefault(key, [])
        for received, recorders in copies:
            if row.recorder not in recorders and received >= self._started.get(row.recorder, 0):
                recorders.add(row.recorder)
                return True
        copies.append((row.received, {row.recorder}))
        self._order.append((row.received, key))
        return False

    def _forget(self, before: int) -> None:
        while self._order and self._order[0][0] < before:
            _, key = self._order.popleft()
            copies = self._copies[key]
            copies.pop(0)
            if not copies:
                del self._copies[key]


def known_events(names: Iterable[str]) -> frozenset[str]:
    """Event names as they are recorded; polled pools go with the system's state."""
    wanted = {
        name.replace("_", "-") if name in ("system_state", "life_preserver") else name for name in names
    }
    if "system-state" in wanted:
        wanted.add("polled")
    return frozenset(wanted)
