"""Find the numbers in ``sysadm_nb/trends/coefficients.py``: python -m benchmarks.fit [first seed] [last seed]

What they say is only how much each simple forecast is generally worth trusting, by horizon and length of
history, and how wide an interval must be. They are found on generated series of seeds below 1000;
``benchmarks.trends`` scores on seeds from 1000 on. Weights are fitted by absolute error (each kind of series
counts alike), widths as a quantile regression of the errors (Koenker and Bassett 1978).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks import series
from sysadm_nb.trends import blend, candidates, history, panel

Floats = NDArray[np.float64]
HORIZONS = (3, 7, 14, 30, 60, 90)  # days
# share of outcomes in the 80 % interval on the series fitted: new ones always fall out a little more
# often
AIM = 0.82
# how much larger weights of the prior cost: keeps them near each other where the data say nothing
KEPT = 0.0007


@dataclass(frozen=True)
class Case:
    """One series as seen at one origin."""

    kind: str
    panel: panel.Panel
    lag: float  # days from the last sample to the origin
    truth: Floats  # true capacity, percent, 0 … 90 days after the origin


def cases(seeds: range) -> Iterable[Case]:
    for one in series.suite(seeds):
        for origin in one.origins():
            seen = one.before(origin)
            if not len(seen) or not one.truth.size.any():
                continue
            arrived = one.observed["arrived"]
            lag = max(0.0, origin - float(arrived[arrived <= origin * series.DAY + 60].max()) / series.DAY)
            truth = np.array([one.capacity(origin + day) for day in range(series.FUTURE_DAYS + 1)])
            yield Case(one.kind, panel.read(seen.assign(pool="x"), ["pool"]), lag, truth)


def stack(panels: list[panel.Panel]) -> panel.Panel:
    """Panels of one pool each as one, in percent of the pool's size."""
    width = max(p.mean.shape[1] for p in panels)

    def join(name: str) -> NDArray[np.generic]:
        parts = [np.asarray(getattr(p, name)) for p in panels]
        if parts[0].ndim == 2:
            empty = 0 if name == "count" else np.nan
            parts = [
                np.pad(part, ((0, 0), (width - part.shape[1], 0)), constant_values=empty) for part in parts
            ]
        return np.concatenate(parts)

    joined = {f.name: join(f.name) for f in fields(panel.Panel) if f.name != "keys"}
    percent = 100 / joined["size_now"]
    for name in ("mean", "end"):
        joined[name] = joined[name] * percent[:, None]
    return panel.Panel(pd.DataFrame({"pool": range(len(panels))}), **joined)


def examples(all_cases: list[Case]) -> SimpleNamespace:
    """For each case and horizon: the candidates' forecasts, the evidence, the situation, the truth."""
    found: dict[str, list[NDArray[np.generic]]] = {}
    parts = []
    steps = sorted({float(case.panel.step[0]) for case in all_cases})
    for step in steps:
        group = [case for case in all_cases if case.panel.step[0] == step]
        taken = history.take_apart(stack([case.panel for case in group]))
        tried = candidates.Candidates(taken)
        tries = blend.try_out(taken, tried)
        level, slope, damping = tried.at(taken.smooth.shape[1])
        lag = np.array([case.lag for case in group])
        for horizon in HORIZONS:
            ahead = (horizon + lag) / step
            path = np.clip(level + slope * candidates.reach(ahead, damping), 0, 100)
            case = blend.situation(taken, ahead)
            parts.append((taken, tries, path, ahead))
            row = {
                "kind": np.array([case.kind for case in group]),
                "horizon": np.full(len(group), horizon),
                "ahead": ahead,
                "bins": taken.bins.astype(float),
                "path": path.T,
                "extra": taken.at_phase(ahead[:, None])[:, 0],
                "views": blend.evidence(tries, ahead).transpose(2, 0, 1),
                "case": case.T,
                "truth": np.array([case.truth[horizon] for case in group]),
            }
            for name, values in row.items():
                found.setdefault(name, []).append(values)
    return SimpleNamespace(**{name: np.concatenate(values) for name, values in found.items()}, parts=parts)


