"""A real monitor on a real server, recorded."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

import sysadm_nb as sa
from sysadm_nb import loop
from sysadm_nb.recording import player  # noqa: F401 - the module must not hide the function `replay`
from sysadm_nb.tables import SCHEMA


def wait_until(true: object, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.drop(columns="seq").reset_index(drop=True)
    for name in frame.select_dtypes("category"):
        frame[name] = frame[name].astype("str")
    return frame


def test_a_recorded_monitor_and_its_recording_have_the_same_tables(tmp_path: Path) -> None:
    path = tmp_path / "nas.sysadm"
    state = {"hostname": "nas", "priority": "0 - Information", "zpools": {"tank": {"capacity": "5%"}}}
    with (
        sa.serve(sources=[], allow_run=True) as server,
        sa.connect(server, name="nas", record=path) as monitor,
    ):
        server.publish("system-state", state, time=pd.Timestamp("2026-01-01T00:00Z").to_pydatetime())
        job = monitor.run(["echo grüße", "false", "echo never"])
        job.wait(30)
        server.publish("life-preserver", {"class": "snapshot", "message": "New snapshot of tank/home"})
        wait_until(lambda: len(monitor.life_preserver))
    past = sa.open_recording(path)
    for name in SCHEMA:
        left, right = comparable(past.tables[name]), comparable(monitor.tables[name])
        pd.testing.assert_frame_equal(left, right, obj=name)
    assert past.jobs.state.tolist() == ["finished"]
    assert past.commands.log.dropna().str.contains("grüße").any()
    assert past.connection.what.tolist()[0] == "connected"


def test_recording_into_a_file_again_goes_on_with_it_and_nothing_is_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "nas.sysadm"
    count = iter(range(1, 1000))

    def publish() -> None:
        for _ in range(20):
            server.publish("life-preserver", {"message": f"New snapshot of tank/home{next(count)}"})

    with sa.serve(sources=[]) as server, sa.connect(server, name="nas") as monitor:
        first = monitor.record(path)
        publish()
        second = monitor.record(path)  # the cell is run again
        publish()
        assert first.state == "closed" and monitor.recorders == [second]
        elsewhere = monitor.record(tmp_path / "other.sysadm")
        assert monitor.recorders == [second, elsewhere]
        wait_until(lambda: len(monitor.life_preserver) == 40)
        second.close()
        assert monitor.recorders == [elsewhere]
        monitor.record(path)
        publish()
        wait_until(lambda: len(monitor.life_preserver) == 60)
    with sa.open_recording(path) as past:
        for name in ("events", "life_preserver", "connection"):
            left, right = comparable(past.tables[name]), comparable(monitor.tables[name])
            pd.testing.assert_frame_equal(left, right, obj=name)
        past.to_parquet(tmp_path / "parquet")
    kept = pd.read_parquet(tmp_path / "parquet" / "connection")
    assert len(kept) == len(monitor.connection)


def test_closing_that_is_interrupted_at_a_busy_file_goes_on_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "nas.sysadm"
    with sa.serve(sources=[]) as server, sa.connect(server, name="nas") as monitor:
        recorder = monitor.record(path)
        wait_until(lambda: path.exists())
        busy = sqlite3.connect(path, isolation_level=None)
        busy.execute("BEGIN IMMEDIATE")
        server.publish("life-preserver", {"class": "snapshot", "message": "New snapshot of tank/home"})
        wait_until(lambda: len(monitor.life_preserver))
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            monitor.close()
        busy.close()
        wait_until(lambda: recorder.state == "closed")
    assert len(sa.open_recording(path).life_preserver) == 1
    wait_until(lambda: loop._current is None)  # the handle was given back as well


def test_a_recording_is_the_memory_of_the_next_monitor(tmp_path: Path) -> None:
    path = tmp_path / "nas.sysadm"
    snapshot = {"class": "snapshot", "message": "New snapshot of tank/home"}
    with sa.serve(sources=[]) as server:
        with sa.connect(server, name="nas", record=path) as monitor:
            server.publish("life-preserver", snapshot)
            wait_until(lambda: len(monitor.life_preserver) == 1)
        server.publish("life-preserver", snapshot | {"message": "New snapshot of tank/missed"})
        time.sleep(1.1)
        with sa.connect(server, name="nas", record=path) as monitor:
            assert monitor.life_preserver.origin.tolist()[0] == "file"
            wait_until(lambda: "backfilled" in set(monitor.connection.what))
            told = monitor.life_preserver.query("origin != 'last'")
            assert told.dataset.tolist() == ["tank/home", "tank/missed"]
            assert told.origin.tolist() == ["file", "backfill"]
            gap = monitor.connection.query("what == 'gap'").iloc[0]
            assert gap.gap_start < gap.gap_end
            remembered = len(monitor.tables.events)
    past = sa.open_recording(path)
    assert len(past.events) == remembered  # what was remembered is not recorded again
    assert past.life_preserver.query("origin != 'last'").origin.tolist() == ["live", "backfill"]


def test_a_replay_is_watched_like_a_server(tmp_path: Path) -> None:
    path = tmp_path / "nas.sysadm"
    with sa.serve(sources=[]) as server, sa.connect(server, name="nas", record=path) as monitor:
        begin = pd.Timestamp("2026-01-01T00:00Z")
        for hour in range(48):
            pools = {"tank": {"size": "100G", "alloc": f"{hour}G", "capacity": f"{hour}%"}}
            server.publish(
                "system-state",
                {"hostname": "nas", "priority": "0 - Information", "zpools": pools},
                time=(begin + pd.Timedelta(hours=hour)).to_pydatetime(),
            )
        wait_until(lambda: len(monitor.pools) == 48)
    with sa.replay(path, speed=86_400) as again, sa.connect(again, name="nas") as watching:
        wait_until(lambda: again.state == "finished")
        wait_until(lambda: len(watching.pools.query("origin == 'live'")) == 48)
        replayed = watching.pools.query("origin == 'live'")
        recorded = sa.open_recording(path).pools.query("origin == 'live'")
        assert replayed.time.tolist() == recorded.time.tolist()
        assert replayed.capacity_pct.tolist() == [float(hour) for hour in range(48)]
    assert "stopped" in repr(again)


def test_a_recording_that_is_closed_twice_and_a_monitor_that_outlives_it(tmp_path: Path) -> None:
    with sa.serve(sources=[]) as server, sa.connect(server, name="nas") as monitor:
        recorder = monitor.record(tmp_path / "a.sysadm")
        server.publish("ups", {"n": 1})
        wait_until(lambda: len(monitor.events) == 1)
        recorder.close()
        recorder.close()
        assert "closed" in repr(recorder)
        server.publish("ups", {"n": 2})
        wait_until(lambda: len(monitor.events) == 2)
        with pytest.raises(sa.errors.RecordingError, match="no folder"):
            monitor.record(tmp_path / "nowhere" / "a.sysadm")
    assert len(sa.open_recording(tmp_path / "a.sysadm").events) == 1
