"""The demo machine inside a loop: its clock, its history, and its commands as real processes."""

import asyncio
import contextlib
import gc
import os
import shutil
import socket
import stat
import time
from itertools import pairwise
from pathlib import Path

import pytest

from sysadm_nb import wire
from sysadm_nb.client import open_connection
from sysadm_nb.errors import InputError
from sysadm_nb.server import serve
from sysadm_nb.server.demo import DemoMachine
from sysadm_nb.server.source import BadRequest, Source

WAIT = 20


class Heard(list):
    """What was published."""

    def publish(self, name, args, time=None):
        self.append((name, args, time))


async def shell(demo: DemoMachine, *argv: str) -> tuple[int, str, str]:
    program = shutil.which(argv[0], path=demo.environment["PATH"])
    process = await asyncio.create_subprocess_exec(
        program, *argv[1:], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(WAIT):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def live(check, **options):
    """Run `check(demo, heard)` while the demo machine lives."""

    async def main():
        demo, heard = DemoMachine(**options), Heard()
        await demo.start(heard.publish)
        try:
            await check(demo, heard)
        finally:
            await demo.stop()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        assert not rest, rest

    asyncio.run(main())


def test_it_is_a_source():
    assert isinstance(DemoMachine(), Source)


def test_the_past_ends_now_and_is_as_long_as_asked():
    before = time.time_ns() // 1000
    demo = DemoMachine(seed=2, history="36h")
    frames = list(demo.past())
    first, last = frames[0][0], frames[-1][0]
    assert 0 <= first - (before - 36 * 3600 * 10**6) < 3600 * 10**6
    assert last <= time.time_ns() // 1000
    assert 142 <= sum(wire.decode(text).name == "system-state" for _, text in frames) <= 146


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("speed", 0),
        ("speed", 1e9),
        ("speed", "fast"),
        ("history", "later"),
        ("history", "-1D"),
        ("history", "30"),
    ],
)
def test_a_wrong_argument_says_so(option, value):
    with pytest.raises(InputError, match=option):
        DemoMachine(**{option: value})


def test_the_last_of_each_is_published_at_the_start():
    async def check(demo, heard):
        assert [name for name, _, _ in heard] == ["system-state", "life-preserver"]
        assert all(time < demo.clock() for _, _, time in heard)

    live(check, history="2D")


def test_a_held_clock_goes_on_after_release_and_misses_nothing():
    async def check(demo, heard):
        heard.clear()
        await asyncio.sleep(0.3)
        assert heard == []
        held = demo.clock()
        await asyncio.sleep(0.1)
        assert demo.clock() == held
        demo.release()
        async with asyncio.timeout(WAIT):
            while demo.clock() - held < 4 * 3600 * 10**6 or not heard:
                await asyncio.sleep(0.05)
        times = [time for name, _, time in heard if name == "system-state"]
        assert times[0] - held <= 900 * 10**6
        assert {after - before for before, after in pairwise(times)} == {900 * 10**6}

    live(check, history="1D", speed=36_000, hold=True)


def test_speed_is_the_machines_seconds_in_one_of_ours():
    async def check(demo, heard):
        began, wall = demo.clock(), time.monotonic()
        await asyncio.sleep(0.5)
        gone, took = (demo.clock() - began) / 1e6, time.monotonic() - wall
        assert gone == pytest.approx(3600 * took, rel=0.2)

    live(check, history="1h", speed=3600)


def test_commands_act_on_the_simulated_pools():
    async def check(demo, heard):
        code, out, err = await shell(demo, "zpool", "list", "-H", "-o", "name,health")
        assert (code, err) == (0, "")
        assert out.splitlines()[0] == "backup\tONLINE"
        assert await shell(demo, "zpool", "scrub", "tank") == (0, "", "")
        assert demo.machine.pools["tank"].scan.active
        assert "scrub in progress" in (await shell(demo, "zpool", "status", "tank"))[1]
        assert await shell(demo, "zpool", "scrub", "nope") == (1, "", "cannot open 'nope': no such pool\n")
        assert await shell(demo, "zfs", "snapshot", "tank/home@x y; echo 'z'") == (0, "", "")
        assert demo.machine.dataset("tank/home").find("x y; echo 'z'")
        assert (await shell(demo, "zfs", "nonsense"))[0] == 2
        assert (await shell(demo, "pkg"))[0] == 64

    live(check, history="1h")


