"""The package as it is when what fills the tables is compiled."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def compiled_package(folder: Path) -> Path:
    """Build the compiled wheel in a folder; returns where its contents lie, to be put on the path.

    Raises
    ------
    RuntimeError
        It could not be built; with the end of what the build said.
    """
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(ROOT)]
    environment = os.environ | {"SYSADM_NB_COMPILE": "1"}
    done = subprocess.run(build, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"
