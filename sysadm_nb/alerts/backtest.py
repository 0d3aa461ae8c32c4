"""When rules would have fired: the evaluator, fed from tables of the past."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from ..errors import InputError
from ..tables import job_updates
from ..tables.spans import is_number
from .conditions import RULE_TABLES
from .evaluator import Evaluator, judge_rows
from .incidents import incidents_frame
from .keys import KeyIndex
from .machine import Machine
from .rule import Rule

Source: TypeAlias = Any
"""A monitor, recording or tables, a mapping of table names to DataFrames, or one DataFrame."""

Moment: TypeAlias = str | datetime | pd.Timestamp | int | None


def backtest(rules: Iterable[Rule], source: Source, start: Moment = None, end: Moment = None) -> pd.DataFrame:
    """When rules would have fired over the past.

    Rows count in the order in which they came, as they do live, except that rows fetched after a gap
    (``backfill``) count at their own time: the past has them, the present did not.

    Parameters
    ----------
    rules : iterable of Rule
    source : monitor, recording, tables, mapping of str to DataFrame, or DataFrame
        One DataFrame is taken as the table that all the rules are about (for jobs: its changes, as
        `tables.job_updates` gives them).
    start, end : str, datetime or int, optional
        Only rows from `start` to `end`; text without a zone is UTC, integers are microseconds. The clock
        stops at `end`, by default at the newest row.

    Returns
    -------
    DataFrame
        One row an incident, oldest first: ``rule``, the key columns, ``began``, ``fired``, ``resolved``
        (NaT while it fires), ``duration``, ``peak``, ``rows``, ``severity``, ``message``, ``reason``.

    Raises
    ------
    RuleError
        A function raised, or judged rows differently alone and beside others.
    InputError
        The source has not the tables or columns that the rules need.
    """
    rules = list(rules)
    evaluator = Evaluator(rules)
    frames = history(evaluator.tables, source, start, end, rules)
    evaluator.feed(frames)
    if evaluator.broken:
        from ..errors import RuleError

        raise RuleError("; ".join(evaluator.broken.values()))
    clock = moment_us(end)
    if clock is None:
        clock = clock_at(everything(source) | frames)
    if clock is not None:
        evaluator.tick(clock)
    return evaluator.table()


class Past:
    """One table of the past, sorted once, for trying a rule on it again and again: what a slider needs.

    Parameters
    ----------
    frame : DataFrame
        Rows of a sampled table (pools, system), in the order in which they count (see `history`).
    by : sequence of str
        The key columns of the rules to come.
    clock : int, optional
        How far the time of all tables goes, in microseconds; by default to the newest row of this one.
    """

    def __init__(self, frame: pd.DataFrame, by: Sequence[str], clock: int | None = None) -> None:
        self.index = KeyIndex(by)
        self.batch = self.index.take(frame)
        self.clock = int(self.batch.at.max(initial=0)) if clock is None else clock

    def judge(self, rule: Rule) -> pd.DataFrame:
        """What `backtest` says of a rule without a window."""
        machine = Machine(rule, self.index.columns_of)
        changes = machine.feed(*judge_rows(rule, self.batch))
        changes += machine.tick(lambda kid: self.clock + self.index.shift[kid])
        return incidents_frame((c.incident for c in changes if c.what == "fired"), rule.by or ())


def history(
    names: Iterable[str], source: Source, start: Moment = None, end: Moment = None, rules: Iterable[Rule] = ()
) -> dict[str, pd.DataFrame]:
    """Tables of a source, as an evaluator takes them; logs of jobs only where a rule reads them."""
    first, last = moment_us(start), moment_us(end)
    out = {}
    for name in names:
        frame = _table(name, source, list(rules))
        if frame is None or not len(frame):
            continue
        if "time" not in frame.columns:
            raise InputError(
                f"the {name} table has no column 'time'; it has: {', '.join(map(str, frame.columns))}"
            )
        frame = in_order_of_arrival(frame)
        times = _microseconds(frame)
        keep = np.ones(len(frame), bool)
        if first is not None:
            keep &= times >= first
        if last is not None:
            keep &= times <= last
        out[name] = frame if keep.all() else frame[keep]
    return out


def _table(name: str, source: Source, rules: list[Rule]) -> pd.DataFrame | None:
    if isinstance(source, pd.DataFrame):
        about = {rule.table for rule in rules} - {"forecast"} or {"pools"}
        if len(about) > 1:
            raise InputError(
                f"one DataFrame was given, but the rules are about {', '.join(sorted(about))}: "
                "give a monitor, a recording, or {'pools': …, 'jobs': …}"
            )
        return source if name in about else None
    if isinstance(source, Mapping):
        unknown = set(source) - set(RULE_TABLES)
        if unknown:
            raise InputError(f"no table {min(unknown)!r}; there are {', '.join(RULE_TABLES)}")
        if name == "jobs" and "jobs" not in source and "events" in source:
            return _job_updates(source["events"], rules)
        return source.get(name)
    tables: Any = getattr(source, "tables", source)
    if not hasattr(tables, "events"):
        raise InputError(
            f"cannot read tables from {type(source).__name__}; give a monitor, a recording, tables, "
            "a mapping of table names to DataFrames, or a DataFrame"
        )
    # a row of jobs tells how a job stands now; its past is rebuilt from the events
    frame = getattr(tables, "events" if name == "jobs" else name)
    return _job_updates(frame, rules) if name == "jobs" else frame


def _job_updates(events: pd.DataFrame, rules: list[Rule]) -> pd.DataFrame:
    logs = any(rule.reads_logs for rule in rules)
    return job_updates(in_order_of_arrival(events), logs=logs)


def in_order_of_arrival(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows by ``seq``, with ``backfill`` moved to its place in time.

    Where ``seq`` numbers no arrivals (it is missing, or several recordings are joined), rows go by
    ``received``, and without that by ``time``.
    """
    if "time" not in frame.columns:  # what it lacks is told by whoever needs it
        return frame
    number = _number_of_arrival(frame)
    filled = None
    if "origin" in frame.columns and len(frame):
        filled = (frame["origin"] == "backfill").to_numpy(bool)
    if filled is None or not filled.any():
        if (number[1:] >= number[:-1]).all():
            return frame
        return frame.take(np.argsort(number, kind="stable"))
    order = np.argsort(number, kind="stable")
    times, filled = _microseconds(frame)[order], filled[order]
    place = times.copy()
    place[~filled] = np.maximum.accumulate(times[~filled]) if (~filled).any() else times[~filled]
    return frame.take(order[np.argsort(place, kind="stable")])


