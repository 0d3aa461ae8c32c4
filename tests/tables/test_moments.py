"""When a message of life-preserver happened: it tells whole seconds, the arrival tells more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from sysadm_nb.tables import Tables
from sysadm_nb.wire import encode_event

TOLD = datetime(2026, 11, 23, 7, 15, 12, tzinfo=UTC)


def appended(tables, zone, after, received=None, **more):
    """The time in the tables of a message of 07:15:12 that came so much after that second began."""
    args = {
        "class": "snapshot",
        "priority": "1 - Information",
        "message": f"Mon Nov 23 07:15:12{zone} 2026: New snapshot of tank/home",
    }
    tables.append(
        encode_event("life-preserver", args), received=(received or TOLD) + after, server="nas", **more
    )
    time = tables.life_preserver["time"].iloc[-1]
    assert time in tables.events.loc[tables.events["event"] == "life-preserver", "time"].tolist()
    return time


@pytest.mark.parametrize("zone", [" UTC", ""])
def test_within_the_second_that_it_tells_it_is_the_arrival(zone):
    for after in (timedelta(0), timedelta(microseconds=1), timedelta(microseconds=999_999)):
        assert appended(Tables(), zone, after) == TOLD + after


def test_a_local_time_is_the_arrival_too():
    west = TOLD + timedelta(hours=5)  # what is 07:15 there
    after = timedelta(milliseconds=250)
    assert appended(Tables(), " EST", after, received=west) == west + after


@pytest.mark.parametrize("after", [timedelta(seconds=1), timedelta(seconds=40), -timedelta(microseconds=1)])
def test_outside_of_it_the_second_is_kept(after):
    assert appended(Tables(), " UTC", after) == TOLD


def test_what_is_read_later_happened_when_it_says():
    assert appended(Tables(), " UTC", timedelta(days=3), origin="backfill") == TOLD


def test_rows_stay_in_order_of_arrival():
    tables = Tables()
    for after in (0.2, 0.5, 0.9):
        tables.append(
            encode_event("dispatcher", {"process_id": "p", "state": "running"}),
            received=TOLD + timedelta(seconds=after),
            server="nas",
        )
        appended(tables, " UTC", timedelta(seconds=after + 0.01))
    assert tables.events["seq"].is_monotonic_increasing
    assert tables.events["time"].is_monotonic_increasing
    assert tables.events["time"].iloc[-1] == pd.Timestamp(TOLD) + pd.Timedelta("910ms")
