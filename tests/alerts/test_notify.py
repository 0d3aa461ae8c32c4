"""Telling people: who hangs, raises or floods disturbs nobody; one message at firing, one at the end."""

from __future__ import annotations

import asyncio
import email
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import sysadm_nb as sa
from sysadm_nb.alerts import Rules, arm, notify, recorded_incidents
from sysadm_nb.alerts.incidents import Incident
from sysadm_nb.alerts.notify import News, compose
from sysadm_nb.errors import InputError, RuleError
from sysadm_nb.wire import encode_event


def until(true: Callable[[], Any], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


class Machine:
    """Tables that a test fills, now."""

    def __init__(self) -> None:
        self.tables = sa.Tables()

    def sample(self, **pools: float) -> None:
        now = time.time_ns() // 1000
        zpools = {p: {"capacity": f"{used}%", "health": "ONLINE"} for p, used in pools.items()}
        event = encode_event("system-state", {"hostname": "nas", "zpools": zpools}, now)
        self.tables.append(event, server="nas", received=now)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def rules() -> Rules:
    made = Rules()
    made.add("full", table="pools", when="capacity_pct > 80", message="{pool} {value:.0f}", reason="because")
    return made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "RETRY_S", (0.05, 0.1, 0.2))
    monkeypatch.setattr(notify, "GROUP_S", 0.1)


def test_one_message_at_firing_and_one_at_the_end(machine, rules):
    got: list[Any] = []
    with arm(machine.tables, rules, got.append) as armed:
        assert armed.caught_up()
        machine.sample(tank=85)
        until(lambda: len(got) == 1)
        machine.sample(tank=86)
        machine.sample(tank=70)
        until(lambda: len(got) == 2)
        assert armed.drain()
    assert [g.title for g in got] == ["WARNING full: nas tank", "RESOLVED full: nas tank"]
    assert got[0].body.splitlines()[0] == "tank 85" and got[0].body.endswith("because")
    assert got[1].news[0].incident.peak == 86
    assert json.loads(json.dumps(got[1].to_json()))["news"][0]["keys"] == {"server": "nas", "pool": "tank"}


def test_many_at_once_become_one_message(machine, rules):
    got: list[Any] = []
    with arm(machine.tables, rules, got.append) as armed:
        assert armed.caught_up()
        machine.sample(**{f"p{i}": 85 for i in range(30)})
        until(lambda: got)
        assert armed.drain()
    (one,) = got
    assert one.title == "30 alerts: 30 fired"
    assert len(one.news) == 30 and one.body.endswith("and 10 more")


def test_what_fires_already_is_told_once_at_arming(machine, rules):
    machine.sample(tank=85)
    machine.sample(tank=70)
    machine.sample(tank=85, dozer=90)
    got: list[Any] = []
    with arm(machine.tables, rules, got.append) as armed:
        assert armed.caught_up()
        until(lambda: got)
        assert armed.drain()
        assert len(armed.incidents) == 3
        assert sorted(n.incident.keys["pool"] for n in got[0].news) == ["dozer", "tank"]
        time.sleep(0.6)
    assert len(got) == 1


def test_one_that_hangs_raises_or_is_slow_disturbs_nobody(machine, rules, monkeypatch):
    """The quiet one gets its messages, rows are judged, and the loop thread stays free."""
    monkeypatch.setattr(notify, "TIMEOUT_S", 0.5)
    never, got, tries = threading.Event(), [], []
    handle = sa.loop.acquire()

    def hangs(message: Any) -> None:
        never.wait()

    def raises(message: Any) -> None:
        tries.append(message)
        raise ValueError("https://hooks.example/secret-token is down")

    async def stops_its_loop(message: Any) -> None:
        never.wait(3)

    try:
        with arm(machine.tables, rules, [hangs, raises, stops_its_loop, got.append]) as armed:
            assert armed.caught_up()
            slowest = 0.0
            for number in range(6):
                machine.sample(tank=85 if number % 2 == 0 else 70)
                begun = time.monotonic()
                handle.run(asyncio.sleep(0), 10)
                slowest = max(slowest, time.monotonic() - begun)
                time.sleep(0.5)
            until(lambda: sum(len(g.news) for g in got) == 6)
            assert slowest < 1.0
            until(lambda: len(tries) >= 4)  # the first message, four times
            hanging, raising, *_ = armed.notifiers
            until(lambda: hanging.failed and raising.failed)
            assert "secret-token" not in raising.error and "https://…" in raising.error
            assert "secret-token" not in repr(armed) + repr(raising)
            threads = [t for t in threading.enumerate() if t.name.endswith("work")]
            assert len(threads) <= 3, "a thread for each call that hangs"
    finally:
        never.set()
        handle.release()


def test_a_flood_is_paced_and_nothing_is_lost(machine, rules, monkeypatch):
    monkeypatch.setattr(notify, "GROUP_S", 0.0)
    monkeypatch.setattr(notify, "PACE_S", 0.3)
    monkeypatch.setattr(notify, "BURST", 3)
    got: list[Any] = []
    with arm(machine.tables, rules, got.append) as armed:
        assert armed.caught_up()
        for number in range(300):
            machine.sample(tank=85 if number % 2 == 0 else 70)
            time.sleep(0.01)
        until(lambda: sum(len(g.news) for g in got) == 300)
        assert armed.drain()
    assert len(got) < 40
    assert sum(n.what == "resolved" for g in got for n in g.news) == 150


