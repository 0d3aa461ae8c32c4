"""Saving what is left of a torn or damaged recording."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sysadm_nb.errors import RecordingError
from sysadm_nb.recording import file

STRIDE: Final = 100_000
"""Unreadable frames in a row after which the rest is given up: many more than one page can hide."""


def salvage(path: str | Path, to: str | Path) -> int:
    """Copy every frame that can still be read into a new recording.

    The damaged file is only read. Rows behind a damaged page are looked for as well.

    Parameters
    ----------
    path : str or Path
        A torn or damaged recording.
    to : str or Path
        The new recording; must not exist.

    Returns
    -------
    int
        Frames saved.

    Raises
    ------
    RecordingError
        If ``to`` exists, or not even the beginning of the file can be read.

    Examples
    --------
    >>> sa.recording.salvage("torn.sysadm", "saved.sysadm")                           # doctest: +SKIP
    """
    path, to = Path(path), Path(to)
    if to.exists():
        raise RecordingError(f"{to} exists already: give the name of a new file.")
    if not path.is_file():
        raise RecordingError(f"There is no recording {path}.")
    with tempfile.TemporaryDirectory(dir=to.parent, prefix="salvage-") as folder:
        copy = Path(folder) / "copy"
        shutil.copy(path, copy)
        wal = path.with_name(path.name + "-wal")
        if wal.exists():
            shutil.copy(wal, copy.with_name("copy-wal"))
        _pad(copy)
        with contextlib.closing(sqlite3.connect(copy)) as damaged:
            try:
                damaged.execute("SELECT 1 FROM frames LIMIT 0")
            except sqlite3.DatabaseError as error:
                raise RecordingError(f"{path} is no recording, or too damaged: {error}.") from error
            with contextlib.closing(file.open_to_write(to)) as saved:
                saved.execute("BEGIN")
                counts = {name: _copy(damaged, saved, name) for name in ("recorders", "frames", "records")}
                saved.execute("INSERT OR IGNORE INTO servers SELECT DISTINCT server FROM frames")
                saved.execute("COMMIT")
    return counts["frames"]


def _pad(copy: Path) -> None:
    """Give a file that was cut off its length back: SQLite reads nothing of one that is too short."""
    with copy.open("rb") as opened:
        header = opened.read(100)
    if len(header) == 100:
        page = int.from_bytes(header[16:18], "big")
        length = (65_536 if page == 1 else page) * int.from_bytes(header[28:32], "big")
        if copy.stat().st_size < length < 2**48:
            os.truncate(copy, length)


def _copy(damaged: sqlite3.Connection, saved: sqlite3.Connection, table: str) -> int:
    count = 0
    for row in _readable(damaged, table):
        marks = ",".join("?" * len(row))
        saved.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608
        count += 1
    return count


def _readable(damaged: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    last, tries = -1, 0
    while tries < STRIDE:
        try:
            for row in damaged.execute(f"SELECT * FROM {table} WHERE id > ? ORDER BY id", (last,)):  # noqa: S608
                last, tries = row[0], 0
                yield row
            return
        except sqlite3.DatabaseError:
            last, tries = last + 1, tries + 1  # the page is unreadable: look behind it
        except OverflowError:
            return
