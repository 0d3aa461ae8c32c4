"""Forecasts of pools whose future anybody can tell by hand."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from sysadm_nb import trends
from sysadm_nb.errors import InputError
from sysadm_nb.tables import Tables

GB = 1e9
Make = Callable[..., pd.DataFrame]
DAYS = np.arange(120)


def one(pools: pd.DataFrame, **options: object) -> pd.Series:
    table = trends.forecast(pools, **options)  # type: ignore[arg-type]
    assert len(table) == 1
    return table.iloc[0]


def test_a_line_reaches_its_limit_when_it_does(make: Make) -> None:
    row = one(make(200 * GB + 2 * GB * DAYS))  # 438 GB on the last day, 800 GB 181 days later
    assert np.isnan(row["days"])
    assert row["reason"] == "not within 180 days: at this rate in about 181 days"
    row = one(make(200 * GB + 4 * GB * DAYS))  # 676 GB, 31 days to go
    assert row["days"] == pytest.approx(31, abs=0.01)
    assert row["days_lower"] == pytest.approx(31, abs=0.05)
    assert row["days_upper"] == pytest.approx(31, abs=0.05)
    assert row["date"].date() == pd.Timestamp("2026-06-04").date()  # 2026-05-04 and 31 days
    assert row["growth_bytes_per_day"] == pytest.approx(4 * GB)
    assert row["probability"] > 0.999


def test_full_is_when_a_line_comes_to_the_size_of_the_pool(make: Make) -> None:
    row = one(
        make(200 * GB + 4 * GB * DAYS), limit_pct=100
    )  # 676 GB: 81 days, between two anchors of the blend
    assert [row["days"], row["days_lower"], row["days_upper"]] == pytest.approx([81, 81, 81], abs=0.1)
    assert row["probability"] > 0.999
    # 5 GB a day and scatter: 750 GB, about 50 days; no single candidate may hold the blend back
    noise = np.random.default_rng(1).normal(0, 10 * GB, 71)
    row = one(make(400 * GB + 5 * GB * np.arange(71) + noise), limit_pct=100)
    assert row["days"] == pytest.approx(50, abs=3)
    assert row["days_lower"] < row["days"] < row["days_upper"] < 90
    path = trends.forecast_path(make(200 * GB + 4 * GB * DAYS), horizon="180D")
    assert path["alloc_bytes"].max() == path["alloc_upper"].max() == 1000 * GB  # drawn no higher than full


def test_the_schema(make: Make) -> None:
    table = trends.forecast(make(200 * GB + 4 * GB * DAYS))
    assert list(table.columns) == [
        *("server", "pool", "time", "capacity_pct", "size_bytes", "alloc_bytes", "growth_bytes_per_day"),
        *("limit_pct", "days", "days_lower", "days_upper", "date", "date_lower", "date_upper"),
        *("probability", "method", "reason"),
    ]
    for name in ("time", "date", "date_lower", "date_upper"):
        assert str(table[name].dtype) == "datetime64[us, UTC]"
    path = trends.forecast_path(make(200 * GB + 4 * GB * DAYS), horizon="30D")
    assert len(path) == 31
    assert path["days"].tolist() == list(range(31))
    assert (path["alloc_lower"] <= path["alloc_bytes"]).all()
    assert (path["alloc_bytes"] <= path["alloc_upper"]).all()


def test_most_urgent_first_over_all_servers(make: Make) -> None:
    soon = make(200 * GB + 4 * GB * DAYS, name="soon")
    later = make(300 * GB + 2 * GB * DAYS, name="later").assign(server="other")
    over = make(np.full(120, 900 * GB), name="over")
    never = make(800 * GB - 2 * GB * DAYS, name="never")
    new = make([1 * GB], name="new")
    table = trends.forecast(pd.concat([new, never, later, soon, over]))
    assert table["pool"].tolist()[:3] == ["over", "soon", "later"]
    assert set(table["pool"][3:]) == {"never", "new"}
    assert table["reason"].tolist()[0] == "already above 80 %"
    assert table.set_index("pool")["reason"]["never"].startswith("shrinking by 1.86G a day")
    assert table.set_index("pool")["reason"]["new"] == "too little to say: 1 sample over 0 minutes"


def test_what_other_pools_are_in_the_table_does_not_matter(make: Make) -> None:
    rng = np.random.default_rng(1)
    short = make(100 * GB + np.cumsum(rng.normal(3 * GB, GB, 25)), name="short", every="7h")
    long = make(100 * GB + np.cumsum(rng.normal(GB, GB, 300)), name="long", start="2025-09-01")
    middle = make(500 * GB + np.cumsum(rng.normal(GB, GB, 33)), name="middle")
    together = trends.forecast(pd.concat([short, long, middle])).set_index("pool")
    for name, alone in (("short", short), ("long", long), ("middle", middle)):
        row = one(alone)
        for column in ("days", "days_lower", "growth_bytes_per_day", "probability"):
            assert together.loc[name, column] == pytest.approx(row[column], rel=1e-6, nan_ok=True), column


def test_a_pool_grown_by_disks_is_judged_by_its_new_size(make: Make) -> None:
    size = np.where(DAYS < 60, 800 * GB, 1600 * GB)
    row = one(make(200 * GB + 4 * GB * DAYS, size))  # 676 of 1600 GB; 80 % are 1280 GB, 151 days on
    assert row["days"] == pytest.approx(151, abs=0.1)
    assert row["capacity_pct"] == pytest.approx(100 * 676 / 1600)


@pytest.mark.parametrize("bytes_of_step", [-150 * GB, 150 * GB])
def test_one_delete_or_migration_is_no_growth(make: Make, bytes_of_step: float) -> None:
    rng = np.random.default_rng(2)
    alloc = 300 * GB + np.cumsum(rng.gamma(4, GB / 4, 120)) + bytes_of_step * (DAYS >= 70)
    row = one(make(alloc), horizon="700D")
    left = 800 * GB - alloc[-1]
    assert row["growth_bytes_per_day"] == pytest.approx(GB, rel=0.15)
    assert row["days"] == pytest.approx(left / GB, rel=0.15)
    assert "jumps set aside" in row["method"]


@pytest.mark.parametrize("period_days", [1 / 24, 1, 7])
def test_a_sawtooth_is_no_trend(make: Make, period_days: float) -> None:
    hours = np.arange(24 * 90)
    saw = 30 * GB * ((hours / 24 / period_days + 0.3) % 1)
    path = trends.forecast_path(make(400 * GB + saw, every="1h"), horizon="60D")
    # at the same phase nothing changes
    same = path[path["days"] % 7 == 0]
    assert same["alloc_bytes"].to_numpy() == pytest.approx(
        np.full(len(same), same["alloc_bytes"].iloc[0]), rel=0.01
    )
    assert np.isnan(one(make(400 * GB + saw, every="1h"))["days"])


def test_a_first_drop_that_takes_back_a_month_may_come_again(make: Make) -> None:
    days = np.arange(55)
    clean_up = make(300 * GB + 2 * GB * (days % 30))  # 60 GB come back on day 30
    ahead = trends.forecast_path(clean_up, horizon="90D")["alloc_bytes"].iloc[-1]
    assert 250 * GB < ahead < 420 * GB  # not 348 GB and 90 times 2 GB more
    assert trends.regimes(clean_up)["kind"].tolist() == ["drop"]  # told all the same
    delete = make(300 * GB + 2 * GB * days - 150 * GB * (days >= 30))  # more than a month's growth
    ahead = trends.forecast_path(delete, horizon="90D")["alloc_bytes"].iloc[-1]
    assert ahead == pytest.approx((300 + 2 * 54 - 150 + 2 * 90) * GB, rel=0.05)


def test_a_weekly_cycle_goes_on(make: Make) -> None:
    week = 20 * GB * np.sin(2 * np.pi * np.arange(140) / 7)
    path = trends.forecast_path(make(400 * GB + GB * np.arange(140) + week), horizon="28D")
    ahead = np.arange(140, 168)
    expected = 400 * GB + GB * ahead + 20 * GB * np.sin(2 * np.pi * ahead / 7)
    assert path["alloc_bytes"].to_numpy()[1:] == pytest.approx(expected, rel=0.01)
    assert "weekly cycle" in one(make(400 * GB + GB * np.arange(140) + week))["method"]


def test_nothing_for_days_then_a_backup_is_growth(make: Make) -> None:
    alloc = 200 * GB + 21 * GB * (DAYS // 7)  # 557 GB now, 3 GB a day
    row = one(make(alloc))
    assert row["growth_bytes_per_day"] == pytest.approx(3 * GB, rel=0.1)
    assert row["days"] == pytest.approx(81, abs=10)


def test_display_values_use_the_finer_column(make: Make) -> None:
    """9.99T moves by 10 GB; with 200 GB free, `free` moves by 1 GB and tells ten times as much."""
    tib = 2.0**40
    hours = np.arange(24 * 60)
    free = 400e9 - 2e9 * hours / 24
    size = np.round(10.0 * tib)
    shown = make(np.round((size - free) / tib, 1) * tib, size, every="1h")
    shown["free_bytes"] = np.round(free / 2**30) * 2**30
    row = one(shown, limit_pct=98)  # 0.02 * 10 TiB = 219.9 GB left at the limit; 282 GB free on the last day
    assert row["growth_bytes_per_day"] == pytest.approx(2e9, rel=0.03)
    assert row["days"] == pytest.approx((free[-1] - 0.02 * size) / 2e9, abs=1.5)


def test_gaps_irregular_samples_and_duplicates_change_little(make: Make) -> None:
    rng = np.random.default_rng(3)
    hours = np.arange(24 * 100)
    alloc = 200 * GB + np.cumsum(rng.gamma(1, 4 * GB / 24, len(hours)))
    whole = make(alloc, every="1h")
    days = one(whole)["days"]
    gap = whole[(hours < 1000) | (hours > 1400)]
    assert one(gap)["days"] == pytest.approx(days, rel=0.1)
    sparse = whole[(rng.uniform(size=len(whole)) < 0.1) | (hours == hours[-1])]
    assert one(sparse)["days"] == pytest.approx(days, rel=0.1)
    exported = whole[(hours < 500) | (hours > 1800)]
    assert one(exported)["days"] == pytest.approx(days, rel=0.2)


def test_clock_jumps(make: Make) -> None:
    hours = np.arange(24 * 100)
    pools = make(200 * GB + GB * hours / 6, every="1h").assign(seq=hours + 1)
    for shift in ("-7300D", "1500D", "40D"):
        wrong = pools.copy()
        wrong.loc[500:504, "time"] += pd.Timedelta(shift)
        row = one(wrong)
        assert row["time"] == pools["time"].iloc[-1], shift
        assert row["days"] == pytest.approx(one(pools)["days"], abs=1), shift
    hour_off = pools.copy()
    hour_off.loc[500:600, "time"] -= pd.Timedelta("1h")
    assert one(hour_off)["days"] == pytest.approx(one(pools)["days"], abs=0.5)
    unnumbered = pools.drop(columns="seq")
    unnumbered.loc[500:504, "time"] += pd.Timedelta("1500D")
    assert one(unnumbered)["time"] == pools["time"].iloc[-1]


def test_samples_of_two_recordings_are_not_taken_for_clock_jumps(make: Make) -> None:
    first = make(200 * GB + 2 * GB * np.arange(50)).assign(seq=np.arange(1, 51))
    second = make(320 * GB + 2 * GB * np.arange(50), start="2026-03-06").assign(seq=np.arange(1, 51))
    assert trends.growth(pd.concat([second, first]))["samples"].tolist() == [100]


def test_a_pool_made_anew_under_its_old_name_is_a_new_pool(make: Make) -> None:
    alloc = np.where(DAYS < 60, 500 * GB + 2 * GB * DAYS, 10 * GB + 5 * GB * (DAYS - 60))
    row = one(make(alloc, np.where(DAYS < 60, 1000 * GB, 600 * GB)))  # 305 of 600 GB; 480 GB are 35 days off
    assert row["days"] == pytest.approx(35, abs=1)


def test_dashes_are_no_numbers(make: Make) -> None:
    pools = make(200 * GB + 4 * GB * DAYS)
    pools.loc[10:20, "alloc_bytes"] = np.nan  # told by size - free
    pools.loc[30:34, ["alloc_bytes", "free_bytes", "size_bytes"]] = np.nan
    pools.loc[119, "free_bytes"] = np.nan
    assert one(pools)["days"] == pytest.approx(31, abs=0.1)


@pytest.mark.parametrize(
    ("alloc", "size", "reason"),
    [
        ([5 * GB], 10 * GB, "too little to say: 1 sample over 0 minutes"),
        ([5 * GB, 6 * GB], 10 * GB, "too little to say: 2 samples over 24 hours"),
        (np.full(50, 5 * GB), 10 * GB, "not growing"),
        (np.zeros(50), 0.0, "the pool's size is 0 or unknown"),
        (np.full(50, np.nan), np.nan, "no sample with a size"),
        (np.full(50, 9 * GB), 10 * GB, "already above 80 %"),
        (np.full(50, 8 * GB), 10 * GB, "already at 80 %"),
    ],
)
def test_reasons_in_words(make: Make, alloc: object, size: float, reason: str) -> None:
    table = trends.forecast(make(alloc, size))
    assert table["reason"].tolist() == [reason] if not np.isnan(size) else len(table) <= 1


@pytest.mark.parametrize("weekday", range(7))
def test_words_tell_of_the_weeks_and_not_of_the_weekday(make: Make, weekday: int) -> None:
    days = np.arange(119 + weekday)
    backups = np.where(days % 7 < 2, 20 * GB, 0)  # kept over the weekend, gone on Monday
    reason = one(make(300 * GB + 0.5 * GB * days + backups))["reason"]
    found = re.fullmatch(r"not within 180 days: at this rate in about (\d+) days", reason)
    assert found, reason
    assert float(found[1]) == pytest.approx((500 - 0.5 * days[-1]) / 0.5, rel=0.1)
    for cycle in (20 * GB * (days % 7), backups):  # 180 days on is another weekday
        assert one(make(300 * GB + cycle))["reason"] == "not growing"


SHAPES = {
    "flat": 0 * DAYS,
    "grows": 0.2 * DAYS,
    "shrinks": -0.3 * DAYS,
    "shrinks to nothing": -3.0 * DAYS,
    "levels off": 100 * (1 - np.exp(-DAYS / 20)),
    "bottoms out": 100 * np.exp(-DAYS / 20),
    "to and fro": 30 * np.sin(DAYS / 9),
    "grows, with weekly backups": 0.5 * DAYS + np.where((DAYS + 4) % 7 < 2, 20, 0),
    "wanders": np.random.default_rng(4).normal(0, 3, len(DAYS)).cumsum(),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_words_agree_with_the_path(make: Make, shape: str) -> None:
    pools = make((400 + SHAPES[shape]) * GB)
    path = trends.forecast_path(pools, horizon="180D")["capacity_pct"]
    reason = one(pools)["reason"]
    rise = path.iloc[-1] - path.iloc[0]
    if rise > 0.2:
        assert reason.startswith(("not within", "levels off", "growing")), reason
    elif rise < -0.2:
        assert reason.startswith("shrinking"), reason
    if reason.startswith("levels off"):
        assert reason == f"levels off at about {path.iloc[-1]:.0f} %"


def test_an_hour_of_samples_is_enough_for_what_fills_within_hours(make: Make) -> None:
    minutes = np.arange(180)
    row = one(make(100 * GB + 2 * GB * minutes, every="1min"))  # 458 GB, 171 minutes to 800 GB
    assert row["days"] * 24 * 60 == pytest.approx(171, rel=0.1)
    assert trends.phrase(row).startswith("80 % in about 3 hours")


def test_news_of_old_are_no_samples(make: Make) -> None:
    pools = make(200 * GB + 4 * GB * DAYS).assign(origin="live")
    old = pools.iloc[[40]].assign(time=pools["time"].iloc[-1] + pd.Timedelta("1h"), origin="last")
    assert one(pd.concat([pools, old]))["days"] == pytest.approx(31, abs=0.05)
    assert len(trends.forecast(old)) == 1  # all that is known of it


def test_bad_input_is_named(make: Make) -> None:
    pools = make(200 * GB + GB * DAYS)
    for name in ("time", "size_bytes", "alloc_bytes", "server"):
        with pytest.raises(InputError, match=name):
            trends.forecast(pools.drop(columns=name))
    with pytest.raises(InputError, match="to_datetime"):
        trends.forecast(pools.assign(time="2026-01-01"))
    with pytest.raises(InputError, match="parse_size"):
        trends.forecast(pools.assign(alloc_bytes="13.1G"))
    for options in (
        {"limit_pct": 0},
        {"limit_pct": "80"},
        {"limit_pct": 120},
        {"level": 1.0},
        {"level": "0.8"},
        {"horizon": "soon"},
        {"window": "-1D"},
        {"window": "5000000"},
        {"window": 30 * 86_400},
    ):
        with pytest.raises(InputError):
            trends.forecast(pools, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="DataFrame"):
        trends.forecast([1, 2])  # type: ignore[arg-type]


def test_an_empty_table_gives_an_empty_answer() -> None:
    pools = Tables().pools
    assert len(trends.forecast(pools)) == len(trends.forecast_path(pools)) == len(trends.growth(pools)) == 0
    assert list(trends.forecast(pools).columns)[:2] == ["server", "pool"]


def test_a_window_leaves_out_what_is_older(make: Make) -> None:
    alloc = np.where(DAYS < 90, 300 * GB, 300 * GB + 10 * GB * (DAYS - 89))
    assert one(make(alloc), window="20D")["growth_bytes_per_day"] == pytest.approx(10 * GB, rel=0.01)


def test_a_table_that_was_written_to_is_read_again(make: Make) -> None:
    pools = make(200 * GB + 4 * GB * DAYS)
    before = one(pools)["days"]
    pools.loc[pools.index[-1], "alloc_bytes"] = 810 * GB
    assert before == pytest.approx(31, abs=0.05)
    assert one(pools)["days"] == 0
    pools["size_bytes"] = 10_000 * GB
    assert one(pools)["capacity_pct"] == pytest.approx(8.1)


def test_wider_levels_are_wider(make: Make) -> None:
    rng = np.random.default_rng(4)
    pools = make(200 * GB + np.cumsum(rng.normal(2 * GB, 2 * GB, 120)))
    widths = []
    for level in (0.5, 0.8, 0.95):
        last = trends.forecast_path(pools, level=level).iloc[-1]
        widths.append(last["alloc_upper"] - last["alloc_lower"])
    assert widths[0] < widths[1] < widths[2]
