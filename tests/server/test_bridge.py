"""The bridge, servers that dial out to it, and clients that watch them through it, on real sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import time

import pytest
import websockets.asyncio.client as websockets_client
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

import sysadm_nb as sa
from sysadm_nb import loop
from sysadm_nb.client import keys
from sysadm_nb.client.address import parse_address
from sysadm_nb.client.fleet import Fleet
from sysadm_nb.client.login import Login
from sysadm_nb.errors import CertificateUnknown, InputError, LoginRefused, RequestRefused
from sysadm_nb.server.bridge import Bridge, Peer
from sysadm_nb.server.core import EventServer
from sysadm_nb.server.limits import Limits
from sysadm_nb.tables import Tables


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 100))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def key():
    """The client's."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """A folder with a certificate, made once for all bridges of this file."""
    from sysadm_nb.server.tls import own_certificate

    folder = tmp_path_factory.mktemp("bridge")
    own_certificate(folder)
    return folder


@contextlib.asynccontextmanager
async def bridge(certified, tmp, *known, **options):
    for name in ("server.crt", "server.key"):
        (tmp / name).write_bytes((certified / name).read_bytes())
    (tmp / "server.key").chmod(0o600)
    running = Bridge(port=0, folder=tmp, **options)
    for number, one in enumerate(known):
        running.keys.register(f"user{number}", keys.public_text(one))
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


