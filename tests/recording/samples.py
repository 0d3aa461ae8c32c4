"""Frames to record, and ways to record them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from sysadm_nb.recording.writer import Frame, Writer
from sysadm_nb.tables import Tables

SECOND = 1_000_000
DAY = 86_400 * SECOND
NOON = 1_795_435_200 * SECOND  # 2026-11-23 12:00:00 UTC


def event(name: str, args: object, **more: object) -> str:
    return json.dumps(
        {"args": args, "id": "", "name": name, "namespace": "events"} | more, separators=(",", ":")
    )


def state(capacity: int = 50, hostname: str = "nas", pools: Iterable[str] = ("tank",)) -> str:
    pool = {"size": "100G", "alloc": f"{capacity}G", "free": f"{100 - capacity}G", "frag": "1%"}
    pool |= {
        "expandsz": "-",
        "dedup": "1.00x",
        "altroot": "-",
        "capacity": f"{capacity}%",
        "health": "ONLINE",
    }
    args = {"hostname": hostname, "priority": "0 - Information", "zpools": dict.fromkeys(pools, pool)}
    return event("system-state", args)


def snapshot(dataset: str) -> str:
    return event(
        "life-preserver",
        {"class": "snapshot", "message": f"New snapshot of {dataset}", "priority": "1 - Information"},
    )


def running(process: str) -> str:
    return event("dispatcher", {"process_id": process, "state": "running"})


def finished(process: str, command: str = "zpool scrub tank", log: str = "done\n") -> str:
    args = {"process_id": process, "state": "finished", "cmd_list": [command], command: log}
    args |= {f"return_codes/{command}": "0"}
    args |= {"time_started": "2026-11-23T12:00:00", "time_finished": "2026-11-23T12:00:05"}
    return event("dispatcher", args)


def write(
    path: Path, frames: Iterable[tuple[int, str | bytes]], server: str = "nas", **options: object
) -> None:
    """Record frames that came at the given times."""
    writer = Writer(path)
    writer.write([Frame(text, received, server, "live") for received, text in frames])
    writer.close()


class FakeMonitor:
    """What a recorder asks of a monitor, fed by hand."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.callbacks: list[Callable[[str | bytes, int, str, str], object]] = []

    def on_frame(self, callback: Callable[[str | bytes, int, str, str], object]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def feed(self, text: str | bytes, received: int, server: str = "nas", origin: str = "live") -> None:
        self.tables.append(text, received=received, server=server, origin=origin)
        for callback in self.callbacks:
            callback(text, received, server, origin)
