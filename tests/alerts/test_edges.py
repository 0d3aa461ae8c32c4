"""Every kind of rule, edge by edge; the expected incidents are written by hand.

A row is (minute, value) or (minute, value, origin); an expected incident (began, fired, resolved, reason) in
minutes after 2026-01-01 00:00 UTC, resolved None while it fires.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from sysadm_nb.alerts import Evaluator, Rule, absent
from sysadm_nb.alerts.backtest import backtest
from tests.alerts.histories import MINUTE, START, risen, table

OVER = "capacity_pct > 80"


def pools(*rows: tuple, server: str = "nas", pool: str = "tank") -> pd.DataFrame:
    made = []
    for seq, (minute, used, *origin) in enumerate(rows, 1):
        lead = {
            "seq": seq,
            "time": START + minute * MINUTE,
            "server": server,
            "origin": (origin or ["live"])[0],
        }
        made.append(lead | {"pool": pool, "capacity_pct": float(used), "health": "ONLINE"})
    return table(made)


def minutes(frame: pd.DataFrame) -> list[tuple]:
    def minute(stamp: pd.Timestamp) -> Any:
        if pd.isna(stamp):
            return None
        exact = (stamp.value // 1000 - START) / MINUTE
        return int(exact) if exact == int(exact) else exact

    found = []
    for row in frame.to_dict("records"):
        reason = None if pd.isna(row["reason"]) else row["reason"]
        found.append((minute(row["began"]), minute(row["fired"]), minute(row["resolved"]), reason))
    return found


def check(rule: Rule, frames: Any, expected: list[tuple], end: int | None = None) -> pd.DataFrame:
    found = backtest([rule], frames, end=None if end is None else START + end * MINUTE)
    assert minutes(found) == expected
    return found


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([(0, 85), (15, 85), (30, 85)], [(0, 30, None, None)], id="exactly for_"),
        pytest.param([(0, 85), (15, 85), (29, 85)], [], id="a minute short"),
        pytest.param([(0, 85), (15, 85), (30, 70)], [], id="one row short"),
        pytest.param([(0, 85), (15, 79), (30, 85), (45, 85)], [], id="flapping starts anew"),
        pytest.param(
            [(0, 85), (15, 79), (30, 85), (45, 85), (60, 85), (75, 70)],
            [(30, 60, 75, "cleared")],
            id="flapping, then long enough",
        ),
        pytest.param([(0, 80), (15, 80), (30, 80), (45, 80)], [], id="the threshold itself is not above it"),
        pytest.param([(0, 85), (45, 85)], [(0, 45, None, None)], id="a gap of just max_gap"),
        pytest.param([(0, 85), (46, 85)], [], id="a gap in the middle"),
        pytest.param(
            [(0, 85), (46, 85), (76, 85)], [(46, 76, None, None)], id="after a gap it counts from its end"
        ),
        pytest.param(
            [(0, 85), (30, 85), (90, 85), (120, 85)],
            [(0, 30, 75, "no data"), (90, 120, None, None)],
            id="a gap ends what fires",
        ),
        pytest.param([(0, 85), (15, float("nan")), (30, 85)], [], id="a missing value is no evidence"),
        pytest.param([(0, 85), (15, 85), (15, 85), (30, 85)], [(0, 30, None, None)], id="two rows at once"),
    ],
)
def test_held_for_half_an_hour(rows, expected):
    check(Rule("r", "pools", OVER, for_="30min"), pools(*rows), expected)


def test_at_once():
    check(
        Rule("r", "pools", OVER),
        pools((0, 85), (15, 70), (30, 90)),
        [(0, 0, 15, "cleared"), (30, 30, None, None)],
    )


def test_a_key_that_disappears():
    """The pool is exported while it fires: 45 minutes after its last row the condition no longer holds."""
    gone = pools((0, 85), (30, 85))
    other = pools((0, 50), (30, 50), (60, 50), (90, 50), pool="other")
    both = pd.concat([gone, other]).assign(seq=range(1, 7))
    check(Rule("r", "pools", OVER, for_="30min"), both, [(0, 30, 75, "no data")])
    # a pending one that disappears never fires
    check(Rule("r", "pools", OVER, for_="40min"), both, [])


def test_holding_through_any_gap():
    rule = Rule("r", "pools", OVER, for_="30min", max_gap=None)
    check(rule, pools((0, 85), (600, 85)), [(0, 600, None, None)])
    check(rule, pools((0, 85), (600, 70)), [])


def test_hysteresis():
    rule = Rule("r", "pools", OVER, until="capacity_pct < 75")
    rows = [(0, 85), (15, 78), (30, 75), (45, 74), (60, 78), (75, 81)]
    found = check(rule, pools(*rows), [(0, 0, 45, "cleared"), (75, 75, None, None)])
    assert found["rows"].tolist() == [3, 1]
    assert found["peak"].tolist() == [85, 81]
    # while pending, `when` itself must hold
    held = Rule("r", "pools", OVER, until="capacity_pct < 75", for_="30min")
    check(held, pools((0, 85), (15, 78), (30, 85), (45, 85)), [])
    # a row that is true ends nothing, whatever `until` says
    odd = Rule("r", "pools", OVER, until="capacity_pct > 0")
    check(odd, pools((0, 85), (15, 85), (30, 70)), [(0, 0, 30, "cleared")])


def test_keep_for():
    rule = Rule("r", "pools", OVER, keep_for="30min")
    check(rule, pools((0, 85), (15, 70), (30, 70), (44, 70)), [(0, 0, None, None)])
    check(rule, pools((0, 85), (15, 70), (30, 70), (45, 70)), [(0, 0, 45, "cleared")])
    # a relapse meanwhile is the same incident, and its end is waited for anew
    check(rule, pools((0, 85), (15, 70), (40, 85), (55, 70), (90, 70)), [(0, 0, 85, "cleared")])
    check(rule, pools((0, 85), (15, 70), (46, 85)), [(0, 0, 45, "cleared"), (46, 46, None, None)])


def test_late_rows_do_not_count():
    """10:20 comes after 10:30: skipped, also where it would have ended or begun something."""
    rule = Rule("r", "pools", OVER, for_="30min")
    check(rule, pools((0, 85), (30, 85), (20, 70), (45, 85)), [(0, 30, None, None)])
    evaluator = Evaluator([rule])
    evaluator.feed({"pools": pools((0, 85), (30, 85), (20, 70), (45, 85))})
    assert evaluator.late == 1
    # half a minute is jitter: it counts, at the time of the row before
    check(Rule("r", "pools", OVER), pools((1, 85), (0.5, 70)), [(1, 1, 1, "cleared")])


def test_backfill():
    """Live, rows that are fetched later come too late to count; a backtest has them in their places."""
    rows = pools((0, 85), (15, 85), (100, 70), (30, 85, "backfill"), (60, 70, "backfill"))
    rule = Rule("r", "pools", OVER, for_="30min")
    check(rule, rows, [(0, 30, 60, "cleared")])
    evaluator = Evaluator([rule])
    evaluator.feed({"pools": rows})
    assert minutes(evaluator.table()) == []
    assert evaluator.late == 2


def test_recordings_that_are_joined_each_count_from_one():
    """Their numbers are no order of arrival, and would shuffle the two."""
    months = [pools((0, 85), (15, 85), (30, 85), (45, 70)), pools((60, 70), (75, 85), (90, 85), (105, 85))]
    for month in months:
        month["received"] = month["time"] + pd.Timedelta("1s")
    rule = Rule("r", "pools", OVER, for_="30min")
    expected = [(0, 30, 45, "cleared"), (75, 105, None, None)]
    check(rule, pd.concat(months, ignore_index=True), expected)
    check(rule, pd.concat(months[::-1], ignore_index=True), expected)
    check(Rule("gone", "pools", absent("pools", after="20min")), pd.concat(months, ignore_index=True), [])


def test_rows_without_numbers_count_in_order_of_time():
    """A frame of another source, newest first, or one resampled over a gap, where the bins have no number."""
    rows = pools((0, 85), (15, 85), (30, 85), (45, 70), (60, 70))
    rule = Rule("r", "pools", OVER, for_="30min")
    expected = [(0, 30, 45, "cleared")]
    check(rule, rows.drop(columns="seq")[::-1], expected)
    check(rule, rows.drop(columns="seq").sample(frac=1, random_state=3), expected)
    gap = pools((0, 85), (30, 85), (90, 85), (120, 85), (180, 70))
    binned = gap.set_index("time").groupby(["server", "pool"], observed=True).resample("30min").last()
    check(
        Rule("r", "pools", OVER, for_="30min"),
        binned.reset_index(),
        [(0, 30, 60, "cleared"), (90, 120, 150, "cleared")],
    )


def test_old_news_is_no_sample():
    rule = Rule("r", "pools", OVER, for_="30min")
    check(rule, pools((0, 85), (15, 85), (30, 85, "last")), [])


@pytest.mark.parametrize("window", [None, "20min"])
@pytest.mark.parametrize("lacking", [[0], [0, 1], [1, 3], [3], [0, 1, 2, 3]])
def test_rows_without_a_time_do_not_count(lacking, window):
    frame = pools((0, 85), (15, 60), (30, 85), (45, 85))
    when = OVER if window is None else "change(capacity_pct) > 20"
    rule = Rule("r", "pools", when, window=window)
    frame.loc[lacking, "time"] = pd.NaT
    check(rule, frame, minutes(backtest([rule], frame.drop(index=lacking))))


def test_clock_set_back():
    """An hour back at the third row: the first row on the new clock is doubted, then time goes on.

    Held from 0 to 15 on the old clock and from -30 to 0 on the new one: 45 minutes.
    """
    rule = Rule("r", "pools", OVER, for_="45min")
    found = check(rule, pools((0, 85), (15, 85), (-45, 85), (-30, 85), (-15, 85)), [(0, -15, None, None)])
    assert found["rows"].tolist() == [4]
    resolved = pools((0, 85), (15, 85), (-45, 85), (-30, 85), (-15, 85), (5, 70))
    found = check(rule, resolved, [(0, -15, 5, "cleared")])
    assert found["duration"].tolist() == [pd.Timedelta("20min")]


def test_two_servers_with_pools_of_the_same_name():
    a = pools((0, 85), (30, 85), server="nas")
    b = pools((0, 85), (15, 70), (30, 85), server="vault")
    both = pd.concat([a, b]).sort_values("time", kind="stable")
    both = both.assign(seq=range(1, 6), server=both["server"].astype("category"))
    found = backtest([Rule("r", "pools", OVER, for_="30min")], both)
    assert found[["server", "pool"]].values.tolist() == [["nas", "tank"]]
    assert minutes(found) == [(0, 30, None, None)]
    # judged together on purpose, the one resets the other
    assert minutes(backtest([Rule("r", "pools", OVER, by=["pool"], for_="30min")], both)) == []


def test_low_values_and_peaks():
    free = pools((0, 85), (15, 90), (30, 85), (45, 50))
    free["free_bytes"] = [9.0, 4.0, 8.0, 50.0]
    rule = Rule("r", "pools", "free_bytes < 10", message="{pool}: {value:.0f} left, {capacity_pct:.1f} %")
    found = check(rule, free, [(0, 0, 45, "cleared")])
    assert found["peak"].tolist() == [4.0]
    assert found["message"].tolist() == ["tank: 9 left, 85.0 %"]


def test_times_and_odd_values_in_messages():
    rows = pools((0, 85), (15, 85))
    rows["free_bytes"] = float("inf")
    rows["received"] = rows["time"].mask(rows["pool"] == "tank")
    rule = Rule("r", "pools", OVER, for_="15min", message="{time} {time:time} {free_bytes:size} {received}")
    found = check(rule, rows, [(0, 15, None, None)])
    assert found["message"].tolist() == ["2026-01-01 00:15 UTC 2026-01-01 00:15 UTC inf ?"]


def test_functions():
    rows = pools((0, 85), (15, 85), (30, 70))
    check(Rule("r", "pools", lambda df: df["capacity_pct"] > 80), rows, [(0, 0, 30, "cleared")])


def test_a_window_sees_its_key_and_its_time_only():
    seen = []

    def look(rows):
        seen.append(((rows["time"] - pd.Timestamp("2026-01-01", tz="UTC")) // pd.Timedelta("1min")).tolist())
        assert rows["pool"].nunique() == 1
        return False

    rule = Rule("r", "pools", look, window="30min")
    seen.clear()
    both = pd.concat([pools((0, 1), (15, 2), (30, 3), (44, 4)), pools((0, 5), (40, 6), pool="z")])
    backtest([rule], both.assign(seq=[1, 3, 4, 6, 2, 5]))
    assert sorted(seen) == [[0], [0], [0, 15], [15, 30], [15, 30, 44], [40]]


def test_rises():
    rows = pools((0, 70), (15, 72), (30, 76), (45, 76), (60, 76), (75, 76))
    # 6 % within the hour at 30 and 45; at 60 the window begins after the first row
    check(Rule("r", "pools", "change(capacity_pct) > 5", window="1h"), rows, [(30, 30, 60, "cleared")])
    check(Rule("r", "pools", risen, window="1h"), rows, [(30, 30, 60, "cleared")])
    # 2 % in 15 minutes are 192 % a day, but 15 minutes are less than half of the window
    daily = Rule("r", "pools", "per_day(capacity_pct) > 100", window="1h")
    check(daily, rows, [(30, 30, 75, "cleared")])


def test_samples_that_stopped():
    rule = Rule("r", "pools", absent("pools", after="45min"))
    check(rule, pools((0, 1), (45, 1)), [])
    check(rule, pools((0, 1), (46, 1)), [(0, 45, 46, "cleared")])
    check(rule, pools((0, 1)), [], end=45)
    check(rule, pools((0, 1)), [(0, 45, None, None)], end=46)
    some = Rule("r", "pools", absent("pools", after="30min", where="capacity_pct > 80"))
    check(some, pools((0, 85), (15, 70), (29, 85), (58, 70), (60, 70)), [(29, 59, None, None)])


def jobs(*rows: tuple[int, str]) -> pd.DataFrame:
    return table(
        [
            {"seq": 2 * n, "time": START + m * MINUTE, "server": "nas", "origin": "live"}
            | {"process_id": "a", "run": 1, "state": state, "failed": state == "finished"}
            for n, (m, state) in enumerate(rows, 1)
        ]
    )  # fmt: skip


def test_samples_that_nobody_could_have_seen_are_not_missed():
    rule = Rule("gone", "pools", absent("pools", after="45min"))
    for row, fired in [(12 * 60 + 10, None), (None, 12 * 60 + 15)]:
        evaluator = Evaluator([rule])
        evaluator.feed({"pools": pools((0, 50))})
        evaluator.was_off(START + 30 * MINUTE, START + 12 * 60 * MINUTE)
        if row is not None:
            evaluator.feed({"pools": pools((row, 50))})
        evaluator.tick(START + (12 * 60 + 20) * MINUTE)
        assert minutes(evaluator.table()) == ([] if fired is None else [(0, fired, None, None)])


def test_a_job_stands_until_its_next_change():
    """Nothing is heard of a job that hangs, so the clock makes it fire, and at the exact moment."""
    rule = Rule("r", "jobs", "state == 'running'", for_="1h")
    check(rule, jobs((0, "running"), (59, "finished")), [])
    check(rule, jobs((0, "running"), (60, "finished")), [(0, 60, 60, "cleared")])
    check(rule, jobs((0, "running"), (600, "finished")), [(0, 60, 600, "cleared")])
    check(rule, jobs((0, "running")), [], end=59)
    found = check(rule, jobs((0, "running")), [(0, 60, None, None)], end=60)
    assert found[["process_id", "run"]].values.tolist() == [["a", 1]]


def test_what_happens_once_stands_for_a_while():
    rule = Rule("r", "jobs", "failed", stands="1h", max_gap=None)
    check(rule, jobs((0, "running"), (5, "finished")), [(5, 5, None, None)], end=65)
    check(rule, jobs((0, "running"), (5, "finished")), [(5, 5, 65, "cleared")], end=66)


def lost(start: int, end: int, seq: int) -> pd.DataFrame:
    rows = [
        {"seq": seq, "time": start, "what": "lost", "gap_start": None, "gap_end": None},
        {"seq": seq + 1, "time": end, "what": "connected", "gap_start": None, "gap_end": None},
        {"seq": seq + 1, "time": end, "what": "gap", "gap_start": start, "gap_end": end},
    ]
    for row in rows:
        for name in ("time", "gap_start", "gap_end"):
            row[name] = None if row[name] is None else START + row[name] * MINUTE
    return table([row | {"server": "nas", "origin": "live"} for row in rows])


def test_a_lost_connection_breaks_what_stands():
    rule = Rule("r", "jobs", "state == 'running'", for_="2h")
    rows = jobs((0, "running"), (300, "finished"))
    short, long = lost(60, 100, seq=3), lost(60, 110, seq=3)
    check(rule, {"jobs": rows, "connection": short}, [(0, 120, 300, "cleared")])
    check(rule, {"jobs": rows, "connection": long}, [])
    through = Rule("r", "jobs", "state == 'running'", for_="2h", max_gap=None)
    check(through, {"jobs": rows, "connection": long}, [(0, 120, 300, "cleared")])
    # what fired before the gap ends with it: nobody knows any more
    early = Rule("r", "jobs", "state == 'running'", for_="30min")
    check(early, {"jobs": rows, "connection": long}, [(0, 30, 105, "no data")])


def test_the_clock_stands_still_while_the_connection_is_lost():
    down = lost(60, 100, seq=3).iloc[:1]
    frames = {"jobs": jobs((0, "running")), "connection": down}
    check(Rule("r", "jobs", "state == 'running'", for_="2h"), frames, [], end=500)
    silent = Rule("r", "connection", "what == 'lost'", until="what == 'connected'", for_="10min")
    check(silent, frames, [(60, 70, None, None)], end=500)


def test_keys_without_a_server_go_by_the_slowest_clock():
    """By a faster one a key of the slow server would end at every tick and fire again at its next row."""
    evaluator = Evaluator([Rule("full", "pools", "capacity_pct > 80", by=["pool"], max_gap="45min")])
    found = []
    for minute in range(4):
        found += evaluator.feed({"pools": pools((minute, 90), server="slow")})
        found += evaluator.tick({"fast": START + (120 + minute) * MINUTE, "slow": START + minute * MINUTE})
    assert [change.what for change in found] == ["fired"]


def test_rules_on_the_forecast():
    """A pool of 1000 GB that grows by 10 GB a day from 500 GB reaches 900 GB after 40 days."""
    day = 1440
    frame = pools(*[(n * day / 4, 50 + n / 4) for n in range(4 * 36)])
    frame["size_bytes"] = 1000e9
    frame["alloc_bytes"] = frame["capacity_pct"] * 10e9
    frame["free_bytes"] = frame["size_bytes"] - frame["alloc_bytes"]
    from sysadm_nb.alerts import forecast_within

    rule = Rule("r", "forecast", forecast_within(days=14, limit_pct=90), max_gap="2D")
    found = backtest([rule], frame)
    assert len(found) == 1
    fired = (found["fired"].iloc[0].value // 1000 - START) / MINUTE / day
    assert 24 <= fired <= 28  # 26 days in, 14 are left
    assert found[["server", "pool"]].values.tolist() == [["nas", "tank"]]
