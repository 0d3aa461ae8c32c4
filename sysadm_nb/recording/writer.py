"""Writing frames to a recording, in transactions; plain calls that block, without threads or queues."""

from __future__ import annotations

import re
import secrets
import sqlite3
import time as clocks
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from sysadm_nb import wire
from sysadm_nb.errors import InputError
from sysadm_nb.recording import file
from sysadm_nb.tables.spans import is_number

# Python's sqlite3 gives up the GIL at every step of a statement. Where a cell computes it comes back only 5
# ms later, so that rows put in one by one come to 200 a second; many rows in one statement come to 50,000.
BLOCKS: Final = (1024, 256, 64, 16, 4, 1)
_COLUMNS: Final = 8
_ROW: Final = "(?,?,?,?,?,?,?,?)"
_INSERT: Final = {size: f"INSERT INTO frames VALUES {','.join([_ROW] * size)}" for size in BLOCKS}  # noqa: S608


_END: Final = re.compile(r'"name":"(dispatcher|life-preserver|system-state|bridge)","namespace":"events"\}\Z')


class Frame(NamedTuple):
    """A frame as it came."""

    text: str | bytes
    received: int
    server: str
    origin: str


class Record(NamedTuple):
    """Something else to keep: a row of ``connection``, an incident, a label. ``data`` is JSON text."""

    kind: str
    time: int
    data: str


Item: TypeAlias = Frame | Record


def event_of(text: str | bytes, received: int) -> tuple[str, int] | None:
    """What a frame is recorded as, and when it happened; None where it must not be recorded.

    Replies are recorded only where they fill tables (lists of pools and of jobs): a login's reply is the
    token. A reply without its id looks like a request, so requests to log in are left out as well.

    >>> event_of('{"args":["token",300],"id":"a","name":"response","namespace":"rpc"}', 5)
    >>> event_of('{"args":{},"name":"system_state","namespace":"events"}', 5)
    ('system-state', 5)
    """
    # How nearly every frame ends. Quotes inside a JSON string are escaped: nothing else in an object can.
    end = _END.search(text, max(0, len(text) - 120)) if isinstance(text, str) else None
    if end is not None:
        return end[1], received
    message = wire.decode(text)
    if isinstance(message, wire.Event):
        return message.name, received if message.time is None else message.time
    if isinstance(message, wire.Reply):
        fills = isinstance(message.args, dict) and not message.args.keys().isdisjoint(("list_pools", "jobs"))
        return ("polled", received) if fills else None
    if isinstance(message, wire.Request):
        return None if message.name.startswith("auth") else ("request", received)
    if isinstance(message, wire.Malformed):
        return "malformed", received
    return None


