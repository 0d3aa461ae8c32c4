"""`read_logs`: every time format, nothing lost of the same second, bounded memory."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

import sysadm_nb as sa
from sysadm_nb import wire
from sysadm_nb.server.logs import Logs, read_time
from tests.server.wire_client import dial

NOW = int(datetime(2026, 11, 23, 7, 24, 42, 191_000, tzinfo=UTC).timestamp()) * 10**6 + 191_000
SECOND = 10**6


@pytest.fixture(autouse=True)
def berlin() -> Iterator[None]:
    """Local time is not UTC."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


def utc(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1e6)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("value", "time_format", "expected"),
    [
        ("1795418682", "time_t_seconds", 1795418682 * SECOND),
        (1795418682, "time_t_seconds", 1795418682 * SECOND),
        ("1795418682191", "epoch_mseconds", NOW),
        (1795418682191, "epoch_mseconds", NOW),
        ("4", "relative_second", NOW - 4 * SECOND),
        ("-4", "relative_second", NOW + 4 * SECOND),
        ("2", "relative_minute", NOW - 120 * SECOND),
        ("1", "relative_hour", NOW - 3600 * SECOND),
        (1, "relative_day", NOW - 86400 * SECOND),
        ("1", "relative_week", NOW - 7 * 86400 * SECOND),
        ("1", "relative_month", utc(2026, 10, 23, 6, 24, 42) + 191_000),  # summer time was on then
        ("9", "relative_month", utc(2026, 2, 23, 7, 24, 42) + 191_000),
        ("2026-11-23 08:24:42", "yyyy-MM-dd hh:mm:ss", utc(2026, 11, 23, 7, 24, 42)),
        ("2026-11-23T08:24:42", "yyyy-MM-ddThh:mm:ss", utc(2026, 11, 23, 7, 24, 42)),
        ("2026-07-01T08:24:42", "yyyy-MM-ddTHH:mm:ss", utc(2026, 7, 1, 6, 24, 42)),
        ("23.11.26 08:24", "dd.MM.yy hh:mm", utc(2026, 11, 23, 7, 24)),
        ("23.11. 08:24", "dd.MM. hh:mm", utc(2026, 11, 23, 7, 24)),
        ("1/2/2026 8 PM", "d/M/yyyy h AP", utc(2026, 2, 1, 19)),
        ("Mon Nov 23 2026", "ddd MMM d yyyy", utc(2026, 11, 22, 23)),
        ("year 2026", "'year' yyyy", utc(2025, 12, 31, 23)),
        ("garbage", "yyyy", None),
        ("23 23", "dd dd", None),
        ("garbage", "time_t_seconds", None),
        ("1", "relative_fortnight", None),
        ("1e400", "time_t_seconds", None),
        ("nan", "epoch_mseconds", None),
        ("1795418682", None, None),
        (None, "time_t_seconds", None),
        (True, "time_t_seconds", None),
    ],
)
def test_time_formats(value: Any, time_format: Any, expected: int | None) -> None:
    assert read_time(value, time_format, NOW) == expected


def test_a_whole_second_belongs_to_the_range_it_ends() -> None:
    assert read_time("1795418682", "time_t_seconds", NOW, end=True) == 1795418682 * SECOND + 999_999
    assert read_time("2026-11-23", "yyyy-MM-dd", NOW, end=True) == utc(2026, 11, 23, 23) - 1


def filled(times: list[int], limit: int = 2**22) -> Logs:
    logs = Logs(lambda: NOW, limit)
    for number, moment in enumerate(times):
        args = {"state": "running", "process_id": f"job{number}"}
        logs.add_event("dispatcher", args, wire.dump_json(args).encode(), moment)
    return logs


def read(kept: Logs, **args: Any) -> dict[str, Any]:
    found = json.loads(wire.dump_json(kept.read({"action": "read_logs"} | args)))
    assert isinstance(found, dict)
    return found


