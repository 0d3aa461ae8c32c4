"""The stand-in for ``pkg``: update, upgrade, version and info, at the pace of a real one."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from getopt import gnu_getopt
from typing import Final

from sysadm_nb.server.demo.command import Command, Output, Run, Wrong
from sysadm_nb.server.demo.machine import Machine
from sysadm_nb.server.demo.maintenance import release, update_step, upgrade, upgrade_step


def _pieces(output: Iterable[tuple[float, str]], seconds: float) -> Generator[Output, None, None]:
    printed = 0.0
    for at, text in output:
        yield Output(text, after=at - printed)
        printed = at
    yield Output("", after=seconds - printed)


def _update(machine: Machine, arguments: list[str]) -> Run:
    gnu_getopt(arguments, "fq")
    step = update_step()
    yield from _pieces(step.output, step.seconds)
    if not machine.packages.newer:  # the catalogue has something new for whoever asks
        release(machine, 4)
    return step.code


def _upgrade(machine: Machine, arguments: list[str]) -> Run:
    options, _ = gnu_getopt(arguments, "yn")
    step = upgrade_step(machine.packages)
    if not options and machine.packages.newer:
        yield from _pieces(step.output[: 4 + len(machine.packages.newer)], 1.0)
        yield Output("\nProceed with this action? [y/N]: n\n")
        return 1
    if ("-n", "") in options:
        yield from _pieces(step.output[: 4 + len(machine.packages.newer)], 1.0)
        return 1 if machine.packages.newer else 0
    yield from _pieces(step.output, step.seconds)
    upgrade(machine)
    return step.code


def _version(machine: Machine, arguments: list[str]) -> Run:
    packages = machine.packages
    lines = [
        f"{name}-{version:<20} {'<' if name in packages.newer else '='}"
        for name, version in sorted(packages.installed.items())
    ]
    yield Output("\n".join(lines) + "\n", after=0.3)
    return 0


def _info(machine: Machine, arguments: list[str]) -> Run:
    _, names = gnu_getopt(arguments, "a")
    installed = machine.packages.installed
    for name in names:
        if name not in installed:
            raise Wrong(f"pkg: No package(s) matching {name}", 70)
    lines = [f"{name}-{version}" for name, version in sorted(installed.items()) if not names or name in names]
    yield Output("\n".join(lines) + "\n")
    return 0


COMMANDS: Final[dict[str, Command]] = {
    "update": _update,
    "upgrade": _upgrade,
    "version": _version,
    "info": _info,
}
