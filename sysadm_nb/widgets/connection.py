"""ConnectionBadge: whether what is on the screen is what is going on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ._base import View, tables_of
from ._state import State
from ._static import moment, table_html, table_text

# The cells of a row, by position; connection.js reads them by the same numbers. Times in microseconds.
CELLS: Final = (
    "server",
    "state",  # connected | connecting | waiting | lost | refused | closed | file
    "detail",
    "since",
    "gaps",  # how many there were
    "gap_start",  # of the newest
    "gap_end",  # None: it goes on
    "gap_detail",
)
STATES: Final = {"connected": "connected", "lost": "waiting", "refused": "refused", "closed": "closed"}


class ConnectionModel:
    """A row for each server: how its connection stands, and what is missing."""

    def __init__(
        self, tables: Any, servers: Callable[[], list[tuple[str, str, str, int]]] | None = None
    ) -> None:
        self.tables = tables
        self.servers = servers  # (name, state, detail, since) of each; None: only the tables tell
        self.state = State()
        self._ids: dict[str, int] = {}
        self._seen = 0

    def refresh(self, now: float) -> None:
        if self.tables.count("connection") != self._seen:
            self._seen, rows = self.tables.since("connection", self._seen)
            for row in rows.to_dict("records"):
                self._take(row)
        for name, state, detail, since in self.servers() if self.servers is not None else ():
            self._set(name, state=state, detail=detail, since=since)

    def _set(self, server: str, **changes: Any) -> None:
        row = self._ids.setdefault(server, len(self._ids) + 1)
        old = self.state.rows.get(row) or [server, "connecting", "", None, 0, None, None, None]
        cells = dict(zip(CELLS, old, strict=True)) | changes
        self.state.put(row, list(cells.values()))

    def _take(self, row: dict[str, Any]) -> None:
        server, what = str(row["server"]), row["what"]
        detail = row["detail"] if isinstance(row["detail"], str) else ""
        if what == "gap":
            known = self.state.rows.get(self._ids.get(server, 0))
            start, end = _micros(row["gap_start"]), _micros(row["gap_end"])
            count = (known[4] if known else 0) + (not known or known[5] != start)
            self._set(server, gaps=count, gap_start=start, gap_end=end, gap_detail=detail)
        elif what == "backfilled":
            self._set(server, gap_detail=detail)
        elif what in STATES:
            self._set(server, state=STATES[what], detail=detail, since=_micros(row["time"]))

    def summary(self) -> str:
        rows = self.state.rows.values()
        counts: dict[str, int] = {}
        for cells in rows:
            counts[cells[1]] = counts.get(cells[1], 0) + 1
        gaps = sum(cells[4] for cells in rows)
        told = [f"{count:,} {state}" for state, count in counts.items()] or ["no connection"]
        return ", ".join([*told, f"{gaps:,} gap{'' if gaps == 1 else 's'}"])

    def _lines(self, limit: int) -> list[list[object]]:
        return [
            [
                c[0],
                c[1],
                moment(c[3]),
                c[2] or "",
                c[4],
                f"{moment(c[5])} to {moment(c[6]) or 'now'}" if c[5] else "",
            ]
            for c in list(self.state.rows.values())[:limit]
        ]

    _HEAD: Final = ("server", "state", "since", "detail", "gaps", "last gap")

    def text(self) -> str:
        return table_text(
            f"Connections: {self.summary()}", self._HEAD, self._lines(30), len(self.state.rows) - 30
        )

    def html(self) -> str:
        return table_html(
            "Connections", self.summary(), self._HEAD, self._lines(60), len(self.state.rows) - 60
        )


def _micros(time: Any) -> int | None:
    return None if time is None or time != time else int(time.value // 1000)


class ConnectionBadge(View):
    """How each connection stands, since when, and what is missing from the tables because of gaps.

    Parameters
    ----------
    source : Monitor, Recording or Tables

    Examples
    --------
    >>> import sysadm_nb as sa
    >>> badge = sa.widgets.ConnectionBadge(sa.Tables())
    >>> badge
    <ConnectionBadge: no connection, 0 gaps>
    >>> badge.close()
    """

    module = "connection"
    model: ConnectionModel

    def __init__(self, source: Any, **traits: Any) -> None:
        fleet = getattr(source, "_fleet", None)

        def servers() -> list[tuple[str, str, str, int]]:
            sessions = [] if fleet is None else list(fleet.sessions.values())
            return [(s.name, s.state, s.detail, s.changed_us) for s in sessions]

        super().__init__(
            source, ConnectionModel(tables_of(source), servers if fleet is not None else None), **traits
        )
