"""The monitor as people use it: from a script, blocking, against real servers."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import weakref
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

import sysadm_nb as sa
from sysadm_nb import connecting, loop
from sysadm_nb.client import certificates, parse_address
from sysadm_nb.errors import (
    CertificateChanged,
    CertificateUnknown,
    Closed,
    ConnectionLost,
    InputError,
    LoginRefused,
    PasswordNeeded,
    PortRefused,
    RequestRefused,
    RequestTimeout,
    ServerSilent,
)
from sysadm_nb.monitor import Monitor, open_monitors
from tests.client.peers import peer, self_signed, silent
from tests.client.scripted import scripted

SNAPSHOT = {"class": "snapshot", "message": "New snapshot of tank/home", "priority": "1 - Information"}


def until(condition, timeout: float = 15.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


@pytest.fixture
def server():
    with sa.serve(sources=[], allow_run=True) as server:
        yield server


@pytest.fixture
def monitor(server):
    with sa.connect(server, name="here") as monitor:
        yield monitor


@contextmanager
def elsewhere(manager):
    """An async context on the loop thread, for tests that are a plain script."""
    handle = loop.acquire()

    async def enter():
        return await manager.__aenter__()

    async def leave() -> None:
        await manager.__aexit__(None, None, None)

    try:
        yield handle.run(enter())
    finally:
        handle.run(leave())
        handle.release()


def test_events_become_tables(server, monitor) -> None:
    server.publish("life-preserver", SNAPSHOT)
    until(lambda: len(monitor.life_preserver))
    (row,) = monitor.life_preserver.to_dict("records")
    assert (row["server"], row["origin"], row["dataset"]) == ("here", "live", "tank/home")
    assert list(monitor["events"]["event"]) == ["life-preserver"]
    (state,) = monitor.servers
    assert (state.name, state.state, state.url) == ("here", "connected", server.url.rstrip("/") + "/")


def test_a_job_from_beginning_to_end(monitor) -> None:
    job = monitor.run(["echo one", "sh -c 'echo two; exit 3'", "echo never"])
    assert job.wait(30) is job
    assert job.done
    assert (job.state, job.log, job.return_codes, job.return_code) == (
        "finished",
        "one\ntwo\n",
        [0, 3, None],
        3,
    )
    assert job.commands == ["echo one", "sh -c 'echo two; exit 3'", "echo never"]
    assert repr(job) == f"<Job {job.id} on here: finished, return code 3>"
    found = monitor.wait_for("finished", process_id=job.id)  # it has happened already
    assert found.process_id == job.id
    assert monitor.wait_for("running", process_id=job.id).state == "finished"


def test_a_job_can_be_killed(monitor) -> None:
    job = monitor.run("sleep 600")
    monitor.wait_for("running", process_id=job.id, timeout=30)
    assert not job.done
    job.kill()
    job.wait(30)
    assert job.done
    assert job.return_code != 0


def test_the_same_id_again_is_another_run(monitor) -> None:
    first = monitor.run("echo first", id="nightly")
    first.wait(30)
    second = monitor.run("echo second", id="nightly")
    second.wait(30)
    assert (first.run, second.run) == (1, 2)
    assert (first.log, second.log) == ("first\n", "second\n")


def test_a_job_that_the_tables_forgot_stays_as_it_was_last_seen(server) -> None:
    with sa.connect(server, name="here", tables=sa.Tables(max_rows=20)) as monitor:
        job, other = monitor.run("echo first", id="first").wait(10), monitor.run("echo other", id="other")
        monitor.wait_for("finished", process_id="other", timeout=10)
        number = itertools.count()

        def forgotten() -> bool:
            for _ in range(200):
                done = {"cmd_list": ["c"], "c": "", "process_id": f"p{next(number)}", "state": "finished"}
                server.publish("dispatcher", done)
            return len(monitor.jobs) > 0 and monitor.tables.job("here", "other") is None

        until(forgotten)
        assert (job.state, job.log, job.return_codes, job.done) == ("finished", "first\n", [0], True)
        assert job.wait(0.1) is job
        assert other.state == "unknown"  # not looked at before


def test_a_job_that_does_not_finish_in_time(monitor) -> None:
    job = monitor.run("sleep 600")
    with pytest.raises(RequestTimeout, match=r"within 0\.2 s"):
        job.wait(0.2)
    assert not job.done
    job.kill()


def test_running_without_the_right_is_refused_before_the_server_hangs_up() -> None:
    users = {"admin": "secret", "eve": ("other", "operator")}
    login = {"user": "eve", "password": "other"}
    with (
        sa.serve(sources=[], users=users, allow_run=True) as server,
        sa.connect(server, **login) as monitor,
    ):
        with pytest.raises(RequestRefused, match="'eve' read jobs, not run") as caught:
            monitor.run("echo no")
        assert caught.value.code == 403
        assert monitor.servers[0].state == "connected"
        assert len(monitor.jobs) == 0


def test_running_where_nobody_may() -> None:
    with sa.serve(sources=[]) as server, sa.connect(server) as monitor:
        with pytest.raises(RequestRefused, match="allow_run=True"):
            monitor.run("echo no")
        assert monitor.request("rpc", "identify")["type"] == "server"


def test_running_where_the_right_is_an_odd_one() -> None:
    with elsewhere(scripted()) as script:
        script.answers["rpc/query"] = {"rpc/dispatcher": True}
        monitor = sa.connect(script.url, user="root", password="secret")
        with monitor, pytest.raises(RequestRefused, match="read jobs, not run"):
            monitor.run("echo no")


@pytest.mark.parametrize("commands", ["", [], ["echo", 3], "   ", None])
def test_commands_that_are_none(monitor, commands) -> None:
    with pytest.raises(InputError, match="zpool scrub tank"):
        monitor.run(commands)


@pytest.mark.parametrize("id", ["", "action", 5])
def test_an_id_that_no_job_can_have(monitor, id) -> None:
    with pytest.raises(InputError, match="cannot have the id"):
        monitor.run("true", id=id)


def test_waiting_for_events_and_conditions(server, monitor) -> None:
    timer = threading.Timer(0.2, server.publish, ("life-preserver", SNAPSHOT))
    timer.start()
    event = monitor.wait_for("life_preserver", timeout=30)
    assert (event.name, event.server, event.args) == ("life-preserver", "here", SNAPSHOT)
    timer.join()
    timer = threading.Timer(0.2, server.publish, ("ups", {"battery": 41}))
    timer.start()
    event = monitor.wait_for(lambda event: event.name == "ups" and event.args["battery"] < 50, timeout=30)
    assert event.args == {"battery": 41}
    timer.join()
    with pytest.raises(RequestTimeout, match=r"system-state did not come about within 0\.1 s"):
        monitor.wait_for("system-state", timeout=0.1)
    with pytest.raises(InputError, match="Cannot wait for 'payday'"):
        monitor.wait_for("payday")
    with pytest.raises(ZeroDivisionError):  # the condition's own error reaches who waits
        threading.Timer(0.1, server.publish, ("ups", {})).start()
        monitor.wait_for(lambda event: 1 / 0, timeout=30)


def test_a_condition_that_finds_nothing_hurts_nobody_else(server, monitor, tmp_path) -> None:
    """``next(...)`` in a condition raises StopIteration, which a future cannot hold."""
    seen: list[object] = []
    monitor.on_event(seen.append)
    monitor.record(tmp_path / "nas.sysadm")
    timer = threading.Timer(0.1, server.publish, ("ups", {"n": 1}))
    timer.start()
    with pytest.raises(RuntimeError, match="StopIteration"):
        monitor.wait_for(lambda event: next(key for key in event.args if key == "m"), timeout=30)
    timer.join()
    until(lambda: seen)
    monitor.close()
    assert len(sa.open_recording(tmp_path / "nas.sysadm").events) == 1


def test_a_waiter_wakes_when_the_server_goes(server, monitor) -> None:
    threading.Timer(0.2, server.stop).start()
    with pytest.raises(ConnectionLost, match="Waited on here"):
        monitor.wait_for("system-state", timeout=30)
    with pytest.raises(ConnectionLost, match="no connection to here now"):
        monitor.request("rpc", "query")
    with pytest.raises(ConnectionLost):
        monitor.wait_for("system-state")


def test_a_waiter_wakes_when_the_monitor_is_closed(monitor) -> None:
    threading.Timer(0.2, monitor.close).start()
    with pytest.raises((Closed, ConnectionLost)):
        monitor.wait_for("system-state", timeout=30)


def test_callbacks(server, monitor) -> None:
    seen: list[str] = []
    frames: list[tuple[str, str]] = []

    def fail(event: object) -> None:
        raise RuntimeError("a callback that fails hurts nobody else")

    undo_fail = monitor.on_event(fail)
    undo = monitor.on_event(lambda event: seen.append(event.args["n"]))
    undo_frames = monitor.on_frame(lambda text, received, name, origin: frames.append((name, origin)))
    server.publish("ups", {"n": 1})
    until(lambda: seen and frames)
    undo()
    undo()
    undo_fail()
    undo_frames()
    server.publish("ups", {"n": 2})
    until(lambda: len(monitor.events) == 2)
    assert seen == [1]
    assert [origin for name, origin in frames if origin != "polled"] == ["live"]


def test_a_blocking_call_in_a_callback_says_so(server, monitor, caplog) -> None:
    errors = []

    def call(event: object) -> None:
        try:
            monitor.request("rpc", "query")
        except sa.SysadmError as error:
            errors.append(str(error))

    monitor.on_event(call)
    server.publish("ups", {})
    until(lambda: errors)
    assert "wait for itself" in errors[0]


def test_subscribe_and_unsubscribe(server, monitor) -> None:
    monitor.unsubscribe("life-preserver")
    server.publish("life-preserver", SNAPSHOT)
    server.publish("ups", {})
    until(lambda: len(monitor.events))
    monitor.subscribe("life-preserver")
    until(lambda: len(monitor.life_preserver))
    assert list(monitor.life_preserver["origin"]) == ["last"]


def test_subscribing_reaches_all_servers_that_are_there() -> None:
    with sa.serve(sources=[]) as one, sa.serve(sources=[]) as two, elsewhere(peer(silent)) as port:
        servers = {"one": one, "dead": f"ws://127.0.0.1:{port}", "two": two}
        with sa.connect(servers, timeout=1, subscribe=["dispatcher"]) as fleet:
            with pytest.raises(ConnectionLost, match="no connection to dead now") as caught:
                fleet.subscribe("life-preserver")
            for server in (one, two):
                server.publish("life-preserver", SNAPSHOT)
            until(lambda: len(fleet.life_preserver) == 2)
            assert caught.value.__notes__ == ["It failed at 1 of 3 servers: dead."]


def test_sampling_pools(monkeypatch) -> None:
    with elsewhere(scripted()) as script:
        script.answers["sysadm/zfs"] = {"list_pools": {"tank": {"size": "107G", "capacity": "12%"}}}
        with sa.connect(script.url, user="root", password="secret") as monitor:
            monitor.sample_pools("1h")
            stop = monitor.sample_pools(timedelta(seconds=1))
            with pytest.raises(InputError, match="once a second"):
                monitor.sample_pools("10ms")
            with pytest.raises(InputError, match="no span"):
                monitor.sample_pools("often")
            with pytest.raises(InputError, match="no span"):
                monitor.sample_pools("60")
            until(lambda: len(monitor.pools) >= 4)  # what was refused ended nothing
            stop()
            assert set(monitor.pools["origin"]) == {"polled"}
            monitor.sample_pools(None)


def test_closing(server) -> None:
    monitor = sa.connect(server)
    closed = []
    monitor.on_close(lambda: closed.append("one"))
    undo = monitor.on_close(lambda: closed.append("two"))
    undo()
    server.publish("ups", {})
    until(lambda: len(monitor.events))
    monitor.close()
    monitor.close()
    assert closed == ["one"]
    assert monitor.closed
    assert len(monitor.events) == 1  # the tables stay
    assert list(monitor.connection["what"])[-1] == "closed"
    for call in (
        lambda: monitor.request("rpc", "query"),
        lambda: monitor.run("echo"),
        lambda: monitor.wait_for("finished"),
        lambda: monitor.subscribe(),
        lambda: monitor.sample_pools(60),
        lambda: monitor.add(server),
    ):
        with pytest.raises(Closed, match="connect again"):
            call()


@pytest.mark.parametrize("part", ["monitor", "server"])
def test_a_demo_can_be_closed_in_a_callback(part: str) -> None:
    monitor = sa.demo(history="1h")
    server = monitor.server
    end = monitor.close if part == "monitor" else server.stop
    undo = monitor.on_event(lambda event: end() if event.name == "ups" else None)
    server.publish("ups", {})
    until(lambda: server.closed)
    with elsewhere(scripted()):  # the loop thread lives, and the server on it does not
        until(lambda: not listens(parse_address(server.url).port))
    undo()
    monitor.close()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_monitor_that_nobody_holds_closes_itself(server) -> None:
    monitor = sa.connect(server)
    monitor.sample_pools(60)
    reference, tables = weakref.ref(monitor), monitor.tables
    del monitor
    gc.collect()
    assert reference() is None
    until(lambda: list(tables.connection["what"])[-1] == "closed")
    until(lambda: "nobody connected" in repr(server))


def test_a_job_says_what_became_of_its_monitor(server) -> None:
    job = sa.connect(server).run("sleep 30")
    for call in (job.wait, job.kill):
        with pytest.raises(Closed, match="in no variable closes itself"):
            call()
    with sa.connect(server) as monitor:
        done = monitor.run("true").wait(30)
    assert done.wait() is done
    with pytest.raises(Closed, match="This monitor was closed"):
        monitor.remove(done.server)


def test_close_all(server) -> None:
    monitors = [sa.connect(server, name=str(n)) for n in range(3)]
    sa.close_all()
    sa.close_all()
    assert all(monitor.closed for monitor in monitors)
    assert server.closed


def test_a_dead_server_never_hangs_a_cell() -> None:
    with elsewhere(peer(silent)) as port:
        started = time.monotonic()
        with pytest.raises(ServerSilent):
            sa.connect(f"ws://127.0.0.1:{port}", user="root", password="x", timeout=0.5)
        assert time.monotonic() - started < 10
    with pytest.raises(PortRefused):
        sa.connect(f"ws://127.0.0.1:{port}", user="root", password="x")
    assert not [monitor for monitor in open_monitors if not monitor.closed]


def test_closing_does_not_wait_for_a_server_that_is_stuck() -> None:
    with elsewhere(scripted()) as script:
        monitor = sa.connect(script.url, user="root", password="secret")
        monitor.loop.call(script.peers[0].transport.pause_reading)
        started = time.monotonic()
        monitor.close()
        assert time.monotonic() - started < 10
        with sa.connect(script.url, user="root", password="secret") as again:
            again.loop.run(asyncio.sleep(0))  # the handle of another monitor is not affected


@pytest.mark.parametrize("end", [lambda monitor: monitor.remove("slow"), Monitor.close])
def test_a_server_that_is_removed_while_it_is_being_added_is_gone(server, end) -> None:
    with elsewhere(scripted()) as script, sa.connect(server, name="here") as monitor:
        script.answers["rpc/identify"] = script.SILENCE
        errors = []

        def add() -> None:
            try:
                monitor.add(script.url, name="slow", user="root", password="secret", timeout=30)
            except Closed as error:
                errors.append(str(error))

        adding = threading.Thread(target=add)
        adding.start()
        until(lambda: script.requests)
        end(monitor)
        adding.join(10)
        assert ["slow was removed, or its monitor closed" in error for error in errors] == [True]
        until(lambda: not script.peers)
        assert [state.name for state in monitor.servers] == ["here"]
        if not monitor.closed:
            script.answers["rpc/identify"] = {"hostname": "scripted", "type": "server"}
            monitor.add(script.url, name="slow", user="root", password="secret")


def test_closing_that_is_interrupted_goes_on_by_itself(tmp_path) -> None:
    closed = []
    with elsewhere(scripted()) as script:
        with sa.connect(script.url, user="root", password="secret") as monitor:
            recorder = monitor.record(tmp_path / "nas.sysadm")
            monitor.on_close(lambda: closed.append(True))
            monitor.loop.call(script.peers[0].transport.pause_reading)
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                monitor.close()
        until(lambda: recorder.state == "closed")
        assert closed == [True]
        assert monitor.servers[0].state == "closed"


@pytest.mark.parametrize("collected", [False, True])
def test_a_callback_that_fails_at_closing_leaves_nothing_open(server, tmp_path, caplog, collected) -> None:
    closed = []
    monitor = sa.connect(server)
    recorder = monitor.record(tmp_path / "nas.sysadm")
    monitor.on_close(lambda: 1 / 0)
    monitor.on_close(lambda: closed.append(True))
    if collected:
        del monitor
        gc.collect()
    else:
        with pytest.raises(ZeroDivisionError):
            monitor.close()
    until(lambda: recorder.state == "closed")
    assert closed == [True]
    assert ("ZeroDivisionError" in caplog.text) is collected  # where nobody is there to be told


def test_a_script_that_just_ends_closes_its_connections_without_a_word() -> None:
    with elsewhere(scripted()) as script:
        text = f"""
            import sysadm_nb as sa
            server = sa.serve(sources=[])
            monitor = sa.connect({script.url!r}, user="root", password="secret")
            fleet = sa.connect([server], timeout=5)
            print(monitor.servers[0].state, len(fleet.servers))
        """
        done = subprocess.run(
            [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(text)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "connected 1\n", "")
        until(lambda: not script.peers)


@pytest.mark.parametrize("end", ["pass", "raise SystemExit"], ids=["collected", "held"])
def test_a_script_that_forgets_its_demo_leaves_nothing(end: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = f"""
            import sysadm_nb as sa
            def main():
                monitor = sa.demo(history="1h")
                monitor.record({str(Path(folder, "past.sysadm"))!r})
                {end}
            main()
        """
        done = subprocess.run(
            [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(text)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"TMPDIR": folder},
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert [path.name for path in Path(folder).iterdir()] == ["past.sysadm"]
        past = sa.open_recording(Path(folder, "past.sysadm"))
        assert list(past.connection.what) == ["connected", "subscribed", "closed"]


def test_a_script_that_just_ends_while_a_server_is_stuck_says_no_word_either() -> None:
    with elsewhere(scripted()) as script, sa.connect(script.url, user="root", password="secret") as here:
        text = f"""
            import sysadm_nb as sa
            monitor = sa.connect({script.url!r}, user="root", password="secret")
            input()
        """
        program = subprocess.Popen(
            [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(text)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: len(script.asked("events/subscribe")) == 2, 60)
        here.loop.call(script.peers[1].transport.pause_reading)
        out, error = program.communicate("\n", timeout=60)
        assert (program.returncode, out, error) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_ends_at_once_and_disturbs_nothing() -> None:
    text = """
        import os, sys, time, warnings
        import sysadm_nb as sa
        from sysadm_nb.errors import Closed

        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks beside threads
        server = sa.serve(sources=[])
        monitor = sa.connect(server)
        began = time.monotonic()
        if os.fork() == 0:
            try:
                monitor.request("rpc", "identify")
            except Closed as error:
                print(error, flush=True)
            sys.exit()
        os.wait()
        print(time.monotonic() - began < 20, monitor.request("rpc", "identify")["type"])
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    said = "This belongs to the process that this one was forked from: connect again here."
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{said}\nTrue server\n", "")


