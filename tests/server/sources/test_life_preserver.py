"""The life-preserver source as a whole: real files, and the stand-in of zfs."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import time
from contextlib import asynccontextmanager

import pytest

from sysadm_nb.errors import InputError
from sysadm_nb.server import zfs
from sysadm_nb.server.life_preserver import LifePreserver, source
from sysadm_nb.server.source import Source, resolve

DATE = "Mon Nov 23 07:21:06 UTC 2026"
SEND_LOG = (
    "send from auto-1 to tank@auto-2 estimated size is 4.20G\ntotal estimated size is 4.20G\n"
    "TIME        SENT   SNAPSHOT\n"
)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


@pytest.fixture
def place(tmp_path):
    """A folder with lpreserver's log, empty yet."""
    (tmp_path / "lpreserver.log").touch()
    return tmp_path


def append(path, text):
    with path.open("a") as file:
        file.write(text)


@asynccontextmanager
async def started(place, **options):
    """The source, running; the events it publishes come out of the queue."""
    events: asyncio.Queue = asyncio.Queue()
    life_preserver = LifePreserver(
        log=place / "lpreserver.log",
        state=place / "state" / "memory.json",
        **{"poll": 0.02, "interval": 0.05} | options,
    )
    await life_preserver.start(lambda name, args, when: events.put_nowait((name, dict(args), when)))
    try:
        yield events
    finally:
        await life_preserver.stop()


async def messages(events, count: int) -> list[str]:
    found = [(await asyncio.wait_for(events.get(), 20))[1]["message"] for _ in range(count)]
    await asyncio.sleep(0.15)
    assert events.empty(), events.get_nowait()
    return [message.rpartition("2026: ")[2] for message in found]


async def looked(home) -> None:
    """Wait until a look at the snapshots has begun and ended."""
    calls = home / "calls"
    count = lambda: calls.read_text().count("zfs list") if calls.exists() else 0  # noqa: E731
    before, limit = count(), time.monotonic() + 20
    while count() < before + 2:
        assert time.monotonic() < limit
        await asyncio.sleep(0.05)


def test_it_is_a_source_with_a_name():
    (found,) = resolve("life_preserver")
    assert isinstance(found, Source)
    assert found.name == "life-preserver"


def test_unknown_format_is_told_at_once():
    with pytest.raises(InputError, match="no log format 'znapzend'; there are zfs, pv, syncoid, zrepl"):
        LifePreserver(replication_logs={"/var/log/x": "znapzend"})


# --- lpreserver ---------------------------------------------------------------------------------------------


def test_lines_become_events_with_their_own_time(place):
    async def scenario():
        async with started(place) as events:
            await asyncio.sleep(0.1)
            append(place / "lpreserver.log", f"{DATE}: Creating snapshot on tank/ROOT\n")
            return await asyncio.wait_for(events.get(), 20)

    assert run(scenario()) == (
        "life-preserver",
        {"class": "snapshot", "message": f"{DATE}: New snapshot of tank/ROOT", "priority": "1 - Information"},
        1795418466000000,
    )


def test_a_log_that_comes_later(place):
    (place / "lpreserver.log").unlink()

    async def scenario():
        async with started(place) as events:
            await asyncio.sleep(0.1)
            append(place / "lpreserver.log", f"{DATE}: Creating snapshot on tank\n")
            return await messages(events, 1)

    assert run(scenario()) == ["New snapshot of tank"]