def test_a_notifier_that_recovers(machine, rules):
    got: list[Any] = []

    def flaky(message: Any) -> None:
        got.append(message)
        if len(got) < 3:
            raise ConnectionError("down")

    with arm(machine.tables, rules, flaky) as armed:
        assert armed.caught_up()
        machine.sample(tank=85)
        until(lambda: armed.notifiers[0].sent == 1)
        assert armed.notifiers[0].failed == 0 and armed.notifiers[0].error == ""
    assert len(got) == 3


def test_silence_acknowledge_and_reminders(machine, rules):
    got: list[Any] = []
    with arm(machine.tables, rules, got.append, remind=0.5) as armed:
        assert armed.caught_up()
        armed.silence("1s", rule="full", pool="tank")
        machine.sample(tank=85, dozer=90)
        until(lambda: got)
        assert [n.incident.keys["pool"] for g in got for n in g.news if n.what == "fired"] == ["dozer"]
        assert armed.active["silenced_until"].notna().sum() == 1
        # the silence is over, it still fires: now it is told
        until(lambda: sum(n.what == "fired" for g in got for n in g.news) == 2)
        until(lambda: any(n.what == "reminder" for g in got for n in g.news))
        assert armed.acknowledge() == 2
        assert armed.active["acknowledged"].all()
        time.sleep(0.5)
        before = len(got)
        time.sleep(1.2)
        assert len(got) == before
        machine.sample(tank=70, dozer=70)
        until(lambda: any(n.what == "resolved" for g in got for n in g.news))
        with pytest.raises(InputError, match="one of them"):
            armed.silence()
        with pytest.raises(RuleError, match="no rule 'ful'; did you mean 'full'"):
            armed.silence("1h", rule="ful")
        with pytest.raises(InputError, match="no key 'pol'; did you mean 'pool'"):
            armed.silence("1h", pol="tank")
        armed.silence("1h", rule="full", pool="not seen yet")


def test_disarming_is_immediate(machine, rules):
    got: list[Any] = []
    armed = arm(machine.tables, rules, got.append)
    assert armed.caught_up()
    machine.sample(tank=85)
    armed.disarm()
    armed.disarm()
    time.sleep(0.6)
    assert got == []
    assert "disarmed" in repr(armed)


def test_a_function_rule_that_breaks_stops_alone(machine, rules):
    def fragile(rows: Any) -> Any:
        if (rows["capacity_pct"] > 99).any():
            raise ZeroDivisionError("oh")
        return rows["capacity_pct"] > 50

    rules.add("fragile", table="pools", when=fragile)
    got: list[Any] = []
    with arm(machine.tables, rules, got.append) as armed:
        assert armed.caught_up()
        machine.sample(tank=100)
        until(lambda: got)
        until(lambda: armed.error)
        assert "fragile" in armed.error and "ZeroDivisionError: oh" in armed.error
        machine.sample(tank=70)
        until(lambda: len(got) == 2)


def test_a_refused_function_rule_stops_alone(machine, rules):
    rules.add("above the others", table="pools", when=lambda rows: rows["capacity_pct"].rank() > 1)
    got: list[Any] = []
    with arm(machine.tables, rules, got.append) as armed:
        assert armed.caught_up()
        machine.sample(tank=85, dozer=70)
        until(lambda: got)
        machine.sample(tank=70, dozer=70)
        until(lambda: len(got) == 2)
        assert "'above the others'" in armed.error and "differently alone" in armed.error


def test_a_mistake_of_ours_is_not_forgotten(machine, rules, monkeypatch):
    with arm(machine.tables, rules) as armed:
        assert armed.caught_up()
        feed = armed._evaluator.feed
        monkeypatch.setattr(armed._evaluator, "feed", lambda frames: feed(1 / 0))
        machine.sample(tank=85)
        until(lambda: armed.error)
        monkeypatch.undo()
        machine.sample(tank=86)
        until(lambda: len(armed.firing()))
        assert "ZeroDivisionError" in armed.error and "ZeroDivisionError" in repr(armed)


@pytest.fixture
def receiver() -> Iterator[Any]:
    bodies: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        server.bodies = bodies  # type: ignore[attr-defined]
        yield server
        server.shutdown()
        thread.join(10)


@pytest.mark.leaves("apprise keeps threads and connections of its own")
@pytest.mark.filterwarnings("ignore")
def test_apprise(machine, rules, receiver):
    pytest.importorskip("apprise")
    url = f"json://user:top-secret@127.0.0.1:{receiver.server_port}/hook"
    with arm(machine.tables, rules, url) as armed:
        assert armed.caught_up()
        machine.sample(tank=85)
        until(lambda: len(receiver.bodies) == 1)
        machine.sample(tank=70)
        until(lambda: len(receiver.bodies) == 2)
        assert "top-secret" not in repr(armed) + repr(armed.notifiers)
    assert [b["type"] for b in receiver.bodies] == ["warning", "success"]
    assert receiver.bodies[0]["title"] == "WARNING full: nas tank"
    with pytest.raises(InputError, match="does not understand this nosuch:// URL") as error:
        arm(machine.tables, rules, "nosuch://token@host")
    assert "token" not in str(error.value)
    with pytest.raises(InputError, match="takes functions and Apprise URLs"):
        arm(machine.tables, rules, "somebody")