def test_wrong_password_and_none(server, monkeypatch) -> None:
    monkeypatch.setattr(loop, "can_ask", lambda: False)
    wrong = "not" + "it"
    with pytest.raises(LoginRefused, match="wrong user name or password"):
        sa.connect(server, user="admin", password=wrong)
    with pytest.raises(PasswordNeeded, match="password="):
        sa.connect(server, user="admin")
    with pytest.raises(InputError, match="pass user="):
        sa.connect(server.url, password="x")
    with pytest.raises(RequestRefused, match="needs a login"):
        sa.connect(server.url)


@pytest.mark.parametrize("span", ["1h", True])
def test_give_up_after_is_checked_before_the_first_loss(server, span) -> None:
    with pytest.raises(InputError, match="such as 3600"):
        sa.connect(server, give_up_after=span)


@pytest.mark.parametrize("timeout", ["5s", -1, float("nan"), True])
def test_a_timeout_that_is_no_number_of_seconds(server, monitor, timeout) -> None:
    job = monitor.run("sleep 60")
    for call in (
        lambda: sa.connect(server, timeout=timeout),
        lambda: monitor.request("rpc", "query", timeout=timeout),
        lambda: monitor.subscribe("dispatcher", timeout=timeout),
        lambda: monitor.unsubscribe("dispatcher", timeout=timeout),
        lambda: monitor.run("true", timeout=timeout),
        lambda: monitor.wait_for("system-state", timeout=timeout),
        lambda: monitor.ask_datasets(timeout=timeout),
        lambda: job.wait(timeout=timeout),
        lambda: job.kill(timeout=timeout),
    ):
        with pytest.raises(InputError, match="no number of seconds, such as 60"):
            call()
    job.kill()


