"""The promise: what a rule says of the past it says live, however the rows come."""

from __future__ import annotations

import itertools
import json

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sysadm_nb.alerts import Evaluator, Rule, forecast_within
from sysadm_nb.alerts.backtest import backtest, clock_at
from tests.alerts.histories import histories, rule_sets
from tests.alerts.test_edges import pools

relaxed = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
at_length = settings(relaxed, max_examples=1000)


def slices(history: dict[str, pd.DataFrame], cuts: list[int]) -> list[dict[str, pd.DataFrame]]:
    """The history in pieces, each from one frame number to the next."""
    edges = [0, *sorted(set(cuts)), 10**9]
    pieces = []
    for low, high in itertools.pairwise(edges):
        piece = {}
        for name, frame in history.items():
            if len(frame):
                part = frame[(frame["seq"] > low) & (frame["seq"] <= high)].reset_index(drop=True)
                # a batch knows only the words that are in it
                for column in part.columns:
                    if isinstance(part[column].dtype, pd.CategoricalDtype):
                        part[column] = part[column].cat.remove_unused_categories()
                if len(part):
                    piece[name] = part
        pieces.append(piece)
    return pieces


def fed(
    rules: list[Rule], pieces: list[dict[str, pd.DataFrame]], restarts: set[int], clock: int
) -> pd.DataFrame:
    evaluator = Evaluator(rules)
    for number, piece in enumerate(pieces):
        if number in restarts:
            evaluator = Evaluator(rules, json.loads(json.dumps(evaluator.state())))
        evaluator.feed(piece)
    evaluator.tick(clock)
    assert not evaluator.broken
    return evaluator.table()


ANY_WAY = {
    "history": histories(),
    "rules": rule_sets(),
    "cuts": st.lists(st.integers(1, 60), max_size=8),
    "restarts": st.sets(st.integers(0, 60), max_size=4),
    "later": st.integers(0, 200),
}


def feed_every_way(history, rules, cuts, restarts, later):
    history = {name: frame for name, frame in history.items() if len(frame)}
    clock = clock_at(history) + later * 60_000_000
    singly = list(range(1, 61))
    at_once = fed(rules, slices(history, []), set(), clock)
    for pieces, stops in [(singly, set()), (cuts, set()), (cuts, restarts), (singly, restarts)]:
        pd.testing.assert_frame_equal(at_once, fed(rules, slices(history, pieces), stops, clock))


@relaxed
@given(**ANY_WAY)
def test_batches_and_restarts(history, rules, cuts, restarts, later):
    feed_every_way(history, rules, cuts, restarts, later)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@at_length
@given(**ANY_WAY)
def test_batches_and_restarts_at_length(history, rules, cuts, restarts, later):
    feed_every_way(history, rules, cuts, restarts, later)


def test_forecasts_do_not_depend_on_batches():
    """Two pools for five weeks, of which one fills: forecasts are as costly as they are, so one history."""
    pieces = []
    for pool, start, growth in (("tank", 50.0, 0.25), ("dozer", 40.0, 0.05)):
        used = [start + growth * n + (n * 7919 % 13) / 10 for n in range(4 * 36)]
        rows = [(n * 360, value) for n, value in enumerate(used)]
        pieces.append(pools(*rows, pool=pool))
    frame = pd.concat(pieces).sort_values("time", kind="stable", ignore_index=True)
    frame = frame.assign(
        seq=range(1, len(frame) + 1), size_bytes=1e12, alloc_bytes=frame["capacity_pct"] * 1e10
    )
    frame["free_bytes"] = frame["size_bytes"] - frame["alloc_bytes"]
    frame["pool"] = frame["pool"].astype("category")
    rules = [
        Rule("soon", "forecast", forecast_within(days=14, limit_pct=90, every="1D"), max_gap="3D"),
        Rule("growing", "forecast", "growth_bytes_per_day > 5e9", for_="1D", max_gap="3D"),
    ]
    clock = clock_at({"pools": frame})
    at_once = fed(rules, slices({"pools": frame}, []), set(), clock)
    assert {"soon", "growing"} == set(at_once["rule"])
    cut = list(range(20, 288, 20))
    pd.testing.assert_frame_equal(at_once, fed(rules, slices({"pools": frame}, cut), {3, 7, 11}, clock))


@relaxed
@given(history=histories(), rules=rule_sets(), cuts=st.lists(st.integers(1, 60), max_size=8), data=st.data())
def test_ticks_in_between_change_nothing(history, rules, cuts, data):
    """A clock that keeps behind the rows still to come only makes things known sooner."""
    history = {n: f[~f["origin"].isin(["backfill"])] for n, f in history.items() if len(f)}
    history = {n: f for n, f in history.items() if len(f)}
    if not history:
        return
    # a clock that runs behind needs rows in order: set-back clocks are for the test above
    for name, frame in history.items():
        history[name] = frame.assign(time=frame["time"].cummax())
    order = pd.concat([f[["seq", "time", "server"]] for f in history.values()])
    clock = clock_at(history) + 60_000_000
    expected = fed(rules, slices(history, []), set(), clock)
    evaluator = Evaluator(rules)
    edges = sorted({0, *cuts, 10**9})
    for number, piece in enumerate(slices(history, cuts)):
        evaluator.feed(piece)
        later = order[order["seq"] > edges[number + 1]] if number + 1 < len(edges) else order[:0]
        low = int(later["time"].min().value // 1000) if len(later) else clock
        evaluator.tick(low - data.draw(st.integers(1, 30)) * 60_000_000)
    evaluator.tick(clock)
    pd.testing.assert_frame_equal(expected, evaluator.table())


@relaxed
@given(history=histories(), rules=rule_sets())
def test_backtest_of_what_came_live(history, rules):
    """Without rows fetched later, a backtest of the tables is what the live evaluator said."""
    history = {n: f[f["origin"] != "backfill"] for n, f in history.items() if len(f)}
    history = {n: f for n, f in history.items() if len(f)}
    if not history:
        return
    live = fed(rules, slices(history, list(range(1, 61))), set(), clock_at(history))
    shown = {n: f.sort_values("time", kind="stable") for n, f in history.items()}  # as the tables show them
    pd.testing.assert_frame_equal(live, backtest(rules, shown))


def test_the_generators_reach_incidents():
    """The property would be empty if hardly any history made a rule fire."""
    found = []

    @settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(history=histories(), rules=rule_sets())
    def look(history, rules):
        found.append(len(backtest(rules, {n: f for n, f in history.items() if len(f)})))

    look()
    assert sum(1 for n in found if n) > len(found) // 3
