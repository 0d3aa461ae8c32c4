"""What was recorded is what is read: word for word, in order, the same tables."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sysadm_nb as sa
from sysadm_nb import wire
from sysadm_nb.errors import InputError
from sysadm_nb.recording import Recorder, reader, record
from sysadm_nb.recording.reader import Place, Selection
from sysadm_nb.recording.writer import Frame, Writer
from sysadm_nb.tables import SCHEMA
from tests.recording.samples import (
    DAY,
    NOON,
    SECOND,
    FakeMonitor,
    event,
    finished,
    running,
    snapshot,
    state,
    write,
)


def frames_of(path: Path) -> list[str | bytes]:
    return [entry.frame for entry in reader.read(path, Selection(), Place()) if isinstance(entry, reader.Row)]


def same_tables(left: sa.Tables, right: sa.Tables) -> None:
    for name in SCHEMA:
        pd.testing.assert_frame_equal(left[name], right[name], obj=name, check_categorical=False)


def record_all(monitor: FakeMonitor, recorder: Recorder, frames: list[tuple[int, str]]) -> None:
    async def feed() -> None:
        for received, text in frames:
            monitor.feed(text, received)
        await recorder.flush()

    recorder._loop.run(feed())


def test_the_tables_of_a_recording_are_those_of_the_monitor(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    with record(monitor, tmp_path / "a.sysadm") as recorder:
        monitor.tables.append_connection("connected", server="nas", time=NOON, detail="wss://nas:12150")
        record_all(
            monitor,
            recorder,
            [
                (NOON + 1, state(50)),
                (NOON + 2, running("job")),
                (NOON + 3, snapshot("tank/home")),
                (NOON + 4, event("bridge", {"available_connections": ["::{1}"]})),
                (NOON + 5, event("weather", {"sky": "blue"}, time="2026-11-23T11:00:00.000000Z")),
                (NOON + 6, "no frame at all"),
                (NOON + 7, finished("job")),
            ],
        )
        monitor.tables.append_connection(
            "gap", server="nas", time=NOON + 9, gap_start=NOON + 7, gap_end=NOON + 9, detail="no logs"
        )
    with sa.open_recording(tmp_path / "a.sysadm") as past:
        same_tables(past.tables, monitor.tables)
        assert past.jobs.log.tolist() == ["done\n"]
        assert past.events.event.tolist() == [
            "weather",
            "system-state",
            "dispatcher",
            "life-preserver",
            "bridge",
            "malformed",
            "dispatcher",
        ]
        assert past.connection.what.tolist() == ["connected", "gap"]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(),
            st.binary(),
            st.text(st.characters()),  # lone surrogates
            st.builds(event, st.text(min_size=1), st.dictionaries(st.text(), st.integers() | st.text())),
        ).filter(lambda frame: b"auth" not in (frame if isinstance(frame, bytes) else b"")),
        max_size=30,
    )
)
def test_any_frame_comes_back_word_for_word(tmp_path_factory: pytest.TempPathFactory, frames: list) -> None:
    path = tmp_path_factory.mktemp("words") / "a.sysadm"
    writer = Writer(path)
    written = writer.write([Frame(text, NOON + n, "nas", "live") for n, text in enumerate(frames)])
    writer.close()
    assert written == len(frames)

    def words(frame: str | bytes) -> bytes:
        return frame if isinstance(frame, bytes) else frame.encode("utf-8", "surrogatepass")

    assert [words(frame) for frame in frames_of(path)] == [words(frame) for frame in frames]


def test_nothing_of_a_login_is_recorded(tmp_path: Path) -> None:
    secret = "7f3c-token"
    said = [
        '{"args":["%s",300],"id":"sysadm-client-event-auth","name":"response","namespace":"rpc"}',
        '{"args":["%s",300],"id":"","name":"auth","namespace":"rpc"}',
        '{"args":{"test_string":"%s"},"id":"q","name":"response","namespace":"rpc"}',
        '::{1}\n{"args":["%s",300],"id":"q1","name":"response","namespace":"rpc"}',
        '{"args":{"username":"admin","password":"%s"},"id":"","name":"auth","namespace":"rpc"}',
        '{"args":{"token":"%s"},"id":"","name":"auth_token","namespace":"rpc"}',
    ]
    write(tmp_path / "a.sysadm", [(NOON, text % secret) for text in said] + [(NOON, state())])
    assert len(frames_of(tmp_path / "a.sysadm")) == 1
    for file in tmp_path.iterdir():
        assert secret.encode() not in file.read_bytes()


def test_polled_pools_and_lists_of_jobs_are_recorded(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    tank = {"size": "10G", "alloc": "5G", "capacity": "50%", "health": "ONLINE"}
    pools = wire.encode("sysadm", "response", {"list_pools": {"tank": tank}}, "p")
    queue = {"j": {"commands": ["sleep 9"], "state": "running"}}
    jobs = wire.encode("rpc", "response", {"jobs": {"no_queue": queue}}, "l")
    with record(monitor, tmp_path / "a.sysadm") as recorder:

        async def feed() -> None:
            monitor.feed(running("j"), NOON)
            monitor.feed(pools, NOON + 1, origin="polled")
            monitor.feed(jobs, NOON + 2, origin="polled")

        recorder._loop.run(feed())
    past = sa.open_recording(tmp_path / "a.sysadm")
    same_tables(past.tables, monitor.tables)
    assert past.pools.origin.tolist() == ["polled"]
    assert past.jobs.commands.tolist() == ["sleep 9"]
    assert len(sa.open_recording(tmp_path / "a.sysadm", events="system-state").pools) == 1


def test_frames_keep_their_order_when_the_clock_is_set_back(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    with record(monitor, tmp_path / "a.sysadm") as recorder:

        async def feed() -> None:
            monitor.feed(state(1), NOON + 100)
            monitor.tables.append_connection("clock", server="nas", time=NOON)
            monitor.feed(state(2), NOON + 1)
            monitor.feed(state(3), NOON + 50)
            monitor.tables.append_connection("lost", server="nas", time=NOON + 60)

        recorder._loop.run(feed())
    entries = list(reader.read(tmp_path / "a.sysadm", Selection(), Place()))
    frames = [entry.frame for entry in entries if isinstance(entry, reader.Row)]
    assert frames == [state(1), state(2), state(3)]
    assert len(entries) == 5


def test_a_range_of_time_and_one_event(tmp_path: Path) -> None:
    path = tmp_path / "a.sysadm"
    write(
        path,
        [
            (NOON + day * DAY + offset, text)
            for day in range(4)
            for offset, text in ((0, state(10 + day)), (1, running(f"job{day}")))
        ],
    )
    part = sa.open_recording(path, start="2026-11-24 12:00", end="2026-11-26 12:00")
    assert part.pools.capacity_pct.tolist() == [11, 12]
    assert part.jobs.process_id.tolist() == ["job1", "job2"]
    only = sa.open_recording(path, start="24h", events="system_state")
    assert only.pools.capacity_pct.tolist() == [13]
    assert only.jobs.empty
    assert sa.open_recording(path, end=NOON).events.empty
    assert sa.open_recording(path, start=pd.Timestamp("2026-11-26T13:00+01:00")).events.shape[0] == 2
    for wrong in ("yesterday", "3600 1", np.nan, np.inf, True, pd.Timedelta("1h")):
        with pytest.raises(sa.errors.InputError, match="no time"):
            sa.open_recording(path, start=wrong)
    with pytest.raises(sa.errors.InputError, match="a time is missing"):
        sa.open_recording(path, end=pd.NaT)
    noon = int(pd.Timestamp("2026-11-26 12:00Z").value // 1000)
    assert sa.open_recording(path, start=np.int64(noon)).events.shape[0] == 2  # microseconds, as of an int
    with pytest.raises(sa.errors.InputError, match="before end"):
        sa.open_recording(path, start="1d", end="2d")


def test_a_part_is_found_by_the_index(tmp_path: Path) -> None:
    path = tmp_path / "a.sysadm"
    write(path, [(NOON, state())])
    with reader.file.reading(path) as connection:
        plans = []
        connection.set_trace_callback(plans.append)
        list(reader._frames(connection, Selection(start=NOON, end=NOON + 1), 0))
        connection.set_trace_callback(None)
        details = [
            row[3]
            for sql in plans
            if sql.startswith("SELECT id")
            for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")
        ]
    assert any("USING COVERING INDEX frames_event_time (event=? AND time>? AND time<?)" in d for d in details)


def test_several_read_while_one_records(tmp_path: Path) -> None:
    path = tmp_path / "a.sysadm"
    writer = Writer(path)
    readers = [sa.open_recording(path), sa.open_recording(path, events="system-state")]
    for n in range(5):
        writer.write([Frame(state(n), NOON + n, "nas", "live"), Frame(running("j"), NOON + n, "nas", "live")])
        assert [r.refresh() for r in readers] == [2, 1]
        assert [len(r.events) for r in readers] == [2 * (n + 1), n + 1]
    assert [r.refresh() for r in readers] == [0, 0]
    writer.close()
    assert readers[0].pools.capacity_pct.tolist() == [0, 1, 2, 3, 4]
    assert not list(tmp_path.glob("*-wal"))


def test_follow_brings_what_is_recorded_later(tmp_path: Path) -> None:
    path = tmp_path / "a.sysadm"
    writer = Writer(path)
    with sa.open_recording(path) as past:
        stop = past.follow(0.05)
        writer.write([Frame(state(), NOON, "nas", "live")])
        wait_until(lambda: len(past.events) == 1)
        stop()
        stop()
        assert "following" not in repr(past)
        again = past.follow(0.05)  # what was stopped can be begun again
        writer.write([Frame(state(), NOON + SECOND, "nas", "live")])
        wait_until(lambda: len(past.events) == 2)
        past.follow(3600)
        writer.write([Frame(state(), NOON + 2 * SECOND, "nas", "live")])
        time.sleep(0.5)
        assert len(past.events) == 2, "the pause asked for last is the one that holds"
        again()
        assert "following" in repr(past), "what was replaced stops nothing any more"
    writer.close()


@pytest.mark.parametrize("seconds", ["1s", 0, -1, float("nan"), None])
def test_a_pause_that_is_none_is_refused_when_following_begins(tmp_path: Path, seconds: Any) -> None:
    write(tmp_path / "a.sysadm", [(NOON, state())])
    with sa.open_recording(tmp_path / "a.sysadm") as past, pytest.raises(InputError, match="such as 1"):
        past.follow(seconds)


def wait_until(true: object, seconds: float = 20) -> None:
    import time

    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def test_two_recorders_of_one_server_count_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.sysadm"
    one, two = Writer(path, clock=lambda: NOON / 1e6), Writer(path, clock=lambda: NOON / 1e6 + 1)
    ping = running("j")  # the server says it every 2 s in the very same words
    late = NOON + SECOND
    one.write([Frame(ping, NOON, "nas", "live")])  # before the second recorder was there
    one.write([Frame(ping, late + 1, "nas", "live")])
    two.write([Frame(ping, late + 2, "nas", "live"), Frame(state(), late + 3, "nas", "live")])
    past = sa.open_recording(path)
    two.write([Frame(ping, late + 2 * SECOND, "nas", "live"), Frame(ping, late + 3, "other", "live")])
    past.refresh()
    one.write([Frame(ping, late + 2 * SECOND + 5, "nas", "live"), Frame(state(), late + 8, "nas", "live")])
    past.refresh()
    one.close()
    two.close()
    assert sa.open_recording(path).events.groupby(["server", "event"], observed=True).size().to_dict() == {
        ("nas", "dispatcher"): 3,
        ("nas", "system-state"): 1,
        ("other", "dispatcher"): 1,
    }
    assert len(past.events) == 5


def test_records_are_kept_with_their_time(tmp_path: Path) -> None:
    path = tmp_path / "a.sysadm"
    with Recorder(path) as recorder:
        recorder.append_record("incident", NOON, {"rule": "nearly full", "severity": "warning"})
        recorder.append_record("label", NOON + 1, {"note": "real"})
    recorder.close()
    with pytest.raises(sa.errors.Closed):
        recorder.append_record("label", NOON, {})
    past = sa.open_recording(path)
    assert past.records("incident").to_dict("records") == [
        {"time": pd.Timestamp("2026-11-23T12:00Z"), "rule": "nearly full", "severity": "warning"}
    ]
    assert past.records("nothing").columns.tolist() == ["time"]
    with sqlite3.connect(path) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    plain.close()


def test_the_folder_may_change_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with Recorder("a.sysadm") as recorder:
        past = sa.open_recording("a.sysadm")
        monkeypatch.chdir(tmp_path / "elsewhere")
        recorder._loop.call(recorder.frame, state(), NOON, "nas", "live")
        wait_until(past.refresh)
        assert not list((tmp_path / "elsewhere").iterdir())
    assert len(past.events) == 1


def test_a_followed_recording_that_nobody_holds_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "a.sysadm"
    write(path, [(NOON, state())])
    past = sa.open_recording(path)
    past.follow(0.01)
    assert past.refresh() == 0
    del past  # that its thread ends is checked after every test


def test_what_a_server_said_is_shown_as_text(tmp_path: Path) -> None:
    path = tmp_path / "<b>.sysadm"
    write(path, [(NOON, state())])
    past = sa.open_recording(path)
    assert "&lt;b&gt;.sysadm" in past._repr_html_()
    assert "2026-11-23 12:00:00" in past._repr_html_()
    assert repr(past) == "<Recording <b>.sysadm: 1 events>"
