"""What must not matter to a forecast, and what must."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadm_nb import trends
from tests.trends.conftest import pool

COLUMNS = ["days", "days_lower", "days_upper", "probability", "growth_bytes_per_day"]


@st.composite
def histories(draw: st.DrawFn) -> pd.DataFrame:
    """A table of one to three pools: growth, noise, a jump, a gap; hours or days apart."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    frames = []
    for number in range(draw(st.integers(1, 3))):
        count = draw(st.integers(1, 200))
        steps = rng.gamma(1, draw(st.floats(0, 5)), count) + rng.normal(
            0, draw(st.sampled_from([0, 0.5, 5])), count
        )
        alloc = np.clip(300 + np.cumsum(steps), 1, 990)
        if draw(st.booleans()):
            alloc = np.clip(alloc - 200 * (np.arange(count) > count // 2), 1, None)
        frame = pool(alloc * 1e9, every=draw(st.sampled_from(["1h", "7h", "1D"])), name=f"tank{number}")
        frame = frame[(rng.uniform(size=count) < draw(st.floats(0.5, 1))) | (np.arange(count) == 0)]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def same(one: pd.DataFrame, other: pd.DataFrame, **tolerance: float) -> None:
    one, other = (table.sort_values(["server", "pool"]).reset_index(drop=True) for table in (one, other))
    pd.testing.assert_frame_equal(one, other, check_dtype=False, **tolerance)  # type: ignore[arg-type]


@settings(max_examples=12)
@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(pools: pd.DataFrame, random: object) -> None:
    order = list(range(len(pools)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = pools.iloc[order]
    same(trends.forecast(pools), trends.forecast(shuffled))
    same(trends.growth(pools), trends.growth(shuffled))


@settings(max_examples=12)
@given(histories(), st.integers(2, 4))
def test_duplicated_rows_do_not_matter(pools: pd.DataFrame, times: int) -> None:
    doubled = pd.concat([pools, *[pools.iloc[:: times - 1]] * (times - 1)])
    same(trends.forecast(pools), trends.forecast(doubled))
    same(trends.growth(pools), trends.growth(doubled))


@settings(max_examples=8)
@given(histories(), st.sampled_from(["s", "ms", "us", "ns"]), st.booleans())
def test_the_unit_of_time_does_not_matter(pools: pd.DataFrame, unit: str, naive: bool) -> None:
    time = pools["time"].dt.as_unit(unit)
    other = pools.assign(time=time.dt.tz_localize(None) if naive else time.dt.tz_convert("Asia/Kolkata"))
    same(trends.forecast(pools), trends.forecast(other))


@settings(max_examples=12)
@given(histories(), st.integers(-(10**15), 10**15))
def test_a_constant_added_to_the_clock_does_not_matter(pools: pd.DataFrame, shift: int) -> None:
    by = pd.Timedelta(shift, unit="us")
    later = trends.forecast(pools.assign(time=pools["time"] + by))
    for name in ("time", "date", "date_lower", "date_upper"):
        later[name] -= by
    same(trends.forecast(pools), later)


@settings(max_examples=12)
@given(histories(), st.sampled_from([2.0**-20, 0.5, 4.0, 1024.0, 2.0**30]))
def test_scaling_bytes_scales_growth(pools: pd.DataFrame, factor: float) -> None:
    sizes = ["size_bytes", "alloc_bytes", "free_bytes"]
    scaled = pools.assign(**{name: pools[name] * factor for name in sizes})
    before, after = (trends.growth(table).set_index("pool") for table in (pools, scaled))
    for name in ("growth_bytes_per_day", "growth_lower", "growth_upper", "alloc_bytes"):
        np.testing.assert_allclose(after[name], before[name] * factor, rtol=1e-6, atol=1e-3 * factor)
    ahead, scaled_ahead = (
        trends.forecast(table).sort_values("pool")["probability"] for table in (pools, scaled)
    )
    np.testing.assert_allclose(scaled_ahead, ahead, rtol=1e-5, atol=1e-6)


@settings(max_examples=20)
@given(
    rate=st.floats(0, 5),
    start=st.floats(1, 300),
    count=st.integers(3, 150),
    more=st.integers(1, 100),
    every=st.sampled_from(["1h", "1D"]),
)
def test_on_a_noiseless_line_more_data_never_widens(
    rate: float, start: float, count: int, more: int, every: str
) -> None:
    line = (start + rate * np.arange(count + more)) * 1e9
    widths = []
    for known in (count, count + more):
        last = trends.forecast_path(pool(line[:known], every=every), horizon="30D").iloc[-1]
        widths.append(last["capacity_upper"] - last["capacity_lower"])
    assert widths[1] <= widths[0] + 1e-4, widths  # percentage points: floats' own rounding


@settings(max_examples=12)
@given(histories())
def test_bounds_hold_the_forecast_and_the_pool(pools: pd.DataFrame) -> None:
    path = trends.forecast_path(pools).dropna(subset=["alloc_lower"])
    assert ((path["alloc_lower"] <= path["alloc_bytes"]) & (path["alloc_bytes"] <= path["alloc_upper"])).all()
    assert ((path["alloc_lower"] >= 0) & (path["alloc_upper"] <= path["size_bytes"])).all()
    table = trends.forecast(pools).dropna(subset=["days"])
    assert (table["days_lower"] <= table["days"]).all()
    assert not (table["days_upper"] < table["days"]).any()
    assert table["probability"].between(0, 1).all()


@pytest.mark.parametrize("shape", ["noiseless", "noisy"])
def test_growth_intervals_cover(shape: str) -> None:
    """Of 300 walks, the true rate lies in the 80 % interval in about 80 %."""
    rng = np.random.default_rng(5)
    rates = rng.uniform(0, 5, 300)
    noise = rng.normal(0, 3 if shape == "noisy" else 0, (300, 60))
    walks = 100 + np.cumsum(rates[:, None] + noise, axis=1)
    table = pd.concat([pool(walk * 1e9, name=f"p{number:03}") for number, walk in enumerate(walks)])
    grown = trends.growth(table).sort_values("pool")
    inside = (grown["growth_lower"] - 1 <= rates * 1e9) & (rates * 1e9 <= grown["growth_upper"] + 1)
    assert inside.mean() == 1 if shape == "noiseless" else 0.7 < inside.mean() < 0.95