@contextlib.asynccontextmanager
async def server(home, running, name, client_key, **options):
    """An event server behind the bridge, where the client's key logs in as admin."""
    folder = home / name
    folder.mkdir(exist_ok=True)
    own = keys.load_or_make(folder / "bridge.pem")
    running.keys.register(name, keys.public_text(own))
    source = Host(name)
    server = EventServer(
        users={"admin": "secret"},
        sources=[source],
        folder=folder,
        bridge=running.url,
        bridge_fingerprint=running.fingerprint,
        allow_run=True,
        **options,
    )
    (folder / "keys.json").write_text(
        json.dumps(
            {"keys": {"admin": {keys.public_text(client_key): {"nickname": "", "email": "", "date": ""}}}}
        )
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class Host:
    """A source that gives its server a name."""

    name = "host"

    def __init__(self, hostname):
        self.hostname = hostname

    async def start(self, publish):
        pass

    async def stop(self):
        pass


@contextlib.asynccontextmanager
async def watching(running, key, tables, **options):
    """A fleet that watches what is behind the bridge, with one connection."""
    fleet = Fleet(tables)
    try:
        await fleet.add(
            parse_address(running.url),
            Login("admin", key=key),
            name="bridge",
            fingerprint=running.fingerprint,
            **options,
        )
        yield fleet
    finally:
        await fleet.close()


async def until(condition):
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit, "it did not happen within 30 s"
        await asyncio.sleep(0.02)


def connected(fleet, *names):
    return all(name in fleet.sessions and fleet.sessions[name].state == "connected" for name in names)


# --- the whole way --------------------------------------------------------------------------------------


def test_two_servers_behind_a_bridge_are_watched_with_one_connection(home, certified, key):
    tables = Tables()

    async def scenario():
        async with (
            bridge(certified, home, key) as running,
            server(home, running, "nas1", key) as one,
            server(home, running, "nas2", key) as two,
            watching(running, key, tables) as fleet,
        ):
            await until(lambda: connected(fleet, "nas1", "nas2"))
            assert sorted(fleet.sessions) == ["bridge", "nas1", "nas2"]
            assert len(running._peers) == 3
            one.publish("system-state", {"hostname": "nas1", "priority": "0 - Information"})
            two.publish("system-state", {"hostname": "nas2", "priority": "6 - Critical"})
            await until(lambda: len(tables.system) == 2)
            await fleet.run(["echo hello"], "job", server="nas2", timeout=20)
            job = await fleet.wait_for("finished", process_id="job", server="nas2", timeout=20)
            rights = await fleet.request("rpc", "query", server="nas1")
            return job, rights

    job, rights = run(scenario())
    assert rights["rpc/dispatcher"] == "read/write"
    assert job.log == "hello\n"
    assert sorted(zip(tables.system["server"], tables.system["priority"], strict=True)) == [
        ("nas1", 0.0),
        ("nas2", 6.0),
    ]
    assert set(tables.jobs["server"]) == {"nas2"}
    assert set(tables.bridge["server"]) == {"bridge"}
    assert set(tables.bridge["change"]) >= {"joined"}


def test_in_a_notebook(home, certified):
    """As docs/bridge.md tells it: a key registered by password, then everything with one connection."""
    handle = loop.acquire()
    for name in ("server.crt", "server.key"):
        (home / name).write_bytes((certified / name).read_bytes())
    (home / "server.key").chmod(0o600)
    running = Bridge(port=0, folder=home)
    handle.run(running.start())
    try:
        own = keys.make(home / "nas" / "bridge.pem")
        running.keys.register("nas", keys.public_text(own))
        options = {"sources": [Host("nas1")], "allow_run": True, "folder": home / "nas"}
        with sa.serve(
            users={"admin": "secret"},
            bridge=running.url,
            bridge_fingerprint=running.fingerprint,
            tls=True,
            **options,
        ) as server:
            with sa.connect(server) as direct:
                path = sa.register_key(direct)
            running.keys.register("me", keys.public_text(keys.load(path)))
            with sa.connect(
                running.url, user="admin", key=True, fingerprint=running.fingerprint, name="bridge"
            ) as monitor:
                limit = time.monotonic() + 30
                while {state.name: state.state for state in monitor.servers} != {
                    "bridge": "connected",
                    "nas1": "connected",
                }:
                    assert time.monotonic() < limit, monitor.servers
                    time.sleep(0.05)
                job = monitor.run("echo through the bridge", server="nas1")
                job.wait(30)
                assert job.log == "through the bridge\n"
                assert set(monitor.bridge["change"]) == {"joined"}
    finally:
        handle.run(running.stop())
        handle.release()


def test_coming_and_going_is_told_and_taken_up_again(home, certified, key):
    tables = Tables()

    async def scenario():
        async with (
            bridge(certified, home, key) as running,
            server(home, running, "nas1", key),
            watching(running, key, tables) as fleet,
        ):
            await until(lambda: connected(fleet, "nas1"))
            async with server(home, running, "nas2", key):
                await until(lambda: connected(fleet, "nas1", "nas2"))
            await until(lambda: fleet.sessions["nas2"].state == "waiting")
            async with server(home, running, "nas2", key) as two:
                await until(lambda: connected(fleet, "nas2"))
                two.publish("system-state", {"hostname": "again", "priority": "0 - Information"})
                await until(lambda: len(tables.system) == 1)
            return sorted(fleet.sessions)

    assert run(scenario()) == ["bridge", "nas1", "nas2"]
    assert list(tables.system["server"]) == ["nas2"]
    assert (tables.bridge["change"] == "left").sum() >= 1
    what = tables.connection[tables.connection["server"] == "nas2"]["what"].tolist()
    assert what.count("connected") == 2
    assert "lost" in what


def test_a_bridge_that_comes_back_is_taken_up_again(home, certified, key):
    tables = Tables()

    async def scenario():
        async with bridge(certified, home, key) as running:
            port = running.port
            async with server(home, running, "nas1", key), watching(running, key, tables) as fleet:
                await until(lambda: connected(fleet, "bridge", "nas1"))
                await running.stop()
                await until(lambda: not connected(fleet, "bridge") and not connected(fleet, "nas1"))
                again = Bridge(port=port, folder=home)
                await again.start()
                try:
                    await until(lambda: connected(fleet, "bridge", "nas1"))
                finally:
                    await again.stop()

    run(scenario())


def test_a_key_registered_meanwhile_lets_a_client_see_the_server(home, certified, key):
    async def scenario():
        async with (
            bridge(certified, home, key) as running,
            server(
                home, running, "nas1", rsa.generate_private_key(public_exponent=65537, key_size=2048)
            ) as one,
            watching(running, key, Tables()) as fleet,
        ):
            assert sorted(fleet.sessions) == ["bridge"]
            one._services.parts.keys.register("admin", keys.public_text(key))
            await until(lambda: connected(fleet, "nas1"))

    run(scenario())


def test_two_hosts_of_one_name_are_told_apart(home, certified, key):
    async def scenario():
        async with (
            bridge(certified, home, key) as running,
            server(home, running, "a", key) as one,
            server(home, running, "b", key) as two,
        ):
            one._services.hostname = two._services.hostname = "nas"
            async with watching(running, key, Tables()) as fleet:
                await until(lambda: connected(fleet, "nas", "nas 2"))
                return sorted(fleet.sessions)

    assert run(scenario()) == ["bridge", "nas", "nas 2"]


# --- who gets in, and who sees whom -----------------------------------------------------------------------


def test_an_unknown_key_is_refused(home, certified, key):
    async def scenario():
        async with bridge(certified, home) as running, watching(running, key, Tables()):
            pass

    with pytest.raises(LoginRefused, match=r"refused the login of 'admin'\. A bridge lets in keys"):
        run(scenario())


def test_a_password_is_no_use_at_a_bridge(home, certified):
    async def scenario():
        async with bridge(certified, home) as running:
            login = Login("admin", "secret")
            await Fleet(Tables()).add(parse_address(running.url), login, fingerprint=running.fingerprint)

    with pytest.raises(LoginRefused, match="connect with user= and key=True"):
        run(scenario())


def test_a_bridge_nobody_knows_gets_no_signature(home, certified):
    async def scenario():
        async with bridge(certified, home) as running:
            server = EventServer(users={"a": "b"}, folder=home / "s", bridge=running.url)
            await server.start()

    with pytest.raises(CertificateUnknown, match="fingerprint="):
        run(scenario())


def test_a_server_is_no_bridge(home):
    async def scenario():
        server = EventServer(tls=True, users={"admin": "secret"}, folder=home / "one")
        await server.start()
        try:
            own = keys.make(home / "two" / "bridge.pem")
            server._services.parts.keys.register("admin", keys.public_text(own))
            other = EventServer(
                users={"a": "b"},
                folder=home / "two",
                bridge=server.url,
                bridge_fingerprint=server.fingerprint,
            )
            await other.start()
        finally:
            await server.stop()

    with pytest.raises(InputError, match="is a server, and no bridge"):
        run(scenario())


def test_a_server_starts_though_the_bridge_is_down_or_does_not_know_it_yet(home, certified, caplog):
    async def scenario():
        async with bridge(certified, home) as running:
            options = {"folder": home / "s", "bridge_fingerprint": running.fingerprint}
            unknown = EventServer(users={"a": "b"}, bridge=running.url, **options)
            await unknown.start()
            await unknown.stop()
        down = EventServer(users={"a": "b"}, bridge=running.url, **options)
        await down.start()
        await down.stop()

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert "s/bridge.pub: register it there (sysadm-nb bridge key add NAME FILE)" in caplog.text
    assert "Nothing listens on" in caplog.text


class Wire:
    """A peer at the level of frames, with no client of ours."""

    def __init__(self, socket):
        self.socket = socket
        self.frames = []

    async def next(self, wanted=lambda frame: True):
        while True:
            frame = await asyncio.wait_for(self.socket.recv(), 20)
            self.frames.append(frame)
            if wanted(frame):
                return frame

    async def ask(self, name, args, id="q", namespace="rpc"):
        frame = {"namespace": namespace, "name": name, "id": id, "args": args}
        await self.socket.send(json.dumps(frame))
        reply = await self.next(
            lambda text: text.startswith("{") and json.loads(text).get("name") == "response"
        )
        return json.loads(reply)

    async def answer(self, id, args):
        await self.socket.send(json.dumps({"namespace": "rpc", "name": "response", "id": id, "args": args}))

    async def log_in(self, key, kind, md5_keys):
        await self.answer("sysadm_bridge_request_ident", {"type": kind, "hostname": kind})
        word = (await self.ask("auth_ssl", ""))["args"]["test_string"]
        reply = await self.ask("auth_ssl", {"encrypted_string": keys.prove(key, word)})
        await self.next(lambda text: "list_ssl_checksums" in text)
        await self.answer("bridge_request_list_keys", {"md5_keys": md5_keys})
        return reply["args"]

    async def peers(self):
        frame = await self.next(lambda text: "available_connections" in text)
        return json.loads(frame)["args"]["available_connections"]


@contextlib.asynccontextmanager
async def raw(running):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with websockets_client.connect(running.url, ssl=context, proxy=None) as socket:
        yield Wire(socket)


def test_the_words_of_a_real_bridge(home, certified, key):
    """The first part of the capture 09a_bridge, frame by frame."""

    async def scenario():
        async with bridge(certified, home, key) as running, raw(running) as peer:
            assert json.loads(await peer.next()) == {
                "args": "",
                "id": "sysadm_bridge_request_ident",
                "name": "identify",
                "namespace": "rpc",
            }
            identified = await peer.ask("identify", {}, "bi1")
            assert identified["args"]["type"] == "bridge"
            assert await peer.ask("query", {}, "bq1") == {
                "args": None,
                "id": "bq1",
                "name": "response",
                "namespace": "rpc",
            }
            assert (await peer.ask("subscribe", ["dispatcher"], "bs1", "events"))["args"] is None
            assert (await peer.ask("identify", {}, 7))["id"] == 7
            await peer.socket.send('{"namespace":"rpc","name":"identify"}')
            await peer.socket.send("not json")
            word = (await peer.ask("auth_ssl", "", "bad1"))["args"]["test_string"]
            assert len(word) == 40
            assert word.isalnum()
            assert (await peer.ask("auth_ssl", {"encrypted_string": "AAAA"}, "bad2"))["args"] == ["", 0]
            assert (await peer.ask("auth", {"username": "root", "password": "x"}))["args"] == ["", 0]
            token, seconds = await peer.log_in(key, "client", [keys.checksum(key)])
            assert token
            assert seconds == 0
            assert await peer.peers() == []
            assert (await peer.ask("query", {}))["args"] is None

    run(scenario())


def test_frames_go_only_where_keys_are_shared(home, certified, key):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    async def scenario():
        async with (
            bridge(certified, home, key, other) as running,
            raw(running) as client,
            raw(running) as mine,
            raw(running) as foreign,
            raw(running) as stranger,
        ):
            await client.log_in(key, "client", ["K1"])
            assert await client.peers() == []
            await mine.log_in(other, "server", ["K1", "K2"])
            (server_id,) = await client.peers()
            (client_id,) = await mine.peers()
            await foreign.log_in(other, "server", ["K3"])
            assert await foreign.peers() == []
            (foreign_id,) = [id for id in running._peers if running._peers[id].keys == {"K3"}]
            # neither a stranger, nor a peer without a common key, nor one who makes up a sender gets through
            await stranger.socket.send(f"{server_id}\nfrom a stranger")
            await client.socket.send(f"{foreign_id}\nto a foreign server")
            await foreign.socket.send(f"{client_id}\nfrom a foreign server")
            for bad in ("::{nosuch}\n{}", "bad id\n{}", "\n{}", "no line end", f"{server_id}"):
                await client.socket.send(bad)
            await client.socket.send(f"{server_id}\n{client_id}\nhello")
            assert (
                await mine.next(lambda text: not text.startswith("{")) == f"{client_id}\n{client_id}\nhello"
            )
            await mine.socket.send(f"{client_id}\nback")
            assert await client.next(lambda text: not text.startswith("{")) == f"{server_id}\nback"
            await mine.socket.close()
            assert await client.peers() == []
            assert all(
                "stranger" not in frame and "foreign" not in frame for frame in mine.frames + client.frames
            )

    run(scenario())


def test_one_who_does_not_log_in_is_shown_out(home, certified, key):
    async def scenario():
        limits = Limits(login_timeout=0.3)
        async with bridge(certified, home, key, limits=limits) as running, raw(running) as peer:
            await asyncio.wait_for(peer.socket.wait_closed(), 20)
            return peer.socket.close_code

    assert run(scenario()) == 1000


def test_guessing_is_blocked(home, certified, key):
    async def scenario():
        async with bridge(certified, home, key) as running, raw(running) as peer:
            for _ in range(5):
                await peer.ask("auth_ssl", "")
                assert (await peer.ask("auth_ssl", {"encrypted_string": "AAAA"}))["args"] == ["", 0]
            word = (await peer.ask("auth_ssl", ""))["args"]["test_string"]
            with pytest.raises(ConnectionClosed):
                await peer.ask("auth_ssl", {"encrypted_string": keys.prove(key, word)})
            return peer.socket.close_reason

    assert run(scenario()) == "Too Many Authorization Failures - Try again later"


def test_a_word_is_good_for_one_login(home, certified, key):
    async def scenario():
        async with bridge(certified, home, key) as running, raw(running) as peer:
            word = (await peer.ask("auth_ssl", ""))["args"]["test_string"]
            proof = {"encrypted_string": keys.prove(key, word)}
            assert (await peer.ask("auth_ssl", proof))["args"][0]
            assert (await peer.ask("auth_ssl", proof))["args"] == ["", 0]

    run(scenario())


def test_keys_are_added_and_taken_away_while_it_runs(home, certified, key):
    """As `sysadm-nb bridge key add` and `remove` do it, from another process."""

    async def scenario():
        async with bridge(certified, home) as running, raw(running) as peer:
            Bridge(folder=home).keys.register("laptop", keys.public_text(key))
            await peer.log_in(key, "client", [])
            assert await peer.peers() == []
            assert Bridge(folder=home).keys.revoke("laptop", keys.public_text(key))
            await asyncio.wait_for(peer.socket.wait_closed(), 20)

    run(scenario())


class FakeCarrier:
    def __init__(self):
        self.sent = []

    def send(self, text):
        self.sent.append(text)

    def close(self, code, reason):
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FRAMES = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=60),
    st.builds(lambda to, body: f"{to}\n{body}", st.text(max_size=10), st.text(max_size=20)),
    st.fixed_dictionaries(
        {},
        optional={
            "namespace": st.sampled_from(["rpc", "events", "RPC"]) | JSON,
            "name": st.sampled_from(["auth_ssl", "identify", "response", "auth_clear", "settings", "error"])
            | JSON,
            "id": st.sampled_from(["sysadm_bridge_request_ident", "bridge_request_list_keys", "x"]) | JSON,
            "args": st.fixed_dictionaries(
                {}, optional={"md5_keys": JSON, "type": JSON, "encrypted_string": JSON, "test_string": JSON}
            )
            | JSON,
        },
    ).map(json.dumps),
)


