"""With SYSADM_NB_COMPILE=1 a build compiles what fills the tables.

The same source runs interpreted and compiled, by mypyc.
An editable build puts the compiled files beside their source: `make compile`, `make interpret`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Nothing public: compiled functions have no docstrings, and compiled classes can't be derived from.
MODULES = (
    "tables/intake",
    "tables/job",
    "tables/joblog",
    "tables/jobs",
    "tables/notices",
    "tables/pools",
    "tables/states",
    "tables/store",
    "wire/reading",
)


class CustomBuildHook(BuildHookInterface[Any]):
    """Compiles, where it is asked to."""

    @property
    def _asked(self) -> bool:
        return self.target_name == "wheel" and os.environ.get("SYSADM_NB_COMPILE", "0") not in ("", "0")

    def dependencies(self) -> list[str]:
        # mypyc takes types from msgspec's own files; those of pandas and numpy would change little.
        return ["mypy>=2.4", "msgspec>=0.19", "setuptools>=84"] if self._asked else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not self._asked:
            return
        root = Path(self.root)
        built = root / "build" / f"compiled-{sys.implementation.cache_tag}"
        if not _is_new(built, root):  # a build asks twice: for the metadata first
            _compile(built, root)
        for path in built.rglob("*.*"):
            where = path.relative_to(built)
            if version == "editable":
                shutil.copy2(path, root / where)
            else:
                build_data["force_include"][str(path)] = str(where)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def _is_new(built: Path, root: Path) -> bool:
    times = [path.stat().st_mtime for path in built.rglob("*.*")]
    # Constants of any module go into the compiled ones.
    sources = [Path(__file__), *(root / "sysadm_nb").rglob("*.py")]
    return bool(times) and min(times) > max(path.stat().st_mtime for path in sources)


def _compile(built: Path, root: Path) -> None:
    """Compile the modules into a folder laid out as it is to be installed."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    shutil.rmtree(built, ignore_errors=True)
    before = Path.cwd()
    os.chdir(root)
    try:
        with tempfile.TemporaryDirectory(prefix="sysadm_nb-") as name:
            place = Path(name)
            options = ["--config-file=", "--ignore-missing-imports", f"--cache-dir={place / 'cache'}"]
            sources = [f"sysadm_nb/{module}.py" for module in MODULES]
            extensions = mypycify([*options, *sources], group_name="sysadm_nb", target_dir=str(place / "c"))
            project = Distribution({"name": "sysadm_nb", "ext_modules": extensions})
            command = project.get_command_obj("build_ext")
            command.build_lib, command.build_temp = str(place / "built"), str(place / "objects")
            command.ensure_finalized()
            command.run()
            shutil.copytree(place / "built", built)
    finally:
        os.chdir(before)
