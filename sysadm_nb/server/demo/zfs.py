"""The stand-in for ``zfs``: list, snapshot, create and destroy."""

from __future__ import annotations

import math
import re
from getopt import gnu_getopt
from typing import Final

from sysadm_nb.server.demo.clock import status_date
from sysadm_nb.server.demo.command import USAGE, Command, Output, Run, Wrong, columns_of, size, table
from sysadm_nb.server.demo.machine import Machine
from sysadm_nb.server.demo.storage import Dataset, KiB, Snapshot

_WRONG_CHARACTER: Final = re.compile(r"[^A-Za-z0-9_.: -]")


def _dataset(machine: Machine, name: str) -> Dataset:
    dataset = machine.dataset(name)
    if dataset is None:
        raise Wrong(f"cannot open '{name}': dataset does not exist")
    return dataset


def _below(machine: Machine, name: str, depth: float = math.inf) -> list[Dataset]:
    """A dataset and all under it, or so many levels."""
    pool, deepest = machine.pools[name.partition("/")[0]], name.count("/") + depth
    return [
        one
        for key, one in pool.datasets.items()
        if key == name or (key.startswith(name + "/") and key.count("/") <= deepest)
    ]


COLUMNS: Final = {
    "name": "NAME",
    "used": "USED",
    "available": "AVAIL",
    "referenced": "REFER",
    "mountpoint": "MOUNTPOINT",
    "creation": "CREATION",
}


def _list(machine: Machine, arguments: list[str]) -> Run:
    options, names = gnu_getopt(arguments, "Hpro:t:d:")
    given = dict(options)
    kinds = set(given.get("-t", "filesystem").split(","))
    if not kinds <= {"filesystem", "fs", "snapshot", "snap", "all"}:
        raise Wrong(f"invalid type '{given['-t']}'", USAGE)
    columns = columns_of(given["-o"], COLUMNS) if "-o" in given else list(COLUMNS)[:5]
    exact = "-p" in given
    recursive = "-r" in given or not names or "-d" in given
    depth = _depth(given["-d"]) if "-d" in given else math.inf
    found: list[Dataset] = []
    rows = []
    for name in names or sorted(machine.pools):
        above, at, snapshot = name.partition("@")
        dataset = _dataset(machine, above)
        if not at:
            found += _below(machine, name, depth) if recursive else [dataset]
        elif one := dataset.find(snapshot):
            rows.append(_snapshot_row(dataset, one, columns, exact))
        else:
            raise Wrong(f"cannot open '{name}': dataset does not exist")
    for dataset in found:
        if kinds & {"filesystem", "fs", "all"}:
            rows.append(_dataset_row(machine, dataset, columns, exact))
        if kinds & {"snapshot", "snap", "all"}:
            rows += [_snapshot_row(dataset, one, columns, exact) for one in dataset.snapshots]
    if not rows:
        yield Output("no datasets available\n", error=True)
        return 0
    yield Output(table([COLUMNS[column] for column in columns], rows, "-H" in given))
    return 0


