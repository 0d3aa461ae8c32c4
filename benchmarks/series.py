"""Generated zpool histories, with their futures: what forecasts are tried on before they are believed.

Each series is first a *process* (how many bytes the pool really held, and how large it was, at every sample
time, horizon included) and then an *observation* of it (what a monitor would have in its ``pools`` table:
rounded, late, twice, with gaps). Forecasters see the observation up to an origin, and are scored on the
process after it.

``make(kind, seed)`` gives one series, ``suite(seeds)`` all kinds for each seed. Seeds below 1000 were used
while the forecaster was developed; ``benchmarks.trends`` reports on seeds from 1000 on, which were not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DAY = 86_400.0
FUTURE_DAYS = 90
START = pd.Timestamp("2025-01-06", tz="UTC")  # a Monday


@dataclass(frozen=True)
class Process:
    """What really happened: seconds since START, bytes allocated, bytes of the pool."""

    rng: np.random.Generator
    seconds: Floats
    alloc: Floats
    size: Floats
    history_days: float

    @property
    def days(self) -> Floats:
        return self.seconds / DAY


@dataclass(frozen=True)
class Series:
    kind: str
    seed: int
    truth: Process
    observed: pd.DataFrame = field(repr=False)

    def origins(self) -> list[float]:
        """Days at which a forecast is asked for: the end of the history, and two earlier ones."""
        end = self.truth.history_days
        return [end] if self.kind in ONE_ORIGIN else [round(end * part * 24) / 24 for part in (0.6, 0.8, 1.0)]

    def capacity(self, day: float) -> float:
        """True capacity, percent, at a day."""
        at = min(round(day * DAY / self.truth.seconds[1]), len(self.truth.days) - 1)
        size = self.truth.size[at]
        return float(100 * self.truth.alloc[at] / size) if size else float("nan")

    def before(self, day: float) -> pd.DataFrame:
        """What a monitor had at a day: rows in order of arrival."""
        return self.observed[self.observed["arrived"] <= day * DAY + 60].drop(columns="arrived")


# --- the parts processes are made of: fractions of the pool, on the grid of samples -------------------------


def _blank(rng: np.random.Generator) -> Process:
    history = float(rng.integers(45, 300))
    step = float(rng.choice([900, 1800, 3600]))
    seconds = np.arange(0.0, (history + FUTURE_DAYS) * DAY + 2 * step, step)
    size = float(np.exp(rng.uniform(np.log(40e9), np.log(400e12))))
    return Process(rng, seconds, np.zeros_like(seconds), np.full_like(seconds, size), history)


def _spread(p: Process, daily: Floats) -> Floats:
    """Daily increments laid out over the day, more of them in office hours."""
    hours = np.exp(-0.5 * ((p.seconds % DAY / 3600 - 13) / p.rng.uniform(2, 8)) ** 2) + p.rng.uniform(0.05, 1)
    day = p.days.astype(int)
    per_day = np.bincount(day, hours)
    return np.cumsum(daily[day] * hours / per_day[day])


def _growth(
    p: Process, total: float | None = None, rough: float | None = None, weekend: float = 1.0
) -> Floats:
    """A year's ordinary growth: gamma increments a day around a mean that is `total` over the whole span."""
    rng = p.rng
    count = int(p.days[-1]) + 1
    total = rng.uniform(-0.05, 0.35) if total is None else total
    shape = 1 / (rng.uniform(0.1, 1.5) if rough is None else rough) ** 2
    daily = rng.gamma(shape, 1 / shape, count)
    daily *= np.where(np.arange(count) % 7 >= 5, weekend, 1.0)
    return _spread(p, total / count * daily)


def _churn(p: Process, sd: float | None = None, days: float | None = None) -> Floats:
    """Files that come and go: an AR(1) around nothing."""
    rng = p.rng
    sd = rng.choice([0.0005, 0.002, 0.006]) if sd is None else sd
    days = rng.uniform(0.05, 4) if days is None else days
    keep = np.exp(-(p.seconds[1] - p.seconds[0]) / DAY / days)
    from scipy.signal import lfilter

    shocks = rng.normal(0, sd * np.sqrt(1 - keep**2), len(p.seconds))
    return np.asarray(lfilter([1.0], [1.0, -keep], shocks))


