"""A monitor for half an hour, at a server that is restarted every minute: ``python -m benchmarks.soak``.

The server is a process of its own that publishes numbered events; it is stopped (by turns politely and with
``kill -9``) and started again. Asked for: every event is in the table once or inside a recorded gap, memory
stays flat (the last third of the time within 5 % of the middle one), no descriptor is left. With
``--accelerate 10`` a minute lasts 6 seconds; the events a second stay.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import gc
import itertools
import math
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil

import sysadm_nb as sa
from sysadm_nb.client import ReceivedEvent
from sysadm_nb.server.core import EventServer

FLAT = 0.05
MAX_ROWS = 15_000  # reached in the first third, after which memory has to stand still
PASSWORD = "soak"
SLICE_S = 0.02


async def serve(port: int, first: int, rate: float, note: Path) -> None:
    """Be the server: publish numbered events at a rate, and note the number reached."""
    server = EventServer(port=port, users={"admin": PASSWORD})
    await server.start()
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    begin, reached = time.monotonic(), first
    with note.open("r+") as out:
        while not ending.is_set():
            due = first + int((time.monotonic() - begin) * rate)
            out.seek(0)
            out.write(f"{due:15d}")
            out.flush()
            for number in range(reached, due):
                pool = {"size": "107G", "alloc": f"{number % 1000 / 10}G", "capacity": f"{number % 90}%"}
                server.publish("system-state", {"number": number, "zpools": {"tank": pool}})
            reached = due
            await asyncio.sleep(SLICE_S)
    await server.stop()


class Seen:
    """Which numbers came, and when those did that stand beside missing ones."""

    def __init__(self) -> None:
        self.marks = bytearray()
        self.twice = self.first = 0
        self.edges: list[tuple[int, float]] = [(-1, 0.0)]
        self._before = (-1, 0.0)

    def take(self, event: ReceivedEvent) -> None:
        if event.origin not in ("live", "backfill"):
            return
        number, moment = event.args["number"], event.time.timestamp()
        if self._before[0] < 0:  # the server began before anybody was connected
            self.first, self._before = number, (number - 1, moment)
        if number >= len(self.marks):
            self.marks.extend(bytes(number - len(self.marks) + 100_000))
        self.twice += self.marks[number]
        self.marks[number] = 1
        if number != self._before[0] + 1:
            self.edges += [self._before, (number, moment)]
        self._before = (number, moment)

    def uncovered(self, missing: list[int], gaps: list[tuple[float, float]]) -> list[int]:
        """Those of the missing whose neighbours in time do not stand at the two ends of a recorded gap."""
        edges = sorted({*self.edges, self._before, (2**62, math.inf)})
        found = []
        for number in missing:
            place = bisect.bisect(edges, (number, 0.0))
            before, after = edges[place - 1][1], edges[place][1]
            if not any(start <= before + 1 and after - 1 <= end for start, end in gaps):
                found.append(number)
        return found


def start_server(port: int, first: int, rate: float, note: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.soak", "--serve", str(port), "--first", str(first)]
    return subprocess.Popen([*command, "--rate", str(rate), "--note", str(note)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--accelerate", type=float, default=10)
    parser.add_argument("--rate", type=float, default=1000, help="events a second")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--note", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve, options.first, options.rate, options.note))
        return 0
    return soak(options.minutes, options.accelerate, options.rate)


def soak(minutes: float, accelerate: float, rate: float) -> int:
    process = psutil.Process()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    note = Path("soak.note")
    note.write_text(f"{0:15d}")
    minute = 60 / accelerate
    count, seen, sizes = 0, Seen(), []
    server = start_server(port, 0, rate, note)
    monitor = None
    begin = time.monotonic()
    try:
        monitor = sa.connect(
            {"soak": f"ws://127.0.0.1:{port}"}, user="admin", password=PASSWORD, tables=sa.Tables(MAX_ROWS)
        )
        monitor.on_event(seen.take)
        descriptors = process.num_fds()
        for turn in itertools.count(1):
            end = begin + turn * minute
            while time.monotonic() < end:
                time.sleep(min(0.25, minute / 20))
                len(monitor.pools)  # somebody looks now and then
                sizes.append(process.memory_info().rss)
            server.send_signal(signal.SIGTERM if turn % 2 else signal.SIGKILL)
            server.wait(60)
            count = int(note.read_text())
            if turn >= minutes:
                break
            server = start_server(port, count, rate, note)
        deadline = time.monotonic() + 30
        while monitor.servers[0].state == "connected" and time.monotonic() < deadline:
            time.sleep(0.05)
        monitor.close()
    finally:
        server.kill()
        server.wait()
        note.unlink()
        if monitor is not None:
            monitor.close()
    gc.collect()
    spent = time.monotonic() - begin
    missing = [number for number in range(seen.first, count) if seen.marks[number : number + 1] != b"\x01"]
    rows = monitor.connection.query("what == 'gap'")
    ends = rows["gap_end"].fillna(rows["gap_start"].max() + pd.Timedelta("1D"))
    gaps = [(a.timestamp(), b.timestamp()) for a, b in zip(rows["gap_start"], ends, strict=True)]
    uncovered = seen.uncovered(missing, gaps)
    third = len(sizes) // 3
    middle, last = statistics.median(sizes[third : 2 * third]), statistics.median(sizes[2 * third :])
    left = process.num_fds() - descriptors
    print(
        f"{minutes:g} minutes in {spent:.0f} s, {count:,} events ({count / spent:,.0f}/s), {len(gaps)} gaps"
    )
    print(
        f"in the table once: {count - seen.first - len(missing):,} ({1 - len(missing) / max(count, 1):.4%})"
    )
    print(f"twice: {seen.twice}; missing outside recorded gaps: {len(uncovered)}")
    shown = f"{middle / 2**20:.1f} MiB in the middle third, {last / 2**20:.1f} MiB in the last"
    print(f"memory: {shown}, ratio {last / middle:.3f}")
    print(f"descriptors after closing, less those while connected: {left}")
    good = not seen.twice and not uncovered and abs(last / middle - 1) <= FLAT and left <= 0
    print("passed" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
