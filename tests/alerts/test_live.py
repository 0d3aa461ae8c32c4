"""From frames to incidents: tables, a replay at speed, the program ``sysadm-nb watch``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sysadm_nb as sa
from sysadm_nb.alerts import Evaluator, Rules, absent, arm
from sysadm_nb.alerts.backtest import history, moment_us
from sysadm_nb.alerts.feeding import Feed
from sysadm_nb.cli import main
from sysadm_nb.errors import InputError
from sysadm_nb.recording.writer import Frame, Writer
from sysadm_nb.wire import encode_event
from tests.alerts.histories import MINUTE, START, risen


def every_rule() -> Rules:
    rules = Rules()
    rules.add("full", table="pools", when="capacity_pct > 80", for_="30min", until="capacity_pct < 75")
    rules.add("sick", table="pools", when="health != 'ONLINE'", keep_for="20min", by=["pool"])
    rules.add("risen", table="pools", when=risen, window="1h")
    rules.add("jump", table="pools", when="change(capacity_pct) > 5", window="2h")
    rules.add("gone", absent("pools", after="40min"))
    rules.add("stuck", table="jobs", when="state == 'running'", for_="45min")
    rules.add("failed", table="jobs", when="state == 'finished' and failed", stands="30min")
    rules.add("replication", table="life_preserver", when="action == 'failed'", until="action == 'finished'")
    rules.add("urgent", table="events", when="priority >= 6", by=["server", "event"], stands="1h")
    return rules


@st.composite
def frames(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Frames as a server sends them, each with its time."""
    out, time = [], START
    for _ in range(draw(st.integers(5, 40))):
        time += draw(st.sampled_from([1, 5, 15, 15, 15, 40, 41, 90])) * MINUTE
        kind = draw(st.sampled_from(["state", "state", "state", "job", "backup"]))
        if kind == "state":
            zpools = {
                pool: {
                    "capacity": f"{draw(st.sampled_from([70, 74, 78, 81, 91]))}%",
                    "health": draw(st.sampled_from(["ONLINE", "ONLINE", "DEGRADED"])),
                }
                for pool in draw(st.sampled_from([["tank"], ["tank", "dozer"]]))
            }
            priority = draw(st.sampled_from(["0 - Information", "6 - Critical"]))
            args: dict[str, Any] = {"hostname": "nas", "priority": priority, "zpools": zpools}
            out.append((encode_event("system-state", args, time), time))
        elif kind == "job":
            id_ = draw(st.sampled_from(["a", "b"]))
            state = draw(st.sampled_from(["pending", "running", "finished"]))
            args = {"process_id": id_, "state": state}
            if state == "finished":
                args |= {"cmd_list": ["x"], "x": "log", "return_codes/x": draw(st.sampled_from(["0", "1"]))}
            out.append((encode_event("dispatcher", args, time), time))
        else:
            text = draw(st.sampled_from(["Finished replication for tank", "Replication Failed for tank"]))
            message = f"Thu Jan 01 07:21:12 UTC 2026: {text}"
            args = {"class": "replication", "message": message, "priority": "0 - Information"}
            out.append((encode_event("life-preserver", args, time), time))
    return out


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["fired", "rule", "message"], kind="stable").reset_index(drop=True)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(sent=frames(), cuts=st.sets(st.integers(1, 40), max_size=6))
def test_live_rows_of_tables_and_their_past(sent, cuts):
    """Frames come into tables and a feed reads what is new; a backtest of the tables says the same."""
    rules, tables = every_rule(), sa.Tables()
    evaluator = Evaluator(rules)
    feed = Feed(tables, evaluator.tables)
    for number, (text, time_) in enumerate(sent):
        tables.append(text, server="nas", received=time_)
        if number in cuts:
            evaluator.feed(feed.with_jobs(feed.take()))
            evaluator = Evaluator(rules, json.loads(json.dumps(evaluator.state())))
    evaluator.feed(feed.with_jobs(feed.take()))
    evaluator.tick(sent[-1][1])
    pd.testing.assert_frame_equal(evaluator.table(), rules.backtest(tables))