def _fill(p: Process, *parts: Floats, start: float | None = None) -> Process:
    start = p.rng.uniform(0.15, 0.55) if start is None else start
    used = np.clip(start + np.sum(parts, axis=0), 0.001, 0.99)
    return replace(p, alloc=np.round(used * p.size))


def _saw(p: Process, period_days: float, height: float) -> Floats:
    phase = (p.days / period_days + p.rng.uniform()) % 1.0
    return height * phase


def _step(p: Process, day: float, height: float) -> Floats:
    return np.where(p.days >= day, height, 0.0)


# --- kinds of process ---------------------------------------------------------------------------------------


def _line(p: Process) -> Process:
    return _fill(p, p.days / p.days[-1] * p.rng.uniform(0.02, 0.4))


def _steady(p: Process) -> Process:
    return _fill(p, p.days / p.days[-1] * p.rng.uniform(0.02, 0.4), p.rng.normal(0, 0.003, len(p.days)))


def _ordinary(p: Process) -> Process:
    return _fill(p, _growth(p), _churn(p))


def _walk(p: Process) -> Process:
    count = int(p.days[-1]) + 1
    daily = p.rng.normal(p.rng.uniform(0, 0.0012), p.rng.uniform(0.0005, 0.004), count)
    return _fill(p, _spread(p, daily))


def _slopes(p: Process) -> Process:
    """The rate changes for good now and then: a new team, a new camera, a clean-up policy."""
    count = int(p.days[-1]) + 1
    changes = np.sort(p.rng.uniform(0, count, p.rng.poisson(2) + 1)).astype(int)
    rates = p.rng.gamma(1.0, 0.0012, len(changes) + 1) * p.rng.choice([1, 1, 1, -0.4], len(changes) + 1)
    daily = rates[np.searchsorted(changes, np.arange(count))] * p.rng.gamma(4, 0.25, count)
    return _fill(p, _spread(p, daily), _churn(p))


def _drifting(p: Process) -> Process:
    """The rate itself wanders: a local linear trend."""
    count = int(p.days[-1]) + 1
    rate = p.rng.uniform(0, 0.0012) + np.cumsum(p.rng.normal(0, 0.00006, count))
    return _fill(p, _spread(p, rate), _churn(p))


def _bursts(p: Process) -> Process:
    """Slow growth with projects that bring much within days, some of it removed again."""
    count = int(p.days[-1]) + 1
    daily = np.full(count, p.rng.uniform(0, 0.0006))
    for start in p.rng.uniform(0, count, p.rng.poisson(count / 45) + 1).astype(int):
        length = int(p.rng.integers(1, 10))
        height = p.rng.exponential(0.02)
        daily[start : start + length] += height / length
        gone = start + length + int(p.rng.integers(3, 30))
        if p.rng.uniform() < 0.5 and gone < count:
            daily[gone] -= height
    return _fill(p, _spread(p, daily), _churn(p, 0.001))


def _grown(p: Process) -> Process:
    """New disks: the size steps up, the bytes go on as before."""
    size = p.size.copy()
    for _ in range(int(p.rng.integers(1, 3))):
        size[p.days >= p.rng.uniform(0.15, 0.95) * p.history_days] *= p.rng.choice([1.25, 1.5, 2.0])
    held = _fill(p, _growth(p), _churn(p))
    return replace(held, size=np.round(size))


def _delete(p: Process) -> Process:
    return _fill(
        p,
        _growth(p, p.rng.uniform(0.05, 0.35)),
        _churn(p, 0.001),
        _step(p, p.rng.uniform(0.1, 0.95) * p.history_days, -p.rng.uniform(0.05, 0.3)),
        start=p.rng.uniform(0.35, 0.6),
    )


