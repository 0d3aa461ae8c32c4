"""Which rows of a table are samples, in order of time, by pools numbered from 0."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sysadm_nb.errors import InputError
from sysadm_nb.trends.rowwise import Floats, Ints

Bools = NDArray[np.bool_]

DAY = 86_400_000_000  # microseconds
CHUNK = 1 << 19  # rows at a time: temporaries stay in the cache and out of the memory bill


@dataclass(frozen=True)
class Rows:
    """The columns in use, row by row; ``code`` numbers the pools from 0."""

    code: NDArray[np.signedinteger]
    time: Ints
    size: Floats
    alloc: Floats
    free: Floats | None
    frag: Floats | None

    def take(self, at: Ints | Bools) -> Rows:
        free, frag = (None if column is None else column[at] for column in (self.free, self.frag))
        return Rows(self.code[at], self.time[at], self.size[at], self.alloc[at], free, frag)


def microseconds(time: pd.Series) -> Ints:
    if not pd.api.types.is_datetime64_any_dtype(time.dtype):
        raise InputError(
            f"Column 'time' must hold times (datetime64), not {time.dtype}: use pandas.to_datetime first."
        )
    return np.asarray(time, dtype="datetime64[us]").view(np.int64)


def bytes_of(pools: pd.DataFrame, name: str) -> Floats:
    try:
        return np.asarray(pools[name].to_numpy(dtype=np.float64, na_value=np.nan))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"Column {name!r} must hold numbers; text like '13.1G' is read by sysadm_nb.wire.parse_size."
        ) from error


def codes(pools: pd.DataFrame, by: list[str]) -> tuple[NDArray[np.signedinteger], pd.DataFrame]:
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


def usable(rows: Rows, pools: pd.DataFrame, count: int) -> Rows:
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
            told = rows.size * bytes_of(pools, "capacity_pct") / 100
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


def _in_order(rows: Rows) -> bool:
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


def _wrong_clock(rows: Rows, seq: NDArray[np.signedinteger] | None, count: int) -> Bools | None:
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
        last, first = edges(rows, count)
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


def edges(rows: Rows, count: int) -> tuple[Ints, Ints]:
    """Last and first time of each pool (0 where it has no rows); rows are in order of time within a pool."""
    last, first = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for times_of, step in ((last, -1), (first, 1)):
        row = outermost(rows.code[::step])
        row = np.where(row >= 0, len(rows.code) - 1 - row if step < 0 else row, -1)
        times_of[: len(row)] = np.where(row >= 0, rows.time[row] if len(rows.time) else 0, 0)
    return last, first


def outermost(code: NDArray[np.signedinteger]) -> Ints:
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


def newest(rows: Rows, count: int, window: int) -> Rows:
    last, _ = edges(rows, count)
    return rows.take(last[rows.code] - rows.time < window)
