"""Lengths of time as people write them; warnings are errors, so none may lean on what pandas gives up."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import pytest

from sysadm_nb.tables.spans import timespan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", timedelta(days=7)),
        ("7D", timedelta(days=7)),
        ("1d12h", timedelta(hours=36)),
        ("2w", timedelta(weeks=2)),
        ("2 weeks", timedelta(weeks=2)),
        ("24H", timedelta(days=1)),
        ("90S", timedelta(seconds=90)),
        ("90 min", timedelta(minutes=90)),
        ("1 day 02:00:00", timedelta(hours=26)),
        ("P1DT12H", timedelta(hours=36)),
        ("250ms", timedelta(milliseconds=250)),
    ],
)
def test_units(text: str, expected: timedelta) -> None:
    assert timespan(text) == pd.Timedelta(expected)


@pytest.mark.parametrize("text", ["90", "2 fortnights", "M", "", "5 d d"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        timespan(text)
