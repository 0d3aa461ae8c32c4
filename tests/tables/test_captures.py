"""Every captured frame through the tables. Expected values are read off the captures by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from sysadm_nb.tables import Tables

BASE = 1_795_418_000_000_000


def load(records, **options):
    tables = Tables(**options)
    for record in records:
        if record["dir"] == "in":
            tables.append(record["frame"], received=BASE + int(record["t"] * 1e6), server="nas")
    return tables


def logs(tables):
    jobs = tables.jobs
    return {(row.process_id, row.run): row.log for row in jobs.itertuples()}


def utc(text):
    return pd.Timestamp(text, tz="UTC")


def test_nothing_is_lost(captures):
    for name in ("01_", "01c", "01d", "02", "03a", "03b", "04", "05", "06", "07a", "07b", "08a", "09a"):
        records = [r for r in captures(name) if r["dir"] == "in"]
        tables = load(records)
        texts = set(tables.events["args"])
        for record in records:
            frame = record["frame"]
            if (
                '"namespace":"events"' in frame
                and '"name":"response"' not in frame
                and not frame.startswith("::")
            ):
                body = frame.removeprefix('{"args":').rpartition(',"id":""')[0]
                assert body in texts, frame


def test_generic_jobs(captures):
    tables = load(captures("03a"))
    jobs = tables.jobs.set_index(["process_id", "run"])
    assert logs(tables) | {("burst", 1): ""} == {
        ("one", 1): "hello world\n",
        ("three", 1): "first\nthird\n",
        ("failmid", 1): "before\nto stdout\nto stderr\n",
        ("dup", 1): "same\nsame\n",
        ("burst", 1): "",
        ("slow", 1): "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\n",
        ("nostart", 1): "",
        ("nostart2", 1): "a\n",
        ("noexec", 1): "",
        ("empty", 1): "",
        ("emptyarr", 1): "",
        ("mixed", 1): "x\n",
        ("alpha", 1): "a1\na2\n",
        ("zeta", 1): "z\n",
        ("quotes", 1): "two  words plain\na | cat\n$HOME 'x y'\n",
        (
            "utf8",
            1,
        ): 'héllo "quoted" back\\slash tab\there / slash € \x1b[31mred\x1b[0m \x01 bad:\ufffd\ufffd end\r\n',
        ("sameid", 1): "",
        ("sameid", 2): "second\n",
        ("sleeper", 1): "",
        ("sleeper2", 1): "",
    }
    running = ["burst", "sleeper", "sleeper2"]  # burst's end is cut in the capture, the others never ended
    assert sorted(jobs.index[jobs["state"] == "running"].get_level_values(0)) == running
    assert (jobs["state"] == "finished").sum() == 17
    failed = {"failmid": 3, "nostart": -1, "nostart2": -1, "noexec": -1, "mixed": -1}
    found = jobs.loc[jobs["failed"], "return_code"]
    assert dict(zip(found.index.get_level_values(0), found, strict=True)) == failed
    three = jobs.loc[("three", 1)]
    assert (three["commands"], three["command_count"], three["commands_done"]) == (
        "echo first && sleep 1 && echo third",
        3,
        3,
    )
    assert (three["started"], three["finished"]) == (utc("2026-11-23 07:15:01"), utc("2026-11-23 07:15:02"))
    assert (three["duration_s"], three["return_code"], three["updates"]) == (1.0, 0, 2)
    assert bool(three["log_complete"])
    # While they run, the commands of generic jobs come from the dispatcher's list.
    assert jobs.loc[("sleeper2", 1), "commands"] == "sleep 30 && echo after"
    assert math.isnan(jobs.loc[("burst", 1), "command_count"])
    assert not jobs.loc[("burst", 1), "log_complete"]


def test_runs_of_one_process_id_at_once(captures):
    jobs = load(captures("03a")).jobs.set_index(["process_id", "run"])
    first, second = jobs.loc[("sameid", 1)], jobs.loc[("sameid", 2)]
    assert (first["commands"], first["duration_s"]) == ("sleep 1", 1.0)
    assert (second["commands"], second["log"]) == ("echo second", "second\n")


def test_commands_of_generic_jobs(captures):
    commands = load(captures("03a")).commands.set_index(["process_id", "run", "step"]).sort_index()

    def steps(process_id):
        rows = commands.loc[(process_id, 1)]
        return [
            (row.command, row.state, None if math.isnan(row.return_code) else int(row.return_code))
            for row in rows.itertuples()
        ]

    assert steps("failmid") == [
        ("echo before", "finished", 0),
        ("/usr/local/share/jobs/err.sh", "finished", 3),
        ("echo never", "skipped", None),
    ]
    assert steps("nostart2") == [
        ("echo a", "finished", 0),
        ("/nonexistent/prog", "finished", -1),
        ("echo b", "skipped", None),
    ]
    assert steps("dup") == [("echo same", "finished", 0)] * 2
    assert commands.loc[("failmid", 1, 2), "log"] == "to stdout\nto stderr\n"
    assert pd.isna(commands.loc[("failmid", 1, 3), "log"])
    assert commands.loc[("utf8", 1, 1), "log"].startswith("héllo")


def test_subsystem_jobs(captures):
    tables = load(captures("03b"))
    jobs = tables.jobs.set_index("process_id")
    upgrade = jobs.loc["sysadm_pkg_upgrade-{22222222-2222-3333-4444-555555555555}"]
    assert (upgrade["event_system"], upgrade["action"]) == ("sysadm/pkg", "pkg_upgrade")
    assert upgrade["log"] == "one\ntwo 1\ntwo 2\ntwo 3\nthree\n"
    assert (upgrade["commands_done"], upgrade["return_code"], upgrade["duration_s"]) == (3, 0, 2)
    assert upgrade["updates"] == 7
    install = jobs.loc["sysadm_pkg_install-{11111111-2222-3333-4444-555555555555}"]
    assert install["log"] == "pkg 1\npkg 2\npkg 3\npkg 4\npkg 5\npkg 6\n"
    update = jobs.loc["sysadm_update_runupdates::{44444444-2222-3333-4444-555555555555}"]
    assert update["log"] == "upd 1\nupd 2\nupd 3\nupd 4\nupd 5\n"
    assert (update["event_system"], update["duration_s"]) == ("sysadm/update", 4)
    killed = jobs.loc["sysadm_pkg_remove-{10}"]  # its end is not in the capture
    assert (killed["state"], killed["log"], bool(killed["log_complete"])) == (
        "running",
        "k 1\nk 2\nk 3\nk 4\nk 5\nk 6\n",
        False,
    )
    assert jobs.loc["sysadm_pkg_lock-{8}", "return_code"] == -1
    assert jobs.loc["sysadm_iohyve_fetch::{6}", "log"] == "a.iso\t100f 100 MB\t1 MBps\n"
    assert jobs.loc["sleeper", "duration_s"] == 30
    assert len(jobs) == 15
    assert (jobs["run"] == 1).all()


def test_the_log_is_followed_without_doubling(captures):
    """Line 23 of the capture sends the previous command's text again under the next one's key."""
    tables = Tables()
    seen = []
    for record in captures("03b"):
        if record["dir"] == "in" and "sysadm_pkg_upgrade" in record["frame"]:
            tables.append(record["frame"], received=BASE)
            view = tables.job("", "sysadm_pkg_upgrade-{22222222-2222-3333-4444-555555555555}")
            if view is not None and (not seen or seen[-1] != view.log):
                seen.append(view.log)
    assert seen == [
        "",
        "one\n",
        "one\ntwo 1\ntwo 2\n",
        "one\ntwo 1\ntwo 2\ntwo 3\n",
        "one\ntwo 1\ntwo 2\ntwo 3\nthree\n",
    ]


def test_pools(captures):
    tables = load(captures("04"))
    pools = tables.pools
    first = pools.iloc[0]
    assert (first["hostname"], first["pool"], first["health"]) == ("trueos-test", "tank", "ONLINE")
    assert (first["size_bytes"], first["alloc_bytes"]) == (107 * 2**30, 13.1 * 2**30)
    assert (first["free_bytes"], first["frag_pct"], first["capacity_pct"]) == (93.9 * 2**30, 6, 12)
    assert first["dedup_ratio"] == 1
    assert math.isnan(first["expandsz_bytes"])
    assert pd.isna(first["altroot"])
    assert not first["repaired"]
    unavailable = pools[pools["health"] == "UNAVAIL"]
    assert len(unavailable) == 2
    assert unavailable[["size_bytes", "alloc_bytes", "capacity_pct", "frag_pct"]].isna().all(axis=None)
    assert set(pools["altroot"].dropna()) == {"/mnt"}
    assert set(pools["pool"]) == {"tank", "backup", "a_full", "a_bad", "z_full"}


def test_columns_off_by_one_are_put_back(captures):
    """The frames after the note about CKPOINT: every value from expandsz on is its neighbour's."""
    pools = load(captures("04")).pools
    repaired = pools[pools["repaired"]]
    assert len(repaired) == 2
    row = repaired.iloc[0]
    assert (row["health"], row["capacity_pct"], row["frag_pct"], row["dedup_ratio"]) == ("ONLINE", 12, 6, 1)
    assert pd.isna(row["altroot"])


