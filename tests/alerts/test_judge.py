"""Judging rules: what they find of marked periods, how late, how often in vain; and sweeps over settings."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from sysadm_nb.alerts import Rules
from sysadm_nb.alerts.judge import threshold_of, with_threshold
from sysadm_nb.errors import InputError, RuleError
from tests.alerts.test_edges import pools

# two weeks of a sample every half hour: tank is over 80 % on days 1 (6 h), 4 (2 h) and 9 (3 h)
HIGH = {(1, 12): 86, (4, 4): 83, (9, 6): 91}  # day, samples
DAY = 1440


def fortnight() -> pd.DataFrame:
    rows = []
    for n in range(48 * 14 + 1):
        used = 70
        for (day, count), value in HIGH.items():
            if 48 * day <= n < 48 * day + count:
                used = value
        rows.append((n * 30, used))
    return pools(*rows)


def at(day: float, hours: float = 0) -> pd.Timestamp:
    return pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(days=day, hours=hours)


# the rises of days 1 and 9 were real, as was something on day 11 that nothing shows
LABELS = pd.DataFrame(
    {
        "start": [at(1, -1), at(9), at(11)],
        "end": [at(1, 5), at(9, 2), at(11, 1)],
        "server": "nas",
        "pool": "tank",
    }
)


@pytest.fixture
def rules() -> Rules:
    made = Rules()
    made.add("nearly full", table="pools", when="capacity_pct > 80", until="capacity_pct < 75", for_="30min")
    return made


def test_evaluate(rules):
    (row,) = rules.evaluate(fortnight(), LABELS).to_dict("records")
    assert row["rule"] == "nearly full"
    assert (row["incidents"], row["right"], row["false_alarms"], row["periods"], row["found"]) == (
        3,
        2,
        1,
        3,
        2,
    )
    assert row["precision"] == pytest.approx(2 / 3)
    assert row["recall"] == pytest.approx(2 / 3)
    # day 1: fired 30 min after midnight, an hour and a half after the period began; day 9: after 30 min
    assert row["delay"] == pd.Timedelta("1h")
    assert row["false_alarms_per_week"] == 0.5
    # fired half an hour into 6, 2 and 3 hours
    assert row["total"] == pd.Timedelta("9h30min")
    assert row["longest"] == pd.Timedelta("5h30min")


def test_labels_of_other_keys_and_rules_count_for_nobody_else(rules):
    others = LABELS.assign(pool="dozer")
    (row,) = rules.evaluate(fortnight(), others).to_dict("records")
    assert (row["found"], row["false_alarms"]) == (0, 3)
    assert pd.isna(row["delay"])
    (row,) = rules.evaluate(fortnight(), LABELS.drop(columns=["server", "pool"])).to_dict("records")
    assert row["found"] == 2
    (row,) = rules.evaluate(fortnight(), LABELS.assign(rule="another")).to_dict("records")
    assert (row["periods"], row["found"]) == (0, 0)
    assert math.isnan(row["recall"])


def test_labels_that_cannot_be_used(rules):
    with pytest.raises(InputError, match="labels lacks the column 'end'"):
        rules.evaluate(fortnight(), LABELS.drop(columns="end"))
    with pytest.raises(InputError, match="ends before it starts"):
        rules.evaluate(fortnight(), LABELS.assign(end=at(0)))


def test_sweep(rules):
    rules.evaluate(fortnight(), LABELS)
    found = rules.sweep("nearly full", threshold=[76, 82, 85, 92])
    assert found["threshold"].tolist() == [76, 82, 85, 92]
    assert found["incidents"].tolist() == [3, 3, 2, 0]
    assert found["false_alarms"].tolist() == [1, 1, 0, 0]
    assert found["recall"].round(2).tolist() == [0.67, 0.67, 0.67, 0.0]
    assert rules["nearly full"].when == "capacity_pct > 80", "the rule itself was changed"
    several = Rules(rules).sweep("nearly full", fortnight(), threshold=[82, 85], for_=["30min", "4h"])
    assert several[["threshold", "for_", "incidents"]].values.tolist() == [
        [82, "30min", 3],
        [82, "4h", 1],
        [85, "30min", 2],
        [85, "4h", 1],
    ]
    assert list(several.columns) == ["threshold", "for_", "incidents", "total", "longest"]
    python, numpy = (rules.sweep("nearly full", for_=make(0, 28_800, 7_200)) for make in (range, np.arange))
    pd.testing.assert_frame_equal(python, numpy)


def test_what_cannot_be_swept(rules):
    with pytest.raises(RuleError, match="needs a source"):
        Rules(rules).sweep("nearly full", threshold=[1])
    with pytest.raises(InputError, match="needs a setting to vary"):
        rules.sweep("nearly full", fortnight())
    with pytest.raises(RuleError, match="no option 'treshold'"):
        rules.sweep("nearly full", fortnight(), treshold=[1])
    rules.add("odd", table="pools", when="health == 'ONLINE'")
    with pytest.raises(RuleError, match="has no number to vary"):
        rules.sweep("odd", fortnight(), threshold=[1])


@pytest.mark.parametrize(
    ("when", "number", "moved"),
    [
        ("capacity_pct > 80", 80, "capacity_pct > 90.5"),
        ("health == 'ONLINE' and capacity_pct>=80", 80, "health == 'ONLINE' and capacity_pct>=90.5"),
        ("80 < capacity_pct", 80, "90.5 < capacity_pct"),
        ("frag_pct * 2 > -5", -5, "frag_pct * 2 > 90.5"),
        ("contains(altroot, 'ü') and frag_pct > 1", 1, "contains(altroot, 'ü') and frag_pct > 90.5"),
        ("(pool == 'ü' and\n   frag_pct > 1)\n", 1, "(pool == 'ü' and\n   frag_pct > 90.5)"),
        ("(pool == 'ü' and\r\n  -\n1 < frag_pct)", -1, "(pool == 'ü' and\r\n  90.5 < frag_pct)"),
        ("capacity_pct > 80 & frag_pct > 50", 80, "capacity_pct > 90.5 and frag_pct > 50"),
        ("capacity_pct > 80&(frag_pct > 50)", 80, "capacity_pct > 90.5 and (frag_pct > 50)"),
        (
            "(pool != 'a&b' |\n capacity_pct > 80 & frag_pct > 5)",
            80,
            "(pool != 'a&b' or \n capacity_pct > 90.5 and frag_pct > 5)",
        ),
    ],
)
def test_the_threshold_of_an_expression(when, number, moved):
    rules = Rules()
    rules.add("r", table="pools", when=when)
    assert threshold_of(when) == number
    assert with_threshold(rules["r"], 90.5).when == moved