def test_text_from_a_server_is_sent_as_text(monkeypatch):
    """A mail is HTML unless its sender says otherwise: a pool's name must not become a picture or a link."""
    pytest.importorskip("apprise")
    sent: list[str] = []

    class Smtp:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def __getattr__(self, name: str) -> Any:
            return lambda *given, **_: sent.append(given[2]) if name == "sendmail" else (250, b"ok")

    monkeypatch.setattr("smtplib.SMTP", Smtp)
    monkeypatch.setattr("smtplib.SMTP_SSL", Smtp)
    _, tell = notify._teller("mailto://user:x@example.org?to=me@example.org")
    evil = 'pool <img src=http://evil/x> <a href="http://evil">click</a>'
    tell(compose([News("fired", Incident("r", {"pool": "p"}, 0, 0, "warning", evil))]))
    (mail,) = (email.message_from_string(body) for body in sent)
    parts = [part for part in mail.walk() if not part.is_multipart()]
    assert [part.get_content_type() for part in parts] == ["text/plain"]
    assert evil in parts[0].get_payload(decode=True).decode()


def test_news_of_a_key_is_told_in_its_order():
    def news(what: Any, pool: str) -> News:
        return News(what, Incident("full", {"pool": pool}, 0, 0, "warning", ""))

    def told(*came: News) -> list[Any]:
        return [[(n.what, n.incident.keys["pool"]) for n in part] for part in notify.in_messages(came)]

    over_and_again = news("resolved", "b"), news("fired", "b")
    short = news("fired", "a"), news("resolved", "a")
    assert told(short[0], *over_and_again, short[1]) == [
        [("fired", "a")],
        [("resolved", "b"), ("resolved", "a")],
        [("fired", "b")],
    ]
    flapping = told(*short * 50, short[0])
    assert [len(part) for part in flapping] == [50, 50, 1]
    assert told(*short * 50)[-1] == [("resolved", "a")] * 50


def test_what_fires_again_after_an_outage_is_said_last():
    """The end of the old incident and the beginning of the new come in one batch, with the first sample."""
    tables, got = sa.Tables(), []
    rules = Rules()
    rules.add("full", table="pools", when="capacity_pct > 80", max_gap="45min")

    def sample(hour: int) -> None:
        zpools = {"tank": {"capacity": "95%", "health": "ONLINE"}}
        moment = 1_767_225_600_000_000 + hour * 3_600_000_000
        event = encode_event("system-state", {"hostname": "nas", "zpools": zpools}, moment)
        tables.append(event, server="nas")

    with arm(tables, rules, got.append) as armed:
        assert armed.caught_up()
        sample(0)
        until(lambda: len(got) == 1)
        sample(2)
        until(lambda: len(got) == 3)
    assert [n.title.split(" full")[0] for n in got] == ["WARNING", "NO DATA", "WARNING"]


def test_messages_carry_no_control_characters():
    incident = Incident("r\x1b[31m", {"pool": "a\nb"}, 0, 0, "warning", "\x1b]0;x\x07evil\u202e")
    message = compose([News("fired", incident)])
    assert not set(message.title + message.body.replace("\n", "")) & {"\x1b", "\x07", "\r"}


def test_incidents_are_kept_in_the_recording_and_told_once_over_a_restart(tmp_path, rules):
    """A kernel restarts while a pool is full: the same incident is not told again, its end is."""
    path, got = tmp_path / "kept.sysadm", []
    with sa.serve(sources=[], users={"admin": "x"}) as server:

        def state(used: int) -> None:
            server.publish("system-state", {"hostname": "h", "zpools": {"tank": {"capacity": f"{used}%"}}})

        def watch() -> Any:
            return sa.connect(server, user="admin", password="x", name="nas", record=path)

        with watch() as monitor:
            armed = monitor.arm(rules, notify=got.append)
            assert armed.caught_up()
            state(85)
            until(lambda: len(got) == 1)
        assert not armed.armed, "closing the monitor disarms"
        with watch() as monitor:
            armed = monitor.arm(rules, notify=got.append)
            assert armed.caught_up()
            until(lambda: len(armed.firing()) == 1)
            time.sleep(0.6)
            assert len(got) == 1
            state(70)
            until(lambda: len(got) == 2)
            until(lambda: len(armed.incidents.dropna(subset=["resolved"])) == 1)
            found = armed.incidents
    assert [g.news[0].what for g in got] == ["fired", "resolved"]
    with sa.open_recording(path) as past:
        kept = recorded_incidents(past)
        assert kept.equals(found)
        assert past.records("incident")["what"].tolist() == ["fired", "resolved"]