def test_a_replication_with_its_progress(place):
    """As in the capture 05: leftovers of an earlier run, a send log written anew, a line after the end."""
    log, send = place / "lpreserver.log", place / "lastrep-send-log"
    send.write_text(SEND_LOG + "07:00:01    999M   tank@auto-1\n")
    date = time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(time.time() + 1))

    async def scenario():
        told = []
        async with started(place) as events:
            await asyncio.sleep(0.1)
            append(log, f"{date}: Starting replication SYNC task on tank: {send}\n")
            told += await messages(events, 1)
            send.write_text(SEND_LOG)
            append(send, "07:25:01    128M   tank@auto-2\n")
            told += await messages(events, 1)
            append(send, "07:25:02    512M   tank@auto-2\n07:25:03    512M   tank@auto-2\n07:25:04   4.31G  ")
            append(send, " tank@auto-2\n")
            append(log, f"{date}: Finished replication task on tank -> backup\n")
            told += await messages(events, 3)
            append(send, "07:25:09   9.99G   tank@auto-2\n")
            append(log, f"{date}: FAILED replication task on tank -> backup: LOGFILE: /failed.log\n")
            return told + await messages(events, 1)

    assert run(scenario()) == [
        "Starting replication for tank",
        "Replicating tank@auto-2: 128M/4.20G (2.9%)",
        "Replicating tank@auto-2: 512M/4.20G (11.9%)",
        "Replicating tank@auto-2: 4.31G/4.20G (102.6%)",
        "Finished replication for tank",
        "Replication Failed for tank\nLogfile available at: /failed.log",
    ]


def test_restarts_lose_nothing_and_repeat_nothing(place):
    log = place / "lpreserver.log"
    append(log, f"{DATE}: Creating snapshot on old-news\n")

    async def once(*lines, rotate=False):
        async with started(place) as events:
            told = []
            while not told or not events.empty():
                await asyncio.sleep(0.15)
                told += [events.get_nowait()[1]["message"].rpartition(" ")[2] for _ in range(events.qsize())]
                if not told:
                    return []
            return told

    assert run(once()) == []
    append(log, f"{DATE}: Creating snapshot on a\n{DATE}: Creating snap")
    assert run(once()) == ["a"]
    append(log, f"shot on b\n{DATE}: Creating snapshot on c\n")
    shutil.copy(log, log.with_name("lpreserver.log.old"))
    log.write_text(f"{DATE}: Rotate Logfile\n{DATE}: Creating snapshot on d\n")
    assert run(once()) == ["b", "c", "d"]
    assert run(once()) == []


def test_what_was_told_is_remembered_at_once(place):
    """Also when the program is ended the moment after."""
    log = place / "lpreserver.log"
    options = {"log": log, "state": place / "memory.json", "poll": 0.02}

    async def scenario():
        told = []
        ended = asyncio.Event()

        def publish(name, args, when):
            told.append(args["message"].rpartition(" ")[2])
            for task in first._tasks:
                task.cancel()
            ended.set()

        first = LifePreserver(**options)
        await first.start(publish)
        await asyncio.sleep(0.1)
        append(log, f"{DATE}: Creating snapshot on a\n")
        await asyncio.wait_for(ended.wait(), 20)
        await first.stop()
        again = LifePreserver(**options)
        await again.start(lambda name, args, when: told.append(args["message"].rpartition(" ")[2]))
        await asyncio.sleep(0.3)
        await again.stop()
        return told

    assert run(scenario()) == ["a"]


def test_a_replication_under_way_over_a_restart(place):
    log, send = place / "lpreserver.log", place / "send"

    async def scenario():
        async with started(place) as events:
            await asyncio.sleep(0.1)
            send.write_text(SEND_LOG + "07:25:01    128M   tank@auto-2\n")
            append(log, f"{DATE}: Starting replication SYNC task on tank: {send}\n")
            told = await messages(events, 2)
        append(send, "07:25:02    512M   tank@auto-2\n")
        async with started(place) as events:
            told += await messages(events, 1)
            append(log, f"{DATE}: Finished replication task on tank -> backup\n")
            return told + await messages(events, 1)

    assert run(scenario()) == [
        "Starting replication for tank",
        "Replicating tank@auto-2: 128M/4.20G (2.9%)",
        "Replicating tank@auto-2: 512M/4.20G (11.9%)",
        "Finished replication for tank",
    ]


