"""One rule's states, key by key: pending, firing, resolved.

Pure: it sees rows grouped by key and the time of a tick, and nothing else, so that what it finds depends on
the rows and not on how they were cut into batches. Two kinds of table are judged differently.

*Sampled* (pools, system, forecast): a row is evidence for its own moment. Two true rows no more than
``max_gap`` apart are evidence for the time between. An incident fires at the first row by which the
condition has held for ``for_``; when no row comes for longer than ``max_gap`` the condition no longer holds.

*Standing* (jobs, life_preserver, connection, ...): a row says what is so until the next row of its key. An
incident fires ``for_`` after the row where it began, whether or not a row comes at that moment. The condition
is broken by a gap in our own connection that is longer than ``max_gap``.

Time here is *key time* (see `keys`): it never runs backwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np

from .columns import Bools, Floats
from .incidents import Change, Incident, Reason
from .keys import Batch
from .messages import message_of
from .rule import Rule

Fields = dict[str, Any]


@dataclass(slots=True)
class State:
    """A key that is not at rest; times in microseconds of key time, but `began_at` on the server's clock."""

    phase: Literal["pending", "firing", "keeping"]
    began: int
    began_at: int
    last: int
    shift: int
    rows: int = 0
    peak: float = float("nan")
    fields: Fields | None = None
    fired: int = 0
    ended: int = 0
    reason: Reason | None = None
    incident: Incident | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes None."""
        data = asdict(self) | {"peak": None if self.peak != self.peak else self.peak}
        return data | {"incident": self.incident and self.incident.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> State:
        """The reverse of `to_json`."""
        found = data["incident"]
        return cls(
            **{
                **data,
                "peak": float("nan") if data["peak"] is None else data["peak"],
                "incident": found and Incident.from_json(found),
            }
        )


class Machine:
    """The states of one rule.

    Parameters
    ----------
    rule : Rule
    keys_of : callable
        From a key's number to its columns and values.
    """

    def __init__(self, rule: Rule, keys_of: Callable[[int], dict[str, Any]]) -> None:
        self.rule = rule
        self.keys_of = keys_of
        self.states: dict[int, State] = {}
        self.absent = rule.absent_us is not None
        self.sampled = rule.sampled and not self.absent
        self.limit = rule.gap_us if self.sampled else rule.stands_us
        self.for_us = cast(int, rule.absent_us) if self.absent else rule.for_us
        # only a timer needs the fields of a row that may be in an earlier batch
        self.remembers = self.absent or (not self.sampled and self.for_us > 0)
        self.worst = np.fmin if rule.falling else np.fmax
        self._out: list[Change] = []

    def feed(self, batch: Batch, when: Bools, clear: Bools, value: Floats | None) -> list[Change]:
        """Take rows grouped by key, each key's in order.

        Parameters
        ----------
        batch : Batch
        when : array of bool
            The condition.
        clear : array of bool
            Rows that end a firing incident; never true where `when` is.
        value : array of float64 or None
            The measured value.
        """
        kid, tau = batch.kid, batch.tau
        if not len(kid):
            return []
        if self.absent:
            new = batch.breaks(self.for_us)
        else:
            new = batch.breaks(self.limit)
            new[1:] |= when[1:] != when[:-1]
            if self.rule.ending is not None:  # else what is not true is clear
                new[1:] |= clear[1:] != clear[:-1]
        starts = np.flatnonzero(new)
        peaks = None if value is None else self.worst.reduceat(value, starts)
        run_kid, run_when, run_clear = kid[starts], when[starts], clear[starts]
        ends = np.append(starts[1:], len(kid))

        awake = np.zeros(int(kid[-1]) + 1, bool)  # kid is sorted
        known = np.fromiter(self.states, np.int64, len(self.states))
        awake[known[known < len(awake)]] = True
        awake[run_kid[run_when]] = True
        runs = np.flatnonzero(awake[run_kid])
        for r, key, i, j, w, c in zip(
            runs.tolist(),
            run_kid[runs].tolist(),
            starts[runs].tolist(),
            ends[runs].tolist(),
            run_when[runs].tolist(),
            run_clear[runs].tolist(),
            strict=True,
        ):
            if not w and key not in self.states:
                continue
            first, last = int(tau[i]), int(tau[j - 1])
            state = self._until(key, first)
            if w:
                if self.absent:
                    self._alive(key, state, batch, i, j)
                    continue
                state = self._hold(key, state, batch, i, j)
            if state is None:
                continue
            state.last, state.shift = last, first - int(batch.at[i])
            if state.phase == "pending" and not w:
                del self.states[key]
                continue
            if state.phase == "firing" and c:
                self._end(key, state, first, "cleared")
            if state.phase == "keeping":
                self._until(key, last)
                continue
            state.rows += j - i
            if peaks is not None:
                state.peak = float(self.worst(state.peak, peaks[r]))
            self._update(state)
            if self.remembers and state.phase == "pending":
                state.fields = batch.fields(j - 1, self.rule.fields)
        return self._taken()

    def tick(self, now_of: Callable[[int], int | None]) -> list[Change]:
        """Let time pass: `now_of` gives the key time of a key, or None where the clock stands still."""
        for key in list(self.states):
            now = now_of(key)
            if now is not None:
                self._until(key, now)
        return self._taken()

    def break_off(self, keys: Iterable[int], gap_start: int, gap_end: int) -> list[Change]:
        """Our connection was down from `gap_start` to `gap_end` (microseconds) for these keys."""
        limit = self.rule.gap_us
        if self.sampled or self.absent or limit is None or gap_end - gap_start <= limit:
            return []
        for key in keys:
            if key not in self.states:
                continue
            start = gap_start + self.states[key].shift
            state = self._until(key, start)
            if state is not None and state.phase == "pending":
                del self.states[key]
            elif state is not None and state.phase == "firing":
                self._end(key, state, max(start + limit, state.last, state.fired), "no data")
                self._until(key, gap_end + state.shift)
        return self._taken()

    def _until(self, key: int, now: int) -> State | None:
        """Run the timers of a key up to `now`: what follows from time alone, before a row at `now` counts."""
        state = self.states.get(key)
        if state is None:
            return None
        limit = self.limit
        if state.phase == "pending" and not self.sampled:
            due = state.began + self.for_us
            # a row that comes at the very end of `after` is still in time
            passed = due < now or (due == now and not self.absent)
            if passed and (limit is None or due - state.last <= limit):
                self._fire(key, state, due, due - state.shift, state.fields or {})
        if limit is not None and state.phase != "keeping" and now - state.last > limit:
            if state.phase == "pending":
                del self.states[key]
                return None
            self._end(key, state, state.last + limit, "no data" if self.sampled else "cleared")
        if state.phase == "keeping" and state.ended + self.rule.keep_us <= now:
            self._resolve(key, state, state.ended + self.rule.keep_us)
        return self.states.get(key)

    def _hold(self, key: int, state: State | None, batch: Batch, i: int, j: int) -> State:
        """The condition is true in rows `i` to `j - 1`."""
        tau = batch.tau
        first = int(tau[i])
        if state is None:
            at = int(batch.at[i])
            state = self.states[key] = State("pending", first, at, first, first - at)
        if state.phase == "keeping":
            state.phase, state.reason = "firing", None
        if state.phase == "pending":
            due = state.began + self.for_us
            if due <= int(tau[j - 1]):
                row = i + int(np.searchsorted(tau[i:j], due))
                time, shift = int(tau[row]), first - int(batch.at[i])
                if not self.sampled and self.for_us > 0:
                    # it fired between two rows, while the earlier one stood
                    time, row = due, row - 1
                fields = batch.fields(row, self.rule.fields) if row >= i else state.fields
                self._fire(key, state, time, time - shift, fields or {})
        return state

    def _alive(self, key: int, state: State | None, batch: Batch, i: int, j: int) -> None:
        """Rows came: an absent rule starts to wait again."""
        if state is not None and state.phase == "firing":
            state.shift = int(batch.tau[i] - batch.at[i])
            self._end(key, state, int(batch.tau[i]), "cleared")
            self._until(key, int(batch.tau[i]))
        last, at = int(batch.tau[j - 1]), int(batch.at[j - 1])
        fields = batch.fields(j - 1, self.rule.fields)
        self.states[key] = State("pending", last, at, last, last - at, fields=fields)

    def _fire(self, key: int, state: State, time: int, at: int, fields: Fields) -> None:
        state.phase, state.fired = "firing", time
        keys = self.keys_of(key)
        state.incident = Incident(
            rule=self.rule.name,
            keys=keys,
            began=state.began_at,
            fired=at,
            severity=self.rule.severity,
            message=message_of(self.rule, keys, fields),
            labels=dict(self.rule.labels),
        )
        self._update(state)
        self._out.append(Change("fired", state.incident))

    def _end(self, key: int, state: State, time: int, reason: Reason) -> None:
        """The condition ended; `_until` ends the incident, now or when the rule has kept it long enough."""
        state.phase, state.ended, state.reason = "keeping", time, reason

    def _resolve(self, key: int, state: State, time: int) -> None:
        incident = state.incident
        assert incident is not None
        self._update(state)
        incident.resolved = time - state.shift
        incident.duration_s = (time - state.fired) / 1e6
        incident.reason = state.reason
        self._out.append(Change("resolved", incident))
        del self.states[key]

    def _update(self, state: State) -> None:
        if state.incident is not None:
            state.incident.rows, state.incident.peak = state.rows, state.peak

    def _taken(self) -> list[Change]:
        out, self._out = self._out, []
        return out
