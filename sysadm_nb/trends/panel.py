"""From rows to a grid: each pool's history in bins of equal length that end at its own last sample.

Everything after this file works on the grid (pools x bins), which is a hundred times smaller than the rows.
Bins are counted back from the last sample, so nothing depends on time zones, midnights or a constant added to
the clock, and a forecast a whole number of days ahead falls on the same time of day as the last sample.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sysadm_nb.errors import InputError
from sysadm_nb.tables.spans import timespan
from sysadm_nb.trends.rows import (
    CHUNK,
    DAY,
    Bools,
    Rows,
    bytes_of,
    codes,
    edges,
    microseconds,
    newest,
    outermost,
    usable,
)
from sysadm_nb.trends.rowwise import Floats, Ints, last_known

BY = ("server", "pool")
MAX_BINS = 800  # older history says little about the next months
NEEDED = ("time", "size_bytes", "alloc_bytes")
BIN_LENGTHS = (
    (10 * DAY, DAY),
    (5 * DAY // 2, DAY // 4),
    (DAY // 2, DAY // 24),
    (0, DAY // 288),
)  # (span from, length)


@dataclass(frozen=True)
class Panel:
    """Histories on a grid; P pools, D bins, newest bin last. Sizes in bytes, times in µs since 1970 UTC."""

    keys: pd.DataFrame  # P rows: the columns that were grouped by
    first: Ints  # time of the first sample, 0 where there is none
    last: Ints  # time of the last sample
    samples: Ints  # samples counted, duplicates once
    step: Floats  # length of a bin in days
    count: Ints  # (P, D) samples in the bin
    mean: Floats  # (P, D) mean allocation in the bin, NaN where empty
    end: Floats  # (P, D) last allocation in the bin
    size: Floats  # (P, D) last size in the bin
    frag: Floats  # (P, D) last fragmentation in the bin, percent
    size_now: Floats  # last known size
    alloc_now: Floats  # last known allocation

    @property
    def span(self) -> Floats:
        """Days from the first to the last sample."""
        return np.asarray((self.last - self.first) / DAY)


def read(pools: pd.DataFrame, by: Sequence[str], window: object = None) -> Panel:
    """Put the rows of a ``pools`` table on a grid.

    Parameters
    ----------
    pools : pandas.DataFrame
        Columns ``time`` (datetime64, any unit, naive means UTC), ``size_bytes``, ``alloc_bytes`` and those of
        `by`; ``free_bytes``, ``frag_pct``, ``origin`` and ``seq`` are used where present.
    by : sequence of str
        What makes a pool.
    window : timedelta-like, optional
        Only samples this close to each pool's last one.

    Raises
    ------
    InputError
        A column is missing or not of a usable type.
    """
    if not isinstance(pools, pd.DataFrame):
        raise InputError(f"A DataFrame like monitor.pools is needed here, not {type(pools).__name__}.")
    by = [by] if isinstance(by, str) else list(by)
    for name in (*NEEDED, *by):
        if name not in pools.columns:
            raise InputError(
                f"The table has no column {name!r}. Needed are {', '.join((*NEEDED, *by))}, as in "
                "monitor.pools; say which columns make a pool with by=[…]."
            )
    print_of_table = _print(pools, by), tuple(by), repr(window)
    remembered = _memory.get("panel")
    if remembered is not None and remembered[0]() is pools and remembered[1] == print_of_table:
        return remembered[2]
    code, keys = codes(pools, by)
    rows = Rows(
        code,
        microseconds(pools["time"]),
        bytes_of(pools, "size_bytes"),
        bytes_of(pools, "alloc_bytes"),
        bytes_of(pools, "free_bytes") if "free_bytes" in pools.columns else None,
        bytes_of(pools, "frag_pct") if "frag_pct" in pools.columns else None,
    )
    rows = usable(rows, pools, len(keys))
    if window is not None:
        rows = newest(rows, len(keys), window_microseconds(window))
    panel = _grid(rows, keys)
    _memory["panel"] = weakref.ref(pools, _forget), print_of_table, panel, pools.copy(deep=False)
    return panel


# The last table read, since one table is asked several questions (growth, forecast, its path, regimes) and
# reading is what takes time. While the shallow copy lives, pandas copies a column before it is written to,
# so that a table whose columns still lie at the same addresses is unchanged.
_memory: dict[str, tuple[weakref.ref[pd.DataFrame], object, Panel, pd.DataFrame]] = {}


def _forget(_: weakref.ref[pd.DataFrame]) -> None:
    remembered = _memory.get("panel")
    if remembered is not None and remembered[0]() is None:
        _memory.clear()


def _print(pools: pd.DataFrame, by: list[str]) -> tuple[object, ...]:
    """Where the columns in use lie in memory."""
    used = [*NEEDED, *by, "free_bytes", "frag_pct", "capacity_pct", "origin", "seq"]
    marks: list[object] = []
    for name in used:
        if name not in pools.columns:
            marks.append(None)
            continue
        column = pools[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            marks.append(tuple(column.cat.categories))
            data = np.asarray(column.array.codes)
        elif isinstance(column.dtype, pd.DatetimeTZDtype):
            data = np.asarray(column, dtype=f"datetime64[{column.dtype.unit}]")
        elif isinstance(column.dtype, np.dtype) and column.dtype != object:
            data = column.to_numpy()
        else:  # made anew at every look, so an address says nothing: never the same
            marks.append(object())
            continue
        face = data.__array_interface__
        marks.append((face["data"][0], face["typestr"], data.shape, data.strides))
    return tuple(marks)


def window_microseconds(window: object) -> int:
    try:
        micro = int(timespan(window).total_seconds() * 1e6)
    except (ValueError, TypeError) as error:
        raise InputError(f"{window!r} is no length of time: write for example '30D' or '12h'.") from error
    if micro <= 0:
        raise InputError(f"A length of time must be more than nothing, not {window!r}.")
    return micro


# --- the grid -----------------------------------------------------------------------------------------------


def _resolution(value: Floats) -> Floats:
    """Step of the three digits that ``zpool list`` shows of a size (107G moves by 1G, 9.99T by 0.01T)."""
    value = np.maximum(np.nan_to_num(value), 1.0)
    unit = 1024.0 ** np.floor(np.log2(value) / 10)
    shown = value / unit
    return np.asarray(unit * np.where(shown < 9.995, 0.01, np.where(shown < 99.95, 0.1, 1.0)))


def _grid(rows: Rows, keys: pd.DataFrame) -> Panel:
    pools = len(keys)
    last, first = edges(rows, pools)
    span = last - first
    samples = np.bincount(rows.code, minlength=pools)
    step = np.full(pools, DAY)
    for least, length in reversed(BIN_LENGTHS):
        step[span >= least] = length
    bins = int(min(np.max((span + step // 8) // step, initial=0) + 1, MAX_BINS))
    cells = pools * bins
    count, total = np.zeros(cells, np.int64), np.zeros(cells)
    newest = np.full(cells, -1, np.int64)  # row number of the last sample in each cell
    use_free = _free_is_finer(rows, pools)
    per_step = 1.0 / step
    # bins end half a sample late, or jitter decides whether the sample a day ago ends its bin or begins the
    # next
    slack = np.minimum(step / 8, span / np.maximum(samples - 1, 1) / 2).astype(np.int64)
    edge = last + slack
    even = bool((step == step[:1]).all())
    chunk = max(CHUNK, cells)
    for start in range(0, len(rows.time), chunk):
        at = slice(start, start + chunk)
        code = rows.code[at]
        age = edge[code] - rows.time[at]
        back = (age * (per_step[0] if even else per_step[code])).astype(np.int64)
        alloc = _finer(rows, at, use_free)
        row = np.arange(start, start + len(code))
        if back.max(initial=0) >= bins:
            near = back < bins
            code, back, alloc, row = code[near], back[near], alloc[near], row[near]
        np.subtract(code.astype(np.int64) * bins + (bins - 1), back, out=back)
        count += np.bincount(back, minlength=cells)
        total += np.bincount(back, alloc, minlength=cells)
        newest[back] = row
    seen = newest >= 0
    at_end = newest[seen]

    def cells_of(values: Floats) -> Floats:
        grid = np.full(cells, np.nan)
        grid[seen] = values
        return grid.reshape(pools, bins)

    end = _finer(rows, at_end, use_free)
    size = cells_of(rows.size[at_end])
    with np.errstate(invalid="ignore"):
        mean = (total / np.where(count > 0, count, np.nan)).reshape(pools, bins)
    return Panel(
        keys,
        first,
        last,
        samples,
        step / DAY,
        count.reshape(pools, bins),
        mean,
        cells_of(end),
        size,
        np.full((pools, bins), np.nan) if rows.frag is None else cells_of(rows.frag[at_end]),
        last_known(size),
        last_known(cells_of(rows.alloc[at_end])),
    )


def _free_is_finer(rows: Rows, pools: int) -> Bools:
    """Pools whose free space is shown with a finer step than their allocation, by their newest complete row.
    Pools whose free space is shown with a finer step than their allocation, by their newest complete row."""
    finer = np.zeros(pools, bool)
    if rows.free is None or not len(rows.code):
        return finer
    last = outermost(rows.code[::-1])
    row = len(rows.code) - 1 - last[last >= 0]
    partial = ~np.isfinite(rows.free[row] + rows.size[row])
    if partial.any():
        wanted = np.zeros(pools, bool)
        wanted[rows.code[row[partial]]] = True
        whole = np.flatnonzero(wanted[rows.code] & np.isfinite(rows.free) & np.isfinite(rows.size))
        newest = np.full(pools, -1, np.int64)
        newest[rows.code[whole]] = whole
        row = np.concatenate([row[~partial], newest[newest >= 0]])
    alloc, free = rows.alloc[row], rows.free[row]
    rounded = np.abs(alloc + free - rows.size[row]) > 0.5  # exact bytes add up, and then both are as good
    finer[rows.code[row]] = rounded & (_resolution(free) < _resolution(alloc))
    return finer


def _finer(rows: Rows, at: slice | Ints, use_free: Bools) -> Floats:
    """Allocation of the rows `at`, as the finer of the two columns tells it."""
    alloc = rows.alloc[at]
    if rows.free is None or not use_free.any():
        return alloc
    other = rows.size[at] - rows.free[at]
    return np.where(use_free[rows.code[at]] & np.isfinite(other), other, alloc)


def times(micro: Ints, known: Bools | None = None) -> pd.DatetimeIndex:
    """Microseconds since 1970 as UTC times, ``NaT`` where not known."""
    stamps = micro.view("datetime64[us]").copy()
    if known is not None:
        stamps[~known] = np.datetime64("NaT", "us")
    return pd.DatetimeIndex(stamps, tz="UTC")
