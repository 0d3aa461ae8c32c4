"""Whatever strangers send, the server stays up, and honest clients get every event in order.

Short here; ``pytest -m slow tests/server/test_hostile.py`` goes on for ten minutes (or ``FUZZ_SECONDS``).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sysadm_nb as sa
from sysadm_nb import wire
from sysadm_nb.server import Limits
from tests.server import raw
from tests.server.wire_client import WireClient, dial

USERS = {"admin": "secret"}
CLASSES = ["dispatcher", "life-preserver", "system-state"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
NAMES = (
    "rpc", "events", "sysadm", "RPC", "é", "", "identify", "auth", "auth_token", "auth_ssl", "auth_clear",
    "query", "dispatcher", "logs", "settings", "zfs", "subscribe", "unsubscribe", "run", "list", "kill",
    "read_logs",
)  # fmt: skip
KEYS = (
    "action", "username", "password", "token", "logs", "start_time", "time_format", "job_id",
    "encrypted_string", "md5_key", "pub_key", "user", "x",
)  # fmt: skip
words = st.sampled_from(NAMES)
requests = st.fixed_dictionaries(
    {},
    optional={
        "namespace": words | json_values,
        "name": words | json_values,
        "id": json_values,
        "args": json_values
        | words
        | st.lists(words | json_values, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS),
            words | json_values,
            max_size=4,
        ),
    },
)  # fmt: skip
frames = (
    requests.map(json.dumps)
    | st.text(max_size=200)
    | st.binary(max_size=200)
    | st.tuples(st.text(max_size=20), requests.map(json.dumps)).map("\n".join)
    | json_values.map(json.dumps)
)


@pytest.fixture(scope="module")
def victim() -> Iterator[sa.Server]:
    limits = Limits(
        requests_per_second=1e6, request_burst=1e6, login_failures=10**6, connections_per_address=300
    )
    with sa.serve(users=USERS, sources=[], limits=limits, allow_run=False) as server:
        yield server


class Honest:
    """A subscriber that must get every event of a count, in order."""

    def __init__(self, server: sa.Server, client: WireClient) -> None:
        self.server, self.client = server, client
        self.count = 0
        client.request("events", "subscribe", CLASSES)

    def check(self) -> None:
        for _ in range(5):
            self.count += 1
            self.server.publish("honest", {"number": self.count})
        self.client.until(lambda: len(self.client.events("honest")) >= 5)
        numbers = [args["number"] for args in self.client.events("honest")]
        assert numbers == list(range(self.count - 4, self.count + 1))
        assert self.client.request("rpc", "query", {})["name"] == "response"
        self.client.frames.clear()


@pytest.fixture(scope="module")
def honest(victim: sa.Server) -> Iterator[Honest]:
    with dial(victim.url) as client:
        yield Honest(victim, client)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.lists(frames, min_size=1, max_size=8))
def test_any_frames_of_a_stranger(victim: sa.Server, honest: Honest, sent: list[str | bytes]) -> None:
    with dial(victim.url, login=False) as stranger:
        for frame in sent:
            stranger.connection.send(frame if isinstance(frame, bytes) else wire.scrub(frame))
        # An answer to this one means that all of those before were taken, and none killed the connection.
        stranger.send("rpc", "identify", {}, "are you there?")
        while True:
            text = stranger.connection.recv(timeout=15)
            value = json.loads(str(text)[str(text).index('{"args"') :])
            if value["id"] == "are you there?":
                break
            assert value["name"] in ("error", "identify", "response"), "a stranger sees nothing else"
            assert "hostname" in value["args"] or "code" in value["args"] or "test_string" in value["args"]
    honest.check()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.lists(frames, min_size=1, max_size=8))
def test_any_frames_of_a_user(victim: sa.Server, honest: Honest, sent: list[str | bytes]) -> None:
    with dial(victim.url) as user, contextlib.suppress(Exception):
        for frame in sent:
            user.connection.send(frame if isinstance(frame, bytes) else wire.scrub(frame))
        user.wait_closed(0.01)  # a 403 ends it
    honest.check()


def test_nothing_is_executed_without_leave(victim: sa.Server, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    with dial(victim.url) as user, dial(victim.url, login=False) as stranger:
        for client in (user, stranger):
            args = {"action": "run", "x": [f"touch {proof}"], "y": f"touch {proof}"}
            assert client.request("rpc", "dispatcher", args)["args"]["code"] in ("401", "403")
    time.sleep(0.3)
    assert not proof.exists()


# --- below the frames ---------------------------------------------------------------------------------------


def _garbage(url: str, chance: random.Random) -> None:
    connection = _connect(url)
    connection.sendall(chance.randbytes(chance.randrange(1, 3000)))
    connection.close()


def _half_open(url: str, chance: random.Random) -> None:
    _connect(url).close()


def _half_handshake(url: str, chance: random.Random) -> None:
    connection = _connect(url)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgr")
    time.sleep(chance.random() * 0.05)
    connection.close()


def _huge_headers(url: str, chance: random.Random) -> None:
    connection = _connect(url)
    with contextlib.suppress(OSError):
        connection.sendall(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000)
    connection.close()


def _broken_frames(url: str, chance: random.Random) -> None:
    connection, _ = raw.handshake(url)
    kinds: list[bytes] = [
        raw.masked(b"x" * 10)[:-5],  # cut off
        raw.masked(b"a", opcode=0),  # a continuation of nothing
        raw.masked(b"a", opcode=3),  # reserved
        raw.masked(b"\xff\xfe"),  # no UTF-8
        b"\x81\x05hello",  # not masked
        b"\xf1\x85" + bytes(4) + b"hello",  # reserved bits
        b"\x81\xff" + (2**62).to_bytes(8) + bytes(4),  # four exabytes to come
        raw.masked(b"x" * 200, opcode=9),  # a ping too long
        b"".join(raw.masked(b"{", 1, final=False) + raw.masked(b"", 0, final=False) for _ in range(200)),
        raw.masked(b"p" * 100, opcode=9) * 2000,  # a flood of pings, no pong is read
    ]
    with contextlib.suppress(OSError):
        connection.sendall(chance.choice(kinds))
        time.sleep(chance.random() * 0.05)
    connection.close()


def _reads_nothing(url: str, chance: random.Random) -> None:
    connection, _ = raw.handshake(url, receive_buffer=4096)
    with contextlib.suppress(OSError):
        for _ in range(200):
            connection.sendall(raw.request("rpc", "identify", {}, "x" * 1000))
    connection.close()


def _login_flood(url: str, chance: random.Random) -> None:
    connection, _ = raw.handshake(url)
    with contextlib.suppress(OSError):
        for _ in range(50):
            word = chance.randbytes(8).hex()
            connection.sendall(raw.request("rpc", "auth", {"username": word, "password": word}))
            connection.sendall(raw.request("rpc", "auth_token", {"token": word}))
            connection.sendall(raw.request("rpc", "auth_ssl", ""))
            connection.sendall(raw.request("rpc", "auth_ssl", {"encrypted_string": word}))
    connection.close()


def _connect(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=15)


ATTACKS: tuple[Callable[[str, random.Random], None], ...] = (
    _garbage, _half_open, _half_handshake, _huge_headers, _broken_frames, _reads_nothing, _login_flood,
)  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__.strip("_"))
def test_attacks_below_the_frames(
    victim: sa.Server, honest: Honest, attack: Callable[[str, random.Random], None]
) -> None:
    chance = random.Random(7)
    for _ in range(10):
        with contextlib.suppress(OSError):
            attack(victim.url, chance)
        honest.check()


def test_thousands_of_connections_leave_nothing_behind(victim: sa.Server, honest: Honest) -> None:
    process = psutil.Process()
    _wave(victim.url, 300)
    honest.check()
    gc.collect()
    before = process.memory_info().rss
    for _ in range(4):
        _wave(victim.url, 300)
        honest.check()
    deadline = time.monotonic() + 15
    while len(victim._server._sessions) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    gc.collect()
    assert len(victim._server._sessions) == 1
    assert process.memory_info().rss - before < 30 * 2**20


def _wave(url: str, count: int) -> None:
    connections = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            connections.append(_connect(url))
    for number, connection in enumerate(connections):
        with contextlib.suppress(OSError):
            if number % 3:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        connection.close()


def test_who_never_reads_is_bounded_in_memory() -> None:
    """A stalled subscriber, and one whose replies are never read, cost their buffer and no more."""
    limits = Limits(buffer_bytes=2**20, requests_per_second=1e6, request_burst=1e6)
    process = psutil.Process()
    event = {"message": "x" * 10_000}
    with sa.serve(users=USERS, sources=[], limits=limits) as server, dial(server.url) as client:
        client.request("events", "subscribe", CLASSES)
        stalled = [raw.subscribed(server.url, "life-preserver", receive_buffer=4096) for _ in range(5)]
        gc.collect()
        before = process.memory_info().rss
        for number in range(1, 6001):
            server.publish("life-preserver", event)
            if number % 200 == 0:
                client.until(lambda: len(client.events()) == 200)
                client.frames.clear()
        grown = process.memory_info().rss - before
        for connection in stalled:
            connection.close()
    # 60 MB were sent to each; kept may be a buffer each, and the server's log of the newest events
    assert grown < (5 + 16 + 40) * 2**20


def test_pings_whose_pongs_are_never_read_are_bounded() -> None:
    with sa.serve(users=USERS, sources=[], limits=Limits(buffer_bytes=100_000)) as server:
        connection, _ = raw.handshake(server.url, receive_buffer=4096)
        connection.settimeout(15)
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            for _ in range(1000):
                connection.sendall(raw.masked(b"p" * 100, opcode=9) * 1000)
        connection.close()


# --- the long run -------------------------------------------------------------------------------------------


def _random_frames(url: str, chance: random.Random) -> None:
    """Honest-looking requests of random parts, by a user and by a stranger."""
    connection, _ = raw.handshake(url)
    with contextlib.suppress(OSError):
        if chance.random() < 0.5:
            connection.sendall(raw.request("rpc", "auth", {"username": "admin", "password": "secret"}))
        for _ in range(chance.randrange(1, 60)):
            connection.sendall(raw.masked(_random_frame(chance)))
        connection.settimeout(0.02)
        for _ in range(5):  # not to the end: events keep coming
            connection.recv(2**16)
    connection.close()


def _random_frame(chance: random.Random) -> bytes:
    def value(depth: int = 0) -> Any:
        kind = chance.randrange(9 if depth < 4 else 6)
        if kind == 6:
            return [value(depth + 1) for _ in range(chance.randrange(5))]
        if kind >= 7:
            names = ("action", "logs", "username", "password", "token", "job_id", "start_time", "time_format")
            return {chance.choice(names): value(depth + 1) for _ in range(chance.randrange(5))}
        texts = (
            "run",
            "list",
            "kill",
            "read_logs",
            "system-state",
            "relative_second",
            "yyyy-MM-dd",
            "\x00\ud800",
        )
        return (None, True, chance.randrange(-(2**70), 2**70), chance.random() * 1e300, chance.choice(texts),
                "é" * chance.randrange(40))[kind]  # fmt: skip

    text = json.dumps(
        {
            "namespace": chance.choice(("rpc", "events", "sysadm", "RPC", value(3))),
            "name": chance.choice(
                ("identify", "query", "logs", "dispatcher", "settings", "subscribe", value(3))
            ),
            "id": value(2),
            "args": value(),
        }
    )
    payload = bytearray(text.encode("utf-8", "replace"))
    if chance.random() < 0.2:  # and some are damaged
        payload[chance.randrange(len(payload))] = chance.randrange(256)
    return bytes(payload)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_ten_minutes_of_everything(victim: sa.Server, honest: Honest) -> None:
    seconds = float(os.environ.get("FUZZ_SECONDS", "600"))
    until = time.monotonic() + seconds
    done = threading.Event()
    rounds = [0] * 4
    seed = random.randrange(2**32)
    print(f"seed {seed}")

    def attack(number: int) -> None:
        chance = random.Random(seed + number)
        while not done.is_set():
            with contextlib.suppress(OSError, AssertionError):
                chance.choice((*ATTACKS, *[_random_frames] * 6))(victim.url, chance)
            rounds[number] += 1

    attackers = [threading.Thread(target=attack, args=(number,)) for number in range(len(rounds))]
    for attacker in attackers:
        attacker.start()
    process = psutil.Process()
    try:
        sizes = []
        while time.monotonic() < until:
            honest.check()
            sizes.append(process.memory_info().rss)
            time.sleep(0.02)
    finally:
        done.set()
        for attacker in attackers:
            attacker.join(60)
    print(f"{sum(rounds)} attacks, {len(sizes)} checks, memory {sizes[0] >> 20} to {sizes[-1] >> 20} MB")
    settled = sizes[len(sizes) // 3]  # by then the logs and caches are full
    assert sizes[-1] - settled < 100 * 2**20