def test_entries_are_keyed_by_the_local_second_and_none_is_lost() -> None:
    logs = filled([NOW, NOW, NOW + 100, NOW - SECOND])
    found = read(logs, logs="events-dispatcher", end_time="1795418683", time_format="time_t_seconds")
    assert list(found) == ["events-dispatcher"]
    entries = found["events-dispatcher"]
    assert sorted(entries) == [
        "2026-11-23T08:24:41",
        "2026-11-23T08:24:42",
        "2026-11-23T08:24:42.191001",
        "2026-11-23T08:24:42.191100",
    ]
    assert [entries[key]["process_id"] for key in sorted(entries)] == ["job3", "job0", "job1", "job2"]


def test_many_entries_of_one_moment() -> None:
    found = read(filled([NOW] * 20_000))["events-dispatcher"]
    assert [found[key]["process_id"] for key in sorted(found)] == [f"job{number}" for number in range(20_000)]


def test_without_a_range_the_last_twelve_hours() -> None:
    logs = filled([NOW - 13 * 3600 * SECOND, NOW - 11 * 3600 * SECOND, NOW])
    found = read(logs)["events-dispatcher"]
    assert [entry["process_id"] for entry in found.values()] == ["job1", "job2"]


def test_a_range_is_cut_at_both_ends() -> None:
    logs = filled([NOW - 3 * SECOND, NOW - 2 * SECOND, NOW - SECOND, NOW])
    found = read(logs, time_format="relative_second", start_time="2.5", end_time="0.5")
    assert [entry["process_id"] for entry in found["events-dispatcher"].values()] == ["job1", "job2"]
    assert read(logs, time_format="relative_second", start_time="0.1", end_time="0.05") == {}


def test_memory_is_bounded() -> None:
    logs = filled([NOW + number for number in range(10_000)], limit=10_000)
    found = read(logs, end_time="1795418683", time_format="time_t_seconds")["events-dispatcher"]
    ids = [entry["process_id"] for entry in found.values()]
    assert 150 < len(ids) < 250 and ids[-1] == "job9999"


def test_a_reply_has_the_newest_that_fit_with_their_times() -> None:
    logs = filled([NOW + number for number in range(10_000)])
    asked = {"action": "read_logs", "end_time": "1795418683", "time_format": "time_t_seconds"}
    reply = logs.read(asked, 100_000)
    ids = [entry["process_id"] for entry in json.loads(wire.dump_json(reply))["events-dispatcher"].values()]
    assert ids[-1] == "job9999"
    assert 25_000 < len(wire.dump_json(reply)) <= 100_000


def test_all_logs_of_a_server() -> None:
    with (
        sa.serve(users={"admin": "secret"}, sources=[], allow_run=True) as server,
        dial(server.url) as client,
    ):
        client.request("events", "subscribe", "dispatcher")
        client.send("rpc", "dispatcher", {"action": "run", "job": "echo hi"})
        client.until(lambda: any(args["state"] == "finished" for args in client.events("dispatcher")))
        server.publish("life-preserver", {"class": "snapshot", "message": "x", "priority": "1 - Information"})
        server.publish("system_state", {"hostname": "nas"})
        found = client.request("rpc", "logs", {"action": "read_logs"})["args"]
        assert set(found) == {
            "events-dispatcher",
            "events-lifepreserver",
            "events-state",
            "hostinfo",
            "dispatcher",
        }
        assert list(found["events-state"].values()) == [{"hostname": "nas"}]
        assert list(found["hostinfo"].values()) == [
            "New Connection: 127.0.0.1",
            "Client Launched Processes[127.0.0.1]: job",
        ]
        (entry,) = found["dispatcher"].values()
        assert json.loads(entry)["echo hi"] == "hi\n"
        states = [found["events-dispatcher"][key]["state"] for key in sorted(found["events-dispatcher"])]
        assert states == ["pending", "running", "finished"]
        one = client.request("rpc", "logs", {"action": "read_logs", "logs": ["events-state", "nosuch"]})
        assert set(one["args"]) == {"events-state"}
