"""PoolsView: how full and how healthy every pool is, where it comes from and where it goes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from traitlets import Bool, Enum, Float, TraitError, validate

from ..wire import format_size
from ._base import View, tables_of
from ._state import State
from ._static import moment, table_html, table_text

# The cells of a row, by position; pools.js reads them by the same numbers.
CELLS: Final = (
    "server",
    "pool",
    "hostname",
    "size",  # bytes
    "alloc",
    "free",
    "used",  # percent, exact where the sizes are
    "frag",  # percent
    "dedup",
    "health",
    "meaning",  # of the health, in words
    "time",  # of the sample, microseconds since the epoch
    "repaired",  # the server's columns were shifted by one and were put back
    "outlook",  # the forecast in one phrase, or None
    "days",  # until full, or None
)

# The states that `zpool status` can show, in words.
MEANING: Final = {
    "ONLINE": "all devices work",
    "DEGRADED": "a device failed or is missing; the data is there, with less protection",
    "FAULTED": "too many devices failed; the data cannot be read",
    "OFFLINE": "taken offline by an administrator",
    "UNAVAIL": "its devices cannot be opened",
    "REMOVED": "a device was pulled out while it ran",
    "SUSPENDED": "reading and writing wait until its devices are back",
}
TIME: Final = CELLS.index("time")
SPANS: Final = {"hour": 3600, "day": 86400, "week": 7 * 86400, "all": None}
POINTS: Final = 160  # of a sparkline
NEWEST: Final = 400_000  # samples looked at for the sparklines
REDRAW_S: Final = (
    20.0  # between two readings of the whole history; what comes meanwhile is added by the browser
)
OUTLOOK_S: Final = (10.0, 300.0)  # at least and at most, between two forecasts
FORECAST_FROM: Final = 100_000  # newest samples
HORIZON: Final = "180D"  # of the forecasts
AHEAD: Final = 0.5  # how far a sparkline looks ahead, as a share of how far it looks back
PATH_POINTS: Final = 24  # of a forecast, at most
DAY_S: Final = 86400.0


class Outlook(NamedTuple):
    """The forecast of one pool."""

    phrase: str
    days: float | None = None  # until it is full
    path: Any = None  # (4, n): seconds since the epoch, percent, its lower and upper bound; None: unknown


class PoolsModel:
    """The newest sample of each pool, and the history of a chosen span."""

    def __init__(self, tables: Any) -> None:
        self.tables = tables
        self.state = State()
        self.span = "day"
        self._ids: dict[tuple[str, str], int] = {}
        self._count = self._gaps = -1
        self._drawn = -math.inf  # when the history was read last
        self._drawn_count = -1
        self._extent: tuple[float, float] | None = None  # of the lines drawn last, seconds since the epoch
        self._outlook: dict[tuple[str, str], Outlook] = {}
        self._outlook_drawn = False  # for this span
        self._asked = -math.inf  # when the forecast was made last, and up to which sample
        self._asked_for = 0

    def refresh(self, now: float) -> None:
        count, gaps = self.tables.count("pools"), self.tables.count("connection")
        settled = count == self._count
        if not settled or gaps != self._gaps or not self._ids:
            self._count = count
            for key, pool in self.tables.latest_pools().items():
                row = self._ids.setdefault(key, len(self._ids) + 1)
                self.state.put(row, self._cells(key, pool))
        stale = self._drawn_count != count and (
            now - self._drawn > REDRAW_S or (settled and now - self._drawn > 1)
        )
        if stale or gaps != self._gaps:
            self._gaps, self._drawn, self._drawn_count = gaps, now, count
            self._read_history(now)

    def _cells(self, key: tuple[str, str], pool: Any) -> list[Any]:
        size, alloc = _number(pool.size_bytes), _number(pool.alloc_bytes)
        used = _number(pool.capacity_pct)
        if size and alloc is not None:
            used = round(100 * alloc / size, 2)
        health = pool.health or "unknown"
        seen = self._outlook.get(key)
        return [
            *key,
            pool.hostname,
            size,
            alloc,
            _number(pool.free_bytes),
            used,
            _number(pool.frag_pct),
            _number(pool.dedup_ratio),
            health,
            MEANING.get(str(health).upper(), "a state this program does not know"),
            pool.time,
            bool(pool.repaired),
            seen.phrase if seen else None,
            seen.days if seen else None,
        ]

    # ---- history --------------------------------------------------------------------------------------

    def redraw(self) -> None:
        """Read the history anew at the next refresh: another span was chosen."""
        self._drawn, self._drawn_count = -math.inf, -1
        self._outlook_drawn = False

    def _read_history(self, now: float) -> None:
        lines = history(self.tables.pools.tail(NEWEST), SPANS[self.span], now)
        for key, row in self._ids.items():
            self.state.set(f"line/{row}", lines.get(key))
        self.state.set("span_s", SPANS[self.span])
        self._extent = next(((line["from"], line["to"]) for line in lines.values()), None)
        if not self._outlook_drawn:
            self._draw_outlook()

    def _draw_outlook(self) -> None:
        """Cut the forecasts to the span; they are made for all spans at once."""
        if self._extent is None:
            return
        self._outlook_drawn = True
        for key, row in self._ids.items():
            seen = self._outlook.get(key)
            path = ahead(seen.path, *self._extent) if seen is not None and seen.path is not None else None
            self.state.set(f"path/{row}", path)

    def outlook_due(self, now: float) -> bool:
        """Whether a new forecast is worth its time: now and then, and when a day of data came."""
        newest = max((cells[TIME] for cells in self.state.rows.values()), default=0)
        if not newest or now - self._asked < OUTLOOK_S[0]:
            return False
        if now - self._asked < OUTLOOK_S[1] and newest - self._asked_for < 86400e6:
            return False
        self._asked, self._asked_for = now, newest
        return True

    def set_outlook(self, found: dict[tuple[str, str], Outlook]) -> None:
        """Show these forecasts."""
        self._outlook = found
        self._draw_outlook()
        for key, pool in self.tables.latest_pools().items():
            if key in self._ids:
                self.state.put(self._ids[key], self._cells(key, pool))

    # ---- static forms ---------------------------------------------------------------------------------

    def summary(self) -> str:
        rows = self.state.rows.values()
        parts = []
        for word, count in (
            ("not healthy", sum(cells[9] != "ONLINE" for cells in rows)),
            ("over 80%", sum((cells[6] or 0) > 80 for cells in rows)),
        ):
            if count:
                parts.append(f"{count:,} {word}")
        return ", ".join([f"{len(rows):,} pool{'' if len(rows) == 1 else 's'}", *parts])

    def _lines(self, limit: int) -> list[list[object]]:
        rows = sorted(self.state.rows.values(), key=lambda c: (c[9] == "ONLINE", -(c[6] or 0), c[0], c[1]))
        return [
            [
                cells[1],
                cells[0],
                f"{cells[6]:.0f}% {bar(cells[6])}" if cells[6] is not None else "",
                format_size(cells[3]) if cells[3] is not None else "-",
                format_size(cells[4]) if cells[4] is not None else "-",
                format_size(cells[5]) if cells[5] is not None else "-",
                cells[9] if cells[9] == "ONLINE" else f"{cells[9]}: {cells[10]}",
                moment(cells[11]),
            ]
            for cells in rows[:limit]
        ]

    _HEAD: Final = ("pool", "server", "used", "size", "alloc", "free", "health", "as of")

    def text(self) -> str:
        return table_text(f"Pools: {self.summary()}", self._HEAD, self._lines(30), len(self.state.rows) - 30)

    def html(self) -> str:
        return table_html("Pools", self.summary(), self._HEAD, self._lines(60), len(self.state.rows) - 60)


def bar(percent: float, width: int = 10) -> str:
    """A capacity bar in text.

    >>> bar(42)
    '████░░░░░░'
    """
    full = min(width, max(0, round(percent / 100 * width)))
    return "█" * full + "░" * (width - full)


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
            found[key] = Outlook(trends.phrase(row), _number(row["days"]), path)
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


def _number(value: float | None) -> float | None:
    return None if value is None or value != value else value


class PoolsView(View):
    """The pools of one or more servers, live: capacity, health in words, history and forecast.

    Parameters
    ----------
    source : Monitor, Recording or Tables
    span : {'hour', 'day', 'week', 'all'}, optional
        What the sparklines show; the forecast, dashed in its 80 % interval, goes on for half as long.
    sort : {'urgency', 'name', 'used'}, optional
        The order of pools; urgency puts the unhealthy and the fullest first.
    collapse : bool or None, optional
        Whether healthy pools with space left shrink to a line each; None does so for more than 9 pools.
    by_server : bool, optional
        Whether pools are grouped by server, where there are several.
    warning_pct, critical_pct : float, optional
        The marks on the capacity bars, in percent.

    Examples
    --------
    >>> import sysadm_nb as sa
    >>> view = sa.PoolsView(sa.Tables(), warning_pct=70)
    >>> view
    <PoolsView: 0 pools>
    >>> view.close()
    """

    module = "pools"
    parts = ("sparkline.js",)
    controls = ("span", "sort", "collapse", "by_server", "warning_pct", "critical_pct")

    span = Enum([*SPANS], "day")
    sort = Enum(["urgency", "name", "used"], "urgency")
    collapse = Bool(None, allow_none=True)
    by_server = Bool(True)
    warning_pct = Float(80.0)
    critical_pct = Float(90.0)
    model: PoolsModel

    def __init__(self, source: Any, **traits: Any) -> None:
        super().__init__(source, PoolsModel(tables_of(source)), **traits)

    def _tick(self) -> None:
        super()._tick()
        if not self._closed and self._loop is not None and self.model.outlook_due(time.time()):
            self._loop.start(self._guard(self._forecast()))

    async def _forecast(self) -> None:
        """On a worker thread: it takes too long for the loop's, which has sockets to serve."""
        found = await asyncio.to_thread(outlook, self.model.tables.pools.tail(FORECAST_FROM))
        with self._lock:
            self.model.set_outlook(found)

    @validate("warning_pct", "critical_pct")
    def _percent(self, proposal: Any) -> float:
        if not 0 < proposal["value"] <= 100:
            raise TraitError(f"{proposal['trait'].name} is a percentage between 0 and 100.")
        return float(proposal["value"])

    def controls_changed(self) -> None:
        if self.span != self.model.span:
            self.model.span = self.span
            self.model.redraw()
