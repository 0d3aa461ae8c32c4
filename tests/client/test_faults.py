"""Whatever the network does: every event once, or in a gap that is written down."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pandas as pd
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadm_nb.client import Login, parse_address
from sysadm_nb.client.connection import now_us
from sysadm_nb.client.session import Session
from sysadm_nb.server.core import EventServer
from sysadm_nb.tables import Tables
from tests.client.scripted import until
from tests.faults import FaultProxy

EVERY_S = 0.004
SLACK_S = 2.0
# A half-open link is found within the sum of these two, which is then a part of the fault.
PING_S, PONG_S = 0.3, 0.4
STANDSTILL_S = 0.3


@dataclass
class Fault:
    kind: str
    seconds: float
    after: int = 0


KINDS = ("cut", "cut in a frame", "stall down", "stall up", "delay", "refuse", "mute", "duplicate", "restart")

faults = st.builds(
    Fault,
    st.sampled_from(KINDS),
    st.floats(0.02, 0.6),
    st.integers(1, 600),
)


async def bring(fault: Fault, proxy: FaultProxy, servers: list[EventServer]) -> None:
    """Do to the network what the fault says, for as long as it says."""
    match fault.kind:
        case "cut":
            proxy.cut()
        case "cut in a frame":
            proxy.cut(after=fault.after)
        case "stall down" | "stall up":
            proxy.stall(fault.kind.split()[1])
        case "delay":
            proxy.delay = min(fault.seconds, 0.15)
        case "refuse":
            await proxy.refuse()
            proxy.cut()
        case "mute":
            proxy.mute()
            proxy.cut()
        case "duplicate":
            proxy.duplicate = True
            proxy.cut()
        case "restart":
            await servers[0].stop()
            servers[0] = new_server()
            await servers[0].start()
            proxy.target = port_of(servers[0])
    await asyncio.sleep(fault.seconds)
    proxy.resume()
    proxy.delay = 0.0
    proxy.mute(False)
    proxy.duplicate = False
    await proxy.listen()


def new_server() -> EventServer:
    return EventServer(users={"admin": "secret"})


def port_of(server: EventServer) -> int:
    return int(server.url.rpartition(":")[2].strip("/"))


def event(number: int) -> dict[str, str]:
    message = f"event {number}: New snapshot of tank/home"
    return {"class": "snapshot", "message": message, "priority": "1 - Information"}


async def ordeal(sequence: list[Fault]) -> tuple[Tables, dict[int, int], list[tuple[float, float]]]:
    """Publish numbered events while the faults come and go; returns tables, times and the faults' times."""
    tables = Tables()
    published: dict[int, int] = {}
    times: list[tuple[float, float]] = []
    servers = [new_server()]
    await servers[0].start()

    async def publish() -> None:
        number, before = 0, started
        while True:
            if time.time() - before > STANDSTILL_S:  # so much for the network: the machine stood still
                times.append((before, time.time()))
            before = time.time()
            stamp = now_us()
            servers[0].publish("life-preserver", event(number), stamp)
            published[number] = stamp
            number += 1
            await asyncio.sleep(EVERY_S)

    async with FaultProxy(port_of(servers[0])) as proxy:
        address = parse_address(f"ws://127.0.0.1:{proxy.port}")
        options = {"ping_interval": PING_S, "ping_timeout": PONG_S}
        session = Session(address, Login("admin", "secret"), tables, name="nas", timeout=1.0, **options)
        started = time.time()
        await session.start()
        publishing = asyncio.create_task(publish())
        for fault in sequence:
            await asyncio.sleep(0.05)
            begin = time.time()
            await bring(fault, proxy, servers)
            times.append((begin, time.time()))
        await asyncio.sleep(PING_S + PONG_S + 0.1)  # a stalled link may not be found out yet
        await until(lambda: session.state == "connected", 20)
        publishing.cancel()
        await asyncio.wait([publishing])
        newest = max(published)
        await until(lambda: any_frame_of(tables, newest), 20)
        await until(lambda: session._catching_up is None or session._catching_up.done(), 20)
        await session.close()
    await servers[0].stop()
    return tables, published, times


def any_frame_of(tables: Tables, number: int) -> bool:
    return bool(tables.life_preserver["message"].str.startswith(f"event {number}:").any())


def check(tables: Tables, published: dict[int, int], faults: list[tuple[float, float]]) -> None:
    rows = tables.life_preserver
    rows = rows[rows["origin"].isin(["live", "backfill"])]
    numbers = rows["message"].str.extract(r"^event (\d+):")[0].astype(int)
    twice = numbers[numbers.duplicated()]
    assert twice.empty, f"came twice: {sorted(twice)[:10]}"
    assert rows["time"].is_monotonic_increasing, "the table is not in order of time"
    out_of_order = rows[(numbers.diff() < 0) | (numbers.diff().shift(-1) < 0)]
    assert out_of_order.empty, f"not in order:\n{out_of_order.to_string()}\n{tables.connection.to_string()}"
    gaps = tables.connection[tables.connection["what"] == "gap"]
    spans = [
        (int(start.value // 1000), int(end.value // 1000))
        for start, end in zip(gaps["gap_start"], gaps["gap_end"], strict=True)
    ]
    for missing in published.keys() - set(numbers):
        stamp = published[missing]
        assert any(start <= stamp <= end for start, end in spans), (
            f"event {missing} of {pd.Timestamp(stamp, unit='us')} is "
            f"nowhere:\n{tables.connection.to_string()}"
        )
    for start, end in spans:
        disturbed = [(a, b) for a, b in faults if a * 1e6 <= end and (b + PING_S + PONG_S) * 1e6 >= start]
        assert disturbed, f"a gap without a fault:\n{tables.connection.to_string()}"
        fault_s = max(b for _, b in disturbed) - min(a for a, _ in disturbed) + PING_S + PONG_S
        assert (end - start) / 1e6 <= fault_s + SLACK_S, tables.connection.to_string()


def run(sequence: list[Fault]) -> Tables:
    process = psutil.Process()
    before = process.num_fds(), process.num_threads()

    async def main() -> tuple[Tables, dict[int, int], list[tuple[float, float]]]:
        result = await ordeal(sequence)
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left: {left}"
        return result

    tables, published, times = asyncio.run(main())
    check(tables, published, times)
    assert process.num_fds() <= before[0]
    assert process.num_threads() <= before[1]
    return tables


@pytest.mark.parametrize("kind", KINDS)
def test_one_fault(kind: str) -> None:
    tables = run([Fault(kind, 0.4, after=100)])
    whats = list(tables.connection["what"].astype(str))
    if kind not in ("delay", "stall up", "stall down"):  # these may pass unnoticed
        assert "lost" in whats
        assert "gap" in whats
        assert "backfilled" in whats


def test_a_link_that_is_half_open_is_found_by_a_ping() -> None:
    tables = run([Fault("stall down", 1.5)])
    connection = tables.connection
    lost = connection[connection["what"] == "lost"]["detail"]
    assert lost.str.contains("did not answer a ping").any()


@settings(max_examples=8, deadline=None)
@given(st.lists(faults, min_size=1, max_size=4))
def test_every_event_comes_once_or_lies_in_a_gap(sequence: list[Fault]) -> None:
    run(sequence)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(faults, min_size=1, max_size=8))
def test_every_event_comes_once_or_lies_in_a_gap_at_length(sequence: list[Fault]) -> None:
    run(sequence)