def _migration(p: Process) -> Process:
    arrival = p.rng.uniform(0.1, 0.95) * p.history_days
    ramp = np.clip((p.days - arrival) / p.rng.uniform(0.05, 2.0), 0, 1) * p.rng.uniform(0.05, 0.3)
    return _fill(
        p, _growth(p, p.rng.uniform(0.02, 0.25)), _churn(p, 0.001), ramp, start=p.rng.uniform(0.1, 0.3)
    )


def _saw_hour(p: Process) -> Process:
    return _fill(p, _growth(p, rough=0.4), _saw(p, 1 / 24 * p.rng.choice([1, 4]), p.rng.uniform(0.002, 0.02)))


def _saw_day(p: Process) -> Process:
    return _fill(p, _growth(p, rough=0.4), _saw(p, 1.0, p.rng.uniform(0.005, 0.04)), _churn(p, 0.0005))


def _saw_week(p: Process) -> Process:
    return _fill(p, _growth(p, rough=0.4), _saw(p, 7.0, p.rng.uniform(0.01, 0.08)), _churn(p, 0.0005))


def _saw_month(p: Process) -> Process:
    """Space comes back when a monthly clean-up runs, not always after the same number of days."""
    resets = np.cumsum(p.rng.choice([28, 30, 31, 14], int(p.days[-1] / 14) + 2))
    last = np.concatenate([[0], resets])[np.searchsorted(resets, p.days, side="right")]
    return _fill(
        p, _growth(p, rough=0.4), (p.days - last) / 30 * p.rng.uniform(0.01, 0.06), _churn(p, 0.0005)
    )


def _retention(p: Process) -> Process:
    """Snapshots hold what was overwritten for a number of days: a moving sum, saturating once."""
    count = int(p.days[-1]) + 1
    keep = int(p.rng.choice([7, 14, 30, 60]))
    churned = p.rng.gamma(2, 0.5, count) * p.rng.uniform(0.0005, 0.003)
    held = np.convolve(churned, np.ones(keep))[:count]
    return _fill(p, _growth(p, rough=0.5), np.interp(p.days, np.arange(count), held))


def _weekly(p: Process) -> Process:
    wave = p.rng.uniform(0.005, 0.03) * np.sin(2 * np.pi * (p.days / 7 + p.rng.uniform()))
    return _fill(p, _growth(p, rough=0.6, weekend=p.rng.uniform(0, 0.5)), wave, _churn(p, 0.0015))


def _backup_regular(p: Process) -> Process:
    """Nothing for days, then a backup."""
    period = float(p.rng.choice([2, 3, 7, 7, 14]))
    height = p.rng.uniform(0.02, 0.3) / (p.days[-1] / period)
    count = np.floor(p.days / period + p.rng.uniform()).astype(int)
    sizes = height * p.rng.gamma(20, 1 / 20, count.max() + 1)
    return _fill(p, np.cumsum(sizes)[count])


def _backup_random(p: Process) -> Process:
    count = int(p.days[-1]) + 1
    chance = p.rng.uniform(0.05, 0.4)
    daily = (p.rng.uniform(size=count) < chance) * p.rng.gamma(2, 0.5, count)
    return _fill(p, np.cumsum(daily * p.rng.uniform(0.05, 0.35) / (count * chance))[p.days.astype(int)])


def _stationary(p: Process) -> Process:
    return _fill(p, _churn(p, p.rng.uniform(0.002, 0.02), p.rng.uniform(0.5, 20)))


def _shrinking(p: Process) -> Process:
    return _fill(p, _growth(p, -p.rng.uniform(0.05, 0.35)), _churn(p), start=p.rng.uniform(0.5, 0.9))


def _slowing(p: Process) -> Process:
    scale = p.days[-1] * p.rng.uniform(0.15, 0.6)
    return _fill(p, p.rng.uniform(0.1, 0.4) * (1 - np.exp(-p.days / scale)), _churn(p, 0.001))


def _accelerating(p: Process) -> Process:
    double = p.days[-1] * p.rng.uniform(0.3, 0.9)
    end = p.rng.uniform(0.2, 0.6)
    return _fill(p, end * 2 ** ((p.days - p.days[-1]) / double), _churn(p, 0.001), start=0.05)


