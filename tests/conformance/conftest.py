"""The server under test: one of ours, in the situation of each capture, or any by URL.

``pytest tests/conformance --server wss://nas:12150 --server-user root`` with the password in
``SYSADM_NB_PASSWORD`` and the certificate's SHA-256 in ``--server-fingerprint``: a password goes to no server
that is not known.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

import sysadm_nb as sa
from sysadm_nb.server import Limits
from sysadm_nb.server.source import BadRequest
from tests.conformance.replay import Player

PASSWORD = os.environ.get("SYSADM_NB_PASSWORD", "")  # now: the other tests run without it


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--server", help="URL of a server to test instead of ours")
    group.addoption(
        "--server-user", default="root", help="a wheel user there; password in SYSADM_NB_PASSWORD"
    )
    group.addoption("--server-fingerprint", help="SHA-256 of its certificate")


JOBS = {
    "slow.sh": "n=$1; d=$2; shift 2; i=1\n"
    "while [ $i -le $n ]; do echo ${1:-line} $i; sleep $d; i=$((i+1)); done",
    "err.sh": "echo to stdout; sleep 0.05; echo to stderr >&2; exit 3",
    "burst.sh": "for b in 1 2 3 4 5 6; do\n for l in 1 2 3 4 5 6 7 8 9 10; do\n"
    "  echo burst $b line $l xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n done; sleep 0.3\ndone",
    "utf8.sh": 'printf \'héllo "quoted" back\\\\slash tab\\there / slash € \\033[31mred\\033[0m \\001 '
    "bad:\\377\\376 end\\r\\n'",
}

POOLS = {
    "backup": {
        "alloc": "412G", "altroot": "-", "capacity": "22%", "dedup": "1.00x", "expandsz": "-", "frag": "3%",
        "free": "1.41T", "health": "ONLINE", "size": "1.81T",
    },
    "tank": {
        "alloc": "13.1G", "altroot": "-", "capacity": "12%", "dedup": "1.00x", "expandsz": "-", "frag": "6%",
        "free": "93.9G", "health": "ONLINE", "size": "107G",
    },
}  # fmt: skip
STATE = {"hostname": "trueos-test", "priority": "0 - Information", "zpools": POOLS}
DATASETS = {
    "tank": {"avail": "90.6G", "mountpoint": "/tank", "refer": "96K", "used": "13.1G"},
    "tank/ROOT": {"avail": "90.6G", "mountpoint": "none", "refer": "96K", "used": "9.20G"},
}


class Machine:
    """A source with the captures' pools, and with the captures' clock where a test winds it."""

    name = "captured machine"

    def __init__(self) -> None:
        self.time: int | None = None
        self.calls = {"sysadm/zfs": self._zfs, "sysadm/systemmanager": self._slow}

    async def start(self, publish: Any) -> None:
        pass

    async def stop(self) -> None:
        pass

    def clock(self) -> int:
        return time.time_ns() // 1000 if self.time is None else self.time

    async def _zfs(self, args: dict[str, Any]) -> object:
        if args.get("action") == "list_pools":
            return {"list_pools": POOLS}
        if args.get("action") == "datasets":
            return {"datasets": DATASETS}
        raise BadRequest

    async def _slow(self, args: dict[str, Any]) -> object:
        import asyncio

        await asyncio.sleep(0.3)
        return {"cpupercentage": {"busytotal": "0", "cpu1": {"busy": "0"}}}


@dataclass
class UnderTest:
    """A server and how to get in."""

    url: str
    passwords: dict[str, str]
    ours: bool
    machine: Machine = field(default_factory=Machine)
    server: Any = None
    jobs: Path = Path("/usr/local/share/jobs")
    tls: ssl.SSLContext | None = None
    players: dict[str, Player] = field(default_factory=dict)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def player(self, name: str = "A") -> Player:
        if name not in self.players:
            opening = connect(
                self.url, ssl=self.tls, origin=Origin("sysadm-client"), compression=None, max_size=None
            )
            self.players[name] = Player(self.stack.enter_context(opening))
        return self.players[name]

    def close(self) -> None:
        self.stack.close()
        self.players.clear()


@pytest.fixture
def utc() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


@pytest.fixture
def under_test(
    request: pytest.FixtureRequest, tmp_path: Path, utc: None
) -> Iterator[Callable[..., UnderTest]]:
    """A function that gives the server under test, ours made with the arguments it gets."""
    opened: list[UnderTest] = []
    url = request.config.getoption("--server")

    def make(**limits: float) -> UnderTest:
        if url:
            made = UnderTest(url, {request.config.getoption("--server-user"): _password()}, ours=False)
            made.tls = _pinned(url, request.config.getoption("--server-fingerprint"))
        else:
            made = _ours(tmp_path, limits)
        opened.append(made)
        return made

    yield make
    for made in opened:
        made.close()
        if made.server is not None:
            made.server.stop()


def _ours(folder: Path, limits: dict[str, float]) -> UnderTest:
    jobs = folder / "jobs"
    jobs.mkdir()
    for name, body in JOBS.items():
        path = jobs / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    passwords = {"root": "secret", "admin": "admin's", "oper": "oper's"}
    machine = Machine()
    server = sa.serve(
        users={"root": "secret", "admin": "admin's", "oper": ("oper's", "operator")},
        sources=[machine],
        allow_run=True,
        limits=Limits(**limits),  # type: ignore[arg-type]
    )
    return UnderTest(server.url, passwords, True, machine, server, jobs)


def _password() -> str:
    if not PASSWORD:
        pytest.exit("set SYSADM_NB_PASSWORD to the password of --server-user", returncode=4)
    return PASSWORD


def _pinned(url: str, fingerprint: str | None) -> ssl.SSLContext | None:
    if not url.startswith("wss:"):
        return None
    import hashlib
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    pem = ssl.get_server_certificate((parts.hostname or "", parts.port or 12150), timeout=10)
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    if not fingerprint or fingerprint.replace(":", "").lower() != digest:
        pytest.exit(f"the certificate of {url} has SHA-256 {digest}: pass --server-fingerprint", returncode=4)
    context = ssl.create_default_context(cadata=pem)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
