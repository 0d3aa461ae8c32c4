"""The lab and the view without a browser: their models."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pandas as pd
import pytest

import sysadm_nb as sa
from sysadm_nb import loop
from sysadm_nb.alerts import Rules, arm
from sysadm_nb.alerts.armed import guards_of
from sysadm_nb.errors import SysadmError
from sysadm_nb.widgets import alert_lab_model
from sysadm_nb.widgets._base import PERIOD_S
from sysadm_nb.widgets.alert_lab_model import BUCKETS, LabModel, thinned
from sysadm_nb.widgets.alerts_view import CELLS, AlertsModel
from sysadm_nb.wire import encode_event
from tests.alerts.histories import MINUTE, START

QUARTER = 15 * MINUTE
# over 80 % in samples 10 to 13 and 20 to 21
CAPACITY = [70] * 10 + [85] * 4 + [70] * 6 + [82] * 2 + [70] * 10


@pytest.fixture
def tables():
    made = sa.Tables()
    for number, used in enumerate(CAPACITY):
        time = START + number * QUARTER
        health = "DEGRADED" if 5 <= number < 8 else "ONLINE"
        zpools = {
            "tank": {"capacity": f"{used}%", "health": health},
            "dozer": {"capacity": "30%", "health": "ONLINE"},
        }
        event = encode_event("system-state", {"hostname": "nas", "zpools": zpools}, time)
        made.append(event, server="nas", received=time)
    return made


def found(model, name="result"):
    """Samples at which the incidents fired and ended."""
    return [tuple((t - START) / QUARTER for t in one[:2]) for one in model.state.values[name]["incidents"]]


def test_settings_make_a_rule(tables):
    model = LabModel(tables)
    assert found(model) == [(12, 14)]  # for 30 min by default: only the longer one
    model.edit(for_s=0)
    assert found(model) == [(10, 14), (20, 22)]
    model.edit(threshold=84)
    assert found(model) == [(10, 14)]
    model.edit(threshold=80, until=60, sign=">=")
    assert found(model) == [(10, 31)]  # never under 60: it still fires at the end
    assert model.state.values["result"]["incidents"][0][4] is True
    assert model.setting.rule().until == "capacity_pct < 60"
    code = model.state.values["code"]
    rules = {}
    exec(code, {"sa": sa}, rules)
    assert rules["rules"]["my rule"] == model.setting.rule()
    assert model.summary().endswith("1 incidents, 5:15 h in all")
    assert "nas tank" in model.text() and "nas tank" in model.html()


def test_settings_that_make_no_rule_change_nothing(tables):
    model = LabModel(tables)
    before = model.setting
    for wrong in ({"table": "pool"}, {"value": "capacity"}, {"thresh": 3}, {"for_s": -1}, {"name": " "}):
        with pytest.raises(SysadmError):
            model.edit(**wrong)
        assert model.setting == before


def test_words(tables):
    model = LabModel(tables)
    model.edit(value="health", for_s=0)
    assert model.setting.when == "health != 'ONLINE'"
    assert found(model) == [(5, 8)]
    assert model.state.values["words"] == ["DEGRADED", "ONLINE"]
    model.edit(value="capacity_pct")
    assert model.setting.when == "capacity_pct > 80"
    model.edit(table="jobs")
    assert model.setting.value in dict(model.state.values["choices"]["jobs"])
    assert model.state.values["span"] is None


def test_one_key(tables):
    model = LabModel(tables)
    model.edit(for_s=0, key="nas dozer")
    assert found(model) == []
    assert [line["key"] for line in model.state.values["lines"]] == ["nas dozer"]
    model.edit(key=None)
    assert len(model.state.values["lines"]) == 2
    model.edit(value="health", key="nas tank")
    assert model.key == "nas tank" and found(model) == [(5, 8)]
    with pytest.raises(SysadmError):
        model.edit(table="pool", key="nas dozer")
    assert model.key == "nas tank"
    model.edit(value="capacity_pct")  # another value, all of its keys
    assert model.key is None


def test_marks_and_comparison(tables):
    model = LabModel(tables)
    model.edit(for_s=0)
    start, end, key = model.state.values["result"]["incidents"][0][:3]
    model.toggle(start, end, key)
    judged = model.state.values["result"]["judged"]
    assert (judged["found"], judged["periods"], judged["false"], judged["delay_s"]) == (1, 1, 1, 0)
    assert model.label_frame()[["server", "pool"]].values.tolist() == [["nas", "tank"]]
    rules = Rules([model.setting.rule()])
    (same,) = rules.evaluate(tables, model.label_frame()).to_dict("records")
    assert (same["found"], same["false_alarms"]) == (1, 1)
    model.compare(True)
    model.edit(threshold=84)
    assert (found(model), found(model, "other_result")) == ([(10, 14)], [(10, 14), (20, 22)])
    model.swap()
    assert model.setting.threshold == 80 and model.other.threshold == 84
    model.toggle(start, end, key)
    assert model.labels == [] and model.state.values["result"]["judged"] is None
    model.mark(end, start)
    assert model.labels[0]["start"] < model.labels[0]["end"]
    model.unmark(0)
    model.unmark(7)
    assert model.labels == []


def test_lines_keep_their_extremes_and_their_gaps():
    at = np.arange(100_000, dtype=np.int64) * QUARTER
    values = np.sin(np.arange(100_000) / 900) * 10 + 50
    values[43_210] = 99.0
    values[7_777] = 1.0
    times, shown = thinned(at, values, int(at[0]), int(at[-1]), None)
    assert len(times) <= 2 * BUCKETS + 4
    assert max(shown) == 99.0 and min(shown) == 1.0
    assert times == sorted(times) and times[0] == at[0] and times[-1] == at[-1]
    few = np.array([0, 1, 2, 9, 10]) * QUARTER
    times, shown = thinned(few, np.arange(5.0), 0, int(few[-1]), 3 * QUARTER)
    assert shown == [0.0, 1.0, 2.0, None, 3.0, 4.0]


def test_the_view_of_alerts(tables):
    rules = Rules()
    rules.add("full", table="pools", when="capacity_pct > 80")
    rules.add("used", table="pools", when="capacity_pct > 50", severity="info", max_gap=None)
    with arm(tables, rules) as armed:
        assert armed.caught_up()
        model = AlertsModel(armed)
        model.refresh(0)
        assert [row[:4] for row in model.state.rows.values()] == [["firing", "used", "info", "nas tank"]]
        assert model.state.values["past_count"] == 2
        assert [(p[0], p[3] - START) for p in model.state.values["past"]] == [
            ("full", 20 * QUARTER),
            ("full", 10 * QUARTER),
        ]
        assert model.summary() == "1 firing, 0 pending, by 2 rules"
        assert "nas tank" in model.text() and "nas tank" in model.html()
        states = [line.split()[0] for line in model.text().splitlines()[1:]]
        assert states == ["state", "firing", "over", "over"]
        armed.silence("1h", rule="used")
        model.refresh(0)
        (row,) = model.state.rows.values()
        assert row[9] is not None
        armed.unsilence(armed.rows()[0]["id"])
        model.refresh(0)
        (row,) = model.state.rows.values()
        assert row[9] is None
    model.refresh(0)
    assert model.state.values["armed"] is False


def test_the_view_of_alerts_knows_a_clock_that_is_not_ours():
    tables, rules = sa.Tables(), Rules()
    rules.add("full", table="pools", when="capacity_pct > 80")
    rules.add("lost", table="connection", when="what == 'lost'", by=["server"])
    now = time.time_ns() // 1000
    for server, at in (("nas", now), ("past", START)):
        event = {"hostname": "nas", "zpools": {"tank": {"capacity": "85%"}}}
        tables.append(encode_event("system-state", event, at), server=server, received=now)
        tables.append_connection("lost", server=server, time=now)
    with arm(tables, rules) as armed:
        assert armed.caught_up()
        model = AlertsModel(armed)
        model.refresh(0)
        behind = {(row[1], row[3]): row[CELLS.index("behind")] for row in model.state.rows.values()}
    assert behind == {
        ("full", "nas tank"): 0,
        ("full", "past tank"): now - START,
        ("lost", "nas"): 0,
        ("lost", "past"): 0,
    }


@pytest.mark.parametrize("do", ["look", "edit"])
def test_the_loop_thread_goes_on_while_the_lab_works(tables, monkeypatch, do):
    go_on, at_work = threading.Event(), threading.Event()
    history = alert_lab_model.history

    def slow(*args):
        at_work.set()
        assert go_on.wait(20)
        return history(*args)

    handle = loop.acquire()
    lab = sa.AlertLab(tables, for_s=0)
    try:
        monkeypatch.setattr(alert_lab_model, "history", slow)
        zpools = {"tank": {"capacity": "99%", "health": "ONLINE"}}
        event = encode_event("system-state", {"hostname": "nas", "zpools": zpools}, START + 50 * QUARTER)
        tables.append(event, server="nas")
        if do == "edit":  # as the browser asks for it
            lab._on_message(lab, {"do": "edit", "setting": {"threshold": 84}, "n": 1}, [])
        assert at_work.wait(10)
        handle.run(asyncio.sleep(2 * PERIOD_S), timeout=3)  # and the view's timer with it
        go_on.set()
        deadline = time.monotonic() + 10
        while found(lab.lab)[-1][0] != 50 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(found(lab.lab)) == (3 if do == "look" else 2)
    finally:
        go_on.set()
        lab.close()
        handle.release()


def test_a_lab_takes_the_place_of_its_own_guard_and_tells_of_another_ones(tables):
    """As after the lab's cell was run again: the guard of the first lab is still there."""
    first, second = sa.AlertLab(tables), sa.AlertLab(tables)

    def pressed(lab: sa.AlertLab) -> str:
        lab._loop.run(lab.do_arm())
        return str(lab.lab.state.values["note"])

    try:
        assert "twice" not in pressed(first)
        assert "twice" not in pressed(first)  # moved and armed again: one guard
        assert len(guards_of(tables)) == 1
        assert "'my rule' was armed here before and still is" in pressed(second)
        assert guards_of(tables) == [first.armed, second.armed]
    finally:
        for lab in (first, second):
            if lab.armed is not None:
                lab.armed.disarm()
            lab.close()
    assert guards_of(tables) == []