def _recreated(p: Process) -> Process:
    """Destroyed and made anew under the same name, often with other disks."""
    held = _fill(p, _growth(p, p.rng.uniform(0.05, 0.35)), _churn(p, 0.001))
    again = p.rng.uniform(0.2, 0.85) * p.history_days
    new = p.days >= again
    size = np.where(new, np.round(p.size * p.rng.choice([0.5, 1.0, 2.0, 4.0])), p.size)
    fresh = p.rng.uniform(0.0, 0.1) + np.cumsum(
        np.where(new, np.gradient(_growth(p, p.rng.uniform(0.05, 0.5))), 0)
    )
    return replace(
        held, size=size, alloc=np.where(new, np.round(np.clip(fresh, 1e-4, 0.99) * size), held.alloc)
    )


def _constant(p: Process) -> Process:
    return _fill(p)


def _zero(p: Process) -> Process:
    return replace(p, size=np.zeros_like(p.size))


# --- ways of observing it -----------------------------------------------------------------------------------


def _table(p: Process, keep: NDArray[np.bool_] | None = None, jitter: float = 1.0) -> pd.DataFrame:
    """The rows of an honest monitor: a sample a step, a little late each time."""
    late = np.abs(p.rng.normal(0, jitter, len(p.seconds)))
    table = pd.DataFrame(
        {
            "seq": np.arange(1, len(p.seconds) + 1),
            "arrived": p.seconds + late,
            "size_bytes": p.size,
            "alloc_bytes": p.alloc,
            "free_bytes": p.size - p.alloc,
        }
    )
    table.insert(1, "time", START + pd.to_timedelta((table["arrived"] * 1e6).astype("int64"), unit="us"))
    return table if keep is None else table[keep]


def display(values: Floats) -> Floats:
    """Bytes as ``zpool list`` shows them, read back: three significant digits of a 1024-based unit.

    >>> display(np.array([107.4e9, 1.237 * 2**40, 1000.2 * 2**30]))[1] / 2**40
    np.float64(1.24)
    """
    unit = 1024.0 ** np.floor(np.log2(np.maximum(values, 1)) / 10)
    shown = values / unit
    digits = np.where(shown < 10, 100, np.where(shown < 100, 10, 1))
    return np.asarray(np.round(shown * digits) / digits * unit)


def _rounded(p: Process, table: pd.DataFrame) -> pd.DataFrame:
    columns = ["size_bytes", "alloc_bytes", "free_bytes"]
    return table.assign(**{name: display(table[name].to_numpy()) for name in columns})


def _gaps(p: Process, table: pd.DataFrame) -> pd.DataFrame:
    keep = np.ones(len(table), bool)
    for _ in range(int(p.rng.integers(2, 7))):
        start = p.rng.uniform(0, p.days[-1])
        keep &= ~((p.days > start) & (p.days < start + p.rng.exponential(5)))
    keep[0] = True
    return table[keep]


def _irregular(p: Process, table: pd.DataFrame) -> pd.DataFrame:
    chance = np.clip(np.exp(_churn(p, 1.5, 2.0)) * 0.15, 0.005, 1)
    return table[p.rng.uniform(size=len(table)) < chance]


def _duplicates(p: Process, table: pd.DataFrame) -> pd.DataFrame:
    again = table.sample(frac=0.3, random_state=int(p.rng.integers(2**31)))
    return pd.concat([table, again]).sort_values(["arrived", "seq"], kind="stable")


def _clock(p: Process, table: pd.DataFrame) -> pd.DataFrame:
    """The clock is an hour or three off for some days, and right out of its mind for a few samples."""
    wrong = np.zeros(len(table))
    for _ in range(2):
        start = p.rng.uniform(0, p.history_days)
        off = p.rng.choice([-3, -1, 1, 3]) * 3600
        wrong += np.where((p.days > start) & (p.days < start + p.rng.uniform(0.5, 4)), off, 0)
    mad = p.rng.uniform(0, 0.9 * p.history_days)
    shift = p.rng.choice([-20 * 365.0, 4 * 365.0]) * DAY
    wrong += np.where((p.days > mad) & (p.days < mad + 0.1), shift, 0)
    return table.assign(time=table["time"] + pd.to_timedelta(wrong, unit="s"))


