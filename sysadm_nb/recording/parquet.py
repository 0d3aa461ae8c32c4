"""Recordings as Parquet datasets, written in one pass with bounded memory."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from sysadm_nb.errors import InputError
from sysadm_nb.recording import reader
from sysadm_nb.recording.reader import Place, Selection
from sysadm_nb.tables import SCHEMA, Tables

PIECE_FRAMES: Final = 100_000
PIECE_TEXT: Final = 64 * 2**20
STEP_TEXT: Final = 4 * 2**20  # frames of this size together cannot fill a table between two looks at it
MAX_ROWS: Final = 1_000_000
MAX_TEXT: Final = 2**30
CHANGING: Final = ("jobs", "commands")  # their rows change until the end

Feed = Callable[[Tables, Iterable[reader.Entry]], int]


def write(path: Path, selection: Selection, folder: Path, feed: Feed) -> dict[str, int]:
    """Write what is selected of a recording; see `Recording.to_parquet`."""
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty: give a new folder, or empty this one first.")
    tables = Tables(max_rows=MAX_ROWS, max_text=MAX_TEXT)
    written = dict.fromkeys(SCHEMA, 0)
    steps = _steps(reader.read(path, selection, Place()))
    for number in itertools.count():
        frames = text = 0
        for step in steps:
            frames += feed(tables, step)
            text += STEP_TEXT
            new = max(tables.count(name) - written[name] for name in SCHEMA if name not in CHANGING)
            if frames >= PIECE_FRAMES or text >= PIECE_TEXT or new >= PIECE_FRAMES:
                break
        else:
            frames = 0
        for name in SCHEMA:
            if name not in CHANGING:
                written[name], rows = tables.since(name, written[name])
                _write(folder / name, rows, number)
        if not frames:
            break
    for name in CHANGING:
        rows = tables[name]
        _write(folder / name, rows, 0)
        written[name] = len(rows)
    for name, count in written.items():
        if count == 0:  # so that readers find the columns
            (folder / name).mkdir(parents=True, exist_ok=True)
            pq.write_table(_dated(tables[name]), folder / name / "part-00000.parquet")
    if written["jobs"] >= MAX_ROWS or "jobs.text" in tables.dropped:
        warnings.warn(
            f"{path} holds more jobs than are kept in memory at once: logs or rows of the oldest were not "
            "exported. Export it in parts (start=, end=).",
            stacklevel=3,
        )
    return written


def _steps(entries: Iterable[reader.Entry]) -> Iterator[list[reader.Entry]]:
    step: list[reader.Entry] = []
    size = 0
    for entry in entries:
        step.append(entry)
        size += len(entry.frame) if isinstance(entry, reader.Row) else 0
        if size >= STEP_TEXT:
            yield step
            step, size = [], 0
    if step:
        yield step


def _dated(rows: pd.DataFrame) -> pa.Table:
    table = pa.Table.from_pandas(rows, preserve_index=False)
    return table.append_column("date", pa.array(rows["time"].dt.strftime("%Y-%m-%d"), pa.string()))


def _write(folder: Path, rows: pd.DataFrame, number: int) -> None:
    if not len(rows):
        return
    ds.write_dataset(
        _dated(rows),
        folder,
        format="parquet",
        file_options=ds.ParquetFileFormat().make_write_options(compression="zstd"),
        partitioning=["date"],
        partitioning_flavor="hive",
        basename_template=f"part-{number:05}-{{i}}.parquet",
        existing_data_behavior="overwrite_or_ignore",
        max_partitions=1_000_000,
    )
