"""Text that servers send does not fill the memory, however it comes; what is given up is said."""

from __future__ import annotations

import pytest

from sysadm_nb import wire
from sysadm_nb.tables import Tables

LIMIT = 2**20
LARGE = 2**18


def finished(process_id, commands, **details):
    args = {
        "cmd_list": commands,
        "process_id": process_id,
        "state": "finished",
        "time_started": "2026-11-23T07:15:43",
        "time_finished": "2026-11-23T07:15:44",
    }
    return wire.encode_event("dispatcher", args | {f"return_codes/{c}": "0" for c in commands} | details)


@pytest.mark.parametrize(
    ("name", "args", "table", "column"),
    [
        ("ups", {}, "events", "args"),
        ("system-state", {}, "events", "args"),
        ("life-preserver", {"class": "snapshot"}, "life_preserver", "message"),
    ],
)
def test_large_events_do_not_wait_for_a_thousand_of_them(name, args, table, column):
    tables = Tables(max_text=LIMIT)
    for number in range(40):
        tables.append(wire.encode_event(name, args | {"message": f"{number:04}" * (LARGE // 4)}))
    assert tables.dropped[f"{table}.text"] > 30  # nobody has read yet
    kept = tables[table][column].dropna()
    assert 2 <= len(kept) < 5
    assert kept.str.len().sum() <= LIMIT
    assert "0039" in kept.iloc[-1]


def test_large_frames_that_are_no_events_do_not_wait_either():
    tables = Tables(max_text=LIMIT)
    for number in range(40):
        tables.append(f"{number:04}" * (LARGE // 4))
    assert tables.dropped["events.text"] > 30


def test_the_logs_of_ended_jobs_share_one_bound():
    tables = Tables(max_text=LIMIT)
    for number in range(40):
        tables.append(finished(f"p{number}", ["c"], c=f"{number:04}" * (LARGE // 4)))
    _, jobs = tables.job_changes()
    assert len(jobs) == 40
    assert sum(len(job.log) for job in jobs) < 1.5 * LIMIT
    assert jobs[0].log == f"\n… {LARGE} characters cut …\n"
    assert jobs[-1].log == "0039" * (LARGE // 4)
    assert tables.jobs["log"].str.len().sum() <= LIMIT
    assert tables.jobs["log"].iloc[-1] == tables.commands["log"].iloc[-1] == jobs[-1].log
    assert tables.dropped["jobs.text"] > 30


def test_dropped_rows_of_jobs_are_said():
    tables = Tables(max_rows=100)
    for number in range(3000):
        tables.append(finished(f"p{number}", ["a", "b"], a="", b=""))
    tables.append(finished("p2999", ["a", "b"], a="x", b=""))  # another row for it, none is dropped
    assert [len(tables[name]) for name in ("events", "jobs", "commands")] == [100] * 3
    assert tables.dropped == {"events": 2901, "jobs": 2900, "commands": 5900}


def test_the_commands_of_a_job_share_one_bound():
    tables = Tables(max_log=100_000)
    commands = [f"c{number}" for number in range(20)]
    tables.append(finished("many", commands, **{c: c * 20_000 for c in commands}))
    job = tables.job("", "many")
    assert len(job.log) < 101_000
    for command, _, _, text in job.steps:
        assert text.startswith(command * 400) and text.endswith(command * 400)
        assert "characters cut" in text or text == command * 20_000
    # What the others do not need one has to itself.
    tables.append(finished("long", commands[:3], c0="a", c1="b" * 60_000, c2="c" * 10_000))
    assert tables.job("", "long").log == "a" + "b" * 60_000 + "c" * 10_000
    tables.append(finished("one", ["c0"], c0="x" * 100_000))
    assert tables.job("", "one").log == "x" * 100_000


def test_what_ended_commands_said_is_kept_for_comparison_as_long_as_a_log_is():
    tables = Tables(max_log=10_000)
    details = {
        "cmd_list": ["a", "b"],
        "a": "x" * LARGE,
        "return_codes/a": "0",
        "process_id": "p",
        "state": "running",
        "time_started": "2026-11-23T07:15:43",
        "current_cmd": "b",
    }
    tables.append(wire.encode_event("dispatcher", {"process_details": details, "state": "running"}))
    assert tables.job_changes(0, lambda job: len(job.ended))[1] == [10_000]
    tables.append(finished("p", ["a", "b"], a="x" * LARGE, b=""))
    assert tables.job_changes(0, lambda job: (job.state, job.ended))[1] == [("finished", "")]
