"""A batch of rows as arrays: what expressions and rules read instead of a DataFrame.

Category codes differ from batch to batch and integer columns may hold what a float cannot divide, so
every column is brought to one form here. What an expression says of a row then cannot depend on the rows
beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

DAY_US = 86_400_000_000


class Cat(NamedTuple):
    """A category column: the code of each row, -1 where missing, and the words."""

    codes: np.ndarray[Any, np.dtype[np.integer[Any]]]
    words: pd.Series[str]


class Window(NamedTuple):
    """The window of each row: position of its first row, key time of each row, length in microseconds."""

    start: Ints
    tau: Ints
    length_us: int


class Columns:
    """The columns of one batch, each converted when first asked for.

    Parameters
    ----------
    frame : DataFrame
        Rows of one table.
    order : array of int64, optional
        The rows to look at, by position and in this order; all of them by default.

    Attributes
    ----------
    window : Window or None
        For rules with a window: which rows belong to it. Rows must then be grouped by key, oldest first.
    """

    def __init__(self, frame: pd.DataFrame, order: Ints | None = None) -> None:
        self.frame = frame
        self.order = order
        self.window: Window | None = None
        self._seen: dict[str, Any] = {}
        self._words: dict[str, list[str]] = {}
        self._plain: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.frame) if self.order is None else len(self.order)

    def __getitem__(self, name: str) -> Any:
        """Numbers as float64, times as datetime64[us] in UTC, categories as `Cat`, text as a Series."""
        if name not in self._seen:
            self._seen[name] = _convert(self.frame[name], self.order)
        return self._seen[name]

    @property
    def time_us(self) -> Ints:
        """The column ``time`` in microseconds since the epoch."""
        return cast(Ints, self["time"].astype(np.int64))

    def plain(self) -> pd.DataFrame:
        """The rows as a user's function sees them: a frame of its own, categories as text."""
        if self._plain is None:
            frame = self.frame if self.order is None else self.frame.take(self.order)
            words = {n: "str" for n, d in frame.dtypes.items() if isinstance(d, pd.CategoricalDtype)}
            self._plain = frame.astype(words).reset_index(drop=True)
        return self._plain.copy(deep=False)

    def plain_value(self, name: str, row: int) -> Any:
        """One value as a Python object: number, text, microseconds for times; None where missing."""
        value = self[name]
        if isinstance(value, Cat):
            code = int(value.codes[row])
            if name not in self._words:
                self._words[name] = value.words.to_list()
            return None if code < 0 else self._words[name][code]
        if isinstance(value, pd.Series):
            word = value.iloc[row]
            return None if pd.isna(word) else str(word)
        item = value[row]
        if value.dtype.kind == "M":
            return None if np.isnat(item) else int(item.astype(np.int64))
        item = item.item()
        return None if item != item else item

    def over_window(self, name: str, values: Any) -> Floats:
        """`change`, `per_day`, `lowest` or `highest` of `values` over the window of each row."""
        if self.window is None:
            raise AssertionError("a windowed expression was run without its window")
        start, tau, length = self.window
        values = np.broadcast_to(np.asarray(values, np.float64), len(self))
        if name in ("lowest", "highest"):
            return _extreme(values, start, np.fmin if name == "lowest" else np.fmax)
        # the oldest row in the window that has a value
        at = np.where(np.isnan(values), len(values), np.arange(len(values)))
        following = np.minimum.accumulate(at[::-1])[::-1] if len(at) else at
        first = np.minimum(following[start], np.arange(len(values)))
        change = values - values[first]
        if name == "change":
            return cast(Floats, change)
        span = (tau - tau[first]).astype(np.float64)
        return cast(Floats, np.where(span * 2 >= length, change / (span / DAY_US), np.nan))


def _convert(column: pd.Series[Any], order: Ints | None) -> Any:
    pick: Any = slice(None) if order is None else order
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return Cat(column.cat.codes.to_numpy()[pick], pd.Series(column.cat.categories, dtype="str"))
    if isinstance(dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    if dtype.kind == "M":
        return column.to_numpy("datetime64[us]")[pick]
    if dtype.kind == "b":
        return column.to_numpy(bool)[pick]
    if dtype.kind in "iuf":
        return column.to_numpy(np.float64)[pick]
    return column if order is None else column.take(order)


def text_test(value: Any, test: Callable[[pd.Series[str]], Any], missing: bool) -> Any:
    """Run a test of words on a text or category value; each category is tested once."""
    if isinstance(value, str):
        return bool(test(pd.Series([value], dtype="str"))[0])
    if isinstance(value, Cat):
        return np.append(np.asarray(test(value.words), bool), missing)[value.codes]
    return np.asarray(test(value), bool)


def as_text(value: Any, length: int) -> pd.Series[str]:
    """A text value as a plain Series, for comparing two columns with each other."""
    if isinstance(value, str):
        return pd.Series([value] * length, dtype="str")
    if isinstance(value, Cat):
        words = np.append(value.words.to_numpy(object), np.nan)
        return pd.Series(words[value.codes], dtype="str")
    return cast("pd.Series[str]", value.reset_index(drop=True).astype("str"))


def _extreme(values: Floats, start: Ints, pick: Callable[[Floats, Floats], Floats]) -> Floats:
    """Smallest or largest value from `start[i]` to `i`, by doubling: exact, whatever the batch."""
    index = np.arange(len(values))
    level = np.floor(np.log2(index - start + 1)).astype(np.int64)
    out = np.full(len(values), np.nan)
    table, step = values, 1
    for k in range(int(level.max(initial=-1)) + 1):
        rows = np.flatnonzero(level == k)
        out[rows] = pick(table[start[rows]], table[rows - step + 1])
        table = pick(table[: len(table) - step], table[step:]) if len(table) > step else table[:0]
        step *= 2
    return out
