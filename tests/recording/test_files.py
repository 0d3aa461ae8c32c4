"""Files that are torn, foreign, newer, full, gone; rotation; death in the middle."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sysadm_nb as sa
from sysadm_nb.recording import Recorder, file, record, remember
from sysadm_nb.recording.recorder import connection_records
from sysadm_nb.recording.writer import Frame, Record, Writer
from tests.recording.samples import NOON, SECOND, FakeMonitor, finished, running, state, write


def integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


# -- what is no recording -----------------------------------------------------------------------------------


def test_other_files_are_told_apart_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(sa.errors.RecordingError, match=r"There is no recording .*none\.sysadm"):
        sa.open_recording(tmp_path / "none.sysadm")
    with pytest.raises(sa.errors.RecordingError, match="is a folder: name a file in it"):
        sa.open_recording(tmp_path)
    text = tmp_path / "notes.txt"
    text.write_text("milk, bread and a long enough line\n")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE shopping (thing)")
    connection.close()
    newer = tmp_path / "newer.sysadm"
    write(newer, [(NOON, state())])
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for path, why in (
        (text, "no recording: it is not an SQLite file"),
        (other, "no recording: it is an SQLite file of another program"),
        (newer, r"written by a newer sysadm_nb \(format 99; this one reads up to 1\)"),
    ):
        before = path.read_bytes()
        with pytest.raises(sa.errors.RecordingError, match=why):
            sa.open_recording(path)
        with pytest.raises(sa.errors.RecordingError, match=why):
            Recorder(path)
        if path is not other:  # its journal mode is set; nothing else
            assert path.read_bytes() == before
    with sqlite3.connect(other) as connection:
        assert [name for (name,) in connection.execute("SELECT name FROM sqlite_master")] == ["shopping"]
    connection.close()
    with pytest.raises(sa.errors.RecordingError, match="There is no folder"):
        Recorder(tmp_path / "nowhere" / "a.sysadm")


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_a_torn_file_says_so_and_how_to_save_the_rest(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.sysadm"
    write(path, [(NOON + n, state(n % 100)) for n in range(3000)])
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(sa.errors.RecordingError, match="torn or damaged"):
        sa.open_recording(path)


def test_a_damaged_page_in_the_middle_is_an_error_not_a_short_table(tmp_path: Path) -> None:
    path = tmp_path / "a.sysadm"
    write(path, [(NOON + n, state(n % 100)) for n in range(3000)])
    damage(path)
    with pytest.raises(sa.errors.RecordingError, match="torn or damaged"):
        sa.open_recording(path)


def test_what_is_left_of_a_torn_file_can_be_saved(tmp_path: Path) -> None:
    path, saved = tmp_path / "a.sysadm", tmp_path / "saved.sysadm"
    write(path, [(NOON + n, state(n % 100)) for n in range(3000)])
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(sa.errors.RecordingError) as caught:
        sa.open_recording(path)
    assert "sysadm_nb.recording.salvage('a.sysadm', 'saved.sysadm')" in str(caught.value)
    before = path.read_bytes()
    count = sa.recording.salvage(path, saved)
    assert 1200 < count < 1600
    assert path.read_bytes() == before
    assert sa.open_recording(saved).pools.capacity_pct.tolist() == [n % 100 for n in range(count)]
    assert integrity(saved) == "ok"
    with pytest.raises(sa.errors.RecordingError, match="exists already"):
        sa.recording.salvage(path, saved)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.sysadm", "saved.sysadm"]


def test_what_is_behind_a_damaged_page_can_be_saved(tmp_path: Path) -> None:
    path, saved = tmp_path / "a.sysadm", tmp_path / "saved.sysadm"
    write(path, [(NOON + n, state(n % 100)) for n in range(3000)])
    damage(path)
    assert 2800 < sa.recording.salvage(path, saved) < 3000
    assert sa.recording.reader.span(saved) == (NOON, NOON + 2999)


def damage(path: Path) -> None:
    with path.open("r+b") as damaged:
        damaged.seek(path.stat().st_size // 2 // 16384 * 16384)
        damaged.write(random.Random(1).randbytes(16384))


def test_an_empty_file_becomes_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.sysadm"
    path.touch()
    write(path, [(NOON, state())])
    assert len(sa.open_recording(path).events) == 1


# -- rotation -----------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = NOON / 1e6

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("bound", ["rotate_bytes", "rotate_s", "keep"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "500M"])
def test_a_bound_of_files_that_is_none_is_refused_before_anything_is_written(
    tmp_path: Path, bound: str, value: Any
) -> None:
    with pytest.raises(sa.errors.InputError, match=f"{bound}=.* must be a number above 0"):
        Writer(tmp_path / "tank.sysadm", **{bound: value})
    with pytest.raises(sa.errors.InputError, match=r"max_queue=.* must be a number of bytes above 0"):
        record(FakeMonitor(), tmp_path / "tank.sysadm", max_queue=value)
    assert not any(tmp_path.iterdir())


def test_rotation_by_size_keeps_every_frame_in_files_of_that_size(tmp_path: Path) -> None:
    clock = Clock()
    writer = Writer(tmp_path / "tank.sysadm", rotate_bytes=500_000, clock=clock)
    past = None
    for n in range(40):
        clock.now += 60
        frames = [Frame(state(k % 100), NOON + n * SECOND + k, "nas", "live") for k in range(100)]
        writer.write(frames)
        if past is None:
            past = sa.open_recording(tmp_path / "tank.sysadm")
        else:
            past.refresh()
    writer.close()
    parts = file.parts(tmp_path / "tank.sysadm")
    assert parts[0].name == "tank-20261123T120000Z.sysadm"
    assert len(parts) > 3
    assert all(part.stat().st_size < 700_000 for part in parts)
    assert sa.open_recording(tmp_path / "tank.sysadm").tables.count("events") == 4000
    assert past is not None
    assert past.tables.count("events") == 4000
    assert (
        sa.open_recording(tmp_path / "tank.sysadm", start="5s", events="system-state").pools.shape[0] == 501
    )
    assert sa.recording.reader.place_at(tmp_path / "tank.sysadm", NOON + 39 * SECOND).frames.keys() == set(
        parts
    )


def test_rotation_by_age_goes_on_after_a_restart_and_deletes_the_oldest(tmp_path: Path) -> None:
    clock = Clock()
    for day in range(5):
        for _ in range(2):  # restarted within the day
            writer = Writer(tmp_path / "tank.sysadm", rotate_s=86_400, keep=3, clock=clock)
            clock.now += 3600
            writer.write([Frame(state(day), int(clock.now * 1e6), "nas", "live")])
            writer.close()
        clock.now += 86_400 - 7200
    names = [part.name for part in file.parts(tmp_path / "tank.sysadm")]
    assert names == [
        "tank-20261125T130000Z.sysadm",
        "tank-20261126T130000Z.sysadm",
        "tank-20261127T130000Z.sysadm",
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert sa.open_recording(tmp_path / "tank.sysadm").pools.capacity_pct.tolist() == [2, 2, 3, 3, 4, 4]


def test_two_recorders_rotate_into_the_same_files(tmp_path: Path) -> None:
    clock = Clock()
    writers = [Writer(tmp_path / "tank.sysadm", rotate_bytes=300_000, clock=clock) for _ in range(2)]
    for n in range(20):
        clock.now += 2
        for number, writer in enumerate(writers):
            frames = [Frame(state(k), NOON + n * SECOND + k, f"nas{number}", "live") for k in range(50)]
            writer.write(frames)
    for writer in writers:
        writer.close()
    past = sa.open_recording(tmp_path / "tank.sysadm")
    assert past.events.groupby("server", observed=True).size().to_dict() == {"nas0": 1000, "nas1": 1000}
    assert len(file.parts(tmp_path / "tank.sysadm")) < 12


def test_rotation_begins_also_where_the_recording_began_without(tmp_path: Path) -> None:
    clock = Clock()
    write(tmp_path / "tank.sysadm", [(NOON, state(0))])
    writer = Writer(tmp_path / "tank.sysadm", rotate_bytes=200_000, keep=2, clock=clock)
    for n in range(20):
        clock.now += 60
        writer.write([Frame(state(n), NOON + n * SECOND + k, "nas", "live") for k in range(100)])
    writer.close()
    parts = file.parts(tmp_path / "tank.sysadm")
    assert len(parts) == 2
    assert tmp_path / "tank.sysadm" not in parts
    assert all(part.stat().st_size < 500_000 for part in parts)


@pytest.mark.parametrize("options", [{"rotate_bytes": 200_000}, {"rotate_s": 3600}])
def test_rotation_goes_on_in_order_where_the_clock_was_set_back(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    clock = Clock()
    writer = Writer(tmp_path / "tank.sysadm", **options, clock=clock)
    for n in range(40):
        clock.now += 600 if n != 20 else -30 * 86_400
        writer.write([Frame(state(n), NOON + n * SECOND + k, "nas", "live") for k in range(50)])
        if n == 20:
            before = len(file.parts(tmp_path / "tank.sysadm"))
    writer.close()
    assert len(file.parts(tmp_path / "tank.sysadm")) >= before + 3
    told = sa.open_recording(tmp_path / "tank.sysadm").events.args.str.extract(r'"capacity":"(\d+)')[0]
    assert told.astype(int).tolist() == [n for n in range(40) for _ in range(50)]


def test_other_files_of_the_folder_are_no_parts(tmp_path: Path) -> None:
    for name in (
        "tank.sysadm",
        "tank-old.sysadm",
        "tank-20261123T120000Z.sysadm",
        "tank-20261123T120000Z.txt",
    ):
        (tmp_path / name).touch()
    assert [part.name for part in file.parts(tmp_path / "tank.sysadm")] == [
        "tank.sysadm",
        "tank-20261123T120000Z.sysadm",
    ]


def test_a_deleted_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.sysadm"
    writer = Writer(path)
    writer.write([Frame(state(1), NOON, "nas", "live")])
    for found in tmp_path.iterdir():
        found.unlink()
    writer.write([Frame(state(2), NOON + 1, "nas", "live")])
    writer.close()
    assert sa.open_recording(path).pools.capacity_pct.tolist() == [2]


# -- a full disk --------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2M", "none", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a small disk needs the right to mount: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def wait_until(true: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def test_a_full_disk_pauses_the_recording_and_nothing_else(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = small_disk / "a.sysadm"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_000_000)
    monitor = FakeMonitor()
    clock = iter(range(NOON, NOON + 10**9, 1000))

    def feed(count: int) -> None:
        async def on_loop() -> None:
            for _ in range(count):
                monitor.feed(state(next(clock) // 1000 % 100), next(clock))

        recorder._loop.run(on_loop())

    with record(monitor, path, max_queue=1_000_000) as recorder, caplog.at_level(logging.WARNING):
        feed(200)
        wait_until(lambda: recorder.written == 200)
        while recorder.state != "paused":
            feed(200)
            time.sleep(0.3)
        assert recorder.detail == "the disk is full"
        assert "paused: the disk is full" in repr(recorder)
        assert "is paused: the disk is full" in caplog.text
        before = recorder.written
        assert len(sa.open_recording(path).events) == before  # what was written is there, and can be read
        while not recorder.lost:  # until the queue is full as well
            feed(200)
        feed(300)
        assert len(monitor.tables.events) == recorder.written + recorder.lost + queued(recorder)
        ballast.unlink()
        monitored = len(monitor.tables.events)
        wait_until(lambda: recorder.state == "recording" and not queued(recorder))
        feed(10)
        wait_until(lambda: not queued(recorder))
        lost = recorder.lost
        assert recorder.written == monitored + 10 - lost
    past = sa.open_recording(path)
    assert len(past.events) == recorder.written
    whole, there = monitor.tables.events, past.events
    gap = past.connection.query("what == 'gap'").iloc[0]
    missing = whole[~whole.received.isin(there.received)]
    assert len(missing) == lost
    assert gap.server == "nas"
    assert (gap.gap_start, gap.gap_end) == (missing.received.iloc[0], missing.received.iloc[-1])
    assert f"{lost} frames" in gap.detail
    assert "the disk is full" in gap.detail
    whats = monitor.tables.connection.what.tolist()
    assert whats == ["recording paused", "recording resumed"]
    assert integrity(path) == "ok"


def queued(recorder: Recorder) -> int:
    return sum(isinstance(item, Frame) for item in recorder._queue)


def test_a_computing_cell_does_not_hold_the_recording_up(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.sysadm") as recorder:
        frames = [finished(f"job{n}") for n in range(2000)]

        async def feed() -> None:
            for n in range(40_000):
                recorder.frame(frames[n % 2000], NOON + n, "nas", "live")
                if n % 2000 == 1999:
                    await asyncio.sleep(0.1)

        future = recorder._loop.start(feed())
        while not future.done():  # holds the GIL whenever it can
            sum(range(1000))
        end = time.monotonic() + 2
        while time.monotonic() < end and recorder.written < 40_000:
            sum(range(1000))
        assert recorder.written == 40_000


def test_closing_while_the_disk_is_full_says_what_is_lost(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = small_disk / "a.sysadm"
    with Recorder(path) as recorder, caplog.at_level(logging.WARNING):
        for n in range(3000):
            recorder._loop.call(recorder.frame, finished(f"job{n}", log="x" * 2000), NOON + n, "nas", "live")
    assert recorder.state == "closed"
    left = 3000 - recorder.written
    assert left > 0
    assert recorder.lost == left
    assert f"{left} frames are not in {path}: the disk is full" in caplog.text
    assert integrity(path) == "ok"


def test_rotation_on_a_full_disk_loses_nothing(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    clock = Clock()
    writer = Writer(small_disk / "tank.sysadm", rotate_bytes=200_000, clock=clock)
    written = 0
    ballast.write_bytes(b"x" * 1_300_000)
    with pytest.raises((sqlite3.Error, OSError, sa.errors.RecordingError)):
        while True:
            clock.now += 1
            written += writer.write([Frame(state(k), NOON + k, "nas", "live") for k in range(50)])
    ballast.unlink()
    clock.now += 1
    written += writer.write([Frame(state(k), NOON + k, "nas", "live") for k in range(50)])
    writer.close()
    assert sa.open_recording(small_disk / "tank.sysadm").tables.count("events") == written
    assert all(integrity(part) == "ok" for part in file.parts(small_disk / "tank.sysadm"))


def test_a_label_put_in_while_rows_of_the_connection_are_taken_up_is_kept(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    with record(monitor, tmp_path / "a.sysadm") as recorder:

        async def at_once() -> None:
            monitor.tables.append_connection("lost", server="nas")
            recorder.append_record("label", NOON, {"name": "scrub"})
            await recorder.flush()

        recorder._loop.run(at_once())
    past = sa.open_recording(tmp_path / "a.sysadm")
    assert past.connection.what.tolist() == ["lost"]
    assert len(past.records("label")) == 1


# -- death --------------------------------------------------------------------------------------------------

RECORDING_PROGRAM = """
    import sys, time
    from tests.recording.samples import FakeMonitor, event
    from sysadm_nb.recording import record

    monitor = FakeMonitor()
    recorder = record(monitor, sys.argv[1])

    async def feed():
        import asyncio
        begin, number = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - begin) * 10_000)
            while number < due:
                now = time.time_ns() // 1000
                text = event("numbered", {"number": number, "text": "x" * 800}, time=None)
                for callback in monitor.callbacks:
                    callback(text, now, "nas", "live")
                number += 1
            print(number, time.time(), flush=True)
            await asyncio.sleep(0.01)

    recorder._loop.run(feed(), None)
