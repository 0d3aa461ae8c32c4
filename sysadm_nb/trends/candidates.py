"""The simple forecasts that are blended: each is a level, a slope a bin, and how the slope dies or grows.

``Candidates`` is made once from a history and can then be asked for any origin in it, at the price of one
fit: the sums under the straight lines and the states of the smoothers are kept for every bin.
"""

from __future__ import annotations

import numpy as np

from sysadm_nb.trends import rowwise
from sysadm_nb.trends.history import WEEK, History, long_run_noise
from sysadm_nb.trends.rowwise import Floats, Ints

NAMES = {
    "stays": "stays as it is",
    "drift": "mean rate, jumps included",
    "drift_calm": "mean rate",
    "median_week": "median of weekly changes",
    "median_month": "median of four-weekly changes",
    "line": "line through everything",
    "line_rate": "last level, slope of everything",
    "line_raw": "line through everything, jumps included",
    "line_60": "line through the last 60 bins",
    "line_28": "line through the last 28 bins",
    "holt": "damped smoothing",
    "holt_slow": "slow smoothing",
    "regime_rate": "last level, slope of the current regime",
    "mean": "returns to its mean",
    "bending": "slope that keeps changing as it did",
    "bending_recent": "slope that keeps changing as it lately did",
}
DAMPING = {"line_28": 0.99, "holt": 0.99, "holt_slow": 0.995}
MOST_REACH = 1.5  # growth that speeds up does not do so for long
MOST_TURN = 1.25
# standard deviation of the difference of two lines' slopes through neighbouring stretches of a walk, in parts
# of its steps' over the root of their length
SLOPE_NOISE = 1.55
LEAST_BEND = 1.5  # squared standard errors up to which a bend is none
WHOLE = 10**6  # bins: the whole life


def reach(ahead: Floats | np.float64, damping: Floats) -> Floats:
    """Bins' worth of slope that lie `ahead`: damping^1 + … + damping^ahead, at most MOST_REACH x `ahead`."""
    plain = np.abs(damping - 1) < 1e-7
    with np.errstate(over="ignore"):
        total = damping * (1 - damping**ahead) / np.where(plain, 1, 1 - damping)
    return np.where(plain, ahead, np.minimum(total, MOST_REACH * ahead))


