"""The source: reads logs and lists snapshots, publishes what its parsers find, remembers how far it got."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from sysadm_nb.errors import InputError
from sysadm_nb.server import zfs
from sysadm_nb.server.life_preserver import memory
from sysadm_nb.server.life_preserver.memory import Memory
from sysadm_nb.server.life_preserver.notices import Notice
from sysadm_nb.server.life_preserver.pv import PvLog
from sysadm_nb.server.life_preserver.readers import LpreserverReader, Reader, TransferReader
from sysadm_nb.server.life_preserver.snapshots import SnapshotWatch
from sysadm_nb.server.life_preserver.syncoid import SyncoidLog
from sysadm_nb.server.life_preserver.transfer import Parser
from sysadm_nb.server.life_preserver.zfs_send import ZfsSendLog
from sysadm_nb.server.life_preserver.zrepl import ZreplLog
from sysadm_nb.server.source import Publish

_log = logging.getLogger(__name__)

LPRESERVER_LOG: Final = "/var/log/lpreserver/lpreserver.log"
FORMATS: Final[Mapping[str, Callable[[str], Parser]]] = {
    "zfs": ZfsSendLog,
    "pv": PvLog,
    "syncoid": SyncoidLog,
    "zrepl": ZreplLog,
}
SETTLE: Final = 2.0  # seconds: a recursive snapshot is many events, and one look sees them all


class LifePreserver:
    """Publishes ``life-preserver`` events of this machine's snapshots and replications.

    With lpreserver its log tells of both. Without it new and deleted snapshots are found by asking ``zfs``
    every `interval` and whenever ZFS tells of a change, and replications are read from the logs of the tools
    that make them.

    Parameters
    ----------
    log : path, default ``/var/log/lpreserver/lpreserver.log``
        lpreserver's log.
    replication_logs : mapping, optional
        Other logs to follow, and their formats: ``{"/var/log/syncoid.log": "syncoid"}``. Formats: ``zfs``
        (``zfs send -v 2>> LOG``), ``pv`` (``pv -f -N DATASET 2>> LOG``), ``syncoid``, ``zrepl``.
    interval : float, default 60
        Seconds between looks at the snapshots.
    poll : float, default 1
        Seconds between looks at the logs.
    state : path, optional
        Where to remember how far each log was read, so that after a restart nothing is lost and nothing
        comes twice; by default in the user's state folder. At the very first start what a log holds already
        is old news.

    Raises
    ------
    InputError
        A log's format is unknown.
    """

    name = "life-preserver"

    def __init__(
        self,
        *,
        log: str | Path = LPRESERVER_LOG,
        replication_logs: Mapping[str, str] | None = None,
        interval: float = 60.0,
        poll: float = 1.0,
        state: str | Path | None = None,
    ) -> None:
        self._log, self._logs = Path(log), dict(replication_logs or {})
        for path, form in self._logs.items():
            if form not in FORMATS:
                raise InputError(f"{path}: there is no log format {form!r}; there are {', '.join(FORMATS)}")
        self._interval, self._poll = interval, poll
        self._state = Path(state) if state is not None else None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, publish: Publish) -> None:
        known = Memory(self._state or memory.default_path())
        readers: list[Reader] = [LpreserverReader(self._log, known)]
        for path, form in self._logs.items():
            readers.append(TransferReader(Path(path), FORMATS[form](path), known))

        def tell(notice: Notice) -> None:
            publish(self.name, notice.args, notice.time)

        changed = asyncio.Event()
        self._tasks = [
            asyncio.create_task(_read_forever(readers, known, self._poll, tell)),
            asyncio.create_task(_look_forever(self._log, known, self._interval, changed, tell)),
            asyncio.create_task(zfs.watch(changed)),
        ]

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Tell = Callable[[Notice], None]


async def _read_forever(readers: list[Reader], known: Memory, poll: float, tell: Tell) -> None:
    warned: set[str] = set()
    while True:
        for reader in readers:
            try:
                for found in reader.read():
                    for notice in found:
                        tell(notice)
                    known.save()  # before anything else may happen: what is told is not told again
                    await asyncio.sleep(0)
            except OSError as error:
                if str(error) not in warned:
                    _log.warning("a log cannot be followed: %s", error)
                    warned.add(str(error))
        known.save()
        await asyncio.sleep(poll)


async def _look_forever(
    log: Path, known: Memory, interval: float, changed: asyncio.Event, tell: Tell
) -> None:
    """Watch the snapshots for as long as there is no lpreserver to tell of them."""
    snapshots = SnapshotWatch(known.snapshots)
    warned = ""
    while not os.access(log, os.R_OK):
        changed.clear()
        try:
            found = await zfs.list_snapshots()
        except (zfs.ToolFailed, OSError) as failure:
            if str(failure) != warned:
                _log.warning("no snapshots can be seen: %s, and there is no %s", failure, log)
            warned = str(failure)
        else:
            warned = ""
            for notice in snapshots.look(found, time.time_ns() // 1000):
                tell(notice)
            known.snapshots = snapshots.to_json()
            known.save()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), interval)
            await asyncio.sleep(SETTLE)
