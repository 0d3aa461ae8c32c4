"""Jobs: real processes, and what their events tell. Expected values are by hand, from the document."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadm_nb import wire
from sysadm_nb.server import dispatcher as module
from sysadm_nb.server.dispatcher import Dispatcher, Full, default_environment
from sysadm_nb.server.job import Job, Step, event, queue_of
from sysadm_nb.server.process import Output, split

Events = list[dict[str, Any]]


def play(scene: Callable[[Dispatcher, Events], Awaitable[None]], **options: Any) -> Events:
    """Run a scene with a dispatcher; returns all events, after `stop`."""
    events: Events = []

    async def main() -> None:
        dispatcher = Dispatcher(events.append, lambda: time.time_ns() // 1000, **options)
        try:
            await scene(dispatcher, events)
        finally:
            await dispatcher.stop()

    asyncio.run(main())
    return events


async def finished(events: Events, count: int = 1, timeout: float = 20) -> None:
    async with asyncio.timeout(timeout):
        while sum(args["state"] == "finished" for args in events) < count:
            await asyncio.sleep(0.01)


def job(*commands: str, id: str = "job", **options: Any) -> Events:
    """All events of one job."""

    async def scene(dispatcher: Dispatcher, events: Events) -> None:
        dispatcher.run(id, list(commands))
        await finished(events)

    return play(scene, **options)


def details(args: dict[str, Any]) -> dict[str, Any]:
    found = args["process_details"]
    return {key: "<time>" if key.startswith("time_") else value for key, value in found.items()}


def script(folder: Path, body: str) -> str:
    path = folder / "script"
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(0o755)
    return shlex.quote(str(path))


# --- the documented form ------------------------------------------------------------------------------------


def test_a_job_is_pending_running_and_finished() -> None:
    events = job("echo hello world")
    assert [{key: args[key] for key in ("state", "process_id")} for args in events] == [
        {"state": "pending", "process_id": "job"},
        {"state": "running", "process_id": "job"},
        {"state": "finished", "process_id": "job"},
    ]
    assert [details(args) for args in events] == [
        {"state": "pending", "process_id": "job", "cmd_list": ["echo hello world"]},
        {
            "state": "running",
            "process_id": "job",
            "time_started": "<time>",
            "cmd_list": ["echo hello world"],
            "current_cmd": "echo hello world",
        },
        {
            "state": "finished",
            "process_id": "job",
            "time_started": "<time>",
            "time_finished": "<time>",
            "cmd_list": ["echo hello world"],
            "echo hello world": "hello world\n",
            "return_codes/echo hello world": "0",
        },
    ]


def test_a_chain_stops_at_the_first_failure() -> None:
    last = job("echo before", "false", "echo never")[-1]
    assert details(last) == {
        "state": "finished",
        "process_id": "job",
        "time_started": "<time>",
        "time_finished": "<time>",
        "cmd_list": ["echo before", "false", "echo never"],
        "echo before": "before\n",
        "return_codes/echo before": "0",
        "false": "",
        "return_codes/false": "1",
    }


@pytest.mark.parametrize("command", ["/nonexistent/prog arg", "/etc/passwd", "/", "echo 'unclosed", "a\0b"])
def test_what_cannot_be_started_has_return_code_minus_one_and_no_log(command: str) -> None:
    found = details(job(command)[-1])
    assert (found[command], found[f"return_codes/{command}"]) == ("", "-1")


@pytest.mark.parametrize("commands", [[], [""], ["  ", "echo x"]])
def test_a_job_of_nothing_finishes_without_having_started(commands: list[str]) -> None:
    events = job(*commands)
    assert [args["state"] for args in events] == ["pending", "finished"]
    assert details(events[-1]) == {
        "state": "finished",
        "process_id": "job",
        "time_finished": "<time>",
        "cmd_list": commands,
    }


def test_the_same_command_twice_shares_one_key() -> None:
    found = details(job("echo same", "echo same")[-1])
    assert (found["echo same"], found["return_codes/echo same"]) == ("same\nsame\n", "0")


def test_a_command_named_like_a_key_is_still_a_command(tmp_path: Path) -> None:
    program = tmp_path / "state"
    program.write_text("#!/bin/sh\necho I am a command\n")
    program.chmod(0o755)
    last = job("state", environment={"PATH": str(tmp_path)})[-1]
    assert last["state"] == "finished"
    assert last["process_details"]["state"] == "I am a command\n"
    assert last["process_details"]["return_codes/state"] == "0"


def test_times_name_their_zone() -> None:
    last = job("true")[-1]["process_details"]
    for key in ("time_started", "time_finished"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", last[key])


# --- logs on the way ----------------------------------------------------------------------------------------


def test_a_log_can_be_followed_once_a_second(tmp_path: Path) -> None:
    slow = script(tmp_path, "import time\nfor i in range(8): print(i, flush=True); time.sleep(0.3)")
    began = time.monotonic()
    told: list[tuple[float, str]] = []

    async def scene(dispatcher: Dispatcher, events: Events) -> None:
        dispatcher.run("job", ["echo one", slow])
        seen = 0
        while not events or events[-1]["state"] != "finished":
            await asyncio.sleep(0.01)
            for args in events[seen:]:
                told.append((time.monotonic() - began, args["process_details"].get(slow, "")))
            seen = len(events)

    events = play(scene)
    running = [args["process_details"] for args in events if args["state"] == "running"]
    assert running[0]["current_cmd"] == "echo one"
    assert all(args["current_cmd"] == slow for args in running[1:])
    # The first command's full log and return code come as soon as anything is told after its end.
    assert running[1]["echo one"] == "one\n" and running[1]["return_codes/echo one"] == "0"
    assert len(running) >= 3
    deltas = [args.get(slow, "") for args in running]
    whole = events[-1]["process_details"][slow]
    assert whole == "".join(f"{i}\n" for i in range(8))
    assert whole.startswith("".join(deltas)), "deltas follow each other, nothing twice, nothing left out"
    times = [when for when, text in told if text]
    assert all(later - earlier > 0.9 for earlier, later in pairwise(times[:-1]))


def test_while_a_command_runs_again_its_key_means_what_is_new(tmp_path: Path) -> None:
    slow = script(tmp_path, "import time\nprint('begin', flush=True); time.sleep(1.3); print('end')")
    events = job(slow, slow)
    deltas = [args["process_details"][slow] for args in events[:-1] if slow in args["process_details"]]
    assert deltas == ["begin\n", "end\nbegin\n"] or deltas == ["begin\n", "begin\n"], deltas
    assert not any(f"return_codes/{slow}" in args["process_details"] for args in events[:-1])
    assert events[-1]["process_details"][slow] == "begin\nend\n" * 2


def test_output_is_bounded_head_and_tail(tmp_path: Path) -> None:
    flood = script(tmp_path, "for i in range(200_000): print(i)")
    log = job(flood, max_output=1000)[-1]["process_details"][flood]
    head, mark, tail = re.split(r"\n(\[\.\.\. \d+ characters left out \.\.\.\])\n", log)
    assert head == "".join(f"{i}\n" for i in range(1000))[:500]
    assert tail.endswith("199998\n199999\n") and len(tail) == 500
    whole = sum(len(f"{i}\n") for i in range(200_000))
    assert mark == f"[... {whole - 1000} characters left out ...]"


@pytest.mark.parametrize("id", ["job", "sysadm_pkg_install-{1}"])
@pytest.mark.parametrize("state", ["finished", "running"])
def test_the_logs_of_an_event_are_bounded_together(id: str, state: str) -> None:
    """A client takes 64 MiB; a NUL is six bytes there, and a package job's last log comes twice."""
    steps = [Step("small", Output(2**20), code=0)]
    steps += [Step(f"flood {number}", Output(2**20), code=0) for number in range(12)]
    steps[0].log.add("all of it\n")
    for step in steps[1:]:
        step.log.add("\0" * 2**20 + "end")
    now = Step("now", Output(10)) if state == "running" else None
    args = event(Job(id, "no_queue", steps, Output(10), 1, None if now else 2, now))
    assert args["state"] == state
    assert 3 * 2**20 < len(wire.dump_json(args)) < 5 * 2**20
    found = args["process_details"]
    assert found["small"] == "all of it\n"
    for step in steps[1:]:
        head, left_out, tail = re.split(
            r"\n\[\.\.\. (\d+) characters left out \.\.\.\]\n", found[step.command]
        )
        assert len(head) + len(tail) + int(left_out) == 2**20 + 3
        assert tail.endswith("\0end")
    assert "pkg_log" not in args or args["pkg_log"] == ("" if now else found["flood 11"])


