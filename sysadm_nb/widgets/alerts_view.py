"""AlertsView: what is pending and firing, and what was; to acknowledge and to silence."""

from __future__ import annotations

from typing import Any, Final

from ..alerts import Armed
from ._base import View
from ._state import State
from ._static import moment, table_html, table_text

# The cells of a row, by position; alerts_view.js reads them by the same numbers.
CELLS: Final = (
    "state",
    "rule",
    "severity",
    "key",
    "since",
    "fired",
    "peak",
    "message",
    "acknowledged",
    "silenced_until",
    "behind",  # µs that the clock of since and fired is behind ours, where it is another
)
STATIC: Final = ("state", "severity", "rule", "key", "since", "message")
MOST_ROWS: Final = 500
PAST: Final = 50


class AlertsModel:
    """What rules on guard have found."""

    def __init__(self, armed: Armed) -> None:
        self.armed = armed
        self.state = State()
        self._ids: dict[str, int] = {}
        self._keys: dict[int, dict[str, Any]] = {}
        self._next = 1
        self._past = -1

    def refresh(self, now: float) -> None:
        rows = self.armed.rows()
        present = {row["id"]: row for row in rows[:MOST_ROWS]}
        for id in [id for id in self._ids if id not in present]:
            self.state.drop(self._ids.pop(id))
        self._keys = {}
        for id, row in present.items():
            if id not in self._ids:
                self._ids[id] = self._next
                self._next += 1
            self.state.put(self._ids[id], [row[name] for name in CELLS])
            self._keys[self._ids[id]] = row
        firing = sum(row["state"] == "firing" for row in rows)
        self.state.set(
            "counts", {"firing": firing, "pending": len(rows) - firing, "rules": len(self.armed.rules)}
        )
        self.state.set("armed", self.armed.armed)
        self.state.set("rule_error", self.armed.error or None)
        self.state.set(
            "notifiers",
            [
                {"name": n.name, "sent": n.sent, "failed": n.failed, "error": n.error}
                for n in self.armed.notifiers
            ],
        )
        self._show_past()

    def _show_past(self) -> None:
        if self.armed.over_count == self._past:
            return
        self._past = self.armed.over_count
        found = [
            [i.rule, i.severity, i.subject, i.fired, i.resolved, i.message, i.reason]
            for i in self.armed.past(PAST)
        ]
        self.state.set("past", found)
        self.state.set("past_count", self._past)

    def row(self, row: int) -> dict[str, Any] | None:
        """What a row is about."""
        return self._keys.get(row)

    def summary(self) -> str:
        """One line."""
        counts = self.state.values.get("counts", {"firing": 0, "pending": 0, "rules": 0})
        state = "" if self.armed.armed else ", disarmed"
        return f"{counts['firing']} firing, {counts['pending']} pending, by {counts['rules']} rules{state}"

    def _lines(self) -> list[list[Any]]:
        at = {name: i for i, name in enumerate(CELLS)}
        active = [
            [moment(row[at[name]]) if name == "since" else row[at[name]] for name in STATIC]
            for row in self.state.rows.values()
        ]
        past = [
            ["over", severity, rule, key, moment(fired), message]
            for rule, severity, key, fired, _, message, _ in self.state.values.get("past", ())
        ]
        return [*active, *past]

    def text(self) -> str:
        """Plain text."""
        return table_text(f"Alerts: {self.summary()}", STATIC, self._lines(), self._more())

    def html(self) -> str:
        """Static HTML."""
        return table_html("Alerts", self.summary(), STATIC, self._lines(), self._more())

    def _more(self) -> int:
        """Incidents that are over and not shown."""
        return max(self._past - PAST, 0)


class AlertsView(View):
    """What rules on guard have found, live.

    Parameters
    ----------
    armed : Armed
        What ``monitor.arm(...)`` returned.
    """

    module = "alerts_view"

    def __init__(self, armed: Armed) -> None:
        if not isinstance(armed, Armed):
            raise TypeError("AlertsView shows what monitor.arm(rules) returned: AlertsView(armed)")
        self._armed = armed  # kept: a rule on guard has no other owner that a view could lose it to
        super().__init__(armed, AlertsModel(armed))

    def do_acknowledge(self, row: int | None = None) -> None:
        """Somebody looks after one incident, or all that fire."""
        about = None if row is None else self.model.row(row)  # type: ignore[attr-defined]
        if row is None:
            self._armed.acknowledge()
        elif about is not None:
            self._armed.acknowledge(about["id"])

    def do_silence(self, row: int, seconds: float) -> None:
        """Hold back messages of a rule and key for a time."""
        about = self.model.row(row)  # type: ignore[attr-defined]
        if about is not None:
            self._armed.silence(float(seconds), rule=about["rule"], **about["keys"])

    def do_unsilence(self, row: int) -> None:
        """End the silences of a row."""
        about = self.model.row(row)  # type: ignore[attr-defined]
        if about is not None:
            self._armed.unsilence(about["id"])

    def do_disarm(self) -> None:
        """Stop the rules, at once."""
        self._armed.disarm()
