"""From rows to a grid: each pool's history in bins of equal length that end at its own last sample.

Everything after this file works on the grid (pools x bins), which is a hundred times smaller than the rows.
Bins are counted back from the last sample, so nothing depends on time zones, midnights or a constant added to
the clock, and a forecast a whole number of days ahead falls on the same time of day as the last sample.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sysadm_nb.errors import InputError
from sysadm_nb.trends.rowwise import last_known

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

DAY = 86_400_000_000  # microseconds
BY = ("server", "pool")
MAX_BINS = 800  # older history says little about the next months
CHUNK = 1 << 19  # rows at a time: temporaries stay in the cache and out of the memory bill
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


@dataclass(frozen=True)
class _Rows:
    """The columns in use, row by row; ``code`` numbers the pools from 0."""

    code: NDArray[np.signedinteger]
    time: Ints
    size: Floats
    alloc: Floats
    free: Floats | None
    frag: Floats | None

    def take(self, at: Ints | Bools) -> _Rows:
        free, frag = (None if column is None else column[at] for column in (self.free, self.frag))
        return _Rows(self.code[at], self.time[at], self.size[at], self.alloc[at], free, frag)


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
    code, keys = _codes(pools, by)
    rows = _Rows(
        code,
        _microseconds(pools["time"]),
        _bytes(pools, "size_bytes"),
        _bytes(pools, "alloc_bytes"),
        _bytes(pools, "free_bytes") if "free_bytes" in pools.columns else None,
        _bytes(pools, "frag_pct") if "frag_pct" in pools.columns else None,
    )
    rows = _usable(rows, pools, len(keys))
    if window is not None:
        rows = _newest(rows, len(keys), window_microseconds(window))
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
        else:
            data = column.to_numpy()
        face = data.__array_interface__
        marks.append((face["data"][0], face["typestr"], data.shape, data.strides))
    return tuple(marks)


def window_microseconds(window: object) -> int:
    try:
        length = pd.Timedelta(window)  # type: ignore[arg-type]
        micro = int(length.total_seconds() * 1e6)
    except (ValueError, TypeError) as error:
        raise InputError(f"{window!r} is no length of time: write for example '30D' or '12h'.") from error
    if micro <= 0:
        raise InputError(f"A length of time must be more than nothing, not {window!r}.")
    return micro


def _microseconds(time: pd.Series) -> Ints:
    if not pd.api.types.is_datetime64_any_dtype(time.dtype):
        raise InputError(
            f"Column 'time' must hold times (datetime64), not {time.dtype}: use pandas.to_datetime first."
        )
    return np.asarray(time, dtype="datetime64[us]").view(np.int64)


def _bytes(pools: pd.DataFrame, name: str) -> Floats:
    try:
        return np.asarray(pools[name].to_numpy(dtype=np.float64, na_value=np.nan))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"Column {name!r} must hold numbers; text like '13.1G' is read by sysadm_nb.wire.parse_size."
        ) from error


def _codes(pools: pd.DataFrame, by: list[str]) -> tuple[NDArray[np.signedinteger], pd.DataFrame]:
    """Number the combinations of `by` that occur, in order of their values; -1 where a value is missing."""
    code: NDArray[np.signedinteger] = np.zeros(len(pools), np.int8)
    keys = pd.DataFrame(index=range(1))
    for name in by:
        column = pools[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            codes = np.asarray(column.array.codes)
            values = pd.Series(
                pd.Categorical.from_codes(range(len(column.cat.categories)), dtype=column.dtype)
            )
        else:
            codes, found = pd.factorize(column, sort=True)
            values = pd.Series(found)
        missing = bool(code.min(initial=0) < 0 or codes.min(initial=0) < 0)
        if len(keys) == 1 and not missing:
            joined = codes
        else:
            joined = code.astype(np.int32 if len(keys) * len(values) < 2**31 else np.int64) * len(values)
            joined = joined + codes
            if missing:
                joined[(code < 0) | (codes < 0)] = -1
        used, code = _used(joined, len(keys) * len(values))
        earlier, at = np.divmod(used, max(len(values), 1))
        keys = keys.iloc[earlier].reset_index(drop=True)
        keys[name] = values.iloc[at].reset_index(drop=True)
    return code, keys


def _used(code: NDArray[np.signedinteger], count: int) -> tuple[Ints, NDArray[np.signedinteger]]:
    """The codes from 0 to `count` that occur, and the codes numbered by them; -1 stays."""
    if count > 1 << 24:  # too many to mark each
        used, numbered = np.unique(code, return_inverse=True)
        none = int(len(used) > 0 and used[0] < 0)
        return used[none:].astype(np.int64), numbered - none
    seen = np.zeros(count + 1, bool)  # one place more, for -1
    seen[code] = True
    used = np.flatnonzero(seen[:-1])
    if len(used) == count:
        return used, code
    number = np.full(count + 1, -1, np.int16 if len(used) < 2**15 else np.int32)
    number[used] = np.arange(len(used))
    return used, number[code]


# --- which rows count ---------------------------------------------------------------------------------------


def _usable(rows: _Rows, pools: pd.DataFrame, count: int) -> _Rows:
    """Rows that are samples, strictly in order of time within each pool."""
    keep = (rows.code >= 0) & (rows.time != np.iinfo(np.int64).min)
    if "origin" in pools.columns:
        old = np.asarray(pools["origin"] == "last")
        if old.any():  # news of old, resent: no sample, unless it is all we have of a pool
            fresh = np.bincount(rows.code[keep & ~old], minlength=count) > 0
            keep &= ~old | ~fresh[rows.code]
    known = np.isfinite(rows.alloc)
    if not known.all():
        if rows.free is not None:
            rows = replace(rows, alloc=np.where(known, rows.alloc, rows.size - rows.free))
        if "capacity_pct" in pools.columns:
            told = rows.size * _bytes(pools, "capacity_pct") / 100
            rows = replace(rows, alloc=np.where(np.isfinite(rows.alloc), rows.alloc, told))
        keep &= np.isfinite(rows.alloc)
    seq = np.asarray(pools["seq"]) if "seq" in pools.columns else None
    if not keep.all():
        rows, seq = rows.take(keep), None if seq is None else seq[keep]
    if not _in_order(rows):
        order = np.lexsort((rows.alloc, rows.time, rows.code))
        rows, seq = rows.take(order), None if seq is None else seq[order]
        again = (np.diff(rows.code) == 0) & (np.diff(rows.time) == 0)
        if again.any():
            fresh = np.append(~again, True)
            rows, seq = rows.take(fresh), None if seq is None else seq[fresh]
    wrong = _wrong_clock(rows, seq, count)
    return rows if wrong is None else rows.take(~wrong)


def _in_order(rows: _Rows) -> bool:
    """Sorted strictly by (time, pool) or by (pool, time), as tables mostly are: nothing needs sorting."""
    by_time = by_pool = True
    for start in range(0, len(rows.time), CHUNK):
        at = slice(start, start + CHUNK + 1)
        later = rows.time[at][1:] > rows.time[at][:-1]
        up = rows.code[at][1:] > rows.code[at][:-1]
        if by_time:
            by_time = bool(np.all(later | (up & (rows.time[at][1:] == rows.time[at][:-1]))))
        if by_pool:
            by_pool = bool(np.all(up | (later & (rows.code[at][1:] == rows.code[at][:-1]))))
        if not by_time and not by_pool:
            return False
    return True


def _wrong_clock(rows: _Rows, seq: NDArray[np.signedinteger] | None, count: int) -> Bools | None:
    """Rows stamped by a clock that was out of its mind, or None.

    The order of arrival tells where there is one: blocks of samples that lie days before what came earlier,
    or days after what came later. Without it only a handful of samples more than a year from all others is
    recognised.
    """
    if seq is not None and len(seq) > 1:
        falls = np.flatnonzero(np.diff(seq) < 0)
        suspects = np.unique(rows.code[falls][rows.code[falls] == rows.code[falls + 1]])
        if len(falls) and not len(suspects):  # sorted by time over all pools: look pool by pool
            suspects = np.unique(np.concatenate([rows.code[falls], rows.code[falls + 1]]))
    else:
        last, first = _edges(rows, count)
        suspects = np.flatnonzero(last - first > 366 * DAY)
    wrong = np.zeros(len(rows.time), bool)
    for pool in suspects:
        at = np.flatnonzero(rows.code == pool)
        wrong[at] = _astray(rows.time[at], None if seq is None else seq[at])
    return wrong if wrong.any() else None


def _astray(time: Ints, seq: NDArray[np.signedinteger] | None) -> Bools:
    """Samples of one pool, in order of time, that a wrong clock must have stamped."""
    keep_all = np.zeros(len(time), bool)
    if seq is None:
        blocks = np.split(np.arange(len(time)), np.flatnonzero(np.diff(time) > 366 * DAY) + 1)
        small = [block for block in blocks if len(block) < 0.01 * len(time)]
        wrong = keep_all.copy()
        wrong[np.concatenate(small) if small else []] = True
        return wrong
    if len(np.unique(seq)) < len(seq):
        return keep_all  # joined from several recordings: the numbers are no order of arrival
    order = np.argsort(seq)
    came = time[order]
    move = np.diff(came)
    blocks = np.split(order, np.flatnonzero((move < -DAY) | (move > 2 * DAY)) + 1)
    if len(blocks) > 1000:
        return keep_all
    # the heaviest chain of blocks that follow each other in time as they did in arrival
    start, end = (
        np.array([time[block].min() for block in blocks]),
        np.array([time[block].max() for block in blocks]),
    )
    weight = np.array([len(block) for block in blocks])
    best, before = weight.copy(), np.full(len(blocks), -1)
    for i in range(1, len(blocks)):
        fits = np.flatnonzero(end[:i] - DAY <= start[i])
        if len(fits):
            before[i] = fits[np.argmax(best[fits])]
            best[i] = weight[i] + best[before[i]]
    wrong = ~keep_all
    i = int(np.argmax(best))
    while i >= 0:
        wrong[blocks[i]] = False
        i = int(before[i])
    return wrong if wrong.mean() <= 0.1 else keep_all


def _edges(rows: _Rows, count: int) -> tuple[Ints, Ints]:
    """Last and first time of each pool (0 where it has no rows); rows are in order of time within a pool."""
    last, first = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for times_of, step in ((last, -1), (first, 1)):
        row = _outermost(rows.code[::step])
        row = np.where(row >= 0, len(rows.code) - 1 - row if step < 0 else row, -1)
        times_of[: len(row)] = np.where(row >= 0, rows.time[row] if len(rows.time) else 0, 0)
    return last, first


def _outermost(code: NDArray[np.signedinteger]) -> Ints:
    """Row where each pool is met first, -1 for never; a few rows usually tell, so look there first."""
    count = int(code.max(initial=-1)) + 1
    found = np.full(count, -1, np.int64)
    start, length = 0, 1 << 14
    while start < len(code) and (found < 0).any():
        part = code[start : start + length]
        change = (
            np.flatnonzero(part[1:] != part[:-1]) + 1
        )  # where tables are sorted by pool, few rows are left to try
        row = np.append(0, change)[::-1]
        met = np.full(count, -1, np.int64)
        met[part[row]] = row + start
        found = np.where(found < 0, met, found)
        start, length = start + length, length * 2
    return found


def _newest(rows: _Rows, count: int, window: int) -> _Rows:
    last, _ = _edges(rows, count)
    return rows.take(last[rows.code] - rows.time < window)


# --- the grid -----------------------------------------------------------------------------------------------


def _resolution(value: Floats) -> Floats:
    """Step of the three digits that ``zpool list`` shows of a size (107G moves by 1G, 9.99T by 0.01T)."""
    value = np.maximum(np.nan_to_num(value), 1.0)
    unit = 1024.0 ** np.floor(np.log2(value) / 10)
    shown = value / unit
    return np.asarray(unit * np.where(shown < 9.995, 0.01, np.where(shown < 99.95, 0.1, 1.0)))


def _grid(rows: _Rows, keys: pd.DataFrame) -> Panel:
    pools = len(keys)
    last, first = _edges(rows, pools)
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


def _free_is_finer(rows: _Rows, pools: int) -> Bools:
    """Pools whose free space is shown with a finer step than their allocation, by their newest complete row.
    Pools whose free space is shown with a finer step than their allocation, by their newest complete row."""
    finer = np.zeros(pools, bool)
    if rows.free is None or not len(rows.code):
        return finer
    last = _outermost(rows.code[::-1])
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


def _finer(rows: _Rows, at: slice | Ints, use_free: Bools) -> Floats:
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
        stamps[~known] = np.datetime64("NaT")
    return pd.DatetimeIndex(stamps, tz="UTC")
