"""The session: it comes back, says what happened, and stops where trying again would be wrong."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadm_nb import wire
from sysadm_nb.client import Login, parse_address
from sysadm_nb.client.connection import now_us
from sysadm_nb.client.policy import is_permanent, pause_before_retry
from sysadm_nb.client.session import Session
from sysadm_nb.errors import (
    CertificateChanged,
    Closed,
    ConnectionLost,
    HostUnknown,
    LoginBlocked,
    LoginRefused,
    NotSysadm,
    PasswordNeeded,
    PortRefused,
    ServerSilent,
)
from sysadm_nb.tables import Tables
from tests.client.scripted import Scripted, scripted, until


@asynccontextmanager
async def session_on(script: Scripted, **options: Any):
    login = options.pop("login", None) or Login("root", "secret")
    session = Session(parse_address(script.url), login, Tables(), name="nas", timeout=2, **options)
    await session.start()
    try:
        yield session
    finally:
        await session.close()


def whats(session: Session) -> list[str]:
    return [str(what) for what in session._tables.connection["what"]]


def details(session: Session, what: str) -> list[str]:
    rows = session._tables.connection
    return list(rows[rows["what"] == what]["detail"])


@given(st.floats(0, 1e6), st.floats(0, 1))
def test_pauses_are_a_tenth_of_the_outage_from_a_quarter_second_to_a_minute(outage, chance) -> None:
    pause = pause_before_retry(outage, chance)
    assert 0.125 <= pause <= 60
    assert pause <= max(outage / 10, 0.25)
    assert pause >= min(outage / 10, 60) / 2


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (LoginRefused("wrong"), True),
        (PasswordNeeded("none"), True),
        (CertificateChanged("other"), True),
        (LoginBlocked("for an hour"), False),
        (PortRefused("down"), False),
        (HostUnknown("no DNS on the train"), False),
        (NotSysadm("a gateway says 502"), False),
        (ServerSilent("hangs"), False),
    ],
)
def test_what_is_worth_trying_again(error: Exception, permanent: bool) -> None:
    assert is_permanent(error) is permanent


def test_it_comes_back_with_the_token_and_subscribes_again() -> None:
    async def main() -> None:
        async with scripted() as script, session_on(script) as session:
            await script.publish("dispatcher", {"process_id": "one", "state": "running"})
            await until(lambda: session._tables.count("jobs"))
            await script.peers[0].close(1001, "Server stopped")
            await until(lambda: session.state == "connected" and len(script.asked("events/subscribe")) == 2)
            assert script.asked("rpc/auth_token") == [{"token": "token0"}]
            assert len(script.asked("rpc/auth")) == 1
            await until(lambda: "backfilled" in whats(session))
            assert whats(session) == [
                "connected",
                "subscribed",
                "lost",
                "connected",
                "subscribed",
                "gap",
                "backfilled",
            ]
            assert details(session, "lost") == ["nas closed the connection (code 1001: Server stopped)."]
            job = session._tables.job("nas", "one")
            assert job is not None
            assert job.state == "unknown"

    asyncio.run(main())


def test_a_restarted_server_knows_no_token_and_gets_the_password_without_asking() -> None:
    async def main() -> None:
        async with scripted() as script, session_on(script) as session:
            script.tokens.clear()
            await script.peers[0].close()
            await until(lambda: len(script.asked("events/subscribe")) == 2)
            assert len(script.asked("rpc/auth")) == 2
            await until(lambda: session.state == "connected")

    asyncio.run(main())


def test_a_job_that_the_server_still_runs_is_known_again() -> None:
    async def main() -> None:
        async with scripted() as script, session_on(script) as session:
            await script.publish("dispatcher", {"process_id": "scrub", "state": "running"})
            await until(lambda: session._tables.count("jobs"))
            listed = {"commands": ["zpool scrub tank"], "state": "running"}
            script.answers["rpc/dispatcher"] = {"jobs": {"no_queue": {"scrub": listed}}}
            await script.peers[0].close()
            await until(lambda: "backfilled" in whats(session))
            job = session._tables.job("nas", "scrub")
            assert job is not None
            assert (job.state, job.commands) == ("running", ["zpool scrub tank"])

    asyncio.run(main())


def test_pools_are_asked_for_on_connecting() -> None:
    async def main() -> None:
        async with scripted() as script:
            script.answers["sysadm/zfs"] = {"list_pools": {"tank": {"size": "107G", "capacity": "12%"}}}
            async with session_on(script) as session:
                await until(lambda: len(session._tables.pools))
                (row,) = session._tables.pools.to_dict("records")
                assert (row["pool"], row["origin"], row["capacity_pct"]) == ("tank", "polled", 12.0)
                assert script.asked("sysadm/zfs") == [{"action": "list_pools"}]

    asyncio.run(main())


def test_a_server_that_offers_nothing_is_asked_for_nothing() -> None:
    async def main() -> None:
        async with scripted() as script:
            script.answers["rpc/query"] = {}
            async with session_on(script) as session:
                await script.peers[0].close()
                await until(lambda: "unrecovered" in whats(session))
                assert not script.asked("sysadm/zfs")
                assert not script.asked("rpc/logs")
                assert "logs were not asked" in details(session, "gap")[0]

    asyncio.run(main())


@pytest.mark.parametrize("change", ["password", "certificate"])
def test_a_permanent_refusal_stops_at_once(change: str, monkeypatch) -> None:
    async def main() -> None:
        async with scripted() as script, session_on(script) as session:
            if change == "password":
                script.password, script.tokens = "new", set()
            else:

                def refuse(*args: object) -> None:
                    raise CertificateChanged("another certificate than before")

                monkeypatch.setattr("sysadm_nb.client.certificates.check", refuse)
            await script.peers[0].close()
            await until(lambda: session.state == "refused")
            tries = len(script.requests)
            await asyncio.sleep(0.6)
            assert len(script.requests) == tries
            assert whats(session)[-3:] == ["lost", "gap", "refused"]
            gaps = session._tables.connection.query("what == 'gap'")
            assert gaps["gap_end"].isna().all()  # it lasts
            with pytest.raises(ConnectionLost, match="refused"):
                session.live()

    asyncio.run(main())


def test_giving_up_as_told() -> None:
    async def main() -> None:
        async with scripted() as script, session_on(script, give_up_after=0.3) as session:
            script.answers["rpc/identify"] = 404  # it goes on refusing something
            script.answers["events/subscribe"] = 400
            await script.peers[0].close()
            await until(lambda: session.state == "refused")
            assert "given up, as told" in session.detail

    asyncio.run(main())


def test_the_state_is_said_once_however_often_it_is_tried() -> None:
    async def main() -> None:
        async with scripted() as script:
            port = script.port
            session = Session(
                parse_address(script.url), Login("root", "secret"), Tables(), name="nas", timeout=2
            )
            await session.start()
        await asyncio.sleep(1.5)
        assert whats(session)[2:] == ["lost", "waiting"]
        assert "Nothing listens" in session.detail
        async with scripted(port):
            await until(lambda: session.state == "connected")
            await session.close()
        assert whats(session)[-1] == "closed"
        with pytest.raises(Closed):
            session.live()

    asyncio.run(main())


def test_the_first_try_raises_or_goes_on_in_the_background() -> None:
    async def main() -> None:
        async with scripted() as script:
            port, url = script.port, script.url
        dead = Session(parse_address(url), Login("root", "secret"), Tables(), timeout=2)
        with pytest.raises(PortRefused):
            await dead.start()
        await dead.start(retry=True)
        assert dead.state == "waiting"
        async with scripted(port):
            await until(lambda: dead.state == "connected")
            await dead.close()

    asyncio.run(main())


def test_a_first_try_that_fails_by_a_bug_does_not_look_as_if_it_went_on(caplog) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise OSError("broken")

    async def main() -> None:
        session = Session(parse_address("nas"), Login(None), Tables(), connect=broken)
        await session.start(retry=True)
        assert (session.state, session.detail) == ("refused", "broken")
        await session.close()

    asyncio.run(main())
    assert "did not begin" in caplog.text


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("retry", [False, True])
def test_one_that_is_closed_while_it_connects_stays_closed(retry: bool, begun: bool) -> None:
    async def main() -> None:
        async with scripted() as script:
            script.answers["rpc/identify"] = Scripted.SILENCE
            session = Session(parse_address(script.url), Login("root", "secret"), Tables(), timeout=2)
            starting = asyncio.create_task(session.start(retry=retry))
            if begun:
                await until(lambda: script.requests)
            await session.close()
            script.answers["rpc/identify"] = identity = {"hostname": "scripted", "type": "server"}
            await script.send({"namespace": "rpc", "name": "response", "id": "nb1", "args": identity})
            (ended,) = await asyncio.gather(starting, return_exceptions=True)
            assert isinstance(ended, type(None) if retry else Closed)
            await until(lambda: not script.peers)
            assert (session.state, session.connection, whats(session)) == ("closed", None, ["closed"])

    asyncio.run(main())


def test_frames_go_on_word_for_word_but_never_a_login() -> None:
    async def main() -> list[tuple[str, str]]:
        frames: list[tuple[str, str]] = []
        async with scripted() as script:
            script.answers["sysadm/zfs"] = {"list_pools": {"tank": {"size": "1G"}}}

            def keep(text: str, received: int, server: str, origin: str) -> None:
                assert server == "nas"
                frames.append((origin, text))

            async with session_on(script, on_frame=keep) as session:
                await script.send('{"namespace":"events", "name":"odd","id":"","args":{"é":1}}')
                await script.send('{"namespace":"rpc","name":"auth","id":"","args":["token1",900]}')
                await script.send("no JSON at all")
                await until(lambda: len(session._tables.pools) and ("live", "no JSON at all") in frames)
                assert "token0" in script.tokens
        return frames

    frames = asyncio.run(main())
    assert ("live", '{"namespace":"events", "name":"odd","id":"","args":{"é":1}}') in frames
    assert ("live", "no JSON at all") in frames
    assert any(origin == "polled" and "list_pools" in text for origin, text in frames)
    assert not any("token" in text for _, text in frames)


def test_a_frame_goes_on_whatever_becomes_of_its_event() -> None:
    """As one that is nested so deep that its arguments cannot be read: a recording has it."""

    async def main() -> list[str]:
        frames: list[str] = []

        def fail(event: object) -> None:
            raise RuntimeError("it cannot be read")

        async with scripted() as script:
            keep = {"on_frame": lambda text, *_: frames.append(text), "on_event": fail}
            async with session_on(script, **keep) as session:
                await script.publish("ups", {"n": 1})
                await until(lambda: len(session._tables.events))
        return frames

    assert any('"ups"' in text for text in asyncio.run(main()))


def test_unsubscribing_holds_over_a_loss() -> None:
    async def main() -> None:
        async with scripted() as script, session_on(script) as session:
            await session.unsubscribe("life-preserver")
            await script.peers[0].close()
            await until(lambda: len(script.asked("events/subscribe")) == 2)
            assert script.asked("events/subscribe")[-1] == ["dispatcher", "system-state"]

    asyncio.run(main())


def test_the_gap_begins_with_what_came_last_and_ends_with_the_subscription() -> None:
    async def main() -> None:
        async with scripted() as script, session_on(script) as session:
            await script.publish("dispatcher", {"process_id": "a", "state": "running"})
            await until(lambda: len(session._tables.events))
            came = session._tables.events["received"].iloc[-1]
            await asyncio.sleep(0.2)
            await script.peers[0].close()
            await until(lambda: "gap" in whats(session))
            row = session._tables.connection.query("what == 'gap'").iloc[0]
            assert row["gap_start"] == came
            assert row["gap_end"] > came
            subscribed = session._tables.connection.query("what == 'subscribed'")["time"].iloc[-1]
            assert abs((subscribed - row["gap_end"]).total_seconds()) < 1

    asyncio.run(main())


def test_two_clocks() -> None:
    """A server whose clock is 30 s behind: in its time the gap is 30 s earlier, and its log is found so."""

    async def main() -> None:
        async with scripted() as script, session_on(script) as session:
            behind = now_us() - 30_000_000
            await script.send(
                wire.encode_event("dispatcher", {"process_id": "a", "state": "running"}, behind)
            )
            await until(lambda: len(session._tables.events))
            missed = {"process_id": "b", "state": "running"}
            second = wire.format_time(behind + 1_000_000)[:19]
            script.answers["rpc/logs"] = {"events-dispatcher": {"": {}, second: missed}}
            await asyncio.sleep(1.2)
            await script.peers[0].close()
            await until(lambda: "backfilled" in whats(session))
            rows = session._tables.events
            backfilled = rows[rows["origin"] == "backfill"]
            assert list(backfilled["subject"]) == ["b"]
            assert abs(backfilled["time"].iloc[0].value // 1000 - behind) < 3_000_000

    asyncio.run(main())


@pytest.mark.parametrize("years", [-3, 5])
def test_a_server_that_lives_in_another_time(years: int) -> None:
    """A demo or a replay: the gap is written down in our time, and looked for in the server's."""

    async def main() -> None:
        async with scripted() as script, session_on(script) as session:
            there = now_us() + years * 365 * 86_400 * 1_000_000
            await script.send(wire.encode_event("dispatcher", {"process_id": "a", "state": "running"}, there))
            await until(lambda: len(session._tables.events))
            missed = {"process_id": "b", "state": "running"}
            second = wire.format_time(there + 7_000_000)[:19]
            script.answers["rpc/logs"] = {"events-dispatcher": {"": {}, second: missed}}
            script.last["system-state"] = {"hostname": "x"}
            await script.peers[0].close()
            await until(lambda: "backfilled" in whats(session))
            rows = session._tables.events
            assert list(rows[rows["origin"] == "backfill"]["subject"]) == ["b"]
            gap = session._tables.connection.query("what == 'gap'").iloc[0]
            assert 0 <= (gap["gap_end"] - gap["gap_start"]).total_seconds() < 10

    asyncio.run(main())
