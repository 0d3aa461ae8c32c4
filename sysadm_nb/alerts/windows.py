"""The rows that rules with a window look back on, kept for as long as the longest window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..tables.schema import Kind
from .columns import Bools, Columns, Ints, Window
from .keys import Batch


class History:
    """Recent rows of each key, for rules with a window.

    Parameters
    ----------
    schema : mapping of str to Kind
        Columns of the table.
    needs : iterable of str or None
        The columns to keep; None keeps all.
    length_us : int
        How far back anybody looks, microseconds.
    """

    def __init__(self, schema: Mapping[str, Kind], needs: Iterable[str] | None, length_us: int) -> None:
        wanted = schema if needs is None else {*needs, "time"}
        self.schema = {name: kind for name, kind in schema.items() if name in wanted}
        self.length_us = length_us
        self._kept = self._nothing()
        self._fresh: list[pd.DataFrame] = []
        self._fresh_rows = 0

    def extend(self, batch: Batch) -> tuple[Batch, Bools]:
        """The rows of a batch behind the kept rows of their keys, and which rows are the batch's."""
        names = [name for name in self.schema if name in batch.columns.frame.columns]
        frame = (
            batch.columns.frame[names]
            .take(batch.order)
            .astype({n: "str" for n in names if self.schema[n] == "category"})
        )
        frame.insert(0, "_kid", batch.kid)
        frame.insert(1, "_tau", batch.tau)
        frame.insert(2, "_at", batch.at)
        keys = np.unique(batch.kid)
        parts = [part[np.isin(part["_kid"].to_numpy(), keys)] for part in (self._kept, *self._fresh)]
        old = [part for part in parts if len(part)]
        together = pd.concat([*old, frame], ignore_index=True)
        kid = together["_kid"].to_numpy(np.int64)
        new = np.arange(len(kid)) >= len(kid) - len(frame)
        order = np.argsort(kid, kind="stable")
        tau = together["_tau"].to_numpy(np.int64)[order]
        at = together["_at"].to_numpy(np.int64)[order]
        merged = Batch(Columns(together[names], order), kid[order], tau, at)
        self._remember(frame)
        return merged, new[order]

    def _remember(self, frame: pd.DataFrame) -> None:
        self._fresh.append(frame)
        self._fresh_rows += len(frame)
        if self._fresh_rows > max(len(self._kept) // 2, 1000) or len(self._fresh) > 200:
            self._compact()

    def _compact(self) -> None:
        """Drop what no window can reach any more; done rarely, so that a row costs the same for ever."""
        parts = [part for part in (self._kept, *self._fresh) if len(part)]
        self._fresh, self._fresh_rows = [], 0
        if not parts:
            return
        rows = pd.concat(parts, ignore_index=True)
        newest = rows.groupby("_kid")["_tau"].transform("max").to_numpy(np.int64)
        self._kept = rows[rows["_tau"].to_numpy(np.int64) > newest - self.length_us].reset_index(drop=True)

    def to_json(self) -> dict[str, list[Any]]:
        """Plain values, column by column."""
        self._compact()
        out: dict[str, list[Any]] = {}
        for name in self._kept.columns:
            column = self._kept[name]
            if isinstance(column.dtype, pd.DatetimeTZDtype):
                stamps = column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")
                out[str(name)] = stamps.astype(np.int64).tolist()
            else:
                out[str(name)] = [None if pd.isna(v) else v for v in column.tolist()]
        return out

    def restore(self, data: Mapping[str, list[Any]]) -> None:
        """The reverse of `to_json`."""
        if not data.get("_kid"):
            return
        columns: dict[str, Any] = {}
        for name, values in data.items():
            kind: Kind | None = "int" if name.startswith("_") else self.schema.get(name)
            if kind is None:
                continue
            if kind == "time":
                stamps = np.array(values, np.int64).view("datetime64[us]")
                columns[name] = pd.DatetimeIndex(stamps).tz_localize("UTC")
            else:
                dtype = {"float": "float64", "int": "int64", "bool": "bool"}.get(kind, "str")
                columns[name] = pd.Series(values, dtype=dtype)
        self._kept = pd.DataFrame(columns)

    def _nothing(self) -> pd.DataFrame:
        return pd.DataFrame({"_kid": np.empty(0, np.int64), "_tau": np.empty(0, np.int64)})


def windows(batch: Batch, length_us: int) -> Window:
    """Which rows are in the window of each row: itself, and its key's rows less than `length_us` before."""
    kid, tau = batch.kid, batch.tau
    start = np.empty(len(kid), np.int64)
    heads = np.flatnonzero(np.append(True, kid[1:] != kid[:-1])) if len(kid) else np.empty(0, np.int64)
    for i, j in zip(heads.tolist(), [*heads[1:].tolist(), len(kid)], strict=True):
        start[i:j] = i + np.searchsorted(tau[i:j], tau[i:j] - length_us, side="right")
    return Window(start, tau, length_us)


def new_rows(new: Bools) -> Ints:
    """Positions of the rows that a batch brought."""
    return np.flatnonzero(new)
