"""The system-state source, run on the stand-ins of zpool."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager

import pytest

import sysadm_nb as sa
from sysadm_nb.server import system_state, zfs
from sysadm_nb.server.source import BadRequest, Source, resolve
from sysadm_nb.server.system_state import SystemState, overall_priority

POOL = {
    "size": 114890375168,
    "allocated": 14065979392,
    "free": 100824395776,
    "fragmentation": 6,
    "capacity": 12,
    "dedupratio": "1.00",
    "health": "ONLINE",
}


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


@asynccontextmanager
async def started(source):
    """The source, running; events it publishes are taken from the queue."""
    events: asyncio.Queue = asyncio.Queue()
    await source.start(lambda name, args, when=None: events.put_nowait((name, args, when)))
    try:
        yield events
    finally:
        await source.stop()


async def first_event(source) -> dict:
    async with started(source) as events:
        return (await asyncio.wait_for(events.get(), 20))[1]


def test_it_is_a_source_with_a_name():
    (source,) = resolve("system_state")
    assert isinstance(source, Source)
    assert source.name == "system-state"


def test_event_at_start(openzfs):
    openzfs(pools={"tank": POOL})
    assert run(first_event(SystemState(hostname=lambda: "nas"))) == {
        "hostname": "nas",
        "priority": "0 - Information",
        "zpools": {
            "tank": {
                "size": "107G",
                "size_bytes": 114890375168,
                "alloc": "13.1G",
                "alloc_bytes": 14065979392,
                "free": "93.9G",
                "free_bytes": 100824395776,
                "frag": "6%",
                "expandsz": "-",
                "dedup": "1.00x",
                "altroot": "-",
                "capacity": "12%",
                "health": "ONLINE",
                "priority": "0 - Information",
            }
        },
    }


def test_the_status_of_a_pool_comes_with_it(openzfs):
    openzfs(
        pools={"tank": POOL | {"health": "DEGRADED"}},
        status="  pool: tank\n state: DEGRADED\nstatus: A device is gone.\n  scan: none requested\n",
    )
    event = run(first_event(SystemState(hostname=lambda: "nas")))
    assert event["priority"] == "9 - Urgent"
    assert event["zpools"]["tank"]["status"] == "A device is gone."
    assert event["zpools"]["tank"]["scan"] == "none requested"


# the situations of the capture 04_system_state, in its order, with the priority that the real server gave
@pytest.mark.parametrize(
    ("pools", "changed", "priority"),
    [
        ([("12%", "ONLINE")], False, 0),
        ([("22%", "ONLINE"), ("12%", "ONLINE")], False, 0),
        ([("90%", "ONLINE")], False, 0),
        ([("91%", "ONLINE")], False, 6),
        ([("95%", "ONLINE"), ("12%", "ONLINE")], False, 6),
        ([("12%", "DEGRADED")], False, 9),
        ([("12%", "DEGRADED"), ("95%", "ONLINE")], False, 9),
        ([("-", "UNAVAIL")], False, 9),
        ([], False, 0),
        ([("12%", "ONLINE")], True, 3),
        ([("12%", "DEGRADED")], True, 9),
        ([("91%", "ONLINE")], True, 6),
    ],
)
def test_priority_as_the_real_server_computes_it(pools, changed, priority):
    objects = [{"capacity": capacity, "health": health} for capacity, health in pools]
    assert overall_priority(objects, changed) == priority


def test_changed_host_name_is_told_once(openzfs):
    openzfs(pools={"tank": POOL})
    names = iter(["old", "old", "new", "new"])

    async def scenario():
        async with started(SystemState(interval=0.05, hostname=lambda: next(names, "new"))) as events:
            return [(await asyncio.wait_for(events.get(), 20))[1] for _ in range(3)]

    first, second, third = run(scenario())
    assert (first["hostname"], first.get("hostnamechanged"), first["priority"]) == (
        "old",
        None,
        "0 - Information",
    )
    assert (second["hostname"], second["hostnamechanged"], second["priority"]) == (
        "new",
        "true",
        "3 - Warning",
    )
    assert (third["hostname"], third.get("hostnamechanged"), third["priority"]) == (
        "new",
        None,
        "0 - Information",
    )


def test_checked_at_once_when_zfs_tells_of_a_change(openzfs, monkeypatch):
    monkeypatch.setattr(system_state, "SETTLE", 0.05)
    home = openzfs(pools={"tank": POOL})

    async def scenario():
        async with started(SystemState(interval=3600, hostname=lambda: "nas")) as events:
            first = (await asyncio.wait_for(events.get(), 20))[1]
            openzfs(pools={"tank": POOL | {"health": "DEGRADED"}})
            line = time.strftime("%b %d %Y %H:%M:%S.5", time.localtime(time.time() + 1))
            with (home / "events").open("a") as file:
                file.write(f"{line}\tresource.fs.zfs.statechange\n")
            return first, (await asyncio.wait_for(events.get(), 20))[1]

    first, second = run(scenario())
    assert first["priority"] == "0 - Information"
    assert second["priority"] == "9 - Urgent"


def test_no_zpool_means_no_pools_and_one_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(zfs, "_SYSTEM_PATH", str(tmp_path))

    async def scenario():
        async with started(SystemState(interval=0.02, hostname=lambda: "nas")) as events:
            return [(await asyncio.wait_for(events.get(), 20))[1] for _ in range(3)]

    with caplog.at_level(logging.WARNING):
        assert run(scenario()) == [{"hostname": "nas", "priority": "0 - Information"}] * 3
    (record,) = caplog.records
    assert "there is no zpool on this machine (is OpenZFS installed?)" in record.getMessage()


def test_a_failing_zpool_is_told_and_makes_no_empty_sample(openzfs, caplog):
    openzfs(error="cannot open '/dev/zfs': Permission denied")

    async def scenario():
        async with started(SystemState(interval=0.05, hostname=lambda: "nas")) as events:
            while not caplog.records:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            assert events.empty()
            openzfs(pools={"tank": POOL})
            return (await asyncio.wait_for(events.get(), 20))[1]

    with caplog.at_level(logging.WARNING):
        assert list(run(scenario())["zpools"]) == ["tank"]
    (record,) = caplog.records
    assert "Permission denied" in record.getMessage()


def test_requests(openzfs):
    openzfs(
        pools={"tank": POOL},
        datasets={"tank": {"avail": "1024", "mountpoint": "/tank", "refer": "0", "used": "2048"}},
    )
    call = SystemState().calls["sysadm/zfs"]
    pools = run(call({"action": "list_pools"}))
    assert pools["list_pools"]["tank"]["size"] == "107G"
    datasets = run(call({"action": "datasets", "zpool": "tank"}))
    assert datasets["datasets"]["tank"]["used"] == "2K"


def test_however_many_ask_at_once_one_zpool_runs(openzfs):
    home = openzfs(version="2.3", pools={"tank": POOL})
    source = SystemState()

    async def scenario():
        call = source.calls["sysadm/zfs"]
        return await asyncio.gather(*(call({"action": "list_pools"}) for _ in range(20)))

    assert [list(reply["list_pools"]) for reply in run(scenario())] == [["tank"]] * 20
    assert (home / "calls").read_text().count("zpool list") == 1


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"action": "destroy"},
        {"action": "datasets"},
        {"action": "datasets", "zpool": "-r"},
        {"action": ["x"]},
    ],
)
def test_bad_requests(openzfs, args):
    openzfs(pools={})
    with pytest.raises(BadRequest):
        run(SystemState().calls["sysadm/zfs"](args))


def test_unknown_pool_is_a_bad_request_with_the_tools_own_words(openzfs):
    openzfs(pools={}, datasets={})
    with pytest.raises(BadRequest, match="dataset does not exist"):
        run(SystemState().calls["sysadm/zfs"]({"action": "datasets", "zpool": "nosuch"}))


@pytest.mark.parametrize("version", ["0.8", "2.3"])
def test_in_a_notebook(openzfs, version):
    """The whole way: this machine's zpool, a server in the kernel, the table of pools; no process is left."""
    tank = {"avail": "1024", "mountpoint": "/tank", "refer": "0", "used": "2048"}
    openzfs(version=version, pools={"tank": POOL | {"capacity": 95}}, snapshots={}, datasets={"tank": tank})
    with sa.serve(sources="local") as server, sa.connect(server) as monitor:
        limit = time.monotonic() + 30
        while monitor.pools.empty or monitor.system.empty:
            assert time.monotonic() < limit
            time.sleep(0.05)
        pools, system = monitor.pools, monitor.system
        datasets = monitor.request("sysadm", "zfs", {"action": "datasets", "zpool": "tank"}, timeout=30)
    assert set(pools["pool"]) == {"tank"}
    assert set(pools["size_bytes"]) == {114890375168.0}
    assert set(pools["priority"]) == {6.0}
    assert set(system["priority"]) == {6.0}
    assert datasets["datasets"]["tank"]["used_bytes"] == 2048
