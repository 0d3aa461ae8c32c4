"""Incidents: what a rule found, from the row where it began to the moment it was over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

Reason = Literal["cleared", "no data"]


@dataclass(slots=True)
class Incident:
    """One time that a rule fired for one key.

    Attributes
    ----------
    rule, severity, message : str
        The rule's name and severity, and its message filled in from the row that made it fire.
    keys : dict of str to str or int or None
        The key columns and their values, such as ``{"server": "nas", "pool": "tank"}``.
    began, fired, resolved : int or None
        Microseconds since the epoch: when the condition began, when it had held for ``for_``, when it was
        over (None while it fires).
    duration_s : float
        Seconds from `fired` to `resolved`, also over a clock that was set back; NaN while it fires.
    peak : float
        The worst measured value, NaN for rules that measure none.
    rows : int
        Rows that took part, from `began` on.
    reason : str or None
        ``cleared`` by a row, or ``no data``: a gap longer than the rule allows.
    labels : dict of str to str
        The rule's labels.
    """

    rule: str
    keys: dict[str, Any]
    began: int
    fired: int
    severity: str
    message: str
    labels: dict[str, str] = field(default_factory=dict)
    resolved: int | None = None
    duration_s: float = float("nan")
    peak: float = float("nan")
    rows: int = 0
    reason: Reason | None = None

    @property
    def id(self) -> str:
        """The same text for the same incident, in every run."""
        return "/".join([self.rule, *(str(v) for v in self.keys.values()), str(self.fired)])

    @property
    def subject(self) -> str:
        """The key in words: ``nas tank``."""
        return " ".join(str(v) for v in self.keys.values() if v is not None) or "everything"

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes None."""
        return {k: None if isinstance(v, float) and v != v else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Incident:
        """The reverse of `to_json`."""
        nan = float("nan")
        plain: dict[str, Any] = {
            k: nan if v is None and k in ("duration_s", "peak") else v for k, v in data.items()
        }
        return cls(**plain)


class Change(NamedTuple):
    """Something to tell: an incident fired or was resolved."""

    what: Literal["fired", "resolved"]
    incident: Incident

    @property
    def time(self) -> int:
        """When, in microseconds since the epoch."""
        time = self.incident.fired if self.what == "fired" else self.incident.resolved
        assert time is not None
        return time


def incidents_frame(incidents: Iterable[Incident], keys: Iterable[str] = ()) -> pd.DataFrame:
    """Incidents as a table, oldest first.

    Parameters
    ----------
    incidents : iterable of Incident
    keys : iterable of str
        Key columns to have even when no incident has them.

    Returns
    -------
    DataFrame
        Columns ``rule``, the key columns, ``began``, ``fired``, ``resolved`` (datetime64[us, UTC], NaT while
        it fires), ``duration`` (timedelta64[us], NaT while it fires), ``peak`` (float64), ``rows`` (int64),
        ``severity``, ``message``, ``reason`` (missing while it fires).
    """
    found = sorted(incidents, key=lambda i: (i.fired, i.rule, i.subject))
    names = dict.fromkeys([*keys, *(name for i in found for name in i.keys)])

    def times(values: list[int | None]) -> Any:
        stamps = np.array([np.iinfo(np.int64).min if v is None else v for v in values], np.int64)
        return pd.DatetimeIndex(stamps.view("datetime64[us]")).tz_localize("UTC")

    seconds = np.array([i.duration_s for i in found], float)
    micro = np.where(np.isnan(seconds), np.iinfo(np.int64).min, np.round(np.nan_to_num(seconds) * 1e6))
    columns: dict[str, Any] = {"rule": pd.Series([i.rule for i in found], dtype="str")}
    for name in names:
        values = [i.keys.get(name) for i in found]
        whole = values and all(isinstance(v, int) for v in values)
        columns[name] = pd.Series(values, dtype="int64" if whole else "str")
    columns |= {
        "began": times([i.began for i in found]),
        "fired": times([i.fired for i in found]),
        "resolved": times([i.resolved for i in found]),
        "duration": pd.TimedeltaIndex(micro.astype(np.int64).view("timedelta64[us]")),
        "peak": np.array([i.peak for i in found], float),
        "rows": np.array([i.rows for i in found], np.int64),
        "severity": pd.Series([i.severity for i in found], dtype="str"),
        "message": pd.Series([i.message for i in found], dtype="str"),
        "reason": pd.Series([i.reason for i in found], dtype="str"),
    }
    return pd.DataFrame(columns)
