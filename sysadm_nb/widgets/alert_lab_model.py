"""What the alert lab works out: the past of one value, and when a rule on it would have fired."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from ..alerts import Rule
from ..alerts.backtest import Past, backtest, clock_at, everything, history
from ..alerts.conditions import DEFAULT_BY, RULE_TABLES, SAMPLED
from ..alerts.judge import against
from ..alerts.keys import KeyIndex
from ..errors import InputError
from ._state import State
from ._static import moment, seconds, table_html, table_text

BUCKETS: Final = 500  # over the width of the chart; each gives its lowest and its highest row
MOST_LINES: Final = 8
MOST_INCIDENTS: Final = 400
GAP_US: Final = 45 * 60_000_000
NEWEST: Final = 1_000_000
REREAD_S: Final = 5.0  # between two looks at a table that grows

SIGNS: Final = {
    ">": "above",
    ">=": "at or above",
    "<": "below",
    "<=": "at or below",
    "==": "is",
    "!=": "is not",
}
TABLES: Final = ("pools", "system", "jobs", "life_preserver", "connection")
_LEFT_OUT: Final = {
    "server",
    "origin",
    "pool",
    "hostname",
    "altroot",
    "dataset",
    "process_id",
    "event_system",
}


@dataclass(frozen=True)
class Setting:
    """What is set in the lab; durations in seconds."""

    table: str = "pools"
    value: str = "capacity_pct"
    sign: str = ">"
    threshold: float | str = 80.0
    for_s: float = 1800.0
    until: float | None = None
    name: str = "my rule"
    severity: str = "warning"

    @property
    def when(self) -> str:
        """The condition as an expression."""
        return f"{self.value} {self.sign} {_written(self.threshold)}"

    @property
    def options(self) -> dict[str, Any]:
        """What `Rules.add` takes."""
        out: dict[str, Any] = {"table": self.table, "when": self.when}
        if self.for_s:
            out["for_"] = _span(self.for_s)
        if self.until is not None and self.sign in "><>=<=":
            back = "<" if self.sign.startswith(">") else ">"
            out["until"] = f"{self.value} {back} {_written(self.until)}"
        return out | {"severity": self.severity}

    def rule(self) -> Rule:
        """The rule itself."""
        return Rule(self.name, **self.options)

    def code(self) -> str:
        """Python that makes it."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"rules = sa.alerts.Rules()\nrules.add({self.name!r}, {arguments})\n"


def choices() -> dict[str, list[list[str]]]:
    """The values that each table offers: ``[column, kind]``, kind being ``number`` or ``word``."""
    out = {}
    for table in TABLES:
        kinds = {"float": "number", "category": "word"}
        out[table] = [
            [name, kinds[kind]]
            for name, kind in RULE_TABLES[table].items()
            if kind in kinds and name not in _LEFT_OUT
        ]
    return out


