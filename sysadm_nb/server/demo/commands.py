"""Runs ``zpool``, ``zfs`` and ``pkg`` on the simulated machine: output, error messages and exit codes."""

from __future__ import annotations

from collections.abc import Sequence
from getopt import GetoptError
from typing import Final

from sysadm_nb.server.demo import pkg, zfs, zpool
from sysadm_nb.server.demo.command import USAGE, Command, Output, Run, Wrong
from sysadm_nb.server.demo.machine import Machine

COMMANDS: Final[dict[str, dict[str, Command]]] = {
    "zpool": zpool.COMMANDS,
    "zfs": zfs.COMMANDS,
    "pkg": pkg.COMMANDS,
}
PKG_USAGE: Final = 64  # sysexits' EX_USAGE


def run(machine: Machine, argv: Sequence[str]) -> Run:
    """Run ``argv``; the machine must have been advanced to now, and be kept advanced between the pieces."""
    program, *arguments = argv
    try:
        if not arguments:
            raise Wrong(_usage(program), PKG_USAGE if program == "pkg" else USAGE)
        verb, *rest = arguments
        command = COMMANDS[program].get(verb)
        if command is None:
            code = PKG_USAGE if program == "pkg" else USAGE
            raise Wrong(f"unrecognized command '{verb}'\n{_usage(program)}", code)
        return (yield from command(machine, rest))
    except GetoptError as wrong:
        yield Output(f"{wrong}\n{_usage(program)}\n", error=True)
        return PKG_USAGE if program == "pkg" else USAGE
    except Wrong as wrong:
        yield Output(f"{wrong}\n", error=True)
        return wrong.code


def _usage(program: str) -> str:
    return f"usage: {program} command args ...\nthe demo machine knows: {', '.join(COMMANDS[program])}"
