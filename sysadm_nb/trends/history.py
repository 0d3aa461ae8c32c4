"""What a pool's past is made of: a level with one-off jumps, slopes that change, a cycle, and the time of
day.

All of it is found on the grid of ``panel``; nothing here knows of pools' names or of times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sysadm_nb.trends import rowwise
from sysadm_nb.trends.panel import Panel
from sysadm_nb.trends.rowwise import Floats, Ints

Bools = NDArray[np.bool_]

WEEK = 7  # bins of a day in the cycle people live by
MONTH = 45  # bins without a clean-up after which it is not a monthly one
LEAST_REGIME = 10  # bins: shorter stretches are no regime
CHANGE_SIGNIFICANCE = 3.2  # standard errors between two slopes, the largest of many being looked at
JUMP_RATIO = 3.0  # a one-off jump is so many times the largest ordinary change


@dataclass(frozen=True)
class History:
    """A pool's past, taken apart; (P, D) like the panel, bytes."""

    first: Ints  # column where this pool's life begins: its first sample, or when it was made anew
    reborn: Bools  # the life began with the pool made anew under an old name
    mean: Floats  # mean allocation of each bin, gaps filled
    level: Floats  # the same without the cycle
    smooth: Floats  # the same with one-off jumps taken out: past levels moved to today's
    jumps: Floats  # one-off jump at each bin, 0 for none
    kept: Floats  # drops that stand alone too, but may be those of a monthly clean-up: not taken out
    changes: Bools  # bins where another slope begins
    cycle: Floats  # (P, C) cycle by bin, column C-1 for the newest bin's phase
    end_of_bin: Floats  # (P, C) last value of a bin minus its mean, same phases
    scatter: Floats  # (P,) standard deviation of a single sample around its bin's course
    noise: Floats  # (P,) long-run standard deviation of the change a bin
    bins: Ints  # (P,) bins in this life

    def at_phase(self, ahead: Floats) -> Floats:
        """Cycle and end-of-bin offset, (P, H), so many bins (P, H) after the newest."""
        period = self.cycle.shape[1]
        phase = (np.rint(ahead).astype(np.int64) - 1) % period
        return np.take_along_axis(self.cycle + self.end_of_bin, phase, axis=1)


def take_apart(panel: Panel) -> History:
    """Take the histories of a panel apart."""
    mean = rowwise.fill(_without_stub(panel))
    width = mean.shape[1]
    seen = rowwise.first_known(mean)
    first = np.maximum(seen, _made_anew(mean, rowwise.fill(panel.size)))
    mean = np.where(np.arange(width) < first[:, None], np.nan, mean)
    # only whole days have a cycle that can be told from growth; shorter bins are used for histories of a
    # few days
    daily = panel.step == 1.0
    cycle = np.where(daily[:, None], cycle_of(mean), 0.0)
    late = panel.end - panel.mean
    late = np.where(np.arange(width) < first[:, None], np.nan, late)
    end_of_bin = np.where(daily[:, None], cycle_of(rowwise.fill(late)), 0.0)
    end_of_bin += _usual(late[:, -2 * WEEK :])[:, None]
    stray = (late - end_of_bin[:, (np.arange(width) - width) % WEEK])[:, -4 * WEEK :]
    stray_known = np.isfinite(stray)
    scatter = np.sqrt(np.where(stray_known, stray**2, 0).sum(axis=1) / np.maximum(stray_known.sum(axis=1), 1))
    level = mean - cycle[:, (np.arange(width) - width) % WEEK]
    jumps = one_off_jumps(level)
    kept = np.where((jumps < 0) & _may_recur(level, jumps, first)[:, None], jumps, 0.0)
    jumps = jumps - kept
    smooth = level + jumps.sum(axis=1, keepdims=True) - np.cumsum(jumps, axis=1)
    noise = long_run_noise(smooth, first)
    return History(
        first,
        first > seen,
        mean,
        level,
        smooth,
        jumps,
        kept,
        slope_changes(smooth, first, noise),
        cycle,
        end_of_bin,
        scatter,
        noise,
        np.where(np.isfinite(mean).any(axis=1), width - first, 0),
    )


def _without_stub(panel: Panel) -> Floats:
    """Bin means without a first bin that is only partly filled, whose mean is that of its end."""
    first = rowwise.first_known(panel.mean)
    row = np.arange(len(first))
    filled = panel.count > 0
    usual = panel.count.sum(axis=1) / np.maximum(filled.sum(axis=1), 1)
    stub = (panel.count[row, first] < 0.9 * usual) & (filled.sum(axis=1) > 4)
    mean = panel.mean.copy()
    mean[row[stub], first[stub]] = np.nan
    return mean


