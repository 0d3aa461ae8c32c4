"""Rules on guard: fed with what comes, telling what fires."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from .. import loop
from ..errors import Closed, InputError
from .backtest import in_order_of_arrival, moment_us
from .columns import Columns, Ints
from .durations import Duration, duration_us
from .evaluator import Evaluator, damaged
from .expressions import nearest
from .feeding import Feed
from .incidents import Change, Incident
from .kept import kept_before
from .notify import News, Notifier, Target, targets_of
from .rule import Rule
from .rules import Rules

log = logging.getLogger("sysadm_nb.alerts")

PERIOD_S: Final = 0.25


def arm(
    source: Any,
    rules: Rule | Iterable[Rule],
    notify: Target | Iterable[Target] | None = None,
    *,
    remind: Duration | None = None,
    state: Mapping[str, Any] | None = None,
) -> Armed:
    """Have rules watch a monitor (or a recording that is followed, or tables) from now on.

    What the tables hold already is judged first, without messages, so that a condition that began an hour
    ago has held for an hour; only what fires at that moment is told.

    Parameters
    ----------
    source : Monitor, Recording or Tables
    rules : Rules, or iterable of Rule
    notify : function, Apprise URL, or several, optional
        Whom to tell. A function takes a `Notification`; it may block and may be ``async``: it runs on a
        thread of its own. Apprise URLs need the extra ``alerts``.
    remind : duration, optional
        Tell again as long as an incident fires that nobody acknowledged.
    state : mapping, optional
        From ``Armed.state`` of an earlier run.

    Returns
    -------
    Armed
        On guard until ``disarm()``, or until the monitor closes, whether or not it is kept in a variable.

    Warns
    -----
    UserWarning
        Rules of these names watch the same source already, as after running a cell again: both will tell.
    """
    rules = Rules([rules] if isinstance(rules, Rule) else rules)
    twice = told_twice(source, rules)
    if twice:
        warnings.warn(twice, stacklevel=3)
    return Armed(source, rules, notify, remind, state)


def guards_of(source: Any) -> list[Armed]:
    """Who is on guard over a monitor, a recording or tables; in the order in which they were armed."""
    return [guard for guard in list(_guards) if guard._source() is source]


def told_twice(source: Any, rules: Rules) -> str:
    """What to say where rules of these names are on guard already; nothing where they are not."""
    before = guards_of(source)
    twice = [rule.name for rule in rules if any(rule.name in guard.rules for guard in before)]
    if not twice:
        return ""
    more = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
    return (
        f"The rule {twice[0]!r}{more} was armed here before and still is: what fires will be told twice. "
        "monitor.armed lists who is on guard: disarm() the earlier one. (Whom to tell can be several: "
        "notify=[...].)"
    )


_guards: Final[list[Armed]] = []


@dataclass
class Silence:
    """Messages of some incidents are held back until a time (seconds since the epoch)."""

    until: float
    rule: str | None
    keys: dict[str, Any]

    def covers(self, incident: Incident) -> bool:
        """Whether it is about this incident."""
        if self.rule is not None and self.rule != incident.rule:
            return False
        return all(str(incident.keys.get(k)) == str(v) for k, v in self.keys.items())


class Armed:
    """Rules on guard; made by `arm`. Disarm with ``disarm()``.

    Attributes
    ----------
    rules : Rules
    notifiers : list of Notifier
    armed : bool
        False once it was disarmed.
    over_count : int
        Incidents that are over.
    """

    def __init__(
        self,
        source: Any,
        rules: Rules,
        notify: Target | Iterable[Target] | None,
        remind: Duration | None,
        state: Mapping[str, Any] | None,
    ) -> None:
        tables = getattr(source, "tables", source)
        if not (hasattr(tables, "since") and hasattr(tables, "count")):
            raise InputError(f"rules watch a monitor, a recording or tables, not {type(source).__name__}")
        self.rules = rules
        self._evaluator = Evaluator(rules, state)
        saved = {} if state is None else state
        try:
            self._seen_until = self._judged_until = int(saved.get("received", -1))
            self._silences = [Silence(**silence) for silence in saved.get("silences", ())]
            self._acknowledged: set[str] = set(saved.get("acknowledged", ()))
            self._told: dict[str, float] = dict(saved.get("told", {}))  # id of a told incident: when last
        except (TypeError, ValueError) as error:
            raise damaged(error) from None
        self._feed = Feed(tables, self._evaluator.tables, any(rule.reads_logs for rule in rules))
        self._source = weakref.ref(source)
        self._remind_us = None if remind is None else duration_us(remind, "remind")
        self._lock = threading.RLock()
        self._saved = saved
        self._kept = kept_before(source)
        self._changed: list[Callable[[], object]] = []
        self._working = False
        self._caught_up = threading.Event()
        self._failure = ""  # a mistake of ours: what it lost does not come back, so it is not forgotten
        self._over: deque[Incident] = deque(maxlen=1000)
        self.over_count = 0
        self.armed = True
        targets = targets_of(notify)
        self._loop = loop.acquire()
        self.notifiers: list[Notifier] = []
        self._undo: list[Callable[[], None]] = []
        try:
            for target in targets:
                self.notifiers.append(Notifier(target))
            for notifier in self.notifiers:
                self._loop.call(notifier.start)
            self._undo.append(self._loop.every(PERIOD_S, self._look))
            on_close = getattr(source, "on_close", None)
            if on_close is not None:
                self._undo.append(on_close(self.disarm))
        except BaseException:
            self._loop.release(wait=not loop.on_loop_thread())
            raise
        _guards.append(self)

    # ---- on the loop thread ----------------------------------------------------------------------------

    def _look(self) -> None:
        if not self.armed or self._working:
            return
        self._working = True
        frames = self._feed.take() if self._feed.anything_new() else {}
        clocks = self._feed.clocks(time.time_ns() // 1000)
        asyncio.get_running_loop().create_task(self._judge(frames, clocks))

    async def _judge(self, frames: dict[str, pd.DataFrame], clocks: dict[str, int]) -> None:
        try:
            # a rule's function may take its time: that is no reason for the sockets to wait
            if frames or not self._caught_up.is_set():
                changes = await loop.in_thread(self._evaluate, frames, clocks)
            else:
                changes = self._evaluate(frames, clocks)
            self._tell(changes)
        except Exception as error:
            self._failure = f"{type(error).__name__}: {error}"
            log.exception("Judging rules failed")
        finally:
            self._working = False
            self._caught_up.set()

    def _evaluate(self, frames: dict[str, pd.DataFrame], clocks: dict[str, int]) -> list[Change]:
        with self._lock:
            if self._caught_up.is_set():
                changes = self._evaluator.feed(self._feed.with_jobs(frames)) if frames else []
            else:
                changes = self._catch_up(frames)
            self._judged_until = max(self._judged_until, self._feed.received)
            return changes + self._evaluator.tick(clocks, own=time.time_ns() // 1000 - 10_000_000)

    def _catch_up(self, frames: dict[str, pd.DataFrame]) -> list[Change]:
        """What was there before arming, as a backtest takes it, and without what a saved state has seen."""
        changes: list[Change] = []
        came = [_received(frame) for frame in frames.values() if len(frame)]
        off_since = self._saved.get("saved")
        if off_since is not None and not any((received <= self._seen_until).any() for received in came):
            # the tables are new as well, so nobody watched meanwhile
            now = time.time_ns() // 1000
            changes += self._evaluator.was_off(off_since, min([int(r.min()) for r in came], default=now))
            self._feed.number_from(self._saved.get("runs", ()))
        # runs of jobs are numbered from the first event on, so what was seen is taken out after that
        frames = self._feed.with_jobs({name: in_order_of_arrival(frame) for name, frame in frames.items()})
        frames = {name: in_order_of_arrival(frame) for name, frame in frames.items()}  # jobs as well
        new = {name: frame[_received(frame) > self._seen_until] for name, frame in frames.items()}
        return changes + (self._evaluator.feed(new) if new else [])

    def _tell(self, changes: list[Change]) -> None:
        if not self.armed:
            return
        catching_up = not self._caught_up.is_set()
        news: list[News] = []
        with self._lock:
            for change in changes:
                self._keep(change)
                if change.what == "resolved":
                    self._over.appendleft(change.incident)
                    self.over_count += 1
                if not catching_up and change.what == "fired":
                    self._fired(change.incident, news)
                elif change.what == "resolved" and self._told.pop(change.incident.id, None) is not None:
                    self._acknowledged.discard(change.incident.id)
                    if not self._silenced(change.incident):
                        news.append(News("resolved", change.incident))
            self._hold_back_no_longer(news)
        if news:
            for notifier in self.notifiers:
                notifier.put(news)
        if news or changes:
            for callback in list(self._changed):
                callback()

    def _fired(self, incident: Incident, news: list[News]) -> None:
        if "told" not in self._saved and incident.id in self._kept:  # told before a restart
            self._told[incident.id] = time.time()
        elif not self._silenced(incident) and incident.id not in self._told:
            self._told[incident.id] = time.time()
            news.append(News("fired", incident, self.rules[incident.rule].reason))

    def _hold_back_no_longer(self, news: list[News]) -> None:
        """Tell what fires and was not told (silenced, or from before arming); remind of the rest."""
        now = time.time()
        self._silences = [s for s in self._silences if s.until > now]
        for incident in self.firing():
            told = self._told.get(incident.id)
            if told is None:
                self._fired(incident, news)
            elif self._remind_us is not None and now - told >= self._remind_us / 1e6:
                self._told[incident.id] = now
                if incident.id not in self._acknowledged and not self._silenced(incident):
                    news.append(News("reminder", incident))

    def _silenced(self, incident: Incident) -> bool:
        now = time.time()
        return any(s.until > now and s.covers(incident) for s in self._silences)

    def _keep(self, change: Change) -> None:
        data = {"what": change.what, "id": change.incident.id, **change.incident.to_json()}
        if change.what == "fired" and change.incident.id in self._kept:
            return
        for recorder in getattr(self._source(), "recorders", ()):
            try:
                recorder.append_record("incident", change.time, data)
            except Closed:
                pass

    # ---- for people ------------------------------------------------------------------------------------

    @property
    def incidents(self) -> pd.DataFrame:
        """Incidents so far, as `Rules.backtest` gives them."""
        with self._lock:
            return self._evaluator.table()

    @property
    def active(self) -> pd.DataFrame:
        """What is pending and firing now.

        Returns
        -------
        DataFrame
            ``state`` (``pending``, ``firing``), ``rule``, ``severity``, ``key``, ``since`` (when it
            began to hold), ``fired``, ``peak``, ``message``, ``acknowledged``, ``silenced_until``, ``id``.
        """
        rows = self.rows()
        columns = ["state", "rule", "severity", "key", "since", "fired", "peak", "message", "acknowledged",
                   "silenced_until", "id"]  # fmt: skip
        frame = pd.DataFrame(rows, columns=columns)
        for name in ("since", "fired", "silenced_until"):
            stamps = pd.to_datetime(frame[name], unit="us", utc=True)
            frame[name] = stamps.astype("datetime64[us, UTC]")
        return frame

    def rows(self) -> list[dict[str, Any]]:
        """The same as plain values, firing first; times in microseconds, `behind` of their clock."""
        out = []
        with self._lock:
            now = time.time()
            self._silences = [s for s in self._silences if s.until > now]
            for rule, keys, state in self._evaluator.active():
                incident = state.incident
                behind = 0 if rule.table == "connection" else self._feed.behind_us(keys.get("server"))
                probe = incident or Incident(rule.name, keys, state.began_at, 0, rule.severity, "")
                until = max((s.until for s in self._silences if s.covers(probe)), default=None)
                out.append(
                    {
                        "state": "pending" if incident is None else "firing",
                        "rule": rule.name,
                        "severity": rule.severity,
                        "key": probe.subject,
                        "since": state.began_at,
                        "fired": incident and incident.fired,
                        "behind": behind,
                        "peak": None if state.peak != state.peak else state.peak,
                        "message": incident.message if incident else rule.described(),
                        "acknowledged": probe.id in self._acknowledged,
                        "silenced_until": None if until is None else int(until * 1e6),
                        "id": probe.id if incident else "/".join([rule.name, probe.subject]),
                        "keys": keys,
                    }
                )
        return sorted(out, key=lambda r: (r["state"] != "firing", -(r["fired"] or 0), r["rule"], r["key"]))

    def past(self, count: int = 50) -> list[Incident]:
        """The newest incidents that are over, newest first; `over_count` says how many there were."""
        with self._lock:
            return list(self._over)[:count]

    def firing(self) -> list[Incident]:
        """The incidents that fire now."""
        with self._lock:
            return [s.incident for _, _, s in self._evaluator.active() if s.incident is not None]

    def acknowledge(self, id: str | None = None, *, rule: str | None = None) -> int:
        """Somebody looks after it: no more reminders; its end is still told.

        Parameters
        ----------
        id : str, optional
            Of one incident (see `active`); without it all that fire, or all of `rule`.

        Returns
        -------
        int
            How many incidents that were.
        """
        with self._lock:
            found = [i.id for i in self.firing() if id in (None, i.id) and rule in (None, i.rule)]
            self._acknowledged.update(found)
        self._say_changed()
        return len(found)

    def silence(
        self, for_: Duration | None = None, *, until: Any = None, rule: str | None = None, **keys: Any
    ) -> None:
        """Hold back messages for a time. What still fires at its end is told then.

        Parameters
        ----------
        for_ : duration, optional
            For how long from now.
        until : datetime or str, optional
            Or until when.
        rule : str, optional
            Only of this rule; of all by default.
        **keys
            Only of these keys, such as ``server="nas"``, whether or not they were seen yet.

        Raises
        ------
        InputError
            No such key column, or not one of `for_` and `until`.
        RuleError
            There is no such rule.
        """
        if (for_ is None) == (until is None):
            raise InputError("silence() takes for_='2h' or until='2026-11-23 18:00', one of them")
        if rule is not None and rule not in self.rules:
            self.rules[rule]  # says which there are
        among = self.rules if rule is None else [self.rules[rule]]
        known = {name for one in among for name in one.by or ()}
        for name in keys.keys() - known:
            raise InputError(f"silence(): these rules have no key {name!r}{nearest(name, known)}")
        if for_ is not None:
            end = time.time() + duration_us(for_, "silence") / 1e6
        else:
            end = (moment_us(until) or 0) / 1e6
        with self._lock:
            self._silences.append(Silence(end, rule, keys))
        self._say_changed()

    def unsilence(self, id: str | None = None) -> None:
        """End silences: all, or those that cover one row of `active`."""
        with self._lock:
            for row in self.rows():
                if row["id"] == id:
                    about = Incident(row["rule"], row["keys"], 0, 0, row["severity"], "")
                    self._silences = [s for s in self._silences if not s.covers(about)]
            if id is None:
                self._silences = []
        self._say_changed()

    def on_change(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Have a function called on the loop thread when something fired or ended; returns the undo."""
        self._changed.append(callback)

        def undo() -> None:
            if callback in self._changed:
                self._changed.remove(callback)

        return undo

    def _say_changed(self) -> None:
        if self.armed:
            for callback in list(self._changed):
                self._loop.call(callback)

    @property
    def error(self) -> str:
        """What went wrong with a rule, or empty."""
        wrong = [*list(self._evaluator.broken.values()), self._failure]
        return "; ".join(filter(None, wrong))

    @property
    def state(self) -> dict[str, Any]:
        """Plain JSON, from which `arm` can go on later: also what was told, acknowledged and silenced."""
        with self._lock:
            return self._evaluator.state() | {
                "saved": time.time_ns() // 1000,
                "received": self._judged_until,
                "runs": self._feed.runs,
                "told": dict(self._told),
                "acknowledged": sorted(self._acknowledged),
                "silences": [asdict(silence) for silence in self._silences],
            }

    def caught_up(self, timeout: float = 60.0) -> bool:
        """Wait until what the tables held at arming is judged."""
        return self._caught_up.wait(timeout)

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until what came is judged and all messages are out; False if it takes longer."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            judged = not self._feed.anything_new() and not self._working
            if judged and all(n.idle for n in self.notifiers):
                return True
            time.sleep(0.02)
        return False

    def on_close(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Have a function called when the monitor that is watched closes; returns what undoes it."""
        on_close = getattr(self._source(), "on_close", None)
        return (lambda: None) if on_close is None else cast("Callable[[], None]", on_close(callback))

    def disarm(self) -> None:
        """Stop at once: nothing more is judged or told. Disarming twice is fine."""
        if not self.armed:
            return
        self.armed = False
        with contextlib.suppress(ValueError):  # disarmed by two threads at once
            _guards.remove(self)
        for undo in self._undo:
            undo()
        for notifier in self.notifiers:
            notifier._queue.clear()
            self._loop.call(notifier.stop)
        self._loop.release(wait=not loop.on_loop_thread())

    def __enter__(self) -> Armed:
        return self

    def __exit__(self, *exc: object) -> None:
        self.disarm()

    def __repr__(self) -> str:
        with self._lock:
            counts = self._evaluator.counts()
        state = f"{counts['firing']} firing, {counts['pending']} pending" if self.armed else "disarmed"
        tell = ", ".join(n.name for n in self.notifiers) or "nobody"
        wrong = f"; {self.error}" if self.error else ""
        return f"<Armed {len(self.rules)} rules: {state}; tells {tell}{wrong}; .active .incidents .disarm()>"


def _received(frame: pd.DataFrame) -> Ints:
    received: Ints = Columns(frame)["received"].astype(np.int64)
    return received
