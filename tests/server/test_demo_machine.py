"""The simulated machine: one history per seed, whatever the steps, and what a real server would have sent."""

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadm_nb import wire
from sysadm_nb.server.demo import Machine, frames, jobs, plan
from sysadm_nb.server.demo.jobs import Step, Subsystem
from sysadm_nb.server.demo.storage import DAY, HOUR, MINUTE, SECOND, Dataset, GiB, Scan
from sysadm_nb.tables import Tables

START = 1_767_571_200_000_000  # Monday 2026-01-05 00:00 UTC
QUARTER = 15 * MINUTE


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


@pytest.fixture(scope="module")
def month() -> list:
    return Machine(seed=3, start=START).advance(START + 40 * DAY)


def of(events: list, name: str) -> list:
    return [event for event in events if event.name == name]


# --- determinism --------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 5), cuts=st.lists(st.integers(0, 3 * DAY), max_size=12))
def test_history_does_not_depend_on_the_steps(seed, cuts):
    whole = Machine(seed, start=START)
    expected = whole.advance(START + 3 * DAY)
    stepped = Machine(seed, start=START)
    found = []
    for cut in [*sorted(cuts), 3 * DAY]:
        found += stepped.advance(START + cut)
        assert stepped.now == START + cut
    assert found == expected
    assert stepped.state() == whole.state()


def test_looking_changes_nothing():
    watched, alone = Machine(1, start=START), Machine(1, start=START)
    for _ in range(50):
        watched.advance(watched.now + HOUR)
        watched.state()
        for pool in watched.pools.values():
            pool.datasets_as_sent()
    assert watched.state() == (alone.advance(START + 50 * HOUR), alone.state())[1]


def test_a_persons_command_disturbs_no_other_pool():
    touched, alone = Machine(1, start=START), Machine(1, start=START)
    touched.pools["media"].datasets["media/films"].snapshot("mine", START)
    touched.start_scan(touched.pools["media"], Scan("scrub", START, GiB, GiB))
    for machine in (touched, alone):
        machine.advance(START + 5 * DAY)
    ours, theirs = touched.state()["zpools"], alone.state()["zpools"]
    assert ours["media"] != theirs["media"]
    assert {k: v for k, v in ours.items() if k != "media"} == {
        k: v for k, v in theirs.items() if k != "media"
    }


def test_seeds_differ():
    one, two = (list(frames(1, seed)) for seed in (1, 2))
    assert one != two


def test_frames_decode_and_carry_their_time():
    last = 0
    for time, text in frames(3, seed=2):
        message = wire.decode(text)
        assert isinstance(message, wire.Event)
        assert message.time == time >= last
        last = time


# --- system state -------------------------------------------------------------------------------------------


def test_state_checks_come_every_quarter_of_an_hour(month):
    checks = [event.time for event in of(month, "system-state")]
    assert checks[0] == START + MINUTE
    steps = Counter(after - before for before, after in pairwise(checks))
    odd = {step: count for step, count in steps.items() if step != QUARTER}
    assert steps[QUARTER] > 3800
    assert sum(odd.values()) <= 2, "only a reboot moves the checks"


def test_state_has_the_form_of_a_real_server(month):
    event = of(month, "system-state")[0].args
    assert event["hostname"] == "storage1.example.org"
    assert event["priority"] == "0 - Information"
    assert event["updates"] == {"status": "noupdates"}
    assert "hostnamechanged" not in event
    assert list(event["zpools"]) == ["zroot", "tank", "backup", "media", "scratch", "vault"]
    tank = event["zpools"]["tank"]
    shown = {"size", "alloc", "free", "frag", "expandsz", "dedup", "altroot", "capacity", "health"}
    assert set(tank) == shown | {"priority", "size_bytes", "alloc_bytes", "free_bytes"}
    assert all(isinstance(tank[key], str) for key in shown)
    assert tank["size"] == "21.8T"
    assert (tank["dedup"], tank["altroot"], tank["expandsz"], tank["health"]) == ("1.00x", "-", "-", "ONLINE")


def test_exact_bytes_agree_with_what_is_shown(month):
    for event in of(month, "system-state")[::50]:
        for pool in event.args["zpools"].values():
            assert pool["alloc_bytes"] + pool["free_bytes"] == pool["size_bytes"]
            for key in ("size", "alloc", "free"):
                exact = pool[f"{key}_bytes"]
                assert wire.format_size(exact) == pool[key]
                assert exact % 4096 == 0
            assert pool["capacity"] == f"{pool['alloc_bytes'] * 100 // pool['size_bytes']}%"


