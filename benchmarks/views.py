"""What a live view costs the kernel, beside rows composed of ipywidgets, measured in a real kernel.

    python -m benchmarks.views [--rounds 20] [--day]

- **Refresh**: 1,000 jobs of which 100 changed since the last one. Processor time of the whole kernel, all
  its threads: reading the tables, making the message, and sending it; refreshes one after the other, and
  each after a quarter of a second in which the processor's caches went cold. Beside it, rows of
  ``HBox(Label, IntProgress)`` that show the same, newest first, brought up to date from the same tables:
  every row is set, and ipywidgets sends what differs. Where one of the 100 is a new job, every row shows
  another job than before. Where none is, the same again, and at its very best (somebody knows which rows
  changed and what to write, and only these are set: no table is read).
- **Rate**: the same refresh after 12 events in a quarter of a second, and after 25,000.
- **Messages**: how many a second at full load, and whether the final state is the last thing sent.
- ``--day``: 24 hours simulated, with 2 million events and all views: memory of the kernel, hour by hour.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import sys
from pathlib import Path
from typing import Any

IN_KERNEL = """
import gc, json, resource, sys, time
sys.path.insert(0, {project!r})
from benchmarks import views as benchmark
print("RESULT" + json.dumps(benchmark.{name}({argument})))
"""
IDLE = (0.0, 0.25)  # seconds in which the kernel does nothing before a refresh
CHAIN = ["pkg update", "pkg upgrade -y", "pkg autoremove -y"]


def job_frame(number: int, percent: float, step: int = 0) -> str:
    """A running event of one of a thousand jobs."""
    from sysadm_nb import wire

    process = {
        "process_id": f"sysadm_pkg_upgrade-{number}",
        "state": "running",
        "cmd_list": CHAIN,
        "current_cmd": CHAIN[step],
        "time_started": "2026-11-23T07:15:00",
    }
    args = {
        "event_system": "sysadm/pkg",
        "action": "pkg_upgrade",
        "state": "running",
        "percent_done": f"{percent}%",
    }
    return wire.encode_event("dispatcher", args | {"process_details": process})


def kernel_time(rounds: int, idle: float, change: Any, run: Any) -> float:
    """Processor seconds a refresh takes: of the thread that makes it, median, and of the sending one.

    The median leaves out the full garbage collections that hit one refresh in hundreds.
    """
    import statistics
    import time

    from IPython import get_ipython

    sending = time.pthread_getcpuclockid(get_ipython().kernel.iopub_thread.thread.ident)
    sent_before = time.clock_gettime(sending)
    made = []
    for _ in range(rounds):
        change()
        time.sleep(idle)
        start = time.thread_time()
        run()
        made.append(time.thread_time() - start)
    time.sleep(1)  # the sending thread may be behind
    return statistics.median(made) + (time.clock_gettime(sending) - sent_before) / rounds


def changing_jobs() -> tuple[Any, Any]:
    """Tables with a thousand jobs, and a call that changes a hundred, of which some are new."""
    from sysadm_nb import Tables

    tables = Tables()
    for number in range(1000):
        tables.append(job_frame(number, 0), server="nas")
    turns, newest = itertools.count(1), 999

    def change(new: int) -> None:
        nonlocal newest
        percent = next(turns) % 97 + 0.5
        for number in range(new, 100):
            tables.append(job_frame(newest - number * 10, percent), server="nas")
        for _ in range(new):
            newest += 1
            tables.append(job_frame(newest, percent), server="nas")

    return tables, change


def view_refresh(rounds: int) -> dict[str, float]:
    """In the kernel: what a refresh of ours costs."""
    from sysadm_nb import JobsView

    tables, change = changing_jobs()
    view = JobsView(tables)
    for undo in view._undo:
        undo()  # refreshed by the benchmark alone
    view.do_open()
    view._tick()
    messages: list[int] = []
    plain = view._message
    view._message = lambda kind, body: (messages.append(len(body)), plain(kind, body))
    kernel_time(10 * rounds, 0.0, functools.partial(change, 1), view._tick)  # to be warm
    messages.clear()
    out: dict[str, float] = {}
    for idle in IDLE:
        for way, new in (("moving", 1), ("in place", 0)):
            name = f"ours {way} {idle}"
            turns = rounds if idle else 10 * rounds
            out[name] = kernel_time(turns, idle, functools.partial(change, new), view._tick)
    view.close()
    return out | {"messages": len(messages) / (22 * rounds), "bytes": max(messages)}


def rows_refresh(rounds: int) -> dict[str, float]:
    """In the kernel: what a refresh of rows of widgets costs."""
    import ipywidgets

    tables, change = changing_jobs()
    rows = [ipywidgets.HBox([ipywidgets.Label(""), ipywidgets.IntProgress()]) for _ in range(1000)]
    turns = itertools.count(1)

    def newest_first() -> None:
        jobs = tables.jobs.iloc[: -len(rows) - 1 : -1]
        cells = zip(jobs.process_id, jobs.state, jobs.current_command, jobs.percent_done, strict=True)
        for row, (name, state, command, percent) in zip(rows, cells, strict=True):
            label, bar = row.children
            label.value = f"{name} {state} {command} {percent:.0f} %"
            bar.value = int(percent)

    def best() -> None:
        turn = next(turns)
        for number in range(0, 1000, 10):
            label, bar = rows[number].children
            label.value = f"at best {turn}"
            bar.value = turn % 97

    kernel_time(rounds, 0.0, functools.partial(change, 1), newest_first)  # to be warm
    out: dict[str, float] = {}
    for idle in IDLE:
        for way, run, new in (
            ("moving", newest_first, 1),
            ("in place", newest_first, 0),
            ("at best", best, 0),
        ):
            name = f"rows {way} {idle}"
            out[name] = kernel_time(rounds, idle, functools.partial(change, new), run)
            newest_first()
    return out


def rate(rounds: int) -> dict[str, Any]:
    """In the kernel: the same refresh of each view after few events and after many."""
    import statistics
    import time

    from sysadm_nb import Tables, wire
    from sysadm_nb.widgets import EventsView, JobsView, LifePreserverView, PoolsView

    facts = {"size": "10T", "capacity": "50%", "health": "ONLINE"}

    def frames(turn: int) -> list[str]:
        used = {"alloc": f"{5 + turn / 1000:.3f}T", "free": "5T"}
        return [
            job_frame(turn % 10, turn % 100),
            wire.encode_event(
                "system-state", {"hostname": "h", "zpools": {"tank": facts | used, "zroot": facts | used}}
            ),
            wire.encode_event(
                "life-preserver", {"class": "replication", "message": f"Replicating tank@a: {turn}M/9G (1%)"}
            ),
        ]

    out: dict[str, Any] = {}
    for kind in (JobsView, PoolsView, EventsView, LifePreserverView):
        times: dict[int, list[float]] = {}
        for many in (1, 25_000):
            tables = Tables(max_rows=200_000)
            for turn in range(10):
                for frame in frames(turn):
                    tables.append(frame, server="nas")
            view = kind(tables)
            for undo in view._undo:
                undo()
            view.do_open()
            view._tick()
            for turn in range(rounds):
                for event in range(max(10, many // 3)):  # the same ten jobs change, once or often
                    for frame in frames(turn * 7 + event)[: 3 if many > 1 or event == 9 else 1]:
                        tables.append(frame, server="nas")
                tables.events  # noqa: B018 - rows become columns when somebody reads; that is the tables' cost
                for name in ("pools", "life_preserver"):
                    tables[name]
                time.sleep(0.25 if many == 1 else 0)  # for many events it is over anyway
                start = time.thread_time()
                view._tick()
                times.setdefault(many, []).append(time.thread_time() - start)
            view.close()
        out[kind.__name__] = [statistics.median(times[many]) for many in (1, 25_000)]
    return out


def burst(seconds: int) -> dict[str, Any]:
    """In the kernel: messages at full load, and the last of them."""
    import time

    from sysadm_nb import JobsView, Tables

    tables = Tables()
    view = JobsView(tables)
    view.do_open()
    sent: list[tuple[float, bytes]] = []
    view._message = lambda kind, body: sent.append((time.monotonic(), body))
    until = time.monotonic() + seconds
    count = 0
    while time.monotonic() < until:
        for _ in range(50):
            tables.append(job_frame(count % 50, count % 100), server="nas")
            count += 1
        time.sleep(0)
    tables.append(job_frame(7, 77.5), server="nas")
    time.sleep(1)
    view.close()
    most = max(sum(start <= moment < start + 1 for moment, _ in sent) for start, _ in sent)
    last = next(body for _, body in reversed(sent) if b'"cells"' in body or b'"rows"' in body)
    return {
        "events": count,
        "rate": count / seconds,
        "messages": len(sent),
        "most": most,
        "final": b"77.5" in last,
    }


def day(hours: int) -> list[float]:
    """In the kernel: resident memory in MiB after each simulated hour of a busy server, with all views."""
    import gc

    import psutil

    from sysadm_nb import Tables, wire
    from sysadm_nb.widgets import dashboard

    tables = Tables(max_rows=100_000, max_text=16 * 2**20)
    board = dashboard(tables)
    for view in board.views:
        view.do_open()
    start = 1_795_417_200_000_000
    memory = []
    for hour in range(hours):
        for second in range(3600):
            time = start + (hour * 3600 + second) * 1_000_000
            for part in range(20):
                number = (hour * 3600 + second) // 60 * 20 + part
                tables.append(job_frame(number, second % 60 / 0.6), received=time + part, server="nas")
            if second % 60 == 59:
                for part in range(20):
                    number = (hour * 3600 + second) // 60 * 20 + part
                    done = {
                        "process_id": f"sysadm_pkg_upgrade-{number}",
                        "state": "finished",
                        "cmd_list": CHAIN,
                    }
                    done |= dict.fromkeys(CHAIN, "log\n" * 100)
                    done |= {f"return_codes/{command}": "0" for command in CHAIN}
                    args = {"event_system": "sysadm/pkg", "state": "finished", "process_details": done}
                    tables.append(wire.encode_event("dispatcher", args), received=time + 50, server="nas")
            if second % 10 == 0:
                zpools = {"tank": {"size": "10T", "alloc": f"{1 + second / 3600:.3f}T", "health": "ONLINE"}}
                event = wire.encode_event("system-state", {"hostname": "h", "zpools": zpools})
                tables.append(event, received=time + 60, server="nas")
            if second % 60 == 0:
                for view in board.views:
                    view._tick()
        gc.collect()
        memory.append(psutil.Process().memory_info().rss / 2**20)
    board.close()
    return memory


def in_kernel(name: str, argument: int, timeout: float = 3000) -> Any:
    """Run one of the above in a kernel of its own, as a notebook would."""
    from jupyter_client.manager import KernelManager

    manager = KernelManager()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(60)
        code = IN_KERNEL.format(
            project=str(Path(__file__).resolve().parents[1]), name=name, argument=argument
        )
        text: list[str] = []

        def heard(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                text.append(message["content"]["text"])
            elif message["msg_type"] == "error":
                text.append("\n".join(message["content"]["traceback"]))

        client.execute_interactive(code, output_hook=heard, timeout=timeout)
        output = "".join(text)
        if "RESULT" not in output:
            sys.exit(output)
        return json.loads(output.rpartition("RESULT")[2])
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def main() -> None:
    """Run and print the table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--day", action="store_true", help="24 hours simulated (minutes long)")
    options = parser.parse_args()

    found = in_kernel("view_refresh", options.rounds) | in_kernel("rows_refresh", options.rounds)
    print("A refresh with 1,000 jobs of which 100 changed: processor time of the kernel")
    print(f"  JobsView sends {found['messages']:g} message of at most {found['bytes']:,} bytes")
    print(f"  {'':41}{'one after the other':>28}{'after 0.25 s of idleness':>28}")
    for what, words in (
        ("ours moving", "JobsView, one of them new"),
        ("rows moving", "  HBox(Label, IntProgress), newest first"),
        ("ours in place", "JobsView, none of them new"),
        ("rows in place", "  HBox(Label, IntProgress), all set"),
        ("rows at best", "  the same at its very best"),
    ):
        line = f"  {words:<41}"
        if what.startswith("ours"):
            ours = what
        for idle in IDLE:
            took = found[f"{what} {idle}"]
            times = "" if what == ours else f"{took / found[f'{ours} {idle}']:,.0f} times"
            line += f"{took * 1e6:13,.0f} µs {times:>11}"
        print(line)

    print("A refresh after 12 events and after 25,000 (100,000 a second)")
    for name, (few, many) in in_kernel("rate", options.rounds).items():
        print(f"  {name:<20} {few * 1e6:7.0f} µs  {many * 1e6:7.0f} µs   ratio {many / few:.2f}")

    found = in_kernel("burst", 5)
    print(f"A burst of {found['events']:,} events at {found['rate']:,.0f} a second for 5 s")
    print(f"  {found['messages']} messages, at most {found['most']} in a second")
    print(f"  the final state was sent: {found['final']}")

    if options.day:
        memory = in_kernel("day", 24)
        print("24 hours simulated, MiB resident after each: " + " ".join(f"{value:.0f}" for value in memory))
        print(f"  from hour 6 to hour 24: {memory[-1] / memory[5]:.2f} times")


if __name__ == "__main__":
    main()