def _exported(p: Process, table: pd.DataFrame) -> pd.DataFrame:
    away = p.rng.uniform(0.2, 0.8) * p.history_days
    back = away + p.rng.uniform(5, 0.3 * p.history_days)
    return table[(p.days < away) | (p.days > back)]


def _dashes(p: Process, table: pd.DataFrame) -> pd.DataFrame:
    table = table.copy()
    for name in ("alloc_bytes", "free_bytes", "size_bytes"):
        table.loc[p.rng.uniform(size=len(table)) < 0.1, name] = np.nan
    table.loc[p.rng.uniform(size=len(table)) < 0.05, ["alloc_bytes", "free_bytes", "size_bytes"]] = np.nan
    return table


def _one(p: Process, table: pd.DataFrame) -> pd.DataFrame:
    before = np.flatnonzero(p.days <= p.history_days)
    return table.iloc[[before[-2]]]


def _few(p: Process, table: pd.DataFrame) -> pd.DataFrame:
    """A pool met some days ago."""
    return table[p.days > p.history_days - p.rng.uniform(2, 14)]


Make = Callable[[Process], Process]
Observe = Callable[[Process, pd.DataFrame], pd.DataFrame]

KINDS: dict[str, tuple[Make, Observe | None]] = {
    "noiseless line": (_line, None),
    "line and noise": (_steady, None),
    "ordinary growth": (_ordinary, None),
    "random walk": (_walk, None),
    "changing slopes": (_slopes, None),
    "drifting slope": (_drifting, None),
    "bursts": (_bursts, None),
    "grown by disks": (_grown, None),
    "big delete": (_delete, None),
    "migration": (_migration, None),
    "sawtooth hour": (_saw_hour, None),
    "sawtooth day": (_saw_day, None),
    "sawtooth week": (_saw_week, None),
    "sawtooth month": (_saw_month, None),
    "snapshot retention": (_retention, None),
    "weekly cycle": (_weekly, None),
    "regular backups": (_backup_regular, None),
    "random backups": (_backup_random, None),
    "stationary": (_stationary, None),
    "shrinking": (_shrinking, None),
    "slowing": (_slowing, None),
    "accelerating": (_accelerating, None),
    "recreated": (_recreated, None),
    "display rounding": (_ordinary, _rounded),
    "gaps": (_ordinary, _gaps),
    "irregular": (_ordinary, _irregular),
    "duplicates": (_ordinary, _duplicates),
    "clock jumps": (_ordinary, _clock),
    "exported": (_ordinary, _exported),
    "dashes": (_ordinary, _dashes),
    "met days ago": (_ordinary, _few),
    "one sample": (_ordinary, _one),
    "constant": (_constant, None),
    "zero bytes": (_zero, None),
}
ONE_ORIGIN = {"one sample", "met days ago"}


def make(kind: str, seed: int) -> Series:
    """One series.

    Parameters
    ----------
    kind : str
        A key of ``KINDS``.
    seed : int
        The same seed gives the same series.

    Examples
    --------
    >>> series = make("big delete", 7)
    >>> list(series.observed.columns)
    ['seq', 'time', 'arrived', 'size_bytes', 'alloc_bytes', 'free_bytes']
    """
    rng = np.random.default_rng([seed, *kind.encode()])
    process, observe = KINDS[kind]
    truth = process(_blank(rng))
    table = _table(truth)
    return Series(kind, seed, truth, observe(truth, table) if observe else table)


def suite(seeds: range) -> Iterator[Series]:
    """Every kind for every seed."""
    return (make(kind, seed) for kind in KINDS for seed in seeds)


def as_pools(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Series as one ``pools`` table: the keys are the pools' names."""
    table = pd.concat(frames.values(), ignore_index=True)
    names = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames.values()])
    table["pool"] = pd.Categorical.from_codes(names, list(frames))
    table["server"] = pd.Categorical.from_codes(np.zeros(len(table), np.int8), ["nas"])
    return table
