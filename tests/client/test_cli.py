"""The two commands of this room: ``connect`` and ``doctor``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

import sysadm_nb as sa
from sysadm_nb.client import _cli
from sysadm_nb.client.address import parse_address
from sysadm_nb.client.certificates import pinned


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    _cli.add_commands(parser.add_subparsers())
    options = parser.parse_args(arguments)
    return options.run(options)


def test_doctor_says_that_all_is_well_and_looking_is_not_trusting(capsys, tmp_path) -> None:
    with sa.serve(sources=[], users={"admin": "secret"}, tls=True, folder=tmp_path / "server") as server:
        assert run("doctor", server.url) == 0
        told = capsys.readouterr().out
        assert server.fingerprint in told
        assert "a SysAdm server called" in told
        assert told.endswith("All is well.\n")
        assert pinned(parse_address(server.url)) is None


def test_doctor_finds_what_is_wrong(capsys, monkeypatch) -> None:
    monkeypatch.setattr(_cli, "NEEDED", (("no-such-package", ()), ("websockets", (99,))))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert run("doctor", f"wss://127.0.0.1:{sock.getsockname()[1]}") == 1
    told = capsys.readouterr().out
    assert "BAD  no-such-package is not installed: pip install no-such-package" in told
    assert "is too old: pip install --upgrade 'websockets>=99'" in told
    assert "Nothing listens on" in told
    assert told.endswith("3 problems found.\n")


COMMAND = """
import argparse, sys
from sysadm_nb.client import _cli
parser = argparse.ArgumentParser()
_cli.add_commands(parser.add_subparsers())
options = parser.parse_args()
try:
    sys.exit(options.run(options))
except KeyboardInterrupt:
    sys.exit(130)
"""


def tail(server, *arguments: str) -> subprocess.Popen[str]:
    user, password = server.credentials
    program = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "connect", server.url, "--user", user, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SYSADM_NB_PASSWORD": password},
    )
    deadline = time.monotonic() + 30
    while "1 client" not in repr(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    return program


@pytest.mark.parametrize("form", ["lines", "json"])
def test_connect_prints_what_comes_without_control_characters(form: str) -> None:
    with sa.serve(sources=[]) as server:
        program = tail(server, *(["--json"] if form == "json" else []))
        message = "Mon Nov 23 07:00:00 UTC 2026: New snapshot of tank/\x1b[31mred\x07"
        args = {"class": "snapshot", "message": message, "priority": "7 - Critical"}
        server.publish("life-preserver", args)
        server.publish("odd\x1b]0;title\x07", {"a": 1})
        time.sleep(1)
        program.send_signal(signal.SIGINT)
        out, error = program.communicate(timeout=30)
    assert program.returncode == 130, error
    assert "\x1b" not in out + error
    assert "\x07" not in out + error
    if form == "json":
        frames = [json.loads(line) for line in out.splitlines()]
        assert args in [frame["args"] for frame in frames]
        assert "connected" in error
    else:
        assert "life-preserver CRITICAL: tank/" in out
        assert "-- connected" in out


@pytest.mark.parametrize("form", ["lines", "json"])
def test_connect_ends_when_its_reader_has_gone(form: str) -> None:
    with sa.serve(sources=[]) as server:
        program = tail(server, *(["--json"] if form == "json" else []))
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        for _ in range(100):
            server.publish("ups", {"battery": "97%"})
            time.sleep(0.1)
            if program.poll() is not None:
                break
        code, error = program.poll(), program.stderr.read() if program.poll() is not None else ""
        program.kill()
        program.wait()
        program.stderr.close()
    assert code == 0
    assert "Traceback" not in error


@pytest.mark.parametrize("form", ["lines", "json"])
def test_connect_goes_on_at_names_that_the_terminal_cannot_show(form: str) -> None:
    with sa.serve(sources=[]) as server:
        user, password = server.credentials
        json_only = ["--json"] if form == "json" else []
        program = subprocess.Popen(
            [sys.executable, "-m", "sysadm_nb.cli", "connect", server.url, "--user", user, *json_only],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "SYSADM_NB_PASSWORD": password, "PYTHONIOENCODING": "ascii"},
        )
        deadline = time.monotonic() + 30
        while "1 client" not in repr(server) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        for message in ("New snapshot of tank/müll", "New snapshot of tank/😀", "New snapshot of tank/end"):
            server.publish("life-preserver", {"class": "snapshot", "message": message})
        time.sleep(1)
        program.send_signal(signal.SIGINT)
        out, error = program.communicate(timeout=30)
    assert program.returncode == 130, error
    if form == "json":
        told = [json.loads(line)["args"].get("message", "") for line in out.splitlines()]
        assert told[-3:] == [f"New snapshot of tank/{name}" for name in ("müll", "😀", "end")]
    else:
        assert r"tank/m\u00fcll" in out
        assert "tank/end" in out


def test_connect_tells_an_error_in_a_sentence() -> None:
    with pytest.raises(sa.SysadmError, match="Nothing listens"):
        run("connect", "ws://127.0.0.1:9", "--user", "nobody")
