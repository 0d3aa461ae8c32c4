"""The programs, as services run them: started, watched, ended with SIGTERM."""

from __future__ import annotations

import argparse
import os
import queue
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import sysadm_nb as sa
from sysadm_nb.recording import file
from sysadm_nb.recording._cli import _size, _span
from tests.recording.samples import NOON, SECOND, snapshot, state, write

HERE = str(Path.cwd())
# the program with this room's commands only: other rooms have their own tests
MAIN = "import sys; from sysadm_nb import cli; cli._ROOMS = ('recording',); sys.exit(cli.main())"


class Program:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._queue: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))

    def wait_for(self, pattern: str, seconds: float = 30) -> re.Match[str]:
        end = time.monotonic() + seconds
        while True:
            try:
                line = self._queue.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {pattern!r} in {self.lines}") from None
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        self._thread.join()
        return code


@contextmanager
def program(*arguments: object, cwd: Path, **environment: str) -> Iterator[Program]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", MAIN, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": HERE} | environment,
    )
    running = Program(process)
    try:
        yield running
    finally:
        process.kill()
        process.wait(10)
        running._thread.join()
        assert process.stdout is not None
        process.stdout.close()


def wait_until(true: object, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)


def test_record_goes_on_over_restarts_of_both_and_fills_the_gap(tmp_path: Path) -> None:
    path = tmp_path / "tank.sysadm"
    with sa.serve(users={"admin": "secret"}, sources=[]) as server:
        arguments = ("record", "tank.sysadm", "--server", f"nas={server.url}", "--user", "admin")
        secrets = {"SYSADM_NB_PASSWORD": "secret"}
        with program(*arguments, cwd=tmp_path, **secrets) as recording:
            recording.wait_for("nas: connected")
            for n in range(20):
                server.publish("ups", {"number": n})
                server.publish("life-preserver", {"class": "snapshot", "message": f"New snapshot of a{n}"})
            with sa.open_recording(path) as past:
                wait_until(lambda: past.refresh() + len(past.events) >= 40)
            assert recording.end() == 0
        assert not list(tmp_path.glob("*-wal"))
        server.publish("life-preserver", {"class": "snapshot", "message": "New snapshot of missed"})
        time.sleep(1.1)  # a server's log keeps seconds
        with program(*arguments, cwd=tmp_path, **secrets) as recording:
            recording.wait_for("nas: connected")
            wait_until(lambda: "missed" in set(sa.open_recording(path).life_preserver.dataset))
            server.publish("ups", {"number": 20})
            wait_until(lambda: (sa.open_recording(path).events.event == "ups").sum() == 21)
            assert recording.end(signal.SIGINT) == 0
    past = sa.open_recording(path)
    told = past.life_preserver[past.life_preserver.origin != "last"]
    assert told.dataset.tolist() == [*(f"a{n}" for n in range(20)), "missed"]
    assert told.origin.tolist() == ["live"] * 20 + ["backfill"]
    whats = past.connection.what.tolist()
    assert whats.count("connected") == 2
    assert "gap" in whats
    assert whats.index("gap") < whats.index("backfilled")
    for found in tmp_path.iterdir():
        assert b"secret" not in found.read_bytes()