def test_text_is_decoded_as_it_comes(tmp_path: Path) -> None:
    body = (
        "import os, time\n"
        "for part in (b'h\\xc3', b'\\xa9llo \\xe2\\x82', b'\\xac bad:\\xff\\xfe end \\xe2'):\n"
        "    os.write(1, part); time.sleep(0.05)\n"
    )
    command = script(tmp_path, body)
    assert job(command)[-1]["process_details"][command] == "héllo € bad:\ufffd\ufffd end \ufffd"


@given(st.lists(st.text(max_size=30), max_size=30), st.integers(2, 60), st.integers(0, 60))
def test_bounded_output_keeps_head_and_tail_of_any_text(pieces: list[str], limit: int, more: int) -> None:
    output = Output(limit + more)
    for piece in pieces:
        output.add(piece)
    whole = "".join(pieces)
    if len(whole) <= limit:
        assert output.text(limit) == whole
    else:
        head, tail = whole[: limit // 2], whole[len(whole) - (limit - limit // 2) :]
        assert output.text(limit) == f"{head}\n[... {len(whole) - limit} characters left out ...]\n{tail}"


# --- no shell, explicit surroundings ------------------------------------------------------------------------


def test_there_is_no_shell() -> None:
    found = details(job("echo a | cat; $HOME * 'x y' > /dev/null")[-1])
    assert found["echo a | cat; $HOME * 'x y' > /dev/null"] == "a | cat; $HOME * x y > /dev/null\n"
    assert split("zpool list -Hp") == ["zpool", "list", "-Hp"]


def test_the_environment_is_explicit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSADM_NB_PASSWORD", "secret")
    assert "SYSADM_NB_PASSWORD" not in default_environment()
    shown = job("env", environment={"PATH": os.environ["PATH"], "ANSWER": "42"})[-1]["process_details"]["env"]
    assert sorted(line for line in shown.split("\n") if line) == sorted(
        [f"PATH={os.environ['PATH']}", "ANSWER=42"]
    )


def test_the_working_directory_is_explicit(tmp_path: Path) -> None:
    assert job("pwd")[-1]["process_details"]["pwd"] == "/\n"
    assert job("pwd", cwd=str(tmp_path))[-1]["process_details"]["pwd"] == f"{tmp_path}\n"


# --- queues -------------------------------------------------------------------------------------------------


def test_three_queues() -> None:
    assert queue_of("sysadm_pkg_install-{1}") == "pkg_queue"
    assert queue_of("sysadm_iocage_fetch") == "iocage_queue"
    assert queue_of("anything") == "no_queue"
    listed: list[dict[str, Any]] = []

    async def scene(dispatcher: Dispatcher, events: Events) -> None:
        assert dispatcher.jobs() == {}
        for id in ("a", "b", "sysadm_pkg_one", "sysadm_pkg_two", "sysadm_pkg_three", "sysadm_iocage_x"):
            dispatcher.run(id, ["sleep 0.4"])
        await asyncio.sleep(0.2)
        listed.append(dispatcher.jobs())
        await finished(events, 6)
        listed.append(dispatcher.jobs())

    play(scene)
    running, pending = ({"commands": ["sleep 0.4"], "state": state} for state in ("running", "pending"))
    assert listed == [
        {
            "no_queue": {"a": running, "b": running},
            "pkg_queue": {
                "sysadm_pkg_one": running | {"queue_position": "0"},
                "sysadm_pkg_two": pending | {"queue_position": "1"},
                "sysadm_pkg_three": pending | {"queue_position": "2"},
            },
            "iocage_queue": {"sysadm_iocage_x": running | {"queue_position": "0"}},
        },
        {"no_queue": {}, "pkg_queue": {}, "iocage_queue": {}},
    ]


def test_a_waiting_job_says_so_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.PENDING_S == 2.0
    monkeypatch.setattr(module, "PENDING_S", 0.1)

    async def scene(dispatcher: Dispatcher, events: Events) -> None:
        dispatcher.run("sysadm_pkg_one", ["sleep 0.55"])
        dispatcher.run("sysadm_pkg_two", ["true"])
        await finished(events, 2)

    events = play(scene)
    pending = [args["process_id"] for args in events if args["state"] == "pending"]
    assert pending.count("sysadm_pkg_one") == 1
    assert 4 <= pending.count("sysadm_pkg_two") <= 7
    order = [args["process_id"] for args in events if args["state"] == "finished"]
    assert order == ["sysadm_pkg_one", "sysadm_pkg_two"]


def test_the_same_id_can_run_twice_at_once() -> None:
    async def scene(dispatcher: Dispatcher, events: Events) -> None:
        dispatcher.run("same", ["sleep 0.5"])
        dispatcher.run("same", ["echo second"])
        await finished(events, 2)

    ends = [args["process_details"]["cmd_list"] for args in play(scene) if args["state"] == "finished"]
    assert ends == [["echo second"], ["sleep 0.5"]]


def test_the_queue_has_an_end() -> None:
    async def scene(dispatcher: Dispatcher, events: Events) -> None:
        for number in range(1000):
            dispatcher.run(f"sysadm_pkg_{number}", ["sleep 5"])
        with pytest.raises(Full):
            dispatcher.run("sysadm_pkg_more", ["true"])

    assert sum(args["state"] == "finished" for args in play(scene, grace=0.1)) == 1000


# --- killing ------------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")
@pytest.mark.parametrize("stubborn", ["nobody", "child", "both"])
def test_a_kill_ends_the_whole_group(tmp_path: Path, stubborn: str) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    body = (
        "import os, signal, subprocess, time\n"
        f"{'pass' if stubborn == 'nobody' else ignore}\n"
        "child = subprocess.Popen(['sleep', '100'])\n"  # what is ignored is inherited
        f"{'signal.signal(signal.SIGTERM, signal.SIG_DFL)' if stubborn == 'child' else 'pass'}\n"
        "print(os.getpid(), child.pid, flush=True)\n"
        "time.sleep(100)\n"
    )
    command = script(tmp_path, body)
    pids: list[int] = []

    async def scene(dispatcher: Dispatcher, events: Events) -> None:
        dispatcher.run("job", [command, "echo never"])
        while not (text := events[-1]["process_details"].get(command)):
            await asyncio.sleep(0.01)
        pids.extend(int(pid) for pid in text.split())
        assert all(alive(pid) for pid in pids)
        assert dispatcher.kill(["job", "nosuch"]) == ["job"]
        await finished(events)
        assert dispatcher.jobs() == {"no_queue": {}}

    found = play(scene, grace=0.3)[-1]["process_details"]
    assert found[f"return_codes/{command}"] == ("9" if stubborn == "both" else "15")
    assert "echo never" not in found
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_waiting_job_that_is_killed_ends_without_having_begun() -> None:
    async def scene(dispatcher: Dispatcher, events: Events) -> None:
        dispatcher.run("sysadm_pkg_one", ["sleep 0.5"])
        dispatcher.run("sysadm_pkg_two", ["echo never"])
        dispatcher.run("sysadm_pkg_three", ["echo third"])
        assert dispatcher.kill(["sysadm_pkg_two"]) == ["sysadm_pkg_two"]
        await finished(events, 3)

    ends = {
        args["process_id"]: args["process_details"] for args in play(scene) if args["state"] == "finished"
    }
    assert "time_started" not in ends["sysadm_pkg_two"] and "echo never" not in ends["sysadm_pkg_two"]
    assert ends["sysadm_pkg_three"]["echo third"] == "third\n"


def test_a_child_in_the_background_does_not_hold_the_job() -> None:
    began = time.monotonic()
    command = 'sh -c "sleep 30 & echo started; echo $!"'
    log = job(command)[-1]["process_details"][command]
    assert time.monotonic() - began < 15
    os.kill(int(log.split()[1]), 9)
    assert log.startswith("started\n")


def test_stop_kills_what_runs_and_what_waits() -> None:
    async def scene(dispatcher: Dispatcher, events: Events) -> None:
        for id in ("one", "sysadm_pkg_one", "sysadm_pkg_two"):
            dispatcher.run(id, ["sleep 100"])
        await asyncio.sleep(0.2)

    ends = sorted(args["process_id"] for args in play(scene) if args["state"] == "finished")
    assert ends == ["one", "sysadm_pkg_one", "sysadm_pkg_two"]


# --- subsystems ---------------------------------------------------------------------------------------------


def told(process_id: str, log: str) -> dict[str, Any]:
    """The fields beside the process in the finished event of a job that printed ``log``."""
    step = Step("command", Output(10_000), code=0)
    step.log.add(log)
    args = event(Job(process_id, "no_queue", [step], Output(10), started=1, finished=2))
    return {
        key: value for key, value in args.items() if key not in ("process_details", "process_id", "state")
    }


def test_fields_of_subsystems() -> None:
    assert told("anything", "log") == {}
    assert told("sysadm_pkg_install-{1}", "log") == {
        "event_system": "sysadm/pkg",
        "action": "pkg_install",
        "pkg_log": "log",
    }
    assert told("sysadm_update_runupdates::{1}", "log") == {
        "event_system": "sysadm/update",
        "update_log": "log",
    }
    assert told("sysadm_update_checkupdates", "log") == {}
    assert told("sysadm_sourcectl_x::{1}", "log") == {"event_system": "sysadm/sourcectl", "update_log": "log"}
    current = told("sysadm_pkg_check_upgrade-{1}", "Your packages are up to date.\n")
    assert current["updates_available"] == "false"
    assert told("sysadm_pkg_check_upgrade-{1}", "zsh: 5.8 -> 5.9\n")["updates_available"] == "true"
    audit = "curl-7.60 is vulnerable:\nPackages that depend on curl: git, cmake\n"
    assert told("sysadm_pkg_audit-{1}", audit)["vulnerable_pkgs"] == ["curl-7.60"]
    assert told("sysadm_pkg_audit-{1}", audit)["impacts_pkgs"] == ["cmake", "git"]


def test_progress_of_a_download() -> None:
    step = Step("fetch", Output(1000))
    job = Job("sysadm_iohyve_fetch::{1}", "no_queue", [step], Output(1000), started=1, current=step)
    args = event(job, "a.iso   10% of  100 MB 1 MBps 00m90s\ra.iso   25% of  100 MB 2 MBps 00m40s\n")
    assert args["event_system"] == "sysadm/iohyve"
    assert (args["filename"], args["percent_done"], args["download_rate"]) == ("a.iso", "25", "2 MBps")
