"""A reproducible stream of frames in the form of real servers, about 1.1 kB each, a thousand a second.

60 % dispatcher (package jobs with their logs), 30 % system-state of fifty hosts whose pools fill slowly,
10 % life-preserver.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sysadm_nb.wire import encode_event, format_size

PACKAGES = ("openssl", "curl", "python311", "nginx", "bash", "zfs-utils", "ca_root_nss", "git", "pcre2")
POOLS = ("tank", "zroot", "data", "backup")
START = datetime(2026, 11, 23, 7, 15, tzinfo=UTC)


def _lines(r: random.Random, count: int) -> str:
    return "".join(
        f"[{i}/{count}] Upgrading {r.choice(PACKAGES)} from {r.randint(1, 9)}.{r.randint(0, 40)} "
        f"to {r.randint(1, 9)}.{r.randint(0, 40)}: done\n"
        for i in range(1, count + 1)
    )


def _job(r: random.Random, number: int) -> Iterator[tuple[str, dict[str, object]]]:
    """One package job: pending, bare running, running, deltas, finished, as a real server sends them."""
    process_id = f"sysadm_pkg_upgrade-{{{r.getrandbits(64):016x}-{number}}}"
    commands = ["pkg update", "pkg upgrade -y"]
    started = (START + timedelta(milliseconds=number)).strftime("%Y-%m-%dT%H:%M:%S")

    def event(state: str, details: dict[str, object], log: str = "") -> tuple[str, dict[str, object]]:
        base = {"cmd_list": commands, "process_id": process_id, "state": state} | details
        return "dispatcher", {
            "action": "pkg_upgrade",
            "event_system": "sysadm/pkg",
            "pkg_log": log,
            "process_details": base,
            "state": state,
        }

    yield event("pending", {})
    yield "dispatcher", {"process_id": process_id, "state": "running"}
    yield event("running", {"time_started": started})
    first, second, log = "Updating catalogue\nAll repositories are up to date.\n", "", ""
    common = {"time_started": started, "pkg update": first, "return_codes/pkg update": "0"}
    yield event("running", common | {"current_cmd": "pkg update"}, first)
    for _ in range(r.randint(3, 9)):
        log = _lines(r, r.randint(4, 18))
        second += log
        yield event("running", common | {"current_cmd": "pkg upgrade -y", "pkg upgrade -y": log}, log)
    code = "0" if r.random() < 0.95 else "3"
    ended = common | {"pkg upgrade -y": second, "return_codes/pkg upgrade -y": code, "time_finished": started}
    yield event("finished", ended, second)


class _Host:
    """A host with one to four pools that fill slowly."""

    def __init__(self, r: random.Random, number: int) -> None:
        self.name = f"host{number}"
        self.sizes = {
            name: r.choice([107, 232, 464, 928, 1862, 3725]) << 30 for name in POOLS[: r.randint(1, 4)]
        }
        self.alloc = {name: int(size * r.random() * 0.8) for name, size in self.sizes.items()}

    def state(self, r: random.Random) -> tuple[str, dict[str, object]]:
        pools = {}
        for name, size in self.sizes.items():
            alloc = self.alloc[name] = min(size, self.alloc[name] + int(r.random() * size / 20_000))
            pools[name] = {
                "alloc": format_size(alloc),
                "altroot": "-",
                "capacity": f"{100 * alloc // size}%",
                "dedup": "1.00x",
                "expandsz": "-",
                "frag": f"{40 * alloc // size}%",
                "free": format_size(size - alloc),
                "health": "ONLINE" if r.random() < 0.98 else "DEGRADED",
                "size": format_size(size),
            }
        priority = r.choice(["0 - Information", "0 - Information", "3 - Warning", "6 - Critical"])
        updates = {"status": "noupdates"}
        return "system-state", {
            "hostname": self.name,
            "priority": priority,
            "updates": updates,
            "zpools": pools,
        }


def _life_preserver(r: random.Random, number: int) -> tuple[str, dict[str, object]]:
    date = (START + timedelta(milliseconds=number)).strftime("%a %b %d %H:%M:%S UTC %Y")
    message = f"{date}: New snapshot of {r.choice(POOLS)}/home{r.randint(1, 40)}"
    return "life-preserver", {"class": "snapshot", "message": message, "priority": "1 - Information"}


def frames(count: int, seed: int = 42) -> list[str]:
    """The first ``count`` frames of the stream; several jobs run at any moment."""
    r = random.Random(seed)
    hosts = [_Host(r, number) for number in range(50)]
    going: list[Iterator[tuple[str, dict[str, object]]]] = []
    out: list[str] = []
    while len(out) < count:
        dice = r.random()
        if dice < 0.6:
            if len(going) < 8:
                going.append(_job(r, len(out)))
            job = r.choice(going)
            event = next(job, None)
            if event is None:
                going.remove(job)
                continue
        elif dice < 0.9:
            event = r.choice(hosts).state(r)
        else:
            event = _life_preserver(r, len(out))
        out.append(encode_event(*event))
    return out