def test_rows_that_came_again_are_no_past():
    tables = sa.Tables()
    zpools = {"tank": {"capacity": "90%", "health": "ONLINE"}}
    tables.append(
        encode_event("system-state", {"hostname": "nas", "zpools": zpools}), server="nas", origin="last"
    )
    model = LabModel(tables)
    assert model.state.values["span"] is None and model.state.values["lines"] == []
    assert found(model) == []


def test_a_key_with_a_part_missing_is_named_by_the_rest():
    tables = sa.Tables()
    for minute in range(2):
        args = {"class": "replication", "message": "something unforeseen", "priority": "7 - Critical"}
        tables.append(encode_event("life-preserver", args, START + minute * MINUTE), server="nas")
    model = LabModel(tables)
    model.edit(table="life_preserver", value="action", threshold="other", for_s=0)
    assert model.state.values["keys"] == ["nas"]
    assert [one[2] for one in model.state.values["result"]["incidents"]] == ["nas"]
    model.edit(key="nas")
    assert model.state.values["result"]["count"] == 1


def test_a_mark_is_about_its_own_key():
    tables = sa.Tables()
    for number, used in enumerate(CAPACITY):
        time = START + number * QUARTER
        zpools = {"a tank": {"capacity": f"{used}%"}, "b": {"capacity": "30%"}}
        event = encode_event("system-state", {"hostname": "nas", "zpools": zpools}, time)
        tables.append(event, server="my nas", received=time)
    model = LabModel(tables)
    model.edit(for_s=0)
    model.toggle(*model.state.values["result"]["incidents"][0][:3])
    assert model.label_frame()[["server", "pool"]].values.tolist() == [["my nas", "a tank"]]
    judged = model.state.values["result"]["judged"]
    assert (judged["found"], judged["periods"], judged["false"]) == (1, 1, 1)
    model.edit(key="my nas b")  # nothing was missed there
    assert model.state.values["result"]["judged"] is None
    model.mark(START, START + QUARTER)
    judged = model.state.values["result"]["judged"]
    assert (judged["found"], judged["periods"]) == (0, 1)
    with pytest.raises(SysadmError, match="no 'their nas' in the pools table"):
        model.mark(START, START + QUARTER, "their nas")


