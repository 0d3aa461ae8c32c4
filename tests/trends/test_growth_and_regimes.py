"""Growth now, changes of course, and what happened then."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from sysadm_nb import trends, wire
from sysadm_nb.errors import InputError
from sysadm_nb.tables import Tables

GB = 1e9
Make = Callable[..., pd.DataFrame]
DAYS = np.arange(120)


def test_growth_of_a_line(make: Make) -> None:
    row = trends.growth(make(200 * GB + 3 * GB * DAYS).assign(frag_pct=10 + 0.1 * DAYS)).iloc[0]
    assert row["growth_bytes_per_day"] == pytest.approx(3 * GB)
    assert row["growth_lower"] == pytest.approx(3 * GB) == row["growth_upper"]
    assert (row["alloc_bytes"], row["size_bytes"], row["capacity_pct"]) == (557 * GB, 1000 * GB, 55.7)
    assert (row["samples"], row["span_days"], row["missing_pct"]) == (120, 119, 0)
    assert row["frag_pct"] == pytest.approx(21.9)
    assert row["frag_pct_per_day"] == pytest.approx(0.1)
    assert row["regime_start"] == row["first"] == pd.Timestamp("2026-01-05", tz="UTC")
    assert np.isnan(row["growth_before"])


def test_a_new_rate_begins_a_regime(make: Make) -> None:
    rng = np.random.default_rng(1)
    rate = np.where(DAYS < 70, 1 * GB, 5 * GB)
    row = trends.growth(make(100 * GB + np.cumsum(rate + rng.normal(0, 0.3 * GB, 120)))).iloc[0]
    assert abs(row["regime_start"] - pd.Timestamp("2026-03-16", tz="UTC")) <= pd.Timedelta("3D")  # day 70
    assert row["growth_bytes_per_day"] == pytest.approx(5 * GB, rel=0.1)
    assert row["growth_before"] == pytest.approx(1 * GB, rel=0.2)
    assert row["growth_change"] == pytest.approx(4 * GB, rel=0.1)


def test_a_walk_alone_is_no_change_of_course(make: Make) -> None:
    """Of 100 walks of a hundred days, few may seem to change their rate."""
    rng = np.random.default_rng(2)
    walks = 300 * GB + np.cumsum(rng.normal(1 * GB, 2 * GB, (100, 120)), axis=1)
    found = trends.regimes(pd.concat([make(walk, name=f"p{i}") for i, walk in enumerate(walks)]))
    assert found["pool"].nunique() <= 10


def test_share_of_time_missing(make: Make) -> None:
    pools = make(np.full(2400, 5 * GB), every="1h")
    hours = np.arange(2400)
    grown = trends.growth(pools[(hours < 1000) | (hours >= 1240)])  # 10 days of 100
    assert grown["missing_pct"][0] == pytest.approx(10, abs=0.6)
    weekly = trends.growth(make(5 * GB + GB * np.arange(20), every="7D"))
    assert weekly["missing_pct"][0] == 0


def test_regimes_name_what_changed(make: Make) -> None:
    alloc = 300 * GB + 1 * GB * DAYS + 200 * GB * (DAYS >= 40)
    size = np.where(DAYS < 80, 1000 * GB, 2000 * GB)
    pools = make(alloc, size)
    found = trends.regimes(pools[(DAYS < 95) | (DAYS > 105)])
    assert found["kind"].tolist() == ["jump", "resized", "gap"]
    assert found["bytes"].tolist()[:2] == pytest.approx([200 * GB, 1000 * GB])
    start = pd.Timestamp("2026-01-05", tz="UTC")
    assert [(time - start).days for time in found["time"]] == [40, 80, 106]
    assert (found["since"][2] - start).days == 95


def test_a_pool_made_anew_is_named(make: Make) -> None:
    alloc = np.where(DAYS < 60, 500 * GB, 10 * GB + 5 * GB * (DAYS - 60))
    found = trends.regimes(make(alloc, np.where(DAYS < 60, 1000 * GB, 600 * GB)))
    assert set(found["kind"]) == {"resized", "made anew"}


def test_why_did_it_jump_on_tuesday(make: Make) -> None:
    alloc = 300 * GB + 1 * GB * DAYS + 200 * GB * (DAYS >= 40)  # 2026-02-14
    pools = pd.concat([make(alloc), make(alloc, name="other"), make(alloc).assign(server="far")])
    tables = Tables()
    received = pd.Timestamp("2026-02-13T20:00Z")
    jobs = pd.DataFrame(
        {
            "time": pd.to_datetime(["2026-02-13T21:00Z", "2026-02-01T00:00Z"]),
            "started": pd.to_datetime(["2026-02-13T20:30Z", None], utc=True),
            "server": ["nas", "nas"],
            "process_id": ["copy", "earlier"],
            "commands": ["rsync -a /old /tank", "zpool scrub tank"],
            "failed": [True, False],
        }
    )
    for seconds, message in enumerate(
        ("Starting replication for tank", "Finished replication for tank", "New snapshot of other/home")
    ):
        date = "Fri Feb 13 20:00:00 UTC 2026"
        kind = "snapshot" if "snapshot" in message else "replication"
        args = {"class": kind, "message": f"{date}: {message}", "priority": "1 - Information"}
        frame = wire.encode_event("life-preserver", args)
        tables.append(
            frame, received=(received + pd.Timedelta(seconds, unit="s")).to_pydatetime(), server="nas"
        )
    told = trends.events_that_changed(pools, jobs, tables.life_preserver)
    of = dict(list(told.groupby(["server", "pool"], observed=True)))
    nas = of[("nas", "tank")]
    assert nas["change"].unique().tolist() == ["rose by 186G"]
    assert nas["cause"].tolist() == ["job", "replication", "replication"]
    assert nas["what"].iloc[0] == "rsync -a /old /tank"  # names the pool, and is nearest in time
    assert sorted(what.split()[-4] for what in nas["what"].iloc[1:]) == ["Finished", "Starting"]
    assert nas["failed"].tolist() == [True, False, False]
    assert "snapshot" in of[("nas", "other")]["cause"].tolist()
    assert of[("far", "tank")]["cause"].isna().all()  # something changed, and nothing is known of it


def test_causes_of_tables_with_nothing_in_them(make: Make) -> None:
    tables = Tables()
    told = trends.events_that_changed(tables.pools, tables.jobs, tables.life_preserver)
    assert len(told) == 0
    assert list(told.columns)[-4:] == ["cause", "cause_time", "what", "failed"]
    with pytest.raises(InputError, match="time"):
        trends.events_that_changed(make(DAYS * GB), pd.DataFrame(), tables.life_preserver)
    with pytest.raises(InputError, match="pool"):
        trends.events_that_changed(make(DAYS * GB), tables.jobs, tables.life_preserver, by=["server"])


def test_a_gap_explains_itself(make: Make) -> None:
    pools = make(300 * GB + GB * DAYS)
    tables = Tables()
    told = trends.events_that_changed(pools[(DAYS < 50) | (DAYS > 70)], tables.jobs, tables.life_preserver)
    assert told[["change", "cause", "what"]].values.tolist() == [["was not sampled", "gap", "no samples"]]