class LabModel:
    """The lab without a browser.

    To read a table and to try a rule on it may take seconds: both happen on any thread, one at a time, and
    what they made goes into ``state`` at their end, all at once.

    Parameters
    ----------
    tables : Tables
        Of a monitor or recording.

    Attributes
    ----------
    working : RLock
        Held while something is worked out. Never wait for it with ``guard`` held.
    guard : RLock
        Held while ``state`` is read or written, which is short.
    """

    def __init__(self, tables: Any) -> None:
        self.tables = tables
        self.state = State()
        self.working, self.guard = threading.RLock(), threading.RLock()
        self._made: dict[str, Any] = {}  # values as they were worked out last
        self.setting = Setting()
        self.other: Setting | None = None
        self.key: str | None = None
        self.labels: list[dict[str, Any]] = []
        self._keys: dict[str, dict[str, Any]] = {}  # by what they are called
        self._frame = pd.DataFrame()
        self._past: Past | None = None
        self._connection: pd.DataFrame | None = None
        self._clock = 0  # the newest row of all tables: so far goes their time
        self._read: tuple[str, int, int] | None = None
        self._due = 0.0
        self._made |= {"choices": choices(), "signs": SIGNS}
        self.edit()

    # ---- the past --------------------------------------------------------------------------------------

    def due(self, now: float) -> bool:
        """Whether something has come and it is time to look again."""
        return now >= self._due and self._read != self._size()

    def refresh(self, now: float) -> None:
        with self.working:
            if not self.due(now):
                return
            self._due = now + REREAD_S
            begun = time.perf_counter()
            self.edit()
            # where a look takes long, it takes a fifth of the time and no more
            self._due = now + max(REREAD_S, 5 * (time.perf_counter() - begun))

    def _size(self) -> tuple[str, int, int]:
        count, table = self.tables.count, self.setting.table
        return (
            table,
            count("events" if table == "jobs" else table),
            sum(map(count, ("events", "connection", "pools"))),
        )

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        with self.working:
            try:
                yield
            finally:
                with self.guard:
                    for name, value in self._made.items():
                        self.state.set(name, value)

    def _load(self) -> bool:
        """Read what is new; whether the table has other rows now."""
        table, size = self.setting.table, self._size()
        if self._read == size:
            return False
        if self._past is not None and self._read is not None and self._read[:2] == size[:2]:
            self._past.clock = self._clock = clock_at(everything(self.tables)) or 0
            self._read = size
            return False
        frames = history([table, "connection"], self.tables)
        frame = frames.get(table)
        columns = [n for n in RULE_TABLES[table] if n not in ("log", "altroot")]
        self._frame = pd.DataFrame(columns=columns) if frame is None else frame[columns].tail(NEWEST)
        self._connection = frames.get("connection")
        self._clock = clock_at(everything(self.tables) | frames) or 0
        sampled = table in SAMPLED and len(self._frame)
        self._past = Past(self._frame, DEFAULT_BY[table], self._clock) if sampled else None
        self._read = size
        return True

    def edit(self, **changes: Any) -> None:
        """Change settings, and work everything out anew.

        Parameters
        ----------
        **changes
            Fields of `Setting`, and ``key`` (one server and pool, or None for all).

        Raises
        ------
        SysadmError
            The settings make no rule; the old ones stay.
        """
        with self._at_work():
            self._edit(changes)

    def _edit(self, changes: dict[str, Any]) -> None:
        keyed, key = "key" in changes, changes.pop("key", None)
        unknown = set(changes) - set(Setting.__dataclass_fields__)
        if unknown:
            raise InputError(
                f"the lab has no setting {min(unknown)!r}; it has {', '.join(Setting.__dataclass_fields__)}"
            )
        wanted = _fitting(replace(self.setting, **changes), changes)
        rule = wanted.rule()
        moved = (wanted.table, wanted.value) != (self.setting.table, self.setting.value)
        self.setting = wanted
        if moved or keyed:
            self.key = key
        other = self.other
        if other is not None and (other.table, other.value) != (wanted.table, wanted.value):
            self.other = None
        if self._load() or self._made.get("drawn") != [wanted.table, wanted.value, self.key]:
            self._draw_lines()
        self._judge("result", wanted, rule)
        self._judge_other()
        self._made["setting"] = asdict(wanted) | {"key": self.key, "rule": rule.described()}
        self._made["code"] = wanted.code()

    def compare(self, on: bool) -> None:
        """Keep this setting to compare with, or forget it."""
        with self._at_work():
            self.other = self.setting if on else None
            self._judge_other()

    def swap(self) -> None:
        """Exchange the setting and the one compared with."""
        with self._at_work():
            if self.other is not None:
                other, self.other = self.other, self.setting
                self.edit(**asdict(other))

    def _judge_other(self) -> None:
        other = self.other
        self._made["other"] = other and asdict(other) | {"rule": other.rule().described()}
        if other is None:
            self._made["other_result"] = None
        else:
            self._judge("other_result", other, other.rule())

    def _draw_lines(self) -> None:
        """The chart's lines: at most `MOST_LINES` keys, the worst ones, thinned out."""
        setting, frame = self.setting, self._frame
        self._made["drawn"] = [setting.table, setting.value, self.key]
        index = KeyIndex(DEFAULT_BY[setting.table])
        batch = index.take(frame) if len(frame) else None
        if batch is None or not len(batch.kid):  # rows sent again at a subscribe tell nothing of the past
            for name in ("lines", "keys"):
                self._made[name] = []
            self._made["span"] = None
            self._made["words"] = None
            self._made["range"] = _range(np.empty(0), setting.value)
            return
        names = [_name(key) for key in index.keys]
        self._keys = dict(zip(names, map(index.columns_of, range(len(index))), strict=True))
        values, words = _numbers(batch.columns.frame[setting.value], batch.order)
        span = [int(batch.at.min()), int(batch.at.max())]
        starts = np.flatnonzero(np.append(True, batch.kid[1:] != batch.kid[:-1]))
        ends = np.append(starts[1:], len(batch.kid))
        worst = np.fmin if setting.sign.startswith("<") else np.fmax
        peaks = worst.reduceat(values, starts)
        order = np.argsort(
            np.nan_to_num(peaks if setting.sign.startswith("<") else -peaks, nan=np.inf), kind="stable"
        )
        wanted = [r for r in order.tolist() if self.key in (None, names[int(batch.kid[starts[r]])])][
            :MOST_LINES
        ]
        gap = GAP_US if setting.table in SAMPLED else None
        lines = []
        for run in wanted:
            i, j = int(starts[run]), int(ends[run])
            times, shown = thinned(batch.at[i:j], values[i:j], span[0], span[1], gap)
            lines.append({"key": names[int(batch.kid[i])], "t": times, "y": shown})
        self._made["lines"] = lines
        self._made["keys"] = sorted(names)[:1000]
        self._made["span"] = span
        self._made["words"] = words
        self._made["range"] = _range(values, setting.value)

    def _incidents(self, setting: Setting, rule: Rule) -> pd.DataFrame:
        if self._past is not None:
            return self._past.judge(rule)
        frames = {setting.table: self._frame}
        if self._connection is not None and setting.table != "connection":
            frames["connection"] = self._connection
        return backtest([rule], frames, end=self._clock or None)

    def _judge(self, name: str, setting: Setting, rule: Rule) -> None:
        found = self._incidents(setting, rule)
        parts = [found[name].tolist() for name in rule.by or ()]
        names = pd.Series([_name(part) for part in zip(*parts, strict=True)], found.index, dtype="str")
        if self.key is not None and len(found):
            found, names = found[names == self.key], names[names == self.key]
        span = self._made.get("span") or [0, 0]
        fired = _us(found["fired"])
        now = max(span[1], self._clock)
        over = np.where(found["resolved"].isna(), now, _us(found["resolved"]))
        length = (over - fired) / 1e6
        result: dict[str, Any] = {
            "count": len(found),
            "total_s": float(length.sum()),
            "longest_s": float(length.max(initial=0)),
            "judged": None,
        }
        # what others really had is not missed here
        labels = [one for one in self.labels if self.key is None or one["key"] in (None, self.key)]
        if labels and span[1] > span[0]:
            judged = against(rule, found, self._label_frame(labels), (span[0], now))
            delay = judged["delay"]
            result["judged"] = {
                "found": int(judged["found"]),
                "periods": int(judged["periods"]),
                "false": int(judged["false_alarms"]),
                "weekly": _plain(judged["false_alarms_per_week"]),
                "delay_s": None if pd.isna(delay) else pd.Timedelta(delay).total_seconds(),
            }
        newest = slice(max(len(found) - MOST_INCIDENTS, 0), None)
        result["incidents"] = [
            [int(a), int(b), key, _plain(peak), bool(open_), self._is_real(int(a), int(b), key), int(begun)]
            for a, b, key, peak, open_, begun in zip(
                fired[newest],
                over[newest],
                names.iloc[newest],
                found["peak"].iloc[newest],
                found["resolved"].isna().iloc[newest],
                _us(found["began"])[newest],
                strict=True,
            )
        ]
        self._made[name] = result

    # ---- what really was an incident -------------------------------------------------------------------

    def mark(self, start: int, end: int, key: str | None = None) -> None:
        """Mark a period (microseconds) as a real incident."""
        start, end = sorted((int(start), int(end)))
        with self._at_work():
            self._relabel(
                [*self.labels, {"start": start, "end": end, "key": key, "of": self._columns_of(key)}]
            )

    def _columns_of(self, key: str | None) -> dict[str, Any]:
        if key is None:
            return {}
        if key not in self._keys:
            raise InputError(f"there is no {key!r} in the {self.setting.table} table")
        return self._keys[key]

    def unmark(self, position: int) -> None:
        """Forget the mark at this position."""
        with self._at_work():
            self._relabel([one for at, one in enumerate(self.labels) if at != position])

    def toggle(self, start: int, end: int, key: str) -> None:
        """Mark an incident that was found as real, or take that back."""
        with self._at_work():
            others = [one for one in self.labels if not _covers(one, start, end, key)]
            if len(others) < len(self.labels):
                self._relabel(others)
            else:
                self.mark(start, end, key)

    def _is_real(self, start: int, end: int, key: str) -> bool:
        return any(_covers(one, start, end, key) for one in self.labels)

    def _relabel(self, labels: list[dict[str, Any]]) -> None:
        self.labels = sorted(labels, key=lambda one: one["start"])  # a new list: the old one may be read now
        self.edit()
        self._made["labels"] = [[one["start"], one["end"], one["key"]] for one in self.labels]

    def label_frame(self) -> pd.DataFrame:
        """The marked periods, as `Rules.evaluate` takes them."""
        return self._label_frame(self.labels)

    def _label_frame(self, labels: list[dict[str, Any]]) -> pd.DataFrame:
        rows = [
            {n: pd.Timestamp(one[n], unit="us", tz="UTC") for n in ("start", "end")} | one["of"]
            for one in labels
        ]
        return pd.DataFrame(rows, columns=["start", "end", *DEFAULT_BY[self.setting.table]])

    # ---- other forms -----------------------------------------------------------------------------------

    def summary(self) -> str:
        """One line."""
        result = self.state.values["result"]
        total = seconds(result["total_s"])
        return f"{self.setting.rule().described()}: {result['count']} incidents, {total} in all"

    def _rows(self) -> list[list[str]]:
        incidents = self.state.values["result"]["incidents"]
        return [
            [moment(a), seconds((b - a) / 1e6), key, "" if peak is None else f"{peak:.4g}"]
            for a, b, key, peak, *_ in incidents[-20:]
        ]

    def text(self) -> str:
        """Plain text."""
        more = self.state.values["result"]["count"] - len(self._rows())
        return table_text(f"Alert lab: {self.summary()}", ["fired", "for", "key", "peak"], self._rows(), more)

    def html(self) -> str:
        """Static HTML."""
        more = self.state.values["result"]["count"] - len(self._rows())
        return table_html("Alert lab", self.summary(), ["fired", "for", "key", "peak"], self._rows(), more)


