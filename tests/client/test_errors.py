"""What can be wrong with a server: each its own error, in time, with a sentence that helps."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import traceback

import pytest
from websockets.asyncio.server import serve

from sysadm_nb.client import open_connection
from sysadm_nb.errors import (
    ConnectionFailed,
    HostUnknown,
    InputError,
    LoginBlocked,
    LoginRefused,
    NotSysadm,
    PasswordNeeded,
    PortRefused,
    RequestRefused,
    ServerSilent,
)
from tests.client.peers import hang_up, mail, peer, self_signed, silent, web
from tests.client.scripted import scripted


async def attempt(url: str, **options: object) -> None:
    async with open_connection(url, timeout=0.5, **options):  # type: ignore[arg-type]
        pass


def unused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_unknown_host() -> None:
    with pytest.raises(HostUnknown, match=r"'no-such-host\.invalid' is not known"):
        asyncio.run(attempt("wss://no-such-host.invalid"))


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_refused_port(scheme: str, host: str) -> None:
    port = unused_port()
    with pytest.raises(PortRefused, match=f"Nothing listens on {host}:{port}"):
        asyncio.run(attempt(f"{scheme}://{host}:{port}"))


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_server_that_says_nothing(scheme: str) -> None:
    async def main() -> float:
        async with peer(silent) as port:
            started = time.monotonic()
            with pytest.raises(ServerSilent, match=r"did not answer within 0\.5 s"):
                await attempt(f"{scheme}://127.0.0.1:{port}")
            return time.monotonic() - started

    assert asyncio.run(main()) < 5


def test_a_websocket_that_says_nothing() -> None:
    async def main() -> None:
        async with scripted() as script:
            script.answers["rpc/identify"] = script.SILENCE
            with pytest.raises(ServerSilent, match="then said nothing"):
                await attempt(script.url, user="root", password="secret")
            assert not script.asked("rpc/auth")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("talk", "scheme", "said"),
    [
        (web, "ws", "HTTP status 404"),
        (mail, "ws", "without a WebSocket handshake"),
        (hang_up, "ws", "wants wss://"),
        (web, "wss", "does not speak TLS"),
        (mail, "wss", "does not speak TLS"),
    ],
)
def test_a_peer_that_is_no_sysadm_server(talk, scheme: str, said: str) -> None:
    async def main() -> None:
        async with peer(talk) as port:
            with pytest.raises(NotSysadm, match=said):
                await attempt(f"{scheme}://127.0.0.1:{port}")

    asyncio.run(main())


def test_a_redirect_is_named_and_not_followed() -> None:
    async def main() -> None:
        async with scripted() as script:

            async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                head = f"HTTP/1.1 302 Found\r\nLocation: {script.url}/x\r\nContent-Length: 0\r\n\r\n"
                writer.write(head.encode())

            async with peer(redirect) as port:
                with pytest.raises(NotSysadm, match=rf"sends its visitors on to '{script.url}/x'"):
                    await attempt(f"ws://127.0.0.1:{port}", user="root", password="secret")
            assert script.requests == []

    asyncio.run(main())


@pytest.mark.parametrize(("talk", "said"), [(web, "HTTP status 404"), (mail, "WebSocket handshake")])
def test_a_tls_server_that_is_no_sysadm_server(tmp_path, talk, said: str) -> None:
    async def main() -> None:
        tls, _, _ = self_signed(tmp_path)
        async with peer(talk, tls) as port:
            with pytest.raises(NotSysadm, match=said):
                await attempt(f"wss://127.0.0.1:{port}")

    asyncio.run(main())


@pytest.mark.parametrize("manner", ["echo", "greet", "other words", "other JSON"])
def test_another_websocket_server(manner: str) -> None:
    async def talk(socket) -> None:
        if manner == "greet":
            await socket.send("welcome to the chat")
        async for text in socket:
            match manner:
                case "echo":
                    await socket.send(text)
                case "other words":
                    await socket.send("what?")
                case "other JSON":
                    await socket.send('{"jsonrpc":"2.0","error":{"code":-32700},"id":null}')

    async def main() -> None:
        async with serve(talk, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(NotSysadm, match="does not speak SysAdm"):
                await attempt(f"ws://127.0.0.1:{port}", user="root", password="secret")

    asyncio.run(main())


def test_a_client_at_the_other_end_is_no_server() -> None:
    async def main() -> None:
        async with scripted() as script:
            script.answers["rpc/identify"] = {"type": "client", "hostname": "laptop"}
            with pytest.raises(NotSysadm, match="server or bridge"):
                await attempt(script.url)

    asyncio.run(main())


def test_wrong_password() -> None:
    async def main() -> None:
        async with scripted() as script:
            wrong = "hunter" + str(2)
            with pytest.raises(LoginRefused, match="'root': wrong user name or password") as caught:
                await attempt(script.url, user="root", password=wrong)
            assert wrong not in "".join(traceback.format_exception(caught.value))
            assert not isinstance(caught.value, (PasswordNeeded, LoginBlocked))

    asyncio.run(main())


def test_a_bridge_says_no_in_its_own_way() -> None:
    async def main() -> None:
        async with scripted() as script:
            script.answers["rpc/auth"] = ["", 0]
            with pytest.raises(LoginRefused):
                await attempt(script.url, user="root", password="secret")

    asyncio.run(main())


def test_blocked_after_too_many_failures() -> None:
    async def main() -> None:
        async with scripted() as script:
            script.answers["rpc/auth"] = 403
            with pytest.raises(LoginBlocked, match="no more logins"):
                await attempt(script.url, user="root", password="secret")

    asyncio.run(main())


def test_no_password_names_the_ways_to_give_one() -> None:
    async def main() -> None:
        async with scripted() as script:
            with pytest.raises(PasswordNeeded, match=r"password=.*SYSADM_NB_PASSWORD.*keyring"):
                await attempt(script.url, user="root")

    asyncio.run(main())


def test_the_password_is_found_in_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("SYSADM_NB_PASSWORD", "secret")

    async def main() -> None:
        async with scripted() as script:
            await attempt(script.url, user="root")
            assert script.asked("rpc/auth") == [{"username": "root", "password": "secret"}]

    asyncio.run(main())


def test_the_password_is_found_in_the_keyring(monkeypatch) -> None:
    keyring = pytest.importorskip("keyring")
    asked = []

    def look(service: str, name: str) -> str:
        asked.append((service, name))
        return "secret"

    monkeypatch.setattr(keyring, "get_password", look)

    async def main() -> int:
        async with scripted() as script:
            await attempt(script.url, user="root")
            return script.port

    port = asyncio.run(main())
    assert asked == [("sysadm_nb", f"root@127.0.0.1:{port}")]


def test_secrets_are_in_no_log(caplog) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> set[str]:
        async with scripted() as script:
            async with open_connection(script.url, user="root", password="hunter2-secret") as connection:
                pass
            script.password = "hunter2-secret"
            async with open_connection(script.url, user="root", password="hunter2-secret") as connection:
                assert "hunter2" not in repr(connection)
            return script.tokens

    with pytest.raises(LoginRefused):
        asyncio.run(main())
    sent_by_us = [record for record in caplog.records if record.name != "websockets.server"]
    assert "hunter2" not in "".join(record.getMessage() for record in sent_by_us)


def test_plain_ws_goes_to_this_machine_only() -> None:
    with pytest.raises(ConnectionFailed, match="not encrypted: use wss"):
        asyncio.run(attempt("ws://192.0.2.1:12150", user="root", password="secret"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://nas:12150", "begins with wss://"),
        ("wss://root:secret@nas", "out of the URL"),
        ("wss://nas:0x10", "no number from 1 to 65535"),
        ("wss://nas:99999", "no number from 1 to 65535"),
        ("wss://", "no host name"),
        ("wss://n\0as", "no host name"),
        ("wss://nas..local", "cannot be one"),
        (f"wss://{'a' * 70}.local", "cannot be one"),
        ("wss://[nas", "cannot be one"),
        ("wss://root:secret@[nas", "cannot be one"),
        ("wss://root:secret@nas:99999", "out of the URL"),
    ],
)
def test_a_url_that_is_none(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        asyncio.run(attempt(url))
    assert "secret" not in str(caught.value)


def test_a_call_that_is_not_there_and_one_that_is_not_allowed() -> None:
    async def main() -> None:
        login = {"user": "eve", "password": "secret"}
        async with scripted() as script, open_connection(script.url, **login) as connection:
            with pytest.raises(RequestRefused, match="it has no sysadm/nothing") as caught:
                await connection.request("sysadm", "nothing")
            assert caught.value.code == 404
            script.answers["sysadm/users"] = 403
            with pytest.raises(RequestRefused, match="eve is not allowed to use sysadm/users") as caught:
                await connection.request("sysadm", "users")
            assert caught.value.code == 403

    asyncio.run(main())


def test_without_a_login_there_are_no_events() -> None:
    async def main() -> None:
        async with scripted() as script:
            script.answers["events/subscribe"] = 401
            with pytest.raises(RequestRefused, match="needs a login"):
                await attempt(script.url, subscribe=["dispatcher"])

    asyncio.run(main())
