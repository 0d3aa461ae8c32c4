"""Growth and forecasts of pools: functions from the ``pools`` table, or any frame like it, to frames.

>>> import numpy as np, pandas as pd
>>> from sysadm_nb import trends
>>> pools = pd.DataFrame({
...     "time": pd.date_range("2026-01-01", periods=60, freq="D", tz="UTC"), "server": "nas", "pool": "tank",
...     "size_bytes": 1000e9, "alloc_bytes": 500e9 + 4e9 * np.arange(60),
... })
>>> [trends.phrase(row) for row in trends.forecast(pools).to_dict("records")]
['80 % in about 16 days (16 to 16)']
"""

from sysadm_nb.trends.causes import events_that_changed
from sysadm_nb.trends.courses import regimes
from sysadm_nb.trends.figures import plot
from sysadm_nb.trends.forecasts import forecast, forecast_path, phrase
from sysadm_nb.trends.rates import growth
from sysadm_nb.trends.sampling import dataset_growth, datasets

__all__ = [
    "dataset_growth",
    "datasets",
    "events_that_changed",
    "forecast",
    "forecast_path",
    "growth",
    "phrase",
    "plot",
    "regimes",
]
