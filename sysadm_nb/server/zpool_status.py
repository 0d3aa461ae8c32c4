"""Reading ``zpool status``: the text of every OpenZFS release, and the JSON of 2.3 and later."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sysadm_nb.server import zfs


def read_status(text: str) -> dict[str, dict[str, Any]]:
    """What ``zpool status`` says of each pool beyond its health.

    Returns
    -------
    dict
        By pool: ``scan`` (one line), and only where there is something to say ``status``, ``action``,
        ``errors`` (one line each) and ``devices``: those not ``ONLINE`` or with errors, each an object of
        ``name``, ``state``, ``read``, ``write``, ``cksum`` and, where given, ``note``.
    """
    pools: dict[str, dict[str, Any]] = {}
    fields: dict[str, list[str]] = {}
    key = ""
    for line in [*text.split("\n"), "  pool: "]:
        heading = re.match(r" {0,3}([a-z]+): ?(.*)$", line)
        if heading is None:
            if key:
                fields[key].append(line)
            continue
        key = heading[1]
        if key == "pool":
            if "pool" in fields:
                pools[_one_line(fields["pool"])] = _status_of(fields)
            fields = {}
        fields.setdefault(key, []).append(heading[2])
    return pools


def _status_of(fields: Mapping[str, list[str]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: line
        for key in ("status", "action", "scan", "errors")
        if (line := _one_line(fields.get(key, [])))
    }
    if found.get("errors") == "No known data errors":
        del found["errors"]
    devices = [device for line in fields.get("config", []) if (device := _device(line))]
    if devices:
        found["devices"] = devices
    return found


def _one_line(lines: Iterable[str]) -> str:
    return " ".join(part for line in lines if (part := " ".join(line.split())))


def _device(line: str) -> dict[str, str] | None:
    """A line of the config table (``NAME STATE READ WRITE CKSUM note``) where something is wrong with it."""
    fields = line.split(None, 5)
    if len(fields) < 2 or fields[0] == "NAME" or not fields[1].isupper():
        return None
    name, state, *counts = fields
    if state in ("ONLINE", "AVAIL", "INUSE") and all(count == "0" for count in counts[:3]):
        return None
    return _bad_device(name, state, counts[:3], counts[3].strip() if len(counts) > 3 else "")


def _bad_device(name: str, state: str, counts: Iterable[str], note: str) -> dict[str, str]:
    device = {"name": name, "state": state, **dict(zip(("read", "write", "cksum"), counts, strict=False))}
    return device | ({"note": note} if note else {})


def read_status_json(text: str) -> dict[str, dict[str, Any]]:
    """The same as `read_status`, from ``zpool status -j`` (OpenZFS 2.3 and later)."""
    return zfs.pools_of(text, "zpool status", _status_of_json)


def _status_of_json(pool: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: _one_line([str(pool[key])]) for key in ("status", "action") if pool.get(key)}
    if found.get("status") == "OK":
        del found["status"]
    found["scan"] = _scan_line(pool.get("scan_stats") or {})
    if str(pool.get("error_count", "0")) != "0":
        found["errors"] = f"{pool['error_count']} data errors"
    devices = list(_bad_devices(pool.get("vdevs") or {}))
    return found | ({"devices": devices} if devices else {})


def _scan_line(scan: Mapping[str, Any]) -> str:
    if not scan:
        return "none requested"
    what, state = str(scan.get("function", "scan")).lower(), str(scan.get("state", "")).lower()
    if state == "scanning":
        return f"{what} in progress since {scan.get('start_time', '?')}"
    return f"{what} {state} on {scan.get('end_time', '?')} with {scan.get('errors', '?')} errors"


def _bad_devices(vdevs: Mapping[str, Any]) -> Iterable[dict[str, str]]:
    for name, vdev in vdevs.items():
        counts = [str(vdev.get(f"{what}_errors", "0")) for what in ("read", "write", "checksum")]
        state = str(vdev.get("state", "HEALTHY"))
        if state not in ("HEALTHY", "ONLINE", "AVAIL", "INUSE") or counts != ["0", "0", "0"]:
            yield _bad_device(name, "ONLINE" if state == "HEALTHY" else state, counts, "")
        yield from _bad_devices(vdev.get("vdevs") or {})


async def status() -> dict[str, dict[str, Any]]:
    """``zpool status`` of all pools (see `read_status`)."""
    try:
        return read_status_json(await zfs.run("zpool", "status", "-j"))
    except (zfs.ToolMissing, zfs.ToolHangs):
        raise
    except zfs.ToolFailed:
        return read_status(await zfs.run("zpool", "status"))
