"""The machine's own ``zpool`` and ``zfs``: running them, and reading what they print.

The readers are pure: text in, plain dictionaries out. Columns are always asked for by name (``-o``), because
the default list differs between releases: OpenZFS 0.8 put CKPOINT before EXPANDSZ, and whoever counted
columns has read every later value one field off since. Exact numbers come from ``-p``.
The formats were read from ``cmd/zpool/zpool_main.c``, ``lib/libzfs/libzfs_pool.c`` and the manual pages of
OpenZFS 0.8.6, 2.1.16, 2.2.9 and 2.3.3.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from sysadm_nb import wire

T = TypeVar("T")

COLUMNS: Final = {
    "name": "name",
    "size": "size",
    "alloc": "allocated",
    "free": "free",
    "frag": "fragmentation",
    "expandsz": "expandsize",
    "dedup": "dedupratio",
    "altroot": "altroot",
    "capacity": "capacity",
    "health": "health",
}
"""Wire name of each value of a pool, and the property that ``zpool list -o`` knows it by."""

SIZES: Final = ("size", "alloc", "free", "expandsz")
DATASET_COLUMNS: Final = ("name", "avail", "mountpoint", "refer", "used")
DATASET_SIZES: Final = ("avail", "refer", "used")

WATCH_RETRY: Final = 300.0  # seconds until `zpool events` is tried again after it ended

_SYSTEM_PATH: Final = "/sbin:/usr/sbin:/usr/local/sbin"  # often not on a service's or a notebook's PATH
_NOT_LOADED: Final = re.compile(r"ZFS modules? .*(not|cannot)|failed to initialize ZFS", re.IGNORECASE)
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class ToolFailed(Exception):
    """A ``zpool`` or ``zfs`` ended with an error, took too long, or printed what cannot be read."""


class ToolHangs(ToolFailed):
    """It did not end in time: a suspended pool blocks it."""


class ToolMissing(ToolFailed):
    """This machine has no ZFS: no such program, or its kernel modules are not loaded."""


def find(program: str) -> str:
    """Full path of `program`, looked for on PATH and where systems keep it for root.

    Raises
    ------
    ToolMissing
        There is none.
    """
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_PATH}")
    if found is None:
        raise ToolMissing(f"there is no {program} on this machine (is OpenZFS installed?)")
    return found


def _environment() -> dict[str, str]:
    return os.environ | {"LC_ALL": "C"}


async def run(program: str, *arguments: str, timeout: float = 60.0) -> str:
    """What ``program arguments…`` prints.

    Raises
    ------
    ToolMissing
        No such program, or no ZFS in this kernel.
    ToolHangs
        It did not end within `timeout` seconds.
    ToolFailed
        It ended with an error.
    """
    process = await asyncio.create_subprocess_exec(
        find(program),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
        start_new_session=True,  # a Ctrl-C is meant for the server, not for its tools
    )
    command = " ".join((program, *arguments))
    try:
        output, errors = await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError:
        raise ToolHangs(f"`{command}` did not end within {timeout:g} s: is a pool suspended?") from None
    finally:
        await _end(process)
    said = errors.decode("utf-8", "replace").strip()
    if process.returncode:
        kind = ToolMissing if _NOT_LOADED.search(said) else ToolFailed
        raise kind(f"`{command}` ended with {process.returncode}: {said or 'it said nothing'}")
    return output.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode("utf-8")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        # a process stuck in the kernel dies only when the kernel lets it: do not wait for that
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(process.wait()), 5)


# --- pools --------------------------------------------------------------------------------------------------


def read_pools(text: str) -> dict[str, dict[str, str]]:
    """Pools from ``zpool list -Hp -o`` with `COLUMNS` in order: exact values, as text.

    Raises
    ------
    ToolFailed
        A line has not as many fields as columns were asked for.

    Examples
    --------
    >>> pools = read_pools("tank\\t1000\\t900\\t100\\t6\\t-\\t1.00\\t-\\t90\\tONLINE\\n")
    >>> pools["tank"]["alloc"], pools["tank"]["health"]
    ('900', 'ONLINE')
    """
    return {row.pop("name"): row for row in _rows(text, tuple(COLUMNS), "zpool list")}


def read_pools_json(text: str) -> dict[str, dict[str, str]]:
    """Pools from ``zpool list -jp`` (OpenZFS 2.3 and later), the same form as `read_pools` gives."""

    def values(pool: Any) -> dict[str, str]:
        found = pool["properties"]
        return {key: str(found[column]["value"]) for key, column in COLUMNS.items() if key != "name"}

    return pools_of(text, "zpool list", values)


def _rows(text: str, columns: tuple[str, ...], tool: str) -> Iterable[dict[str, str]]:
    for line in text.split("\n"):
        if not line:
            continue
        fields = line.split("\t")
        if len(fields) != len(columns):
            raise ToolFailed(f"{tool} printed {len(fields)} fields instead of {len(columns)}: {line!r}")
        yield dict(zip(columns, fields, strict=True))


def pools_of(text: str, tool: str, read: Callable[[Any], T]) -> dict[str, T]:
    """What `read` finds in each pool of the JSON that ``zpool … -j`` printed.

    Raises
    ------
    ToolFailed
        It is no such JSON.
    """
    try:
        return {str(name): read(pool) for name, pool in json.loads(text)["pools"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolFailed(f"{tool} -j printed no JSON of pools ({error!r}): {text[:200]!r}") from None


def pool_object(exact: Mapping[str, str]) -> dict[str, Any]:
    """One pool as it goes on the wire: display values as ``zpool list`` prints them, exact bytes beside them.

    `priority` is in each pool as the document has it, by the rule of the real server for the whole machine.

    Examples
    --------
    >>> pool = pool_object(
    ...     dict(size="114890375168", alloc="104582873088", free="10307502080", frag="41", expandsz="-",
    ...          dedup="1.00", altroot="-", capacity="91", health="ONLINE"))
    >>> pool["size"], pool["size_bytes"], pool["capacity"], pool["dedup"], pool["priority"]
    ('107G', 114890375168, '91%', '1.00x', '6 - Critical')
    """
    pool: dict[str, Any] = {**exact, **_sizes(exact, SIZES)}
    for key, unit in (("frag", "%"), ("capacity", "%"), ("dedup", "x")):
        if exact[key] != "-" and not exact[key].endswith(unit):
            pool[key] = exact[key] + unit
    pool["priority"] = wire.format_priority(pool_priority(pool))
    return pool


def _sizes(exact: Mapping[str, str], keys: Iterable[str]) -> dict[str, Any]:
    """Display value and exact bytes of each size that is a number; ``-`` and ``none`` stay as they are."""
    sizes: dict[str, Any] = {}
    for key in keys:
        if exact[key].isdigit():
            sizes[key] = wire.format_size(int(exact[key]))
            sizes[f"{key}_bytes"] = int(exact[key])
    return sizes


def pool_priority(pool: Mapping[str, Any]) -> int:
    """9 unless the pool is ``ONLINE``, 6 over 90 % full (exactly 90 is fine), else 0."""
    if pool["health"] != "ONLINE":
        return 9
    full = str(pool["capacity"]).removesuffix("%")
    return 6 if full.isdigit() and int(full) > 90 else 0


async def list_pools() -> dict[str, dict[str, Any]]:
    """This machine's imported pools by name, as they go on the wire (see `pool_object`).

    Raises
    ------
    ToolFailed
        ``zpool list`` failed, or there is none (`ToolMissing`).
    """
    columns = ",".join(COLUMNS.values())
    try:
        exact = read_pools_json(await run("zpool", "list", "-jp", "-o", columns))
    except (ToolMissing, ToolHangs):
        raise
    except ToolFailed:  # before 2.3 there is no -j; whatever else is wrong, this says
        exact = read_pools(await run("zpool", "list", "-Hp", "-o", columns))
    return {name: pool_object(values) for name, values in exact.items()}


# --- datasets and snapshots ---------------------------------------------------------------------------------


def read_datasets(text: str) -> dict[str, dict[str, Any]]:
    """Datasets from ``zfs list -Hp -o`` with `DATASET_COLUMNS`, as the real server's ``datasets`` reply.

    Examples
    --------
    >>> read_datasets("tank/home\\t97282912256\\t/home\\t98304\\t14065979392\\n")["tank/home"]["used"]
    '13.1G'
    """
    return {
        row.pop("name"): {**row, **_sizes(row, DATASET_SIZES)}
        for row in _rows(text, DATASET_COLUMNS, "zfs list")
    }


async def list_datasets(pool: str) -> dict[str, dict[str, Any]]:
    """Datasets of `pool` by name: display values, and exact bytes beside them."""
    return read_datasets(await run("zfs", "list", "-Hp", "-r", "-o", ",".join(DATASET_COLUMNS), pool))


class Snapshot(NamedTuple):
    """When a snapshot was made, in seconds since 1970 (of a received one: on the sender), and in which
    transaction group it came to be in this pool (of a received one too: later ones have higher numbers)."""

    creation: int
    createtxg: int


def read_snapshots(text: str) -> dict[str, Snapshot]:
    """Snapshots by name, from ``zfs list -t snapshot -Hp -o name,creation,createtxg``.

    Examples
    --------
    >>> read_snapshots("tank/home@monday\\t1795417272\\t4711\\n")
    {'tank/home@monday': Snapshot(creation=1795417272, createtxg=4711)}
    """
    rows = _rows(text, ("name", "creation", "createtxg"), "zfs list")
    return {row["name"]: Snapshot(_integer(row["creation"]), _integer(row["createtxg"])) for row in rows}


def _integer(text: str) -> int:
    return int(text) if text.isdigit() else 0


async def list_snapshots() -> dict[str, Snapshot]:
    """Every snapshot of this machine (see `read_snapshots`)."""
    columns = "name,creation,createtxg"
    return read_snapshots(await run("zfs", "list", "-t", "snapshot", "-Hp", "-o", columns))


def valid_pool_name(name: object) -> bool:
    """Whether `name` could be a pool's: never an option, a path or a pattern handed on to a program."""
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.: -]*", name) is not None


