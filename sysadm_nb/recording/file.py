"""One recording on disk: an SQLite file in WAL mode, a row a frame, each frame word for word.

Frames are rows rather than compressed blocks although blocks are a tenth of the size (measured: 1.4 kB a
frame against 0.1 to 0.2): a row is there as soon as it is committed, whatever the rate, two recorders may
write in turn, and any SQLite tool reads the file. Pages of 16 KiB hold a dozen frames of 1 kB: 1.4 kB a frame
on disk, where SQLite's own 4 KiB come to 2.0, and twice the rate.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sysadm_nb.errors import RecordingError

APPLICATION_ID: Final = 0x53594E42  # "SYNB", in the file's header
VERSION: Final = 1
BUSY_S: Final = 30.0  # another recorder may hold the write lock for one batch, a few tenths of a second

SCHEMA: Final = """
CREATE TABLE recorders (
    id INTEGER PRIMARY KEY,        -- by chance, the same in all files that it writes
    started INTEGER NOT NULL,      -- microseconds since 1970 UTC, as all times here
    joined INTEGER NOT NULL,       -- when it began with this file
    version TEXT NOT NULL          -- of the software
);
CREATE TABLE servers (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE frames (
    id INTEGER PRIMARY KEY,        -- in order of arrival
    time INTEGER NOT NULL,         -- when it happened: the event's own time where it tells, else the arrival
    received INTEGER NOT NULL,
    server TEXT NOT NULL,
    origin TEXT NOT NULL,          -- live, last, polled, backfill or file
    event TEXT NOT NULL,           -- dispatcher, ...; else polled, request or malformed
    recorder INTEGER NOT NULL,     -- who wrote it: two may record the same server into one file
    frame NOT NULL                 -- text word for word, or a blob where it was no text
);
CREATE INDEX frames_event_time ON frames (event, time);
CREATE TABLE records (             -- what is no frame: rows of `connection`, incidents, labels
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    time INTEGER NOT NULL,
    after INTEGER NOT NULL,        -- the last frame before it
    recorder INTEGER NOT NULL,
    data TEXT NOT NULL             -- JSON
);
CREATE INDEX records_kind_time ON records (kind, time);
"""

_PART: Final = re.compile(r"\d{8}T\d{6}Z")
_STAMP: Final = "%Y%m%dT%H%M%SZ"


def locate(path: str | Path) -> Path:
    """The path as it is meant now: a cell may change the folder later."""
    return Path(path).expanduser().absolute()


def parts(path: Path) -> list[Path]:
    """The files of a recording in order of time: ``tank.sysadm`` and what rotation made after it.

    >>> parts(Path("nowhere.sysadm"))
    []
    """
    prefix = path.stem + "-"
    rotated = [
        found
        for found in path.parent.glob(f"*{path.suffix}")
        if found.name.startswith(prefix)
        and _PART.fullmatch(found.name[len(prefix) :].removesuffix(path.suffix))
    ]
    return [path, *sorted(rotated)] if path.exists() else sorted(rotated)


def part_name(path: Path, time_us: int) -> Path:
    """Name of the part that begins at a time.

    >>> part_name(Path("tank.sysadm"), 0).name
    'tank-19700101T000000Z.sysadm'
    """
    begin = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return path.with_name(f"{path.stem}-{begin:{_STAMP}}{path.suffix}")


def part_after(path: Path, newest: Path, time_us: int) -> Path:
    """Name of the part that begins at a time and follows ``newest``, also where the clock was set back.

    >>> part_after(Path("tank.sysadm"), Path("tank-20261123T120000Z.sysadm"), 0).name
    'tank-20261123T120001Z.sysadm'
    """
    following = part_name(path, time_us)
    if newest == path or newest < following:  # the first part has no time in its name
        return following
    stamp = newest.name.removeprefix(f"{path.stem}-").removesuffix(path.suffix)
    begin = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    return part_name(path, int(begin.timestamp() + 1) * 1_000_000)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says of a damaged file into an error that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise _torn(path, str(error)) from error
        raise RecordingError(f"{path} cannot be used now: {error}.") from error
    except OSError as error:
        raise RecordingError(f"{path} cannot be used: {error.strerror or error}.") from error


def _torn(path: Path, reason: str) -> RecordingError:
    return RecordingError(
        f"{path} is torn or damaged ({reason}). Save what is left of it with "
        f"sysadm_nb.recording.salvage({path.name!r}, {'saved' + path.suffix!r})."
    )


def is_damage(error: BaseException) -> bool:
    """Whether an error of SQLite means that the file is broken, rather than full or busy."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open a recording to go on with it, making it if there is none.

    Raises
    ------
    RecordingError
        If the file is something else, was written by a newer version, or cannot be made.
    """
    if not path.parent.is_dir():
        raise RecordingError(f"There is no folder {path.parent}: make it first, or record somewhere else.")
    with explained(path):
        _check_magic(path)
        connection = _connect(path, "rwc")
        try:
            connection.execute("PRAGMA page_size = 16384")
            connection.execute("PRAGMA journal_mode = WAL")
            # Survives the death of the process; a power cut may cost the last commits, never the file.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA journal_size_limit = 67108864")
            connection.execute("BEGIN IMMEDIATE")  # of two that make the file at once, one waits
            if _is_empty(connection):
                for statement in SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
            check(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a recording to read, for a short time; errors come as `RecordingError`."""
    with explained(path):
        if path.is_dir():
            raise RecordingError(f"{path} is a folder: name a file in it, such as {path / 'nas.sysadm'}.")
        if not path.is_file():
            raise RecordingError(f"There is no recording {path}.")
        _check_magic(path)
        connection = _open_to_read(path)
        try:
            check(connection, path)
            yield connection
        finally:
            connection.close()


def _open_to_read(path: Path) -> sqlite3.Connection:
    # Opened for writing where that is allowed, though nothing is written: a reader that may not write leaves
    # the files -wal and -shm behind. On read-only media it is "ro", and with no room for -shm "immutable".
    failure: sqlite3.Error | None = None
    for mode in ("rw", "ro", "ro&immutable=1"):
        if "immutable" in mode and path.with_name(path.name + "-wal").exists():
            break  # the newest frames are in there
        connection = _connect(path, mode)
        try:
            connection.execute("PRAGMA query_only = 1")
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            return connection
        except sqlite3.OperationalError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
    assert failure is not None
    raise failure


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    # Used by one thread at a time, but not always the same: the executor's threads take turns.
    return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def _check_magic(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        if not file.read(16).startswith(b"SQLite format 3\0"):
            raise RecordingError(f"{path} is no recording: it is not an SQLite file.")


def _is_empty(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(tables == 0 and _pragma(connection, "application_id") == 0)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Raise unless this is a whole recording of a version that is understood here."""
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise RecordingError(f"{path} is no recording: it is an SQLite file of another program.")
    version = _pragma(connection, "user_version")
    if version > VERSION:
        raise RecordingError(
            f"{path} was written by a newer sysadm_nb (format {version}; this one reads up to {VERSION}): "
            "update sysadm_nb to read it."
        )
    _check_end(connection, path)


def _check_end(connection: sqlite3.Connection, path: Path) -> None:
    """See that the newest rows are there: in a file that was cut off they are what is missing."""
    connection.execute("SELECT * FROM frames ORDER BY id DESC LIMIT 1").fetchone()
    connection.execute("SELECT event, time FROM frames ORDER BY event DESC, time DESC LIMIT 1").fetchone()
    connection.execute("SELECT * FROM records ORDER BY id DESC LIMIT 1").fetchone()
    # In this order: pages are in -wal first, then in the file.
    expected = _pragma(connection, "page_count") * _pragma(connection, "page_size")
    wal = path.with_name(path.name + "-wal")
    if not (wal.exists() and wal.stat().st_size) and path.stat().st_size < expected:
        raise _torn(path, "the file is shorter than it says")
