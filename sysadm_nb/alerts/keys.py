"""Keys and their time: which row belongs to which server, pool or job, and in what order it counts.

The rule for time. Rows count in the order in which they came. A row up to a minute older than the newest of
its key counts as of that newest one (clocks jitter). A row older than that is *late* and doesn't count; where
two late rows follow each other in order, and are no backfill, the server's clock was set back, and from the
second on rows count again, on the new clock. Key time goes on where it stood, so that durations stay right.
Rows marked ``last`` (resent when a subscription begins) are old news and never count, nor do rows of a user's
frame that have no time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from .columns import Bools, Cat, Columns, Floats, Ints

JITTER_US: Final = 60_000_000
_NEVER: Final = np.iinfo(np.int64).min


class Batch:
    """Rows grouped by key, each key's in the order in which they count.

    Attributes
    ----------
    columns : Columns
        The rows themselves, in this order.
    kid, tau, at : array of int64
        The number of each row's key, its key time, and its own time (microseconds).
    value : array of float64 or None
        The measured value, set by the rule that is looking.
    """

    def __init__(self, columns: Columns, kid: Ints, tau: Ints, at: Ints) -> None:
        self.columns, self.kid, self.tau, self.at = columns, kid, tau, at
        self.value: Floats | None = None
        self._breaks: dict[int | None, Bools] = {}

    def breaks(self, pause_us: int | None) -> Bools:
        """Rows that do not follow on the one before: another key, another clock, or after a longer pause."""
        if pause_us not in self._breaks:
            new = np.ones(len(self.kid), bool)
            new[1:] = (self.kid[1:] != self.kid[:-1]) | (np.diff(self.tau - self.at) != 0)
            if pause_us is not None:
                new[1:] |= np.diff(self.tau) > pause_us
            self._breaks[pause_us] = new
        return self._breaks[pause_us].copy()

    @property
    def order(self) -> Ints:
        """Where each row is in the frame it came from."""
        order = self.columns.order
        assert order is not None
        return order

    def fields(self, row: int, names: Iterable[str]) -> dict[str, Any]:
        """Plain Python values of one row: numbers, text, microseconds; None where missing."""
        out: dict[str, Any] = {}
        for name in names:
            if name == "value":
                value = float("nan") if self.value is None else float(self.value[row])
                out[name] = None if value != value else value
            else:
                out[name] = self.columns.plain_value(name, row)
        return out


class KeyIndex:
    """The keys of one table under one choice of key columns, each with its clock.

    Parameters
    ----------
    by : sequence of str
        The key columns; none makes the whole table one key.
    """

    def __init__(self, by: Sequence[str]) -> None:
        self.by = tuple(by)
        self.ids: dict[tuple[Any, ...], int] = {}
        self.keys: list[tuple[Any, ...]] = []
        self.newest: list[int] = []
        self.shift: list[int] = []
        self.doubt: list[int] = []
        self.late = 0
        self._server = self.by.index("server") if "server" in self.by else None

    def __len__(self) -> int:
        return len(self.keys)

    def columns_of(self, kid: int) -> dict[str, Any]:
        """A key as ``{column: value}``."""
        return dict(zip(self.by, self.keys[kid], strict=True))

    def server(self, kid: int) -> str | None:
        """The server of a key, None where the key doesn't say."""
        return None if self._server is None else self.keys[kid][self._server]

    def of_server(self, server: str | None) -> list[int]:
        """The keys of one server."""
        if self._server is None:
            return []
        return [kid for kid, key in enumerate(self.keys) if key[self._server] == server]

    def take(self, frame: pd.DataFrame) -> Batch:
        """Group the rows of a frame, which are in the order in which they came."""
        columns = Columns(frame)
        kid = self._number(columns)
        keep = ~has_origin(columns, "last") & (columns.time_us != _NEVER)  # as which NaT reads
        narrow = kid.astype(np.uint16) if len(self.keys) <= 65_535 else kid  # radix sort: ten times as fast
        order = np.argsort(narrow, kind="stable")
        order = order[keep[order]]
        kid, at = kid[order], columns.time_us[order]
        tau, keep = self._clock(kid, at, has_origin(columns, "backfill")[order])
        if not keep.all():
            order, kid, at, tau = order[keep], kid[keep], at[keep], tau[keep]
        return Batch(Columns(frame, order), kid, tau, at)

    def _number(self, columns: Columns) -> Ints:
        code = np.zeros(len(columns), np.int64)
        words: list[list[Any]] = []
        sizes: list[int] = []
        for name in self.by:
            value = columns[name]
            if isinstance(value, Cat):
                part, known = value.codes.astype(np.int64), value.words.to_list()
            else:
                found, uniques = pd.factorize(value)
                part, known = found.astype(np.int64), [_plain(u) for u in uniques]
            words.append([*known, None])  # code -1, missing, is the last
            sizes.append(len(known) + 1)
            code = code * sizes[-1] + np.where(part < 0, len(known), part)
        inverse, combos = pd.factorize(code)
        numbers = np.empty(len(combos), np.int64)
        for position, combo in enumerate(combos.tolist()):
            key: list[Any] = []
            for word, size in zip(reversed(words), reversed(sizes), strict=True):
                combo, rest = divmod(combo, size)
                key.append(word[rest])
            numbers[position] = self._add(tuple(reversed(key)))
        return cast(Ints, numbers[inverse])

    def _add(self, key: tuple[Any, ...]) -> int:
        kid = self.ids.get(key)
        if kid is None:
            kid = self.ids[key] = len(self.keys)
            self.keys.append(key)
            self.newest.append(_NEVER)
            self.shift.append(0)
            self.doubt.append(_NEVER)
        return kid

    def _clock(self, kid: Ints, at: Ints, backfill: Bools) -> tuple[Ints, Bools]:
        """Key time of each row, and whether it counts; `at` is put right where clocks jitter."""
        keep = np.ones(len(kid), bool)
        if not len(kid):
            return at, keep
        starts = np.flatnonzero(np.append(True, kid[1:] != kid[:-1]))
        heads = kid[starts].tolist()
        before = np.empty_like(at)
        before[1:] = at[:-1]
        before[starts] = [self.newest[k] for k in heads]
        ends = np.append(starts[1:], len(kid))
        tau = at + np.repeat(np.array([self.shift[k] for k in heads], np.int64), ends - starts)
        older = np.add.reduceat(at < before, starts)
        for key, i, j, bad in zip(heads, starts.tolist(), ends.tolist(), older.tolist(), strict=True):
            if bad:
                self._row_by_row(key, i, j, at, backfill, tau, keep)
            else:
                self.newest[key] = int(at[j - 1])
                self.doubt[key] = _NEVER
        return tau, keep

    def _row_by_row(
        self, key: int, i: int, j: int, at: Ints, backfill: Bools, tau: Ints, keep: Bools
    ) -> None:
        newest, shift, doubt = self.newest[key], self.shift[key], self.doubt[key]
        for row in range(i, j):
            time = int(at[row])
            if time >= newest:
                newest, doubt = time, _NEVER
            elif not backfill[row] and time >= newest - JITTER_US:
                at[row], doubt = newest, _NEVER
            elif not backfill[row] and doubt != _NEVER and time >= doubt - JITTER_US:
                time = max(time, doubt)
                # the time since the first row on the new clock is known, the step itself takes none
                shift += newest - doubt
                newest, doubt = time, _NEVER
            else:
                keep[row] = False
                self.late += 1
                if not backfill[row]:
                    doubt = time
            tau[row] = newest + shift
        self.newest[key], self.shift[key], self.doubt[key] = newest, shift, doubt

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"keys": [list(k) for k in self.keys], "newest": self.newest[:], "shift": self.shift[:],
                "doubt": self.doubt[:], "late": self.late}  # fmt: skip

    def restore(self, data: Mapping[str, Any]) -> None:
        """The reverse of `to_json`, into an empty index."""
        self.keys = [tuple(k) for k in data["keys"]]
        self.ids = {key: kid for kid, key in enumerate(self.keys)}
        self.newest, self.shift, self.doubt = list(data["newest"]), list(data["shift"]), list(data["doubt"])
        self.late = data["late"]


def has_origin(columns: Columns, origin: str) -> Bools:
    """Rows whose ``origin`` is this; none in frames without the column."""
    if "origin" not in columns.frame.columns:
        return np.zeros(len(columns), bool)
    value = columns["origin"]
    if isinstance(value, Cat):
        return np.asarray(np.append(value.words.to_numpy() == origin, False)[value.codes], bool)
    return np.asarray(value == origin, bool)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return int(value) if value.is_integer() else str(value)
    return value if isinstance(value, str | int | bool) else str(value)