def fit_weights(x: SimpleNamespace, kept: NDArray[np.intp], use: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Prior (5, K) and power (2, 2) by mean absolute error, in parts of what the best candidate does on the
    kind."""
    errors = np.abs(np.clip(x.path + x.extra[:, None], 0, 100) - x.truth[:, None])
    scale = np.ones(len(x.truth))
    for kind in set(x.kind):
        for horizon in HORIZONS:
            at = (x.kind == kind) & (x.horizon == horizon)
            whole = errors[x.kind == kind].mean(axis=0).min()
            scale[at] = 0.5 * max(whole, 0.06) + 0.5 * max(errors[at].mean(axis=0).min(), 0.04)
    path, views, case = x.path[:, kept], x.views[:, :, kept], x.case
    forms, count = case.shape[1], len(kept)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        power, prior = parameters[:4].reshape(2, 2), parameters[4:].reshape(forms, count)
        weight = blend.weigh(views.transpose(1, 2, 0), case.T, prior, power).T
        forecast = (weight * path).sum(axis=1) + x.extra
        miss = np.clip(forecast, 0, 100) - x.truth
        inside = (forecast > 0) & (forecast < 100)
        value = (np.abs(miss) / scale)[use].mean() + KEPT * (prior**2).sum() / count
        pull = (
            (np.sign(miss) * inside / scale * use / use.sum())[:, None]
            * weight
            * (path - (forecast - x.extra)[:, None])
        )
        steep = np.maximum(power[:, :1] + power[:, 1:] * case[:, 1], 0) > 0
        gained = -np.einsum("nk,nvk,vn->vn", pull, views, steep.astype(float))
        slopes = np.stack([gained.sum(axis=1), (gained * case[:, 1]).sum(axis=1)], axis=1)
        return value, np.concatenate([slopes.ravel(), (case.T @ pull + 2 * KEPT * prior / count).ravel()])

    start = np.concatenate([[2.0, 0, 4.0, 0], np.zeros(forms * count)])
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 400})
    return best.x[4:].reshape(forms, count), best.x[:4].reshape(2, 2)


def blended(x: SimpleNamespace, prior: Floats, power: Floats) -> tuple[Floats, Floats]:
    """The blend's forecasts, percent of capacity, and the doubts (N, 4) about them."""
    weight = blend.weigh(x.views.transpose(1, 2, 0), x.case.T, prior, power)
    centre = np.clip((weight.T * x.path).sum(axis=1) + x.extra, 0, 100)
    doubts, start = [], 0
    for taken, tries, path, ahead in x.parts:
        mine = weight[:, start : start + len(ahead)]
        doubts.append(blend.doubt(taken, tries, mine, path, ahead).T)
        start += len(ahead)
    return centre, np.concatenate(doubts)


def fit_widths(x: SimpleNamespace, doubts: Floats, centre: Floats) -> Floats:
    """Factors (4, 3) of the doubts: the logs' pinball loss, so that small and large errors count alike."""
    miss = np.log(np.abs(centre - x.truth) + 0.001)
    known = x.bins >= 3

    def loss(factors: Floats) -> float:
        half = blend.half_width(doubts.T, x.case.T, x.ahead, x.bins, factors.reshape(4, 3))
        short = miss - np.log(half + 0.001)
        return float(
            np.where(short > 0, AIM * short, (AIM - 1) * short)[known].mean() + 1e-3 * (factors**2).sum()
        )

    start = np.tile([-0.5, 0.0, 0.0], 4)
    best = minimize(loss, start, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(best.x.reshape(4, 3))


def write(prior: Floats, power: Floats, width: Floats, seeds: range) -> None:
    """Write ``coefficients.py``."""
    names = list(candidates.NAMES)
    rows = "\n".join(
        f'    "{name}": ({", ".join(f"{value:.2f}" for value in prior[:, k])}),'
        for k, name in enumerate(names)
    )

    def matrix(values: Floats) -> str:
        rows = "".join(f"        [{', '.join(f'{value:.3f}' for value in row)}],\n" for row in values)
        return f"(\n    [\n{rows}    ]\n)"

    Path(blend.coefficients.__file__).write_text(
        f'''"""How much each simple forecast is worth trusting, and how wide intervals are.

Written by ``python -m benchmarks.fit``, not by hand, from series of seeds {seeds.start} to {seeds.stop - 1}.
"""

from __future__ import annotations

import numpy as np

# log weight: always, for each unit of horizon, of length of history, of age of the regime, of plainness
TRUST = {{
{rows}
}}
PRIOR = np.array(list(TRUST.values())).T
# how steeply weights fall with relative error: near and far view, each always and for each unit of horizon
POWER = np.array{matrix(power)}
# log factors of past errors, disagreement, noise, scatter: always, by horizon, by extrapolation
WIDTH = np.array{matrix(width)}
''',
        encoding="utf-8",
    )


def main(first: int, last: int) -> None:
    seeds = range(first, last + 1)
    x = examples(list(cases(seeds)))
    everything = np.ones(len(x.truth), bool)
    prior, power = fit_weights(x, np.arange(len(candidates.NAMES)), everything)
    centre, doubts = blended(x, prior, power)
    width = fit_widths(x, doubts, centre)
    write(prior, power, width, seeds)
    half = blend.half_width(doubts.T, x.case.T, x.ahead, x.bins, width)
    print(f"{len(x.truth)} forecasts of seeds {first} to {last}")
    print(f"mean absolute error {np.abs(centre - x.truth).mean():.3f} points of capacity")
    print(f"80 % interval covers {100 * (np.abs(centre - x.truth) <= half + 1e-9)[x.bins >= 3].mean():.1f} %")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]) if len(sys.argv) > 2 else (0, 29))
