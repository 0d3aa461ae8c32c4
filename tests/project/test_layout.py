"""The house keeps its shape: which room may import which, how light the door is, what is exported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "sysadm_nb"

# Each room may import those before it, and itself. Only the three files of the monitor know one another.
ORDER = [
    {"errors"},
    {"loop", "wire"},
    {"tables"},
    {"client"},
    {"server"},
    {"recording"},
    {"trends", "alerts"},
    {"widgets"},
    {"job", "monitor", "connecting"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
# Named at the import itself, inside a function: what a room offers on top of one above it.
LATE = {
    "server": {"client"},  # a server dials out to a bridge as a client does
    "recording": {
        "server",
        "client",
        "connecting",
        "monitor",
    },  # a replay is a server; `record` runs a monitor
    "alerts": {"trends", "widgets", "recording", "connecting", "monitor", "client"},
    "trends": {"monitor"},
    "client": {"connecting", "monitor", "server", "recording", "widgets"},
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path):
    tree = ast.parse(path.read_text())
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            late |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "sysadm_nb":
                names = [f"sysadm_nb.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("sysadm_nb."):
                yield name.split(".")[1], id(node) in late


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    here = room_of(path)
    if here == "__init__":
        return
    for there, late in imports(path):
        if there == here or there not in LEVEL:
            continue
        if LEVEL[there] < LEVEL[here] or "monitor" in ORDER[LEVEL[here]] & ORDER[LEVEL[there]]:
            continue
        assert late and there in LATE.get(here, ()), f"{path.name} imports {there}, which stands above {here}"


def test_only_loop_starts_threads_and_loops():
    banned = ("threading.Thread(", "asyncio.new_event_loop(", "asyncio.run(", "ThreadPoolExecutor(")
    for path in PACKAGE.rglob("*.py"):
        if path.name == "loop.py":
            continue
        text = path.read_text()
        for word in banned:
            assert word not in text, f"{path} uses {word}"


def test_importing_the_package_is_light():
    code = "import sys, sysadm_nb, sysadm_nb.tables; print(*sorted(m for m in sys.modules if '.' not in m))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    loaded = set(out.stdout.split())
    heavy = {
        "websockets",
        "ipywidgets",
        "anywidget",
        "cryptography",
        "scipy",
        "matplotlib",
        "nest_asyncio",
        "IPython",
    }
    assert loaded & (heavy | {"nest_asyncio2", "apprise", "keyring", "duckdb", "polars"}) == set()
