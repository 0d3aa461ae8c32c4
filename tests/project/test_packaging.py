"""pyproject.toml, environment.yml and what is installed agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
# conda-forge calls some packages otherwise.
CONDA = {"msgspec-python": "msgspec", "matplotlib-base": "matplotlib", "python-duckdb": "duckdb"}


def bound(requirement: str) -> tuple[str, str]:
    name, version = re.fullmatch(
        r"([A-Za-z0-9_-]+)>=([0-9.]+)(?:;.*)?", requirement.replace(" ", "")
    ).groups()
    return CONDA.get(name, name), version


def test_environment_and_pyproject_are_in_step():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in ("lab", "test"):
        wanted += [r for r in project["optional-dependencies"][extra] if not r.startswith("sysadm-nb[")]
    lines = (ROOT / "environment.yml").read_text().split("dependencies:")[1].splitlines()
    found = [line.strip().removeprefix("- ") for line in lines if line.strip().startswith("- ")]
    found = [line for line in found if line not in ("pip", "pip:", "-e .")]
    python = found.pop(0)
    assert python == f"python{project['requires-python']}"
    assert dict(map(bound, found)) == dict(map(bound, wanted))


def test_what_the_user_asked_for_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {bound(r)[0] for r in project["dependencies"]}
    assert {"websockets", "pandas", "ipywidgets", "nest-asyncio"} <= names
    for entry in (
        "sysadm_nb",
        "notebooks",
        "tests",
        "README.md",
        "environment.yml",
        "LICENSE",
        "CHANGELOG.md",
    ):
        assert (ROOT / entry).exists(), entry


def test_nothing_is_pinned_from_above():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    every = [*project["dependencies"], *(r for e in project["optional-dependencies"].values() for r in e)]
    assert not [r for r in every if re.search(r"<|==|~=", r.split(";")[0])]


def test_the_package_says_it_is_typed():
    assert (ROOT / "sysadm_nb" / "py.typed").exists()