def test_rules_see_the_same_of_a_long_log_live_and_in_the_past():
    """Head and tail of it, with the cut marked: each change of a job carries its whole log so far."""
    lines = "".join(f"file {number} ok\n" for number in range(15_000))
    log = f"begun\n{lines}CHECKSUM ERROR\n{lines}done\n"
    rules, tables = Rules(), sa.Tables()
    for word in ("begun", "CHECKSUM ERROR", "done"):
        rules.add(word, table="jobs", when=f"contains(log, '{word}')")
    evaluator = Evaluator(rules)
    feed = Feed(tables, evaluator.tables)
    args = {"process_id": "a", "state": "finished", "cmd_list": ["x"], "x": log, "return_codes/x": "0"}
    tables.append(encode_event("dispatcher", args, START), server="nas", received=START)
    evaluator.feed(feed.with_jobs(feed.take()))
    assert evaluator.table()["rule"].tolist() == ["begun", "done"]
    pd.testing.assert_frame_equal(evaluator.table(), rules.backtest(tables))


def test_changes_of_jobs_carry_logs_only_for_rules_that_read_them():
    rules, tables = Rules(), sa.Tables()
    rules.add("stuck", table="jobs", when="state == 'finished'")
    with_log = Rules()
    with_log.add("stuck", table="jobs", when="state == 'finished'", message="{log}")
    by_log = Rules()
    by_log.add("stuck", table="jobs", when="state == 'finished'", by=["server", "log"])
    args = {"process_id": "a", "state": "finished", "cmd_list": ["x"], "x": "text", "return_codes/x": "0"}
    tables.append(encode_event("dispatcher", args, START), server="nas", received=START)
    # the lab asks without rules, and looks at no log
    for some, log in ((Rules(), None), (rules, None), (with_log, "text"), (by_log, "text")):
        frames = history(["jobs"], tables, rules=some)
        assert frames["jobs"]["log"].astype(object).replace({float("nan"): None}).tolist() == [log]
    assert with_log.backtest(tables)["message"].tolist() == ["text"]


def write(path: Path, sent: list[tuple[str, int]], server: str = "nas") -> Path:
    writer = Writer(path)
    writer.write([Frame(text, time_, server, "live") for text, time_ in sent])
    writer.close()
    return path


