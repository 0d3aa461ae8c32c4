"""The stand-in for ``zpool``: list, status and scrub."""

from __future__ import annotations

from collections.abc import Iterable
from getopt import gnu_getopt
from typing import Final

from sysadm_nb.server.demo import status
from sysadm_nb.server.demo.command import USAGE, Command, Output, Run, Wrong, columns_of, table
from sysadm_nb.server.demo.machine import Machine
from sysadm_nb.server.demo.storage import GiB, Pool, Scan

POLL: Final = 0.25  # seconds between two looks at a scrub that somebody waits for


def _pools(machine: Machine, names: Iterable[str]) -> list[Pool]:
    wanted = list(names)
    for name in wanted:
        if name not in machine.pools:
            raise Wrong(f"cannot open '{name}': no such pool")
    return [machine.pools[name] for name in wanted or sorted(machine.pools)]


# Header and name on the wire of each property, in the order of ``zpool list``.
COLUMNS: Final = {
    "name": ("NAME", "name"),
    "size": ("SIZE", "size"),
    "allocated": ("ALLOC", "alloc"),
    "free": ("FREE", "free"),
    "checkpoint": ("CKPOINT", ""),
    "expandsize": ("EXPANDSZ", "expandsz"),
    "fragmentation": ("FRAG", "frag"),
    "capacity": ("CAP", "capacity"),
    "dedupratio": ("DEDUP", "dedup"),
    "health": ("HEALTH", "health"),
    "altroot": ("ALTROOT", "altroot"),
}


def _list(machine: Machine, arguments: list[str]) -> Run:
    options, names = gnu_getopt(arguments, "Hpo:")
    given = dict(options)
    columns = columns_of(given["-o"], COLUMNS) if "-o" in given else list(COLUMNS)
    rows = []
    for pool in _pools(machine, names):
        values = {"name": pool.name} | (pool.exact() if "-p" in given else pool.as_sent())
        rows.append([str(values.get(COLUMNS[column][1], "-")) for column in columns])
    yield Output(table([COLUMNS[column][0] for column in columns], rows, "-H" in given))
    return 0


def _status(machine: Machine, arguments: list[str]) -> Run:
    options, names = gnu_getopt(arguments, "vx")
    pools = _pools(machine, names)
    if ("-x", "") in options:
        pools = [pool for pool in pools if pool.health != "ONLINE"]
        if not pools:
            yield Output("all pools are healthy\n")
            return 0
    yield Output("\n".join(status.report(pool, machine.now) for pool in pools))
    return 0


def _scrub_pools(machine: Machine, arguments: list[str]) -> Run:
    options, names = gnu_getopt(arguments, "spw")
    flags = {flag for flag, _ in options}
    if not names:
        raise Wrong("missing pool name argument\nusage: zpool scrub [-s | -p] [-w] pool ...", USAGE)
    if {"-s", "-p"} <= flags:
        raise Wrong("invalid option combination: -s and -p are mutually exclusive", USAGE)
    pools = _pools(machine, names)
    for pool in pools:
        _scrub(machine, pool, flags)
    while "-w" in flags and any(pool.scan and pool.scan.active for pool in pools):
        yield Output("", after=POLL)
    return 0


def _scrub(machine: Machine, pool: Pool, flags: set[str]) -> None:
    scan = pool.scan if pool.scan is not None and pool.scan.active else None
    if scan is not None and scan.kind == "resilver":
        raise Wrong(f"cannot scrub {pool.name}: currently resilvering")
    if flags & {"-s", "-p"}:
        verb = "cancel" if "-s" in flags else "pause"
        if scan is None or (verb == "pause" and scan.paused is not None):
            raise Wrong(f"cannot {verb} scrubbing {pool.name}: there is no active scrub")
        if verb == "cancel":
            scan.cancel(machine.now)
        else:
            scan.pause(machine.now)
    elif scan is None:
        machine.start_scan(pool, Scan("scrub", machine.now, max(pool.alloc, GiB), pool.scan_rate))
    elif scan.paused is not None:
        scan.resume(machine.now)
        machine.start_scan(pool, scan)
    else:
        raise Wrong(f"cannot scrub {pool.name}: currently scrubbing; use 'zpool scrub -s' to cancel scrub")


COMMANDS: Final[dict[str, Command]] = {"list": _list, "status": _status, "scrub": _scrub_pools}