def thinned(
    at: np.ndarray[Any, Any], values: np.ndarray[Any, Any], first: int, last: int, gap: int | None
) -> tuple[list[int], list[float | None]]:
    """At most two points a bucket, its lowest and highest, in order; a None where data is missing.

    Parameters
    ----------
    at, values : array
        Times (microseconds, rising) and values.
    first, last : int
        The chart's ends.
    gap : int or None
        Longer pauses than this, and than a bucket, are drawn as gaps.
    """
    known = ~np.isnan(values)
    at, values = at[known], values[known]
    if not len(at):
        return [], []
    width = max((last - first) / BUCKETS, 1.0)
    bucket = ((at - first) / width).astype(np.int64)
    starts = np.flatnonzero(np.append(True, bucket[1:] != bucket[:-1]))
    if len(at) > 2 * len(starts):
        sizes = np.diff(np.append(starts, len(at)))
        low, high = (f.reduceat(values, starts) for f in (np.minimum, np.maximum))
        where = np.arange(len(at))
        big = len(at)
        lows = np.minimum.reduceat(np.where(values == np.repeat(low, sizes), where, big), starts)
        highs = np.minimum.reduceat(np.where(values == np.repeat(high, sizes), where, big), starts)
        pick = np.unique(np.concatenate([lows, highs, [0, len(at) - 1]]))
        at, values = at[pick], values[pick]
    times, shown = at.tolist(), [round(v, 4) for v in values.tolist()]
    if gap is None:
        return times, shown
    for position in np.flatnonzero(np.diff(at) > max(gap, 2 * width))[::-1].tolist():
        times.insert(position + 1, times[position] + 1)
        shown.insert(position + 1, None)
    return times, shown


