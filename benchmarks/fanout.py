"""Fan-out: deliveries a second of our server against `websockets.broadcast`, in one run.

``python -m benchmarks.fanout`` prints, for 10, 100 and 1,000 subscribers, how many events a second reach them
(events that come one by one, and in bursts of sixteen), the ratio to `websockets.broadcast`, what one stalled
subscriber among 100 does to the others, and the memory of an idle subscriber. The subscribers are sockets of
another process that count bytes and decode nothing, so that the server is what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import psutil
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.asyncio.server import serve as serve_websockets

from sysadm_nb import wire
from sysadm_nb.server import EventServer, Limits
from sysadm_nb.server.hub import frame

EVENT = {
    "class": "replication",
    "message": "Replicating tank@auto-2026-11-23: 128M/4.20G (2.9%)",
    "priority": "0 - Information",
}
ROUNDS = 5
BURST = 16
DELIVERIES = 60_000
TIME = 1_795_418_682_000_000

Publish = Callable[[], None]


# --- the subscribers, in a process of their own -------------------------------------------------------------


def subscribers(port: int, count: int, stalled: int) -> None:
    """Connect, subscribe, say so; then for each number on stdin read that many bytes each and say so."""
    idle = [_subscriber(port, small=True) for _ in range(stalled)]
    active = [_subscriber(port) for _ in range(count)]
    print("ready", flush=True)
    selector = selectors.DefaultSelector()
    for index, connection in enumerate(active):
        selector.register(connection, selectors.EVENT_READ, index)
    buffer = bytearray(2**18)
    for line in sys.stdin:
        wanted = int(line)
        left = [wanted] * count
        missing = count
        while missing:
            for key, _ in selector.select():
                left[key.data] -= key.fileobj.recv_into(buffer)  # type: ignore[union-attr]
                if left[key.data] <= 0:
                    missing -= 1
        assert not any(left), "more came than was sent"
        print("done", flush=True)
    for connection in (*idle, *active):
        connection.close()


def _subscriber(port: int, small: bool = False) -> socket.socket:
    connection = socket.socket()
    if small:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    connection.sendall(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(4096)
    for namespace, name, args in (
        ("rpc", "auth", {"username": "admin", "password": "secret"}),
        ("events", "subscribe", ["life-preserver"]),
    ):
        text = json.dumps({"namespace": namespace, "name": name, "id": "q", "args": args}).encode()
        # masked with zeros: the text as it is
        connection.sendall(bytes([0x81, 0x80 | 126]) + len(text).to_bytes(2) + bytes(4) + text)
        assert b'"response"' in connection.recv(4096)
    return connection


# --- the two servers ----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def ours() -> AsyncIterator[tuple[int, Publish, Callable[[], list[Any]]]]:
    limits = Limits(connections=2000, connections_per_address=2000)
    server = EventServer(users={"admin": "secret"}, limits=limits)
    await server.start()
    assert server._listener is not None

    def transports() -> list[Any]:
        return [connection.transport for connection in server._listener.connections]  # type: ignore[union-attr]

    try:
        yield server.port, lambda: server.publish("life-preserver", EVENT, TIME), transports
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def theirs() -> AsyncIterator[tuple[int, Publish, Callable[[], list[Any]]]]:
    """`websockets.broadcast` to those that are subscribed, with the same event made the same way."""
    connections: set[ServerConnection] = set()

    async def handler(connection: ServerConnection) -> None:
        for _ in range(2):
            await connection.recv()
            await connection.send('{"name":"response"}')
        connections.add(connection)
        await connection.wait_closed()
        connections.discard(connection)

    async with serve_websockets(handler, "127.0.0.1", 0, compression=None, ping_interval=60) as server:
        port = server.sockets[0].getsockname()[1]
        yield (
            port,
            lambda: broadcast(connections, wire.encode_event("life-preserver", EVENT, TIME)),
            lambda: [connection.transport for connection in connections],
        )


class Subscribers:
    """Handle on the process of the subscribers."""

    def __init__(self, port: int, count: int, stalled: int = 0) -> None:
        command = [sys.executable, "-m", "benchmarks.fanout", "--subscribe", f"{port},{count},{stalled}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    async def hear(self, word: str) -> None:
        assert self.process.stdout is not None
        line = await asyncio.to_thread(self.process.stdout.readline)
        assert line.strip() == word, line

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)


async def deliver(
    server: Callable[[], Any], count: int, burst: int, stalled: int = 0, deliveries: int = DELIVERIES
) -> float:
    """Deliveries a second to ``count`` subscribers, with events in bursts."""
    async with server() as (port, publish, transports):
        readers = Subscribers(port, count, stalled)
        try:
            await readers.hear("ready")
            await asyncio.sleep(0.2)
            bursts = max(4, deliveries // count // burst)
            size = len(frame(wire.encode_event("life-preserver", EVENT, TIME)))
            readers.tell(str(bursts * burst * size))
            waiting = [
                t
                for t in transports()
                if t.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > 0
            ]
            began = time.perf_counter()
            for turn in range(bursts):
                for _ in range(burst):
                    publish()
                await asyncio.sleep(0)
                if turn % 8 == 7:
                    await _let_drain(waiting, stalled)
            await readers.hear("done")
            return bursts * burst * count / (time.perf_counter() - began)
        finally:
            readers.stop()


async def _let_drain(transports: list[Any], stalled: int) -> None:
    """Wait until the kernel has taken everything, as a source that is paced by its clients would."""
    while sum(not t.is_closing() and t.get_write_buffer_size() > 0 for t in transports) > stalled:  # noqa: ASYNC110
        await asyncio.sleep(0.0002)


async def memory(count: int = 1000) -> float:
    """Bytes of this process for each idle subscriber."""
    process = psutil.Process(os.getpid())
    async with ours() as (port, _, _):
        gc.collect()
        before = process.memory_info().rss
        readers = Subscribers(port, count)
        try:
            await readers.hear("ready")
            gc.collect()
            return (process.memory_info().rss - before) / count
        finally:
            readers.stop()


async def stalled_one() -> tuple[float, float]:
    """What a stalled subscriber changes in the rate of 100 others, by wall clock and by CPU time.

    The second is what counts: other work on the machine comes and goes within a round, and does not cost CPU.
    """
    deliveries = 20 * DELIVERIES
    changes = []
    for turn in range(2 * ROUNDS - 1):
        rates = {}
        for stalled in (0, 1) if turn % 2 else (1, 0):
            began = time.process_time()
            wall = await deliver(ours, 100, 1, stalled=stalled, deliveries=deliveries)
            rates[stalled] = (wall, deliveries / (time.process_time() - began))
        changes.append([after / before - 1 for before, after in zip(rates[0], rates[1], strict=True)])
    by_wall, by_cpu = (statistics.median(column) for column in zip(*changes, strict=True))
    return by_wall, by_cpu


async def main() -> int:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    print(f"{'subscribers':>11}  {'events':<12}  {'broadcast/s':>12}  {'ours/s':>12}  ratio")
    missed = []
    idle = await memory()
    for count in (10, 100, 1000):
        for burst in (1, BURST):
            pairs = []
            for _ in range(ROUNDS):  # in turns: whatever else the machine does then hits both
                peer = await deliver(theirs, count, burst)
                own = await deliver(ours, count, burst)
                pairs.append((peer, own, own / peer))
            peer, own, ratio = (statistics.median(column) for column in zip(*pairs, strict=True))
            name = "one by one" if burst == 1 else f"bursts of {burst}"
            print(f"{count:>11,}  {name:<12}  {peer:>12,.0f}  {own:>12,.0f}  {ratio:.2f}", flush=True)
            if ratio < 1.2:
                missed.append(f"{count} subscribers, {name}: {ratio:.2f} is less than 1.2")
    wall, change = await stalled_one()
    print(
        f"one stalled subscriber beside 100 changes their rate by {change:+.1%} a second of CPU"
        f" ({wall:+.1%} of wall)"
    )
    if max(change, wall) < -0.1:  # what is real shows by both clocks
        missed.append(f"a stalled subscriber costs the others {-change:.0%}")
    print(f"memory of an idle subscriber: {idle / 1000:.1f} kB")
    for line in missed:
        print("MISSED:", line)
    return 1 if missed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscribe", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.subscribe:
        subscribers(*(int(part) for part in arguments.subscribe.split(",")))
    else:
        sys.exit(asyncio.run(main()))