def test_priority_is_the_most_urgent_reason():
    machine = Machine(0, start=START)

    def priority() -> str:
        return machine.state()["priority"]

    assert priority() == "0 - Information"
    machine.updates = {"status": "updatesavailable"}
    assert priority() == "2 - Information"
    machine.hostname_changed = True
    assert priority() == "3 - Warning"
    media = machine.pools["media"]
    films = media.datasets["media/films"]
    films.refer += media.size * 90 // 100 - media.alloc + 4096
    assert media.as_sent()["capacity"] == "90%"
    assert priority() == "3 - Warning"  # exactly 90 is fine
    films.refer += media.size // 100
    assert media.as_sent()["capacity"] == "91%"
    assert priority() == "6 - Critical"
    machine.pools["vault"].vdevs[0].disks[0].state = "UNAVAIL"
    assert priority() == "9 - Urgent"


@pytest.mark.parametrize("seed", range(6))
def test_what_any_month_has_to_tell(seed):
    """The notebooks' text counts on these, whatever the seed, the weekday and the time of day."""
    start = START + seed * (DAY + 3 * HOUR)
    month = Machine(seed, start=start).advance(start + 30 * DAY)
    states = of(month, "system-state")

    def series(pool: str, key: str) -> list:
        return [event.args["zpools"][pool][key] for event in states]

    health = series("vault", "health")
    assert health[0] == health[-1] == "ONLINE"
    assert "DEGRADED" in health  # a disk died and was replaced
    assert all(
        set(series(pool, "health")) == {"ONLINE"} for pool in ("tank", "backup", "media", "scratch", "zroot")
    )
    assert set(series("media", "size")) == {"7.25T", "10.9T"}  # new disks came
    assert max(int(value[:-1]) for value in series("scratch", "capacity")) >= 95  # it filled up in a night
    renamed = [event for event in states if event.args.get("hostnamechanged") == "true"]
    assert [event.args["hostname"] for event in renamed] == ["nas1.example.org"]
    # An update runs for some minutes only, mostly between two checks.
    statuses = {event.args["updates"]["status"] for event in states}
    assert statuses | {"updaterunning"} == {
        "noupdates",
        "updatesavailable",
        "updaterunning",
        "rebootrequired",
    }
    backup = [int(value[:-1]) for value in series("backup", "capacity")]
    assert 83 <= backup[0] <= 86 < backup[-1] < 90
    assert any("Failed" in event.args["message"] for event in of(month, "life-preserver"))
    finished = [event.args for event in of(month, "dispatcher") if event.args["state"] == "finished"]
    upgrades = [args["process_details"] for args in finished if args.get("action") == "pkg_upgrade"]
    assert "1" in {args["return_codes/pkg upgrade -y"] for args in upgrades}


def test_in_a_year_media_begins_to_grow_faster_when_a_package_came():
    machine = Machine(5, start=START)
    installed = [
        event.time
        for event in machine.run(START + 365 * DAY)
        if event.args.get("action") == "pkg_install" and event.args["state"] == "finished"
    ]
    assert len(installed) == 1
    assert 150 * DAY < installed[0] - START < 201 * DAY
    assert machine.pace == {"media/cameras": 1.5}


