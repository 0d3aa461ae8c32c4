"""The one evaluator: rows in, incidents out. A backtest feeds it a table, a live monitor what comes.

What it finds depends on the rows of each key and their order, never on how they were cut into batches, so a
rule says the same of the past and of the present. Time passes with the rows themselves; `tick` lets it pass
between them, and must not run ahead of rows still to come.

The rule for restarts: `state` is plain JSON and an evaluator made from it goes on as if nothing had been. A
rule that was changed meanwhile starts anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from ..errors import InputError, RuleError, SysadmError
from .columns import Bools, Columns, Floats
from .conditions import RULE_TABLES, ForecastWithin
from .forecasts import Forecaster
from .incidents import Change, Incident, incidents_frame
from .keys import Batch, KeyIndex
from .machine import Machine, State
from .rule import Rule
from .windows import History, new_rows, windows

STATE_VERSION: Final = 1
KEEP_INCIDENTS: Final = 100_000

Clock = int | Mapping[str, int]
"""Microseconds since the epoch, for all servers or for each."""


class _Group:
    """Rules that share a table and key columns, and so the sorting of its rows."""

    def __init__(self, table: str, by: tuple[str, ...]) -> None:
        self.table, self.by = table, by
        self.index = KeyIndex(by)
        self.machines: list[Machine] = []
        self.history: History | None = None

    def prepare(self) -> None:
        windowed = [m.rule for m in self.machines if m.rule.window_us]
        if windowed:
            needs = [rule.needs for rule in windowed]
            known = None if any(n is None for n in needs) else frozenset().union(*(n or () for n in needs))
            self.history = History(RULE_TABLES[self.table], known, max(r.window_us for r in windowed))

    def feed(self, frame: pd.DataFrame, broken: dict[str, str]) -> list[Change]:
        batch = self.index.take(frame)
        if not len(batch.kid):
            return []
        longer: tuple[Batch, Bools] | None = None
        out: list[Change] = []
        for machine in self.machines:
            rule = machine.rule
            if rule.name in broken:
                continue
            try:
                if rule.window_us:
                    if longer is None:
                        assert self.history is not None
                        longer = self.history.extend(batch)
                    judged = _judge_windows(rule, batch, *longer)
                else:
                    judged = judge_rows(rule, batch)
                out += machine.feed(*judged)
            except RuleError as error:
                broken[rule.name] = str(error)
            except Exception as error:  # a user's function may raise anything
                broken[rule.name] = (
                    f"rule {rule.name!r}: its function failed: {type(error).__name__}: {error}"
                )
        return out


def judge_rows(rule: Rule, batch: Batch) -> tuple[Batch, Bools, Bools, Floats | None]:
    """Condition, end and measured value of each row."""
    if rule.absent_us is not None:
        if rule.condition is not None:
            batch = _only(batch, rule.condition(batch.columns))
        batch.value = None
        return batch, np.ones(len(batch.kid), bool), np.zeros(len(batch.kid), bool), None
    assert rule.condition is not None
    when = rule.condition(batch.columns)
    clear = ~when if rule.ending is None else rule.ending(batch.columns) & ~when
    value = rule.condition.measure(batch.columns)
    batch.value = value
    return batch, when, clear, value


def _judge_windows(
    rule: Rule, batch: Batch, merged: Batch, new: Bools
) -> tuple[Batch, Bools, Bools, Floats | None]:
    """The same over the rows kept for the window; only the batch's own rows are answered for."""
    columns, rows = merged.columns, new_rows(new)
    columns.window = windows(merged, rule.window_us)
    assert rule.condition is not None
    when = rule.condition(columns, rows)[rows]
    clear = ~when if rule.ending is None else rule.ending(columns, rows)[rows] & ~when
    value = rule.condition.measure(columns)
    batch.value = None if value is None else value[rows]
    return batch, when, clear, batch.value


def _only(batch: Batch, rows: Bools) -> Batch:
    return Batch(
        Columns(batch.columns.frame, batch.order[rows]), batch.kid[rows], batch.tau[rows], batch.at[rows]
    )


