"""Print the lowest versions that pyproject.toml allows, as constraints for pip: what `make minimum` tests."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def main() -> None:
    """Print one constraint a line, for the dependencies and the `lab` extra."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for requirement in (*project["dependencies"], *project["optional-dependencies"]["lab"]):
        name, version = re.match(r"([A-Za-z0-9_-]+)>=([0-9.]+)", requirement).groups()
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
