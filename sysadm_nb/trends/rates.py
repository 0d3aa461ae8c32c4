"""How large each pool is, how fast it grows, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sysadm_nb.trends import rowwise
from sysadm_nb.trends.courses import theil_slope
from sysadm_nb.trends.history import take_apart
from sysadm_nb.trends.panel import BY, Panel, read, times
from sysadm_nb.trends.rows import DAY
from sysadm_nb.trends.rowwise import Floats, Ints

LEAST_BINS = 3
Z80 = 1.2815515655446004  # half of an 80 % interval in standard deviations
EFFICIENCY = 1.2  # variance of a median slope over that of the mean change, on walks


def growth(pools: pd.DataFrame, by: Sequence[str] = BY, window: Any = None) -> pd.DataFrame:
    """Size, allocation and rate of growth of each pool, from the regime it is in now.

    The rate is Theil's median slope over the bins (as a rule days) since the rate last changed, weekly cycle
    and one-off jumps removed; its 80 % interval comes from the long-run noise of the changes, so that the
    wandering of a busy pool is not taken for precision.

    Parameters
    ----------
    pools, by, window
        As for ``forecast``.

    Returns
    -------
    pandas.DataFrame
        One row a pool, in order of `by`: columns `by`, ``time`` (last sample), ``size_bytes``,
        ``alloc_bytes``, ``capacity_pct``, ``growth_bytes_per_day``, ``growth_lower``, ``growth_upper``,
        ``regime_start``, ``growth_before`` (rate of the regime before, ``NaN`` if there was none),
        ``growth_change`` (now minus before), ``jumps_bytes`` (one-off jumps set aside, in all), ``frag_pct``,
        ``frag_pct_per_day``, ``samples``, ``first`` (sample), ``span_days``, ``missing_pct`` (share of the
        span without samples), ``reason`` (why a rate is missing, else empty). Times are ``datetime64[us,
        UTC]``.

    Raises
    ------
    InputError
        A column is missing, or an argument makes no sense.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> pools = pd.DataFrame({
    ...     "time": pd.date_range("2026-01-01", periods=30, freq="D", tz="UTC"),
    ...     "server": "nas", "pool": "tank",
    ...     "size_bytes": 1000e9, "alloc_bytes": 500e9 + 4e9 * np.arange(30),
    ... })
    >>> growth(pools)[["capacity_pct", "growth_bytes_per_day", "samples"]].values.tolist()
    [[61.6, 4000000000.0, 30.0]]
    """
    panel = read(pools, by, window)
    history = take_apart(panel)
    width = history.smooth.shape[1]
    row = np.arange(len(panel.keys))
    at = np.where(history.changes, np.arange(width), -1)
    start = np.maximum(at.max(axis=1), history.first)
    length = width - start
    enough = (history.bins >= LEAST_BINS) & (panel.samples >= LEAST_BINS)
    step = panel.step
    rate = np.where(enough, theil_slope(history.smooth, start) / step, np.nan)
    error = Z80 * np.sqrt(EFFICIENCY) * history.noise / np.sqrt(np.maximum(length - 1, 1)) / step
    changed = start > history.first
    earlier = np.maximum(np.where(at < start[:, None], at, -1).max(axis=1), history.first)
    before = _rate_between(history.smooth, earlier, start) / step
    with np.errstate(invalid="ignore", divide="ignore"):
        capacity = np.where(panel.size_now > 0, 100 * panel.alloc_now / panel.size_now, np.nan)
    table = panel.keys.copy()
    table["time"] = times(panel.last)
    table["size_bytes"], table["alloc_bytes"], table["capacity_pct"] = (
        panel.size_now,
        panel.alloc_now,
        capacity,
    )
    table["growth_bytes_per_day"], table["growth_lower"], table["growth_upper"] = (
        rate,
        rate - error,
        rate + error,
    )
    begins = panel.last - (width - 1 - start) * np.rint(step * DAY).astype(np.int64)
    table["regime_start"] = times(np.maximum(begins, panel.first))
    table["growth_before"] = np.where(changed & enough, before, np.nan)
    table["growth_change"] = table["growth_bytes_per_day"] - table["growth_before"]
    table["jumps_bytes"] = history.jumps.sum(axis=1)
    known = np.isfinite(panel.frag)
    newest = width - 1 - known[:, ::-1].argmax(axis=1)
    table["frag_pct"] = panel.frag[row, newest]
    table["frag_pct_per_day"] = np.where(enough, theil_slope(panel.frag, history.first) / step, np.nan)
    table["samples"], table["first"] = panel.samples, times(panel.first)
    table["span_days"], table["missing_pct"] = panel.span, _missing(panel)
    few = np.where(panel.samples > 0, "too few samples for a rate", "no sample with a size")
    table["reason"] = pd.array(np.where(enough, "", few).tolist(), dtype="str")
    return table


def _rate_between(path: Floats, start: Ints, stop: Ints) -> Floats:
    row = np.arange(len(path))
    return np.asarray((path[row, stop] - path[row, start]) / np.maximum(stop - start, 1))


def _missing(panel: Panel) -> Floats:
    """Percent of the span in which samples should have come and did not.

    Judged by the pool's own habit: the usual number of samples a bin, or the usual pause where bins stay
    empty.
    """
    bins = panel.count.shape[1]
    inside = np.arange(bins) > (bins - 1 - np.minimum(panel.span / panel.step, bins - 1))[:, None]
    count = np.where(inside, panel.count, 0)
    usual = np.nan_to_num(rowwise.median(np.where(count > 0, count, np.nan)))
    lacking = np.maximum(1 - count / np.maximum(usual, 1)[:, None], 0)
    share = np.where(inside, lacking, 0).sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
    seldom = (usual <= 1) & (share > 0)  # sampled less than once a bin: judged by the usual pause
    for pool in np.flatnonzero(seldom):
        pause = np.diff(np.flatnonzero(count[pool]))
        habit = max(1.0, float(np.median(pause))) if len(pause) else 1.0
        share[pool] = np.maximum(pause - habit, 0).sum() / inside[pool].sum()
    return np.asarray(100 * share)
