"""PoolsView: how full and how healthy every pool is, where it comes from and where it goes."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any, Final

from traitlets import Bool, Enum, Float, TraitError, validate

from ..wire import format_size
from ._base import View, tables_of
from ._pool_lines import OUTLOOK_S, Outlook, ahead, history, outlook
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
GONE: Final = "GONE"  # stands for the health of a pool that later samples of its server do not name
TIME: Final = CELLS.index("time")
SPANS: Final = {"hour": 3600, "day": 86400, "week": 7 * 86400, "all": None}
NEWEST: Final = 400_000  # samples looked at for the sparklines
REDRAW_S: Final = (
    20.0  # between two readings of the whole history; what comes meanwhile is added by the browser
)
FORECAST_FROM: Final = 100_000  # newest samples


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
            self._put_pools()
        stale = self._drawn_count != count and (
            now - self._drawn > REDRAW_S or (settled and now - self._drawn > 1)
        )
        if stale or gaps != self._gaps:
            self._gaps, self._drawn, self._drawn_count = gaps, now, count
            self._read_history(now)

    def _put_pools(self) -> None:
        pools = self.tables.latest_pools()
        newest: dict[tuple[str, str | None], Any] = {}  # of each host, whose samples name all its pools
        for pool in pools.values():
            host = pool.server, pool.hostname
            if pool.origin != "last" and (host not in newest or newest[host].time < pool.time):
                newest[host] = pool
        for key, pool in pools.items():
            last = newest.get((pool.server, pool.hostname), pool)
            # Later by the clock and as it came: clocks differ, and what is filled in later is old.
            gone = pool.time < last.time and pool.seq < last.seq
            self.state.put(self._ids.setdefault(key, len(self._ids) + 1), self._cells(key, pool, gone))

    def _cells(self, key: tuple[str, str], pool: Any, gone: bool) -> list[Any]:
        size, alloc = _number(pool.size_bytes), _number(pool.alloc_bytes)
        used = _number(pool.capacity_pct)
        if size and alloc is not None:
            used = round(100 * alloc / size, 2)
        health = GONE if gone else pool.health or "unknown"
        meaning = MEANING.get(str(health).upper(), "a state this program does not know")
        seen = None if gone else self._outlook.get(key)
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
            f"not reported since {moment(pool.time)}, exported or destroyed" if gone else meaning,
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
        self._put_pools()

    # ---- static forms ---------------------------------------------------------------------------------

    def summary(self) -> str:
        rows = self.state.rows.values()
        parts = []
        for word, count in (
            ("not healthy", sum(cells[9] not in ("ONLINE", GONE) for cells in rows)),
            ("over 80%", sum((cells[6] or 0) > 80 for cells in rows if cells[9] != GONE)),
            ("gone", sum(cells[9] == GONE for cells in rows)),
        ):
            if count:
                parts.append(f"{count:,} {word}")
        return ", ".join([f"{len(rows):,} pool{'' if len(rows) == 1 else 's'}", *parts])

    def _lines(self, limit: int) -> list[list[object]]:
        rows = sorted(
            self.state.rows.values(), key=lambda c: (c[9] == GONE, c[9] == "ONLINE", -(c[6] or 0), c[0], c[1])
        )
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