def test_system(captures):
    system = load(captures("04")).system
    assert len(system) == 41
    changed = system[system["hostname_changed"]]
    assert list(changed["hostname"]) == ["newname.example.org", "third", "fourth", "fifth", "fifth"]
    assert list(changed["priority"]) == [3, 9, 6, 3, 3]
    assert list(changed["level"].astype(str)) == ["Warning", "Urgent", "Critical", "Warning", "Warning"]
    assert (system["pool_count"] == 0).sum() == 6
    assert (system["level"] >= "Critical").sum() == 18


def test_life_preserver(captures):
    table = load(captures("05")).life_preserver
    failed = table[table["action"] == "failed"].iloc[0]
    assert (failed["kind"], failed["dataset"], failed["priority"]) == ("replication", "tank", 7)
    assert failed["logfile"] == "/var/log/lpreserver/lpreserver_failed.log"
    assert failed["time"] == utc("2026-11-23 07:21:44")
    assert table["action"].value_counts()[["created", "started", "finished", "failed"]].to_dict() == {
        "created": 11,
        "started": 2,
        "finished": 1,
        "failed": 1,
    }
    assert "tänk/€" in set(table["dataset"])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Replicating tank@auto-1: 128M/4.20G (2.9%)", ("progress", "tank", 128 * 2**20, 4.2 * 2**30, 2.9)),
        (
            "Replicating tank/usr@a: 4.31G/4.20G (102.6%)",
            ("progress", "tank/usr", 4.31 * 2**30, 4.2 * 2**30, 102.6),
        ),
        ("Replicating tank@auto-1: 128M/??", ("progress", "tank", 128 * 2**20, math.nan, math.nan)),
        ("something else", ("other", None, math.nan, math.nan, math.nan)),
    ],
)
def test_replication_progress(message, expected):
    from sysadm_nb import wire

    tables = Tables()
    args = {"class": "replication", "message": message, "priority": "0 - Information"}
    tables.append(wire.encode_event("life-preserver", args), received=BASE)
    row = tables.life_preserver.iloc[0]
    found = (row["action"], row["dataset"], row["sent_bytes"], row["total_bytes"], row["percent_done"])
    for value, want in zip(found, expected, strict=True):
        assert (pd.isna(value) and (want is None or want != want)) or value == want
    assert row["time"] == pd.Timestamp(BASE, unit="us", tz="UTC")


