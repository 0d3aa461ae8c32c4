"""Stand-ins for ``zpool`` and ``zfs``: what OpenZFS 0.8, 2.1, 2.2 and 2.3 print, from a made-up state.

Where the forms come from (OpenZFS source tree, tags zfs-0.8.6, zfs-2.1.16, zfs-2.2.9, zfs-2.3.3):
columns and their order, CKPOINT included: ``zpool_do_list`` in cmd/zpool/zpool_main.c (the same in all four);
exact (-p) and display values, ``-`` for none: ``zpool_get_prop`` in lib/libzfs/libzfs_pool.c;
three-digit sizes: ``zfs_nicenum_format`` in lib/libzutil/zutil_nicenum.c;
``-j`` only from 2.3 on, its objects: man8/zpool-list.8, example 3, and man8/zpool-status.8, example 2;
event lines: ``zpool_do_events_short``; snapshot and dataset lists: man8/zfs-list.8.

``STUB_ZFS`` is a directory with ``state.json``: ``version``, ``pools`` (exact values by property name),
``status`` (text) or ``status_json``, ``datasets``, ``snapshots`` (name: creation, createtxg) and, to fail,
``error`` (printed, exit 1) or ``hang`` (seconds). Lines appended to the file ``events`` there are what
``zpool events -f`` tells; every call is written to the file ``calls``.
"""

import getopt
import json
import os
import pathlib
import sys
import time

HOME = pathlib.Path(os.environ.get("STUB_ZFS", "."))
LIST = "name,size,allocated,free,checkpoint,expandsize,fragmentation,capacity,dedupratio,health,altroot"
HEADINGS = {
    "allocated": "ALLOC",
    "checkpoint": "CKPOINT",
    "expandsize": "EXPANDSZ",
    "fragmentation": "FRAG",
    "capacity": "CAP",
    "dedupratio": "DEDUP",
}
SHORT = {heading.lower(): name for name, heading in HEADINGS.items()}


def nicenum(number: int) -> str:
    index, whole = 0, number
    while whole >= 1024 and index < 6:
        whole //= 1024
        index += 1
    unit = ["", "K", "M", "G", "T", "P", "E"][index]
    if index == 0 or number % 1024**index == 0:
        return f"{whole}{unit}"
    for digits in (2, 1, 0):
        text = f"{number / 1024**index:.{digits}f}{unit}"
        if len(text) <= 5:
            break
    return text


def value(pool: dict, name: str, exact: bool) -> str:
    found = str(pool.get(name, "-"))
    if exact or found == "-":
        return found
    if name in ("size", "allocated", "free", "expandsize", "checkpoint"):
        return nicenum(int(found))
    return found + {"capacity": "%", "fragmentation": "%", "dedupratio": "x"}.get(name, "")


def usage(option: str) -> None:
    print(f"invalid option '{option}'\nusage:", file=sys.stderr)
    sys.exit(2)


def pool_list(state: dict, arguments: list[str]) -> None:
    flags = "HgLo:pPT:v" + ("j" if state["version"] >= "2.3" else "")
    try:
        options, _names = getopt.getopt(arguments, flags)
    except getopt.GetoptError as error:
        usage(error.opt)
    given = dict(options)
    columns = [SHORT.get(name, name) for name in given.get("-o", LIST).split(",")]
    pools = [{"name": name, **pool} for name, pool in state.get("pools", {}).items()]
    if "-j" in given:
        shown = {}
        for pool in pools:
            properties = {
                name: {"value": value(pool, name, "-p" in given), "source": {"type": "NONE", "data": "-"}}
                for name in columns
                if name != "name"
            }
            shown[pool["name"]] = {
                "name": pool["name"],
                "type": "POOL",
                "state": pool["health"],
                "guid": "15220353080205405147",
                "txg": "2671",
                "spa_version": "5000",
                "zpl_version": "5",
                "properties": properties,
            }
        version = {"command": "zpool list", "vers_major": 0, "vers_minor": 1}
        print(json.dumps({"output_version": version, "pools": shown}))
        return
    if not pools and "-H" not in given:
        print("no pools available")
        return
    rows = [[value(pool, name, "-p" in given) for name in columns] for pool in pools]
    if "-H" in given:
        print("".join("\t".join(row) + "\n" for row in rows), end="")
        return
    heading = [HEADINGS.get(name, name.upper()) for name in columns]
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    for row in (heading, *rows):
        print("  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)))


def pool_status(state: dict, arguments: list[str]) -> None:
    if "-j" in arguments:
        if state["version"] < "2.3":
            usage("j")
        version = {"command": "zpool status", "vers_major": 0, "vers_minor": 1}
        print(json.dumps({"output_version": version, "pools": state.get("status_json", {})}))
        return
    print(state.get("status", "no pools available\n"), end="")


def pool_events(arguments: list[str]) -> None:
    path = HOME / "events"
    path.touch()
    with path.open() as events:
        while True:
            line = events.readline()
            if line:
                print(line, end="", flush=True)
            elif "-f" not in arguments:
                return
            else:
                time.sleep(0.02)


def dataset_list(state: dict, arguments: list[str]) -> None:
    options, names = getopt.getopt(arguments, "Hprd:o:t:s:S:")
    given = dict(options)
    columns = given["-o"].split(",")
    if given.get("-t") == "snapshot":
        rows = [
            {"name": name, "creation": str(creation), "createtxg": str(txg)}
            for name, (creation, txg) in state.get("snapshots", {}).items()
        ]
    else:
        rows = [{"name": name, **values} for name, values in state.get("datasets", {}).items()]
        if names and not any(row["name"] == names[0] for row in rows):
            print(f"cannot open '{names[0]}': dataset does not exist", file=sys.stderr)
            sys.exit(1)
        rows = [row for row in rows if not names or (row["name"] + "/").startswith(names[0] + "/")]
    print("".join("\t".join(row[name] for name in columns) + "\n" for row in rows), end="")


def main(program: str) -> None:
    with (HOME / "calls").open("a") as calls:
        print(program, *sys.argv[1:], file=calls)
    state = json.loads((HOME / "state.json").read_text())
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "events":
        return pool_events(arguments)
    if "hang" in state:
        time.sleep(state["hang"])
    if "error" in state:
        print(state["error"], file=sys.stderr)
        sys.exit(1)
    if program == "zfs":
        return dataset_list(state, arguments)
    return {"list": pool_list, "status": pool_status}[command](state, arguments)
