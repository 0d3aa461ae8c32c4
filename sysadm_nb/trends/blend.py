"""The forecast: candidates weighted by how they would have done in the pool's past, and how sure that is.

Every candidate is tried from origins all over the pool's history, at horizons from a day to three months. The
relative errors, with what is generally worth trusting at such a horizon after such a history, give the
weights; the blend's own errors, the candidates' disagreement and the noise of daily changes give the width of
the interval. The few numbers that say what is generally worth trusting are in ``coefficients.py``; ``python
-m benchmarks.fit`` finds them.

Forecasts of other pools never matter to a pool's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sysadm_nb.trends import coefficients
from sysadm_nb.trends.candidates import NAMES, Candidates, reach
from sysadm_nb.trends.history import History
from sysadm_nb.trends.rowwise import Floats

TRIED = np.array([1, 3, 7, 14, 21, 30, 45, 60, 90])  # bins ahead
# bins back
ORIGINS = np.array([1, 3, 5, 7, 9, 11, 14, 17, 21, 25, 30, 36, 45, 52, 60, 75, 90, 110, 130, 150, 180])
JUMPS_COUNT = 0.4  # how far errors at one-off jumps, which nobody can foresee, count
DOUBTED = 4.0  # tries that count as much as knowing nothing
WIDTHS = (1.0, 3.0)  # how near, in log horizon, tries must be to count: two views


@dataclass(frozen=True)
class Tries:
    """What the candidates would have been worth; K candidates, P pools, T horizons of TRIED."""

    relative: Floats  # (K, P, T) mean absolute error in parts of the median candidate's
    count: Floats  # (P, T) tries
    worth: Floats  # (P, T) weight of the horizon's tries
    signed: list[tuple[int, Floats, Floats]]  # horizon's number, errors (K, P), which pools (P,)


@dataclass(frozen=True)
class Blend:
    """Forecasts at H horizons, in bytes: the centre and the half width of the 80 % interval, (P, H) each."""

    ahead: Floats  # (P, H) bins
    centre: Floats
    half: Floats
    weights: Floats  # (K, P, H)
    slopes: Floats  # (K, P) the candidates' bytes a bin, now


def try_out(history: History, candidates: Candidates) -> Tries:
    """Forecast the known past from earlier origins."""
    smooth, first = history.smooth, history.first
    pools, width = smooth.shape
    later = history.jumps.sum(axis=1, keepdims=True) - np.cumsum(history.jumps, axis=1)
    jumpy = bool(history.jumps.any())
    raw = list(NAMES).index("line_raw")
    error, count = np.zeros((len(NAMES), pools, len(TRIED))), np.zeros((pools, len(TRIED)))
    signed = []
    for back in ORIGINS[width - 3 >= ORIGINS]:
        origin = width - int(back)
        level, slope, damping = candidates.at(origin)
        if jumpy:
            level[raw] += later[:, origin - 1]
        life = origin - first
        for number, ahead in enumerate(TRIED[back >= TRIED]):
            target = origin - 1 + int(ahead)
            miss = level + slope * reach(np.float64(ahead), damping) - smooth[:, target]
            usable = (life >= max(3, ahead / 2)) & np.isfinite(miss).all(axis=0)
            if not usable.any():
                continue
            size = np.abs(miss)
            if jumpy:
                jumped = later[:, origin - 1] - later[:, target]
                size = (1 - JUMPS_COUNT) * size + JUMPS_COUNT * np.abs(miss - jumped)
            error[:, :, number] += np.where(usable, size, 0)
            count[:, number] += usable
            signed.append((number, np.where(usable, miss, 0), usable))
    usual = np.maximum(np.median(error, axis=0), 1e-3 * error.mean(axis=0))  # most may be right to the byte
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(usual > 0, error / usual, 1.0)
    worth = np.sqrt(np.minimum(count, history.bins[:, None] / TRIED))
    return Tries(relative, count, worth, signed)


def evidence(tries: Tries, ahead: Floats) -> Floats:
    """Log relative error of the candidates around a horizon, (2, K, P); 0 where nothing is known of it.

    Shrunk towards 0 by how little was tried.
    """
    views = []
    for width in WIDTHS:
        near = tries.worth * np.exp(-(np.log(ahead[:, None] / TRIED) ** 2) / (2 * width**2))
        total = near.sum(axis=1)
        share = near / np.maximum(total, 1e-300)[:, None]
        mean = np.einsum("kpt,pt->kp", tries.relative, share)
        views.append(np.where(total > 1e-12, np.log(mean + 0.005) * total / (total + DOUBTED), 0.0))
    return np.array(views)


def situation(history: History, ahead: Floats) -> Floats:
    """What weights depend on beside the evidence, (5, P): 1, horizon, length of history, age of the
    regime, and how plain the trend is: the change in all, in parts of what wandering alone would do.
    """
    bins = np.maximum(history.bins, 1)
    width = history.smooth.shape[1]
    column = np.where(history.changes, np.arange(width), -1).max(axis=1)
    regime = width - np.maximum(np.where(column <= width - 8, column, -1), history.first)
    row = np.arange(len(bins))
    change = np.abs(history.smooth[:, -1] - history.smooth[row, np.minimum(history.first, width - 1)])
    with np.errstate(invalid="ignore", divide="ignore"):
        plain = np.log(change / (history.noise * np.sqrt(bins)))
    return np.stack(
        [
            np.ones(len(bins)),
            np.clip(np.log(ahead / 25) / 2, -1.5, 1.5),
            np.clip(np.log(np.maximum(bins, 2) / 100) / 2, -1.5, 1.0),
            np.clip(np.log(bins / np.maximum(regime, 1)) * 0.7, 0, 1.5),
            np.clip(np.where(np.isnan(plain), 0.0, plain), -1.5, 1.5),
            np.clip(np.log(ahead / bins), 0, 2.0),
        ]
    )


def weigh(views: Floats, case: Floats, prior: Floats, power: Floats) -> Floats:
    """Weights (K, P) from evidence (2, K, P), situation (5, P), prior (5, K) and power (2, 2)."""
    steepness = np.maximum(power[:, :1] + power[:, 1:] * case[1], 0)
    score = prior.T @ case - (steepness[:, None, :] * views).sum(axis=0)
    weights = np.exp(score - score.max(axis=0))
    return np.asarray(weights / weights.sum(axis=0))


def doubt(history: History, tries: Tries, weights: Floats, paths: Floats, ahead: Floats) -> Floats:
    """How wrong the blend may be, (4, P) bytes: past errors, disagreement, noise, scatter of samples."""
    own = np.zeros((len(ahead), len(TRIED)))
    for number, miss, _ in tries.signed:
        own[:, number] += np.abs((weights * miss).sum(axis=0))
    own = own / np.maximum(tries.count, 1)
    near = np.sqrt(tries.count) * np.exp(-(np.log(ahead[:, None] / TRIED) ** 2) / 2)
    grown = own * (ahead[:, None] / TRIED) ** 0.8
    past = (near * grown).sum(axis=1) / np.maximum(near.sum(axis=1), 1e-300)
    centre = (weights * paths).sum(axis=0)
    apart = np.sqrt((weights * (paths - centre) ** 2).sum(axis=0))
    return np.stack([past, apart, history.noise * np.sqrt(ahead), history.scatter])


def half_width(doubts: Floats, case: Floats, ahead: Floats, bins: Floats, factors: Floats) -> Floats:
    """Half width of the 80 % interval: the doubts with factors exp(a + b·horizon + c·extrapolation).

    Errors of the course add up; the scatter of samples is independent of them and adds in squares.
    """
    far = np.clip(np.log(np.maximum(ahead, 1) / np.maximum(bins, 1)), -3, 3)
    scale = np.exp(factors[:, :1] + factors[:, 1:2] * case[1] + factors[:, 2:3] * far)
    course, scatter = (scale * doubts)[:3].sum(axis=0), (scale * doubts)[3]
    return np.asarray(np.hypot(course, scatter))


def blend(history: History, ahead: Floats, size: Floats) -> Blend:
    """Forecast the mean allocation of bins to come (cycle and time of day are added by the caller).

    Parameters
    ----------
    history : History
    ahead : (P, H) array
        Horizons in bins.
    size : (P,) array
        Sizes of the pools. No candidate may promise more than twice as much: one held to the size itself
        would hold back the day when the pool is full, until the last of them has come to it.
    """
    candidates = Candidates(history)
    tries = try_out(history, candidates)
    level, slope, damping = candidates.at(history.smooth.shape[1])
    centres, halves, weights = [], [], []
    for horizon in ahead.T:
        case = situation(history, np.maximum(horizon, 1))
        weight = weigh(evidence(tries, np.maximum(horizon, 1)), case, coefficients.PRIOR, coefficients.POWER)
        path = np.clip(level + slope * reach(horizon, damping), 0, 2 * size)
        centres.append((weight * path).sum(axis=0))
        doubts = doubt(history, tries, weight, path, horizon)
        halves.append(half_width(doubts, case, horizon, history.bins.astype(float), coefficients.WIDTH))
        weights.append(weight)
    weight = np.array(weights).transpose(1, 2, 0)
    return Blend(ahead, np.array(centres).T, np.array(halves).T, weight, slope)