@settings(max_examples=150)
@given(st.lists(FRAMES, max_size=10))
def test_any_frames_leave_the_bridge_standing_and_others_alone(certified, frames):
    """From one who never proved anything; and from one who is in, but shares no key with anybody."""

    async def scenario():
        running = Bridge(folder=certified)
        other = Peer(running, FakeCarrier(), "other")
        other.user, other.kind, other.keys = "other", "server", {"K"}
        running._peers[other.id] = other
        for user in (None, "somebody"):
            peer = Peer(running, FakeCarrier(), "1.2.3.4")
            peer.user = user
            running._peers[peer.id] = peer
            for frame in frames:
                await peer.receive(frame)
            await peer.receive(f"{other.id}\nhello")
            for text in peer._carrier.sent:
                json.loads(text)
        return other._carrier.sent

    told = run(scenario())
    assert not any("hello" in text for text in told)


# --- a server behind a bridge -----------------------------------------------------------------------------


def test_the_server_answers_a_relayed_login_as_real_ones_do(home, certified, key):
    """The second part of the capture 09a_bridge: plain until the login's second step, base64 from it on."""

    async def scenario():
        async with (
            bridge(certified, home, key) as running,
            server(home, running, "nas1", key) as nas,
            raw(running) as client,
        ):
            await client.log_in(key, "client", [keys.checksum(key)])
            (peer,) = await client.peers()

            async def ask(name, args, id, *, namespace="rpc", encoded=False):
                body = json.dumps({"namespace": namespace, "name": name, "id": id, "args": args})
                body = base64.b64encode(body.encode()).decode() if encoded else body
                await client.socket.send(f"{peer}\n{body}")
                frame = await client.next(lambda text: text.startswith(f"{peer}\n"))
                answer = frame.partition("\n")[2]
                return json.loads(base64.b64decode(answer) if encoded else answer)

            assert (await ask("identify", {}, "ri1"))["args"] == {"hostname": "nas1", "type": "server"}
            refused = {"code": "401", "message": "Unauthorized"}
            assert (await ask("query", {}, "rq1"))["args"] == refused
            assert (await ask("auth", {"username": "admin", "password": "secret"}, "ra1"))["args"] == refused
            first = await ask("auth_ssl", {"action": "auth_ssl", "md5_key": keys.checksum(key)}, "rs1")
            word = base64.b64decode(first["args"]["test_string"]).decode()
            assert base64.b64decode(first["args"]["new_ssl_key"]).startswith(b"-----BEGIN PUBLIC KEY-----")
            proof = {"encrypted_string": keys.prove(key, word)}
            token, _ = (await ask("auth_ssl", proof, "rs2", encoded=True))["args"]
            assert token
            rights = (await ask("query", {}, "rq2", encoded=True))["args"]
            assert rights["rpc/dispatcher"] == "read/write"
            subscribed = await ask("subscribe", ["system-state"], "rsub", namespace="events", encoded=True)
            assert subscribed["args"] == {"subscribe": "system-state"}
            nas.publish("system-state", {"hostname": "nas1"})
            event = (await client.next(lambda text: text.startswith(f"{peer}\n"))).partition("\n")[2]
            assert json.loads(base64.b64decode(event))["args"] == {"hostname": "nas1"}

    run(scenario())