def test_record_waits_for_a_server_that_is_down_and_rotates(tmp_path: Path) -> None:
    import socket

    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    with program(
        *("record", "tank.sysadm", "--server", f"nas=ws://127.0.0.1:{port}", "--user", "admin"),
        *("--rotate-size", "200K", "--keep", "3"),
        cwd=tmp_path,
        SYSADM_NB_PASSWORD="secret",
    ) as recording:
        recording.wait_for("nas: waiting")
        with sa.serve(port=port, users={"admin": "secret"}, sources=[]) as server:
            recording.wait_for("nas: connected", 60)
            for n in range(40):
                server.publish("ups", {"number": n, "text": "x" * 20_000})
                time.sleep(0.1)
            wait_until(lambda: len(file.parts(tmp_path / "tank.sysadm")) == 3)
        recording.wait_for("nas: waiting")
        assert recording.end() == 0
        # beside the events, a list of jobs at each connection
        assert int(recording.wait_for(r"stopped: (\d+) frames recorded, 0 lost")[1]) >= 40
    kept = sa.open_recording(tmp_path / "tank.sysadm")
    numbers = kept.events.args.str.extract(r'"number":(\d+)')[0].astype(int).tolist()
    assert numbers == list(range(numbers[0], 40))
    assert "lost" in kept.connection.what.tolist()


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits another process's files")
def test_record_says_what_it_could_not_write(tmp_path: Path) -> None:
    arguments = ("record", "tank.sysadm", "--user", "admin", "--server")
    with (
        sa.serve(users={"admin": "secret"}, sources=[]) as server,
        program(*arguments, f"nas={server.url}", cwd=tmp_path, SYSADM_NB_PASSWORD="secret") as recording,
    ):
        recording.wait_for("nas: connected")
        limit = 200_000  # as if the disk were full
        resource.prlimit(recording.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        for n in range(50):
            server.publish("ups", {"number": n, "text": "x" * 20_000})
        recording.wait_for("tank.sysadm: paused")
        assert recording.end() == 1
        written, lost = map(int, recording.wait_for(r"stopped: (\d+) frames recorded, (\d+) lost").groups())
    past = sa.open_recording(tmp_path / "tank.sysadm")
    assert past.events.shape[0] <= written
    assert (past.events.event == "ups").sum() + lost >= 50


def test_record_ends_when_nothing_can_be_recorded(tmp_path: Path) -> None:
    with (
        sa.serve(users={"admin": "secret"}, sources=[]) as server,
        program(
            *("record", "tank.sysadm", "--server", server.url, "--user", "admin"),
            cwd=tmp_path,
            SYSADM_NB_PASSWORD="wrong",
        ) as recording,
    ):
        recording.wait_for("No server is left to record")
        assert recording.process.wait(20) != 0
        assert not any("Traceback" in line for line in recording.lines)


def test_record_into_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("milk and bread, and more text\n")
    with program("record", "notes.txt", "--server", "ws://127.0.0.1:1", cwd=tmp_path) as recording:
        recording.wait_for("no recording: it is not an SQLite file")
        assert recording.process.wait(20) != 0
    assert (tmp_path / "notes.txt").read_text() == "milk and bread, and more text\n"


@pytest.mark.parametrize(
    "servers", [("nas=ws://127.0.0.1:1", "nas=ws://127.0.0.1:2"), ("ws://127.0.0.1:1", "ws://127.0.0.1:1")]
)
def test_servers_with_one_name_are_refused(tmp_path: Path, servers: tuple[str, str]) -> None:
    given = [word for server in servers for word in ("--server", server)]
    with program("record", "a.sysadm", *given, "--user", "admin", cwd=tmp_path) as recording:
        recording.wait_for("Two servers .* name", 10)
        assert recording.process.wait(20) == 1
    assert not list(tmp_path.iterdir())


def test_replay_serves_until_sigterm(tmp_path: Path) -> None:
    write(tmp_path / "a.sysadm", [(NOON, state(10)), (NOON + 3600 * SECOND, snapshot("tank/home"))])
    with program("replay", "a.sysadm", "--speed", "36000", cwd=tmp_path) as replay:
        url = replay.wait_for(r"replaying a.sysadm at (ws://\S+)")[1]
        user, password = replay.wait_for(r"user (\S+), password (\S+) ").groups()
        with sa.connect(url, user=user, password=password, name="nas") as monitor:
            wait_until(lambda: len(monitor.life_preserver))
            assert monitor.pools.query("origin == 'live'").time.astype("int64").tolist() == [NOON]
        replay.wait_for("finished at 2026-11-23T13:00:00Z")
        assert replay.end() == 0


@pytest.mark.parametrize(
    ("text", "size"), [("500M", 500 * 2**20), ("2G", 2 * 2**30), ("1.5 KiB", 1536), ("100", 100)]
)
def test_sizes(text: str, size: int) -> None:
    assert _size(text) == size


@pytest.mark.parametrize(
    ("text", "span"), [("30min", 1800), ("12H", 43_200), ("1 day", 86_400), ("2 weeks", 1_209_600)]
)
def test_spans(text: str, span: float) -> None:
    assert _span(text) == span


@pytest.mark.parametrize("text", ["1month", "1mo", "1ms", "1 hut", "1y", "d"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="write 30min, 12h, 1d or 1w"):
        _span(text)
