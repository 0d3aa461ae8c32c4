"""The pools table: samples come in whole, and become columns many at a time."""

from __future__ import annotations

import math
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from sysadm_nb.tables.columns import Categories, Text
from sysadm_nb.tables.job import Lead
from sysadm_nb.tables.schema import ORIGINS
from sysadm_nb.tables.store import Store
from sysadm_nb.wire import parse_priority
from sysadm_nb.wire.events import Pool
from sysadm_nb.wire.units import PERCENTS, RATIOS, SIZES, text_or_none

NAN: Final = math.nan

HEALTH: Final = frozenset(("ONLINE", "DEGRADED", "FAULTED", "OFFLINE", "UNAVAIL", "REMOVED", "SUSPENDED"))

_KEEP_LATEST: Final = 100_000


class PoolStore(Store):
    """The rows of the pools table, and the newest sample of each pool."""

    def __init__(self, max_rows: int) -> None:
        super().__init__("pools", max_rows)
        self._samples: list[Any] = []  # cells of one sample after the other
        self._waiting = 0
        self._latest: dict[tuple[str, str], SimpleNamespace] = {}
        self._seen = 0  # rows that went into `_latest`

    @property
    def waiting(self) -> int:
        return self._waiting

    def add_sample(self, lead: Lead, hostname: str | None, pools: dict[str, Pool]) -> None:
        """Take what one frame says of all pools of a host."""
        self._samples.extend((*lead, hostname, pools))
        self._waiting += len(pools)

    def flush(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, 0
            samples, self._samples = self._samples, []
            self._extend(pool_columns(samples), waiting)

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


def pool_columns(cells: list[Any]) -> list[Any]:
    """Columns of the ``pools`` table, in its order, from the cells of many samples.

    A sample is the five cells of its lead, the name of the host, and the pools by name.

    Column by column costs a third of what row by row does: it is what bounds the rate of ingest.

    A server that does not know the CKPOINT column of a newer ``zpool list`` takes every later value for
    its neighbour's: a health word stands in ``altroot`` then. The values are put back, and the row says so.
    """
    samples: list[dict[str, Pool]] = cells[6::7]
    counts = [len(pools) for pools in samples]
    leads = [list(chain.from_iterable(map(repeat, cells[first::7], counts))) for first in range(6)]
    names = list(chain.from_iterable(samples))
    flat = list(chain.from_iterable([pools.values() for pools in samples]))
    expandsz, frag = [p.expandsz for p in flat], [p.frag for p in flat]
    dedup, health = [p.dedup for p in flat], [p.health for p in flat]
    capacity = [p.capacity for p in flat]
    if None in capacity:
        capacity = [p.cap if c is None else c for p, c in zip(flat, capacity, strict=True)]
    altroot = [None if p.altroot == "-" else p.altroot for p in flat]
    repaired = [False] * len(flat)
    if altroot.count(None) < len(flat):
        for row, root in enumerate(altroot):
            if root is None:
                continue
            if _is_health(root) and not _is_health(health[row]):
                repaired[row] = True
                expandsz[row], frag[row], capacity[row] = frag[row], capacity[row], dedup[row]
                dedup[row], health[row], root = health[row], root, None
            altroot[row] = text_or_none(root)
    size, alloc = SIZES.of_all([p.size for p in flat]), SIZES.of_all([p.alloc for p in flat])
    free, expand = SIZES.of_all([p.free for p in flat]), SIZES.of_all(expandsz)
    used = PERCENTS.of_all(capacity)
    for row, p in enumerate(flat) if any(p.size_bytes is not None for p in flat) else ():
        if p.size_bytes is None:
            continue
        try:
            size[row] = exact = float(p.size_bytes)
            if p.free_bytes is not None:
                free[row] = float(p.free_bytes)
            if p.expandsz_bytes is not None:
                expand[row] = float(p.expandsz_bytes)
            if p.alloc_bytes is not None:
                alloc[row] = float(p.alloc_bytes)
                if exact > 0:
                    used[row] = 100.0 * alloc[row] / exact
        except OverflowError:  # hundreds of digits are a number in JSON, and none here: what is shown stands
            continue
    priorities = [p.priority for p in flat]
    return [
        *leads,
        names,
        size,
        alloc,
        free,
        expand,
        PERCENTS.of_all(frag),
        used,
        RATIOS.of_all(dedup),
        altroot,
        [h if h.__class__ is str and h in HEALTH else _other_health(h) for h in health],
        [NAN if p is None else parse_priority(p)[0] for p in priorities],
        repaired,
    ]


def _is_health(value: Any) -> bool:
    return value.__class__ is str and value.upper() in HEALTH


def _other_health(value: Any) -> str | None:
    """A word of ZFS in other letters is the word of ZFS: rules and views compare with that."""
    if value.__class__ is not str or value == "-":
        return None
    return str(value.upper() if _is_health(value) else value)
