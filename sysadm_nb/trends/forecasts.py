"""When will each pool reach a limit, and how sure is that?"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sysadm_nb.errors import InputError
from sysadm_nb.tables.spans import is_number
from sysadm_nb.trends.blend import Blend, blend
from sysadm_nb.trends.candidates import NAMES
from sysadm_nb.trends.history import History, take_apart
from sysadm_nb.trends.panel import BY, Panel, read, times, window_microseconds
from sysadm_nb.trends.rows import DAY
from sysadm_nb.trends.rowwise import Floats
from sysadm_nb.wire import format_size

ANCHORS = np.array([1, 3, 7, 14, 30, 60, 90, 180, 365, 730], dtype=float)  # days; straight lines in between
WITHIN_DAY = np.array([1 / 96, 1 / 24, 1 / 8, 1 / 4, 1 / 2])
LEAST_BINS = 3  # fewer say nothing of a rate
STILL = 1e-5  # of the pool's size in a day: less is no growth to speak of
# degrees of freedom of the t distribution that errors follow (benchmarks.trends prints other levels too)
TAILS = 4
T80 = 1.5332062740589443  # its quantile at 90 %: half of the 80 % interval


@dataclass(frozen=True)
class Paths:
    """Forecasts on a grid of days after each pool's last sample, bytes."""

    panel: Panel
    history: History
    blend: Blend
    anchors: Floats  # (A,) days the blend was made for
    days: Floats  # (G,) days of the grid
    centre: Floats  # (P, G), above 0; beyond the pool's size where it will have been full before
    half: Floats  # (P, G) half width of the interval, NaN where too little is known
    enough: NDArray[np.bool_]  # (P,)


