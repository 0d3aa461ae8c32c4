"""lpreserver's log: the lines of the capture 05_life_preserver, and what the real server loses."""

# ruff: noqa: E501 (lines of logs, as long as they are)

from __future__ import annotations

import pytest

from sysadm_nb import wire
from sysadm_nb.server.life_preserver.lpreserver import LpreserverLog
from sysadm_nb.tables import Tables

DATE = "Mon Nov 23 07:21:06 UTC 2026"
INFORMATION, WARNING, CRITICAL = "1 - Information", "3 - Warning", "7 - Critical"

# line (after the date), class, message (after the date), priority
LINES = [
    ("Creating snapshot on tank", "snapshot", "New snapshot of tank", INFORMATION),
    ("Creating snapshot on tank/ROOT/initial", "snapshot", "New snapshot of tank/ROOT/initial", INFORMATION),
    ("Creating snapshot on TANK/MyData", "snapshot", "New snapshot of TANK/MyData", INFORMATION),
    ("Creating snapshot on tänk/€", "snapshot", "New snapshot of tänk/€", INFORMATION),
    (
        "ERROR: Failed creating snapshot on tank",
        "snapshot",
        "Failed creating snapshot of tank",
        CRITICAL,
    ),
    (
        "Destroying snapshot auto-2026-11-01-00-00-00 on tank, with 0 refs",
        "snapshot",
        "Deleted snapshot tank@auto-2026-11-01-00-00-00",
        INFORMATION,
    ),
    (
        "ERROR: Failed pruning snapshot auto-1 on tank/usr",
        "snapshot",
        "Failed deleting snapshot tank/usr@auto-1",
        "4 - Warning",
    ),
    (
        "ERROR: (Low Disk Space) Failed pruning snapshot auto-1 on tank",
        "snapshot",
        "Failed deleting snapshot tank@auto-1",
        "4 - Warning",
    ),
    (
        "FAILED Removing old snapshot backup/host/tank@auto-1",
        "snapshot",
        "Failed deleting snapshot backup/host/tank@auto-1",
        "4 - Warning",
    ),
    (
        "ERROR: Error reading the userrefs property of tank@auto-1",
        "snapshot",
        "Failed deleting snapshot tank@auto-1",
        "4 - Warning",
    ),
    (
        "WARNING: Skipping tank@auto-1 because userrefs (2) is greater than 0.",
        "snapshot",
        "Skipped deleting snapshot tank@auto-1",
        WARNING,
    ),
    (
        "Starting replication SYNC task on tank: /var/log/lpreserver/lastrep-send-log",
        "replication",
        "Starting replication for tank",
        INFORMATION,
    ),
    (
        "Starting replication SCHEDULED task on tank/a on b: /var/log/lpreserver/lastrep-send-log",
        "replication",
        "Starting replication for tank/a on b",
        INFORMATION,
    ),
    (
        "Finished replication task on tank -> backup.example.org",
        "replication",
        "Finished replication for tank",
        INFORMATION,
    ),
    (
        "FAILED replication task on tank -> backup.example.org: LOGFILE: /var/log/lpreserver/lpreserver_failed.log",
        "replication",
        "Replication Failed for tank\nLogfile available at: /var/log/lpreserver/lpreserver_failed.log",
        CRITICAL,
    ),
    (
        "Skipped replication on tank, previous replication is still running.",
        "replication",
        "Skipped replication for tank",
        WARNING,
    ),
]


@pytest.mark.parametrize(("line", "kind", "message", "priority"), LINES)
def test_line(line, kind, message, priority):
    notice = LpreserverLog().feed(f"{DATE}: {line}")
    assert notice is not None
    assert {key: notice.args[key] for key in ("class", "message", "priority")} == {
        "class": kind,
        "message": f"{DATE}: {message}",
        "priority": priority,
    }
    assert notice.time == 1795418466000000  # 2026-11-23 07:21:06 UTC


@pytest.mark.parametrize(
    "line",
    [
        "",
        "garbage",
        DATE,
        f"{DATE}:",
        f"{DATE}: Rotate Logfile",
        f"{DATE}: Pruning old snapshot: auto-2026-11-01-00-00-00",  # the line after it tells of the deed
        f"{DATE}: Starting scrub on tank",
        f"{DATE}: INFO: tank@a has 2 references held",
    ],
)
def test_lines_about_something_else(line):
    assert LpreserverLog().feed(line) is None


def test_a_replication_under_way_and_its_log():
    log = LpreserverLog()
    log.feed(f"{DATE}: Starting replication SYNC task on tank: /var/log/lpreserver/lastrep-send-log")
    assert log.run == ("tank", "/var/log/lpreserver/lastrep-send-log", 1795418466000000)
    log.feed(f"{DATE}: Creating snapshot on tank")
    assert log.run is not None
    log.feed(f"{DATE}: Finished replication task on tank -> backup.example.org")
    assert log.run is None


def test_unknown_remote_dataset_fails_the_replication_under_way():
    log = LpreserverLog()
    log.feed(f"{DATE}: Starting replication SYNC task on tank: /send-log")
    notice = log.feed(f"{DATE}: Cannot locate remote dataset backup/nas: LOGFILE: /failed.log")
    assert notice.args["message"] == f"{DATE}: Replication Failed for tank\nLogfile available at: /failed.log"
    assert notice.args["reason"] == "Cannot locate remote dataset backup/nas"
    assert log.run is None


def test_local_time_without_a_known_zone(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        notice = LpreserverLog().feed("Mon Nov 23 08:21:06 CET 2026: Creating snapshot on tank")
        assert notice.time == 1795418466000000
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_it_says_is_understood_by_the_tables():
    tables, log = Tables(), LpreserverLog()
    for line, *_ in LINES:
        notice = log.feed(f"{DATE}: {line}")
        tables.append(wire.encode_event("life-preserver", notice.args, notice.time))
    table = tables.life_preserver
    assert list(table["kind"]) == [kind for _, kind, _, _ in LINES]
    assert list(zip(table["action"], table["dataset"], strict=True)) == [
        ("created", "tank"),
        ("created", "tank/ROOT/initial"),
        ("created", "TANK/MyData"),
        ("created", "tänk/€"),
        ("failed", "tank"),
        ("other", "tank"),
        ("failed", "tank/usr"),
        ("failed", "tank"),
        ("failed", "backup/host/tank"),
        ("failed", "tank"),
        ("other", "tank"),
        ("started", "tank"),
        ("started", "tank/a on b"),
        ("finished", "tank"),
        ("failed", "tank"),
        ("other", "tank"),
    ]
    assert table["logfile"].iloc[14] == "/var/log/lpreserver/lpreserver_failed.log"


@pytest.mark.parametrize(
    "day", ["Dec 1 {} UTC 0000", "Dec 1 {} 0000", "Dec 1 {} UTC 1969", "Dec 99 {} UTC 9999"]
)
def test_a_date_that_cannot_be_is_text_only(day):
    date = "Mon " + day.format("07:21:06")
    notice = LpreserverLog().feed(f"{date}: Creating snapshot on tank")
    assert (notice.args["message"], notice.time) == (f"{date}: New snapshot of tank", None)