def _made_anew(mean: Floats, size: Floats) -> Ints:
    """Column where a pool was last made anew: nearly all gone at once, or half gone and another size."""
    if mean.shape[1] < 3:
        return np.zeros(len(mean), np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = mean[:, 1:] / mean[:, :-1]
        resized = np.abs(size[:, 1:] / size[:, :-1] - 1) > 0.02
    over_two = ratio.copy()  # the fall can straddle two bins
    over_two[:, 1:] = np.fmin(ratio[:, 1:], ratio[:, 1:] * ratio[:, :-1])
    resized_two = resized.copy()
    resized_two[:, 1:] |= resized[:, :-1]
    anew = (over_two < 0.1) | ((over_two < 0.5) & resized_two)
    return np.asarray(np.where(anew, np.arange(1, mean.shape[1]), 0).max(axis=1))


def cycle_of(grid: Floats, period: int = WEEK, keep: int = 16) -> Floats:
    """A cycle of `period` bins, shrunk towards nothing by how much of it could be chance; (P, period).

    Medians by phase of what a moving mean leaves, over the last `keep` periods.
    """
    pools, width = grid.shape
    none = np.zeros((pools, period))
    periods = min(keep, width // period)
    if periods < 2:
        return none
    half = period // 2
    sums = np.cumsum(np.concatenate([np.zeros((pools, 1)), np.nan_to_num(grid)], axis=1), axis=1)
    rest = np.full(grid.shape, np.nan)
    rest[:, half : width - half] = (
        grid[:, half : width - half] - (sums[:, period:] - sums[:, :-period]) / period
    )
    first = rowwise.first_known(grid)[:, None]
    column = np.arange(width)
    rest[(column < first + half) | (width - column > (width - first) // period * period)] = np.nan
    recent = rest[:, width - periods * period :].reshape(pools, periods, period)
    cycle = rowwise.median(recent.transpose(0, 2, 1).reshape(-1, periods)).reshape(pools, period)
    cycle -= cycle.mean(axis=1, keepdims=True)
    known = np.isfinite(recent)
    seen = known.sum(axis=1).min(axis=1)
    scatter = np.where(known, (recent - cycle[:, None, :]) ** 2, 0).sum(axis=(1, 2)) / np.maximum(
        known.sum(axis=(1, 2)), 1
    )
    strength = cycle.var(axis=1) * period / (period - 1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a median's variance is pi/2 times a mean's
        trust = np.clip(1 - np.pi * scatter / np.maximum(seen, 1) / strength, 0, 1)
    return np.where(((seen >= 2) & np.isfinite(trust))[:, None], np.nan_to_num(cycle * trust[:, None]), none)


def _usual(grid: Floats) -> Floats:
    """Median of each row, shrunk towards 0 by its own uncertainty."""
    middle = rowwise.median(grid)
    spread = 1.4826 * rowwise.median(np.abs(grid - middle[:, None]))
    error = spread**2 * np.pi / 2 / np.maximum(np.isfinite(grid).sum(axis=1), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        trust = np.clip(1 - 2 * error / middle**2, 0, 1)
    return np.where(np.isfinite(trust), middle * trust, 0.0)


def one_off_jumps(level: Floats) -> Floats:
    """Jumps that stand alone: far larger than any ordinary change, and too rare to be how the pool works.

    A backup every Sunday or a clean-up every month is growth or its opposite; one big delete or one migration
    is neither, and its bytes must not be taken for a rate. A jump may be spread over neighbouring bins.
    """
    jumps = np.zeros(level.shape)
    if level.shape[1] < 7:
        return jumps
    change = np.diff(level, axis=1)
    known = np.isfinite(change).sum(axis=1)
    departure = change - rowwise.median(change)[:, None]
    size = np.nan_to_num(np.abs(departure))
    ordinary = 8 * 1.4826 * rowwise.median(np.abs(departure))
    largest = -np.sort(-size, axis=1)
    least = np.full(len(level), np.inf)
    for count in range(1, min(10, size.shape[1] - 1)):
        smallest = largest[:, count - 1]
        apart = (smallest >= JUMP_RATIO * largest[:, count]) & (smallest > ordinary) & (known >= 6)
        row = np.flatnonzero(apart & (count <= np.maximum(3, known // 12)))
        if not len(row):
            continue
        jump = size[row] >= smallest[row, None]
        begins = jump.copy()
        begins[:, 1:] &= ~jump[:, :-1]
        up = (begins & (departure[row] > 0)).sum(axis=1)
        down = (begins & (departure[row] < 0)).sum(axis=1)
        rare = np.maximum(up, down) <= np.maximum(1, known[row] // 120)
        rare &= up + down <= np.maximum(1, known[row] // 25)
        least[row[rare]] = smallest[row[rare]]
    jumps[:, 1:] = np.where(size >= least[:, None], departure, 0)
    return np.nan_to_num(jumps)


def _may_recur(level: Floats, jumps: Floats, first: Ints) -> Bools:
    """Pools whose drops may be those of a cycle as short as a month: two months show but one or two.

    No stretch without a drop is longer than that, and none takes back more than was gained in so long.
    """
    drop = jumps < 0
    recur = np.asarray(drop.any(axis=1))
    at = np.flatnonzero(recur)
    if not len(at):
        return recur
    drop, width = drop[at], level.shape[1]
    column = np.arange(width)
    begin = first[at, None]
    marks = np.maximum.accumulate(np.where(drop, column, np.minimum(column, begin)), axis=1)
    calm = level[at, -1] - jumps[at].sum(axis=1) - level[at, first[at]]
    gained = MONTH * calm / np.maximum(width - 1 - first[at], 1)
    taken = -(np.where(drop, jumps[at], 0)).min(axis=1)  # a drop over two bins is mostly in one of them
    recur[at] = ((column - marks).max(axis=1) <= MONTH) & (taken <= gained)
    return recur


def long_run_noise(smooth: Floats, first: Ints, span: Ints | int = WEEK) -> Floats:
    """Standard deviation of the change a bin that adds up over time, from differences of changes over `span`
    bins, as a rule a week.

    Histories of less than two such spans and two bins use shorter ones.
    """
    width = smooth.shape[1]
    spans = np.minimum(span, (width - first - 2) // 2)
    noise = np.zeros(len(smooth))
    for span in np.unique(spans[spans > 0]):
        rows = smooth[spans == span]
        bend = rows[:, 2 * span :] - 2 * rows[:, span:-span] + rows[:, : -2 * span]
        known = np.isfinite(bend)
        square = np.where(known, bend, 0) ** 2
        rms = np.sqrt(square.sum(axis=1) / np.maximum(known.sum(axis=1), 1))
        typical = 1.4826 * np.nan_to_num(rowwise.median(np.abs(bend)))
        noise[spans == span] = np.maximum(rms, typical) / np.sqrt(2 * span)
    return noise


def slope_changes(smooth: Floats, first: Ints, noise: Floats, most: int = 8) -> Bools:
    """Where the rate changed for good, by binary segmentation on the mean change left and right; (P, D).

    A walk's own wandering is no change: slopes are compared with the long-run noise of changes, not with the
    scatter around a line.
    """
    pools, width = smooth.shape
    changes = np.zeros((pools, width), bool)
    if width < 2 * LEAST_REGIME + 1:
        return changes
    path = np.nan_to_num(rowwise.smooth(smooth))
    floor = 1e-9 * np.abs(path).max(axis=1)  # rounding of floats is no noise to measure slopes by
    error = np.maximum(noise, floor)
    column = np.arange(width)
    start, end = np.repeat(first[:, None], width, axis=1), np.full((pools, width), width - 1)
    live = np.arange(pools)
    for _ in range(most):
        s, e, p = start[live], end[live], path[live]
        left, right = column - s, e - column
        with np.errstate(invalid="ignore", divide="ignore"):
            before = (p - np.take_along_axis(p, s, axis=1)) / left
            after = (np.take_along_axis(p, e, axis=1) - p) / right
            score = np.abs(before - after) / (error[live, None] * np.sqrt(1 / left + 1 / right))
        score = np.where((left >= LEAST_REGIME) & (right >= LEAST_REGIME), score, 0)
        at = score.argmax(axis=1)
        hit = score[np.arange(len(live)), at] > CHANGE_SIGNIFICANCE
        live, at = live[hit], at[hit]
        if not len(live):
            break
        changes[live, at] = True
        s0, e0 = start[live, at][:, None], end[live, at][:, None]
        inside = (column >= s0) & (column <= e0)
        end[live] = np.where(inside & (column < at[:, None]), at[:, None], end[live])
        start[live] = np.where(inside & (column >= at[:, None]), at[:, None], start[live])
    return changes