@settings(max_examples=4, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(sent=frames())
def test_through_a_replay_at_speed(tmp_path_factory, sent):
    """A recording, played as fast as it goes to a monitor with armed rules: the same incidents."""
    rules = every_rule()
    path = write(tmp_path_factory.mktemp("replay") / "r.sysadm", sent)
    with sa.open_recording(path) as past:
        expected = rules.backtest(past)
    with sa.replay(path, speed=float("inf")) as server, sa.connect(server, name="nas") as monitor:
        armed = monitor.arm(rules)
        deadline = time.monotonic() + 30
        while monitor.tables.count("events") < len(sent) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert armed.drain(30)
        assert armed.error == ""
        with armed._lock:
            armed._evaluator.tick(sent[-1][1])
            found = armed.incidents
        armed.disarm()
    # how long one that fires has lasted by now depends on how far the clock has come, not on the batches
    pd.testing.assert_frame_equal(comparable(found), comparable(expected))


NIGHT = [70] * 10 + [86] * 8 + [70] * 10


@pytest.fixture
def night(tmp_path: Path) -> Path:
    sent = []
    for number, used in enumerate(NIGHT):
        time_ = START + number * 15 * MINUTE
        zpools = {"tank": {"capacity": f"{used}%", "health": "ONLINE"}}
        sent.append((encode_event("system-state", {"hostname": "nas", "zpools": zpools}, time_), time_))
    return write(tmp_path / "night.sysadm", sent)


def program(*arguments: str, cwd: Path, first: str = "", **environment: str) -> subprocess.Popen[str]:
    root = Path(sa.__file__).parents[1]
    code = f"{first}\nimport sys; from sysadm_nb.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=60)[0]
    finally:
        process.kill()


def make_rules(folder: Path) -> Path:
    rules = Rules()
    rules.add(
        "full", table="pools", when="capacity_pct > 80", for_="30min", message="{pool} {capacity_pct:.0f}"
    )
    rules.add("risen", table="pools", when=risen, window="1h", message="{pool} rises")
    rules.save(folder / "rules.toml")
    (folder / "mine.py").write_text(
        "def risen(rows):\n    used = rows['capacity_pct']\n    return bool(used.iloc[-1] - used.min() > 5)\n"
    )
    return folder / "rules.toml"


def test_a_dry_run_over_a_recording(tmp_path, night):
    make_rules(tmp_path)
    process = program("watch", "rules.toml", "--functions", "mine.py", "--dry-run", str(night), cwd=tmp_path)
    said = finished(process)
    assert process.returncode == 0, said
    # over 80 % from sample 10 to 17; the rise is in the window until the last row at 70 % is an hour old
    assert said.splitlines() == [
        "2026-01-01T02:30:00Z warning risen: tank rises (for 0 days 00:45:00)",
        "2026-01-01T03:00:00Z warning full: tank 86 (for 0 days 01:30:00)",
        "2 incidents, 0 still firing at the end",
    ]
    without = program("watch", "rules.toml", "--dry-run", str(night), cwd=tmp_path)
    assert "name the Python file that has it" in finished(without)
    assert without.returncode != 0


def test_a_file_with_an_attack_runs_nothing(tmp_path, night):
    rules = make_rules(tmp_path)
    rules.write_text(
        rules.read_text().replace("capacity_pct > 80", "pool.to_csv('stolen') == capacity_pct or True")
    )
    process = program("watch", "rules.toml", "--functions", "mine.py", "--dry-run", str(night), cwd=tmp_path)
    assert "cannot be called in an expression" in finished(process)
    assert process.returncode != 0
    assert not (tmp_path / "stolen").exists()


def test_watching_a_server_until_sigterm(tmp_path):
    make_rules(tmp_path)
    with sa.serve(sources=[], users={"admin": "x"}, host="127.0.0.1", tls=False) as server:

        def sample(used: int) -> None:
            zpools = {"tank": {"capacity": f"{used}%", "health": "ONLINE"}}
            server.publish("system-state", {"hostname": "h", "zpools": zpools})

        arguments = ["watch", "rules.toml", "--functions", "mine.py", "--server", f"nas={server.url}"]
        arguments += ["--user", "admin", "--state", "state.json", "--record", "kept.sysadm"]
        process = program(*arguments, cwd=tmp_path, SYSADM_NB_PASSWORD="x")
        try:
            lines = []
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.strip())
                if line.startswith("nas: connected"):
                    time.sleep(1)
                    sample(70)
                    time.sleep(0.5)
                    sample(90)
                if "fired warning risen: tank rises" in line:
                    break
            process.send_signal(signal.SIGTERM)
            rest = process.communicate(timeout=60)[0]
        finally:
            process.kill()
    assert process.returncode == 0, [*lines, rest]
    assert rest.strip().endswith("stopped")
    state = json.loads((tmp_path / "state.json").read_text())
    (incident,) = state["incidents"]
    assert incident["rule"] == "risen" and incident["resolved"] is None
    with sa.open_recording(tmp_path / "kept.sysadm") as past:
        assert past.records("incident")["rule"].tolist() == ["risen"]


def test_a_state_that_cannot_be_written_for_a_while_stops_nothing(tmp_path):
    rules = Rules()
    rules.add("full", table="pools", when="capacity_pct > 80")
    rules.save(tmp_path / "rules.toml")
    folder = tmp_path / "away"
    arguments = ["rules.toml", "--server", "nas=ws://127.0.0.1:1", "--user", "admin"]
    arguments += ["--state", "away/s.json"]
    often = "import sysadm_nb.alerts._cli as c; c.SAVE_EVERY_S = 0.1"
    process = program("watch", *arguments, cwd=tmp_path, first=often, SYSADM_NB_PASSWORD="x")
    said = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("away/s.json:"):
                said.append(line.strip().removeprefix("away/s.json: the state is "))
                if len(said) == 1:
                    time.sleep(1)  # it is tried again meanwhile, and said once
                    folder.mkdir()
                elif len(said) == 2:
                    assert json.loads((folder / "s.json").read_text())["incidents"] == []
                    folder.rename(tmp_path / "elsewhere")
                else:
                    break
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    lost = "not saved: No such file or directory"
    assert said == [lost, "saved again", lost]
    assert rest.strip().endswith("stopped") and process.returncode == 1


