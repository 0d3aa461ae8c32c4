"""LifePreserverView: the snapshots and replications of every dataset, failures first."""

from __future__ import annotations

from typing import Any, Final

from ._base import View, tables_of
from ._state import State
from ._static import moment, table_html, table_text

# The cells of a row, by position; life_preserver.js reads them by the same numbers. Times in microseconds.
CELLS: Final = (
    "server",
    "dataset",
    "snapshot",  # when the newest snapshot was made
    "state",  # of the replication: None | running | finished | failed
    "since",  # when the replication came into this state
    "replicated",  # when a replication ended well last
    "percent",
    "sent",  # bytes
    "total",
    "logfile",
    "message",
)
SNAPSHOT, STATE, SINCE, REPLICATED, PERCENT, SENT, TOTAL, LOGFILE, MESSAGE = range(2, 11)
NEEDED: Final = (
    *("server", "dataset", "action", "sent_bytes", "total_bytes"),
    *("percent_done", "logfile", "message"),
)
RANK: Final = {"failed": 0, "running": 1, "finished": 2, None: 3}


class LifePreserverModel:
    """A row for each dataset of each server."""

    def __init__(self, tables: Any) -> None:
        self.tables = tables
        self.state = State()
        self._ids: dict[tuple[str, str], int] = {}
        self._seen: int | None = None

    def refresh(self, now: float) -> None:
        count = self.tables.count("life_preserver")
        if count == self._seen:
            return
        self._seen, events = self.tables.since("life_preserver", self._seen or 0)
        if len(events):
            ahead = (events["received"].iloc[-1] - events["time"].iloc[-1]).total_seconds()
            self.state.set("clock_behind_s", round(ahead) if abs(ahead) > 86400 else 0)
        # Of any number of events the newest of each kind tell how a dataset stands now.
        events = events.loc[events["dataset"].notna(), ["time", *NEEDED]].sort_values("time", kind="stable")
        events = events.drop_duplicates(["server", "dataset", "action"], keep="last")
        columns = [[None if v != v else v for v in events[name].tolist()] for name in NEEDED]
        times = events["time"].to_numpy("datetime64[us]").astype("int64").tolist()
        for time, *cells in zip(times, *columns, strict=True):
            self._take(dict(zip(NEEDED, cells, strict=True)) | {"time": time})

    def _take(self, event: dict[str, Any]) -> None:
        key = (str(event["server"]), str(event["dataset"]))
        row = self._ids.setdefault(key, len(self._ids) + 1)
        cells = list(self.state.rows.get(row) or [*key, *[None] * 9])
        time, action = event["time"], event["action"]
        if action == "created":
            cells[SNAPSHOT] = max(time, cells[SNAPSHOT] or time)
        elif time >= (cells[SINCE] or 0) and action in ("started", "progress", "finished", "failed"):
            state = "running" if action in ("started", "progress") else action
            if state != cells[STATE]:
                cells[STATE], cells[SINCE] = state, time
            cells[PERCENT] = event["percent_done"] if state == "running" else None
            cells[SENT] = event["sent_bytes"] if state == "running" else None
            cells[TOTAL] = event["total_bytes"] if state == "running" else None
            cells[LOGFILE] = event["logfile"] if state == "failed" else None
            cells[MESSAGE] = event["message"] if state == "failed" else None
            if state == "finished":
                cells[SINCE] = cells[REPLICATED] = time
        elif action == "finished":
            cells[REPLICATED] = max(time, cells[REPLICATED] or time)
        self.state.put(row, cells)

    def summary(self) -> str:
        rows = self.state.rows.values()
        parts = [f"{len(rows):,} dataset{'' if len(rows) == 1 else 's'}"]
        for state, word in (("failed", "failed"), ("running", "replicating")):
            count = sum(cells[STATE] == state for cells in rows)
            if count:
                parts.append(f"{count:,} {word}")
        return ", ".join(parts)

    def _lines(self, limit: int) -> list[list[object]]:
        rows = sorted(
            self.state.rows.values(), key=lambda c: (RANK[c[STATE]], c[REPLICATED] or 0, c[0], c[1])
        )
        lines: list[list[object]] = []
        for cells in rows[:limit]:
            state = f"✗ failed {moment(cells[SINCE])}" if cells[STATE] == "failed" else cells[STATE] or ""
            if cells[STATE] == "running" and cells[PERCENT] is not None:
                state = f"running {cells[PERCENT]:.0f}%"
            lines.append([cells[1], cells[0], moment(cells[SNAPSHOT]), state, moment(cells[REPLICATED])])
        return lines

    _HEAD: Final = ("dataset", "server", "last snapshot", "replication", "last replicated")

    def text(self) -> str:
        return table_text(
            f"Backups: {self.summary()}", self._HEAD, self._lines(30), len(self.state.rows) - 30
        )

    def html(self) -> str:
        return table_html("Backups", self.summary(), self._HEAD, self._lines(60), len(self.state.rows) - 60)


class LifePreserverView(View):
    """Snapshots and replications, live: the last success of each dataset, progress, and failures on top.

    Parameters
    ----------
    source : Monitor, Recording or Tables

    Examples
    --------
    >>> import sysadm_nb as sa
    >>> view = sa.widgets.LifePreserverView(sa.Tables())
    >>> view
    <LifePreserverView: 0 datasets>
    >>> view.close()
    """

    module = "life_preserver"
    model: LifePreserverModel

    def __init__(self, source: Any, **traits: Any) -> None:
        super().__init__(source, LifePreserverModel(tables_of(source)), **traits)
