"""The model of PoolsView: newest samples, lines with gaps as gaps, forecasts in words."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sysadm_nb import Tables, loop, trends, wire
from sysadm_nb.server.demo import frames
from sysadm_nb.widgets import PoolsView, pools
from sysadm_nb.widgets._pool_lines import Outlook, ahead, history, outlook, thin
from sysadm_nb.widgets.pools import CELLS, PoolsModel

START = 1_795_417_200_000_000  # 2026-11-23 07:00:00 UTC
MINUTE = 60_000_000
DAY = 24 * 60  # minutes


def sample(
    tables: Tables,
    minute: float,
    *,
    server: str = "nas",
    host: str = "h",
    origin: str = "live",
    **pools: Any,
) -> None:
    zpools = {}
    for name, used in pools.items():
        facts = (
            used
            if isinstance(used, dict)
            else {"alloc": f"{used}G", "free": f"{100 - used}G", "capacity": f"{used}%"}
        )
        zpools[name] = {
            "size": "100G",
            "frag": "6%",
            "dedup": "1.00x",
            "health": "ONLINE",
            "expandsz": "-",
            "altroot": "-",
        } | facts
    event = wire.encode_event(
        "system-state", {"hostname": host, "priority": "0 - Information", "zpools": zpools}
    )
    tables.append(event, received=START + int(minute * MINUTE), server=server, origin=origin)


@pytest.fixture
def model(tables: Tables) -> PoolsModel:
    return PoolsModel(tables)


def cells(model: PoolsModel, row: int) -> dict[str, Any]:
    return dict(zip(CELLS, model.state.rows[row], strict=True))


def test_the_newest_sample_of_each_pool(model: PoolsModel, tables: Tables) -> None:
    sample(tables, 0, tank=40, backup=91)
    sample(tables, 15, tank=50, backup=91)
    model.refresh(START / 1e6 + 900)
    tank = cells(model, [*model.state.rows][0 if model.state.rows[1][1] == "tank" else 1])
    assert (tank["pool"], tank["used"], tank["size"], tank["alloc"], tank["free"]) == (
        "tank",
        50.0,
        100 * 2**30,
        50 * 2**30,
        50 * 2**30,
    )
    assert (tank["frag"], tank["dedup"], tank["health"], tank["meaning"]) == (
        6.0,
        1.0,
        "ONLINE",
        "all devices work",
    )
    assert tank["time"] == START + 15 * MINUTE
    assert model.summary() == "2 pools, 1 over 80%"


def test_health_is_told_in_words(model: PoolsModel, tables: Tables) -> None:
    sample(tables, 0, tank={"alloc": "1G", "free": "99G", "capacity": "1%", "health": "DEGRADED"})
    sample(tables, 0, other={"alloc": "1G", "free": "99G", "capacity": "1%", "health": "STRANGE"}, server="b")
    model.refresh(START / 1e6)
    meanings = {row[1]: row[CELLS.index("meaning")] for row in model.state.rows.values()}
    assert meanings["tank"] == "a device failed or is missing; the data is there, with less protection"
    assert meanings["other"] == "a state this program does not know"
    assert "1 not healthy" in model.summary() or "2 not healthy" in model.summary()


def test_a_pool_that_its_server_names_no_more_is_gone(model: PoolsModel, tables: Tables) -> None:
    sample(tables, 0, tank=40, backup=91)
    sample(tables, 1, server="other", tank=10)
    sample(tables, 15, tank=40)
    model.refresh(START / 1e6)
    rows = {(row[0], row[1]): dict(zip(CELLS, row, strict=True)) for row in model.state.rows.values()}
    healths = {key: row["health"] for key, row in rows.items()}
    assert healths == {("nas", "tank"): "ONLINE", ("nas", "backup"): "GONE", ("other", "tank"): "ONLINE"}
    assert rows["nas", "backup"]["meaning"].startswith("not reported since ")
    assert rows["nas", "backup"]["time"] == START
    assert model.summary() == "3 pools, 1 gone"
    assert model.text().splitlines()[-1].startswith("backup")
    model.set_outlook({})
    assert model.summary() == "3 pools, 1 gone"
    sample(tables, 30, tank=40, backup=91)
    model.refresh(START / 1e6)
    assert model.summary() == "3 pools, 1 over 80%"


def test_a_pool_is_not_gone_where_clocks_differ_or_samples_come_late(
    model: PoolsModel, tables: Tables
) -> None:
    sample(tables, 10, tank=40)  # polled, by our clock
    sample(tables, 9, tank=40, new=1)  # the server's is behind
    sample(tables, 5, older=1, origin="backfill")
    sample(tables, 20, tank=40, new=1, origin="last")
    sample(tables, 21, host="another", there=1)  # frames of several hosts, put in by hand
    model.refresh(START / 1e6)
    found = {row[1]: row[CELLS.index("health")] for row in model.state.rows.values()}
    assert found == dict.fromkeys(("tank", "new", "older", "there"), "ONLINE")


def test_a_missing_sample_is_a_gap(tables: Tables) -> None:
    for minute in [*range(0, 60, 15), *range(180, 240, 15)]:  # two hours are missing
        sample(tables, minute, tank=10 + minute / 10)
    line = history(tables.pools, None, START / 1e6 + 225 * 60)[("nas", "tank")]
    assert line["from"] == START // 1_000_000 and line["to"] == line["from"] + 225 * 60
    assert line["t"] == [0, 900, 1800, 2700, 2700, 10800, 11700, 12600, 13500]
    assert line["y"] == [10, 11.5, 13, 14.5, None, 28, 29.5, 31, 32.5]


def test_samples_sent_again_are_not_counted(tables: Tables) -> None:
    sample(tables, 0, tank=10)
    sample(tables, 15, tank=10, origin="last")
    assert len(history(tables.pools, None, START / 1e6 + 900)[("nas", "tank")]["t"]) == 1


def test_a_span_ends_now_unless_the_clock_is_another(tables: Tables) -> None:
    sample(tables, 0, tank=10)
    sample(tables, 15, tank=20)
    real = history(tables.pools, 3600, START / 1e6 + 1800)[("nas", "tank")]
    assert real["to"] - START / 1e6 == 1800 and real["to"] - real["from"] == 3600
    event = wire.encode_event(
        "system-state",
        {"hostname": "h", "zpools": {"sim": {"size": "1G", "alloc": "1G", "capacity": "99%"}}},
        time=START + 4000 * 24 * 3600 * 1_000_000,
    )
    tables.append(event, received=START, server="demo")
    simulated = history(tables.pools, 3600, START / 1e6 + 1800)[("demo", "sim")]
    assert simulated["to"] == START / 1e6 + 4000 * 24 * 3600


def test_a_long_history_is_thinned_and_keeps_its_ends() -> None:
    times = np.arange(0.0, 100_000.0, 10.0)
    t, y = thin(times, times / 1000, 0.0, 100_000.0)
    assert 150 <= len(t) <= 162 and t[-1] == 99_990.0 and y[-1] == 99.99
    assert not np.isnan(y).any()
    t, y = thin(np.array([0.0, 10.0]), np.array([1.0, 2.0]), 5.0, 10.0)
    assert t.tolist() == [0.0, 10.0]  # the line comes in from the left


def test_the_history_follows_the_span_and_is_not_read_at_every_refresh(
    model: PoolsModel, tables: Tables
) -> None:
    now = START / 1e6
    for minute in range(0, 600, 15):
        sample(tables, minute, tank=50)
    model.refresh(now + 600 * 60)
    drawn = model._drawn
    sample(tables, 601, tank=51)
    model.refresh(now + 601 * 60 - 3590)
    assert model._drawn == drawn or model._drawn > drawn
    model.span = "hour"
    model.redraw()
    model.refresh(now + 601 * 60)
    assert len(model.state.values["line/1"]["t"]) <= 6
    assert model.state.values["span_s"] == 3600


def test_forecasts_are_asked_for_now_and_then(model: PoolsModel, tables: Tables) -> None:
    assert not model.outlook_due(0)
    sample(tables, 0, tank=50)
    model.refresh(START / 1e6)
    assert model.outlook_due(1000) and not model.outlook_due(1001)
    assert not model.outlook_due(1100) and model.outlook_due(1301)
    sample(tables, 3 * 24 * 60, tank=60)
    model.refresh(START / 1e6 + 3 * 86400)
    assert model.outlook_due(1312)
    model.set_outlook({("nas", "tank"): Outlook("full in about 41 days", 41.2)})
    assert cells(model, 1)["outlook"] == "full in about 41 days" and cells(model, 1)["days"] == 41.2


def test_nothing_known_is_none_not_zero(model: PoolsModel, tables: Tables) -> None:
    sample(
        tables, 0, tank={"size": "-", "alloc": "-", "free": "-", "capacity": "-", "frag": "-", "dedup": "-"}
    )
    model.refresh(START / 1e6)
    row = cells(model, 1)
    assert [row[name] for name in ("size", "alloc", "free", "used", "frag", "dedup")] == [None] * 6
    assert "tank" in model.text() and "tank" in model.html()


# ---- the forecast in the sparkline -------------------------------------------------------------------------


def grown(tables: Tables, model: PoolsModel, *, days: int = 40, span: str = "week", **pools: Any) -> float:
    """A sample a day, ``tank=lambda day: 20 + day`` percent; refreshed and forecast. Returns the end in s."""
    for day in range(days):
        sample(tables, day * DAY, **{name: used(day) for name, used in pools.items()})
    now = START / 1e6 + (days - 1) * 86400
    model.span = span
    model.refresh(now)
    model.set_outlook(outlook(tables.pools))
    return now


def test_a_steady_growth_goes_on_from_now(model: PoolsModel, tables: Tables) -> None:
    now = grown(tables, model, tank=lambda day: 20 + day)  # 59 % today, 1 % a day
    path = model.state.values["path/1"]
    assert path["from"] == now and path["ahead"] == 3.5 * 86400  # half of a week
    assert path["t"] == [0, 86400, 172800, 259200, 345600, 4.375 * 86400 + 300]
    assert path["y"] == pytest.approx([59, 60, 61, 62, 63, 63.378], abs=0.02)
    assert path["low"] == pytest.approx(path["y"], abs=0.3) and path["high"] == pytest.approx(
        path["y"], abs=0.3
    )
    assert cells(model, 1)["outlook"] == "full in about 41 days (41 to 41)"


def test_the_path_is_full_when_the_phrase_says(model: PoolsModel, tables: Tables) -> None:
    # 1.7 % a day, 87.9 % now: full in 7.12 days, between the points of the path
    now = grown(tables, model, span="all", tank=lambda day: round(21.6 + 1.7 * day, 1))
    path = model.state.values["path/1"]
    assert cells(model, 1)["days"] == pytest.approx(7.12, abs=0.03)
    first = next(t for t, y in zip(path["t"], path["y"], strict=True) if y >= 100)
    assert first == pytest.approx(cells(model, 1)["days"] * 86400, abs=1)
    # a year of history asks for 180 days in few points: it is one of them
    cut = ahead(model._outlook[("nas", "tank")].path, now - 365 * 86400, now)
    assert cut is not None and first in cut["t"] and len(cut["t"]) <= 24


def test_the_interval_is_around_the_path_and_widens(model: PoolsModel, tables: Tables) -> None:
    noise = np.random.default_rng(1).normal(0, 1, 60).round(2)
    grown(tables, model, days=60, tank=lambda day: round(30 + 0.3 * day + noise[day], 2))
    path = model.state.values["path/1"]
    low, y, high = (np.array(path[name]) for name in ("low", "y", "high"))
    assert (low[1:] < y[1:]).all() and (y[1:] < high[1:]).all()
    width = high - low
    assert width[0] == 0 and width[-1] >= width[1] > 0.3


def test_another_span_cuts_the_same_forecast(
    model: PoolsModel, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = grown(tables, model, tank=lambda day: 20 + day)
    monkeypatch.delattr(trends, "forecast_path")  # nothing is forecast anew
    model.state.take()
    for span, reach in (("hour", 1800), ("day", 43200), ("week", 302400), ("all", 39 * 43200)):
        model.span = span
        model.redraw()
        model.refresh(now)
        patch = model.state.take()
        assert patch is not None and set(patch["values"]) >= {"line/1", "path/1"}  # both in one message
        path = patch["values"]["path/1"]
        assert path["ahead"] == reach and len(path["t"]) <= 24
        assert path["t"][-1] == pytest.approx(1.25 * reach + 300, abs=0.1)
        # 1 % a day, until the browser's cut and a little further
        assert path["y"][-1] == pytest.approx(59 + path["t"][-1] / 86400, abs=0.1)


def test_a_forecast_is_sent_only_when_it_is_another(model: PoolsModel, tables: Tables) -> None:
    now = grown(tables, model, tank=lambda day: 20 + day)
    model.state.take()
    for minute in range(1, 4):
        sample(tables, 39 * DAY + minute, tank=59)
        model.refresh(now + minute * 60)
        patch = model.state.take()
        assert patch is not None and set(patch["values"]) == {
            "line/1"
        }  # the history moved on, the path did not
    model.set_outlook(model._outlook)
    model.refresh(now + 240)
    assert set((model.state.take() or {}).get("values", {})) <= {"path/1"}


def test_too_few_samples_have_no_path(model: PoolsModel, tables: Tables) -> None:
    sample(tables, 0, tank=50)
    model.refresh(START / 1e6)
    found = outlook(tables.pools)
    assert found[("nas", "tank")].path is None
    assert found[("nas", "tank")].phrase.startswith("too little to say: 1 sample")
    model.set_outlook(found)
    assert model.state.values["path/1"] is None
    assert outlook(Tables().pools) == {}


def test_a_pool_that_fills_in_hours_is_drawn_as_fast_as_its_phrase_says(
    model: PoolsModel, tables: Tables
) -> None:
    for minute in range(0, 301, 5):  # five hours, 8 % an hour: 80 % now
        sample(tables, minute, tank=round(40 + minute * 8 / 60, 2))
    model.span = "all"
    model.refresh(START / 1e6 + 300 * 60)
    model.set_outlook(outlook(tables.pools))
    hours = cells(model, 1)["days"] * 24
    assert hours == pytest.approx(2.5, abs=0.05)
    path = model.state.values["path/1"]
    assert path["ahead"] == 9000  # two and a half hours
    assert np.interp(1800, path["t"], path["y"]) == pytest.approx(84, abs=0.5)
    assert np.interp(hours * 3600, path["t"], path["y"]) == pytest.approx(100, abs=0.5)


def test_a_forecast_reaches_no_further_than_it_was_made_for() -> None:
    days = np.arange(181.0)
    path = np.vstack([days * 86400, 10 + days / 10, 9 + days / 10, 11 + days / 10])
    cut = ahead(path, -2 * 365 * 86400, 0)
    assert cut is not None and cut["ahead"] == 180 * 86400
    assert np.diff(cut["t"])[:-1].tolist() == [14 * 86400] * 12 and cut["t"][-1] == 180 * 86400
    assert cut["y"][-1] == 28.0
    half = ahead(path, -120 * 86400, 0)  # 60 days ahead: whole weeks keep to one phase of a weekly cycle
    assert half is not None and set(np.diff(half["t"])[:-1].tolist()) == {7 * 86400}
    # samples ended a hundred days ago: the forecast crosses what is missing, and beyond it there is none
    late = ahead(path, 93 * 86400, 100 * 86400)
    assert late is not None and late["from"] == 92 * 86400 and late["y"][0] == 19.2
    assert late["ahead"] == 3.5 * 86400
    assert ahead(path, 190 * 86400, 200 * 86400) is None


def test_months_of_the_demo_machine(model: PoolsModel, tables: Tables) -> None:
    for moment, text in frames(120, 1):
        if '"zpools"' in text:
            tables.append(text, received=moment, server="demo")
    table = tables.pools
    end = table["time"].max().timestamp()
    found = outlook(table)
    model.span = "all"
    model.refresh(end)
    model.set_outlook(found)
    assert len(found) == 6
    for row, (_, name, *_) in model.state.rows.items():
        line, path = model.state.values[f"line/{row}"], model.state.values[f"path/{row}"]
        assert path["ahead"] == pytest.approx((line["to"] - line["from"]) / 2, abs=5 * 86400)
        assert 8 <= len(path["t"]) <= 24
        newest = table[table["pool"] == name].iloc[-1]
        assert path["y"][0] == pytest.approx(100 * newest["alloc_bytes"] / newest["size_bytes"], abs=0.01)
        for low, y, high in zip(path["low"], path["y"], path["high"], strict=True):
            assert 0 <= low <= y <= high <= 100


def test_fifty_pools_are_forecast_quickly() -> None:
    rng = np.random.default_rng(3)
    samples, count = 2000, 50
    alloc = np.cumsum(rng.gamma(1, 1e9, (samples, count)), axis=0) + 1e11
    table = pd.DataFrame(
        {
            "time": np.repeat(pd.date_range("2026-11-01", periods=samples, freq="15min", tz="UTC"), count),
            "server": pd.Categorical(["nas"] * samples * count),
            "pool": pd.Categorical.from_codes(
                np.tile(np.arange(count), samples), [f"tank{n}" for n in range(count)]
            ),
            "size_bytes": 1e13,
            "alloc_bytes": alloc.ravel(),
        }
    )
    outlook(table.tail(1000))  # what is loaded at first use
    began = time.perf_counter()
    found = outlook(table)
    took = time.perf_counter() - began
    cut = [ahead(seen.path, 1.79e9, 1.79e9 + 7 * 86400) for seen in found.values()]
    print(f"outlook of {count} pools x {samples} samples: {took:.2f} s")
    assert len(found) == len(cut) == count and all(seen.path is not None for seen in found.values())
    assert took < 2


def test_forecasts_are_made_off_the_loop_thread(
    tables: Tables, comms: list[Any], clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample(tables, 0, tank=50)
    where = []

    def noted(table: Any) -> dict[Any, Outlook]:
        where.append((threading.current_thread() is threading.main_thread(), loop.on_loop_thread()))
        return outlook(table)

    monkeypatch.setattr(pools, "outlook", noted)
    view = PoolsView(tables)
    assert view._loop is not None
    view._loop.run(view._forecast())
    assert where == [(False, False)]
    assert view.model.state.rows[1][CELLS.index("outlook")].startswith("too little to say")
    view.close()
