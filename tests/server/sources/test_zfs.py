"""Reading zpool and zfs: texts as OpenZFS prints them, and the stand-ins of tests/stubs run for real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadm_nb import wire
from sysadm_nb.server import zfs, zpool_status

# OpenZFS zpool-list.8, examples 1 and 2 (all four releases), as exact numbers of the same display values
RPOOL = {
    "size": 21367462298,  # 19.9G
    "allocated": 9051643576,  # 8.43G
    "free": 12240656794,  # 11.4G
    "fragmentation": 33,
    "capacity": 42,
    "dedupratio": "1.00",
    "health": "ONLINE",
}
TANK = {
    "size": 66035122176,  # 61.5G
    "allocated": 21474836480,  # 20G
    "free": 44560285696,  # 41.5G
    "checkpoint": 1048576,
    "fragmentation": 48,
    "capacity": 32,
    "dedupratio": "1.00",
    "health": "ONLINE",
    "altroot": "/mnt",
}
ZION = {"health": "FAULTED"}
VERSIONS = ("0.8", "2.1", "2.2", "2.3")


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


# --- zpool list ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_pools_of_every_release_and_no_column_shifted_by_the_checkpoint(openzfs, version):
    openzfs(version=version, pools={"rpool": RPOOL, "tank": TANK, "zion": ZION})
    pools = run(zfs.list_pools())
    assert list(pools) == ["rpool", "tank", "zion"]
    assert pools["tank"] == {
        "size": "61.5G",
        "size_bytes": 66035122176,
        "alloc": "20G",
        "alloc_bytes": 21474836480,
        "free": "41.5G",
        "free_bytes": 44560285696,
        "frag": "48%",
        "expandsz": "-",
        "dedup": "1.00x",
        "altroot": "/mnt",
        "capacity": "32%",
        "health": "ONLINE",
        "priority": "0 - Information",
    }
    assert pools["rpool"]["size"] == "19.9G"
    assert pools["rpool"]["alloc"] == "8.43G"
    assert pools["zion"] == {
        "size": "-",
        "alloc": "-",
        "free": "-",
        "frag": "-",
        "expandsz": "-",
        "dedup": "-",
        "altroot": "-",
        "capacity": "-",
        "health": "FAULTED",
        "priority": "9 - Urgent",
    }


def test_a_release_with_json_is_asked_for_it(openzfs):
    home = openzfs(version="2.3", pools={"tank": TANK})
    run(zfs.list_pools())
    assert [line.split()[2] for line in (home / "calls").read_text().splitlines()] == ["-jp"]
    home = openzfs(version="2.2", pools={"tank": TANK})
    run(zfs.list_pools())
    assert [line.split()[2] for line in (home / "calls").read_text().splitlines()][-2:] == ["-jp", "-Hp"]


@pytest.mark.parametrize("version", VERSIONS)
def test_no_pools(openzfs, version):
    openzfs(version=version, pools={})
    assert run(zfs.list_pools()) == {}


def test_expandable_pool_has_its_exact_bytes(openzfs):
    openzfs(version="2.2", pools={"data": {**RPOOL, "expandsize": 10737418240}})
    data = run(zfs.list_pools())["data"]
    assert (data["expandsz"], data["expandsz_bytes"]) == ("10G", 10737418240)


def test_a_pool_name_with_a_space(openzfs):
    openzfs(version="2.2", pools={"my pool": TANK})
    assert list(run(zfs.list_pools())) == ["my pool"]


@pytest.mark.parametrize(
    ("capacity", "health", "priority"),
    [
        ("90%", "ONLINE", 0),
        ("91%", "ONLINE", 6),
        ("91", "ONLINE", 6),
        ("12%", "DEGRADED", 9),
        ("95%", "UNAVAIL", 9),
        ("-", "ONLINE", 0),
    ],
)
def test_priority_of_a_pool(capacity, health, priority):
    assert zfs.pool_priority({"capacity": capacity, "health": health}) == priority


@pytest.mark.parametrize(
    "text", ["tank\t1\t2\n", "no pools available\n", "a\tb\tc\td\te\tf\tg\th\ti\tj\tk\n"]
)
def test_a_line_of_other_fields_is_refused_not_guessed_at(text):
    with pytest.raises(zfs.ToolFailed, match="fields instead of 10"):
        zfs.read_pools(text)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pools": []}', "no pools available"])
def test_json_of_another_shape_is_refused(text):
    with pytest.raises(zfs.ToolFailed, match="printed no JSON of pools"):
        zfs.read_pools_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["pools", "tank", "properties", "size", "value", "vdevs", "scan_stats", "status"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("read", [zfs.read_pools_json, zpool_status.read_status_json])
@given(JSON)
def test_any_json_is_read_or_refused(read, value):
    with contextlib.suppress(zfs.ToolFailed):
        read(json.dumps({"pools": value}))


SIZES = st.integers(0, 2**63 - 1)


@given(
    size=SIZES,
    alloc=SIZES,
    free=SIZES,
    frag=st.integers(0, 100) | st.just("-"),
    capacity=st.integers(0, 100),
    health=st.sampled_from(["ONLINE", "DEGRADED", "FAULTED", "SUSPENDED"]),
)
def test_exact_bytes_survive_and_agree_with_the_display(size, alloc, free, frag, capacity, health):
    line = f"p\t{size}\t{alloc}\t{free}\t{frag}\t-\t1.00\t-\t{capacity}\t{health}\n"
    pool = zfs.pool_object(zfs.read_pools(line)["p"])
    for key, exact in (("size", size), ("alloc", alloc), ("free", free)):
        assert pool[f"{key}_bytes"] == exact
        assert wire.parse_size(pool[key]) == pytest.approx(exact, rel=0.006)


# --- failures -----------------------------------------------------------------------------------------------


def test_missing_tool(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(zfs, "_SYSTEM_PATH", str(tmp_path))
    with pytest.raises(zfs.ToolMissing, match="there is no zpool on this machine"):
        run(zfs.list_pools())


def test_modules_not_loaded_is_no_zfs(openzfs):
    # what libzfs_error_init says on Linux where the kernel has no ZFS
    openzfs(
        version="2.2",
        error="The ZFS modules are not loaded.\nTry running '/sbin/modprobe zfs' as root to load them.",
    )
    with pytest.raises(zfs.ToolMissing, match="modules are not loaded"):
        run(zfs.list_pools())


def test_error_of_the_tool_is_told(openzfs):
    openzfs(version="2.2", error="Permission denied the ZFS utilities must be run as root.")
    with pytest.raises(zfs.ToolFailed, match="Permission denied") as failure:
        run(zfs.list_pools())
    assert not isinstance(failure.value, zfs.ToolMissing)


def test_hanging_tool_is_ended(openzfs):
    openzfs(version="2.2", hang=60)
    started = time.monotonic()
    with pytest.raises(zfs.ToolHangs, match="did not end within"):
        run(zfs.run("zpool", "list", timeout=0.5))
    assert time.monotonic() - started < 10


# --- zpool status -------------------------------------------------------------------------------------------

# the layout of print_status_config and print_scan_scrub_resilver_status in cmd/zpool/zpool_main.c (2.2.9)
STATUS = """\
  pool: backup
 state: ONLINE
  scan: scrub in progress since Sun Nov 22 02:00:01 2026