def test_output_comes_while_the_command_runs():
    async def check(demo, heard):
        process = await asyncio.create_subprocess_exec(
            shutil.which("pkg", path=demo.environment["PATH"]), "update", stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(WAIT):
            first = await process.stdout.readline()
            assert first == b"Updating FreeBSD repository catalogue...\n"
            assert process.returncode is None
            process.kill()
            await process.wait()
        async with asyncio.timeout(WAIT):
            while demo._commands:  # a killed command is forgotten at the machine too
                await asyncio.sleep(0.05)

    live(check, history="1h")


def test_stopping_ends_commands_and_leaves_nothing_behind():
    folders = []

    async def check(demo, heard):
        folder = Path(demo.environment["PATH"].partition(os.pathsep)[0])
        folders.append(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        process = await asyncio.create_subprocess_exec(
            folder / "zpool", "scrub", "-w", "tank", stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(WAIT):
            while not demo._commands:
                await asyncio.sleep(0.02)
        await demo.stop()
        async with asyncio.timeout(WAIT):
            _, err = await process.communicate()
        assert process.returncode == 1
        assert err == b"the demo machine stopped before the command was done\n"

    live(check, history="1h")
    assert not folders[0].exists()


def test_a_request_that_comes_while_it_stops_is_answered():
    async def check(demo, heard):
        await demo.stop()
        assert "tank" in (await demo.calls["sysadm/zfs"]({"action": "list_pools"}))["list_pools"]

    live(check, history="1h")


def test_it_can_be_started_again():
    async def check(demo, heard):
        await demo.stop()
        await demo.start(heard.publish)
        assert (await shell(demo, "zpool", "list", "-H", "-o", "name", "tank"))[1] == "tank\n"

    live(check, history="1h")


def test_a_long_temporary_folder_is_no_obstacle(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))

    async def check(demo, heard):
        assert (await shell(demo, "zpool", "list", "-H", "-o", "name", "tank"))[1] == "tank\n"

    live(check, history="1h")


def test_a_stranger_at_the_socket_hurts_nobody():
    async def check(demo, heard):
        folder = Path(demo.environment["PATH"].partition(os.pathsep)[0])
        for text in (b"nonsense\n", b"", b"[]\n", b'["rm"]\n', b'{"a": 1}\n', b"[1, 2]\n"):
            reader, writer = await asyncio.open_unix_connection(folder / "machine")
            writer.write(text)
            writer.write_eof()
            async with asyncio.timeout(WAIT):
                assert await reader.read() == b""
            writer.close()
        assert (await shell(demo, "zpool", "list"))[0] == 0

    problems = []

    async def watched(demo, heard):
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
        await check(demo, heard)

    live(watched, history="1h")
    assert problems == []


def test_a_command_that_begins_while_the_machine_stops_is_ended():
    async def stop_after(passes, clients):
        demo = DemoMachine(history="1h")
        await demo.start(Heard().publish)
        folder = Path(demo.environment["PATH"].partition(os.pathsep)[0])
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(WAIT)
        client.connect(str(folder / "machine"))
        client.sendall(b'["pkg", "upgrade", "-y"]\n')
        clients.append(client)
        for _ in range(passes):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await demo.stop()

    async def main(clients):
        await asyncio.gather(*(stop_after(passes, clients) for passes in range(12)))
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        assert not rest, rest

    clients = []
    asyncio.run(main(clients))
    for client in clients:
        with client, contextlib.suppress(ConnectionResetError):
            while client.recv(10_000):
                pass
    gc.collect()  # here asyncio warns of a transport that nobody closed


def test_pools_and_datasets_are_answered():
    async def check(demo, heard):
        answer = demo.calls["sysadm/zfs"]
        pools = (await answer({"action": "list_pools"}))["list_pools"]
        assert set(pools) == {"zroot", "tank", "backup", "media", "scratch", "vault"}
        datasets = (await answer({"action": "datasets", "zpool": "tank"}))["datasets"]
        assert list(datasets) == ["tank", "tank/home", "tank/projects", "tank/db", "tank/lab", "tank/lab/raw"]
        home = datasets["tank/home"]
        assert home["mountpoint"] == "/tank/home"
        assert wire.format_size(home["used_bytes"]) == home["used"]
        assert (
            datasets["tank"]["used_bytes"]
            == sum(datasets[name]["used_bytes"] for name in datasets if name.count("/") == 1)
            + datasets["tank"]["refer_bytes"]
        )
        for wrong in (
            {"action": "datasets"},
            {"action": "datasets", "zpool": "nope"},
            {"action": "explode"},
            {},
        ):
            with pytest.raises(BadRequest):
                await answer(wrong)

    live(check, history="1h")


def test_a_job_through_a_real_server_acts_on_the_simulated_pools():
    """A chain of stand-ins by the real dispatcher, over a real socket, with live output."""

    async def follow(url, user, password):
        states, deltas = [], []
        async with open_connection(url, user=user, password=password) as connection:
            await connection.subscribe("dispatcher")
            chain = ["zpool scrub tank", "pkg update", "zpool scrub nope", "zpool list"]
            assert await connection.request("rpc", "dispatcher", {"action": "run", "one": chain}) == {
                "started": ["one"]
            }
            async with asyncio.timeout(WAIT):
                async for event in connection:
                    states.append(event.args["state"])
                    details = event.args["process_details"]
                    if event.args["state"] == "finished":
                        break
                    deltas.append(details.get("pkg update", ""))
        return states, deltas, details

    machine = DemoMachine(history="1h")
    with serve(sources=[machine], allow_run=True) as server:
        states, deltas, details = asyncio.run(follow(server.url, *server.credentials))
    assert (states[0], states[-1]) == ("pending", "finished")
    assert any(text.startswith("Updating FreeBSD repository catalogue...\n") for text in deltas)
    assert details["zpool scrub nope"] == "cannot open 'nope': no such pool\n"
    codes = [details.get(f"return_codes/{command}") for command in details["cmd_list"]]
    assert codes == ["0", "0", "1", None]
    assert machine.machine.pools["tank"].scan.active
