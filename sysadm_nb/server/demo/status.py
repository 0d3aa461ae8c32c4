"""What ``zpool status`` prints of a simulated pool."""

from __future__ import annotations

from sysadm_nb import wire
from sysadm_nb.server.demo.clock import span, status_date
from sysadm_nb.server.demo.storage import SECOND, Disk, Pool, Scan, Vdev


def report(pool: Pool, now: int) -> str:
    """The report of one pool, as of `now` (µs since the epoch)."""
    lines = [f"  pool: {pool.name}", f" state: {pool.health}"]
    replacing = any(disk.replaces for vdev in pool.vdevs for disk in vdev.disks)
    if replacing:
        lines += [
            "status: A device is being resilvered; the pool works with less redundancy meanwhile.",
            "action: Wait for the resilver to complete.",
        ]
    elif pool.health != "ONLINE":
        lines += [
            "status: A device cannot be opened; the pool works with less redundancy.",
            f"action: Replace the device with 'zpool replace {pool.name} DEVICE'.",
        ]
    lines += [f"  scan: {_scan(pool.scan, now)}", "config:", "", *_config(pool), ""]
    return "\n".join([*lines, "errors: No known data errors", ""])


def _scan(scan: Scan | None, now: int) -> str:
    if scan is None:
        return "none requested"
    did = "scrub repaired" if scan.kind == "scrub" else "resilvered"
    if scan.canceled and scan.finished is not None:
        return f"{scan.kind} canceled on {status_date(scan.finished)}"
    issued = scan.issued(now)
    amount = "0B" if scan.kind == "scrub" else wire.format_size(issued)
    if scan.finished is not None:
        took, ended = span(scan.finished - scan.began), status_date(scan.finished)
        return f"{did} {amount} in {took} with 0 errors on {ended}"
    state = "paused" if scan.paused is not None else "in progress"
    since = status_date(scan.began if scan.paused is None else scan.paused)
    total, left = wire.format_size(scan.total), span((scan.total - issued) * SECOND // scan.rate)
    done = f"{100 * issued / scan.total:.2f}% done"
    rate = f" at {wire.format_size(scan.rate)}/s" if scan.paused is None else ""
    ending = f", {left} to go" if scan.paused is None else ""
    word = "repaired" if scan.kind == "scrub" else "resilvered"
    return (
        f"{scan.kind} {state} since {since}\n"
        f"\t{wire.format_size(issued)} issued{rate}, {total} total\n"
        f"\t{amount} {word}, {done}{ending}"
    )


def _config(pool: Pool) -> list[str]:
    rows: list[tuple[str, str, str]] = [(pool.name, pool.health, "")]
    for vdev in pool.vdevs:
        rows += _vdev(vdev)
    width = max(len(name) for name, _, _ in rows) + 2
    head = f"\t{'NAME':{width}}{'STATE':9} READ WRITE CKSUM"
    return [head, *(f"\t{name:{width}}{state:9}    0     0     0{note}" for name, state, note in rows)]


def _vdev(vdev: Vdev) -> list[tuple[str, str, str]]:
    whole = all(disk.state == "ONLINE" for disk in vdev.disks)
    rows = [(f"  {vdev.name}", "ONLINE" if whole else "DEGRADED", "")] if vdev.name else []
    indent = "    " if vdev.name else "  "
    for disk in vdev.disks:
        rows += _disk(disk, indent)
    return rows


def _disk(disk: Disk, indent: str) -> list[tuple[str, str, str]]:
    if not disk.replaces:
        note = "  cannot open" if disk.state != "ONLINE" else ""
        return [(indent + disk.name, disk.state, note)]
    return [
        (f"{indent}replacing-0", "DEGRADED", ""),
        (f"{indent}  {disk.replaces}", "UNAVAIL", "  cannot open"),
        (f"{indent}  {disk.name}", "ONLINE", "  (resilvering)"),
    ]