def _number_of_arrival(frame: pd.DataFrame) -> np.ndarray[Any, np.dtype[Any]]:
    received = None
    came = frame.get("received")
    if came is not None and came.dtype.kind == "M" and came.notna().all():
        received = _microseconds(frame, "received")
    if "seq" in frame.columns and frame["seq"].notna().all():
        seq = frame["seq"].to_numpy()
        order = np.argsort(seq, kind="stable")
        same = np.flatnonzero(seq[order[1:]] == seq[order[:-1]])
        # Rows of one frame share its number and came at once; one number at two times is of two recordings.
        if received is None or (received[order[same]] == received[order[same + 1]]).all():
            return seq
    return _microseconds(frame) if received is None else received


def everything(source: Source) -> dict[str, pd.DataFrame]:
    """The tables of a source that tell how far its time goes."""
    if isinstance(source, pd.DataFrame):
        return {"": source}
    if isinstance(source, Mapping):
        return dict(source)
    tables: Any = getattr(source, "tables", source)
    return {name: getattr(tables, name) for name in ("events", "connection", "pools")}


def clock_at(frames: Mapping[str, pd.DataFrame]) -> int | None:
    """The time of the newest row, microseconds since the epoch."""
    newest = [int(_microseconds(frame).max()) for frame in frames.values() if len(frame)]
    return max(newest) if newest else None


def moment_us(value: Moment) -> int | None:
    """Microseconds since the epoch.

    >>> moment_us("2026-11-23 07:00")
    1795417200000000
    """
    if value is None:
        return None
    try:
        if is_number(value):
            return int(value)
        stamp = pd.Timestamp(value)
        if pd.isna(stamp):
            raise ValueError
        stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp
        return int(stamp.value) // 1000
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{value!r} is no time; write '2026-11-23 07:00'") from None


def _microseconds(frame: pd.DataFrame, name: str = "time") -> np.ndarray[Any, np.dtype[np.int64]]:
    column = frame[name]
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    elif column.dtype.kind != "M":
        raise InputError(
            f"the column {name!r} holds {column.dtype}, not times; use pandas.to_datetime(..., utc=True)"
        )
    return column.to_numpy("datetime64[us]").astype(np.int64)
