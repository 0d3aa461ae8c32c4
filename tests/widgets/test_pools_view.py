"""The model of PoolsView: newest samples, lines with gaps as gaps, forecasts in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sysadm_nb import Tables, wire
from sysadm_nb.widgets.pools import CELLS, PoolsModel, history, thin

START = 1_795_417_200_000_000  # 2026-11-23 07:00:00 UTC
MINUTE = 60_000_000


def sample(tables: Tables, minute: float, *, server: str = "nas", origin: str = "live", **pools: Any) -> None:
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
        "system-state", {"hostname": "h", "priority": "0 - Information", "zpools": zpools}
    )
    tables.append(event, received=START + int(minute * MINUTE), server=server, origin=origin)


@pytest.fixture
def model(tables: Tables) -> PoolsModel:
    return PoolsModel(tables)


def cells(model: PoolsModel, row: int) -> dict[str, Any]:
    return dict(zip(CELLS, model.state.rows[row], strict=True))


def test_the_newest_sample_of_each_pool(model: PoolsModel, tables: Tables) -> None:
    sample(tables, 0, tank=40, backup=91)
    sample(tables, 15, tank=50)
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
    model.set_outlook({("nas", "tank"): ("full in about 41 days", 41.2)})
    assert cells(model, 1)["outlook"] == "full in about 41 days" and cells(model, 1)["days"] == 41.2


def test_nothing_known_is_none_not_zero(model: PoolsModel, tables: Tables) -> None:
    sample(
        tables, 0, tank={"size": "-", "alloc": "-", "free": "-", "capacity": "-", "frag": "-", "dedup": "-"}
    )
    model.refresh(START / 1e6)
    row = cells(model, 1)
    assert [row[name] for name in ("size", "alloc", "free", "used", "frag", "dedup")] == [None] * 6
    assert "tank" in model.text() and "tank" in model.html()