\t412G / 1.20T scanned at 1.10G/s, 300G / 1.20T issued at 800M/s
\t0B repaired, 24.41% done, 00:19:21 to go
config:

\tNAME        STATE     READ WRITE CKSUM
\tbackup      ONLINE       0     0     0
\t  sdc       ONLINE       0     0     0

errors: No known data errors

  pool: tank
 state: DEGRADED
status: One or more devices could not be opened.  Sufficient replicas exist for
\tthe pool to continue functioning in a degraded state.
action: Attach the missing device and online it using 'zpool online'.
   see: https://openzfs.github.io/openzfs-docs/msg/ZFS-8000-2Q
  scan: scrub repaired 0B in 00:12:04 with 0 errors on Sun Nov 15 02:12:05 2026
config:

\tNAME        STATE     READ WRITE CKSUM
\ttank        DEGRADED     0     0     0
\t  mirror-0  DEGRADED     0     0     0
\t    sda     ONLINE       0     0    12
\t    sdb     UNAVAIL      0     0     0  cannot open
\tlogs
\t  nvme0n1   ONLINE       0     0     0
\tspares
\t  sdd       AVAIL

errors: 3 data errors, use '-v' for a list
"""


def test_status_text():
    assert zpool_status.read_status(STATUS) == {
        "backup": {
            "scan": "scrub in progress since Sun Nov 22 02:00:01 2026 412G / 1.20T scanned at 1.10G/s, "
            "300G / 1.20T issued at 800M/s 0B repaired, 24.41% done, 00:19:21 to go",
        },
        "tank": {
            "status": "One or more devices could not be opened. Sufficient replicas exist for the pool to "
            "continue functioning in a degraded state.",
            "action": "Attach the missing device and online it using 'zpool online'.",
            "scan": "scrub repaired 0B in 00:12:04 with 0 errors on Sun Nov 15 02:12:05 2026",
            "errors": "3 data errors, use '-v' for a list",
            "devices": [
                {"name": "tank", "state": "DEGRADED", "read": "0", "write": "0", "cksum": "0"},
                {"name": "mirror-0", "state": "DEGRADED", "read": "0", "write": "0", "cksum": "0"},
                {"name": "sda", "state": "ONLINE", "read": "0", "write": "0", "cksum": "12"},
                {
                    "name": "sdb",
                    "state": "UNAVAIL",
                    "read": "0",
                    "write": "0",
                    "cksum": "0",
                    "note": "cannot open",
                },
            ],
        },
    }


def vdev(state="HEALTHY", cksum="0", **vdevs):
    return {"state": state, "read_errors": "0", "write_errors": "0", "checksum_errors": cksum, "vdevs": vdevs}


# the objects of OpenZFS 2.3 zpool-status.8, example 2, and scan_status_nvlist
STATUS_JSON = {
    "tank": {
        "name": "tank",
        "state": "DEGRADED",
        "status": "One or more devices could not be opened.",
        "action": "Attach the missing device.",
        "scan_stats": {
            "function": "SCRUB",
            "state": "FINISHED",
            "start_time": "Sun Nov 15 02:00:01 2026",
            "end_time": "Sun Nov 15 02:12:05 2026",
            "errors": "0",
        },
        "vdevs": {
            "tank": vdev("DEGRADED", **{"mirror-0": vdev("DEGRADED", sda=vdev(cksum="12"), sdb=vdev())})
        },
        "error_count": "3",
    },
    "ok": {"state": "ONLINE", "status": "OK", "vdevs": {"ok": vdev()}, "error_count": "0"},
}


@pytest.mark.parametrize("version", ["2.2", "2.3"])
def test_status_of_both_forms(openzfs, version):
    openzfs(version=version, status=STATUS, status_json=STATUS_JSON)
    tank = run(zpool_status.status())["tank"]
    assert tank["status"].startswith("One or more devices could not be opened.")
    assert "2026" in tank["scan"]
    assert tank["errors"].startswith("3 data errors")
    assert [(device["name"], device["state"], device["cksum"]) for device in tank["devices"]][:3] == [
        ("tank", "DEGRADED", "0"),
        ("mirror-0", "DEGRADED", "0"),
        ("sda", "ONLINE", "12"),
    ]


def test_status_json_of_a_healthy_pool():
    assert zpool_status.read_status_json(json.dumps({"pools": STATUS_JSON}))["ok"] == {
        "scan": "none requested"
    }


@given(st.text(alphabet=" \t\n:abcpoolstatescanconfigNAMEONLINE0123456789", max_size=300))
def test_status_of_any_text_never_raises(text):
    zpool_status.read_status(text)


# --- datasets, snapshots, events ----------------------------------------------------------------------------


def test_datasets(openzfs):
    openzfs(
        version="2.2",
        datasets={
            "tank": {"avail": "97282912256", "mountpoint": "/tank", "refer": "98304", "used": "14065979392"},
            "tank/ROOT": {
                "avail": "97282912256",
                "mountpoint": "none",
                "refer": "98304",
                "used": "9878424781",
            },
            "tank2": {"avail": "1", "mountpoint": "/tank2", "refer": "1", "used": "1"},
        },
    )
    assert run(zfs.list_datasets("tank")) == {
        "tank": {
            "avail": "90.6G",
            "avail_bytes": 97282912256,
            "mountpoint": "/tank",
            "refer": "96K",
            "refer_bytes": 98304,
            "used": "13.1G",
            "used_bytes": 14065979392,
        },
        "tank/ROOT": {
            "avail": "90.6G",
            "avail_bytes": 97282912256,
            "mountpoint": "none",
            "refer": "96K",
            "refer_bytes": 98304,
            "used": "9.20G",
            "used_bytes": 9878424781,
        },
    }


def test_snapshots(openzfs):
    openzfs(version="2.2", snapshots={"tank/home@a b": [1795417272, 12], "tank@x": [1795417200, 7]})
    assert run(zfs.list_snapshots()) == {"tank/home@a b": (1795417272, 12), "tank@x": (1795417200, 7)}


@pytest.mark.parametrize("name", ["tank", "my pool", "a.b-c:d_1"])
def test_pool_names(name):
    assert zfs.valid_pool_name(name)


@pytest.mark.parametrize("name", ["-o", "", "tank/home", "tank;rm", "tank\n", None, 3, "../x", "1tank"])
def test_what_is_no_pool_name(name):
    assert not zfs.valid_pool_name(name)


def test_event_line():
    when, what = zfs.read_event("Nov 23 2026 07:21:12.123456789\tsysevent.fs.zfs.scrub_start\n")
    assert what == "sysevent.fs.zfs.scrub_start"
    assert when == pytest.approx(time.mktime((2026, 11, 23, 7, 21, 12, 0, 0, -1)) + 0.123456789)
    assert zfs.read_event("Nov  3 2026 07:21:12.000000001\tereport.fs.zfs.io") is not None


@pytest.mark.parametrize("line", ["", "dropped 3 events", "TIME CLASS", "Foo 23 2026 07:21:12.1\tx"])
def test_what_is_no_event_line(line):
    assert zfs.read_event(line) is None


def event_line(when: float, what: str) -> str:
    return time.strftime("%b %d %Y %H:%M:%S.000000000", time.localtime(when)) + f"\t{what}\n"


def test_events_are_followed_and_old_ones_left_out(openzfs):
    home = openzfs(version="2.2")
    (home / "events").write_text(event_line(time.time() - 3600, "sysevent.fs.zfs.old"))

    async def follow():
        events = zfs.follow_events()
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.2)
        with (home / "events").open("a") as file:
            file.write(event_line(time.time() + 1, "sysevent.fs.zfs.scrub_start"))
        try:
            return await first
        finally:
            await events.aclose()

    assert run(follow()) == "sysevent.fs.zfs.scrub_start"
