"""What happened when a pool's course changed?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sysadm_nb.errors import InputError
from sysadm_nb.trends.courses import regimes
from sysadm_nb.trends.panel import BY
from sysadm_nb.wire import format_size

SLACK = pd.Timedelta(
    "1h"
)  # events this long before the change can be its cause: a replication runs, then data show


def events_that_changed(
    pools: pd.DataFrame,
    jobs: pd.DataFrame,
    life_preserver: pd.DataFrame,
    by: Sequence[str] = BY,
    window: Any = None,
) -> pd.DataFrame:
    """Changes of course of each pool, with what happened on its server at that time.

    Candidates, not proofs: each change from ``regimes`` is joined with every job and every life-preserver
    event of the same server (for life-preserver events that name a dataset: of the same pool) between an hour
    before the day the change showed in and its end. Gaps are their own explanation.

    Parameters
    ----------
    pools, by, window
        As for ``forecast``; `by` must contain ``pool``. Without ``server`` in `by`, events of all servers
        count.
    jobs, life_preserver : pandas.DataFrame
        Like ``monitor.jobs`` and ``monitor.life_preserver``.

    Returns
    -------
    pandas.DataFrame
        One row a change and candidate, newest change first, nearest candidate first; changes without a
        candidate have one row with ``cause`` missing. Columns `by`, ``time``, ``since``, ``kind``, ``change``
        (in words), ``cause`` (``job``, ``replication``, ``snapshot``, ``gap``), ``cause_time``, ``what`` (the
        job's commands or the event's message), ``failed``.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> alloc = 500e9 + 1e9 * np.arange(60) - 200e9 * (np.arange(60) >= 40)
    >>> pools = pd.DataFrame({
    ...     "time": pd.date_range("2026-01-01", periods=60, freq="D", tz="UTC"),
    ...     "server": "nas", "pool": "tank",
    ...     "size_bytes": 1000e9, "alloc_bytes": alloc,
    ... })
    >>> jobs = pd.DataFrame({
    ...     "time": pd.to_datetime(["2026-02-09T12:00Z"]), "server": ["nas"], "process_id": ["one"],
    ...     "commands": ["zfs destroy -r tank/old"], "failed": [False],
    ... })
    >>> none = pd.DataFrame({"time": pd.to_datetime([], utc=True), "server": [], "kind": [], "message": []})
    >>> events_that_changed(pools, jobs, none)[["change", "what"]].values.tolist()
    [['fell by 186G', 'zfs destroy -r tank/old']]
    """
    if "pool" not in by:
        raise InputError("Changes are told pool by pool: by=[…] must contain 'pool'.")
    changes = regimes(pools, by, window)
    changes["change"] = [_words(row) for row in changes.to_dict("records")]
    rows: list[dict[Any, Any]] = []
    happened = [
        *_happened(jobs, "jobs", _job_rows),
        *_happened(life_preserver, "life_preserver", _preserver_rows),
    ]
    times = np.array([event["cause_time"].value for event in happened], dtype=np.int64)
    order = np.argsort(times, kind="stable")
    times = times[order]
    for change in changes.drop(columns=["bytes", "growth_before", "growth_after"]).to_dict("records"):
        first = np.searchsorted(times, (change["since"] - SLACK).value)
        last = np.searchsorted(times, change["time"].value, side="right")
        near = [happened[i] for i in order[first:last] if _concerns(happened[i], change)]
        near.sort(key=lambda event: (not event["near"], -event["cause_time"].value))
        if change["kind"] == "gap":
            near.insert(
                0, {"cause": "gap", "cause_time": change["since"], "what": "no samples", "failed": False}
            )
        for event in near or [{"cause": None, "cause_time": pd.NaT, "what": None, "failed": False}]:
            told = {name: event[name] for name in ("cause", "cause_time", "what", "failed")}
            rows.append({**change, **told})
    table = pd.DataFrame(
        rows, columns=[*by, "time", "since", "kind", "change", "cause", "cause_time", "what", "failed"]
    )
    for name in ("time", "since", "cause_time"):
        table[name] = pd.to_datetime(table[name], utc=True).astype("datetime64[us, UTC]")
    kinds = {
        "kind": changes["kind"].dtype,
        "cause": pd.CategoricalDtype(["job", "replication", "snapshot", "gap"]),
    }
    table = table.astype(
        {
            **{name: changes[name].dtype for name in by},
            **kinds,
            "change": "str",
            "what": "str",
            "failed": "bool",
        }
    )
    newest = np.argsort(-table["time"].astype("int64").to_numpy(), kind="stable")
    return table.iloc[newest].reset_index(drop=True)


def _words(change: dict[Any, Any]) -> str:
    kind, size = change["kind"], change["bytes"]
    if kind in ("jump", "drop"):
        return f"{'rose' if kind == 'jump' else 'fell'} by {format_size(abs(size))}"
    if kind == "resized":
        return f"size {'grew' if size > 0 else 'shrank'} by {format_size(abs(size))}"
    if kind in ("faster", "slower"):
        before, after = change["growth_before"], change["growth_after"]
        if np.isfinite(before) and np.isfinite(after):
            return f"growth went from {_rate(before)} to {_rate(after)} a day"
        return f"grew {kind}"
    return "was made anew" if kind == "made anew" else "was not sampled"


def _rate(rate: float) -> str:
    return ("-" if rate < 0 else "") + format_size(abs(rate))


def _happened(table: pd.DataFrame, name: str, rows: Any) -> list[dict[str, Any]]:
    for column in ("time",):
        if column not in table.columns:
            raise InputError(f"The {name} table has no column {column!r}: give one like monitor.{name}.")
    return [row for row in rows(table) if not pd.isna(row["cause_time"])]


def _job_rows(jobs: pd.DataFrame) -> list[dict[str, Any]]:
    """Jobs by when they started, or were heard of first where no start is known."""
    found = []
    for row in jobs.to_dict("records"):
        start = row.get("started")
        what = row.get("commands")
        found.append(
            {
                "cause": "job",
                "cause_time": pd.Timestamp(row["time"] if start is None or pd.isna(start) else start),
                "what": str(row.get("process_id", "")) if what is None or pd.isna(what) else what,
                "failed": bool(row.get("failed", False)),
                "server": row.get("server"),
                "dataset": None,
            }
        )
    return found


def _preserver_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Snapshots and replications; of a replication's progress nothing, its start and end say all."""
    found = []
    for row in table.to_dict("records"):
        if row.get("action") == "progress" or row.get("origin") == "last":
            continue
        dataset = row.get("dataset")
        found.append(
            {
                "cause": row.get("kind"),
                "cause_time": pd.Timestamp(row["time"]),
                "what": row.get("message"),
                "failed": row.get("action") == "failed",
                "server": row.get("server"),
                "dataset": None if dataset is None or pd.isna(dataset) else str(dataset),
            }
        )
    return found


def _concerns(event: dict[str, Any], change: dict[Any, Any]) -> bool:
    """Same server, and nothing says that it was about another pool."""
    if "server" in change and event["server"] is not None and event["server"] != change["server"]:
        return False
    pool = str(change["pool"])
    if event["dataset"] is not None and event["dataset"].split("/")[0].split("@")[0] != pool:
        return False
    event["near"] = event["dataset"] is not None or pool in str(event["what"]).replace("/", " ").split()
    return True
