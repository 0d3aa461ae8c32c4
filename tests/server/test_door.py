"""Limits at the door and inside: addresses, origins, frames, rates, and clients that do not keep up."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

import sysadm_nb as sa
from sysadm_nb.server import Limits
from sysadm_nb.server.limits import Rate
from sysadm_nb.server.sockets import Socket, address_of
from tests.server import raw
from tests.server.wire_client import dial

USERS = {"admin": "secret"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 101),
        ({"Origin": "sysadm-client"}, 101),
        ({"Host": "localhost:80"}, 101),
        ({"Host": "[::1]:80"}, 101),
        ({"Host": "127.0.0.2:80"}, 101),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8888"}, 403),
        ({"Host": "rebound.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:80"}, 421),
    ],
)
def test_web_pages_are_refused_by_origin_and_host(headers: dict[str, str], status: int) -> None:
    with sa.serve(sources=[]) as server:
        connection, answer = raw.handshake(server.url, headers)
        connection.close()
        assert answer.startswith(f"HTTP/1.1 {status} ")


def test_an_owner_may_let_a_page_in() -> None:
    page = "https://panel.example"
    with sa.serve(sources=[], users=USERS, origins=[page]) as server, dial(server.url, origin=page) as client:
        assert client.request("rpc", "query", {})["name"] == "response"


def test_a_huge_frame_ends_the_connection_and_nothing_else() -> None:
    with sa.serve(sources=[], users=USERS) as server, dial(server.url) as other:
        with connect(server.url) as connection:
            connection.send("x" * (2**20 + 1))
            with contextlib.suppress(Exception):
                connection.recv(timeout=15)
            assert connection.close_code == 1009
        assert other.request("rpc", "query", {})["name"] == "response"


def test_connections_of_one_address_are_counted() -> None:
    with sa.serve(sources=[], users=USERS, limits=Limits(connections_per_address=4)) as server:
        with contextlib.ExitStack() as stack:
            inside = [stack.enter_context(dial(server.url)) for _ in range(4)]
            connection, answer = raw.handshake(server.url)
            assert answer.startswith("HTTP/1.1 503 ") and "Too many connections" in answer
            with pytest.raises((OSError, WebSocketException)):
                for _ in range(3):
                    stack.enter_context(connect(server.url))
            connection.close()
            assert inside[0].request("rpc", "query", {})["name"] == "response"
        # A place is free again once somebody leaves.
        deadline = time.monotonic() + 15
        while True:
            try:
                with dial(server.url) as client:
                    assert client.request("rpc", "query", {})["name"] == "response"
                break
            except (OSError, WebSocketException):
                assert time.monotonic() < deadline


def test_half_open_connections_are_counted_and_dropped() -> None:
    with sa.serve(sources=[], limits=Limits(connections_per_address=5, open_timeout=0.5)) as server:
        port = int(server.url.rpartition(":")[2])
        silent = [socket.create_connection(("127.0.0.1", port), timeout=15) for _ in range(5)]
        for connection in silent:
            assert connection.recv(1) == b""
            connection.close()
        with connect(server.url) as connection:
            connection.send(json.dumps({"namespace": "rpc", "name": "identify", "id": "i"}))
            assert "server" in str(connection.recv(timeout=15))


def test_who_asks_too_fast_is_read_more_slowly_and_loses_nothing() -> None:
    limits = Limits(requests_per_second=100, request_burst=10)
    with (
        sa.serve(sources=[], users=USERS, limits=limits) as server,
        dial(server.url) as hasty,
        dial(server.url) as patient,
    ):
        began = time.monotonic()
        for number in range(40):
            hasty.send("rpc", "identify", {}, f"i{number}")
        assert patient.request("rpc", "identify", {})["name"] == "response"
        hasty.until(lambda: len(hasty.frames) == 41)
        assert [frame["id"] for frame in hasty.frames[1:]] == [f"i{number}" for number in range(40)]
        assert time.monotonic() - began > 0.25


def test_the_rate_is_a_bucket() -> None:
    now = [0.0]
    rate = Rate(10, 2, lambda: now[0])
    assert [rate.take() for _ in range(4)] == [0, 0, pytest.approx(0.1), pytest.approx(0.2)]
    now[0] = 100
    assert [rate.take() for _ in range(3)] == [0, 0, pytest.approx(0.1)]


def test_a_slow_subscriber_is_closed_with_the_reason_and_the_others_get_everything() -> None:
    limits = Limits(buffer_bytes=200_000, close_timeout=30)
    event = {"class": "snapshot", "message": "x" * 1000, "priority": "0 - Information"}
    with sa.serve(sources=[], users=USERS, limits=limits) as server, dial(server.url) as client:
        slow = raw.subscribed(server.url, "life-preserver", receive_buffer=4096)
        client.request("events", "subscribe", "life-preserver")
        sent = 0
        while len(server._server._sessions) == 2 and sent < 50_000:
            for _ in range(100):
                server.publish("life-preserver", event | {"number": sent})
                sent += 1
            client.until(lambda: client.events()[-1:] == [event | {"number": sent - 1}])  # noqa: B023
            if any(_socket(carrier).closing for carrier in server._server._carriers.values()):
                break
        assert [args["number"] for args in client.events()] == list(range(sent))
        # It reads at last: what was written before, then the reason.
        rest = b""
        with contextlib.suppress(OSError):
            while b"Too slow" not in rest[-500:] and (data := slow.recv(2**16)):
                rest += data
        slow.close()
        assert b"Too slow: more than 200000 bytes were waiting for you" in rest
        assert rest.count(b'"number":') < sent


def test_a_stranger_who_does_not_read_has_little_waiting() -> None:
    with sa.serve(sources=[], users=USERS) as server:
        stranger, _ = raw.handshake(server.url, receive_buffer=4096)
        ask = raw.request("rpc", "identify", "", id="x" * 60_000)
        for _ in range(300):  # the kernel keeps some megabytes of the replies
            if any(_socket(carrier).closing for carrier in server._server._carriers.values()):
                break
            stranger.sendall(ask)
        rest = b""
        with contextlib.suppress(OSError):
            while b"Too slow" not in rest[-500:] and (data := stranger.recv(2**16)):
                rest += data
        stranger.close()
        assert b"Too slow: more than 65536 bytes were waiting for you" in rest


def test_large_messages_behind_a_slow_one_wait_at_the_sender() -> None:
    with sa.serve(sources=[], users=USERS) as server:
        turn = server._server._users.turn
        server._loop.run(turn.acquire())  # a login that takes its time
        stranger, _ = raw.handshake(server.url)
        stranger.settimeout(2)
        with contextlib.suppress(TimeoutError):
            stranger.sendall(raw.request("rpc", "auth", {"username": "admin", "password": "no"}))
            stranger.sendall(raw.masked(b"x" * 2**20) * 6)
        (carrier,) = server._server._carriers.values()
        received = _socket(carrier).recv_messages
        limit = time.monotonic() + 15
        while not received.paused:
            assert time.monotonic() < limit, f"{len(received.frames)} are kept"
            time.sleep(0.01)
        assert len(received.frames) <= 3
        server._loop.call(turn.release)
        stranger.close()


def _socket(carrier: Any) -> Socket:
    socket = carrier.send.__self__
    assert isinstance(socket, Socket)
    return socket


def test_addresses_are_counted_by_network_where_one_host_owns_it() -> None:
    assert address_of(("192.0.2.7", 1)) == "192.0.2.7"
    assert address_of(("2001:db8:1:2:3:4:5:6", 1, 0, 0)) == "2001:db8:1:2::/64"
    assert address_of(("::ffff:192.0.2.7", 1, 0, 0)) == "192.0.2.7"
    assert address_of(("::1", 1, 0, 0)) == "::1"
    assert address_of(("fe80::1%eth0", 1, 0, 0)) == "fe80::/64"
    assert address_of(None) == "unknown"
