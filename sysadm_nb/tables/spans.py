"""Lengths of time as people give them."""

from __future__ import annotations

import re
from numbers import Real
from typing import Any, Final, TypeGuard

import numpy as np
import pandas as pd

from sysadm_nb.errors import InputError

# What people and other tools write, and pandas is about to refuse or never took.
_UNITS: Final = {"d": "D", "w": "W", "week": "W", "weeks": "W", "H": "h", "S": "s"}


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a plain number, Python's or NumPy's; truth values and lengths of time are none.

    >>> is_number(90), is_number(np.int64(90)), is_number(np.timedelta64(90, "s"))
    (True, True, False)
    """
    # NumPy counts its lengths of time among the integers
    return isinstance(value, Real) and not isinstance(value, bool | np.timedelta64)


def timespan(value: Any) -> pd.Timedelta:
    """`pandas.Timedelta`, but what has no unit is refused (pandas: nanoseconds), and ``d`` is a day.

    Raises
    ------
    ValueError
        It is no length of time, or has no unit.

    Examples
    --------
    >>> timespan("90s")
    Timedelta('0 days 00:01:30')
    >>> timespan("1w 2d 12h")
    Timedelta('9 days 12:00:00')
    >>> timespan("90")
    Traceback (most recent call last):
    ...
    ValueError: '90' has no unit
    """
    bare = isinstance(value, str) and not any(sign.isalpha() or sign == ":" for sign in value)
    if bare or is_number(value):
        raise ValueError(f"{value!r} has no unit")
    if isinstance(value, str) and not value.startswith("P"):  # ISO 8601 has units of its own
        value = re.sub("[A-Za-z]+", lambda unit: _UNITS.get(unit[0], unit[0]), value)
    return pd.Timedelta(value)


def seconds_to_wait(timeout: Any) -> float:
    """The seconds of a ``timeout=``, checked before anything is begun that would have to be taken back.

    Raises
    ------
    InputError
        It is no number of seconds.

    Examples
    --------
    >>> seconds_to_wait(5)
    5.0
    """
    if not is_number(timeout) or not timeout >= 0:  # NaN is neither
        raise InputError(f"timeout={timeout!r} is no number of seconds, such as 60.")
    return float(timeout)
