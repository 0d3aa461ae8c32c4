"""With SYSADM_NB_COMPILE=1 a build compiles what fills the tables.

The same source runs interpreted and compiled, by mypyc.
An editable build puts the compiled files beside their source: `make compile`, `make interpret`.
"""

from __future__ import annotations

import os
import shutil
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
        return ["mypy>=1.18", "setuptools>=77"] if self._asked else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not self._asked:
            return
        self._place = Path(tempfile.mkdtemp(prefix="sysadm_nb-"))
        built = compile_to(self._place, Path(self.root))
        for path in built.rglob("*.*"):
            where = path.relative_to(built)
            if version == "editable":
                shutil.copy2(path, Path(self.root) / where)
            else:
                build_data["force_include"][str(path)] = str(where)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._asked:
            shutil.rmtree(self._place, ignore_errors=True)


def compile_to(place: Path, root: Path) -> Path:
    """Compile the modules; returns the folder of what came out, laid out as it is to be installed."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    before = Path.cwd()
    os.chdir(root)
    try:
        # The types of other packages are not installed where a wheel is built, and would change little.
        options = ["--config-file=", "--ignore-missing-imports", f"--cache-dir={place / 'cache'}"]
        sources = [f"sysadm_nb/{name}.py" for name in MODULES]
        extensions = mypycify([*options, *sources], group_name="sysadm_nb", target_dir=str(place / "c"))
        command = Distribution({"name": "sysadm_nb", "ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(place / "built"), str(place / "objects")
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)
    return place / "built"
