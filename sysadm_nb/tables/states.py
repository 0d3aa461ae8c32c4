"""System-state events become columns many at a time, which costs a third of one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from msgspec.structs import astuple

from sysadm_nb.wire import parse_priorities
from sysadm_nb.wire.events import Pool, SystemState
from sysadm_nb.wire.units import text_or_none

_FIELDS: Final = len(SystemState.__struct_fields__)

Told = tuple[float, str | None, str | None, str]
"""What the events table says of an event: priority, level, subject, summary."""


def system_columns(
    states: Sequence[SystemState],
) -> tuple[list[Any], list[Told], list[dict[str, Pool]]]:
    """Take system-state events apart.

    Returns
    -------
    tuple
        Columns of the ``system`` table, from that of the host's name on; what ``events`` says of each; the
        pools of each.

    Examples
    --------
    >>> columns, told, pools = system_columns([SystemState("nas", priority="6 - Critical")])
    >>> columns
    [['nas'], [False], [6.0], ['Critical'], [0], [None]]
    >>> told, pools
    ([(6.0, 'Critical', 'nas', 'no pools')], [{}])
    """
    said = list(chain.from_iterable(map(astuple, states)))
    names, changed, said_priorities, pools, updates = (said[first::_FIELDS] for first in range(_FIELDS))
    hostnames = list(map(text_or_none, names))
    counts = list(map(len, pools))
    priorities = parse_priorities(said_priorities)
    priority, level = [number for number, _ in priorities], [level for _, level in priorities]
    summaries = [
        ", ".join(listed) if 0 < len(listed) <= 4 else f"{len(listed)} pools" if listed else "no pools"
        for listed in pools
    ]
    columns = [
        hostnames,
        [value is not None and is_true(value) for value in changed],
        priority,
        level,
        counts,
        list(map(_updates_status, updates)),
    ]
    return columns, list(zip(priority, level, hostnames, summaries, strict=True)), pools


def _updates_status(updates: Any) -> str | None:
    """``noupdates``, ``updatesavailable``, ``rebootrequired`` …, wherever the server puts it."""
    return text_or_none(updates.get("status") if type(updates) is dict else updates)


def is_true(value: Any) -> bool:
    """``"true"`` and ``true`` alike."""
    return value is True or (type(value) is str and value.lower() == "true")
