"""``sysadm-nb serve`` and ``user`` as a person runs them, the configuration, and the unit files."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from sysadm_nb import cli
from sysadm_nb.errors import InputError
from sysadm_nb.server import config
from sysadm_nb.server.limits import Limits
from tests.server.wire_client import dial

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
PROGRAM = (sys.executable, "-m", "sysadm_nb.cli")


def run(*arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
    """The program in this process: starting another takes seconds."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "stdin", io.StringIO(input))
        logger = logging.getLogger("sysadm_nb")
        patch.setattr(logger, "handlers", [])
        patch.setattr(logger, "level", logger.level)
        code = cli.main(arguments)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


class Service:
    """``sysadm-nb serve`` under way; ``log`` is a file, so that the program never waits for a reader."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *PROGRAM,
                    "serve",
                    "--folder",
                    str(folder),
                    "--port",
                    "0",
                    *arguments,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
            )
        assert self.process.stdout is not None
        self.first_lines = [self.process.stdout.readline().strip()]
        if "wss:" in self.first_lines[0]:
            self.first_lines.append(self.process.stdout.readline().strip())

    @property
    def url(self) -> str:
        return self.first_lines[0].removeprefix("serving ")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def test_serve_from_nothing_to_sigterm(tmp_path: Path) -> None:
    assert "is in" in run("user", "add", "admin", "--file", str(tmp_path / "users"), input="secret\n").stdout
    service = Service(tmp_path, "--source", "demo", "--log", "json", "--verbose")
    try:
        assert service.url.startswith("wss://127.0.0.1:")
        shown = service.first_lines[1].removeprefix("certificate SHA-256 ")
        tls = ssl.create_default_context(cafile=str(tmp_path / "server.crt"))
        with dial(service.url, tls=tls, login=False) as client:
            client.request("rpc", "auth", {"username": "admin", "password": "wrong\x1b[31m\nforged line"})
            client.login()
            client.request("events", "subscribe", "system-state")
            client.until(lambda: bool(client.events("system-state")))
            der = client.connection.socket.getpeercert(binary_form=True)  # type: ignore[attr-defined]
        assert hashlib.sha256(der).hexdigest().upper() == shown.replace(":", "")
        began = time.monotonic()
    finally:
        code = service.stop()
    assert code == 0 and time.monotonic() - began < 20
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert all(set(line) == {"time", "level", "logger", "message"} for line in lines)
    assert any("failed login (auth) from 127.0.0.1" in line["message"] for line in lines)
    assert "secret" not in service.log.read_text() and "forged" not in service.log.read_text()


def test_serve_needs_somebody_who_may_log_in(tmp_path: Path) -> None:
    done = run("serve", "--folder", str(tmp_path), "--port", "0")
    assert done.returncode == 1
    assert "nobody could log in" in done.stderr and "sysadm-nb user add" in done.stderr


def test_the_end_of_its_terminal_ends_the_server_and_its_jobs(tmp_path: Path) -> None:
    run("user", "add", "admin", "--file", str(tmp_path / "users"), input="secret\n")
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        service = Service(tmp_path, "--source", "demo", "--no-tls", "--allow-run")
    finally:
        signal.signal(signal.SIGHUP, before)
    marks = tmp_path / "marks"
    try:
        with dial(service.url) as client:
            command = f"sh -c 'while :; do echo >> {marks}; sleep 0.05; done'"
            client.request("rpc", "dispatcher", {"action": "run", "endless": command})
            limit = time.monotonic() + 20
            while not marks.exists() and time.monotonic() < limit:
                time.sleep(0.05)
            assert marks.exists()
    finally:
        assert service.stop(signal.SIGHUP) == 0
    written = marks.stat().st_size
    time.sleep(0.3)
    assert marks.stat().st_size == written


def test_what_nohup_started_goes_on_without_a_terminal() -> None:
    code = (
        "import os, signal; from sysadm_nb.server._cli import Stop\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with Stop() as stop: os.kill(os.getpid(), signal.SIGHUP); print(stop.wait(0.2))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert told.stdout == "False\n"


SIGNALS = """
import os, signal, threading
from sysadm_nb.server._cli import Stop