class Evaluator:
    """Judges rows by rules and keeps the state of every key.

    Parameters
    ----------
    rules : iterable of Rule
    state : mapping, optional
        From `state` of an earlier evaluator.

    Attributes
    ----------
    broken : dict of str to str
        Rules whose function raised or does not judge each row by itself, and how; they are no longer
        asked. The other rules go on: the rows were taken, and nobody would feed them again.

    Examples
    --------
    >>> from sysadm_nb.alerts import Rules
    >>> rules = Rules()
    >>> _ = rules.add("degraded", table="pools", when="health != 'ONLINE'")
    >>> evaluator = Evaluator(rules)
    >>> row = {"time": pd.Timestamp("2026-11-23", tz="UTC"), "server": "nas", "pool": "tank"}
    >>> pools = pd.DataFrame([row | {"health": "DEGRADED"}])
    >>> [change.what for change in evaluator.feed({"pools": pools})]
    ['fired']
    """

    def __init__(self, rules: Iterable[Rule], state: Mapping[str, Any] | None = None) -> None:
        self.rules = {rule.name: rule for rule in rules}
        self.broken: dict[str, str] = {}
        self.incidents: list[Incident] = []
        self._down: dict[str, int] = {}
        self._groups: dict[tuple[str, tuple[str, ...]], _Group] = {}
        self._forecasters: dict[tuple[Any, ...], Forecaster] = {}
        for rule in self.rules.values():
            table = rule.table if rule.table != "forecast" else self._forecaster(rule)
            key = (table, tuple(rule.by or ()))
            group = self._groups.setdefault(key, _Group(rule.table, key[1]))
            group.machines.append(Machine(rule, group.index.columns_of))
        for group in self._groups.values():
            group.prepare()
        if state is not None:
            self._restore(state)

    def _forecaster(self, rule: Rule) -> str:
        asked = rule.when if isinstance(rule.when, ForecastWithin) else None
        forecaster = Forecaster.for_rule(asked)
        self._forecasters.setdefault((forecaster.name,), forecaster)
        return forecaster.name

    @property
    def tables(self) -> frozenset[str]:
        """The tables that must be fed: those of the rules, ``pools`` for forecasts, and ``connection``."""
        used = {rule.table for rule in self.rules.values()}
        if "forecast" in used:
            used = (used - {"forecast"}) | {"pools"}
        return frozenset(used | {"connection"})

    def feed(self, frames: Mapping[str, pd.DataFrame]) -> list[Change]:
        """Take the new rows of each table, in the order in which they came.

        Parameters
        ----------
        frames : mapping of str to DataFrame
            By the table's name; rows of ``jobs`` are changes of jobs.

        Returns
        -------
        list of Change
            What fired and what was resolved, in order of time.

        Raises
        ------
        InputError
            A table lacks a column that a rule needs.
        """
        out: list[Change] = []
        connection = frames.get("connection")
        gaps = [] if connection is None else self._listen(connection)
        made = self._forecast(frames["pools"]) if "pools" in frames else {}
        for (table, _), group in self._groups.items():
            frame = made.get(table) if table in made else frames.get(table)
            if frame is None and not gaps:
                continue
            if frame is not None:
                self._check(group, frame)
            if group.table == "connection" or not gaps:
                out += [] if frame is None else group.feed(frame, self.broken)
            else:
                out += self._feed_around(group, frame, gaps)
        return self._note(out)

    def _forecast(self, pools: pd.DataFrame) -> dict[str, pd.DataFrame]:
        made = {}
        for forecaster in self._forecasters.values():
            names = [
                m.rule.name for (t, _), g in self._groups.items() if t == forecaster.name for m in g.machines
            ]
            try:
                made[forecaster.name] = forecaster.feed(pools)
            except InputError:
                raise
            except Exception as error:  # one pool's odd history must not stop the other rules
                text = f"the forecast failed: {type(error).__name__}: {error}"
                self.broken |= {name: f"rule {name!r}: {text}" for name in names}
            else:
                for name in names if len(made[forecaster.name]) else ():
                    self.broken.pop(name, None)
        return made

    def tick(self, now: Clock, own: int | None = None) -> list[Change]:
        """Let time pass to `now`, for servers without rows to say so.

        While the connection to a server is down its clock stands still, except for absent rules and those on
        the connection itself.

        Parameters
        ----------
        now : int or mapping of str to int
            Microseconds since the epoch, on the servers' clocks. Keys that name no server go by the slowest
            of them: any other may run ahead of rows still to come.
        own : int, optional
            Our own clock, for rules on the connection.
        """
        out: list[Change] = []
        slowest = now if isinstance(now, int) else min(now.values(), default=None)
        for group in self._groups.values():
            for machine in group.machines:
                ours = group.table == "connection"
                stops = not machine.absent and not ours

                def now_of(
                    kid: int, group: _Group = group, stops: bool = stops, ours: bool = ours
                ) -> int | None:
                    server = group.index.server(kid)
                    if ours and own is not None:
                        time: int | None = own
                    else:
                        time = slowest if isinstance(now, int) or server is None else now.get(server)
                    if time is None:
                        return None
                    if stops and server in self._down:
                        time = min(time, self._down[server])
                    return time + group.index.shift[kid]

                out += machine.tick(now_of)
        return self._note(out)

    def was_off(self, start: int, end: int) -> list[Change]:
        """Nobody watched from `start` to `end` (microseconds): a gap in the connections to all servers.

        Of rows that nobody could have seen no absent rule can say that they did not come.
        """
        out: list[Change] = []
        for group in self._groups.values():
            for machine in group.machines if group.table != "connection" else ():
                out += machine.break_off(list(machine.states), start, end)
                if machine.absent:
                    for state in machine.states.values():
                        state.began += max(end - start, 0)
        return self._note(out)

    def _listen(self, connection: pd.DataFrame) -> list[tuple[int, str, int, int]]:
        """Keep track of lost connections; the gaps among the rows as (seq, server, start, end)."""
        gaps = []
        columns = Columns(connection)
        for row in range(len(connection)):
            server, what = columns.plain_value("server", row), columns.plain_value("what", row)
            if columns.plain_value("origin", row) == "last" if "origin" in connection else False:
                continue
            if what == "lost":
                self._down[server] = columns.plain_value("time", row)
            elif what == "connected":
                self._down.pop(server, None)
            elif what == "gap":
                start, end = (columns.plain_value(n, row) for n in ("gap_start", "gap_end"))
                if start is not None and end is not None:
                    seq = int(columns.plain_value("seq", row)) if "seq" in connection else 0
                    gaps.append((seq, server, start, end))
        return gaps

    def _feed_around(
        self, group: _Group, frame: pd.DataFrame | None, gaps: list[tuple[int, str, int, int]]
    ) -> list[Change]:
        """Feed rows with the gaps in their places between them."""
        limits = [m.rule.gap_us for m in group.machines if not m.sampled and m.rule.gap_us is not None]
        long = [g for g in gaps if limits and g[3] - g[2] > min(limits)]
        if not long:
            return [] if frame is None else group.feed(frame, self.broken)
        out: list[Change] = []
        rest = frame
        for seq, server, start, end in sorted(long):
            if rest is not None and len(rest) and "seq" in rest:
                before = rest["seq"].to_numpy() < seq
                out += group.feed(rest[before], self.broken)
                rest = rest[~before]
            for machine in group.machines:
                out += machine.break_off(group.index.of_server(server), start, end)
        if rest is not None and len(rest):
            out += group.feed(rest, self.broken)
        return out

    def _check(self, group: _Group, frame: pd.DataFrame) -> None:
        known = set(frame.columns)
        for machine in group.machines:
            rule = machine.rule
            needed = {
                "time",
                *(rule.by or ()),
                *(f for f in rule.fields if f != "value"),
                *(rule.needs or ()),
            }
            missing = sorted(needed - known)
            if missing:
                raise InputError(
                    f"the {group.table} table given lacks the column {missing[0]!r}, which rule "
                    f"{rule.name!r} needs; it has: {', '.join(map(str, frame.columns))}"
                )

    def _note(self, changes: list[Change]) -> list[Change]:
        changes.sort(key=lambda change: change.time)
        self.incidents += [c.incident for c in changes if c.what == "fired"]
        if len(self.incidents) > KEEP_INCIDENTS:
            open_ones = [i for i in self.incidents[:-KEEP_INCIDENTS] if i.resolved is None]
            self.incidents = open_ones + self.incidents[-KEEP_INCIDENTS:]
        return changes

    @property
    def late(self) -> int:
        """Rows that came too late to count."""
        return sum(group.index.late for group in self._groups.values())

    def table(self) -> pd.DataFrame:
        """The incidents so far, as a table (see `incidents_frame`)."""
        keys = [name for rule in self.rules.values() for name in rule.by or ()]
        return incidents_frame(self.incidents, dict.fromkeys(keys))

    def active(self) -> list[tuple[Rule, dict[str, Any], State]]:
        """What is pending or firing: rule, key, state; without keys that an absent rule merely watches."""
        found = []
        for group in self._groups.values():
            for machine in group.machines:
                for kid, state in list(machine.states.items()):
                    if not (machine.absent and state.phase == "pending"):
                        found.append((machine.rule, group.index.columns_of(kid), state))
        return found

    def counts(self) -> Counter[str]:
        """How many keys are pending and firing."""
        return Counter("pending" if s.phase == "pending" else "firing" for _, _, s in self.active())

    def state(self) -> dict[str, Any]:
        """Everything needed to go on later, as plain JSON values."""
        groups = []
        for (table, by), group in self._groups.items():
            groups.append(
                {
                    "table": table,
                    "by": list(by),
                    "index": group.index.to_json(),
                    "history": group.history and group.history.to_json(),
                    "rules": {
                        m.rule.name: {
                            "rule": _fingerprint(m.rule),
                            "states": {str(k): s.to_json() for k, s in m.states.items()},
                        }
                        for m in group.machines
                    },
                }
            )
        return {
            "version": STATE_VERSION,
            "down": dict(self._down),
            "groups": groups,
            "forecasts": {f.name: f.to_json() for f in self._forecasters.values()},
            "incidents": [i.to_json() for i in self.incidents],
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        version = state.get("version") if isinstance(state, Mapping) else None
        if version != STATE_VERSION:
            raise InputError(
                f"this saved state is of version {version!r}, not {STATE_VERSION}: "
                "delete it, and the rules start anew"
            )
        try:
            self._down = dict(state["down"])
            self.incidents = [Incident.from_json(i) for i in state["incidents"]]
            open_ones = {i.id: i for i in self.incidents if i.resolved is None}
            for forecaster in self._forecasters.values():
                if forecaster.name in state["forecasts"]:
                    forecaster.restore(state["forecasts"][forecaster.name])
            for saved in state["groups"]:
                group = self._groups.get((saved["table"], tuple(saved["by"])))
                if group is None:
                    continue
                group.index.restore(saved["index"])
                if group.history is not None and saved["history"]:
                    group.history.restore(saved["history"])
                for machine in group.machines:
                    mine = saved["rules"].get(machine.rule.name)
                    if mine is None or mine["rule"] != _fingerprint(machine.rule):
                        continue
                    machine.states = {int(k): State.from_json(s) for k, s in mine["states"].items()}
                    for one in machine.states.values():
                        if one.incident is not None:
                            one.incident = open_ones.get(one.incident.id, one.incident)
        except SysadmError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(error) from None


def damaged(error: Exception) -> InputError:
    """What to say of a saved state that cannot be read."""
    return InputError(f"this saved state is damaged ({error!r}): delete it, and the rules start anew")


def _fingerprint(rule: Rule) -> str:
    """Changes when what the rule finds would change."""
    return f"{rule.described()} gap {rule.gap_us} stands {rule.stands_us}"