def _depth(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise Wrong(f"{text} is not an integer", USAGE)
    return int(text)


def _dataset_row(machine: Machine, dataset: Dataset, columns: list[str], exact: bool) -> list[str]:
    pool = machine.pools[dataset.name.partition("/")[0]]
    values = {
        "name": dataset.name,
        "used": size(pool.used_below(dataset.name), exact),
        "available": size(pool.available, exact),
        "referenced": size(dataset.refer, exact),
        "mountpoint": dataset.mountpoint,
        "creation": "-",
    }
    return [values[column] for column in columns]


def _snapshot_row(dataset: Dataset, snapshot: Snapshot, columns: list[str], exact: bool) -> list[str]:
    created = str(snapshot.created // 1_000_000) if exact else status_date(snapshot.created)
    values = {
        "name": f"{dataset.name}@{snapshot.name}",
        "used": size(snapshot.held, exact),
        "available": "-",
        "referenced": size(snapshot.refer, exact),
        "mountpoint": "-",
        "creation": created,
    }
    return [values[column] for column in columns]


def _snapshot(machine: Machine, arguments: list[str]) -> Run:
    options, names = gnu_getopt(arguments, "r")
    if not names:
        raise Wrong("missing snapshot argument\nusage: zfs snapshot [-r] dataset@name ...", USAGE)
    taken: list[tuple[Dataset, str]] = []
    for full in names:
        name, at, snapshot = full.partition("@")
        if not at or not snapshot or "@" in snapshot or "/" in snapshot:
            raise Wrong(f"cannot create snapshot '{full}': a snapshot is called dataset@name")
        datasets = [_dataset(machine, name)]
        taken += [(one, snapshot) for one in (_below(machine, name) if options else datasets)]
    if len({dataset.name for dataset, _ in taken}) < len(taken):
        raise Wrong("cannot create snapshots: multiple snapshots of same fs not allowed")
    for dataset, snapshot in taken:
        if dataset.find(snapshot):
            raise Wrong(f"cannot create snapshot '{dataset.name}@{snapshot}': dataset already exists")
    for dataset, snapshot in taken:
        dataset.snapshot(snapshot, machine.now)
    yield Output("", after=0.05)
    return 0


def _create(machine: Machine, arguments: list[str]) -> Run:
    options, names = gnu_getopt(arguments, "p")
    if len(names) != 1:
        raise Wrong("usage: zfs create dataset", USAGE)
    name = names[0]
    parent, slash, last = name.rpartition("/")
    if not slash or not last:
        raise Wrong(f"cannot create '{name}': a dataset is called pool/name")
    if "@" in name:
        raise Wrong(f"cannot create '{name}': snapshot delimiter '@' is not expected here")
    if wrong := _WRONG_CHARACTER.search(name.replace("/", "")):
        raise Wrong(f"cannot create '{name}': invalid character '{wrong[0]}' in name")
    if "//" in name:
        raise Wrong(f"cannot create '{name}': empty component or misplaced '/' in name")
    pool = machine.pools.get(name.partition("/")[0])
    if pool is None:
        raise Wrong(f"cannot create '{name}': no such pool '{name.partition('/')[0]}'")
    if machine.dataset(name) and not options:
        raise Wrong(f"cannot create '{name}': dataset already exists")
    if machine.dataset(parent) is None and not options:
        raise Wrong(f"cannot create '{name}': parent does not exist")
    parts = name.split("/")
    for above in ("/".join(parts[:count]) for count in range(2, len(parts) + 1)):
        if above not in pool.datasets:  # with -p also the parents
            pool.datasets[above] = Dataset(above, 96 * KiB, f"/{above}")
    pool.datasets = dict(sorted(pool.datasets.items()))
    yield Output("", after=0.05)
    return 0


def _destroy(machine: Machine, arguments: list[str]) -> Run:
    options, names = gnu_getopt(arguments, "rf")
    if len(names) != 1:
        raise Wrong("usage: zfs destroy [-r] dataset | dataset@snapshot", USAGE)
    name, at, snapshot = names[0].partition("@")
    recursive = ("-r", "") in options
    dataset = _dataset(machine, name)
    if at:
        datasets = _below(machine, name) if recursive else [dataset]
        found = [(one, taken) for one in datasets if (taken := one.find(snapshot))]
        if not found:
            raise Wrong("could not find any snapshots to destroy; check snapshot names.")
        for one, taken in found:
            one.destroy(taken)
    else:
        _destroy_dataset(machine, dataset, recursive)
    yield Output("", after=0.05)
    return 0


def _destroy_dataset(machine: Machine, dataset: Dataset, recursive: bool) -> None:
    if dataset.name in machine.pools:
        raise Wrong(f"cannot destroy '{dataset.name}': operation does not apply to pools")
    below = _below(machine, dataset.name)
    children = [one.name for one in below[1:]] + [f"{dataset.name}@{one.name}" for one in dataset.snapshots]
    if children and not recursive:
        listed = "\n".join(children)
        raise Wrong(
            f"cannot destroy '{dataset.name}': filesystem has children\n"
            f"use '-r' to destroy the following datasets:\n{listed}"
        )
    pool = machine.pools[dataset.name.partition("/")[0]]
    for one in below:
        del pool.datasets[one.name]


COMMANDS: Final[dict[str, Command]] = {
    "list": _list,
    "snapshot": _snapshot,
    "create": _create,
    "destroy": _destroy,
}