class Candidates:
    """Candidate forecasts from any origin: the number of bins that are known by then."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.first = history.first
        self.pools, self.width = history.smooth.shape
        self.row = np.arange(self.pools)
        self.time = np.arange(self.width) - (self.width - 1.0)
        self.base = np.nan_to_num(history.smooth[:, -1])
        # over longer spans than a week, what comes and goes within days is told from what adds up
        long = long_run_noise(history.smooth, history.first, np.clip(history.bins // 6, WEEK, 4 * WEEK))
        self.noise = np.minimum(history.noise, long)
        self.sums = self._sums(history.smooth)
        self.raw_sums = self._sums(history.level) if history.jumps.any() else self.sums
        self.smoothers = {"holt": self._smoother(0.5, 0.1, 0.99), "holt_slow": self._smoother(0.2, 0.03, 1.0)}
        self.differences = {lag: self._difference(lag) for lag in (7, 28)}
        column = np.where(history.changes, np.arange(self.width), -1)
        self.regime_start = np.maximum.accumulate(column, axis=1)

    def _sums(self, grid: Floats) -> tuple[Floats, Floats]:
        """Running sums of the values and of values times time, from nothing on: (P, D + 1) each."""
        from_end = np.nan_to_num(grid - self.base[:, None])
        none = np.zeros((self.pools, 1))
        return (
            np.concatenate([none, np.cumsum(from_end, axis=1)], axis=1),
            np.concatenate([none, np.cumsum(from_end * self.time, axis=1)], axis=1),
        )

    def _difference(self, lag: int) -> Floats:
        grid = self.history.smooth
        return grid[:, lag:] - grid[:, :-lag] if self.width > lag else np.full((self.pools, 0), np.nan)

    def _smoother(self, level_gain: float, slope_gain: float, damping: float) -> tuple[Floats, Floats]:
        """Holt's level and slope after each bin; gains begin as those of a plain mean. (D, P) each."""
        levels, slopes = np.full((self.width, self.pools), np.nan), np.zeros((self.width, self.pools))
        level, slope = np.full(self.pools, np.nan), np.zeros(self.pools)
        age = np.zeros(self.pools)
        for column in range(self.width):
            value = self.history.smooth[:, column]
            known = np.isfinite(value)
            age += known
            new = age <= 1
            gain = np.maximum(level_gain, 1 / np.maximum(age, 1))
            turn = np.maximum(slope_gain, 1 / np.maximum(age, 1))
            moved = level + gain * (value - level - damping * slope) + damping * slope
            slope = np.where(new | ~known, slope, damping * slope + turn * (moved - level - damping * slope))
            level = np.where(new, value, np.where(known, moved, level))
            levels[column], slopes[column] = level, slope
        return levels, slopes

    def line(self, origin: Ints, length: Ints, raw: bool = False) -> tuple[Floats, Floats]:
        """Least squares over the last `length` bins before each pool's `origin`: value at the end, slope."""
        start = np.minimum(np.maximum(origin - length, self.first), origin - 1)
        count = (origin - start).astype(np.float64)
        values, products = self.raw_sums if raw else self.sums
        total = values[self.row, origin] - values[self.row, start]
        moment = products[self.row, origin] - products[self.row, start]
        end = self.time[origin - 1]
        middle = (self.time[start] + end) / 2
        slope = np.where(count > 1, (moment - middle * total) / np.maximum((count**3 - count) / 12, 0.5), 0.0)
        return total / count + slope * (end - middle) + self.base, slope

    def _mean(self, origin: int) -> Floats:
        start = np.minimum(self.first, origin - 1)
        total = self.sums[0][:, origin] - self.sums[0][self.row, start]
        return np.asarray(total / (origin - start) + self.base)

    def _median_change(self, origin: int, lag: int) -> Floats:
        return rowwise.median(self.differences[lag][:, : max(origin - lag, 0)]) / lag

    def _bending(self, origin: Ints, length: Ints) -> tuple[Floats, Floats]:
        """Slope at the origin and its factor a bin, from the slopes of the last two stretches of `length`.

        Their difference is shrunk by how much of it a walk as noisy as the pool would show by chance.
        """
        length = np.maximum(length, 1)
        _, late = self.line(origin, length)
        _, early = self.line(np.maximum(origin - length, np.minimum(self.first + 1, origin)), length)
        bend = late - early
        with np.errstate(invalid="ignore", divide="ignore"):
            trust = np.maximum(1 - LEAST_BEND * (SLOPE_NOISE * self.noise / bend) ** 2 / length, 0)
        bend = np.where(np.isfinite(trust), bend * trust, 0.0)
        late, early = (late + early + bend) / 2, (late + early - bend) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = np.where(early * late > 0, late / early, 1.0)
        usable = (length >= 10) & np.isfinite(factor)
        damping = np.where(usable, np.clip(factor, 0.15, 1.8) ** (1 / length), 1.0)
        return late * np.minimum(damping ** (length / 2), MOST_TURN), np.where(usable, damping, 1.0)

    def at(self, origin: int) -> tuple[Floats, Floats, Floats]:
        """Level, slope a bin and damping of every candidate, (K, P) each, as of an origin.

        Parameters
        ----------
        origin : int
            Bins known: the width of the grid for a forecast from the newest bin.
        """
        last = self.history.smooth[:, origin - 1]
        zero = np.zeros(self.pools)
        at = np.full(self.pools, origin)
        begin = np.minimum(self.first, origin - 1)
        age = np.maximum(origin - 1 - begin, 1)
        calm = (last - self.history.smooth[self.row, begin]) / age
        raw = (self.history.level[:, origin - 1] - self.history.level[self.row, begin]) / age
        whole = self.line(at, np.full(self.pools, WHOLE))
        fits = dict.fromkeys(NAMES, (last, zero))
        fits["drift"], fits["drift_calm"] = (last, raw), (last, calm)
        weekly = _or(self._median_change(origin, 7), whole[1])
        fits["median_week"] = last, weekly
        fits["median_month"] = last, _or(self._median_change(origin, 28), weekly)
        fits["line"], fits["line_rate"] = whole, (last, whole[1])
        fits["line_raw"] = self.line(at, np.full(self.pools, WHOLE), raw=True)
        for length in (28, 60):
            fits[f"line_{length}"] = self.line(at, np.full(self.pools, length))
        for name, (levels, slopes) in self.smoothers.items():
            fits[name] = levels[origin - 1], slopes[origin - 1]
        start = np.maximum(self.regime_start[:, max(origin - 8, 0)], begin)
        fits["regime_rate"] = last, self.line(at, origin - start)[1]
        fits["mean"] = self._mean(origin), zero
        damping = {name: np.full(self.pools, DAMPING.get(name, 1.0)) for name in NAMES}
        life = np.maximum(origin - self.first, 1)
        for name, part in (("bending", 2), ("bending_recent", 3)):
            slope, damping[name] = self._bending(at, life // part)
            fits[name] = last, np.where(life // part >= 7, slope, whole[1])
        levels, slopes = (np.array([fits[name][i] for name in NAMES]) for i in (0, 1))
        return levels, slopes, np.array([damping[name] for name in NAMES])


def _or(values: Floats, otherwise: Floats) -> Floats:
    return np.where(np.isfinite(values), values, otherwise)
