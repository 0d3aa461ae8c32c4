"""The models of EventsView, LifePreserverView, ConnectionBadge, and the dashboard."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import sysadm_nb as sa
from sysadm_nb import Tables, wire
from sysadm_nb.widgets import Dashboard, dashboard
from sysadm_nb.widgets.connection import ConnectionModel
from sysadm_nb.widgets.events import CALM, GLIMPSE, KEEP, EventsModel
from sysadm_nb.widgets.life_preserver import REPLICATED, SNAPSHOT, STATE, LifePreserverModel

START = 1_795_417_200_000_000  # 2026-11-23 07:00:00 UTC


def send(
    tables: Tables,
    count: int = 1,
    *,
    name: str = "life-preserver",
    priority: str = "1 - Information",
    text: str = "x",
    server: str = "nas",
) -> None:
    for number in range(count):
        args = {"class": "snapshot", "message": f"{text} {number}", "priority": priority}
        tables.append(wire.encode_event(name, args), server=server)


# -- alerts ----------------------------------------------------------------------------------------------


def test_a_view_of_alerts_closes_with_the_monitor_they_watch() -> None:
    with sa.serve(sources=[]) as server:
        monitor = sa.connect(server)
        armed = monitor.arm(sa.alerts.Rules())
        view = sa.AlertsView(armed)
        monitor.close()
    assert view.comm is None
    assert "disarmed" in repr(view)


# -- events ----------------------------------------------------------------------------------------------


@pytest.fixture
def events(tables: Tables) -> EventsModel:
    model = EventsModel(tables)
    model.refresh(0)
    return model


def test_few_events_are_all_shown(events: EventsModel, tables: Tables) -> None:
    send(tables, 3, text="hello")
    events.refresh(0)
    assert [row[5] for row in events.state.rows.values()] == ["hello 0", "hello 1", "hello 2"]
    assert events.state.values["skipped"] == 0
    assert len(events.state.texts) == 3  # so few that their JSON comes along


def test_a_flood_is_glimpsed_and_the_rest_counted(events: EventsModel, tables: Tables) -> None:
    send(tables, 10_000)
    events.refresh(0)
    assert len(events.state.rows) == GLIMPSE
    assert next(iter(events.state.rows.values()))[7] == 10_000 - GLIMPSE
    assert events.state.values["skipped"] == 10_000 - GLIMPSE
    assert events.state.values["total"] == 10_000


def test_filters_look_at_what_is_there_and_at_what_comes(events: EventsModel, tables: Tables) -> None:
    send(tables, 1000)
    send(tables, 2, priority="7 - Critical", text="bad")
    send(tables, 1000)
    events.filter(event=None, server=None, level="Critical", search="")
    events.refresh(0)
    assert [row[5] for row in events.state.rows.values()] == ["bad 0", "bad 1"]
    send(tables, 1000)
    send(tables, 1, priority="9 - Urgent", text="worse")
    send(tables, 1000)
    events.refresh(0)  # even in a flood
    assert [row[5] for row in events.state.rows.values()] == ["bad 0", "bad 1", "worse 0"]
    for filters, expected in (
        ({"search": "WORSE"}, 1),
        ({"server": "nas"}, CALM * 2),
        ({"server": "other"}, 0),
        ({"event": "system-state"}, 0),
        ({"search": "[("}, 0),  # plain text, no pattern
    ):
        events.filter(**filters)
        events.refresh(0)
        assert len(events.state.rows) == expected, filters


def test_a_pause_loses_nothing(events: EventsModel, tables: Tables) -> None:
    send(tables, 2, text="before")
    events.refresh(0)
    events.paused = True
    for _ in range(4):
        send(tables, 200, text="meanwhile")
        events.refresh(0)
    assert len(events.state.rows) == 2 and events.state.values["waiting"] == 800
    events.paused = False
    events.refresh(0)
    assert len(events.state.rows) == 802 and events.state.values["skipped"] == 0


def test_rows_are_bounded_and_an_opened_event_is_whole(events: EventsModel, tables: Tables) -> None:
    for _ in range(20):
        send(tables, 200)
        events.refresh(0)
    assert len(events.state.rows) == KEEP
    events.select(1)
    assert events.state.texts["args/1"] == '{"class":"snapshot","message":"x 0","priority":"1 - Information"}'
    events.select(None)
    assert "args/1" not in events.state.texts
    assert len(events.state.texts) == 0


def test_an_opened_event_stays_open_when_others_go(events: EventsModel, tables: Tables) -> None:
    send(tables, 300)
    events.refresh(0)
    events.select(290)
    events.filter(search="nothing has this")
    events.refresh(0)
    assert list(events.state.texts) == ["args/290"] and not events.state.rows


def test_malformed_frames_are_shown(events: EventsModel, tables: Tables) -> None:
    tables.append("{nonsense", server="nas")
    events.refresh(0)
    assert [row[2] for row in events.state.rows.values()] == ["malformed"]
    assert "{nonsense" in events.state.texts.values()


# -- backups ---------------------------------------------------------------------------------------------


def say(
    tables: Tables, minute: int, message: str, kind: str = "replication", priority: str = "1 - Information"
) -> None:
    args = {"class": kind, "message": message, "priority": priority}
    tables.append(
        wire.encode_event("life-preserver", args), received=START + minute * 60_000_000, server="nas"
    )


def test_backups_from_snapshot_to_failure() -> None:
    tables = Tables()
    model = LifePreserverModel(tables)
    stamp = "Mon Nov 23 07:{:02}:00 UTC 2026"
    say(tables, 1, f"{stamp.format(1)}: New snapshot of tank/home", "snapshot")
    say(tables, 2, f"{stamp.format(2)}: Starting replication for tank")
    say(tables, 3, "Replicating tank@auto-1: 128M/4.20G (2.9%)", priority="0 - Information")
    model.refresh(0)
    rows = {row[1]: row for row in model.state.rows.values()}
    assert rows["tank/home"][SNAPSHOT] == START + 60_000_000 and rows["tank/home"][STATE] is None
    assert rows["tank"][STATE] == "running" and rows["tank"][6:9] == [2.9, 128 * 2**20, 4.20 * 2**30]
    say(tables, 4, f"{stamp.format(4)}: Finished replication for tank")
    model.refresh(0)
    tank = model.state.rows[model._ids[("nas", "tank")]]
    assert (tank[STATE], tank[REPLICATED], tank[6]) == ("finished", START + 4 * 60_000_000, None)
    say(
        tables,
        9,
        f"{stamp.format(9)}: Replication Failed for tank\nLogfile available at: /var/log/x.log",
        priority="7 - Critical",
    )
    model.refresh(0)
    tank = model.state.rows[model._ids[("nas", "tank")]]
    assert (tank[STATE], tank[REPLICATED], tank[9]) == ("failed", START + 4 * 60_000_000, "/var/log/x.log")
    assert model.summary() == "2 datasets, 1 failed"
    assert model.text().splitlines()[2].startswith("tank ")  # failures first


def test_of_a_burst_between_two_looks_no_dataset_is_lost(tables: Tables) -> None:
    model = LifePreserverModel(tables)
    model.refresh(0)
    say(tables, 1, "Replication Failed for tank\nLogfile available at: /x")
    for number in range(600):
        say(tables, 2, f"Mon Nov 23 07:02:00 UTC 2026: New snapshot of big/{number}", "snapshot")
    model.refresh(1)
    assert model.summary() == "601 datasets, 1 failed"


# -- connections -----------------------------------------------------------------------------------------


def test_gaps_are_counted_and_told(tables: Tables) -> None:
    model = ConnectionModel(tables)
    tables.append_connection("connected", server="nas", time=START)
    model.refresh(0)
    assert model.state.rows[1][:5] == ["nas", "connected", "", START, 0]
    tables.append_connection("lost", server="nas", time=START + 10, detail="closed by the server")
    model.refresh(0)
    assert model.state.rows[1][1:3] == ["waiting", "closed by the server"]
    tables.append_connection("connected", server="nas", time=START + 20)
    tables.append_connection("gap", server="nas", time=START + 20, gap_start=START + 10, gap_end=START + 20)
    tables.append_connection("backfilled", server="nas", detail="3 events")
    model.refresh(0)
    assert model.state.rows[1][4:] == [1, START + 10, START + 20, "3 events"]
    assert model.summary() == "1 connected, 1 gap"


def test_the_monitors_own_word_wins(tables: Tables) -> None:
    model = ConnectionModel(tables, lambda: [("nas", "refused", "wrong password", START)])
    model.refresh(0)
    assert model.state.rows[1][:4] == ["nas", "refused", "wrong password", START]
    assert "wrong password" in model.text()


def test_forms_for_a_terminal() -> None:
    """IPython at a terminal shows text."""
    code = (
        "import sysadm_nb as sa; tables = sa.Tables(); args = {'process_id': 'one', 'state': 'running'}; "
        "tables.append(sa.wire.encode_event('dispatcher', args), server='nas'); "
        "view = sa.JobsView(tables); display(view); view.close()"
    )
    argv = [sys.executable, "-m", "IPython", "--no-banner", "--quick", "--colors=nocolor", "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("Jobs: 1 job, 1 running\nstate "), done
    assert "running" in done.stdout.splitlines()[2]


# -- all of them -----------------------------------------------------------------------------------------


def test_the_dashboard_opens_and_closes_all(comms: Any, clock: Any, tables: Tables) -> None:
    board = dashboard(tables)
    assert isinstance(board, Dashboard) and len(board.views) == 5
    assert repr(board).splitlines()[0] == "<Dashboard"
    board.close()
    board.close()
    assert all(view.comm is None for view in board.views)
