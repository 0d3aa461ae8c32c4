"""Which run of a process id an event speaks of, where we asked for the run ourselves."""

from __future__ import annotations

import time

import pytest

from sysadm_nb import wire
from sysadm_nb.tables import Tables

COMMAND = "zpool scrub tank"


def bare(tables: Tables, process_id: str = "scrub") -> None:
    """What a real server says of the beginning of a generic job: nothing but this."""
    args = {"process_id": process_id, "state": "running"}
    tables.append(wire.encode_event("dispatcher", args), server="nas")


def end(tables: Tables, process_id: str = "scrub", **more: int) -> None:
    args = {
        "cmd_list": [COMMAND],
        COMMAND: "",
        f"return_codes/{COMMAND}": "0",
        "process_id": process_id,
        "state": "finished",
        "time_started": "2026-11-23T07:15:43",
        "time_finished": "2026-11-23T07:15:44",
    }
    tables.append(wire.encode_event("dispatcher", args), server="nas", **more)


def runs(tables: Tables) -> list[tuple[int, str]]:
    return list(tables.jobs[["run", "state"]].itertuples(index=False, name=None))


def test_a_run_on_a_real_server_is_one_run(captures):
    """The reply comes first, then the one bare event, then the end: word for word as captured."""
    frames = [record["frame"] for record in captures("03a") if record["dir"] == "in"]
    first = next(n for n, frame in enumerate(frames) if '"started":["one"]' in frame)
    running, finished = frames[first + 1 : first + 3]
    tables = Tables()
    assert tables.add_run("nas", "one", ["echo hello world"], 0) == 1
    assert runs(tables) == [(1, "pending")]
    tables.append(running, server="nas")
    assert runs(tables) == [(1, "running")]
    tables.append(finished, server="nas")
    assert runs(tables) == [(1, "finished")]


@pytest.mark.parametrize("told", [0, 1, 2])
def test_the_reply_may_come_after_the_events(told):
    tables = Tables()
    for tell in (bare, end)[:told]:
        tell(tables)
    assert tables.add_run("nas", "scrub", [COMMAND], 0) == 1
    for tell in (bare, end)[told:]:
        tell(tables)
    assert runs(tables) == [(1, "finished")]


def test_a_run_that_was_lost_is_not_taken_for_the_new_one():
    tables = Tables()
    assert tables.add_run("nas", "scrub", [COMMAND], 0) == 1
    bare(tables)
    tables.lose_jobs("nas")
    assert tables.add_run("nas", "scrub", [COMMAND], 1) == 2
    bare(tables)
    assert runs(tables) == [(1, "unknown"), (2, "running")]
    end(tables)
    assert runs(tables) == [(1, "unknown"), (2, "finished")]


def test_a_run_that_was_running_when_it_was_lost_does_not_pend_again():
    tables = Tables()
    bare(tables)
    tables.lose_jobs("nas")
    pending = {"process_id": "scrub", "state": "pending", "cmd_list": [COMMAND]}
    tables.append(
        wire.encode_event("dispatcher", {"process_details": pending, "state": "pending"}), server="nas"
    )
    assert runs(tables) == [(1, "unknown"), (2, "pending")]


def test_news_sent_again_at_a_subscribe_is_of_the_run_that_was_lost():
    tables = Tables()
    bare(tables)
    tables.lose_jobs("nas")
    args = {"process_id": "scrub", "state": "running"}
    tables.append(wire.encode_event("dispatcher", args), server="nas", origin="last")
    assert runs(tables) == [(1, "running")]


def test_a_list_that_was_on_its_way_starts_nothing_again_where_the_servers_clock_is_behind():
    tables = Tables()
    now = time.time_ns() // 1000
    bare(tables)
    args = {"process_id": "scrub", "state": "finished", "cmd_list": [COMMAND], COMMAND: ""}
    tables.append(wire.encode_event("dispatcher", args, now - 30_000_000), server="nas", received=now)
    listed = {"jobs": {"no_queue": {"scrub": {"commands": [COMMAND], "state": "running"}}}}
    tables.append(wire.encode("rpc", "response", listed, "q1"), server="nas", received=now + 1000)
    assert runs(tables) == [(1, "finished")]


def test_a_run_that_was_lost_runs_again_when_more_log_comes():
    tables = Tables()
    details = {"process_id": "p", "state": "running", "time_started": "2026-11-23T07:15:43"}
    details |= {"cmd_list": ["make"], "current_cmd": "make"}
    args = {"state": "running", "event_system": "sysadm/pkg"}
    for log in ("a\n", "b\n", "c\n"):
        said = args | {"process_details": details | {"make": log}}
        tables.append(wire.encode_event("dispatcher", said), server="nas")
        if log == "b\n":
            tables.lose_jobs("nas")
            assert tables.jobs["state"].tolist() == ["unknown"]
    assert tables.jobs["state"].tolist() == ["running"]
    assert tables.jobs["log"].tolist() == ["a\nb\nc\n"]
