"""What people forecast capacity with instead: straight lines, drift, and statsmodels' ETS and Theta.

Each peer takes the observed rows of one pool up to an origin and gives the capacity, percent, for each of the
days 1 to `days` after it. They get every help a careful user would give them: no missing values, no
duplicates, samples in order, clock errors beyond a year dropped, and the daily series of the last value
before each 24 hours' end, with gaps interpolated, so that the time of day is the same as at the targets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def clean(observed: pd.DataFrame) -> tuple[Floats, Floats]:
    """Days before the last sample (negative) and capacity in percent."""
    table = observed.drop_duplicates("time").sort_values("time")
    with np.errstate(invalid="ignore", divide="ignore"):
        percent = (100 * table["alloc_bytes"] / table["size_bytes"]).to_numpy()
    days = table["time"].to_numpy(dtype="datetime64[us]").view(np.int64) / 86_400e6
    known = np.isfinite(percent)
    days, percent = days[known], percent[known]
    if len(days):
        sane = np.abs(days - np.median(days)) < 366
        days, percent = days[sane], percent[sane]
    return (days - days[-1], percent) if len(days) else (days, percent)


def daily(days: Floats, percent: Floats) -> Floats:
    """Last value of each 24 hours, counted back from the last sample; gaps interpolated."""
    ago = np.floor(-days).astype(int)
    last = pd.Series(percent).groupby(ago).last()
    full = last.reindex(range(int(ago.max()), -1, -1)).interpolate()
    return np.asarray(full, dtype=float)


def _line(days: Floats, percent: Floats, ahead: Floats) -> Floats:
    if len(days) < 2 or np.ptp(days) == 0:
        return np.full(len(ahead), percent[-1])
    slope, level = np.polyfit(days, percent, 1)
    return np.asarray(level + slope * ahead)


def ols_7d(days: Floats, percent: Floats, ahead: Floats) -> Floats:
    """Prometheus' predict_linear over 7 days."""
    near = days > -7
    return _line(days[near], percent[near], ahead)


def ols_all(days: Floats, percent: Floats, ahead: Floats) -> Floats:
    return _line(days, percent, ahead)


def drift(days: Floats, percent: Floats, ahead: Floats) -> Floats:
    """From the last value on, at the mean rate from first to last."""
    span = -days[0]
    return np.asarray(
        percent[-1] + (percent[-1] - percent[0]) / span * ahead if span else np.full(len(ahead), percent[-1])
    )


def ets(days: Floats, percent: Floats, ahead: Floats) -> Floats:
    """statsmodels ETS: additive damped trend, with a weekly season where its AICc is lower."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    series = daily(days, percent)
    if len(series) < 8 or np.ptp(series) == 0:
        return np.full(len(ahead), percent[-1])
    fits = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for season in (None, "add") if len(series) >= 21 else (None,):
            model = ETSModel(
                series,
                trend="add",
                damped_trend=True,
                seasonal=season,
                seasonal_periods=7 if season else None,
            )
            fits.append(model.fit(disp=False, maxiter=200))
        best = min(fits, key=lambda fit: fit.aicc if np.isfinite(fit.aicc) else np.inf)
        path = np.asarray(best.forecast(len(ahead)))
    return path if np.isfinite(path).all() else np.full(len(ahead), percent[-1])


def theta(days: Floats, percent: Floats, ahead: Floats) -> Floats:
    """statsmodels Theta with its own test for a weekly season."""
    from statsmodels.tsa.forecasting.theta import ThetaModel

    series = daily(days, percent)
    if len(series) < 8 or np.ptp(series) == 0:
        return np.full(len(ahead), percent[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seasonal = len(series) >= 21
        fit = ThetaModel(
            pd.Series(series), period=7 if seasonal else 1, deseasonalize=seasonal, method="additive"
        ).fit()
        path = np.asarray(fit.forecast(len(ahead)))
    return path if np.isfinite(path).all() else np.full(len(ahead), percent[-1])


PEERS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "OLS 7 days": ols_7d,
    "OLS all": ols_all,
    "drift": drift,
    "ETS": ets,
    "Theta": theta,
}
