"""Figures, and datasets sampled from a real server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import sysadm_nb as sa
from sysadm_nb import trends
from sysadm_nb.errors import InputError
from sysadm_nb.trends.sampling import DatasetSamples

GB = 1e9
Make = Callable[..., pd.DataFrame]


@pytest.fixture(autouse=True)
def _no_window() -> Iterator[None]:
    mpl.use("agg")
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


def test_a_curve_with_its_band_limit_and_gaps(make: Make) -> None:
    pools = make(200 * GB + 4 * GB * np.arange(60))
    pools = pools[(np.arange(60) < 20) | (np.arange(60) > 40)]
    ax = trends.plot(trends.forecast_path(pools), pools=pools)
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["nas/tank forecast", "nas/tank", "80 % of nas/tank"]
    drawn = ax.lines[1].get_ydata()
    assert np.isnan(np.asarray(drawn, dtype=float)).sum() == 1  # the gap is open
    assert np.asarray(ax.lines[2].get_ydata(), dtype=float) == pytest.approx(800 * GB)
    ax.figure.canvas.draw()
    ticks = [label.get_text() for label in ax.get_yticklabels()]
    assert "200G" in ticks, ticks  # round in the unit the axis is in
    assert len(ax.collections) == 1  # the band


def test_a_plan_of_dates(make: Make) -> None:
    pools = pd.concat([make(200 * GB + 4 * GB * np.arange(60)), make([GB], name="new")])
    ax = trends.plot(trends.forecast(pools))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["nas/tank", "nas/new"]
    assert [text.get_text() for text in ax.texts] == ["too little to say: 1 sample over 0 minutes"]
    with pytest.raises(InputError, match="forecast_path"):
        trends.plot(pools)


def test_which_dataset_grows() -> None:
    with sa.demo() as monitor:
        stop = monitor.sample_datasets("1s")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not _thrice(monitor.datasets):
            time.sleep(0.2)
        stop()
        grown = trends.datasets(monitor)
        assert set(grown.columns) >= {"server", "pool", "dataset", "used_bytes", "growth_bytes_per_day"}
        assert (grown["dataset"].str.split("/").str[0] == grown["pool"].astype(str)).all()
        assert grown["samples"].min() >= 3
        count = len(monitor.datasets)
        time.sleep(1.5)
        assert len(monitor.datasets) == count  # stopped is stopped
    with pytest.raises(InputError, match="connected"):
        trends.datasets(sa.Tables())


def _thrice(samples: pd.DataFrame) -> bool:
    return not samples.empty and bool((samples.groupby("dataset")["time"].nunique() >= 3).all())


def test_samples_are_bounded_and_odd_replies_harmless() -> None:
    samples = DatasetSamples(max_samples=10)
    for reply in (None, [], {"datasets": []}, {"datasets": {"tank": None}}, {"other": 1}):
        samples.append("nas", "tank", reply, 0)
    assert samples.frame().empty
    assert trends.dataset_growth(samples.frame()).empty
    for day in range(20):
        samples.append("nas", "tank", {"datasets": {"tank": {"used": "-", "avail": "9G"}}}, day)
    assert len(samples.frame()) == 10
    assert samples.frame()["used_bytes"].isna().all()
    assert str(samples.frame()["time"].dtype) == "datetime64[us, UTC]"