@pytest.mark.parametrize("table", ["pools", "life_preserver"])
def test_the_lab_ends_where_a_backtest_ends(table):
    tables = sa.Tables()

    def put(name, at, args):
        tables.append(encode_event(name, args, START + at * QUARTER), server="nas")

    for number in range(8):
        zpools = {"tank": {"capacity": "95%", "health": "ONLINE"}}
        put("system-state", number, {"hostname": "nas", "zpools": zpools})
        put("life-preserver", number, {"class": "x", "message": "unforeseen", "priority": "7 - Critical"})
    model = LabModel(tables)
    if table == "pools":
        model.edit(for_s=0)
    else:
        model.edit(table=table, value="action", threshold="other", for_s=0)

    def both():
        past = Rules([model.setting.rule()]).backtest(tables)
        return [[row is pd.NaT for row in past["resolved"]], [one[4] for one in shown()]]

    def shown():
        return model.state.values["result"]["incidents"]

    assert both() == [[True], [True]]
    put("dispatcher", 30, {"process_id": "one", "state": "running"})  # the same table, another time
    now = time.time() + 100
    assert model.due(now)
    model.refresh(now)
    assert not model.due(now + 100)
    old, new = both()
    assert old == new
    if table == "pools":  # no sample came for hours
        assert new == [False] and model.state.values["span"][1] == START + 7 * QUARTER