# --- events -------------------------------------------------------------------------------------------------


def read_event(line: str) -> tuple[float, str] | None:
    """Time (seconds since 1970) and class of one line of ``zpool events -H``; None for any other line.

    The time is printed in local time with no zone.
    """
    match = re.match(r"(\w{3}) ([ \d]\d) (\d{4}) (\d\d):(\d\d):(\d\d)\.(\d+)\s+(\S+)\s*$", line)
    if match is None or match[1] not in _MONTHS:
        return None
    month = _MONTHS.index(match[1]) + 1
    day, year, hour, minute, second = (int(match[index]) for index in range(2, 7))
    when = time.mktime((year, month, day, hour, minute, second, 0, 0, -1))
    return when + float(f"0.{match[7]}"), match[8]


async def follow_events() -> AsyncIterator[str]:
    """Classes of ZFS events (``sysevent.fs.zfs.scrub_start``, …) as they happen, from ``zpool events -f``.

    Ends when the program does, for instance where ``/dev/zfs`` cannot be read. Events from before the call,
    which the kernel keeps and the program prints first, are left out.
    """
    since = time.time() - 1
    process = await asyncio.create_subprocess_exec(
        find("zpool"),
        *("events", "-H", "-f"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        while line := await process.stdout.readline():
            event = read_event(line.decode("utf-8", "replace"))
            if event is not None and event[0] >= since:
                yield event[1]
    finally:
        await _end(process)


async def watch(changed: asyncio.Event, wanted: Callable[[str], bool] = lambda event: True) -> None:
    """Set `changed` at each ZFS event that is `wanted`, for ever; without events to follow, retry later."""
    while True:
        with contextlib.suppress(ToolFailed, OSError):
            async for event in follow_events():
                if wanted(event):
                    changed.set()
        await asyncio.sleep(WATCH_RETRY)