def test_a_log_that_cannot_be_read_is_told_once(place, caplog):
    (place / "lpreserver.log").unlink()
    (place / "lpreserver.log").mkdir()  # root may read any file, but nobody reads a folder as one

    async def scenario():
        async with started(place) as events:
            while not caplog.records:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            (place / "lpreserver.log").rmdir()
            append(place / "lpreserver.log", f"{DATE}: Creating snapshot on tank\n")
            return await messages(events, 1)

    with caplog.at_level(logging.WARNING):
        assert run(scenario()) == ["New snapshot of tank"]
    assert [record.getMessage() for record in caplog.records if "followed" in record.getMessage()] == [
        f"a log cannot be followed: [Errno 21] Is a directory: '{place / 'lpreserver.log'}'"
    ]


def test_memory_that_cannot_be_read_or_written_is_told_and_no_more(place, caplog):
    (place / "state").mkdir()
    (place / "state" / "memory.json").write_text("{")

    async def scenario():
        async with started(place) as events:
            await asyncio.sleep(0.1)
            shutil.rmtree(place / "state")
            (place / "state").touch()
            append(place / "lpreserver.log", f"{DATE}: Creating snapshot on tank\n")
            return await messages(events, 1)

    with caplog.at_level(logging.WARNING):
        assert run(scenario()) == ["New snapshot of tank"]
    assert "cannot be read" in caplog.text


# --- without lpreserver -------------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A folder without lpreserver's log; recursive snapshots settle fast."""
    monkeypatch.setattr(source, "SETTLE", 0.05)
    return tmp_path


def test_snapshots_that_come_and_go(bare, openzfs):
    now = int(time.time())
    home = openzfs(snapshots={"tank@a": [now - 100, 1], "tank/home@a": [now - 100, 1]})

    async def scenario():
        async with started(bare) as events:
            await looked(home)
            openzfs(snapshots={"tank@a": [now - 100, 1], "tank/home@b": [now + 1, 2]})
            return [await asyncio.wait_for(events.get(), 20) for _ in range(2)]

    deleted, created = sorted(run(scenario()), key=lambda event: event[1]["message"].partition("2026: ")[2])
    assert deleted[1]["message"].endswith(": Deleted snapshot tank/home@a")
    assert created[1]["message"].endswith(": New snapshot of tank/home")
    assert created[1]["snapshot"] == "tank/home@b"
    assert created[1]["class"] == deleted[1]["class"] == "snapshot"
    assert created[1]["priority"] == "1 - Information"


def test_zfs_events_make_it_look_at_once(bare, openzfs):
    home = openzfs(snapshots={})

    async def scenario():
        async with started(bare, interval=3600) as events:
            memory = bare / "state" / "memory.json"
            while not memory.exists() or json.loads(memory.read_text())["snapshots"] is None:
                await asyncio.sleep(0.05)
            openzfs(snapshots={"tank@a": [int(time.time()), 1]})
            line = time.strftime("%b %d %Y %H:%M:%S.5", time.localtime(time.time() + 1))
            append(home / "events", f"{line}\tsysevent.fs.zfs.history_event\n")
            return await messages(events, 1)

    assert run(scenario()) == ["New snapshot of tank"]


def test_snapshots_made_while_it_was_off_come_once(bare, openzfs):
    now = int(time.time())

    async def once():
        async with started(bare) as events:
            await looked(bare / "openzfs")
            return [events.get_nowait() for _ in range(events.qsize())]

    openzfs(snapshots={"tank@a": [now - 100, 5], "pool@a": [now - 100, 900]})
    assert run(once()) == []
    # received snapshots keep the time of their making elsewhere
    openzfs(
        snapshots={
            "tank@a": [now - 100, 5],
            "pool@a": [now - 100, 900],
            "tank@b": [now - 50, 6],
            "tank@received": [now - 99999, 7],
        }
    )
    told = run(once())
    assert [args["snapshot"] for _, args, _ in told] == ["tank@received", "tank@b"]
    assert [when for _, _, when in told] == [(now - 99999) * 1_000_000, (now - 50) * 1_000_000]
    assert run(once()) == []


