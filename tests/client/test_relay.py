"""A client at a real bridge: the frames of the capture 09a_bridge, sent when our client asks for them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from websockets.asyncio.server import serve

from sysadm_nb.client import keys
from sysadm_nb.client.address import parse_address
from sysadm_nb.client.fleet import Fleet
from sysadm_nb.client.login import Login
from sysadm_nb.client.relay import RelayLink
from sysadm_nb.errors import ConnectionLost, LoginRefused
from sysadm_nb.server.tls import context, fingerprint, own_certificate
from sysadm_nb.tables import Tables

PEER = "::{ab4f7fe9-fa8d-424b-9aac-49a42fe93d99}"


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 100))


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return own_certificate(tmp_path_factory.mktemp("bridge"))


class Recorded:
    """Answers with what the capture's bridge, and the server behind it, answered."""

    def __init__(self, frames):
        came = [frame["frame"] for frame in frames if frame["dir"] == "in" and "conn" not in frame]
        direct = [json.loads(text) for text in came if text.startswith("{")]
        relayed = [text.partition("\n")[2] for text in came if text.startswith(PEER)]
        self.plain = {m["id"]: m for m in map(json.loads, (body for body in relayed if body.startswith("{")))}
        coded = [(body, json.loads(base64.b64decode(body))) for body in relayed if not body.startswith("{")]
        self.coded = {m["id"]: m for _, m in coded if m["id"]}
        self.events = [body for body, m in coded if m["namespace"] == "events" and not m["id"]]
        self.direct = {m["id"]: m for m in direct if m["id"]}
        self.bridge_events = [text for text in came if '"name":"bridge"' in text]
        self.seen = []
        self.leave = asyncio.Event()

    async def handle(self, socket):
        await socket.send(json.dumps(self.direct["sysadm_bridge_request_ident"]))
        leaving = asyncio.create_task(self.say_that_it_left(socket))
        try:
            async for frame in socket:
                self.seen.append(frame)
                if frame.startswith(PEER):
                    await self.relay(socket, frame.partition("\n")[2])
                else:
                    await self.answer(socket, json.loads(frame))
        finally:
            leaving.cancel()

    async def say_that_it_left(self, socket):
        await self.leave.wait()
        await socket.send(self.bridge_events[1])  # an empty list

    async def answer(self, socket, message):
        recorded = {
            "identify": "bi1",
            "query": "bq1",
            "auth_ssl": "login1" if message["args"] == "" else "login2",
        }
        if message["name"] == "response":
            if message["id"] == "bridge_request_list_keys":
                await socket.send(self.bridge_events[0])
            return
        await socket.send(json.dumps(self.direct[recorded[message["name"]]] | {"id": message["id"]}))
        if message["name"] == "auth_ssl" and message["args"] != "":
            await socket.send(json.dumps(self.direct["bridge_request_list_keys"]))

    async def relay(self, socket, body):
        coded = not body.startswith("{")
        message = json.loads(base64.b64decode(body) if coded else body)
        recorded = {"identify": "ri1", "query": "rq2", "subscribe": "rsub"}
        if message["name"] == "auth_ssl":
            found = self.coded["rs2"] if "encrypted_string" in message["args"] else self.plain["rs1"]
        elif message["name"] in recorded:
            found = (self.coded | self.plain)[recorded[message["name"]]]
        else:  # what was not asked when the capture was made
            error = {"code": "404", "message": "Not Found"}
            found = {"namespace": "error", "name": "error", "args": error}
        text = json.dumps(found | {"id": message["id"]})
        await socket.send(f"{PEER}\n" + (base64.b64encode(text.encode()).decode() if coded else text))
        if message["name"] == "subscribe":
            for event in self.events:
                await socket.send(f"{PEER}\n{event}")


@contextlib.asynccontextmanager
async def recorded_bridge(captures, certificate):
    recorded = Recorded(captures("09a"))
    async with serve(
        recorded.handle, "127.0.0.1", 0, ssl=context(*certificate), compression=None, close_timeout=1
    ) as listener:
        recorded.url = f"wss://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield recorded


