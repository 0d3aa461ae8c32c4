"""Conditions that are Python functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ..errors import RuleError
from ..tables.schema import Kind
from .columns import Bools, Columns, Ints

Function = Callable[[pd.DataFrame], Any]


class _Function:
    """What `RowFunction` and `WindowFunction` share with an `Expression`."""

    windowed = False
    columns: frozenset[str] | None = None
    value = None
    falling = False

    def __init__(self, function: Function, where: str) -> None:
        self.function, self.where = function, where

    def measure(self, columns: Columns) -> None:
        """A function measures nothing that a peak could be taken of."""


class RowFunction(_Function):
    """A function from rows to one boolean each, which must judge every row by itself.

    It is given plain DataFrames: a copy of the rows (grouped by key, oldest first), categories as text. That
    it judges each row by itself is checked: its answer for all rows is held against that for some alone.
    """

    def __call__(self, columns: Columns, rows: Ints | None = None) -> Bools:
        frame = columns.plain()
        found = self._ask(frame)
        count = len(frame)
        if count > 1:
            for position in {0, count // 2, count - 1}:
                alone = self._ask(frame.iloc[[position]].reset_index(drop=True))
                if bool(alone[0]) != bool(found[position]):
                    raise RuleError(
                        f"{self.where}: the function judges a row differently alone and beside others. "
                        "Without window= it must look at one row at a time; with window= it is given the "
                        "earlier rows of the same key."
                    )
        return found

    def _ask(self, frame: pd.DataFrame) -> Bools:
        return _booleans(self.function(frame.copy(deep=False)), len(frame), self.where)


class WindowFunction(_Function):
    """A function from the rows of one key within the window, the newest last, to true or false.

    It may return one boolean, or one for each row, of which the last counts.
    """

    windowed = True

    def __call__(self, columns: Columns, rows: Ints | None = None) -> Bools:
        assert columns.window is not None and rows is not None
        frame, start = columns.plain(), columns.window.start
        out = np.zeros(len(columns), bool)
        for row in rows.tolist():
            window = frame.iloc[int(start[row]) : row + 1].reset_index(drop=True)
            said = self.function(window)
            if isinstance(said, bool | np.bool_):
                out[row] = bool(said)
            else:
                out[row] = _booleans(said, len(window), self.where)[-1]
        return out


def check_function(
    function: Function, schema: dict[str, Kind], where: str, windowed: bool
) -> RowFunction | WindowFunction:
    """Try a function on sample rows, so that a wrong name or type shows when the rule is made.

    Raises
    ------
    RuleError
        It raises, or returns no booleans.
    """
    condition = WindowFunction(function, where) if windowed else RowFunction(function, where)
    sample = sample_rows(schema)
    try:
        said = function(sample.copy())
    except KeyError as error:
        from .expressions import nearest

        name = str(error.args[0]) if error.args else ""
        raise RuleError(f"{where}: the function asks for column {name!r}{nearest(name, schema)}") from error
    except (AttributeError, TypeError, NameError) as error:
        raise RuleError(
            f"{where}: the function failed on sample rows: {error}. The columns are: {', '.join(schema)}"
        ) from error
    except Exception as error:
        if not windowed:
            text = f"{type(error).__name__}: {error}"
            raise RuleError(f"{where}: the function failed on sample rows: {text}") from error
        return condition  # a fit, say, that the few sample rows cannot serve
    if not (windowed and isinstance(said, bool | np.bool_)):
        _booleans(said, len(sample), where)
    return condition


def sample_rows(schema: dict[str, Kind], count: int = 3) -> pd.DataFrame:
    """Made-up rows with the columns and dtypes that functions are given."""
    times = pd.date_range("2026-01-01", periods=count, freq="15min", tz="UTC").as_unit("us")
    made: dict[Kind, Any] = {
        "time": times,
        "float": np.linspace(10.0, 50.0, count),
        "int": np.arange(1, count + 1),
        "bool": np.arange(count) % 2 == 0,
        "category": pd.Series(["sample"] * count, dtype="str"),
        "text": pd.Series(["sample"] * count, dtype="str"),
    }
    return pd.DataFrame({name: made[kind] for name, kind in schema.items()})


def _booleans(said: Any, count: int, where: str) -> Bools:
    if isinstance(said, pd.Series) and isinstance(said.dtype, pd.BooleanDtype):
        said = said.fillna(False)
    values = np.asarray(said)
    if values.dtype != bool or values.shape != (count,):
        what = f"{values.dtype} of shape {values.shape}" if values.ndim else repr(said)[:80]
        raise RuleError(
            f"{where}: the function must return a boolean Series with one value for each of its "
            f"{count} rows; it returned {what}"
        )
    return values