def test_no_zfs_is_one_warning(bare, monkeypatch, caplog):
    monkeypatch.setenv("PATH", str(bare))
    monkeypatch.setattr(zfs, "_SYSTEM_PATH", str(bare))

    async def scenario():
        async with started(bare, interval=0.02):
            while not caplog.records:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)

    with caplog.at_level(logging.WARNING):
        run(scenario())
    (record,) = caplog.records
    assert "no snapshots can be seen: there is no zfs on this machine" in record.getMessage()


def test_with_lpreserver_zfs_is_not_asked(place, openzfs):
    home = openzfs(snapshots={})

    async def scenario():
        async with started(place, interval=0.01):
            while not (home / "calls").exists():  # `zpool events` is followed in any case
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)

    run(scenario())
    assert "zfs list" not in (home / "calls").read_text()


def test_replication_logs_of_other_tools(bare, openzfs):
    openzfs(snapshots={})
    log = bare / "syncoid.log"

    async def scenario():
        async with started(bare, replication_logs={str(log): "syncoid"}) as events:
            await asyncio.sleep(0.1)
            append(log, "INFO: Sending incremental tank/home@a ... b to backup/home (~ 4.2 GB):\n")
            append(log, "1.32GiB 0:00:12 [ 110MiB/s] [=====>          ] 31% ETA 0:00:26\r")
            append(log, "4.20GiB 0:00:39 [ 110MiB/s] [===============>] 100%\n")
            return await messages(events, 4)

    assert run(scenario()) == [
        "Starting replication for tank/home",
        "Replicating tank/home: 1.32G/4.2G (31%)",
        "Replicating tank/home: 4.20G/4.2G (100%)",
        "Finished replication for tank/home",
    ]


@pytest.mark.parametrize("restart", [False, True])
def test_a_line_that_no_parser_can_bear_is_passed_over(bare, openzfs, restart):
    openzfs(snapshots={})
    log = bare / "pv.log"
    bad = f"tank: 1MiB {'9' * 5000}:00:00\n"  # more digits than Python turns into a number
    if restart:
        log.write_text(bad)

    async def scenario():
        async with started(bare, replication_logs={str(log): "pv"}) as events:
            append(log, f"{bad}tank: 1.32GiB 0:00:12 [ 110MiB/s] 31%\n")
            return await messages(events, 2)

    assert run(scenario()) == ["Starting replication for tank", "Replicating tank: 1.32G/?? (31%)"]


def test_a_transfer_under_way_over_a_restart(bare, openzfs):
    openzfs(snapshots={})
    log = bare / "syncoid.log"
    append(log, "INFO: Sending incremental tank/home@a ... b to backup/home (~ 4.2 GB):\n")

    async def scenario():
        async with started(bare, replication_logs={str(log): "syncoid"}) as events:
            await asyncio.sleep(0.1)
            append(log, "4.20GiB 0:00:39 [ 110MiB/s] [===============>] 100%\n")
            return await messages(events, 2)

    assert run(scenario()) == [
        "Replicating tank/home: 4.20G/4.2G (100%)",
        "Finished replication for tank/home",
    ]


def test_what_is_remembered(place):
    async def scenario():
        async with started(place) as events:
            await asyncio.sleep(0.1)
            append(place / "lpreserver.log", f"{DATE}: Creating snapshot on tank\n")
            await messages(events, 1)

    run(scenario())
    memory = json.loads((place / "state" / "memory.json").read_text())
    assert memory["logs"][str(place / "lpreserver.log")]["offset"] == len(
        f"{DATE}: Creating snapshot on tank\n"
    )
