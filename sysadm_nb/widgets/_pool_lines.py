"""The lines of PoolsView's sparklines: the past of each pool, and its forecast; pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

POINTS: Final = 160  # of a sparkline
HORIZON: Final = "180D"  # of the forecasts
AHEAD: Final = 0.5  # how far a sparkline looks ahead, as a share of how far it looks back
PATH_POINTS: Final = 24  # of a forecast, at most
DAY_S: Final = 86400.0
OUTLOOK_S: Final = (10.0, 300.0)  # at least and at most, between two forecasts


class Outlook(NamedTuple):
    """The forecast of one pool."""

    phrase: str
    days: float | None = None  # until it is full
    path: Any = None  # (4, n): seconds since the epoch, percent, its lower and upper bound; None: unknown


def history(pools: Any, span_s: float | None, now: float) -> dict[tuple[str, str], dict[str, Any]]:
    """The line of each pool over a span, thinned out to what a sparkline can show.

    Parameters
    ----------
    pools : DataFrame
        The ``pools`` table.
    span_s : float or None
        Seconds back from the end; None is everything there is.
    now : float
        Seconds since the epoch. The span ends here, or at the newest sample where the samples' clock is
        another one (a simulation, a recording): told by samples that came a day apart from their own time.

    Returns
    -------
    dict
        ``(server, pool)`` to ``{"from": s, "to": s, "t": [s after from], "y": [percent or None]}``. A None
        stands in a gap: where samples are missing for more than three times their usual distance.
    """
    pools = pools[(pools["origin"] != "last") & pools["capacity_pct"].notna()]
    if pools.empty:
        return {}
    times = pools["time"].to_numpy("datetime64[us]").astype(np.int64) / 1e6
    newest = float(times.max())
    received = pools["received"].to_numpy("datetime64[us]").astype(np.int64) / 1e6
    own_clock = abs(float(received[times.argmax()]) - newest) > 86400 or now < newest
    end = newest if own_clock else now
    begin = float(times.min()) if span_s is None else end - span_s
    used = pools["alloc_bytes"].to_numpy() / pools["size_bytes"].to_numpy() * 100
    used = np.where(np.isfinite(used), used, pools["capacity_pct"].to_numpy())
    server, name = pools["server"].cat, pools["pool"].cat
    codes = server.codes.to_numpy().astype(np.int64) * (len(name.categories) + 1) + name.codes.to_numpy()
    order = np.lexsort((times, codes))
    codes, times, used = codes[order], times[order], used[order]
    edges = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
    lines = {}
    for first, last in zip(edges, [*edges[1:], len(codes)], strict=True):
        key = divmod(int(codes[first]), len(name.categories) + 1)
        t, y = thin(times[first:last], used[first:last], begin, end)
        lines[(str(server.categories[key[0]]), str(name.categories[key[1]]))] = {
            "from": round(begin),
            "to": round(end),
            "t": [round(float(x) - round(begin), 1) for x in t],
            "y": [None if math.isnan(x) else round(float(x), 2) for x in y],
        }
    return lines


def thin(times: Any, values: Any, begin: float, end: float) -> tuple[Any, Any]:
    """The last sample of each of `POINTS` slots, with a NaN in each gap.

    Parameters
    ----------
    times : array of float64, sorted
        Seconds.
    values : array of float64, as long
    begin, end : float
        The span in seconds; the newest sample before it is kept too, so that the line comes in from the left.
    """
    steps = np.diff(times)
    usual = float(np.median(steps)) if len(steps) else 0.0
    width = max((end - begin) / POINTS, 1e-6)
    first = max(0, int(np.searchsorted(times, begin)) - 1)
    times, values = times[first:], values[first:]
    slot = np.floor((times - begin) / width)
    keep = np.append(slot[1:] != slot[:-1], True)
    gap_after = np.append(np.diff(times) > max(3 * usual, 1.5 * width), False)
    keep |= gap_after
    keep[1:] |= gap_after[:-1]
    at = np.flatnonzero(keep)
    holes = np.flatnonzero(gap_after[at])
    t = np.insert(times[at], holes + 1, times[at][holes])
    y = np.insert(values[at], holes + 1, np.nan)
    return t, y


def outlook(pools: Any) -> dict[tuple[str, str], Outlook]:
    """The forecast of each pool from `sysadm_nb.trends`: in a phrase, and its path."""
    from .. import trends

    if pools.empty:
        return {}
    curves = {}
    paths = trends.forecast_path(pools, horizon=HORIZON, within_day=True)
    for (server, name), rows in paths.groupby(["server", "pool"], observed=True, sort=False):
        seconds = rows["time"].to_numpy("datetime64[us]").astype(np.int64) / 1e6
        curve = rows[["capacity_pct", "capacity_lower", "capacity_upper"]].to_numpy()
        if np.isfinite(curve).all():  # no bounds: a few samples say nothing of what comes
            curves[str(server), str(name)] = np.vstack([seconds, curve.T])
    found = {}
    for row in trends.forecast(pools, limit_pct=100, horizon=HORIZON).to_dict("records"):
        if not row["reason"].startswith("no sample"):
            key = str(row["server"]), str(row["pool"])
            path = _with_full(curves[key], row) if key in curves else None
            found[key] = Outlook(
                trends.phrase(row), float(row["days"]) if row["days"] == row["days"] else None, path
            )
    return found


def _with_full(path: Any, row: Mapping[Any, Any]) -> Any:
    """A path with the moments when it and its bounds come to 100 %: they lie between its points, which stop
    there."""
    for bound, days in ((3, row["days_lower"]), (1, row["days"]), (2, row["days_upper"])):
        moment = path[0, 0] + days * DAY_S
        if days > 0:
            if moment not in path[0]:
                point = [moment, *(np.interp(moment, path[0], values) for values in path[1:])]
                path = np.insert(path, np.searchsorted(path[0], moment), point, axis=1)
            path[bound, path[0] == moment] = 100.0
    return path


def ahead(path: Any, begin: float, end: float) -> dict[str, Any] | None:
    """What a sparkline shows of a forecast: half as far ahead as the sparkline looks back.

    So the last hour goes on for half an hour, a week for three and a half days, a year for half a year. A
    second is as wide on both sides of now, which leaves the forecast a third of the width: an angle in the
    line is a change of pace, never one of scale. And a forecast that reaches further than half its evidence
    is seldom worth drawing; how long until the pool is full stands in words below in any case.

    Parameters
    ----------
    path : array of float64, shape (4, n)
        Seconds since the epoch, from the pool's last sample on; percent; its lower and its upper bound.
    begin, end : float
        The span of the history in seconds since the epoch.

    Returns
    -------
    dict or None
        ``{"from": s, "ahead": s after end, "t": [s after from], "y": [percent], "low": …, "high": …}``, at
        most `PATH_POINTS` points: all; or whole days, weeks or fortnights, which keep to one phase of a
        weekly cycle, and those where it is full. It goes on past ``ahead`` by as much as the end may move
        before the next forecast: the browser cuts it. None where the forecast ends before the span does.

    Examples
    --------
    >>> path = np.array([[0.0, 86400, 172800], [50, 51, 52], [50, 50, 50], [50, 52, 54]])
    >>> week = ahead(path, -7 * 86400, 0)
    >>> week["ahead"] / 86400, week["y"]
    (2.0, [50.0, 51.0, 52.0])
    >>> ahead(path, -43200, 0)["ahead"] / 3600
    6.0
    """
    times = path[0]
    reach = min((end - begin) * AHEAD, times[-1] - end)
    if reach <= 0:
        return None
    until = min(end + 1.25 * reach + OUTLOOK_S[1], times[-1])
    days = (times - times[0]) / DAY_S
    inside = (times < until) & (days >= (begin - times[0]) / DAY_S - 1)
    full = np.isin(np.arange(len(times)), (path[1:] >= 100).argmax(axis=1))  # the path or a bound comes there
    for step in (None, 1, 7, 14):
        keep = (
            inside if step is None else inside & (full | (np.abs(days - step * np.rint(days / step)) < 1e-6))
        )
        if keep.sum() < PATH_POINTS:
            break
    at = np.append(times[keep], until)
    y, low, high = ([round(float(value), 2) for value in np.interp(at, times, row)] for row in path[1:])
    start = float(at[0])
    return {
        "from": start,
        "ahead": float(reach),
        "t": [round(float(value) - start, 1) for value in at],
        "y": y,
        "low": low,
        "high": high,
    }