def _fitting(setting: Setting, changes: dict[str, Any]) -> Setting:
    """Let what was not said follow what was: another table brings another value, a word another sign."""
    offered = dict(choices()[setting.table]) if setting.table in TABLES else {}
    if setting.value not in offered and "value" not in changes and offered:
        setting = replace(setting, value=next(iter(offered)))
    kind = offered.get(setting.value)
    if kind == "word":
        if setting.sign not in ("==", "!="):
            setting = replace(setting, sign="!=" if setting.value == "health" else "==")
        if not isinstance(setting.threshold, str):
            usual = {"health": "ONLINE", "state": "running", "what": "lost", "action": "failed"}
            setting = replace(setting, threshold=usual.get(setting.value, ""))
        return replace(setting, until=None)
    if isinstance(setting.threshold, str) or setting.threshold is None:
        setting = replace(setting, threshold=80.0 if setting.value.endswith("_pct") else 0.0)
    if setting.sign in ("==", "!="):
        setting = replace(setting, sign=">")
    return setting


def _numbers(
    column: pd.Series[Any], order: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], list[str] | None]:
    """Values to draw; words become their position in the list of words."""
    if column.dtype.kind in "iufb":
        return column.to_numpy(np.float64)[order], None
    codes, words = pd.factorize(column.astype("str"), sort=True)
    return np.where(codes < 0, np.nan, codes.astype(np.float64))[order], [str(w) for w in words]


def _range(values: np.ndarray[Any, Any], name: str) -> list[float]:
    """Ends and step of the slider."""
    if name.endswith("_pct") or name == "percent_done":
        return [0.0, 100.0, 0.5]
    known = values[~np.isnan(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    spread = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(spread / 100))
    return [
        math.floor((low - spread / 10) / step) * step,
        math.ceil((high + spread / 10) / step) * step,
        step,
    ]


def _name(key: Iterable[Any]) -> str:
    """What a key is called: its parts, without those that are missing."""
    return " ".join(str(part) for part in key if part is not None and part == part)


def _covers(label: dict[str, Any], start: int, end: int, key: str) -> bool:
    return label["key"] in (None, key) and label["start"] <= end and label["end"] >= start


def _us(column: pd.Series[Any]) -> np.ndarray[Any, Any]:
    stamps: np.ndarray[Any, Any] = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")
    return stamps.astype(np.int64)


def _plain(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


def _written(value: float | str) -> str:
    return repr(value) if isinstance(value, str) else f"{value:.12g}"


def _span(value: float) -> str:
    for size, unit in ((86_400, "D"), (3600, "h"), (60, "min")):
        if value % size == 0:
            return f"{value / size:.0f}{unit}"
    return f"{value:g}s"