@pytest.mark.parametrize(("remind", "says"), [("3600", "with the unit"), ("30s", "more than once a minute")])
def test_reminders_that_would_flood(tmp_path, capsys, remind, says):
    rules = str(make_rules(tmp_path))
    functions = str(tmp_path / "mine.py")
    where = ["--server", "ws://127.0.0.1:1", "--user", "admin"]
    assert main(["watch", rules, "--functions", functions, *where, "--remind", remind]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nas=", ""])
def test_servers_of_one_name_are_not_watched(tmp_path, capsys, name):
    rules = str(make_rules(tmp_path))
    where = ["--server", f"{name}ws://127.0.0.1:1", "--server", f"{name}ws://127.0.0.1:1/"]
    arguments = ["--functions", str(tmp_path / "mine.py"), "--user", "admin"]
    assert main(["watch", rules, *where, *arguments, "--record", str(tmp_path / "a.sysadm")]) == 1
    assert "Two servers have the name" in capsys.readouterr().err
    assert not (tmp_path / "a.sysadm").exists()


def test_ticks_are_the_servers_own_time(monkeypatch):
    """A server whose clock is a year behind is judged by its own clock, which goes on."""
    tables, rules = sa.Tables(), Rules()
    rules.add("gone", absent("pools", after=1, by=["server", "pool"]))
    monkeypatch.setattr("sysadm_nb.alerts.feeding.GRACE_US", 0)
    now = time.time_ns() // 1000
    event = {"hostname": "nas", "zpools": {"tank": {"capacity": "50%"}}}
    year = 365 * 86_400_000_000
    tables.append(encode_event("system-state", event, now - year), server="nas", received=now)
    got: list[Any] = []
    with arm(tables, rules, got.append) as armed:
        assert armed.caught_up()
        deadline = time.monotonic() + 15
        while not got and time.monotonic() < deadline:
            time.sleep(0.05)
    (news,) = got[0].news
    assert news.incident.began == now - year
    assert news.incident.fired == now - year + 1_000_000


def test_arming_with_a_state_over_tables_that_hold_the_same_rows(monkeypatch):
    """A restarted monitor remembers its rows, and the saved state has seen them: they count once."""
    now = time.time_ns() // 1000
    tables, rules = sa.Tables(), Rules()
    rules.add("full", table="pools", when="capacity_pct > 80", for_="20min", max_gap=None)

    def sample(used: int, minutes: int) -> None:
        at = now + minutes * MINUTE
        event = {"hostname": "nas", "zpools": {"tank": {"capacity": f"{used}%"}}}
        tables.append(encode_event("system-state", event, at), server="nas", received=at)

    for minutes, used in [(-50, 85), (-35, 70), (-20, 85)]:
        sample(used, minutes)
    with arm(tables, rules) as armed:
        assert armed.caught_up()
        state = json.loads(json.dumps(armed.state))
    assert [row["state"] for row in armed.rows()] == ["pending"]
    with arm(tables, rules, state=state) as armed:
        assert armed.caught_up()
        (row,) = armed.rows()
        assert (row["state"], row["since"]) == ("pending", now - 20 * MINUTE)
        sample(85, 0)
        assert armed.drain()
        assert [(r.began, r.fired) for r in armed.firing()] == [(now - 20 * MINUTE, now)]


def job(tables: sa.Tables, process_id: str, state: str, at: int) -> None:
    args: dict[str, Any] = {"process_id": process_id, "state": state}
    if state == "finished":
        args |= {"cmd_list": ["x"], "x": "", "return_codes/x": "0"}
    tables.append(encode_event("dispatcher", args, at), server="nas", received=at)


def test_a_cell_that_arms_again_warns_and_the_lost_guard_can_be_disarmed():
    told: list[Any] = []
    with sa.serve(sources=[]) as server, sa.connect(server) as monitor, sa.connect(server) as other:
        monitor.arm(every_rule(), notify=told.append)  # in no variable
        with pytest.warns(UserWarning, match=r"'full' and 8 more was armed .* monitor\.armed") as caught:
            again = monitor.arm(every_rule(), notify=told.append)
        assert caught[0].filename == __file__, "it points at the line that arms"
        apart = Rules()
        apart.add("another", table="pools", when="capacity_pct > 90")
        third = monitor.arm(apart)  # other rules may be on guard beside: no warning
        other.arm(every_rule())  # and the same ones over another monitor
        lost, *rest = monitor.armed
        assert rest == [again, third]
        lost.disarm()
        again.disarm()
        monitor.arm(every_rule(), notify=told.append)
        assert len(monitor.armed) == 2
        assert all(guard.caught_up() for guard in monitor.armed)
        server.publish(
            "system-state", {"hostname": "nas", "zpools": {"tank": {"health": "DEGRADED", "capacity": "1%"}}}
        )
        end = time.monotonic() + 10
        while not len(monitor.system) and time.monotonic() < end:
            time.sleep(0.02)
        assert all(guard.drain() for guard in monitor.armed)
        assert [note.news[0].incident.rule for note in told] == ["sick"], "told once"
    assert not monitor.armed and not other.armed, "closing disarms"


def arm_twice(rules: Rules, tables: sa.Tables, later: sa.Tables, told: list[Any]) -> Any:
    """Arm, save, and arm again from what was saved."""
    with arm(tables, rules) as armed:
        assert armed.caught_up()
        state = json.loads(json.dumps(armed.state))
    again = arm(later, rules, told.append, state=state)
    assert again.caught_up()
    return again


@pytest.mark.parametrize("restarted", [True, False])
def test_the_second_run_of_a_job_ends_after_a_restart(restarted):
    """Runs are numbered from the first event on, which a restarted program has not seen."""
    now = time.time_ns() // 1000
    rules, tables = Rules(), sa.Tables()
    rules.add("stuck", table="jobs", when="state == 'running'", for_="20min")
    for minutes, state in [(-90, "running"), (-80, "finished"), (-30, "running")]:
        job(tables, "nightly", state, now + minutes * MINUTE)
    job(tables, "other", "running", now - MINUTE)
    later = sa.Tables() if restarted else tables
    with arm_twice(rules, tables, later, []) as armed:
        assert [incident.keys["run"] for incident in armed.firing()] == [2]
        job(later, "nightly", "finished", now)
        job(later, "nightly", "running", now)
        assert armed.drain()
        rows = [(row["key"], row["state"]) for row in armed.rows()]
        assert rows == [("nas nightly 3", "pending"), ("nas other 1", "pending")]
        assert json.loads(json.dumps(armed.state))["runs"] == [["nas", "nightly", 2]]


def test_restarts_do_not_add_up_the_ids_of_jobs_that_are_long_over():
    saved: list[Any] = []
    for begun in range(0, 300, 100):
        tables = sa.Tables()
        feed = Feed(tables, {"jobs"})
        feed._jobs.keep = 20
        feed.number_from(saved)
        for name in ("nightly", *map(str, range(begun, begun + 100))):
            job(tables, name, "finished", START)
        feed.with_jobs(feed.take())
        saved = json.loads(json.dumps(feed.runs))
    assert len(saved) == 121  # of this time, and the newest from before
    assert {name: count for _, name, count in saved}["nightly"] == 3


def test_nothing_is_held_to_go_on_while_nobody_watched(monkeypatch):
    """A job was running when the program stopped, 20 hours ago; what became of it nobody knows."""
    now = time.time_ns() // 1000
    hour = 60 * MINUTE
    rules = Rules()
    rules.add("stuck", table="jobs", when="state == 'running'", for_="12h")
    for hours, states in [(20, []), (0, ["pending"])]:
        tables, later = sa.Tables(), sa.Tables()
        job(tables, "scrub", "running", now - (hours + 1) * hour)
        with arm(tables, rules) as armed:
            assert armed.caught_up()
            state = armed.state | {"saved": now - hours * hour - MINUTE}
        job(later, "other", "finished", now)
        with arm(later, rules, state=json.loads(json.dumps(state))) as armed:
            assert armed.caught_up()
            assert [row["state"] for row in armed.rows()] == states


def test_what_was_told_acknowledged_and_silenced_is_saved():
    now = time.time_ns() // 1000
    tables, later, got = sa.Tables(), sa.Tables(), []
    rules = Rules()
    rules.add("full", table="pools", when="capacity_pct > 80")

    def sample(tables: sa.Tables, tank: int, dozer: int, at: int) -> None:
        zpools = {"tank": {"capacity": f"{tank}%"}, "dozer": {"capacity": f"{dozer}%"}}
        event = encode_event("system-state", {"hostname": "nas", "zpools": zpools}, at)
        tables.append(event, server="nas", received=at)

    with arm(tables, rules) as armed:
        assert armed.caught_up()
        armed.silence("1h", pool="dozer")
        sample(tables, 90, 90, now)
        assert armed.drain()
        armed.acknowledge()
        state = json.loads(json.dumps(armed.state))
    with arm(later, rules, got.append, state=state) as armed:
        assert armed.caught_up() and armed.drain()
        rows = {row["keys"]["pool"]: row for row in armed.rows()}
        assert rows["tank"]["acknowledged"] and rows["dozer"]["silenced_until"]
        assert got == [], "tank was told before, dozer is silenced"
        armed.unsilence()
        deadline = time.monotonic() + 15
        while not got and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [n.incident.keys["pool"] for n in got.pop().news] == ["dozer"]
        sample(later, 70, 90, now + 1)
        assert armed.drain()
    assert [(n.what, n.incident.keys["pool"]) for n in got[0].news] == [("resolved", "tank")]


def test_a_state_that_is_none_is_refused():
    with arm(sa.Tables(), Rules()) as armed:
        state = armed.state
    damages = {"silences": [{}], "told": 3, "acknowledged": 3, "received": "?", "incidents": 3}
    for wrong in [[], {}, *({**state, name: damage} for name, damage in damages.items())]:
        with pytest.raises(InputError, match="delete it, and the rules start anew"):
            arm(sa.Tables(), Rules(), state=wrong)


def test_what_was_fetched_from_before_is_judged_in_its_place():
    """On connecting the pools are asked for, then the past is fetched; then rules are armed."""
    now = time.time_ns() // 1000
    tables, rules = sa.Tables(), Rules()
    rules.add("full", table="pools", when="capacity_pct > 80", for_="20min")
    for minutes, origin in [(0, "polled"), (-30, "backfill"), (-15, "backfill")]:
        at = now + minutes * MINUTE
        event = encode_event("system-state", {"hostname": "nas", "zpools": {"tank": {"capacity": "85%"}}}, at)
        tables.append(event, server="nas", received=now, origin=origin)
    with arm(tables, rules) as armed:
        assert armed.caught_up()
        assert [(r.began, r.fired) for r in armed.firing()] == [(now - 30 * MINUTE, now)]


def test_what_a_job_did_before_is_judged_in_its_place():
    now = time.time_ns() // 1000
    tables, rules = sa.Tables(), Rules()
    rules.add("stuck", table="jobs", when="state == 'running'", for_="20min")
    for minutes, origin, more in [(0, "live", {"cmd_list": ["x"], "x": "text"}), (-30, "backfill", {})]:
        at = now + minutes * MINUTE
        event = encode_event("dispatcher", {"process_id": "a", "state": "running", **more}, at)
        tables.append(event, server="nas", received=now, origin=origin)
    with arm(tables, rules) as armed:
        assert armed.caught_up()
        pd.testing.assert_frame_equal(armed.incidents, rules.backtest(tables))
        assert [r.began for r in armed.firing()] == [now - 30 * MINUTE]


def test_times_people_write():
    assert moment_us("2026-01-01") == START
    assert moment_us("2026-01-01T01:00+01:00") == START
    assert moment_us(np.int64(START)) == moment_us(float(START)) == START
    for wrong in (pd.NaT, "NaT", np.nan, np.inf, True, pd.Timedelta("1h"), "3600 1"):
        with pytest.raises(InputError, match="is no time"):
            moment_us(wrong)