"""


def test_kill_9_at_10_000_events_a_second_costs_a_second_at_most(tmp_path: Path) -> None:
    path = tmp_path / "a.sysadm"
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(RECORDING_PROGRAM))
    for _ in range(2):  # the second time it goes on with the file of a killed one
        process = subprocess.Popen(
            [sys.executable, str(program), str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        )
        assert process.stdout is not None
        process.stdout.readline()
        deadline = time.monotonic() + 3 + random.random()
        lines = [process.stdout.readline()]
        while time.monotonic() < deadline:
            lines.append(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines()
        process.wait(10)
        process.stdout.close()
        number, died = lines[-1].split()
        assert int(number) > 20_000
        last = sa.recording.reader.span(path)
        assert last is not None
        assert float(died) - last[1] / 1e6 < 1.0
        assert integrity(path) == "ok"
        past = sa.open_recording(path, start=int(last[1] - 2e6))
        numbers = past.events.args.str.extract(r'"number":(\d+)')[0].astype(int)
        assert (numbers.diff().dropna() == 1).all()  # no hole before the end
        assert int(number) - numbers.iloc[-1] <= 10_000


def test_an_unclosed_recorder_writes_its_queue_when_the_process_ends(tmp_path: Path) -> None:
    program = """
        import sys
        from sysadm_nb.recording import Recorder
        from tests.recording.samples import state, NOON
        recorder = Recorder(sys.argv[1])
        for n in range(100):
            recorder._loop.call(recorder.frame, state(n), NOON + n, "nas", "live")
    """
    subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), str(tmp_path / "a.sysadm")],
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        timeout=60,
    )
    assert len(sa.open_recording(tmp_path / "a.sysadm").events) == 100
    assert [found.name for found in tmp_path.iterdir()] == ["a.sysadm"]


# -- the memory of a monitor --------------------------------------------------------------------------------


def test_a_monitor_remembers_its_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.sysadm"
    assert remember(sa.Tables(), path) == {}
    writer = Writer(path)
    monitor = FakeMonitor()
    monitor.tables.append_connection("connected", server="nas", time=NOON)
    _, rows = monitor.tables.since("connection")
    writer.write(connection_records(rows))
    writer.write(
        [
            Frame(state(5), NOON, "nas", "last"),
            Frame(state(10), NOON + 1, "nas", "live"),
            Frame(running("a"), NOON + 2, "nas", "live"),
            Frame(finished("b"), NOON + 3, "other", "backfill"),
        ]
    )
    writer.write([Record("connection", NOON + 4, '{"what":"lost","server":"other","detail":"reset"}')])
    writer.close()
    tables = sa.Tables()
    assert remember(tables, path) == {"nas": NOON + 2, "other": NOON + 3}
    assert tables.events.origin.tolist() == ["last", "file", "file", "backfill"]
    assert tables.connection[["what", "origin"]].to_numpy().tolist() == [
        ["connected", "file"],
        ["lost", "file"],
    ]
    assert tables.jobs.set_index("process_id").state.to_dict() == {"a": "unknown", "b": "finished"}
    _, rows = tables.since("connection")
    assert connection_records(rows) == []  # nothing is recorded twice


def test_a_monitor_remembers_no_more_than_its_tables_keep(tmp_path: Path) -> None:
    clock = Clock()
    writer = Writer(tmp_path / "tank.sysadm", rotate_bytes=300_000, clock=clock)
    for n in range(40):
        clock.now += 2
        frames = [Frame(state(n), NOON + n * SECOND + k, "nas", "live") for k in range(50)]
        writer.write([*frames, Record("connection", NOON, f'{{"what":"n{n}","server":"nas"}}')])
    writer.close()
    parts = file.parts(tmp_path / "tank.sysadm")
    assert len(parts) > 3
    tables = sa.Tables(max_rows=120)
    assert remember(tables, tmp_path / "tank.sysadm") == {"nas": NOON + 39 * SECOND + 49}
    assert tables.count("events") == 120
    assert tables.pools.capacity_pct.unique().tolist() == [37, 38, 39]
    assert tables.connection.what.tolist() == ["n37", "n38", "n39"]
    tables = sa.Tables(max_rows=1000)
    remember(tables, tmp_path / "tank.sysadm")
    assert tables.count("events") == 1000
