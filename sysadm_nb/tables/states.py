"""System-state events become columns many at a time, which costs a third of one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sysadm_nb.wire import parse_priorities
from sysadm_nb.wire.events import SystemState
from sysadm_nb.wire.units import text_or_none

Told = tuple[float, str | None, str | None, str]
"""What the events table says of an event: priority, level, subject, summary."""


def system_columns(states: Sequence[SystemState]) -> tuple[list[Any], list[Told]]:
    """Columns of the ``system`` table, from that of the host's name on, and what ``events`` says of each.

    Examples
    --------
    >>> columns, told = system_columns([SystemState("nas", priority="6 - Critical")])
    >>> columns
    [['nas'], [False], [6.0], ['Critical'], [0], [None]]
    >>> told
    [(6.0, 'Critical', 'nas', 'no pools')]
    """
    hostnames = [text_or_none(state.hostname) for state in states]
    counts = [len(state.zpools) for state in states]
    priorities = parse_priorities([state.priority for state in states])
    priority, level = [number for number, _ in priorities], [level for _, level in priorities]
    summaries = [
        ", ".join(state.zpools) if 0 < count <= 4 else f"{count} pools" if count else "no pools"
        for state, count in zip(states, counts, strict=True)
    ]
    columns = [
        hostnames,
        [state.hostnamechanged is not None and is_true(state.hostnamechanged) for state in states],
        priority,
        level,
        counts,
        [_updates_status(state.updates) for state in states],
    ]
    return columns, list(zip(priority, level, hostnames, summaries, strict=True))


def _updates_status(updates: Any) -> str | None:
    """``noupdates``, ``updatesavailable``, ``rebootrequired`` …, wherever the server puts it."""
    return text_or_none(updates.get("status") if updates.__class__ is dict else updates)


def is_true(value: Any) -> bool:
    """``"true"`` and ``true`` alike."""
    return value is True or (value.__class__ is str and value.lower() == "true")
