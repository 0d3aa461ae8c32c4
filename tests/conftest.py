"""What every test gets: nothing may be left behind."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

CAPTURES = Path(__file__).parent / "data" / "captures"

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("default")


def pytest_sessionstart() -> None:
    """Refuse to test compiled files that are older than their source: Python prefers them, however old."""
    package = Path(__file__).parents[1] / "sysadm_nb"
    compiled = [path.stat().st_mtime for path in package.rglob("*.so")]
    # Constants of any module go into the compiled ones.
    if compiled and min(compiled) < max(path.stat().st_mtime for path in package.rglob("*.py")):
        pytest.exit("the source is newer than what is compiled of it: `make compile` or `make interpret`", 3)


@pytest.fixture(scope="session")
def captures() -> Callable[[str], list[dict[str, Any]]]:
    """The frames of a capture of the original server: ``captures("03a")``."""

    def read(name: str) -> list[dict[str, Any]]:
        (file,) = CAPTURES.glob(f"{name}*.jsonl")
        return [json.loads(line) for line in file.read_text().split("\n") if line]

    return read


@pytest.fixture(autouse=True, scope="session")
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trusted certificates, keys and the like go into a folder of the tests', not into the user's."""
    home = tmp_path_factory.mktemp("home")
    # A folder of our own for temporary files too: what others leave in the common one is not our leak. Short,
    # because the path of a Unix socket is.
    tempfile.tempdir = common = tempfile.mkdtemp(prefix="sn-")
    names = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")
    before = {name: os.environ.get(name) for name in (*names, "SYSADM_NB_PASSWORD")}
    os.environ.update({name: str(home / name.lower()) for name in names})
    os.environ.pop("SYSADM_NB_PASSWORD", None)
    yield
    tempfile.tempdir = None
    shutil.rmtree(common, ignore_errors=True)
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _sockets() -> set[str]:
    out = set()
    for entry in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").exists() else ():
        try:
            target = os.readlink(entry)  # noqa: PTH115 - Path.readlink cannot give "socket:[1]" back as text
        except OSError:
            continue
        if target.startswith("socket:"):
            out.add(target)
    return out


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE}


def _temporary() -> set[str]:
    folder = Path(tempfile.gettempdir())
    return {path.name for path in folder.glob("sysadm*")} | {path.name for path in folder.glob("salvage-*")}


def _widgets() -> set[str]:
    import sys

    module = sys.modules.get("ipywidgets.widgets.widget")
    return set(module._instances) if module is not None else set()


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves a thread, socket, process, open widget or temporary file behind.

    ``@pytest.mark.leaves("reason")`` is for tests that drive another program's threads.
    """
    if request.node.get_closest_marker("leaves") is not None:
        yield
        return
    threads, sockets, children = set(threading.enumerate()), _sockets(), _children()
    temporary, widgets = _temporary(), _widgets()
    yield

    def left() -> dict[str, Any]:
        found: dict[str, Any] = {
            "threads": [t.name for t in threading.enumerate() if t not in threads and t.is_alive()],
            "sockets": sorted(_sockets() - sockets),
            "processes": sorted(_children() - children),
            "temporary files": sorted(_temporary() - temporary),
            "widgets": sorted(_widgets() - widgets),
        }
        return {what: items for what, items in found.items() if items}

    deadline = time.monotonic() + 5
    while left() and time.monotonic() < deadline:
        gc.collect()  # what nobody holds closes itself
        time.sleep(0.05)
    remaining = left()
    if remaining:
        pytest.fail(f"left behind: {remaining}")
