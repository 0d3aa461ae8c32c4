"""A replay is a server: real clients connect to it and see the past as it was."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from websockets.asyncio.client import connect

import sysadm_nb as sa
from sysadm_nb import wire
from sysadm_nb.recording import player
from sysadm_nb.recording.player import with_time
from tests.recording.samples import DAY, NOON, SECOND, finished, running, snapshot, state, write

INF = float("inf")


async def watch(server: sa.Server, count: int, *, classes: tuple[str, ...] = wire.CLASSES) -> list[str]:
    """Subscribe with a plain WebSocket client and return the next frames that are no replies."""
    user, password = server.credentials
    frames: list[str] = []
    async with connect(server.url, max_size=None) as socket:
        await socket.send(wire.encode("rpc", "auth", {"username": user, "password": password}, "a"))
        await socket.send(wire.encode("events", "subscribe", list(classes), "s"))
        while len(frames) < count:
            text = await asyncio.wait_for(socket.recv(), 20)
            if not isinstance(wire.decode(text), wire.Reply):
                frames.append(text)
    return frames


def see(server: sa.Server, count: int, **options: object) -> list[str]:
    return asyncio.run(watch(server, count, **options))  # type: ignore[arg-type]


@pytest.fixture
def past(tmp_path: Path) -> Path:
    path = tmp_path / "a.sysadm"
    frames = [
        (NOON, state(10)),
        (NOON + 1 * SECOND, running("a")),
        (NOON + 1 * SECOND, "no frame at all"),
        (NOON + 2 * SECOND, finished("a", log="grüße\n")),
        (NOON + 3 * SECOND, snapshot("tank/home")),
        (NOON + DAY, state(20)),
        (NOON + DAY, "the end"),
    ]
    write(path, frames)
    return path


def test_real_frames_in_their_order(past: Path) -> None:
    with sa.replay(past, INF) as server:
        frames = see(server, 7)
    assert frames == [
        with_time(state(10), NOON),
        with_time(running("a"), NOON + SECOND),
        "no frame at all",
        with_time(finished("a", log="grüße\n"), NOON + 2 * SECOND),
        with_time(snapshot("tank/home"), NOON + 3 * SECOND),
        with_time(state(20), NOON + DAY),
        "the end",
    ]
    assert frames[0] == state(10)[:-1] + ',"time":"2026-11-23T12:00:00.000000Z"}'
    tables = sa.Tables()
    for frame in frames:
        tables.append(frame, server="nas")
    original = sa.open_recording(past).tables
    columns = ["time", "event", "subject", "args"]
    pd.testing.assert_frame_equal(
        tables.events[columns].query("event != 'malformed'").reset_index(drop=True),
        original.events[columns].query("event != 'malformed'").reset_index(drop=True),
    )
    assert tables.jobs.log.tolist() == ["grüße\n"]


def test_time_is_scaled_and_waits_for_the_first_subscriber(past: Path) -> None:
    with sa.replay(past, speed=10, end="2026-11-23 13:00") as server:
        assert server.state == "waiting"
        time.sleep(0.5)
        begin = time.monotonic()
        see(server, 5)
        elapsed = time.monotonic() - begin
        assert 0.28 <= elapsed < 10  # three recorded seconds, ten times as fast
        wait_for(server, "finished")
        assert server.position == pd.Timestamp("2026-11-23T12:00:03Z")
    assert server.state == "stopped"


def wait_for(server: sa.recording.Replay, state: str) -> None:
    end = time.monotonic() + 20
    while server.state != state:
        assert time.monotonic() < end, f"still {server.state}"
        time.sleep(0.01)


def test_nothing_comes_after_the_end(past: Path) -> None:
    async def all_there_is() -> list[str]:
        user, password = server.credentials
        frames = []
        async with connect(server.url) as socket:
            await socket.send(wire.encode("rpc", "auth", {"username": user, "password": password}, "a"))
            await socket.send(wire.encode("events", "subscribe", list(wire.CLASSES), "s"))
            await asyncio.to_thread(wait_for, server, "finished")
            with pytest.raises(TimeoutError):
                while True:
                    frames.append(await asyncio.wait_for(socket.recv(), 0.3))
        return [text for text in frames if not isinstance(wire.decode(text), wire.Reply)]

    with sa.replay(past, INF, end="2026-11-24 12:00") as server:
        assert [wire.decode(text).__class__.__name__ for text in asyncio.run(all_there_is())] == [
            "Event",
            "Event",
            "Malformed",
            "Event",
            "Event",
        ]


def test_pause_resume_and_seek(past: Path) -> None:
    async def scenario() -> None:
        user, password = server.credentials
        async with connect(server.url) as socket:

            async def next_event() -> wire.Event:
                while True:
                    message = wire.decode(await asyncio.wait_for(socket.recv(), 20))
                    if isinstance(message, wire.Event):
                        return message

            await socket.send(wire.encode("rpc", "auth", {"username": user, "password": password}, "a"))
            await asyncio.to_thread(server.pause)
            await socket.send(wire.encode("events", "subscribe", list(wire.CLASSES), "s"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(next_event(), 0.4)
            assert server.state == "paused"
            await asyncio.to_thread(server.resume)
            assert (await next_event()).time == NOON
            assert (await next_event()).time == NOON + SECOND
            await asyncio.to_thread(server.seek, "2026-11-23 12:00:03")
            assert (await next_event()).time == NOON + 3 * SECOND
            await asyncio.to_thread(setattr, server, "speed", INF)
            assert (await next_event()).args["zpools"]["tank"]["capacity"] == "20%"
            await asyncio.to_thread(wait_for, server, "finished")
            await asyncio.to_thread(server.seek, NOON)
            assert (await next_event()).time == NOON

    with sa.replay(past, speed=2) as server:
        asyncio.run(scenario())


@pytest.mark.parametrize("touched", ["speed", "pause"])
def test_who_touches_the_controls_does_not_wait_again(past: Path, touched: str) -> None:
    with sa.replay(past, speed=2, end="2026-11-23 13:00") as server, sa.connect(server):
        begin = time.monotonic()
        while server.state != "finished":
            if touched == "speed":
                server.speed = 2
            else:
                server.pause()
                server.resume()
            assert time.monotonic() - begin < 15
            time.sleep(0.1)
        assert time.monotonic() - begin > 1.2  # three recorded seconds, twice as fast
        assert server.position == pd.Timestamp("2026-11-23T12:00:03Z")


def test_a_pause_that_comes_while_it_reads_ahead_holds(past: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on = threading.Event(), threading.Event()
    take = player._take

    def slowly(*args: Any) -> Any:
        reading.set()
        assert go_on.wait(20)
        return take(*args)

    monkeypatch.setattr(player, "_take", slowly)
    with sa.replay(past, INF) as server, sa.connect(server) as monitor:
        assert reading.wait(20)
        server.pause()
        go_on.set()
        time.sleep(0.3)
        assert server.state == "paused"
        assert len(monitor.events) == 0
        server.resume()
        wait_for(server, "finished")
        reading.clear()
        go_on.clear()
        assert reading.wait(20)  # it looks whether the recording has grown
        server.pause()
        go_on.set()
        time.sleep(0.3)
        assert server.state == "paused"


def test_a_client_that_comes_late_gets_the_state_so_far(past: Path) -> None:
    with sa.replay(past, speed=0.001, start="2026-11-23 18:00") as server:
        first = see(server, 2)
    assert set(first) == {
        with_time(state(10), NOON),
        with_time(snapshot("tank/home"), NOON + 3 * SECOND),
    }


def test_after_a_seek_the_state_is_that_of_the_time(past: Path) -> None:
    with sa.replay(past, INF) as server, sa.connect(server) as monitor:

        def capacities() -> list[str]:
            told = monitor.request("sysadm", "zfs", {"action": "list_pools"})["list_pools"]
            return [pool["capacity"] for pool in told.values()]

        wait_for(server, "finished")
        assert capacities() == ["20%"]
        count = len(monitor.events)
        server.pause()
        server.seek("2026-11-23 18:00")
        assert capacities() == ["10%"]
        assert set(see(server, 2)) == {
            with_time(state(10), NOON),
            with_time(snapshot("tank/home"), NOON + 3 * SECOND),
        }
        server.seek(NOON - SECOND)
        assert capacities() == []
        with sa.connect(server, name="late") as late:
            late.subscribe()
            assert len(late.events) == 0
        assert len(monitor.events) == count  # it is no news for those who are connected


def test_pools_can_be_asked_for(past: Path) -> None:
    async def ask() -> object:
        user, password = server.credentials
        async with connect(server.url) as socket:
            await socket.send(wire.encode("rpc", "auth", {"username": user, "password": password}, "a"))
            await socket.send(wire.encode("sysadm", "zfs", {"action": "list_pools"}, "p"))
            while True:
                message = wire.decode(await asyncio.wait_for(socket.recv(), 20))
                if isinstance(message, wire.Reply) and message.id == "p":
                    return message.args["list_pools"]["tank"]["capacity"]

    with sa.replay(past, speed=1, start="2026-11-23 18:00") as server:
        assert asyncio.run(ask()) == "10%"


def test_a_slow_client_slows_the_replay_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "big.sysadm"
    log = "x" * 20_000
    write(path, [(NOON + n, finished(f"job{n}", log=log)) for n in range(2000)])  # 40 MB; 8 MB may wait

    async def slowly() -> list[str]:
        user, password = server.credentials
        seen = []
        async with connect(server.url, max_size=None, max_queue=1) as socket:
            await socket.send(wire.encode("rpc", "auth", {"username": user, "password": password}, "a"))
            await socket.send(wire.encode("events", "subscribe", "dispatcher", "s"))
            while len(seen) < 2000:
                message = wire.decode(await asyncio.wait_for(socket.recv(), 20))
                if isinstance(message, wire.Event):
                    seen.append(message.args["process_id"])
                    if len(seen) == 100:
                        await asyncio.sleep(1)
        return seen

    with sa.replay(path, INF) as server:
        assert asyncio.run(slowly()) == [f"job{n}" for n in range(2000)]


def test_which_server_is_to_be_said(tmp_path: Path) -> None:
    path = tmp_path / "two.sysadm"
    write(path, [(NOON, state(1))], server="one")
    write(path, [(NOON, state(2))], server="two")
    with pytest.raises(sa.errors.InputError, match=r"2 servers: pass server= with one of one, two"):
        sa.replay(path)
    with pytest.raises(sa.errors.InputError, match="no server 'three'"):
        sa.replay(path, server="three")
    with sa.replay(path, INF, server="two") as server:
        (frame,) = see(server, 1)
    assert wire.decode(frame).args["zpools"]["tank"]["capacity"] == "2%"


def test_what_cannot_be_replayed_says_so(tmp_path: Path) -> None:
    with pytest.raises(sa.errors.RecordingError, match="There is no recording"):
        sa.replay(tmp_path / "none.sysadm")
    write(tmp_path / "a.sysadm", [])
    with pytest.raises(sa.errors.RecordingError, match="empty"):
        sa.replay(tmp_path / "a.sysadm")
    write(tmp_path / "a.sysadm", [(NOON, state())])
    for speed in (0, -1, float("nan"), "2"):
        with pytest.raises(sa.errors.InputError, match="more than 0"):
            sa.replay(tmp_path / "a.sysadm", speed)
