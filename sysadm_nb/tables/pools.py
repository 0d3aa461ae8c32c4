"""The pools table: samples come in whole, and become columns many at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from msgspec.structs import astuple

from sysadm_nb.tables.columns import Categories, Repeated, Text
from sysadm_nb.tables.schema import ORIGINS
from sysadm_nb.tables.store import Store
from sysadm_nb.wire import parse_priority
from sysadm_nb.wire.events import Pool
from sysadm_nb.wire.units import PERCENTS, RATIOS, SIZES, text_or_none

NAN: Final = math.nan

HEALTH: Final = frozenset(("ONLINE", "DEGRADED", "FAULTED", "OFFLINE", "UNAVAIL", "REMOVED", "SUSPENDED"))

_KEEP_LATEST: Final = 100_000
_FIELDS: Final = len(Pool.__struct_fields__)


class PoolStore(Store):
    """The rows of the pools table, and the newest sample of each pool."""

    def __init__(self, max_rows: int) -> None:
        super().__init__("pools", max_rows)
        self._latest: dict[tuple[str, str], SimpleNamespace] = {}
        self._seen = 0  # rows that went into `_latest`

    def take(self, leads: Sequence[Sequence[Any]], samples: Sequence[dict[str, Pool]]) -> None:
        """Take what frames say of all pools of a host.

        Parameters
        ----------
        leads : sequence of sequences
            What every row begins with, column by column, for each sample: the frame's lead and the host.
        samples : sequence of dict
            The pools by name.
        """
        counts = list(map(len, samples))
        count = sum(counts)
        if count:
            self.extend([*(Repeated(cells, counts) for cells in leads), *pool_columns(samples)], count)

    def _trim(self, slack: int = 0) -> None:
        if self.added - self.max_rows > max(self.first, self._seen):
            self._look_at_new()  # a pool of which there is no sample any more is still known
        super()._trim(slack)

    def latest(self) -> dict[tuple[str, str], SimpleNamespace]:
        """The newest sample of each pool by ``(server, pool)``: the columns as attributes, times in µs."""
        self.flush()
        self._look_at_new()
        return dict(self._latest)

    def _look_at_new(self) -> None:
        start = max(self._seen - self.first, 0)
        self._seen = self.added
        values = {name: column.values()[start:] for name, column in self.columns.items()}
        times = values["time"]
        if not len(times):
            return
        # The last event, sent again at a subscribe, is old news: its age is unknown and it is no sample.
        last = values["origin"] == ORIGINS.index("last")
        pool = values["server"].astype("int64") << 32 | values["pool"].astype("int64")
        order = np.lexsort((np.where(last, np.iinfo("int64").min, times), pool))
        newest = order[np.append(np.diff(pool[order]) != 0, True)]
        cells = {name: self._plain(name, column, newest) for name, column in values.items()}
        latest = self._latest
        for row in zip(*cells.values(), strict=True):
            sample = SimpleNamespace(**dict(zip(cells, row, strict=True)))
            known = latest.get((sample.server, sample.pool))
            if (
                known is None
                or known.origin == "last"
                or (sample.origin != "last" and known.time <= sample.time)
            ):
                latest[sample.server, sample.pool] = sample
        for key in list(latest)[: max(len(latest) - _KEEP_LATEST, 0)]:
            del latest[key]

    def _plain(self, name: str, values: Any, rows: np.ndarray[Any, Any]) -> list[Any]:
        """Cells of some rows as plain Python values."""
        column = self.columns[name]
        if isinstance(column, Text):
            return list(values.take(rows).to_pylist())
        cells = values[rows].tolist()
        if isinstance(column, Categories):
            names = list(column.codes)
            return [names[code + 1] for code in cells]
        return list(cells)


def pool_columns(samples: Sequence[dict[str, Pool]]) -> list[Any]:
    """Columns of the ``pools`` table, from that of the pool's name on, from many samples.

    Column by column costs a third of what row by row does: it is what bounds the rate of ingest.
    """
    names = list(chain.from_iterable(samples))
    flat = chain.from_iterable(map(dict.values, samples))
    said = list(chain.from_iterable(map(astuple, flat)))  # a third of what a list for each field costs
    fields = [said[first::_FIELDS] for first in range(_FIELDS)]
    size, alloc, free, frag, expandsz, dedup, altroot, capacity, cap, health, priority, *exact = fields
    count = len(names)
    if None in capacity:
        capacity = [b if a is None else a for a, b in zip(capacity, cap, strict=True)]
    repaired = [False] * count
    if altroot.count("-") < count:
        shifted = (expandsz, frag, capacity, dedup, health, altroot)
        repaired = [_put_back(row, *shifted) for row in range(count)]
    size, alloc, free = SIZES.of_all(size), SIZES.of_all(alloc), SIZES.of_all(free)
    expand, used = SIZES.of_all(expandsz), PERCENTS.of_all(capacity)
    if exact[0].count(None) < count:
        size, alloc, free, expand, used = _exact(exact, size, alloc, free, expand, used)
    return [
        names,
        size,
        alloc,
        free,
        expand,
        PERCENTS.of_all(frag),
        used,
        RATIOS.of_all(dedup),
        [None if root == "-" else text_or_none(root) for root in altroot],
        [word if type(word) is str and word in HEALTH else _other_health(word) for word in health],
        [NAN if value is None else parse_priority(value)[0] for value in priority],
        repaired,
    ]


def _put_back(
    row: int,
    expandsz: list[Any],
    frag: list[Any],
    capacity: list[Any],
    dedup: list[Any],
    health: list[Any],
    altroot: list[Any],
) -> bool:
    """Put values back that stand in their neighbours' columns, and say whether they did.

    A server that does not know the CKPOINT column of a newer ``zpool list`` takes every later value for
    its neighbour's: a health word stands in ``altroot`` then.
    """
    if not _is_health(altroot[row]) or _is_health(health[row]):
        return False
    expandsz[row], frag[row], capacity[row] = frag[row], capacity[row], dedup[row]
    dedup[row], health[row], altroot[row] = health[row], altroot[row], None
    return True


def _exact(exact: list[list[int | float | None]], *shown: list[float]) -> list[list[float]]:
    """Take the bytes that our own servers send beside the display values, which show three digits.

    Both are the sizes, what is allocated, free and for expansion; ``shown`` ends with the percentage of the
    capacity.
    """
    columns = np.array(shown)
    told = np.array(list(map(_numbers, exact)))
    there = ~np.isnan(told) & ~np.isnan(told[0])
    columns[:4][there] = told[there]
    size, alloc = told[:2]
    known = there[1] & (size > 0)
    with np.errstate(all="ignore"):  # of numbers beyond all reason the percentage is infinite
        columns[4][known] = 100.0 * alloc[known] / size[known]
    numbers: list[list[float]] = columns.tolist()
    return numbers


def _numbers(values: list[int | float | None]) -> np.ndarray[Any, Any]:
    try:
        return np.array([NAN if value is None else value for value in values], "float64")
    except OverflowError:  # hundreds of digits are a number in JSON, and none here
        return np.array(SIZES.of_all(values))


def _is_health(value: Any) -> bool:
    return type(value) is str and value.upper() in HEALTH


def _other_health(value: Any) -> str | None:
    """A word of ZFS in other letters is the word of ZFS: rules and views compare with that."""
    if type(value) is not str or value == "-":
        return None
    return str(value.upper() if _is_health(value) else value)
