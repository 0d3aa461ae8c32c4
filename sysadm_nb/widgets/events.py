"""EventsView: what the servers say, as it comes."""

from __future__ import annotations

from typing import Any, Final

from traitlets import Bool, Enum, Int, Unicode

from ._base import View, tables_of
from ._state import State
from ._static import clean, moment, table_html, table_text

# The cells of a row, by position; events.js reads them by the same numbers. A row's id is its frame's number.
CELLS: Final = ("time", "server", "event", "level", "subject", "summary", "origin", "skipped")
KEEP: Final = 1000  # rows in the view
CALM: Final = 250  # new events at one refresh that are all shown; of more, only the newest ...
GLIMPSE: Final = 40  # ... so many
SEARCHED: Final = 5_000  # newest events at one refresh that a filter looks at
LOOK_BACK: Final = 50_000  # newest events that a changed filter looks at
LEVELS: Final = {"Information": 0.0, "Warning": 3.0, "Critical": 6.0, "Urgent": 9.0}
LONG: Final = 64 * 1024  # of an opened event's JSON, characters


class EventsModel:
    """The newest events that pass the filters."""

    def __init__(self, tables: Any) -> None:
        self.tables = tables
        self.state = State()
        self.filters: dict[str, Any] = {"event": None, "server": None, "level": None, "search": ""}
        self.paused = False
        self.selected: int | None = None
        self._seen: int | None = None  # how many events were looked at; None: begin anew
        self._skipped = 0

    def refresh(self, now: float) -> None:
        count = self.tables.count("events")
        self.state.set("total", count)
        if self._seen is None:
            self._begin(count)
        elif self.paused:
            self.state.set("waiting", count - self._seen)
            return
        elif count > self._seen:
            self._follow(count)
        self.state.set("waiting", 0)
        self.state.set("skipped", self._skipped)

    def _begin(self, count: int) -> None:
        for row in list(self.state.rows):
            self._drop(row)
        self._skipped = 0
        self._seen, events = self.tables.since("events", max(0, count - LOOK_BACK))
        self._show(self._passing(events).tail(KEEP // 2), 0)
        self.state.set("servers", sorted(map(str, events["server"].dropna().unique())))
        self.state.set("classes", sorted(map(str, events["event"].dropna().unique())))

    def _follow(self, count: int) -> None:
        assert self._seen is not None
        new = count - self._seen
        most = (
            KEEP if new <= KEEP and self.state.values.get("waiting") else CALM
        )  # after a pause, all that fits
        filtered = any(value is not None and value != "" for value in self.filters.values())
        look = SEARCHED if filtered else most if new <= most else GLIMPSE
        self._seen, events = self.tables.since("events", max(self._seen, count - look))
        passing = self._passing(events)
        if len(passing) > most:
            passing = passing.tail(GLIMPSE)
        skipped = new - len(events) if filtered else new - len(passing)
        self._skipped += skipped
        self._show(passing, skipped)
        for name, column in (("servers", "server"), ("classes", "event")):
            known = self.state.values[name]
            more = set(map(str, events[column].dropna().unique())) - set(known)
            if more:
                self.state.set(name, sorted([*known, *more])[:200])

    def _passing(self, events: Any) -> Any:
        event, server, level, search = (
            self.filters.get(name) for name in ("event", "server", "level", "search")
        )
        if event:
            events = events[events["event"] == event]
        if server:
            events = events[events["server"] == server]
        if level:
            events = events[events["priority"] >= LEVELS[level]]
        if search:
            hit = None
            for column in ("subject", "summary", "args"):
                found = events[column].str.contains(search, case=False, regex=False, na=False)
                hit = found if hit is None else hit | found
            events = events[hit]
        return events

    def _show(self, events: Any, skipped: int) -> None:
        names = ("seq", "time", "server", "event", "level", "subject", "summary", "origin", "args")
        columns = [
            events[name].astype(object).where(events[name].notna(), None).tolist() for name in names[2:]
        ]
        times = (events["time"].astype("int64")).tolist()
        quiet = len(events) <= 8
        for row, time, *cells, args in zip(events["seq"].tolist(), times, *columns, strict=True):
            cells = [text[:400] if isinstance(text, str) else text for text in cells]
            self.state.put(row, [time, *cells, skipped])
            skipped = 0
            if quiet and args and len(args) <= 4096:  # so that it can be opened while the kernel is busy
                self.state.text(f"args/{row}", args)
        for row in list(self.state.rows)[: max(0, len(self.state.rows) - KEEP)]:
            self._drop(row)

    def _drop(self, row: int) -> None:
        self.state.drop(row)
        if row != self.selected:
            self.state.text(f"args/{row}", None)

    def filter(self, **filters: Any) -> None:
        """Show other events: from what is in the tables, and from now on."""
        if filters != self.filters:
            self.filters = filters
            self._seen = None

    def select(self, row: int | None) -> None:
        """Open an event: its JSON is sent."""
        last, self.selected = self.selected, row
        if last is not None and last not in self.state.rows:
            self.state.text(f"args/{last}", None)
        if row is None or f"args/{row}" in self.state.texts:
            return
        events = self.tables.events
        found = events.loc[events["seq"] == row, "args"]
        text = found.iloc[0] if len(found) else None
        if not isinstance(text, str):
            text = "its text was dropped to keep memory bounded; a recording keeps it"
        self.state.text(
            f"args/{row}", text if len(text) <= LONG else text[:LONG] + " … cut here; the table has all of it"
        )

    def summary(self) -> str:
        total = self.tables.count("events")
        return f"{total:,} event{'' if total == 1 else 's'}"

    def _lines(self, limit: int) -> list[list[object]]:
        rows = [self.state.rows[row] for row in sorted(self.state.rows, reverse=True)[:limit]]
        return [[moment(c[0]), c[1], c[2], c[3] or "", clean(c[5] or c[4] or "")[:120]] for c in rows]

    _HEAD: Final = ("time", "server", "event", "level", "what")

    def text(self) -> str:
        return table_text(
            f"Events: {self.summary()}", self._HEAD, self._lines(20), self.tables.count("events") - 20
        )

    def html(self) -> str:
        return table_html(
            "Events", self.summary(), self._HEAD, self._lines(30), self.tables.count("events") - 30
        )


class EventsView(View):
    """A live tail of the events of one or more servers, with filters; open one to see its JSON.

    At any rate of events it sends a few rows four times a second, and says how many it did not show. Nothing
    is lost by that, or by pausing: the ``events`` table has them all.

    Parameters
    ----------
    source : Monitor, Recording or Tables
    event, server : str, optional
        Show only events of this class (``dispatcher``, ``system-state``, ...) or server.
    level : {None, 'Information', 'Warning', 'Critical', 'Urgent'}, optional
        Show only events of this level or above.
    search : str, optional
        Show only events with this text in subject, summary or JSON; upper and lower case are the same.
    paused : bool, optional
        Stand still; when it goes on, what came meanwhile is shown.

    Examples
    --------
    >>> import sysadm_nb as sa
    >>> view = sa.EventsView(sa.Tables(), level="Critical")
    >>> view
    <EventsView: 0 events>
    >>> view.close()
    """

    module = "events"
    controls = ("event", "server", "level", "search", "paused", "selected")

    event = Unicode(None, allow_none=True)
    server = Unicode(None, allow_none=True)
    level = Enum([*LEVELS], None, allow_none=True)
    search = Unicode("")
    paused = Bool(False)
    selected = Int(None, allow_none=True, help="The number (seq) of the event that is open.")
    model: EventsModel

    def __init__(self, source: Any, **traits: Any) -> None:
        super().__init__(source, EventsModel(tables_of(source)), **traits)

    def controls_changed(self) -> None:
        self.model.paused = self.paused
        self.model.filter(event=self.event, server=self.server, level=self.level, search=self.search)
        if self.selected != self.model.selected:
            self.model.select(self.selected)
