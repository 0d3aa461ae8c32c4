"""One connection: requests and replies, subscriptions, old news marked, staying alive."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from sysadm_nb import wire
from sysadm_nb.client import open_connection, parse_address
from sysadm_nb.client.connection import Connection
from sysadm_nb.client.events import ResendMarker
from sysadm_nb.client.login import Login
from sysadm_nb.client.opening import connect_once
from sysadm_nb.errors import ConnectionLost, InputError, LoginRefused, RequestRefused, RequestTimeout
from tests.client.scripted import Scripted, scripted, until

LOGIN = {"user": "root", "password": "secret"}


def test_replies_are_matched_by_id_whatever_their_order() -> None:
    async def main() -> None:
        async with scripted() as script, open_connection(script.url, **LOGIN) as connection:
            script.answers["sysadm/slow"] = script.SILENCE
            slow = asyncio.create_task(connection.request("sysadm", "slow"))
            await until(lambda: script.asked("sysadm/slow"))
            assert await connection.request("rpc", "dispatcher", {"action": "list"}) == {"jobs": {}}
            (number,) = [r["id"] for r in script.requests if r["name"] == "slow"]
            await script.send(
                {"namespace": "sysadm", "name": "response", "id": number, "args": {"took": "1"}}
            )
            assert await slow == {"took": "1"}

    asyncio.run(main())


@pytest.mark.parametrize("proof", [{"password": "secret"}, {"key": True}])
def test_a_proof_of_nobody_is_refused(proof: dict[str, Any]) -> None:
    async def main() -> None:
        async with scripted() as script:
            with pytest.raises(InputError, match="pass user="):
                async with open_connection(script.url, **proof):
                    pass

    asyncio.run(main())


def test_a_request_times_out_and_a_late_reply_hurts_nobody() -> None:
    async def main() -> None:
        async with scripted() as script, open_connection(script.url, **LOGIN) as connection:
            script.answers["sysadm/slow"] = script.SILENCE
            with pytest.raises(RequestTimeout, match=r"sysadm/slow within 0\.05 s"):
                await connection.request("sysadm", "slow", timeout=0.05)
            (number,) = [r["id"] for r in script.requests if r["name"] == "slow"]
            await script.send({"namespace": "sysadm", "name": "response", "id": number, "args": 1})
            assert await connection.request("rpc", "dispatcher") == {"jobs": {}}

    asyncio.run(main())


def test_waiters_wake_when_the_connection_ends() -> None:
    async def main() -> None:
        async with scripted() as script, open_connection(script.url, **LOGIN) as connection:
            script.answers["sysadm/slow"] = script.SILENCE
            waiting = asyncio.create_task(connection.request("sysadm", "slow"))
            await until(lambda: script.asked("sysadm/slow"))
            await script.peers[0].close(1000, "Too Many Authorization Failures - Try again later")
            with pytest.raises(ConnectionLost, match=r"code 1000: Too Many Authorization Failures"):
                await waiting
            with pytest.raises(ConnectionLost):
                await connection.request("rpc", "query")
            with pytest.raises(ConnectionLost):
                async for _ in connection:
                    pass

    asyncio.run(main())


def test_the_peer_is_answered() -> None:
    answers = []

    async def main() -> None:
        async with scripted() as script, open_connection(script.url, **LOGIN) as connection:
            connection.answers["rpc/settings"] = lambda args: {"md5_keys": ["abc"]}
            await script.send({"namespace": "rpc", "name": "identify", "id": "bridge-1", "args": ""})
            await script.send({"namespace": "rpc", "name": "settings", "id": 7, "args": {"action": "list"}})
            await script.send({"namespace": "rpc", "name": "surprise", "id": "x", "args": {}})
            script.answer = lambda peer, request: _keep(request)  # type: ignore[method-assign]
            await until(lambda: len(answers) == 3)

    async def _keep(request) -> None:
        answers.append(request)

    asyncio.run(main())
    by_id = {answer["id"]: answer for answer in answers}
    assert by_id["bridge-1"]["name"] == "response"
    assert by_id["bridge-1"]["args"]["type"] == "client"
    assert by_id[7]["args"] == {"md5_keys": ["abc"]}
    assert by_id["x"]["args"]["code"] == "404"


def test_a_peer_that_asks_without_end_and_reads_nothing_is_not_answered_without_end(monkeypatch) -> None:
    monkeypatch.setattr("sysadm_nb.client.connection.REPLY_LIMIT", 20, raising=False)
    monkeypatch.setattr("sysadm_nb.client.connection.CLOSE_S", 0.2)

    async def main() -> None:
        async with scripted() as script:
            connection = await impatient(script)
            script.peers[0].transport.pause_reading()
            asks = {"namespace": "rpc", "name": "identify", "id": "x" * 50_000, "args": ""}
            for _ in range(500):
                await script.send(asks)
            await script.publish("ups", {"n": 1})
            async for event in connection:  # events go on
                assert event.args == {"n": 1}
                break
            assert len(connection._tasks) <= 21
            await connection.close()

    asyncio.run(main())


def test_events_come_as_they_are_and_the_last_is_marked_at_a_subscribe() -> None:
    async def main() -> list[tuple[str, str, object]]:
        seen = []
        async with scripted() as script:
            script.last["system-state"] = {"hostname": "old"}
            async with open_connection(
                script.url, **LOGIN, subscribe=["system-state", "dispatcher"]
            ) as connection:
                assert connection.subscriptions == {"system-state", "dispatcher"}
                await script.publish("system-state", {"hostname": "new"})
                await script.publish("dispatcher", {"process_id": "a", "state": "running"})
                await script.send({"namespace": "events", "name": "never-heard-of", "id": "", "args": [1]})
                async for event in connection:
                    seen.append((event.name, event.origin, event.args))
                    if event.name == "never-heard-of":
                        break
        return seen

    assert asyncio.run(main()) == [
        ("system-state", "last", {"hostname": "old"}),
        ("system-state", "live", {"hostname": "new"}),
        ("dispatcher", "live", {"process_id": "a", "state": "running"}),
        ("never-heard-of", "live", [1]),
    ]


def test_subscribing_again_asks_nothing_and_unsubscribing_does_once() -> None:
    async def main() -> None:
        async with scripted() as script, open_connection(script.url, **LOGIN) as connection:
            await connection.subscribe("dispatcher")
            await connection.subscribe("dispatcher")
            await connection.subscribe()
            await connection.unsubscribe("life_preserver")
            await connection.unsubscribe("life-preserver")
            assert script.asked("events/subscribe") == [["dispatcher"], ["life-preserver", "system-state"]]
            assert script.asked("events/unsubscribe") == [["life-preserver"]]
            assert connection.subscriptions == {"dispatcher", "system-state"}
            with pytest.raises(InputError, match="no class of events called 'pools'"):
                await connection.subscribe("pools")

    asyncio.run(main())


def frames(*texts: str) -> list[wire.Event]:
    return [wire.decode(wire.encode_event("system-state", {"hostname": text})) for text in texts]


def test_the_resend_is_told_from_live_events_after_a_subscribe_that_was_answered_late() -> None:
    marker = ResendMarker()
    marker.requested("1", ["system-state"])
    marker.requested("2", ["system-state"])  # the first timed out
    first, live, again, later = frames("old", "new", "new", "newer")
    assert marker.origin(first) == "last"
    marker.replied("1", True)
    assert [marker.origin(event) for event in (live, again)] == ["live", "last"]
    marker.replied("2", True)
    assert not marker.watching
    marker.requested("3", ["dispatcher"])
    assert marker.origin(later) == "live"


@given(
    before=st.sampled_from(["", "a", "b"]),
    story=st.lists(st.sampled_from(["a", "b", "c", "SUBSCRIBE"]), max_size=12),
)
def test_however_they_mix_as_many_are_live_as_happened(before: str, story: list[str]) -> None:
    """A server takes subscribes one after another; what happens in between is live, each resend is not.

    No two events in a row are the same here: without a time in them those could not be told from a resend.
    """
    marker = ResendMarker()
    requests = [str(number) for number in range(story.count("SUBSCRIBE"))]
    for number in requests:  # all but the last have timed out on our side
        marker.requested(number, ["system-state"])
    last, subscribed = before, False
    happened, resent, taken = [], 0, []
    for item in story:
        if item == "SUBSCRIBE":
            subscribed = True
            if last:
                resent += 1
                (event,) = frames(last)
                taken.append((last, marker.origin(event)))
            marker.replied(requests.pop(0), True)
        else:
            last = f"{item}{len(taken)} {len(happened)}"
            if subscribed:
                happened.append(last)
                (event,) = frames(last)
                taken.append((last, marker.origin(event) if marker.watching else "live"))
    assert [origin for _, origin in taken].count("last") == resent
    assert sorted(text for text, origin in taken if origin == "live") == sorted(happened)


async def impatient(script: Scripted, **options: float) -> Connection:
    login = Login("root", "secret")
    return await connect_once(parse_address(script.url), login, timeout=5, **options)


def test_it_is_kept_alive_by_requests_that_renew_the_token() -> None:
    async def main() -> None:
        async with scripted() as script:
            connection = await impatient(script, keep_alive=0.1)
            await until(lambda: len(script.asked("rpc/query")) >= 3)
            await connection.close()
            connection = await connect_once(parse_address(script.url), Login(None), keep_alive=0.1)
            before = len(script.asked("rpc/identify"))
            await until(lambda: len(script.asked("rpc/identify")) >= before + 2)  # needs no login
            await connection.close()

    asyncio.run(main())


def test_a_token_that_has_run_out_is_renewed_by_the_password() -> None:
    async def main() -> None:
        async with scripted() as script:
            connection = await impatient(script)
            refusals = iter([401, {"rpc/logs": "read"}])
            script.answers["rpc/query"] = lambda args: next(refusals)
            assert await connection.request("rpc", "query") == {"rpc/logs": "read"}
            assert len(script.asked("rpc/auth")) == 2
            assert script.asked("rpc/auth_token") == []  # on its own connection it would log out
            await connection.close()

    asyncio.run(main())


def test_a_login_that_is_no_longer_taken_is_tried_once_and_events_go_on() -> None:
    async def main() -> None:
        async with scripted() as script:
            connection = await impatient(script, keep_alive=0.1)
            await connection.subscribe("dispatcher")
            script.password = "changed"
            script.answers["rpc/query"] = 401
            before = len(script.asked("rpc/identify"))
            await until(lambda: len(script.asked("rpc/identify")) >= before + 3)
            assert len(script.asked("rpc/auth")) == 2
            await script.publish("dispatcher", {"process_id": "a", "state": "running"})
            async for event in connection:
                assert event.args == {"process_id": "a", "state": "running"}
                break
            await connection.close()

    asyncio.run(main())


def test_requests_do_not_try_a_login_that_is_no_longer_taken_again_and_again() -> None:
    """After five failures a server blocks the address."""

    async def main() -> None:
        async with scripted() as script:
            connection = await impatient(script)
            script.password = "changed"
            script.answers["sysadm/zfs"] = 401
            together = [connection.request("sysadm", "zfs") for _ in range(3)]
            first, *others = await asyncio.gather(*together, return_exceptions=True)
            assert isinstance(first, LoginRefused)
            with pytest.raises(RequestRefused, match="sysadm/zfs needs a login"):
                await connection.request("sysadm", "zfs")
            assert [type(error) for error in others] == [RequestRefused] * 2
            assert len(script.asked("rpc/auth")) == 2
            await connection.close()

    asyncio.run(main())


def test_a_link_that_says_nothing_is_given_up() -> None:
    async def main() -> None:
        async with scripted() as script:
            connection = await impatient(script, ping_interval=0.1, ping_timeout=0.2)
            script.peers[0].transport.pause_reading()  # pings are not even read
            lost = await asyncio.wait_for(connection.wait_lost(), 10)
            assert "did not answer a ping for 0.2 s" in str(lost)
            await connection.close()

    asyncio.run(main())


def test_a_frame_that_takes_long_is_a_sign_of_life() -> None:
    """A large log over a slow line: the pong waits behind it, but bytes keep coming."""

    async def main() -> None:
        async with scripted() as script:
            connection = await impatient(script, ping_interval=0.1, ping_timeout=0.3)
            head = bytes([0x81, 127]) + (120_000).to_bytes(8, "big")
            transport = script.peers[0].transport
            transport.write(head)
            script.peers[0].transport.pause_reading()
            for _ in range(12):
                transport.write(b" " * 10_000)
                await asyncio.sleep(0.1)
            assert connection.lost is None
            await connection.close()

    asyncio.run(main())


def test_a_clock_that_jumps_is_noticed(monkeypatch) -> None:
    jumps = []

    async def main() -> None:
        async with scripted() as script:
            connection = await impatient(script, ping_interval=0.1)
            connection.on_clock_jump = jumps.append
            await asyncio.sleep(0.15)
            real = time.time
            monkeypatch.setattr(time, "time", lambda: real() + 3600)  # an hour asleep
            await until(lambda: jumps)
            await connection.request("rpc", "query")  # the ping was answered: nothing was lost
            await connection.close()

    asyncio.run(main())
    assert jumps[0] == pytest.approx(3600, abs=5)


def test_closing_leaves_nothing_and_twice_is_fine() -> None:
    async def main() -> None:
        async with scripted() as script:
            connection = await impatient(script)
            await connection.close()
            await connection.close()
            assert "closed here" in str(connection.lost)
            await until(lambda: not script.peers)
            names = {task.get_name() for task in asyncio.all_tasks()}
            assert not any("sysadm_nb" in name for name in names)

    asyncio.run(main())


def ours() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if "sysadm_nb" in task.get_name()]


@pytest.mark.parametrize("turns", range(6))
def test_closing_that_is_cancelled_leaves_nothing_either(turns: int) -> None:
    async def main() -> None:
        async with scripted() as script:
            connection = await impatient(script, ping_interval=10, ping_timeout=20)
            script.peers[0].transport.pause_reading()  # no farewell comes back
            closing = asyncio.create_task(connection.close())
            for _ in range(turns):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait([closing])
            if turns == 0:  # it had not begun
                await connection.close()
            await until(lambda: not ours())

    asyncio.run(main())


def test_closing_does_not_wait_for_what_the_peer_does_not_read(monkeypatch) -> None:
    monkeypatch.setattr("sysadm_nb.client.connection.CLOSE_S", 0.2, raising=False)

    async def main() -> None:
        async with scripted() as script:
            connection = await impatient(script)
            script.peers[0].transport.pause_reading()
            asking = asyncio.create_task(connection.request("rpc", "query", "x" * 30_000_000))
            await asyncio.sleep(0.2)  # it is in the middle of its frame
            async with asyncio.timeout(8):
                await connection.close()
            with pytest.raises(ConnectionLost):
                await asking
            await until(lambda: not ours())

    asyncio.run(main())


def test_nobody_watches_a_connection_that_has_ended() -> None:
    async def main() -> None:
        async with scripted() as script:
            connection = await impatient(script, ping_interval=10, ping_timeout=20)
            script.peers[0].transport.abort()
            await connection.wait_lost()
            await until(lambda: not ours())

    asyncio.run(main())


def test_iteration_ends_when_the_connection_is_closed_here() -> None:
    async def main() -> None:
        async with scripted() as script:
            connection = await impatient(script)
            asyncio.get_running_loop().call_later(0.05, lambda: asyncio.ensure_future(connection.close()))
            async for _ in connection:
                pass

    asyncio.run(main())


@pytest.mark.parametrize("end", [None, "ConnectionLost"])
def test_iterations_side_by_side_and_later_ones_all_end(end: str | None) -> None:
    async def main() -> None:
        async with scripted() as script:
            connection = await impatient(script)

            async def iterate() -> str | None:
                try:
                    async for _ in connection:
                        pass
                except ConnectionLost as error:
                    return type(error).__name__
                return None

            together = [asyncio.create_task(iterate()) for _ in range(3)]
            await asyncio.sleep(0.05)
            if end is None:
                await connection.close()
            else:
                await script.peers[0].close()
            async with asyncio.timeout(10):
                assert await asyncio.gather(*together) == [end] * 3
                assert [await iterate(), await iterate()] == [end] * 2
            await connection.close()

    asyncio.run(main())


def test_a_message_that_is_too_large_is_said_to_be() -> None:
    async def main() -> None:
        async with scripted() as script, open_connection(script.url, **LOGIN) as connection:
            with contextlib.suppress(ConnectionClosed):
                await script.publish("dispatcher", {"log": "x" * (64 * 2**20)})
            lost = await asyncio.wait_for(connection.wait_lost(), 60)
            assert "exceeds limit of 67108864 bytes" in str(lost)

    asyncio.run(main())


def test_messages_of_64_mib_are_taken() -> None:
    async def main() -> int:
        async with scripted() as script, open_connection(script.url, **LOGIN) as connection:
            await connection.subscribe("dispatcher")
            await script.publish("dispatcher", {"log": "x" * (60 * 2**20)})
            async for event in connection:
                return len(event.args["log"])
            return 0

    assert asyncio.run(main()) == 60 * 2**20
