"""The demo machine: a simulated storage server whose events, history and commands look like a real one's.

`Machine` is the simulation (pure: no I/O, no wall clock), `DemoMachine` the source that lets it live inside
an event server, `frames` its history as frames, for tests and benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterator

from sysadm_nb import wire
from sysadm_nb.server.demo.machine import Event, Machine
from sysadm_nb.server.demo.source import DemoMachine

__all__ = ["DemoMachine", "Event", "Machine", "frames"]

START = 1_767_571_200_000_000  # Monday 2026-01-05 00:00 UTC


def frames(days: float = 30, seed: int = 0, start: int = START) -> Iterator[tuple[int, str]]:
    """Everything the demo machine's server sends in some days, made as it is read.

    Parameters
    ----------
    days : float, default 30
        How long; a year is about 71,000 frames and 66 MB.
    seed : int, default 0
        Equal seeds give equal frames.
    start : int
        First moment, in µs since the epoch (UTC); by default Monday 2026-01-05.

    Yields
    ------
    time : int
        When it was sent, in µs since the epoch; never goes back.
    frame : str
        The text of the frame, with its ``time`` in the envelope.

    Examples
    --------
    >>> from sysadm_nb.tables import Tables
    >>> tables = Tables()
    >>> for time, frame in frames(days=1, seed=7):
    ...     message = tables.append(frame, received=time, server="demo")
    >>> sorted(tables.pools["pool"].unique())
    ['backup', 'media', 'scratch', 'tank', 'vault', 'zroot']
    """
    machine = Machine(seed, start=start)
    end = start + int(days * 86_400_000_000)
    for event in machine.run(end):
        yield event.time, wire.encode_event(event.name, event.args, event.time)