def forecast(
    pools: pd.DataFrame,
    limit_pct: float = 80,
    horizon: Any = "180D",
    level: float = 0.8,
    by: Sequence[str] = BY,
    window: Any = None,
) -> pd.DataFrame:
    """When each pool will reach a share of its size; the most urgent first.

    Several simple forecasts (lines through everything and through the current regime, robust rates,
    smoothing, a bending curve, the mean…) are blended with weights from how each would have done in the
    pool's own past. Weekly cycles and the time of day are kept apart, one-off jumps are not taken for growth,
    and the interval's width comes from the blend's own past errors. ``python -m benchmarks.trends`` compares
    it with what else is in use.

    Parameters
    ----------
    pools : pandas.DataFrame
        Like ``monitor.pools``: at least ``time``, ``size_bytes``, ``alloc_bytes`` and the columns of `by`.
        The order of rows, the unit of time and repeated rows do not matter.
    limit_pct : float
        The limit, percent of the pool's size as it is now.
    horizon : timedelta-like
        How far to look ahead of each pool's last sample.
    level : float
        Coverage of the interval.
    by : sequence of str
        Columns that make a pool.
    window : timedelta-like, optional
        Use only samples this close to each pool's last one.

    Returns
    -------
    pandas.DataFrame
        One row a pool: columns `by`, ``time`` (last sample), ``capacity_pct``, ``size_bytes``,
        ``alloc_bytes``, ``growth_bytes_per_day`` (of the blend, now), ``limit_pct``,
        ``days``, ``days_lower``, ``days_upper``, ``date``, ``date_lower``, ``date_upper`` (``NaN`` and
        ``NaT`` where not within the horizon), ``probability`` (of reaching the limit within the horizon),
        ``method``, ``reason`` (in words). Times are ``datetime64[us, UTC]``.

    Raises
    ------
    InputError
        A column is missing, or an argument makes no sense.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> pools = pd.DataFrame({
    ...     "time": pd.date_range("2026-01-01", periods=60, freq="D", tz="UTC"),
    ...     "server": "nas", "pool": "tank",
    ...     "size_bytes": 1000e9, "alloc_bytes": 500e9 + 4e9 * np.arange(60),
    ... })
    >>> row = forecast(pools).iloc[0]
    >>> float(round(row["days"], 1)), str(row["date"].date()), row["reason"]
    (16.0, '2026-03-17', 'growing by 3.73G a day')
    """
    if not is_number(limit_pct) or not 0 < limit_pct <= 100:
        raise InputError(
            f"limit_pct is a percentage of the pool's size, above 0 and up to 100, not {limit_pct!r}."
        )
    factor = _factor(level)
    paths = trace(read(pools, by, window), _horizon_days(horizon), within_day=True)
    panel = paths.panel
    limit = panel.size_now * limit_pct / 100
    widened = paths.half * factor
    over = paths.enough & (panel.size_now > 0) & (panel.alloc_now >= limit)
    days, days_lower, days_upper = (
        np.where(over, 0.0, _crossing(paths.days, path, limit))
        for path in (paths.centre, paths.centre + widened, paths.centre - widened)
    )
    fortnight = _nearest(paths, 14)
    slope = (paths.blend.weights[:, :, fortnight] * paths.blend.slopes).sum(axis=0) / panel.step
    slope = np.where(paths.enough, slope, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        capacity = np.where(panel.size_now > 0, 100 * panel.alloc_now / panel.size_now, np.nan)
    table = panel.keys.copy()
    time = panel.last
    table["time"] = times(time)
    table["capacity_pct"], table["size_bytes"], table["alloc_bytes"] = (
        capacity,
        panel.size_now,
        panel.alloc_now,
    )
    table["growth_bytes_per_day"] = slope
    table["limit_pct"] = float(limit_pct)
    for name, value in (("", days), ("_lower", days_lower), ("_upper", days_upper)):
        table[f"days{name}"] = value
    for name, value in (("", days), ("_lower", days_lower), ("_upper", days_upper)):
        known = np.isfinite(value)
        table[f"date{name}"] = times(time + np.rint(np.where(known, value, 0) * DAY).astype(np.int64), known)
    table["probability"] = np.where(over, 1.0, _probability(paths, limit))
    table["method"] = pd.array(_methods(paths), dtype="str")
    table["reason"] = pd.array(_reasons(paths, days, over, slope, limit, limit_pct), dtype="str")
    # whole days first, so that nearly equal ones are told apart by what may come earliest
    order = np.lexsort((-np.nan_to_num(capacity), -np.nan_to_num(table["probability"]), days_lower, days))
    return table.iloc[order].reset_index(drop=True)


def forecast_path(
    pools: pd.DataFrame,
    horizon: Any = "90D",
    level: float = 0.8,
    by: Sequence[str] = BY,
    window: Any = None,
    within_day: bool = False,
) -> pd.DataFrame:
    """The forecast's curve and band, a row for each pool and day, for plotting.

    Parameters
    ----------
    pools, horizon, level, by, window
        As for ``forecast``.
    within_day : bool
        Also a few rows within the first day, where histories of less than ten days have something to say of
        them: a pool met an hour ago can be full in three.

    Returns
    -------
    pandas.DataFrame
        Columns `by`, ``time``, ``days`` (after the pool's last sample; 0 is the sample itself),
        ``alloc_bytes``, ``alloc_lower``, ``alloc_upper``, ``capacity_pct``, ``capacity_lower``,
        ``capacity_upper``, ``size_bytes``. Bounds are ``NaN`` where there is too little to say.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> pools = pd.DataFrame({
    ...     "time": pd.date_range("2026-01-01", periods=60, freq="D", tz="UTC"),
    ...     "server": "nas", "pool": "tank",
    ...     "size_bytes": 1000e9, "alloc_bytes": 500e9 + 4e9 * np.arange(60),
    ... })
    >>> forecast_path(pools, horizon="2D")[["days", "capacity_pct"]].round(1).values.tolist()
    [[0.0, 73.6], [1.0, 74.0], [2.0, 74.4]]
    """
    factor = _factor(level)
    paths = trace(read(pools, by, window), _horizon_days(horizon), within_day)
    panel, days = paths.panel, paths.days
    size = panel.size_now[:, None]
    half = factor * paths.half
    centre, lower, upper = (
        np.clip(values, 0, size) for values in (paths.centre, paths.centre - half, paths.centre + half)
    )
    table = panel.keys.loc[panel.keys.index.repeat(len(days))].reset_index(drop=True)
    time = panel.last[:, None] + np.rint(days * DAY).astype(np.int64)
    table["time"] = times(time.ravel())
    table["days"] = np.tile(days, len(panel.keys))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(size > 0, 100 / size, np.nan)
    for name, values in (("alloc_bytes", centre), ("alloc_lower", lower), ("alloc_upper", upper)):
        table[name] = values.ravel()
    for name, values in (
        ("capacity_pct", centre),
        ("capacity_lower", lower),
        ("capacity_upper", upper),
    ):
        table[name] = (values * share).ravel()
    table["size_bytes"] = np.repeat(panel.size_now, len(days))
    return table


def phrase(row: Mapping[Hashable, Any] | pd.Series) -> str:
    """One row of ``forecast`` as a few words for a table's cell.

    Examples
    --------
    >>> phrase({"days": 41.2, "days_lower": 33.0, "days_upper": 60.4, "limit_pct": 80.0, "reason": "growing"})
    '80 % in about 41 days (33 to 60)'
    >>> never = float("nan")
    >>> phrase({"days": 2.6, "days_lower": 2.2, "days_upper": never, "limit_pct": 100.0, "reason": "growing"})
    'full in about 3 days (2 or more)'
    >>> phrase({"days": float("nan"), "limit_pct": 80.0, "reason": "not growing"})
    'not growing'
    """
    days = row["days"]
    if not np.isfinite(days) or days == 0:
        return str(row["reason"])
    what = "full" if row["limit_pct"] >= 100 else f"{row['limit_pct']:g} %"
    low, high = row["days_lower"], row["days_upper"]
    span = (
        f" ({low:.0f} to {high:.0f})"
        if np.isfinite(high)
        else f" ({low:.0f} or more)"
        if np.isfinite(low)
        else ""
    )
    unit = "day" if round(days) == 1 else "days"
    about = f"{days:.0f} {unit}" if days >= 0.95 else f"{max(days * 24, 1):.0f} hours"
    return f"{what} in about {about}{span if days >= 0.95 else ''}"


def trace(panel: Panel, horizon_days: float, within_day: bool = False) -> Paths:
    """Forecasts of a panel on a grid of whole days (and the horizon's end).

    With `within_day`, also within the first day where histories are so short that their bins are: a pool met
    an hour ago can be full in three.
    """
    history = take_apart(panel)
    early = WITHIN_DAY if within_day and (panel.step < 1).any() else np.array([])
    grid = np.concatenate([[0.0], early, np.arange(1.0, horizon_days)])
    days = np.append(grid[grid < horizon_days], horizon_days)
    anchors = np.concatenate([early, ANCHORS])
    anchors = np.append(anchors[horizon_days > anchors], horizon_days)
    room = np.where(panel.size_now > 0, panel.size_now, np.inf)
    blended = blend(history, anchors / panel.step[:, None], room)
    # straight lines from anchor to anchor, beginning with today
    between = np.zeros((len(anchors) + 1, len(days)))
    knots = np.append(0.0, anchors)
    for number in range(len(knots)):
        between[number] = np.interp(days, knots, np.arange(len(knots)) == number)
    enough = (history.bins >= LEAST_BINS) & (panel.samples >= LEAST_BINS) & (panel.size_now > 0)
    phase = history.at_phase(days / panel.step[:, None])
    today = (panel.end[:, -1] - phase[:, 0])[:, None] if panel.end.shape[1] else np.zeros((len(enough), 1))
    centre = _from_today(today, blended.centre, anchors, panel.step) @ between + phase
    half = _from_today(np.zeros_like(today), blended.half, anchors, panel.step) @ between
    centre = np.where(enough[:, None], centre, panel.alloc_now[:, None])
    centre[:, 0] = panel.alloc_now
    with np.errstate(invalid="ignore"):
        centre = np.maximum(centre, 0)
    return Paths(
        panel, history, blended, anchors, days, centre, np.where(enough[:, None], half, np.nan), enough
    )


def _from_today(today: Floats, at: Floats, anchors: Floats, step: Floats) -> Floats:
    """Values now and at the anchors; anchors within a pool's first bin lie on the line to the first after
    it."""
    values = np.concatenate([today, at], axis=1)
    for number in np.flatnonzero(anchors < step.max(initial=0)):
        inside = step > anchors[number]
        first = np.minimum(np.searchsorted(anchors, step[inside]), len(anchors) - 1)
        share = anchors[number] / anchors[first]
        start = today[inside, 0]
        values[inside, number + 1] = start + (at[inside, first] - start) * share
    return values


def _crossing(days: Floats, path: Floats, limit: Floats) -> Floats:
    """First day each path is at its limit, straight between grid points; NaN where it never is."""
    with np.errstate(invalid="ignore"):
        above = path >= limit[:, None]
    at = above.argmax(axis=1)
    row = np.arange(len(path))
    before = np.maximum(at - 1, 0)
    low, high = path[row, before], path[row, at]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(high > low, (limit - low) / (high - low), 0.0)
    found = above.any(axis=1) & (limit > 0)
    return np.where(found, days[before] + (days[at] - days[before]) * np.clip(share, 0, 1), np.nan)


def _probability(paths: Paths, limit: Floats) -> Floats:
    """Largest probability, over the days of the horizon, of being at the limit."""
    from scipy.special import stdtr

    with np.errstate(invalid="ignore", divide="ignore"):
        score = (paths.centre - limit[:, None]) / (paths.half / T80)
        score = np.where(paths.half > 0, score, np.where(paths.centre >= limit[:, None], np.inf, -np.inf))
    known = paths.enough & (limit > 0)
    return np.where(known, stdtr(TAILS, np.where(known, score.max(axis=1), 0.0)), np.nan)


def _nearest(paths: Paths, days: float) -> int:
    """Number of the anchor nearest to so many days ahead."""
    return int(np.argmin(np.abs(paths.anchors - days)))


def _methods(paths: Paths) -> list[str]:
    """What weighs most in the blend a month ahead (or at the horizon), and what was set aside."""
    names = list(NAMES.values())
    month = _nearest(paths, 30)
    weights = paths.blend.weights[:, :, month]
    top, share = weights.argmax(axis=0), weights.max(axis=0)
    scale = np.maximum(paths.panel.size_now, 1)
    cyclic: NDArray[np.bool_] = np.asarray(np.ptp(paths.history.cycle, axis=1) > 0.001 * scale)
    jumped = [bool(jumps.any()) for jumps in paths.history.jumps]
    return [
        (
            "none"
            if not enough
            else f"blend, {100 * part:.0f} % {names[best]}" + (", weekly cycle" if cycle else "")
        )
        + (", jumps set aside" if enough and jump else "")
        for enough, best, part, cycle, jump in zip(
            paths.enough, top, share, cyclic.tolist(), jumped, strict=True
        )
    ]


def _reasons(
    paths: Paths, days: Floats, over: NDArray[np.bool_], slope: Floats, limit: Floats, limit_pct: float
) -> list[str]:
    panel, horizon = paths.panel, paths.days[-1]
    now, end = paths.centre[:, 0], paths.centre[:, -1]
    # Whole weeks, back from the end and on from now: other spans would tell of the weekday.
    back = horizon - (28 if horizon >= 28 else min(7, horizon))
    weeks = horizon // 7 * 7 or horizon
    before, later = (
        np.array([np.interp(day, paths.days, centre) for centre in paths.centre]) for day in (back, weeks)
    )
    last_rate, mean_rate = (end - before) / (horizon - back), (later - now) / weeks
    still = STILL * np.maximum(panel.size_now, 1)
    reasons = []
    for pool in range(len(days)):
        if not np.isfinite(panel.alloc_now[pool]):
            reason = "no sample with a size"
        elif not panel.size_now[pool] > 0:
            reason = "the pool's size is 0 or unknown"
        elif not paths.enough[pool]:
            count = int(panel.samples[pool])
            samples = f"{count} sample{'s' if count != 1 else ''}"
            reason = f"too little to say: {samples} over {_length(panel.span[pool])}"
        elif over[pool]:
            word = "above" if panel.alloc_now[pool] > limit[pool] else "at"
            reason = f"already {word} {limit_pct:g} %"
        elif np.isfinite(days[pool]):
            reason = f"growing by {format_size(max(slope[pool], 0))} a day" if slope[pool] > 0 else "growing"
        elif mean_rate[pool] < -still[pool]:
            rate = slope[pool] if slope[pool] < 0 else mean_rate[pool]  # the path ends at empty
            reason = f"shrinking by {format_size(-rate)} a day"
        elif last_rate[pool] > still[pool]:
            more = horizon + (limit[pool] - end[pool]) / last_rate[pool]
            at_rate = f"in about {_length(more)}" if more < 36_525 else "in more than a century"
            reason = f"not within {_length(horizon)}: at this rate {at_rate}"
        elif mean_rate[pool] > still[pool]:
            reason = f"levels off at about {100 * end[pool] / panel.size_now[pool]:.0f} %"
        else:
            reason = "not growing"
        reasons.append(reason)
    return reasons


def _length(days: float) -> str:
    if days >= 3 * 365.25:
        return f"{days / 365.25:.0f} years"
    for unit, length in (("days", 1.0), ("hours", 1 / 24), ("minutes", 1 / 1440)):
        if days >= 1.95 * length or unit == "minutes":
            return f"{days / length:.0f} {unit}"
    raise AssertionError


def _factor(level: float) -> float:
    from scipy.special import stdtrit

    if not is_number(level) or not 0 < level < 1:
        raise InputError(
            f"level is the share of outcomes the interval is to cover, between 0 and 1, not {level!r}."
        )
    return float(stdtrit(TAILS, (1 + level) / 2) / T80)


def _horizon_days(horizon: Any) -> float:
    return window_microseconds(horizon) / DAY
