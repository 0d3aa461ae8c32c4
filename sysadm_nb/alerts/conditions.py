"""What rules can be about: their tables, and the conditions that are more than an expression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..tables.schema import SCHEMA, Kind
from .durations import Duration

FORECAST: Final[dict[str, Kind]] = {
    "time": "time",
    "server": "category",
    "pool": "category",
    "capacity_pct": "float",
    "size_bytes": "float",
    "alloc_bytes": "float",
    "growth_bytes_per_day": "float",
    "days": "float",
    "days_lower": "float",
    "days_upper": "float",
    "probability": "float",
}
"""Columns of the ``forecast`` table: what `trends.forecast` said at a sample of a pool."""

RULE_TABLES: Final[dict[str, dict[str, Kind]]] = {
    **{name: columns for name, columns in SCHEMA.items() if name != "commands"},
    "forecast": FORECAST,
}
DEFAULT_BY: Final[dict[str, tuple[str, ...]]] = {
    "events": ("server",),
    "jobs": ("server", "process_id", "run"),
    "pools": ("server", "pool"),
    "system": ("server",),
    "life_preserver": ("server", "dataset"),
    "bridge": ("server", "peer"),
    "connection": ("server",),
    "forecast": ("server", "pool"),
}
SAMPLED: Final = frozenset({"pools", "system", "forecast"})


@dataclass(frozen=True)
class Absent:
    """A condition: no row for longer than `after`. Made by `absent`."""

    table: str
    by: tuple[str, ...] | None
    after: Duration
    where: str | None = None


@dataclass(frozen=True)
class ForecastWithin:
    """A condition: the limit is forecast to be reached within `days`. Made by `forecast_within`."""

    days: float
    limit_pct: float
    every: Duration
    history: Duration


def absent(
    table: str, *, by: Sequence[str] | None = None, after: Duration = "45min", where: str | None = None
) -> Absent:
    """The condition that rows of a table have stopped coming.

    Parameters
    ----------
    table : str
        A table of the monitor, such as ``"pools"``.
    by : sequence of str, optional
        What must keep coming, each by itself; by default the table's own keys. A key counts from its first
        row on.
    after : duration
        A silence longer than this fires.
    where : str, optional
        Only rows for which this expression holds are signs of life.

    Examples
    --------
    >>> from sysadm_nb.alerts import Rules
    >>> rules = Rules()
    >>> rules.add("no samples", absent("pools", by=["server", "pool"], after="45min"))
    Rule 'no samples': no pools row by server, pool for 45min → warning
    """
    return Absent(table, None if by is None else tuple(by), after, where)


def forecast_within(
    days: float = 14, limit_pct: float = 90, *, every: Duration = "6h", history: Duration = "30D"
) -> ForecastWithin:
    """The condition that a pool is forecast to reach a limit soon.

    Parameters
    ----------
    days : float
        How soon.
    limit_pct : float
        The limit, percent of the pool's size.
    every : duration
        How often each pool is forecast.
    history : duration
        How far back the forecast looks.

    Examples
    --------
    >>> from sysadm_nb.alerts import Rules
    >>> rules = Rules()
    >>> rules.add("full in two weeks", forecast_within(days=14, limit_pct=90), severity="critical")
    Rule 'full in two weeks': forecast days <= 14 (to 90 %) by server, pool → critical
    """
    return ForecastWithin(float(days), float(limit_pct), every, history)
