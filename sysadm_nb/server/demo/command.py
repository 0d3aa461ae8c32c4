"""What the stand-ins for ``zpool``, ``zfs`` and ``pkg`` have in common: output, mistakes, tables."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Final, NamedTuple

from sysadm_nb import wire
from sysadm_nb.server.demo.machine import Machine

USAGE: Final = 2


class Output(NamedTuple):
    """A piece of what a command prints, and how long it takes to come (seconds of the user's time)."""

    text: str
    error: bool = False
    after: float = 0.0


Run = Generator[Output, None, int]
"""A command at work: yields its output, returns its exit code."""


class Wrong(Exception):
    """A command that ends with a message on stderr and this exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


Command = Callable[[Machine, list[str]], Run]


LEFT: Final = ("NAME", "ALTROOT", "MOUNTPOINT")
SHORT: Final = {
    "avail": "available",
    "refer": "referenced",
    "alloc": "allocated",
    "ckpoint": "checkpoint",
    "expandsz": "expandsize",
    "frag": "fragmentation",
    "cap": "capacity",
    "dedup": "dedupratio",
}


def size(value: int, exact: bool) -> str:
    return str(value) if exact else wire.format_size(value)


def columns_of(text: str, known: Iterable[str]) -> list[str]:
    names = [SHORT.get(name, name) for name in text.lower().split(",")]
    for name in names:
        if name not in known:
            raise Wrong(f"bad property list: invalid property '{name}'", USAGE)
    return names


def table(headers: list[str], rows: list[list[str]], plain: bool) -> str:
    if plain:
        return "".join("\t".join(row) + "\n" for row in rows)
    table = [headers, *rows]
    widths = [max(len(row[n]) for row in table) for n in range(len(headers))]
    lines = []
    for row in table:
        cells = [
            f"{cell:<{width}}" if header in LEFT else f"{cell:>{width}}"
            for cell, width, header in zip(row, widths, headers, strict=True)
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)
