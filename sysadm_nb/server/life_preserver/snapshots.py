"""Snapshots that came and went, found by comparing what ``zfs list`` says with what it said before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sysadm_nb.server.life_preserver import notices
from sysadm_nb.server.life_preserver.notices import Notice
from sysadm_nb.server.zfs import Snapshot

_US: Final = 1_000_000


class SnapshotWatch:
    """Tells of each snapshot once when it is there and once when it is gone.

    Over a restart the newest transaction group of each pool is remembered, so that snapshots made meanwhile
    are told too. Those deleted meanwhile are not: nothing is left of them.

    Parameters
    ----------
    saved : object
        What `to_json` gave before; anything else begins anew, with every present snapshot taken as known.
    """

    def __init__(self, saved: Any = None) -> None:
        self._seen: dict[str, int] | None = None
        if isinstance(saved, dict) and all(isinstance(txg, int) for txg in saved.values()):
            self._seen = {str(pool): txg for pool, txg in saved.items()}
        self._known: Mapping[str, Snapshot] | None = None
        self._looked = 0

    def to_json(self) -> dict[str, int] | None:
        return self._seen

    def look(self, snapshots: Mapping[str, Snapshot], now_us: int) -> list[Notice]:
        """Notices of what changed since the last look, oldest first.

        A new snapshot's time is its creation, unless it was made before the last look: then it was received
        from elsewhere, and its time is now.
        """
        new = [name for name in snapshots if self._is_new(name, snapshots[name])]
        gone = [name for name in self._known or () if name not in snapshots]
        told = [notices.deleted(notices.write_date(now_us), name) for name in gone]
        for name in sorted(new, key=lambda name: snapshots[name].createtxg):
            created_us = snapshots[name].creation * _US
            received = not self._looked - _US <= created_us <= now_us
            when = notices.write_date(now_us if received and self._known is not None else created_us)
            told.append(notices.created(when, name.partition("@")[0], name))
        self._remember(snapshots, now_us)
        return sorted(told, key=lambda notice: notice.time or now_us)

    def _is_new(self, name: str, snapshot: Snapshot) -> bool:
        if self._known is not None:
            return self._known.get(name) != snapshot  # the same name again is another snapshot
        return self._seen is not None and snapshot.createtxg > self._seen.get(_pool(name), 0)

    def _remember(self, snapshots: Mapping[str, Snapshot], now_us: int) -> None:
        self._known, self._looked = snapshots, now_us
        seen = self._seen = self._seen or {}
        for name, snapshot in snapshots.items():
            pool = _pool(name)
            seen[pool] = max(seen.get(pool, 0), snapshot.createtxg)


def _pool(name: str) -> str:
    return name.partition("@")[0].partition("/")[0]
