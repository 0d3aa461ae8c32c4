"""What a gap hid: the zone worked out, doubles left out, order kept; against replies of a real server."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadm_nb import wire
from sysadm_nb.client.backfill import (
    QUARTER,
    SECOND,
    Known,
    backfill,
    offset_by_events,
    offset_by_range,
    parse_since,
    read_entries,
)
from sysadm_nb.errors import InputError
from sysadm_nb.tables import Tables

HOUR = 3600 * SECOND
DATA = Path(__file__).parent / "data" / "read_logs.json"


def us(text: str) -> int:
    return wire.to_microseconds(datetime.fromisoformat(text + "+00:00"))


class LogServer:
    """Answers ``read_logs`` as a real server in some zone would, from its events ``(time, class, args)``."""

    name = "nas"

    def __init__(self, events: list[tuple[int, str, dict[str, Any]]], zone: int = 0) -> None:
        self.events, self.zone = events, zone
        self.hosts: dict[str, str] = {}

    async def request(self, namespace: str, name: str, args: dict[str, Any]) -> Any:
        assert (namespace, name, args["action"], args["time_format"]) == (
            "rpc",
            "logs",
            "read_logs",
            "time_t_seconds",
        )
        assert isinstance(args["start_time"], str)  # numbers are ignored by real servers
        (log,) = args["logs"]
        if log == "hostinfo":
            return {"hostinfo": {"": "", **self.hosts}} if self.hosts else {}
        classes = {"dispatcher": "events-dispatcher", "life-preserver": "events-lifepreserver"}
        found: dict[str, Any] = {}
        for time, event, said in self.events:
            if classes.get(event, "events-state") == log and time >= int(args["start_time"]) * SECOND:
                found[self.local(time)] = said  # of one second the last stays
        return {log: {"": {}, **found}} if found else {}

    def local(self, time: int) -> str:
        return (wire.to_datetime(time + self.zone).replace(tzinfo=None)).isoformat(timespec="seconds")


def job(number: int) -> dict[str, Any]:
    return {"process_id": f"job{number}", "state": "running"}


def fill(server: LogServer, tables: Tables, start: int, end: int) -> tuple[str, list[tuple[int, str]]]:
    """Run a backfill; returns its sentence and what it inserted as (time, process id)."""

    def insert(frame: str) -> None:
        tables.append(frame, received=end, server="nas", origin="backfill")

    said = asyncio.run(
        backfill(server, tables, start=start, end=end, connected=end, insert=insert)  # type: ignore[arg-type]
    )
    rows = tables.events[tables.events["origin"] == "backfill"]
    times = [int(time.value // 1000) for time in rows["time"]]
    return said, list(zip(times, rows["subject"], strict=True))


def live(tables: Tables, time: int, args: dict[str, Any]) -> None:
    tables.append(wire.encode_event("dispatcher", args), received=time, server="nas")


BASE = us("2026-11-23T07:00:00")


@pytest.mark.parametrize("zone", [0, HOUR, -5 * HOUR, 5 * HOUR + 3 * QUARTER, 13 * HOUR])
def test_the_zone_is_worked_out_from_the_live_events(zone: int) -> None:
    """Two events came live, two happened in the gap: those come back, at their time, once."""
    events = [(BASE + n * 10 * SECOND + 300_000, "dispatcher", job(n)) for n in range(4)]
    tables = Tables()
    live(tables, events[0][0] + 20_000, job(0))
    live(tables, events[3][0] + 20_000, job(3))
    said, rows = fill(LogServer(events, zone), tables, events[0][0] + 20_000, BASE + 25 * SECOND)
    assert rows == [(BASE + 10 * SECOND, "job1"), (BASE + 20 * SECOND, "job2")]
    assert said.startswith("2 events from the server's logs")
    assert "taken as UTC" not in said


@pytest.mark.parametrize("behind", [-20, -5, -2, 2, 5, 20, 50])
def test_a_clock_that_is_a_little_wrong_costs_nothing(behind: int) -> None:
    """Its events have no time of their own: in the tables they are by our clock, in its logs by its own."""
    happened = [BASE + n * 3 * SECOND + 300_000 for n in range(6)]
    tables = Tables()
    for number in (0, 1, 5):
        live(tables, happened[number] + 20_000, job(number))
    server = LogServer([(time - behind * SECOND, "dispatcher", job(n)) for n, time in enumerate(happened)])
    _, rows = fill(server, tables, happened[1] + 20_000, happened[4] + SECOND)
    assert [subject for _, subject in rows] == ["job2", "job3", "job4"]
    assert all(abs(time - happened[n]) <= SECOND for n, (time, _) in enumerate(rows, 2))


def test_the_zone_is_read_from_our_own_visit_where_nothing_came_live() -> None:
    server = LogServer([(BASE, "dispatcher", job(1))], 9 * HOUR)
    end = BASE + 60 * SECOND
    yesterday = end - 86_400 * SECOND
    server.hosts = {server.local(time): "New Connection: 10.0.0.9" for time in (yesterday, end)}
    _, rows = fill(server, Tables(), BASE - HOUR, end)
    assert rows == [(BASE, "job1")]


def test_the_zone_follows_from_the_range_where_only_one_fits() -> None:
    server = LogServer([(BASE, "dispatcher", job(1)), (BASE + 14 * 60 * SECOND, "dispatcher", job(2))])
    entries = read_entries(
        {"events-dispatcher": {server.local(t + 2 * HOUR): a for t, _, a in server.events}}
    )
    assert offset_by_range(entries, BASE - SECOND, BASE + 14 * 60 * SECOND + SECOND) == 2 * HOUR
    assert offset_by_range(entries, BASE - HOUR, BASE + HOUR) is None
    assert offset_by_range([], 0, 1) is None


def test_a_zone_nobody_tells_is_said_to_be_taken_as_utc() -> None:
    said, rows = fill(LogServer([(BASE, "dispatcher", job(1))]), Tables(), BASE - 6 * HOUR, BASE + HOUR)
    assert rows == [(BASE, "job1")]
    assert "taken as UTC" in said


def test_entries_of_the_last_second_before_the_gap_stay_behind_it() -> None:
    """Logged under the full second, an event of the gap can look older than the last one that came live."""
    events = [(BASE + 100_000, "dispatcher", job(0)), (BASE + 900_000, "dispatcher", job(1))]
    tables = Tables()
    live(tables, BASE + 100_000, job(0))
    server = LogServer(events)
    _, rows = fill(server, tables, BASE + 100_000, BASE + 5 * SECOND)
    assert rows == [(BASE + 100_000, "job1")]
    assert list(tables.events["subject"]) == ["job0", "job1"]


def test_equal_events_are_each_taken_once() -> None:
    """A queued job says pending every two seconds, in the same words."""
    pending = {"state": "pending", "process_id": "pkg"}
    events = [(BASE + n * 2 * SECOND, "dispatcher", pending) for n in range(6)]
    tables = Tables()
    for time, _, args in (events[0], events[1], events[5]):
        live(tables, time + 30_000, args)
    live(tables, BASE - SECOND + 30_000, job(0))
    events.insert(0, (BASE - SECOND, "dispatcher", job(0)))
    _, rows = fill(LogServer(events), tables, events[2][0] + 30_000, BASE + 9 * SECOND)
    assert [time for time, _ in rows] == [BASE + n * 2 * SECOND for n in (2, 3, 4)]


def test_what_is_outside_the_gap_is_left_out() -> None:
    events = [(BASE + n * 60 * SECOND, "dispatcher", job(n)) for n in range(-3, 8)]
    _, rows = fill(LogServer(events), Tables(), BASE - 30 * SECOND, BASE + 130 * SECOND)
    assert [subject for _, subject in rows] == ["job0", "job1", "job2"]


def test_every_class_is_fetched() -> None:
    snapshot = {"class": "snapshot", "message": "Mon Nov 23 07:00:01 UTC 2026: New snapshot of tank/home"}
    state = {"hostname": "nas", "priority": "0 - Information", "zpools": {"tank": {"size": "107G"}}}
    events = [
        (BASE + SECOND, "life-preserver", snapshot),
        (BASE + 2 * SECOND, "system-state", state),
        (BASE + 3 * SECOND, "dispatcher", job(1)),
    ]
    tables = Tables()
    fill(LogServer(events), tables, BASE, BASE + HOUR)
    assert list(tables.events["event"]) == ["life-preserver", "system-state", "dispatcher"]
    assert set(tables.pools["origin"]) == {"backfill"}


@given(
    zone=st.sampled_from([0, HOUR, -8 * HOUR, 5 * HOUR + 2 * QUARTER]),
    steps=st.lists(st.integers(1_000_000, 30_000_000), min_size=2, max_size=30),
    cut=st.integers(1, 29),
    length=st.integers(1, 29),
)
def test_every_event_once_whatever_was_missed(zone: int, steps: list[int], cut: int, length: int) -> None:
    times = [BASE + sum(steps[:n]) for n in range(len(steps) + 1)]
    events = [(time, "dispatcher", job(n)) for n, time in enumerate(times)]
    cut = min(cut, len(events) - 1)
    until = min(cut + length, len(events))
    tables = Tables()
    for time, _, args in [*events[:cut], *events[until:]]:
        live(tables, time, args)
    end = times[until] - 1 if until < len(times) else times[-1] + SECOND
    fill(LogServer(events, zone), tables, times[cut - 1], end)
    assert list(tables.events["subject"]) == [f"job{n}" for n in range(len(events))]


def test_the_reply_of_a_real_server() -> None:
    """Read by hand: four snapshots, an empty key beside them, zone-less times."""
    reply = json.loads(DATA.read_text())
    entries = read_entries(reply)
    snapshots = [(entry.local, entry.width) for entry in entries if entry.event == "life-preserver"]
    assert snapshots == [
        (us("2026-11-23T07:24:38"), SECOND),
        (us("2026-11-23T07:24:40"), SECOND),
        (us("2026-11-23T07:24:42"), SECOND),
        (us("2026-11-23T07:24:44"), SECOND),
    ]
    finished = [entry for entry in entries if entry.event == "dispatcher"]
    assert [entry.args["process_id"] for entry in finished] == ["job0", "job1", "job2", "job3"]
    assert finished[2].args["echo 2"] == "2\n"


def test_of_one_second_the_entry_without_a_fraction_is_the_first() -> None:
    """As our own servers write them; the others of that second have their microseconds."""
    listed = {
        "2026-11-23T07:00:00.250000": job(2),
        "2026-11-23T07:00:00": job(1),
        "2026-11-23T07:00:02": job(3),
    }
    first, second, third = read_entries({"events-dispatcher": listed})
    assert (first.args, first.local, first.width) == (job(1), BASE, 250_000)
    assert (second.args, second.local, second.width) == (job(2), BASE + 250_000, 0)
    assert (third.args, third.local, third.width) == (job(3), BASE + 2 * SECOND, SECOND)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        {},
        {"events-state": None},
        {"events-state": {"": {}, "soon": {}, "2026-11-23T07:24:38": "text"}},
    ],
)
def test_replies_that_say_nothing(reply) -> None:
    assert read_entries(reply) == []


def test_an_event_that_is_not_unique_tells_no_zone() -> None:
    async def known_of(tables: Tables) -> Known:
        known = Known()
        await known.fill(tables.events, "nas", 0)
        return known

    tables = Tables()
    live(tables, BASE, job(1))
    live(tables, BASE + 900 * SECOND, job(1))
    entries = read_entries({"events-dispatcher": {"2026-11-23T07:00:00": job(1)}})
    assert offset_by_events(entries, asyncio.run(known_of(tables))) is None


NOW = us("2026-11-23T12:00:00")


@pytest.mark.parametrize(
    ("since", "moment"),
    [
        (None, None),
        ("24h", us("2026-11-22T12:00:00")),
        ("90min", us("2026-11-23T10:30:00")),
        ("7 days", us("2026-11-16T12:00:00")),
        (timedelta(hours=1), us("2026-11-23T11:00:00")),
        ("2026-11-23T07:00:00Z", us("2026-11-23T07:00:00")),
        (datetime.fromisoformat("2026-11-23T08:00:00+01:00"), us("2026-11-23T07:00:00")),
    ],
)
def test_since(since, moment) -> None:
    assert parse_since(since, NOW) == moment


@pytest.mark.parametrize(
    "since", ["yesterday", "24", "2026-11-24T00:00Z", datetime(2026, 11, 23), object(), "-3h"]
)
def test_since_that_cannot_be(since) -> None:
    with pytest.raises(InputError, match=r"since=|time zone"):
        parse_since(since, NOW)
