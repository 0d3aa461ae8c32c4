"""Logs put together from whatever order of deltas, repeats and full texts a server sends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sysadm_nb import wire
from sysadm_nb.tables import Tables
from sysadm_nb.tables.joblog import CommandLog

lines = st.text(alphabet="ab\n", max_size=12)
names = st.sampled_from(["echo a", "echo b", "state", "process_id", "pkg upgrade -y", "", "time_started"])


class RealDispatcher:
    """A process as the original server reports it.

    One object holds all logs; a buffer of unsent text is emptied by a delta, but not by the end of a
    command; at the end of a command its log is sent in full.
    """

    def __init__(self, process_id: str, commands: list[str]) -> None:
        self.log: dict[str, object] = {"cmd_list": commands, "process_id": process_id, "state": "pending"}
        self.unsent = ""
        self.process_id = process_id

    def event(self, details: dict[str, object], state: str) -> str:
        args = {"event_system": "sysadm/pkg", "process_details": details, "state": state}
        return wire.encode_event("dispatcher", args)

    def start(self) -> list[str]:
        pending = self.event(dict(self.log), "pending")
        self.log |= {"state": "running", "time_started": "2026-11-23T07:15:43"}
        bare = wire.encode_event("dispatcher", {"process_id": self.process_id, "state": "running"})
        return [pending, bare, self.event(dict(self.log), "running")]

    def printed(self, command: str, text: str) -> None:
        self.unsent += text
        self.log[command] = str(self.log.get(command, "")) + text

    def delta(self, command: str) -> str:
        details = self.log | {"current_cmd": command, command: self.unsent}
        self.unsent = ""
        return self.event(details, "running")

    def ended(self, command: str, code: int, late: str) -> str:
        self.log[command] = str(self.log.get(command, "")) + late
        self.log["return_codes/" + command] = str(code)
        return self.event(self.log | {"current_cmd": command}, "running")

    def finished(self) -> str:
        self.log |= {"state": "finished", "time_finished": "2026-11-23T07:15:45"}
        return self.event(dict(self.log), "finished")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["echo a", "pkg upgrade -y", "make", "echo b"]),
            st.lists(lines, max_size=4),
            st.lists(st.booleans(), min_size=4, max_size=4),
            lines,
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda step: step[0],
    ),
    st.data(),
)
def test_the_log_is_what_the_commands_printed(steps, data):
    commands = [command for command, *_ in steps]
    server = RealDispatcher("p", commands)
    frames = server.start()
    for command, texts, sent, late in steps:
        server.log.setdefault(command, "")
        for text, send in zip(texts, sent, strict=False):
            server.printed(command, text)
            if send:
                frames.append(server.delta(command))
        frames.append(server.ended(command, 0, late))
    frames.append(server.finished())
    # Frames may be repeated, and some lost: the finished one makes up for it.
    sent_frames = [f for f in frames[:-1] if data.draw(st.integers(0, 9)) > 0]
    # A bare running event twice would be a second run.
    repeated = [f for f in sent_frames for _ in range(1 if f == frames[1] else data.draw(st.integers(1, 2)))]
    tables = Tables()
    for frame in [*repeated, frames[-1]]:
        tables.append(frame, received=1_795_418_145_000_000)
    job = tables.jobs.iloc[-1]
    printed = {command: "".join(texts[:4]) + late for command, texts, _, late in steps}
    assert job["log"] == "".join(printed.values())
    assert bool(job["log_complete"])
    assert job["state"] == "finished"
    rows = tables.commands[tables.commands["run"] == job["run"]]
    assert dict(zip(rows["command"], rows["log"], strict=True)) == printed


@given(
    st.lists(
        st.tuples(names, st.lists(lines, min_size=1, max_size=3)),
        min_size=1,
        max_size=3,
        unique_by=lambda step: step[0],
    )
)
def test_without_late_text_nothing_is_lost_or_doubled_on_the_way(steps):
    """All frames arrive, every text is sent before its command ends: each view of the log is a prefix."""
    steps = [
        (command, texts) for command, texts in steps if command in ("echo a", "echo b", "pkg upgrade -y")
    ]
    if not steps:
        return
    server = RealDispatcher("p", [command for command, _ in steps])
    frames = server.start()
    whole = "".join("".join(f"{command}:{text}\n" for text in texts) for command, texts in steps)
    for command, texts in steps:
        server.log.setdefault(command, "")
        for text in texts:
            server.printed(command, f"{command}:{text}\n")
            frames.append(server.delta(command))
        frames.append(server.ended(command, 0, ""))
    tables = Tables()
    for frame in frames:
        tables.append(frame, received=1)
        view = tables.job("", "p")
        assert whole.startswith(view.log)
    assert tables.job("", "p").log == whole


@given(
    st.dictionaries(
        names | st.text(max_size=6), st.text(max_size=8) | st.integers() | st.none() | st.lists(names)
    )
)
def test_any_dispatcher_arguments(args):
    tables = Tables()
    for value in (
        args,
        {"process_details": args},
        {"process_details": args, "state": "running", "process_id": "x"},
    ):
        tables.append(wire.encode_event("dispatcher", value))
        tables.append(
            wire.encode_event(
                "dispatcher", {"state": "finished", "process_id": "x", "cmd_list": list(args)} | args
            )
        )
    assert len(tables.events) == 6
    assert len(tables.jobs) == len(tables.jobs.drop_duplicates(["process_id", "run"]))


@given(
    st.lists(st.tuples(st.booleans(), st.text(alphabet="xyz\n", max_size=30)), max_size=12),
    st.integers(2, 40),
)
def test_a_bounded_log_keeps_head_and_tail(parts, limit):
    log = CommandLog(limit)
    whole = ""
    for full, text in parts:
        if full:
            log.replace(text)
            whole = text
        else:
            log.append(text)
            whole += text
    half = limit // 2
    if len(whole) <= limit:
        assert log.text == whole
    else:
        assert log.text.startswith(whole[:half])
        assert log.text.endswith(whole[len(whole) - half :])
        cut = int(log.text[half:].split("…", 2)[1].split()[0])
        assert cut == len(whole) - 2 * half


def generic_end(process_id, commands, details, started, finished):
    args = {
        "cmd_list": commands,
        "process_id": process_id,
        "state": "finished",
        "time_started": started,
        "time_finished": finished,
    }
    return wire.encode_event("dispatcher", args | details)


def test_a_killed_process_ends_twice_and_is_one_run():
    tables = Tables()
    bare = wire.encode_event("dispatcher", {"process_id": "k", "state": "running"})
    times = ("2026-11-23T07:15:43", "2026-11-23T07:15:45")
    tables.append(bare)
    tables.append(generic_end("k", ["sleep 9"], {"sleep 9": "", "return_codes/sleep 9": "-1"}, *times))
    tables.append(generic_end("k", ["sleep 9"], {"sleep 9": "", "return_codes/sleep 9": "9"}, *times))
    assert tables.jobs[["run", "state", "return_code", "failed"]].to_numpy().tolist() == [
        [1, "finished", 9.0, True]
    ]
    tables.append(bare)
    assert tables.jobs["state"].tolist() == ["finished", "running"]


def test_a_process_id_used_again_is_a_new_run():
    tables = Tables()
    for second, text in enumerate(("one\n", "two\n")):
        tables.append(wire.encode_event("dispatcher", {"process_id": "a", "state": "running"}))
        time = f"2026-11-23T07:15:4{second}"
        tables.append(generic_end("a", ["x"], {"x": text, "return_codes/x": "0"}, time, time))
    assert tables.jobs[["run", "log"]].to_numpy().tolist() == [[1, "one\n"], [2, "two\n"]]


def test_commands_called_like_keys():
    tables = Tables()
    details = {
        "state": "finished",
        "return_codes/state": "0",
        "process_id": "keysmore\n",
        "return_codes/process_id": "0",
    }
    tables.append(wire.encode_event("dispatcher", {"process_id": "keys", "state": "running"}))
    args = {
        "cmd_list": ["state", "process_id"],
        "time_started": "2026-11-23T07:15:43",
        "time_finished": "2026-11-23T07:15:43",
    }
    tables.append(wire.encode_event("dispatcher", args | details))
    job = tables.jobs.iloc[0]
    assert len(tables.jobs) == 1
    assert (job["process_id"], job["state"], job["return_code"]) == ("keys", "finished", 0)
    assert job["log"] == "more\n"


def test_a_lost_connection_makes_jobs_unknown_until_they_are_known_again():
    tables = Tables()
    running = {
        "cmd_list": ["a"],
        "process_id": "p",
        "state": "running",
        "time_started": "2026-11-23T07:15:43",
    }
    frame = wire.encode_event("dispatcher", {"process_details": running, "state": "running"})
    tables.append(frame, server="nas")
    tables.lose_jobs("nas")
    assert tables.jobs["state"].tolist() == ["unknown"]
    tables.append(frame, server="nas")
    assert tables.jobs["state"].tolist() == ["running"]
    assert len(tables.jobs) == 1


def test_updates_of_jobs_can_be_rebuilt_from_the_events(captures):
    from sysadm_nb.tables import job_updates

    tables = Tables()
    for record in captures("03b"):
        if record["dir"] == "in":
            tables.append(
                record["frame"], received=1_795_418_000_000_000 + int(record["t"] * 1e6), server="nas"
            )
    updates = job_updates(tables.events)
    last = updates.groupby(["process_id", "run"]).last()
    now = tables.jobs.set_index(["process_id", "run"])
    assert (last["log"] == now["log"].reindex(last.index)).all()
    assert (last["state"].astype(str) == now["state"].astype(str).reindex(last.index)).all()
    assert len(updates) == now["updates"].sum()
