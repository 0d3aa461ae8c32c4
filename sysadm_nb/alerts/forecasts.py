"""The ``forecast`` table of rules: what `trends.forecast` says of each pool, every few hours of its time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..tables.schema import SCHEMA
from .columns import Columns, Ints
from .conditions import FORECAST, ForecastWithin
from .durations import duration_text, duration_us
from .keys import Batch, KeyIndex
from .windows import History, windows

_NEEDS = ("time", "server", "pool", "size_bytes", "alloc_bytes", "free_bytes", "capacity_pct", "frag_pct")
_DEFAULT = ForecastWithin(14, 80, "6h", "30D")
_ROWS_AT_ONCE = 2_000_000


class Forecaster:
    """Turns samples of pools into forecasts, one at the first sample of each `every` of a pool's time.

    So a forecast depends on the pool's own samples up to then, and on nothing else.
    """

    def __init__(self, limit_pct: float, every_us: int, history_us: int) -> None:
        self.limit_pct, self.every_us = limit_pct, every_us
        self.name = f"forecast {limit_pct:g} {duration_text(every_us)} {duration_text(history_us)}"
        self.history_us = history_us
        self.index = KeyIndex(("server", "pool"))
        schema = {name: SCHEMA["pools"][name] for name in _NEEDS}
        self.history = History(schema, None, history_us)
        self.turn: dict[int, int] = {}

    @classmethod
    def for_rule(cls, asked: ForecastWithin | None) -> Forecaster:
        """The forecaster of a rule; rules on the table itself get the usual limit of 80 %."""
        asked = asked or _DEFAULT
        return cls(asked.limit_pct, duration_us(asked.every), duration_us(asked.history))

    def feed(self, pools: pd.DataFrame) -> pd.DataFrame:
        """Forecasts due with these samples, one row each, in the columns of `FORECAST`."""
        batch = self.index.take(pools)
        if not len(batch.kid):
            return _table([])
        merged, new = self.history.extend(batch)
        due = self._due(merged, np.flatnonzero(new))
        if not len(due):
            return _table([])
        start = windows(merged, self.history_us).start
        parts: list[pd.DataFrame] = []
        chunk: list[int] = []
        rows = 0
        for row in due.tolist():
            chunk.append(row)
            rows += row - int(start[row]) + 1
            if rows > _ROWS_AT_ONCE:
                parts.append(self._ask(merged, start, chunk))
                chunk, rows = [], 0
        if chunk:
            parts.append(self._ask(merged, start, chunk))
        return _table(parts)

    def _due(self, merged: Batch, rows: Ints) -> Ints:
        due = []
        turns = merged.tau // self.every_us
        for row, kid, turn in zip(
            rows.tolist(), merged.kid[rows].tolist(), turns[rows].tolist(), strict=True
        ):
            if self.turn.get(kid) != turn:
                self.turn[kid] = turn
                due.append(row)
        return np.array(due, np.int64)

    def _ask(self, merged: Batch, start: Ints, due: list[int]) -> pd.DataFrame:
        from ..trends import forecast  # scipy loads with it

        spans = [np.arange(start[row], row + 1) for row in due]
        lengths = np.array([len(span) for span in spans])
        samples = Columns(merged.columns.frame, merged.order[np.concatenate(spans)]).plain()
        samples = samples.assign(pool=np.repeat(np.arange(len(due)), lengths))
        said = forecast(samples, limit_pct=self.limit_pct, by=("pool",))
        said = said.set_index(said["pool"].astype(int)).sort_index()
        asked = said.index.to_numpy()
        rows = np.array(due)[asked]
        keys = [self.index.keys[k] for k in merged.kid[rows].tolist()]
        stamps = merged.at[rows].view("datetime64[us]")
        columns: dict[str, Any] = {
            "time": pd.DatetimeIndex(stamps).tz_localize("UTC"),
            "server": pd.Series([k[0] for k in keys], dtype="str"),
            "pool": pd.Series([k[1] for k in keys], dtype="str"),
        }
        for name in FORECAST:
            if name not in columns:
                columns[name] = said[name].to_numpy(float)
        return pd.DataFrame(columns)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "index": self.index.to_json(),
            "history": self.history.to_json(),
            "turn": {str(k): v for k, v in self.turn.items()},
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """The reverse of `to_json`."""
        self.index.restore(data["index"])
        self.history.restore(data["history"])
        self.turn = {int(k): v for k, v in data["turn"].items()}


def _table(parts: list[pd.DataFrame]) -> pd.DataFrame:
    if parts:
        return pd.concat(parts, ignore_index=True)
    dtypes = {"time": "datetime64[us, UTC]", "category": "str", "float": "float64"}
    return pd.DataFrame({n: pd.Series([], dtype=dtypes[k]) for n, k in FORECAST.items()})
