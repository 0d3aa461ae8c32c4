"""One table: rows come in as tuples, snapshots go out as DataFrames in order of time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from sysadm_nb.tables.columns import Categories, Column, Numbers, Row, Text, frame_of, make_column
from sysadm_nb.tables.schema import ORIGINS, SCHEMA, VOCABULARY
from sysadm_nb.tables.states import Told

FLUSH_EVERY: Final = 1024
"""Frames gathered before they go into the columns: building columns in batches is what makes it fast."""

KEY: Final = "_key"

_TOLD: Final = 4  # priority, level, subject, summary
_EVENT_CELLS: Final = 8  # lead, name, what is told, arguments


class Store:
    """The rows of one table, at most ``max_rows`` of them, the newest.

    Rows keep the order of arrival inside; a snapshot is in order of ``time``. Where the two agree, as
    they do for a single server, a snapshot is a view. Where a late row came, an ordered copy is kept
    beside, and only its end is redone.

    A *keyed* store has an integer behind each row's cells by which rows can be removed again. It keeps
    no order of arrival.
    """

    def __init__(self, name: str, max_rows: int, max_text: int | None = None, keyed: bool = False) -> None:
        known = {"origin": ORIGINS} | VOCABULARY.get(name, {})
        self.max_rows = max_rows
        self.keyed = keyed
        self.columns: dict[str, Column] = {
            column: make_column(
                column,
                kind,
                known.get(column, ()),
                max_text if column in ("args", "log", "message") else None,
            )
            for column, kind in SCHEMA[name].items()
        }
        self.visible = tuple(self.columns)
        if keyed:
            self.columns[KEY] = Numbers("int64")
        # Rows that wait, cell after cell: a tuple for each would be more for the garbage collector to visit.
        self.cells: list[Any] = []
        self.add = self.cells.extend
        self.added = 0  # rows that went into the columns, ever
        self.first = 0  # how many of these were dropped or removed again
        self.dropped = 0  # how many were dropped because there were too many
        self._ordered_until = 0  # up to this row, arrival was in order of time
        self._newest = -(2**63)
        self._copy: dict[str, Any] = {}  # all columns in order of time, where arrival was not
        self._copy_rows = np.empty(0, "int64")  # the row number of each of its rows
        self._copy_state: tuple[int, int] = (0, 0)
        self._frame: pd.DataFrame | None = None

    @property
    def count(self) -> int:
        """Rows ever appended."""
        return self.added + self.waiting

    @property
    def waiting(self) -> int:
        """Rows that did not go into the columns yet."""
        return len(self.cells) // len(self.columns)

    @property
    def dropped_text(self) -> int:
        """How many texts were given up to stay within the memory bound."""
        return sum(column.dropped for column in self.columns.values() if isinstance(column, Text))

    def flush(self) -> None:
        """Move the gathered rows into the columns."""
        cells, width = self.cells, len(self.columns)
        if cells:
            columns = [cells[first::width] for first in range(width)]
            cells.clear()
            self.extend(columns, len(columns[0]))

    def extend(self, columns: Iterable[Any], count: int) -> None:
        for column, values in zip(self.columns.values(), columns, strict=True):
            column.extend(values)
        in_order = self._ordered_until == self.added
        self.added += count
        if in_order:
            times = self.columns["time"].values()[-count:]
            if times[0] >= self._newest and bool((times[1:] >= times[:-1]).all()):
                self._ordered_until = self.added
                self._newest = int(times[-1])
        self._frame = None
        # Putting a keyed store in order costs as much as it has rows: not for a few beyond the bound.
        self._trim(slack=self.max_rows // 8 if self.keyed else 0)

    def _trim(self, slack: int = 0) -> None:
        excess = self.added - self.first - self.max_rows
        if excess <= slack:
            return
        if self.keyed:
            self._put_in_order()
        for column in self.columns.values():
            column.drop(excess)
        self.first += excess
        self.dropped += excess
        self._frame = None

    def snapshot(self, more: Sequence[Row] = ()) -> pd.DataFrame:
        """The table as of now, in order of time; ``more`` are rows that may still change."""
        self.flush()
        self._trim()
        if more:
            return self._frame_of(merge(self._in_order(), self._loose(more)))
        if self._frame is None:
            self._frame = self._frame_of(self._in_order())
        return self._frame.copy(deep=False)

    def since(self, count: int) -> pd.DataFrame:
        """Rows appended after the first ``count``, as they came."""
        self.flush()
        start = max(count, self.first) - self.first
        return self._frame_of({name: column.values()[start:] for name, column in self.columns.items()})

    def remove(self, keys: Collection[int]) -> None:
        """Take out the rows with these keys."""
        self.flush()
        self._put_in_order()
        keep = ~np.isin(self.columns[KEY].values(), np.fromiter(keys, "int64", len(keys)))
        if keep.all():
            return
        for column in self.columns.values():
            column.replace(_select(column.values(), keep))
        self.first = self.added - int(keep.sum())
        self._frame = None

    def _frame_of(self, values: dict[str, Any]) -> pd.DataFrame:
        return frame_of({name: self.columns[name].shown(values[name]) for name in self.visible})

    def _in_order(self) -> dict[str, Any]:
        if self._ordered_until < self.added:
            if not self.keyed:
                return self._ordered_copy()
            self._put_in_order()
        return {name: column.values() for name, column in self.columns.items()}

    def _put_in_order(self) -> None:
        """Put a keyed store's own columns in order of time."""
        until = self._ordered_until - self.first
        if self._ordered_until == self.added:
            return
        now = {name: column.values() for name, column in self.columns.items()}
        ordered = merge(
            {name: values[: max(until, 0)] for name, values in now.items()},
            {name: values[max(until, 0) :] for name, values in now.items()},
        )
        for name, column in self.columns.items():
            column.replace(ordered[name])
        self._ordered_until = self.added
        self._newest = int(ordered["time"][-1])

    def _ordered_copy(self) -> dict[str, Any]:
        # The copy holds codes and text: when a code changed its meaning or text was given up, start anew.
        recoded = sum(c.recoded for c in self.columns.values() if isinstance(c, Categories))
        state = (recoded, self.dropped_text)
        now = {name: column.values() for name, column in self.columns.items()}
        kept, rows = self._copy, self._copy_rows
        if state != self._copy_state or not len(rows):
            until = max(self._ordered_until - self.first, 0)
            kept = {name: values[:until] for name, values in now.items()}
            rows = np.arange(self.first, self.first + until)
        elif rows.min() < self.first:
            keep = rows >= self.first
            kept = {name: _select(values, keep) for name, values in kept.items()}
            rows = rows[keep]
        late = {name: values[len(rows) :] for name, values in now.items()}  # what came last
        if len(late["time"]):
            numbers = np.arange(self.added - len(late["time"]), self.added)
            merged = merge(kept | {KEY: rows}, late | {KEY: numbers})
            rows = merged.pop(KEY)
            kept = merged
        self._copy, self._copy_rows, self._copy_state = kept, rows, state
        return kept

    def _loose(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Rows in the form of the columns, without going into them."""
        out: dict[str, Any] = {}
        for (name, column), cells in zip(self.columns.items(), zip(*rows, strict=True), strict=True):
            if isinstance(column, Text):
                out[name] = pa.chunked_array([pa.array(cells, pa.large_string())])
            elif isinstance(column, Categories):
                out[name] = column.encoded(cells)
            else:
                out[name] = np.array(cells, column.buffer.dtype)
        return out


class EventStore(Store):
    """The rows of the events table.

    What it says of an event waits as one cell, or is put off: a missing one stands for the next of ``told``.
    """

    def __init__(self, max_rows: int, max_text: int | None = None) -> None:
        super().__init__("events", max_rows, max_text)
        self.told: list[Told] = []

    @property
    def waiting(self) -> int:
        return len(self.cells) // _EVENT_CELLS

    def flush(self) -> None:
        cells = self.cells
        if cells:
            *front, told, text = (cells[first::_EVENT_CELLS] for first in range(_EVENT_CELLS))
            cells.clear()
            later = iter(self.told)
            told = [next(later) if said is None else said for said in told]
            self.told.clear()
            # not zip(*told): an iterator for each row makes the garbage collector run
            columns = [[said[column] for said in told] for column in range(_TOLD)]
            self.extend([*front, *columns, text], len(text))


def _select(values: Any, keep: np.ndarray[Any, Any]) -> Any:
    return values.filter(pa.array(keep)) if isinstance(values, pa.ChunkedArray) else values[keep]


def merge(values: dict[str, Any], late: dict[str, Any]) -> dict[str, Any]:
    """Put later arrivals into columns that are in order of time; equal times stay in order of arrival.

    Only the part from the earliest newcomer on is sorted again; what is before it is taken as it is.
    """
    times, new = values["time"], late["time"]
    start = int(np.searchsorted(times, new.min(), "right")) if len(times) and len(new) else 0
    order = np.argsort(np.concatenate([times[start:], new]), kind="stable")
    out: dict[str, Any] = {}
    for name, column in values.items():
        if isinstance(column, pa.ChunkedArray):
            tail = pa.chunked_array([*column[start:].chunks, *late[name].chunks], pa.large_string())
            pieces = chain(column[:start].chunks, tail.take(pa.array(order)).chunks)
            out[name] = pa.chunked_array([piece for piece in pieces if len(piece)], pa.large_string())
        else:
            end = np.concatenate([column[start:], late[name]])[order]
            out[name] = np.concatenate([column[:start], end])
            out[name].flags.writeable = False
    return out
