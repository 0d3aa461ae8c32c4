"""`sa.serve`: its handle, custom sources, custom events, order, and the way it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import math
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sysadm_nb as sa
from sysadm_nb import loop, wire
from sysadm_nb.errors import Closed, InputError, PortRefused
from sysadm_nb.server import BadRequest, Limits, source
from sysadm_nb.server.core import EventServer
from sysadm_nb.server.hub import Batch, Hub, frame
from tests.server.wire_client import dial

USERS = {"admin": "secret"}


class Heartbeat:
    """The ten lines of `sysadm_nb.server.source`."""

    name = "heartbeat"

    async def start(self, publish: source.Publish) -> None:
        self.task = asyncio.create_task(self.beat(publish))

    async def beat(self, publish: source.Publish) -> None:
        while True:
            publish("heartbeat", {"message": "alive", "priority": "0 - Information"}, None)
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self.task.cancel()


class Calls:
    name = "calls"
    hostname = "nas"

    def __init__(self) -> None:
        self.calls = {"sysadm/zfs": self.answer}
        self.environment = {"ANSWER": "42"}
        self.stopped = False

    async def start(self, publish: source.Publish) -> None:
        pass

    def clock(self) -> int:
        return 1_795_418_682_191_000

    async def answer(self, args: dict[str, Any]) -> object:
        if args.get("action") == "fail":
            raise RuntimeError("the source has a fault")
        if args.get("action") != "list_pools":
            raise BadRequest
        return {"list_pools": {}}

    async def stop(self) -> None:
        self.stopped = True


def test_the_handle_shows_how_it_stands() -> None:
    server = sa.serve(sources=[])
    assert repr(server) == (
        f"<Server {server.url}, nobody connected; connect with sysadm_nb.connect(server), stop with .stop()>"
    )
    assert server.fingerprint is None and server.url in server._repr_html_()
    user, password = server.credentials or ("", "")
    with dial(server.url, login=False) as client:
        client.login(user, password)
        assert "1 client;" in repr(server)
    server.stop()
    server.stop()
    assert server.closed and repr(server).startswith("<Server stopped")
    with pytest.raises(Closed):
        server.publish("x", {})


def test_a_taken_port_and_odd_arguments_are_told() -> None:
    with sa.serve(sources=[]) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(
            PortRefused, match=rf"ws://127\.0\.0\.1:{port}, a server of this process.* stop\(\) it"
        ):
            sa.serve(port=port, sources=[])
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        with pytest.raises(PortRefused, match=f"port {port}.*Another server may have it"):
            sa.serve(port=port, sources=[])
    with pytest.raises(InputError, match="there is no source called 'nosuch'"):
        sa.serve(sources=["nosuch"])
    with pytest.raises(InputError, match="is not a source"):
        sa.serve(sources=[object()])  # type: ignore[list-item]
    with pytest.raises(InputError, match="nobody could log in"):
        sa.serve(sources=[], users={})
    with pytest.raises(InputError, match="no role 'god'"):
        sa.serve(sources=[], users={"a": ("b", "god")})
    with pytest.raises(InputError, match="cannot be used"):
        sa.serve(sources=[], tls="/nonexistent.pem")


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with sa.serve(sources=[], tls=True, folder=tmp_path):
        pass
    (tmp_path / "server.key").chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        sa.serve(sources=[], tls=True, folder=tmp_path)


def test_a_source_in_ten_lines() -> None:
    with sa.serve(users=USERS, sources=[Heartbeat()]) as server, dial(server.url) as client:
        client.until(lambda: len(client.events("heartbeat")) >= 3)
        assert client.events()[0] == {"message": "alive", "priority": "0 - Information"}


def test_what_a_source_may_offer() -> None:
    offered = Calls()
    with sa.serve(users=USERS, sources=[offered], allow_run=True) as server, dial(server.url) as client:
        assert client.request("rpc", "identify", "")["args"] == {"hostname": "nas", "type": "server"}
        assert client.request("sysadm", "zfs", {"action": "list_pools"})["args"] == {"list_pools": {}}
        assert client.request("SYSADM", "zfs", {"action": "nosuch"})["args"]["code"] == "400"
        assert client.request("sysadm", "zfs", "list_pools")["args"]["code"] == "400"
        assert client.request("sysadm", "zfs", {"action": "fail"})["args"]["code"] == "400"
        assert "sysadm/zfs" in client.request("rpc", "query", {})["args"]
        client.request("events", "subscribe", "dispatcher")
        client.send("rpc", "dispatcher", {"action": "run", "job": 'sh -c "echo $ANSWER"'})
        client.until(lambda: any(args["state"] == "finished" for args in client.events("dispatcher")))
        last = client.frames[-1]
        assert last["args"]["process_details"]['sh -c "echo $ANSWER"'] == "42\n"
        assert last["time"] == "2026-11-23T07:24:42.191000Z", "the source's clock"
    assert offered.stopped


def test_a_source_that_fails_stops_the_others_and_the_server() -> None:
    class Broken(Calls):
        async def start(self, publish: source.Publish) -> None:
            raise RuntimeError("nothing to watch")

    first, broken = Calls(), Broken()
    with pytest.raises(RuntimeError, match="nothing to watch"):
        sa.serve(sources=[first, broken])
    assert first.stopped and broken.stopped


def test_events_carry_their_time_and_their_canonical_name() -> None:
    with sa.serve(users=USERS, sources=[]) as server, dial(server.url) as client:
        client.request("events", "subscribe", ["system-state"])
        server.publish("system_state", {"hostname": "ä€"}, 1_500_000)
        client.until(lambda: bool(client.events()))
        assert client.frames[-1] == {
            "args": {"hostname": "ä€"},
            "id": "",
            "name": "system-state",
            "namespace": "events",
            "time": "1970-01-01T00:00:01.500000Z",
        }


def test_what_is_published_is_what_the_caller_had_then() -> None:
    with sa.serve(users=USERS, sources=[]) as server, dial(server.url) as client:
        args: dict[str, Any] = {"number": 1}
        server.publish("custom", args)
        args["number"] = 2
        client.until(lambda: client.events("custom") == [{"number": 1}])


def test_numbers_out_of_a_dataframe_are_published_as_numbers() -> None:
    frame = pd.DataFrame(
        {"number": [5], "true": [True], "small": np.array([0.5], "f4"), "missing": [math.nan]}
    )
    with sa.serve(users=USERS, sources=[]) as server, dial(server.url) as client:
        server.publish("custom", {name: frame[name].to_numpy()[0] for name in frame})
        expected = [{"number": 5, "true": True, "small": 0.5, "missing": None}]
        client.until(lambda: client.events("custom") == expected)


def test_a_time_that_is_text_is_refused_where_it_is_published() -> None:
    with (
        sa.serve(users=USERS, sources=[]) as server,
        pytest.raises(sa.errors.InputError, match="no datetime"),
    ):
        server.publish("custom", {}, time="2026-11-24 10:00")  # type: ignore[arg-type]


def test_the_last_event_comes_before_the_reply_and_marks_no_new_one() -> None:
    with sa.serve(users=USERS, sources=[]) as server, dial(server.url) as client:
        server.publish("system-state", {"n": 1})
        server.publish("life-preserver", {"n": 2})
        server.publish("dispatcher", {"n": 3})
        time.sleep(0.05)
        everything = ["dispatcher", "life-preserver", "system-state"]
        for _ in range(2):
            client.frames.clear()
            assert client.request("events", "subscribe", everything)["args"] == {"subscribe": "system-state"}
            assert client.events() == [{"n": 2}, {"n": 1}]
        server.publish("system-state", {"n": 4})
        client.until(lambda: len(client.events()) == 3)
        assert client.receive(0.1) is None, "subscribed twice, sent once"


@pytest.mark.parametrize("id", ["", None, 7, 1.5, True, {"a": 1}, ["x"]])
def test_ids_that_are_no_text_get_the_name_back(id: object) -> None:
    with sa.serve(users=USERS, sources=[]) as server, dial(server.url) as client:
        client.send("rpc", "query", {}, id)
        reply = client.receive()
        assert reply is not None and (reply["id"], reply["name"]) == ("", "query")


def test_frames_are_compact_with_sorted_keys() -> None:
    with sa.serve(users=USERS, sources=[]) as server, dial(server.url) as client:
        for name, args in (("identify", {}), ("query", {}), ("nosuch", {})):
            client.send("rpc", name, args, "ä")
            text = client.connection.recv(timeout=15)
            assert isinstance(text, str)
            assert text == json.dumps(
                json.loads(text), separators=(",", ":"), sort_keys=True, ensure_ascii=False
            )


def test_no_thread_and_no_socket_is_left() -> None:
    before = {thread.name for thread in threading.enumerate()}
    server = sa.serve(sources=[Heartbeat()], tls=False)
    port = int(server.url.rpartition(":")[2])
    server.stop()
    assert {thread.name for thread in threading.enumerate()} == before
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_server_nobody_holds_stops() -> None:
    server = sa.serve(sources=[])
    port = int(server.url.rpartition(":")[2])
    del server
    gc.collect()
    deadline = time.monotonic() + 15
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_clients_that_come_while_a_server_stops_are_not_left_open() -> None:
    async def main(clients: list[socket.socket]) -> None:
        async def stop_after(passes: int) -> None:
            server = EventServer(limits=Limits(close_timeout=0.01))
            await server.start()
            clients.append(socket.create_connection(("127.0.0.1", server.port), timeout=5))
            for _ in range(passes):  # the loop accepts it before, in, or after the pass that stops the server
                await asyncio.sleep(0)
            await server.stop()

        await asyncio.gather(*(stop_after(passes) for passes in range(8)))

    clients: list[socket.socket] = []
    handle = loop.acquire()
    handle.run(main(clients))
    handle.release()
    for client in clients:
        with client, contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b"", "closed, though it said nothing"
    gc.collect()  # here asyncio warns of a transport that nobody closed


class Stuck:
    name = "stuck"

    async def start(self, publish: source.Publish) -> None:
        pass

    async def stop(self) -> None:
        await asyncio.sleep(1)


def test_stopping_that_is_interrupted_goes_on_by_itself() -> None:
    server = sa.serve(sources=[Stuck()])
    port = int(server.url.rpartition(":")[2])
    with sa.connect(server) as monitor:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            server.stop()
        assert server.closed
        deadline = time.monotonic() + 5
        while monitor.servers[0].state == "connected" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert monitor.servers[0].state == "waiting"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 1)


def test_stop_tells_the_clients() -> None:
    server = sa.serve(users=USERS, sources=[], limits=Limits(close_timeout=5))
    with dial(server.url) as client:
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        assert client.wait_closed() == (1001, "Server stopped")
        stopper.join(15)


# --- the hub ------------------------------------------------------------------------------------------------


class Listener:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.batches for text in batch]

    def send(self, text: str) -> None:
        raise AssertionError("the hub sends batches")

    def send_batch(self, batch: Batch) -> None:
        self.batches.append(batch.texts)

    def close(self, code: int, reason: str) -> None:
        raise AssertionError("the hub closes nobody")


def test_the_first_event_leaves_at_once_and_a_burst_in_one_write() -> None:
    async def main() -> None:
        hub = Hub(asyncio.get_running_loop())
        all_three, one = Listener(), Listener()
        hub.join(all_three, wire.CLASSES)
        hub.join(one, ["dispatcher"])
        await asyncio.sleep(0.01)
        hub.publish("dispatcher", "first")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert all_three.batches == one.batches == [["first"]]
        for number in range(5):
            hub.publish("dispatcher" if number % 2 else "system-state", str(number))
            await asyncio.sleep(0)
        hub.publish("custom", "custom")
        await asyncio.sleep(0.05)
        assert all_three.batches[1:] == [["0", "1", "2", "3", "4", "custom"]]
        assert one.batches[1:] == [["1", "3", "custom"]]

    asyncio.run(main())


def test_who_joins_gets_nothing_of_before_and_who_leaves_nothing_of_after() -> None:
    async def main() -> None:
        hub = Hub(asyncio.get_running_loop())
        early, late = Listener(), Listener()
        hub.join(early, ["dispatcher"])
        hub.publish("dispatcher", "1")
        hub.publish("dispatcher", "2")
        hub.join(late, ["dispatcher"])
        hub.publish("dispatcher", "3")
        hub.join(early, [])
        hub.publish("dispatcher", "4")
        hub.flush()
        hub.leave(late)
        hub.publish("dispatcher", "5")
        hub.flush()
        assert early.texts == ["1", "2", "3"]
        assert late.texts == ["3", "4"]
        await asyncio.sleep(0.01)

    asyncio.run(main())


def test_frames_are_what_websockets_makes() -> None:
    assert frame("hi") == b"\x81\x02hi"
    assert frame("x" * 200)[:4] == b"\x81\x7e\x00\xc8"
    assert frame("x" * 70_000)[:10] == b"\x81\x7f" + (70_000).to_bytes(8)
    assert Batch(["a", "b"]).framed == b"\x81\x01a\x81\x01b"