def tell():
    for _ in range(20_000):
        os.kill(os.getpid(), signal.SIGTERM)
    done.append(True)

done = []
with Stop() as stop:
    assert not stop.wait(0)
    threading.Thread(target=tell).start()
    while not done:
        stop.wait(0.001)
    assert stop.wait() and stop.wait(0)
print("stopped")
"""


def test_a_signal_that_comes_at_a_bad_moment_stops_too() -> None:
    told = subprocess.run([sys.executable, "-c", SIGNALS], capture_output=True, text=True, timeout=60)
    assert told.stdout == "stopped\n", told.stderr


def test_users_by_command(tmp_path: Path) -> None:
    file = str(tmp_path / "users")
    run("user", "add", "admin", "--file", file, input="one\n")
    run("user", "add", "eve", "--role", "operator", "--file", file, input="two\n")
    assert run("user", "list", "--file", file).stdout == "admin\twheel\neve\toperator\n"
    assert run("user", "remove", "admin", "--file", file).returncode == 0
    assert run("user", "list", "--file", file).stdout == "eve\toperator\n"
    gone = run("user", "remove", "admin", "--file", file)
    assert gone.returncode == 1 and "no user 'admin'" in gone.stderr
    empty = run("user", "add", "admin", "--file", file, input="\n")
    assert empty.returncode == 1 and "a password needs" in empty.stderr


def test_what_cannot_be_used_is_told_in_a_sentence(tmp_path: Path) -> None:
    users, bad = tmp_path / "users", tmp_path / "bad"
    run("user", "add", "admin", "--file", str(users), input="secret\n")
    bad.write_bytes(b"\xff\xfe")
    serve = ("serve", "--source", "demo", "--no-tls", "--users")
    inside = str(users / "folder")  # of a file
    for arguments, message in (
        ((*serve, str(users), "--port", "99999"), "port 99999 cannot be: use one from 1 to 65535"),
        ((*serve, str(users), "--port", "-5"), "port -5 cannot be"),
        ((*serve, str(tmp_path), "--port", "0"), f"cannot use {tmp_path}: Is a directory"),
        ((*serve, str(bad), "--port", "0"), f"{bad} is no user file"),
        (("user", "list", "--file", str(bad)), f"{bad} is no user file"),
        (("user", "list", "--file", str(tmp_path)), f"cannot use {tmp_path}: Is a directory"),
        (("user", "add", "eve", "--file", f"{inside}/users"), f"cannot use {inside}"),
        (("bridge", "--port", "99999", "--folder", str(tmp_path)), "port 99999 cannot be"),
        (("bridge", "--port", "0", "--folder", inside), f"cannot use {inside}"),
    ):
        done = run(*arguments, input="secret\n")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(f"sysadm-nb: {message}")


# --- the configuration --------------------------------------------------------------------------------------


def test_the_sample_configuration_says_the_defaults() -> None:
    path = PACKAGING / "sysadm-nb.toml"
    sample = config.read(path)
    for name, value in sample["limits"].items():
        assert getattr(Limits(), name) == value, name
    made = config.arguments(sample)
    default = config.arguments({"folder": sample["folder"]})
    sources = made.pop("sources"), default.pop("sources")
    assert made == default
    assert [source.name for source in sources[0]] == [source.name for source in sources[1]]
    # What stands there as a comment is right too.
    kept = r"^# (\[|certificate|key|url|fingerprint|users)"
    text = re.sub(kept, r"\1", path.read_text(), flags=re.MULTILINE)
    full = config.arguments(tomllib.loads(text))
    assert full["bridge"] == "wss://bridge.example:12149" and full["tls"][0].name == "nas.crt"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hots = 'x'", "no setting 'hots'"),
        ("port = '12150'", "port cannot be '12150'"),
        ("port = true", "port cannot be True"),
        ("host =", "no TOML"),
        ("[limits]\nlogin_failure = 3", "no setting limits.login_failure"),
        ("[limits]\nframe_bytes = 0", "limits.frame_bytes must be a number above 0"),
        ("[limits]\nframe_bytes = 1.5", "limits.frame_bytes must be a number above 0"),
        ("[tls]\nkey = 'x'", "tls needs a certificate"),
        ("[source.nosuch]\n", "no setting source.nosuch"),
        ("[source.demo]\nspeeed = 5", "no setting source.demo.speeed; there are seed, speed, history"),
        ("[source.demo]\nspeed = 'fast'", "source.demo.speed must be a number above 0, not 'fast'"),
        ("[source.demo]\nseed = 'a'", "source.demo.seed cannot be 'a'"),
        ("[source.system_state]\ninterval = '5min'", "source.system_state.interval must be a number above 0"),
        ("[source.system_state]\ninterval = 0", "source.system_state.interval must be a number above 0"),
        ("[source.life_preserver]\npoll = nan", "source.life_preserver.poll must be a number above 0"),
        ("[source.life_preserver]\nlog = 5", "source.life_preserver.log cannot be 5"),
        ("[source.life_preserver]\nreplication_logs = { '/a' = 5 }", "needs a format for each log"),
        ("sources = ['nosuch']", "no source called 'nosuch'"),
        ("[bridge]\nfingerprint = 'AB:CD'", "bridge needs a url"),
        ("[bridge]\nport = 1", "no setting bridge.port"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sysadm-nb.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        config.arguments(config.read(path))
    assert message in str(error.value)


def test_flags_count_over_the_file(tmp_path: Path) -> None:
    run("user", "add", "admin", "--file", str(tmp_path / "users"), input="secret\n")
    path = tmp_path / "config.toml"
    path.write_text("host = '192.0.2.1'\nsources = ['demo']\ntls = true\n")
    service = Service(tmp_path, "--config", str(path), "--host", "127.0.0.1", "--no-tls")
    try:
        assert service.first_lines[0].startswith("serving ws://127.0.0.1:")
    finally:
        assert service.stop(signal.SIGINT) == 0


# --- unit files ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_the_systemd_unit_is_valid(tmp_path: Path) -> None:
    unit = tmp_path / "sysadm-nb.service"
    shutil.copy(PACKAGING / "systemd" / "sysadm-nb.service", unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60
    )
    ours = [line for line in done.stderr.splitlines() if "sysadm-nb" in line]
    assert not ours and done.returncode == 0, done.stderr


def test_the_rc_script_is_valid_shell() -> None:
    script = PACKAGING / "freebsd" / "sysadm_nb"
    assert subprocess.run(["sh", "-n", str(script)], timeout=60).returncode == 0
    assert "# PROVIDE: sysadm_nb" in script.read_text()


def test_the_rc_script_starts_what_it_says(tmp_path: Path) -> None:
    """With a stand-in for rc.subr that shows what would be run."""
    script = (PACKAGING / "freebsd" / "sysadm_nb").read_text()
    shown = tmp_path / "rc.subr"
    shown.write_text('load_rc_config() { :; }\nrun_rc_command() { eval echo "$command" "$command_args"; }\n')
    local = tmp_path / "sysadm_nb"
    local.write_text(script.replace(". /etc/rc.subr", f". {shown}"))
    done = subprocess.run(
        ["sh", str(local), "start"],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"sysadm_nb_enable": "YES", "sysadm_nb_user": "operator"},
    )
    command = done.stdout.split()
    assert command[0] == "/usr/sbin/daemon"
    assert command[command.index("-u") + 1] == "operator"
    assert command[-5:] == [
        "serve",
        "--config",
        "/usr/local/etc/sysadm-nb.toml",
        "--folder",
        "/var/db/sysadm-nb",
    ]


def test_a_private_key_is_not_registered_at_a_bridge_and_the_right_file_named(tmp_path: Path) -> None:
    private = tmp_path / "login.pem"
    private.write_text("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n")
    done = run("bridge", "--folder", str(tmp_path / "bridge"), "key", "add", "laptop", str(private))
    assert done.returncode == 1
    assert "login.pem is no public key: register the .pub file" in done.stderr
