"""The system-state source: this machine's pools, its host name, and how urgent they are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from sysadm_nb import wire
from sysadm_nb.server import zfs, zpool_status
from sysadm_nb.server.source import BadRequest, Publish

log = logging.getLogger(__name__)

SETTLE: Final = (
    1.0  # seconds: ZFS tells of one change in several events, and the state is final after the last
)
_NO_NEWS: Final = "sysevent.fs.zfs.history_event"  # sent for every snapshot; says nothing of a pool's state


def overall_priority(pools: Iterable[Mapping[str, Any]], hostname_changed: bool) -> int:
    """Priority of a system-state event, by the real server's rule: the most urgent of all its reasons.

    Examples
    --------
    >>> overall_priority([{"health": "ONLINE", "capacity": "91%"}], hostname_changed=True)
    6
    """
    return max([3 if hostname_changed else 0, *map(zfs.pool_priority, pools)])


class SystemState:
    """Publishes a ``system-state`` event at start, every `interval`, and when ZFS tells of a change.

    Answers ``sysadm/zfs`` (``list_pools``, ``datasets``) too.

    Parameters
    ----------
    interval : float, default 900
        Seconds between checks, as on the real server.
    hostname : callable, optional
        Where the host name comes from.
    """

    name = "system-state"

    def __init__(self, interval: float = 900.0, *, hostname: Callable[[], str] = socket.gethostname) -> None:
        self._interval = interval
        self._hostname = hostname
        self._last_hostname = hostname()
        self._warned = ""
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: asyncio.Task[dict[str, Any]] | None = None
        self.calls: dict[str, Callable[[dict[str, Any]], Awaitable[object]]] = {"sysadm/zfs": self._answer}

    async def start(self, publish: Publish) -> None:
        self._tasks = [
            asyncio.create_task(self._check_forever(publish)),
            asyncio.create_task(zfs.watch(self._changed, lambda event: event != _NO_NEWS)),
        ]

    async def stop(self) -> None:
        tasks: list[asyncio.Task[Any]] = [*self._tasks, *([self._asking] if self._asking else [])]
        self._tasks, self._asking = [], None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _check_forever(self, publish: Publish) -> None:
        while True:
            self._changed.clear()
            event = await self._check()
            if event is not None:
                publish(self.name, event, None)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._interval)
                await asyncio.sleep(SETTLE)

    async def _check(self) -> dict[str, Any] | None:
        """The event's args; None where the pools could not be read: no sample beats an empty one."""
        try:
            pools = await zfs.list_pools()
            warning = ""
        except zfs.ToolMissing as missing:
            pools, warning = {}, f"{missing}; system-state events will have no pools"
        except (zfs.ToolFailed, OSError) as failure:
            self._warn(f"no pools could be read: {failure}")
            return None
        self._warn(warning)
        if pools:
            await self._add_status(pools)

        hostname = self._hostname()
        changed, self._last_hostname = hostname != self._last_hostname, hostname
        event: dict[str, Any] = {"hostname": hostname}
        if changed:
            event["hostnamechanged"] = "true"
        if pools:
            event["zpools"] = pools
        event["priority"] = wire.format_priority(overall_priority(pools.values(), changed))
        return event

    def _warn(self, warning: str) -> None:
        """Log `warning` once, and again only after it went away or changed."""
        if warning and warning != self._warned:
            log.warning("%s", warning)
        self._warned = warning

    async def _add_status(self, pools: dict[str, dict[str, Any]]) -> None:
        try:
            for name, status in (await zpool_status.status()).items():
                pools.get(name, {}).update(status)
        except (zfs.ToolFailed, OSError) as failure:  # the health is known without it
            log.info("no `zpool status`: %s", failure)

    async def _list_pools(self) -> dict[str, Any]:
        """However many ask at once, one `zpool list` runs."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(zfs.list_pools())
        return await asyncio.shield(self._asking)

    async def _answer(self, args: dict[str, Any]) -> object:
        try:
            match args.get("action"):
                case "list_pools":
                    return {"list_pools": await self._list_pools()}
                case "datasets":
                    pool = args.get("zpool")
                    if not zfs.valid_pool_name(pool):
                        raise BadRequest('datasets needs "zpool": the name of a pool')
                    return {"datasets": await zfs.list_datasets(str(pool))}
                case action:
                    raise BadRequest(f"sysadm/zfs has list_pools and datasets, not {action!r}")
        except (zfs.ToolFailed, OSError) as failure:
            raise BadRequest(str(failure)) from failure