class Writer:
    """The file, or the row of files, that a recorder writes to.

    Parameters
    ----------
    path : Path
    rotate_bytes, rotate_s : int, float, optional
        Begin a new file beyond this size or age.
    keep : int, optional
        How many files to keep; the oldest are deleted.
    clock : callable
        Seconds since 1970.

    Raises
    ------
    InputError
        A bound is no number above 0: found out at the first rotation it would end the recording.
    """

    def __init__(
        self,
        path: Path,
        *,
        rotate_bytes: int | None = None,
        rotate_s: float | None = None,
        keep: int | None = None,
        clock: Callable[[], float] = clocks.time,
    ) -> None:
        for name, bound in (("rotate_bytes", rotate_bytes), ("rotate_s", rotate_s), ("keep", keep)):
            if bound is not None and (not is_number(bound) or not bound > 0):
                raise InputError(f"{name}={bound!r} must be a number above 0.")
        self.base = path
        self.rotate_bytes = rotate_bytes
        self.rotate_s = rotate_s
        self.keep = keep
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._servers: set[str] = set()  # that the file knows
        self._recorder = secrets.randbits(31)
        self._started_us = int(clock() * 1e6)
        self.open()

    @property
    def rotates(self) -> bool:
        return self.rotate_bytes is not None or self.rotate_s is not None

    def open(self) -> None:
        """Go on with the newest file, or begin one."""
        found = file.parts(self.base)
        now_us = int(self._clock() * 1e6)
        self.path = found[-1] if found else file.part_name(self.base, now_us) if self.rotates else self.base
        connection = file.open_to_write(self.path)
        try:
            connection.execute(
                "INSERT OR IGNORE INTO recorders (id, started, joined, version) VALUES (?, ?, ?, ?)",
                (self._recorder, self._started_us, now_us, _version()),
            )
            (self._began_us,) = connection.execute("SELECT min(joined) FROM recorders").fetchone()
            # Into the file itself, so that it says what it is even without its -wal.
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._inode = self.path.stat().st_ino
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._servers.clear()

    def write(self, items: Sequence[Item]) -> int:
        """Commit frames and records, all or none.

        Returns
        -------
        int
            How many frames were recorded; replies to logins and the like are not.

        Raises
        ------
        sqlite3.Error, OSError, RecordingError
            Nothing was written: the disk is full, the file is busy, gone or damaged. Call again later.
        """
        if self._connection is None or not self._is_there():
            self.close()
            self.open()
        self._rotate()
        connection = self._connection
        assert connection is not None
        connection.execute("BEGIN IMMEDIATE")
        try:
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM frames").fetchone()
            frames, records = self._rows(items, last)
            _insert(connection, frames)
            servers = {item.server for item in items if isinstance(item, Frame)} - self._servers
            connection.executemany("INSERT OR IGNORE INTO servers VALUES (?)", [(name,) for name in servers])
            connection.executemany(
                "INSERT INTO records (kind, time, after, recorder, data) VALUES (?,?,?,?,?)", records
            )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._servers |= servers
        return len(frames) // _COLUMNS

    def _rows(self, items: Iterable[Item], last: int) -> tuple[list[Any], list[tuple[Any, ...]]]:
        """Cells of the frames, one row after another, and rows of the records."""
        frames: list[Any] = []
        records = []
        for item in items:
            if isinstance(item, Record):
                records.append((item.kind, item.time, last, self._recorder, item.data))
                continue
            text, received, server, origin = item
            event = event_of(text, received)
            if event is not None:
                last += 1
                name, time = event
                frames += (last, time, received, server, origin, name, self._recorder, _storable(text))
        return frames, records

    def _is_there(self) -> bool:
        try:
            return self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False  # somebody deleted it: what went into it from now on would be lost

    def _rotate(self) -> None:
        connection = self._connection
        if not self.rotates or connection is None:
            return
        now = self._clock()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        full = self.rotate_bytes is not None and pages * page_size >= self.rotate_bytes
        # A clock that was set back makes the file begin in the future: that counts as age too.
        old = self.rotate_s is not None and abs(now - self._began_us / 1e6) >= self.rotate_s
        if not (full or old) or self.path == file.part_name(self.base, int(now * 1e6)):
            return  # within the same second: the next batch will do
        if file.parts(self.base)[-1] == self.path:  # otherwise another recorder was first
            file.open_to_write(file.part_after(self.base, self.path, int(now * 1e6))).close()
        self.close()
        self.open()
        if self.keep is not None:
            for old_part in file.parts(self.base)[: -self.keep]:
                for suffix in ("", "-wal", "-shm"):
                    old_part.with_name(old_part.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; what is committed stays."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _insert(connection: sqlite3.Connection, cells: list[Any]) -> None:
    done = 0
    for size in BLOCKS:
        step = size * _COLUMNS
        while len(cells) - done >= step:
            connection.execute(_INSERT[size], cells[done : done + step])
            done += step


def _storable(text: str | bytes) -> str | bytes:
    """Text as text, so that any tool shows it; what is no UTF-8 as the bytes it is."""
    try:
        if isinstance(text, bytes):
            return text.decode()
        if not text.isascii():
            text.encode()  # a lone surrogate is what SQLite cannot store
        return text
    except UnicodeDecodeError:
        return text
    except UnicodeEncodeError:
        assert isinstance(text, str)
        return text.encode("utf-8", "surrogatepass")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sysadm-nb")
    except PackageNotFoundError:
        return "unknown"
