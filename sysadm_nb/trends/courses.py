"""Where a pool's course changed: jumps, other rates, other sizes, gaps, pools made anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sysadm_nb.trends import rowwise
from sysadm_nb.trends.history import WEEK, History, take_apart
from sysadm_nb.trends.panel import BY, Panel, read, times
from sysadm_nb.trends.rows import DAY
from sysadm_nb.trends.rowwise import Floats, Ints

KINDS = ("jump", "drop", "faster", "slower", "resized", "made anew", "gap")
LEAST_GAP = 2.0  # bins without a sample: shorter ones are a night's outage
LEAST_RESIZE = 0.005  # part of the size: less is display rounding or slop space


def regimes(pools: pd.DataFrame, by: Sequence[str] = BY, window: Any = None) -> pd.DataFrame:
    """Every change of course that can be told from chance.

    Parameters
    ----------
    pools, by, window
        As for ``forecast``.

    Returns
    -------
    pandas.DataFrame
        One row a change, oldest first: columns `by`, ``time`` (end of the bin, as a rule a day, in which it
        showed), ``since`` (start of it), ``kind`` (one of ``jump``, ``drop``, ``faster``, ``slower``,
        ``resized``, ``made anew``, ``gap``), ``bytes`` (of the jump or the change of size, ``NaN`` for
        others), ``growth_before``, ``growth_after`` (bytes a day, ``NaN`` where too short to tell).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> alloc = 500e9 + 1e9 * np.arange(60) - 200e9 * (np.arange(60) >= 40)
    >>> pools = pd.DataFrame({
    ...     "time": pd.date_range("2026-01-01", periods=60, freq="D", tz="UTC"),
    ...     "server": "nas", "pool": "tank",
    ...     "size_bytes": 1000e9, "alloc_bytes": alloc,
    ... })
    >>> found = regimes(pools)
    >>> found["kind"].tolist(), str(found["time"][0].date()), found["bytes"].tolist()
    (['drop'], '2026-02-10', [-200000000000.0])
    """
    panel = read(pools, by, window)
    history = take_apart(panel)
    return changes(panel, history)


def changes(panel: Panel, history: History) -> pd.DataFrame:
    """The table of ``regimes`` from a panel that has been taken apart."""
    found: list[tuple[Ints, Ints, str, Floats]] = []
    jumps = history.jumps + history.kept
    begins = jumps != 0
    begins[:, 1:] &= jumps[:, :-1] == 0
    run = np.cumsum(jumps, axis=1)
    ends = jumps != 0
    ends[:, :-1] &= jumps[:, 1:] == 0
    pool, start = np.nonzero(begins)
    _, end = np.nonzero(ends)
    total = run[pool, end] - run[pool, start] + jumps[pool, start]
    for kind, chosen in (("jump", total > 0), ("drop", total < 0)):
        found.append((pool[chosen], end[chosen], kind, total[chosen]))
    before, after = _rates(history, panel)
    pool, column = np.nonzero(history.changes)
    faster = after[pool, column] > before[pool, column]
    for kind, chosen in (("faster", faster), ("slower", ~faster)):
        found.append((pool[chosen], column[chosen], kind, np.full(int(chosen.sum()), np.nan)))
    size = rowwise.fill(panel.size)
    with np.errstate(invalid="ignore", divide="ignore"):
        resized = np.abs(np.diff(size, axis=1)) > LEAST_RESIZE * size[:, :-1]
    pool, column = np.nonzero(resized)
    found.append((pool, column + 1, "resized", np.diff(size, axis=1)[pool, column]))
    pool = np.flatnonzero(history.reborn)
    found.append((pool, history.first[pool], "made anew", np.full(len(pool), np.nan)))
    pool, column, length = _gaps(panel)
    found.append((pool, column, "gap", np.full(len(pool), np.nan)))

    pool = np.concatenate([item[0] for item in found])
    column = np.concatenate([item[1] for item in found])
    kinds = np.repeat([item[2] for item in found], [len(item[0]) for item in found])
    back = np.ones(len(pool), np.int64)
    back[kinds == "gap"] = length
    step = np.rint(panel.step[pool] * DAY).astype(np.int64)
    time = panel.last[pool] - (panel.mean.shape[1] - 1 - column) * step
    table = panel.keys.iloc[pool].reset_index(drop=True)
    table["time"], table["since"] = times(time), times(time - back * step)
    table["kind"] = pd.Categorical(kinds.tolist(), categories=list(KINDS))
    table["bytes"] = np.concatenate([item[3] for item in found])
    table["growth_before"], table["growth_after"] = before[pool, column], after[pool, column]
    order = np.lexsort((pool, time))
    return table.iloc[order].reset_index(drop=True)


def _rates(history: History, panel: Panel) -> tuple[Floats, Floats]:
    """Bytes a day of the regime that ends and of the one that begins at each bin (the same where none does).
    Bytes a day of the regime that ends and of the one that begins at each bin (the same where none does)."""
    pools, width = history.smooth.shape
    column = np.arange(width)
    edges = history.changes.copy()
    edges[np.arange(pools), history.first] = True
    start = np.maximum.accumulate(np.where(edges, column, 0), axis=1)
    edges[np.arange(pools), history.first] = False
    stop = np.minimum.accumulate(np.where(edges, column, width - 1)[:, ::-1], axis=1)[:, ::-1]
    path = rowwise.smooth(history.smooth)

    def rate(first: Ints, last: Ints) -> Floats:
        rise = np.take_along_axis(path, last, axis=1) - np.take_along_axis(path, first, axis=1)
        return np.where(last - first >= 3, rise / np.maximum(last - first, 1), np.nan) / panel.step[:, None]

    earlier = np.concatenate([start[:, :1], start[:, :-1]], axis=1)
    later = np.concatenate([stop[:, 1:], stop[:, -1:]], axis=1)
    changed = history.changes
    here = np.broadcast_to(column, start.shape)
    return (
        rate(np.where(changed, earlier, start), np.where(changed, here, stop)),
        rate(np.where(changed, here, start), np.where(changed, later, stop)),
    )


def _gaps(panel: Panel) -> tuple[Ints, Ints, Ints]:
    """Stretches of empty bins, usual pauses left out: pool, bin of the first sample after, bins empty."""
    pool, column = np.nonzero(panel.count > 0)
    same = pool[1:] == pool[:-1]
    pause = np.diff(column)[same]
    usual = np.ones(len(panel.keys))
    for one in np.unique(pool[1:][same][pause > 1]):
        usual[one] = max(1.0, float(np.median(pause[pool[1:][same] == one])))
    owner = pool[1:][same]
    gap = pause > np.maximum(LEAST_GAP, 3 * usual[owner])
    return owner[gap], column[1:][same][gap], pause[gap] - 1


def theil_slope(path: Floats, start: Ints) -> Floats:
    """Each row's slope from column `start` on: median slope of points half the length apart.

    A whole number of weeks apart where there are two, so that a weekly cycle cancels. This is Theil's
    incomplete method (1950).
    """
    width = path.shape[1]
    length = width - start
    lag = np.maximum(length // 2, 1)
    lag = np.where(lag >= WEEK, lag // WEEK * WEEK, lag)
    column = np.arange(width)
    partner = column + lag[:, None]
    pairs: NDArray[np.bool_] = (column >= start[:, None]) & (partner < width)
    slopes = np.take_along_axis(path, np.minimum(partner, width - 1), axis=1) - path
    return rowwise.median(np.where(pairs, slopes / lag[:, None], np.nan))
