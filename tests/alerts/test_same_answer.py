"""The promise: what a rule says of the past it says live, however the rows come."""

from __future__ import annotations

import itertools
import json

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sysadm_nb.alerts import Evaluator, Rule
from sysadm_nb.alerts.backtest import backtest, clock_at
from tests.alerts.histories import histories, rule_sets

relaxed = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


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


@relaxed
@given(
    history=histories(),
    rules=rule_sets(),
    cuts=st.lists(st.integers(1, 60), max_size=8),
    restarts=st.sets(st.integers(0, 60), max_size=4),
    later=st.integers(0, 200),
)
def test_batches_and_restarts(history, rules, cuts, restarts, later):
    history = {name: frame for name, frame in history.items() if len(frame)}
    clock = clock_at(history) + later * 60_000_000
    at_once = fed(rules, slices(history, []), set(), clock)
    row_by_row = fed(rules, slices(history, list(range(1, 61))), set(), clock)
    batches = fed(rules, slices(history, cuts), set(), clock)
    restarted = fed(rules, slices(history, cuts), restarts, clock)
    all_restarted = fed(rules, slices(history, list(range(1, 61))), restarts, clock)
    for other in (row_by_row, batches, restarted, all_restarted):
        pd.testing.assert_frame_equal(at_once, other)


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


@pytest.mark.parametrize("part", [0, 1, 2])
def test_the_generators_reach_incidents(part):
    """The property would be empty if hardly any history made a rule fire."""
    found = []

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(history=histories(), rules=rule_sets())
    def look(history, rules):
        found.append(len(backtest(rules, {n: f for n, f in history.items() if len(f)})))

    look()
    assert sum(1 for n in found if n) > len(found) // 3