async def until(condition):
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit, "it did not happen within 30 s"
        await asyncio.sleep(0.02)


def test_a_server_behind_a_real_bridge(captures, certificate, key):
    tables = Tables()

    async def scenario():
        async with recorded_bridge(captures, certificate) as recorded:
            fleet = Fleet(tables)
            try:
                await fleet.add(
                    parse_address(recorded.url),
                    Login("root", key=key),
                    name="bridge",
                    fingerprint=fingerprint(certificate[0]),
                )
                await until(lambda: len(tables.system) == 2)
                states = {name: session.state for name, session in fleet.sessions.items()}
                recorded.leave.set()
                await until(lambda: fleet.sessions["vm"].state == "waiting")
            finally:
                await fleet.close()
            return states, recorded.seen

    states, seen = run(scenario())
    assert states == {"bridge": "connected", "vm": "connected"}
    job = tables.jobs.iloc[0]
    assert (job["server"], job["process_id"], job["state"], job["log"]) == (
        "vm",
        "viabridge",
        "finished",
        "hello\n",
    )
    assert set(tables.pools["server"]) == {"vm"}
    assert sorted(set(tables.pools["pool"])) == ["backup", "tank"]
    assert tables.bridge[["server", "peer", "change"]].values.tolist() == [
        ["bridge", PEER, "joined"],
        ["bridge", PEER, "left"],
    ]
    # what the client sent: the login is plain up to its second step, then all bodies are base64
    bodies = [frame.partition("\n")[2] for frame in seen if frame.startswith(PEER)]
    second = next(n for n, body in enumerate(bodies) if not body.startswith("{"))
    assert "md5_key" in bodies[second - 1]
    assert json.loads(base64.b64decode(bodies[second]))["args"].keys() == {"encrypted_string"}
    assert not any(body.startswith("{") for body in bodies[second:])
    told = [json.loads(frame) for frame in seen if "bridge_request_list_keys" in frame]
    assert told[0]["args"] == {"md5_keys": [keys.checksum(key)]}


def test_without_a_key_nobody_behind_a_bridge_is_met(captures, certificate, key):
    async def scenario():
        async with recorded_bridge(captures, certificate) as recorded:
            fleet = Fleet(Tables())
            options = {"fingerprint": fingerprint(certificate[0]), "timeout": 20}
            try:
                with pytest.raises(LoginRefused, match=r"is a bridge\. A bridge lets in keys that its owner"):
                    await fleet.add(parse_address(recorded.url), Login(None), **options)
                await fleet.add(parse_address(recorded.url), Login("root", key=key), **options)
                relay = next(iter(fleet.sessions.values())).connection.relay
                with pytest.raises(LoginRefused, match="take no passwords: connect with key=True"):
                    await relay.open(PEER, Login("root", "secret"), 5)
            finally:
                await fleet.close()

    run(scenario())


def test_a_link_that_ended_sends_nothing_and_ends_its_reader():
    async def scenario():
        sent = []

        async def send(text):
            sent.append(text)

        link = RelayLink("::{1}", send)
        link.receive("one")
        link.end("it left the bridge")
        link.end("again")
        assert [frame async for frame in link] == ["one"]
        assert link.close_reason == "it left the bridge"
        with pytest.raises(ConnectionLost):
            await link.send("{}")
        return sent

    assert run(scenario()) == []


def test_a_ping_asks_the_peer_itself():
    async def scenario():
        sent = []

        async def send(text):
            sent.append(text)

        link = RelayLink("::{1}", send)
        pong = await link.ping()
        peer, _, body = sent[0].partition("\n")
        request = json.loads(body)
        assert (peer, request["name"]) == ("::{1}", "identify")
        link.receive("an event")
        assert not pong.done()
        link.receive(json.dumps({"namespace": "rpc", "name": "response", "id": request["id"], "args": {}}))
        await asyncio.wait_for(pong, 5)
        link.end()
        return [frame async for frame in link]

    assert run(scenario()) == ["an event"]
