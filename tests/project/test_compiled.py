"""What fills the tables can be compiled: it does the same then."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from benchmarks.compiled import ROOT, compiled_package


@pytest.mark.timeout(600)
def test_compiled_tables_pass_the_tests_of_the_tables(tmp_path):
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if "CI" not in os.environ and not (shutil.which("cc") and headers.exists()):
        pytest.skip("NOT TESTED: there is no C compiler `cc`, or Python's headers are not installed")
    site = compiled_package(tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    assert not wheel.name.endswith("-none-any.whl")
    compiled = (
        "import sysadm_nb.tables.intake as i, sysadm_nb.wire.reading as r; print(i.__file__, r.__file__)"
    )
    shown = run(tmp_path, "-c", compiled, PYTHONPATH=str(site)).split()
    assert len(shown) == 2 and all(path.startswith(str(site)) and path.endswith(".so") for path in shown)
    tests = [ROOT / "tests" / name for name in ("tables", "wire", "conformance")]
    options = ["-q", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "-o", f"pythonpath={site}"]
    summary = run(tmp_path, "pytest", *options, "-p", "no:cacheprovider", *tests, PYTHONPATH=str(site))
    assert " passed" in summary and " failed" not in summary


def run(folder: Path, *command: object, **environment: str) -> str:
    """A Python program of its own, away from the source; what it printed, shown where it fails."""
    module = [] if command[0] == "-c" else ["-m"]
    done = subprocess.run(
        [sys.executable, *module, *map(str, command)],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout
