"""Which dataset grows: samples of ``sysadm/zfs`` ``datasets``, in a table of their own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pandas as pd

from sysadm_nb.errors import InputError, RequestRefused, SysadmError
from sysadm_nb.trends.panel import times
from sysadm_nb.trends.rates import growth
from sysadm_nb.wire import parse_size

if TYPE_CHECKING:
    from sysadm_nb.client.fleet import Fleet

BY = ("server", "pool", "dataset")
COLUMNS = ("time", *BY, "used_bytes", "refer_bytes", "avail_bytes", "mountpoint")
MAX_SAMPLES = 1_000_000


class DatasetSamples:
    """The newest samples of datasets, bounded; any thread may read while the loop thread appends."""

    def __init__(self, max_samples: int = MAX_SAMPLES) -> None:
        self._rows: deque[tuple[Any, ...]] = deque(maxlen=max_samples)
        self._lock = threading.Lock()

    def append(self, server: str, pool: str, reply: Any, time_us: int) -> None:
        """Add a server's answer to ``{"action": "datasets", "zpool": pool}``; what is no dataset is left
        out."""
        listed = reply.get("datasets") if isinstance(reply, dict) else None
        if not isinstance(listed, dict):
            return
        rows = [
            (time_us, server, pool, name, *(parse_size(str(of.get(key, "-"))) for key in ("used", "refer",
            "avail")),
             str(of.get("mountpoint", "-")))
            for name, of in listed.items()
            if isinstance(of, dict)
        ]  # fmt: skip
        with self._lock:
            self._rows.extend(rows)

    def frame(self) -> pd.DataFrame:
        """All samples: ``time``, `BY`, ``used_bytes`` (with snapshots and children), ``refer_bytes``,
        ``avail_bytes``, ``mountpoint``.
        """
        with self._lock:
            rows = list(self._rows)
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        table["time"] = times(table["time"].to_numpy(dtype="int64"))
        kinds: dict[str, Any] = {
            "server": "category",
            "pool": "category",
            "dataset": "str",
            "mountpoint": "str",
        }
        sizes = {name: "float64" for name in COLUMNS if name.endswith("_bytes")}
        return table.astype({**kinds, **sizes})


async def ask(fleet: Fleet, samples: DatasetSamples, timeout: float = 30.0) -> int:
    """Ask every connected server for the datasets of all its pools; returns how many pools answered.

    A server that does not know the call, or goes away meanwhile, is left out: it is asked again next time.
    """

    async def one(server: str, pool: str) -> int:
        with contextlib.suppress(SysadmError):
            args = {"action": "datasets", "zpool": pool}
            reply = await fleet.request("sysadm", "zfs", args, server=server, timeout=timeout)
            samples.append(server, pool, reply, time.time_ns() // 1000)
            return 1
        return 0

    async def all_of(server: str) -> int:
        with contextlib.suppress(SysadmError):
            listed = await fleet.request(
                "sysadm", "zfs", {"action": "list_pools"}, server=server, timeout=timeout
            )
            pools = listed.get("list_pools") if isinstance(listed, dict) else None
            if isinstance(pools, dict):
                return sum(await asyncio.gather(*(one(server, pool) for pool in pools)))
        return 0

    return sum(await asyncio.gather(*(all_of(name) for name in list(fleet.sessions))))


def datasets(monitor: Any) -> pd.DataFrame:
    """Which dataset grows: asks the servers now, and gives growth over all samples so far.

    Parameters
    ----------
    monitor : Monitor
        Turn ``monitor.sample_datasets("1h")`` on to have samples; ``monitor.datasets`` is all of them.

    Returns
    -------
    pandas.DataFrame
        One row a dataset, the fastest growing first: ``server``, ``pool``, ``dataset``, ``time`` (newest
        sample), ``used_bytes``, ``refer_bytes``, ``avail_bytes``, ``mountpoint``, ``growth_bytes_per_day``,
        ``growth_lower``, ``growth_upper`` (80 % interval), ``samples``, ``reason``. Rates need at least three
        samples.

    Raises
    ------
    RequestRefused
        No server answers ``sysadm/zfs`` ``datasets``.
    """
    if not hasattr(monitor, "sample_datasets"):
        raise InputError(
            "Datasets are asked of servers: give a monitor that is connected, as from sysadm_nb.connect."
        )
    if not monitor.ask_datasets():
        raise RequestRefused(
            'No server answered sysadm/zfs {"action": "datasets"} (some servers do not have it).'
        )
    return dataset_growth(monitor.datasets)


def dataset_growth(samples: pd.DataFrame) -> pd.DataFrame:
    """Growth of each dataset from samples like ``monitor.datasets``; see ``datasets``.

    Examples
    --------
    >>> samples = DatasetSamples()
    >>> for day in range(5):
    ...     reply = {"datasets": {"tank/home": {"used": f"{10 + day}G", "refer": "9G", "avail": "90G"}}}
    ...     samples.append("nas", "tank", reply, day * 86_400_000_000)
    >>> dataset_growth(samples.frame())[["dataset", "used_bytes", "growth_bytes_per_day"]].values.tolist()
    [['tank/home', 15032385536.0, 1073741824.0]]
    """
    newest = samples.sort_values("time", kind="stable").drop_duplicates(list(BY), keep="last")
    as_pools = samples.assign(
        alloc_bytes=samples["used_bytes"], size_bytes=samples["used_bytes"] + samples["avail_bytes"]
    )
    rates = growth(as_pools, by=BY)
    table = newest.merge(
        rates[[*BY, "growth_bytes_per_day", "growth_lower", "growth_upper", "samples", "reason"]], on=list(BY)
    )
    order = ["time", *COLUMNS[4:], "growth_bytes_per_day"]
    table = table[[*BY, *order, "growth_lower", "growth_upper", "samples", "reason"]]
    return table.sort_values("growth_bytes_per_day", ascending=False, kind="stable", ignore_index=True)