def test_what_is_missing_is_asked_once_where_somebody_can_answer(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(loop, "can_ask", lambda: True)
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt: asked.append(prompt) or "y")
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or "secret")
    tls, fingerprint, _ = self_signed(tmp_path)
    with elsewhere(scripted(ssl=tls)) as script:
        with sa.connect(script.url, user="root") as monitor:
            assert monitor.servers[0].state == "connected"
        assert [fingerprint in asked[0], "Password of root" in asked[1], len(asked)] == [True, True, 2]
        assert certificates.pinned(parse_address(script.url)) == fingerprint
        certificates.forget(parse_address(script.url))
        monkeypatch.setattr("builtins.input", lambda prompt: "no")
        before = len(script.requests)
        with pytest.raises(CertificateUnknown, match="fingerprint="):
            sa.connect(script.url, user="root", password="secret")
        assert len(script.requests) == before


def test_a_server_of_this_process_with_tls_is_trusted_by_what_it_tells(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with sa.serve(sources=[], tls=True, folder=tmp_path / "server") as server:
        assert server.url.startswith("wss://")
        with sa.connect(server) as monitor:
            assert monitor.servers[0].state == "connected"
        assert certificates.pinned(parse_address(server.url)) is None
        monkeypatch.setattr(type(server), "fingerprint", "00" * 32)
        with pytest.raises(CertificateChanged):
            sa.connect(server)


@pytest.mark.parametrize("tls", [False, True])
def test_the_async_face_takes_what_serve_returned(tls, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    async def use(server: sa.Server) -> str:
        async with sa.client.open_connection(server, subscribe="life-preserver") as connection:
            server.publish("life-preserver", {"message": "New snapshot of tank/home"})
            async with asyncio.timeout(10):
                return (await anext(aiter(connection))).args["message"]

    with sa.serve(sources=[], tls=tls) as server:
        assert asyncio.run(use(server)) == "New snapshot of tank/home"
        assert certificates.pinned(parse_address(server.url)) is None


def test_since_fetches_what_was_before() -> None:
    with sa.serve(sources=[]) as server:
        server.publish("life-preserver", SNAPSHOT)
        server.publish("dispatcher", {"process_id": "early", "state": "running"})
        with sa.connect(server, since="1h") as monitor:
            until(lambda: "backfilled" in list(monitor.connection["what"]))
            rows = monitor.events[monitor.events["origin"] == "backfill"]
            assert sorted(rows["event"]) == ["dispatcher", "life-preserver"]
            assert "gap" not in list(monitor.connection["what"])


def test_a_recording_as_memory(tmp_path) -> None:
    path = tmp_path / "nas.sysadm"
    with sa.serve(sources=[]) as server:
        with sa.connect(server, name="nas", record=path) as monitor:
            server.publish("ups", {"n": 1})
            until(lambda: len(monitor.events) == 1)
        server.publish("life-preserver", SNAPSHOT)  # while the kernel restarts
        with sa.connect(server, name="nas", record=path) as monitor:
            until(lambda: "backfilled" in list(monitor.connection["what"]))
            counted = monitor.events[monitor.events["origin"] != "last"]
            assert list(zip(counted["event"], counted["origin"], strict=True)) == [
                ("ups", "file"),
                ("life-preserver", "backfill"),
            ]
            assert "gap" in list(monitor.connection["what"])


def test_many_servers_and_one_that_is_dead() -> None:
    with sa.serve(sources=[]) as one, sa.serve(sources=[]) as two, elsewhere(peer(silent)) as port:
        fleet = sa.connect({"one": one, "two": two, "dead": f"ws://127.0.0.1:{port}"}, timeout=1)
        with fleet:
            states = {server.name: server.state for server in fleet.servers}
            assert states == {"one": "connected", "two": "connected", "dead": "waiting"}
            assert "3 servers: 2 connected, 1 waiting" in repr(fleet)
            one.publish("ups", {})
            two.publish("ups", {})
            until(lambda: len(fleet.events) == 2)
            assert sorted(fleet.events["server"]) == ["one", "two"]
            with pytest.raises(InputError, match="Say which server"):
                fleet.request("rpc", "query")
            assert fleet.request("rpc", "query", server="two")
            with pytest.raises(ConnectionLost, match="dead"):
                fleet.request("rpc", "query", server="dead")
            fleet.remove("dead")
            fleet.add(one, name="again")
            assert [server.name for server in fleet.servers] == ["one", "two", "again"]
            with pytest.raises(InputError, match="already"):
                fleet.add(two, name="two")
            assert [server.state for server in fleet.servers] == ["connected"] * 3
            two.stop()
            until(lambda: fleet.servers[1].state == "waiting")
            assert fleet.servers[0].state == "connected"


def test_many_servers_are_subscribed_alike_also_by_a_generator() -> None:
    with elsewhere(scripted()) as script:
        servers = {"one": script.url, "two": script.url}
        classes = (name for name in ("dispatcher", "system-state"))
        with sa.connect(servers, user="root", password="secret", subscribe=classes):
            assert script.asked("events/subscribe") == [["dispatcher", "system-state"]] * 2


def test_of_many_servers_none_is_added_where_a_name_is_taken() -> None:
    with sa.serve(sources=[]) as one, sa.serve(sources=[]) as two, sa.connect({"one": one}) as fleet:
        with pytest.raises(InputError, match="called 'one' already"):
            fleet.add({"two": two, "one": one})
        assert [server.name for server in fleet.servers] == ["one"]
        fleet.add({"two": two})
        assert [server.state for server in fleet.servers] == ["connected"] * 2


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_large_fleet(count: int) -> None:
    with elsewhere(scripted()) as script:
        started = time.monotonic()
        fleet = sa.connect(
            {f"nas{n}": script.url for n in range(count)}, user="root", password="secret", timeout=30
        )
        with fleet:
            took = time.monotonic() - started
            until(lambda: {server.state for server in fleet.servers} == {"connected"}, 120)
            print(f"{count} servers connected, the call took {took:.1f} s")
            handle = fleet.loop
            handle.run(script.publish("system-state", {"hostname": "h", "zpools": {"tank": {"size": "1T"}}}))
            until(lambda: fleet.tables.count("events") == count, 60)
            assert fleet.events["server"].nunique() == count


@pytest.mark.parametrize("target", [3, None, object(), ["nas", 3], {"nas": None}])
def test_targets_that_are_none(target) -> None:
    with pytest.raises(InputError, match="URL such as"):
        sa.connect(target)


def test_repr_says_how_it_stands_and_html_is_escaped(server) -> None:
    with sa.connect(server, name="<b>nas</b>") as monitor:
        assert repr(monitor) == (
            "<Monitor <b>nas</b> connected; 0 events, 0 jobs, 0 pools; .events .jobs .pools .dashboard() "
            ".close()>"
        )
        page = monitor._repr_html_()
        assert "&lt;b&gt;nas&lt;/b&gt;" in page
        assert "<b>nas</b>" not in page
        job = monitor.run("echo '<img src=x onerror=alert(1)>'")
        job.wait(30)
        assert "<img" not in job._repr_html_()
        assert "&lt;img" in job._repr_html_()
    assert repr(monitor).startswith("<Monitor closed; ")


class FakeShell:
    """IPython as far as re-run cells are concerned: the history holds results."""

    def __init__(self) -> None:
        self.user_ns: dict[str, object] = {"_oh": {}}
        self.displayhook = type("DisplayHook", (), {})()
        self.last_execution_result = None
        self.after: list = []
        self.events = type("Events", (), {"register": lambda _, name, call: self.after.append(call)})()

    def run(self, number: int, value: object, name: str | None) -> None:
        if name is not None:
            self.user_ns[name] = value
        else:
            self.user_ns["_oh"][number] = value  # type: ignore[index]
            self.user_ns[f"_{number}"] = self.user_ns["_"] = self.displayhook._ = value
        for call in self.after:
            call(None)


@pytest.mark.parametrize("name", [None, "monitor"])
def test_fifty_re_runs_of_the_connecting_cell_leave_one_connection(server, monkeypatch, name) -> None:
    shell = FakeShell()
    monkeypatch.setattr(loop, "ipython", lambda: shell)
    monkeypatch.setattr(connecting, "_watched", set())
    for number in range(50):
        shell.run(number, sa.connect(server), name)
    until(lambda: "1 client" in repr(server))
    assert len([monitor for monitor in open_monitors if not monitor.closed]) == 1
    newest = shell.user_ns["_"] if name is None else shell.user_ns[name]
    assert newest.servers[0].state == "connected"
    newest.close()


def test_a_monitor_that_somebody_holds_stays(server, monkeypatch) -> None:
    shell = FakeShell()
    monkeypatch.setattr(loop, "ipython", lambda: shell)
    monkeypatch.setattr(connecting, "_watched", set())
    held = [sa.connect(server)]
    shell.run(1, sa.connect(server), "mine")
    shell.run(2, sa.connect(server), "yours")
    assert [held[0].closed, shell.user_ns["mine"].closed, shell.user_ns["yours"].closed] == [False] * 3
    sa.close_all()


@pytest.mark.parametrize("seconds", [2.0, pytest.param(60.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["sleep", "compute"])
def test_a_busy_cell_loses_nothing(seconds: float, how: str) -> None:
    """The kernel's thread sleeps or computes; the server is another process's as far as it can tell."""
    login = {"user": "root", "password": "secret"}
    with elsewhere(scripted()) as script, sa.connect(script.url, **login) as monitor:
        published = 0

        async def publish() -> None:
            nonlocal published
            while True:
                await script.publish("dispatcher", {"process_id": str(published), "state": "running"})
                published += 1
                await asyncio.sleep(0.01)

        publishing = monitor.loop.start(publish())
        end = time.monotonic() + seconds
        if how == "sleep":
            time.sleep(seconds)
        while time.monotonic() < end:
            sum(range(1000))
        publishing.cancel()
        time.sleep(0.2)
        assert published > 10
        until(lambda: monitor.tables.count("events") >= published)
        assert list(monitor.connection["what"]) == ["connected", "subscribed"]


def signature(function, without: set[str]) -> list[tuple[str, object, object]]:
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters if p.name not in without]


@pytest.mark.parametrize("name", ["request", "subscribe", "unsubscribe"])
def test_sync_and_async_faces_have_the_same_signatures(name: str) -> None:
    from sysadm_nb.client import Connection
    from sysadm_nb.client.fleet import Fleet

    of_many = {"server"}
    assert signature(getattr(Monitor, name), of_many) == signature(getattr(Connection, name), set())
    assert signature(getattr(Monitor, name), set()) == signature(getattr(Fleet, name), set())


def test_connect_and_open_connection_have_the_same_signatures() -> None:
    from sysadm_nb.client import open_connection

    more = {"subscribe", "since", "give_up_after", "record", "tables"}
    assert signature(sa.connect, more) == signature(open_connection, more)


def test_the_exported_names() -> None:
    assert sorted(sa.__all__) == [
        "AlertLab",
        "AlertsView",
        "Connection",
        "EventsView",
        "JobsView",
        "Monitor",
        "PoolsView",
        "Server",
        "SysadmError",
        "Tables",
        "alerts",
        "client",
        "close_all",
        "connect",
        "demo",
        "errors",
        "nest",
        "open_recording",
        "recording",
        "register_key",
        "replay",
        "serve",
        "server",
        "tables",
        "trends",
        "widgets",
        "wire",
    ]
    assert set(dir(sa)) >= set(sa.__all__)
    with pytest.raises(AttributeError, match="no attribute 'konnect'"):
        sa.konnect  # noqa: B018