def test_tank_grows_on_workdays_and_backup_in_steps(month):
    states = of(month, "system-state")
    tank: dict[int, int] = defaultdict(int)
    backup_by_hour: dict[int, int] = defaultdict(int)
    for before, after in pairwise(states):
        gained = after.args["zpools"]["tank"]["alloc_bytes"] - before.args["zpools"]["tank"]["alloc_bytes"]
        tank[(after.time // DAY + 3) % 7] += gained  # 0 is Monday
        gained = (
            after.args["zpools"]["backup"]["alloc_bytes"] - before.args["zpools"]["backup"]["alloc_bytes"]
        )
        backup_by_hour[after.time // HOUR % 24] += max(gained, 0)
    assert min(tank[day] for day in range(5)) > 20 * GiB
    assert tank[5] < 0  # Saturday: the laboratory's raw data go
    assert backup_by_hour[2] > 0.8 * sum(backup_by_hour.values())  # replication at two


# --- snapshots and replication ------------------------------------------------------------------------------


def test_snapshots_are_announced_as_life_preserver_does(month):
    messages = [event.args for event in of(month, "life-preserver") if event.time < START + 2 * HOUR]
    assert messages[:3] == [
        {
            "class": "snapshot",
            "message": "Mon Jan  5 01:00:01 UTC 2026: New snapshot of tank/home",
            "priority": "1 - Information",
        },
        {
            "class": "snapshot",
            "message": "Mon Jan  5 01:00:02 UTC 2026: New snapshot of tank/projects",
            "priority": "1 - Information",
        },
        {
            "class": "snapshot",
            "message": "Mon Jan  5 01:00:03 UTC 2026: New snapshot of tank/db",
            "priority": "1 - Information",
        },
    ]


def test_retention_keeps_what_the_schedules_say():
    machine = Machine(0, start=START)
    for days in (0, 3, 60):
        machine.advance(START + days * DAY + 30 * MINUTE)
        kept = Counter(one.schedule for one in machine.pools["tank"].datasets["tank/home"].snapshots)
        assert kept == {"hourly": 24, "daily": 14, "weekly": 8}


def test_destroying_a_snapshot_frees_what_only_it_kept():
    dataset = Dataset("t/a", 1000, "/t/a")
    first = dataset.snapshot("one", 1)
    dataset.write(0, 100)  # kept by one
    second = dataset.snapshot("two", 2)
    dataset.write(50, 200)  # kept by two, 70 % of it by one as well
    assert (dataset.refer, dataset.held, dataset.used, dataset.changed) == (1050, 300, 1350, 350)
    dataset.destroy(second)
    assert (first.held, dataset.held) == (240, 240)
    dataset.destroy(first)
    assert (dataset.held, dataset.used) == (0, 1050)


def test_deleting_what_a_snapshot_keeps_frees_nothing():
    dataset = Dataset("t/a", 1000, "/t/a")
    dataset.snapshot("one", 1)
    assert dataset.delete(400) == 400
    assert (dataset.refer, dataset.used) == (600, 1000)


def test_replications_send_progress_end_and_sometimes_fail(month):
    kinds = Counter()
    for event in of(month, "life-preserver"):
        if event.args["class"] != "replication":
            continue
        message, priority = event.args["message"], event.args["priority"]
        if message.startswith("Replicating tank@auto-"):
            assert priority == "0 - Information"
            kinds["progress"] += 1
        elif "Failed" in message:
            assert message.endswith(
                "UTC 2026: Replication Failed for tank\n"
                "Logfile available at: /var/log/lpreserver/lpreserver_failed.log"
            )
            assert priority == "7 - Critical"
            kinds["failed"] += 1
        else:
            assert priority == "1 - Information"
            kinds["started" if "Starting" in message else "finished"] += 1
    assert kinds["started"] == 39  # the first is at two in the second night
    assert 1 <= kinds["failed"] <= 4
    assert kinds["finished"] + kinds["failed"] == kinds["started"]
    assert kinds["progress"] > 4 * kinds["started"]


def test_a_failed_replication_is_sent_again_the_next_night():
    machine = Machine(3, start=START)
    target = machine.pools["backup"].datasets["backup/tank"]
    failed = []
    for day in range(1, 41):
        before = machine.pools["tank"].datasets["tank/db"].changed
        events = machine.advance(START + day * DAY)
        if any("Failed" in event.args.get("message", "") for event in events):
            failed.append(day)
            assert machine.pools["tank"].datasets["tank/db"].changed > before
        assert len([one for one in target.snapshots if one.schedule == "replica"]) == plan.REPLICA_KEEP
    assert failed


def test_datasets_made_anew_while_they_are_replicated():
    machine = Machine(1, start=START)
    machine.advance(START + 5 * DAY + 2 * HOUR + 2 * MINUTE)  # it sends since two
    source, target = machine.pools["tank"].datasets, machine.pools["backup"].datasets["backup/tank"]
    for name in plan.REPLICATED:
        source[name] = Dataset(name, 96 * 1024, f"/{name}")
    machine.advance(START + 5 * DAY + 8 * HOUR)
    assert all(source[name].changed >= 0 for name in plan.REPLICATED)
    used = target.used
    messages = [
        event.args["message"] for event in of(machine.advance(START + 6 * DAY + 8 * HOUR), "life-preserver")
    ]
    assert not [message for message in messages if ": 0/0" in message]
    assert [message for message in messages if "Finished replication" in message]
    assert target.refer < 0.3 * used  # deleted here too, and kept by the snapshots
    assert target.used < used + 100 * GiB  # once


# --- jobs ---------------------------------------------------------------------------------------------------


def test_generic_job_has_the_two_flat_events_of_a_real_server():
    steps = [
        Step("echo first", ((0.0, "first\n"),)),
        Step("sleep 1", (), 1.0),
        Step("false", (), 0.0, 1),
        Step("echo never"),
    ]
    queued = at("2026-11-23T07:15:01")
    running, finished = jobs.generic("three", steps, queued)
    assert running == (queued + 33_000, {"process_id": "three", "state": "running"})
    assert finished == (
        queued + 1_033_000,
        {
            "cmd_list": ["echo first", "sleep 1", "false", "echo never"],
            "process_id": "three",
            "state": "finished",
            "time_started": "2026-11-23T07:15:01",
            "time_finished": "2026-11-23T07:15:02",
            "echo first": "first\n",
            "return_codes/echo first": "0",
            "sleep 1": "",
            "return_codes/sleep 1": "0",
            "false": "",
            "return_codes/false": "1",
        },
    )


def test_subsystem_job_is_told_as_in_the_capture():
    """The chain of three commands in capture 03b, lines 18 to 25, event by event."""
    slow = "/usr/local/share/jobs/slow.sh 3 0.8 two"
    process_id = "sysadm_pkg_upgrade-{22222222-2222-3333-4444-555555555555}"
    steps = [
        Step("echo one", ((0.0, "one\n"),)),
        Step(slow, ((0.0, "two 1\n"), (0.8, "two 2\n"), (1.6, "two 3\n")), 2.4),
        Step("echo three", ((0.0, "three\n"),)),
    ]
    kind = Subsystem("sysadm/pkg", "pkg_log", {"action": "pkg_upgrade"})
    found = [
        json.loads(json.dumps(args))
        for _, args in jobs.subsystem(process_id, steps, at("2026-11-23T07:15:43"), kind)
    ]

    listed = {"cmd_list": ["echo one", slow, "echo three"], "process_id": process_id}
    started = listed | {"time_started": "2026-11-23T07:15:43"}
    one = {"echo one": "one\n", "return_codes/echo one": "0"}
    two = {slow: "two 1\ntwo 2\ntwo 3\n", f"return_codes/{slow}": "0"}

    def event(state: str, log: str, details: dict) -> dict:
        return {
            "action": "pkg_upgrade",
            "event_system": "sysadm/pkg",
            "pkg_log": log,
            "state": state,
            "process_details": details | {"state": state},
        }

    assert found == [
        event("pending", "", listed),
        {"process_id": process_id, "state": "running"},
        event("running", "", started),
        event("running", "one\n", started | one | {"current_cmd": "echo one"}),
        event(
            "running",
            "one\ntwo 1\ntwo 2\n",
            started | one | {slow: "one\ntwo 1\ntwo 2\n", "current_cmd": slow},
        ),
        event("running", "two 1\ntwo 2\ntwo 3\n", started | one | two | {"current_cmd": slow}),
        event(
            "finished",
            "three\n",
            started
            | one
            | two
            | {
                "echo three": "three\n",
                "return_codes/echo three": "0",
                "time_finished": "2026-11-23T07:15:45",
            },
        ),
    ]


def test_every_job_of_two_months_ends_with_its_whole_log():
    tables = Tables()
    for time, frame in frames(60, seed=4):
        tables.append(frame, received=time, server="demo")
    ended = tables.jobs
    assert set(ended["state"]) == {"finished"}
    assert ended["log_complete"].all()
    upgrades = ended[ended["action"] == "pkg_upgrade"]
    assert len(upgrades) >= 8
    for job in upgrades.itertuples():
        assert job.log.count("Updating FreeBSD repository catalogue...\n") == 1
        assert job.commands == "pkg update && pkg upgrade -y"
    downloads = ended[ended["event_system"] == "sysadm/iohyve"]
    assert (downloads["percent_done"] == 100).all()
    assert not tables.events["event"].isin(["malformed", "unknown"]).any()


def test_two_months_in_the_tables_have_every_kind_of_news():
    tables = Tables()
    for time, frame in frames(60, seed=4):
        tables.append(frame, received=time, server="demo")
    preserver = tables.life_preserver
    assert set(preserver["action"]) == {"created", "started", "progress", "finished", "failed"}
    assert {"sysadm/pkg", "sysadm/update", "sysadm/iohyve"} <= set(tables.jobs["event_system"].dropna())
    assert tables.jobs["failed"].any()
    assert not tables.pools["repaired"].any()
    assert Path(tables.life_preserver["logfile"].dropna().iloc[0]).name == "lpreserver_failed.log"