def test_bridge(captures):
    records = [r for r in captures("09a") if r.get("conn") != "B"]
    bridge = load(records).bridge
    assert list(bridge["change"]) == ["joined", "left"]
    assert set(bridge["peer"]) == {"::{ab4f7fe9-fa8d-424b-9aac-49a42fe93d99}"}


def test_events_behind_a_bridge_have_their_peer_for_server(captures):
    tables = load(captures("09a"))
    assert set(tables.pools["server"]) == {"nas/::{ab4f7fe9-fa8d-424b-9aac-49a42fe93d99}"}
    assert logs(tables)[("viabridge", 1)] == "hello\n"


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize(("started", "finished"), [("01:50:00", "03:10:00"), ("02:50:00", "02:10:00")])
def test_a_job_during_which_summer_time_begins_or_ends(nested, started, finished):
    """The wall clock jumps by an hour; the job takes twenty minutes."""
    from sysadm_nb import wire

    tables = Tables()
    began = pd.Timestamp("2026-03-29T00:50:00Z").value // 1000
    details = {"cmd_list": ["make"], "process_id": "p", "time_started": f"2026-03-29T{started}"}
    end = {
        "state": "finished",
        "time_finished": f"2026-03-29T{finished}",
        "make": "",
        "return_codes/make": "0",
    }
    begin = [{"process_id": "p", "state": "running"}]
    if nested:
        begin.append({"process_details": details | {"state": "running"}, "state": "running"})
        last = {"process_details": details | end, "state": "finished"}
    else:
        last = details | end
    for args in begin:
        tables.append(wire.encode_event("dispatcher", args), received=began, server="nas")
    tables.append(wire.encode_event("dispatcher", last), received=began + 1_200_000_000, server="nas")
    job = tables.jobs.iloc[0]
    assert job["duration_s"] == pytest.approx(1200, abs=1)
    assert job["started"] == pd.Timestamp(began, unit="us", tz="UTC")


def test_local_times_of_a_server_in_another_zone(captures):
    """Nine and a half hours ahead: nothing on the wire says so, the finished event gives it away."""
    from sysadm_nb import wire

    for shift in (0, 9.5, -11):
        tables = Tables()
        local = pd.Timestamp(BASE, unit="us") + pd.Timedelta(hours=shift)
        started = (local - pd.Timedelta(seconds=5)).strftime("%Y-%m-%dT%H:%M:%S")
        args = {
            "cmd_list": ["true"],
            "true": "",
            "return_codes/true": "0",
            "process_id": "a",
            "state": "finished",
            "time_started": started,
            "time_finished": local.strftime("%Y-%m-%dT%H:%M:%S"),
        }
        tables.append(wire.encode_event("dispatcher", args), received=BASE + 200_000, server="nas")
        job = tables.jobs.iloc[0]
        assert job["finished"] == pd.Timestamp(BASE, unit="us", tz="UTC")
        assert job["duration_s"] == 5