def test_clients_of_a_bridge_and_of_the_servers_own_port_are_served_alike(home, certified, key):
    async def scenario():
        async with (
            bridge(certified, home, key) as running,
            server(home, running, "nas1", key) as nas,
            watching(running, key, Tables()) as fleet,
        ):
            await until(lambda: connected(fleet, "nas1"))
            assert nas.clients == 1
            await fleet.remove("nas1")
            await fleet.remove("bridge")
            assert fleet.sessions == {}
            await until(lambda: nas.clients == 0)

    run(scenario())


def test_nothing_too_long_for_a_bridge_is_sent_to_it(home, certified, key, caplog):
    """The bridge would close the server's connection, and with it those of all clients."""

    async def scenario():
        async with (
            bridge(certified, home, key) as running,
            server(home, running, "nas1", key) as nas,
        ):
            for number in range(14):
                nas.publish("dispatcher", {"process_id": str(number), "x": "y" * 1_000_000})
            nas._services.parts.sources["host/long"] = long
            async with watching(running, key, Tables(max_text=2**28), timeout=20) as fleet:
                await until(lambda: connected(fleet, "nas1"))
                reply = await fleet.request("rpc", "logs", {"action": "read_logs"}, server="nas1")
                assert list(reply["events-dispatcher"].values())[-1]["process_id"] == "13"
                with pytest.raises(RequestRefused):
                    await fleet.request("host", "long", {}, server="nas1")
                nas.publish("dispatcher", {"process_id": "long", "x": "y" * 13_000_000})
                rights = await fleet.request("rpc", "query", {}, server="nas1")
                assert rights["rpc/logs"] == "read/write"

    async def long(args):
        return "y" * 13_000_000

    run(scenario())
    assert len([record for record in caplog.records if "too many for the bridge" in record.message]) == 2
    assert "is gone" not in caplog.text
