"""Lengths of time as people give them."""

from __future__ import annotations

from numbers import Real
from typing import Any, TypeGuard

import numpy as np
import pandas as pd


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a plain number, Python's or NumPy's; truth values and lengths of time are none.

    >>> is_number(90), is_number(np.int64(90)), is_number(np.timedelta64(90, "s"))
    (True, True, False)
    """
    # NumPy counts its lengths of time among the integers
    return isinstance(value, Real) and not isinstance(value, bool | np.timedelta64)


def timespan(value: Any) -> pd.Timedelta:
    """`pandas.Timedelta`, but what has no unit is refused: pandas takes it for nanoseconds.

    Raises
    ------
    ValueError
        It is no length of time, or has no unit.

    Examples
    --------
    >>> timespan("90s")
    Timedelta('0 days 00:01:30')
    >>> timespan("90")
    Traceback (most recent call last):
    ...
    ValueError: '90' has no unit
    """
    bare = isinstance(value, str) and not any(sign.isalpha() or sign == ":" for sign in value)
    if bare or is_number(value):
        raise ValueError(f"{value!r} has no unit")
    return pd.Timedelta(value)
