"""Pools, datasets and snapshots of the simulated machine: state and bookkeeping, no clock and no chance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from sysadm_nb import wire
from sysadm_nb.server import zfs

KiB: Final = 1 << 10
MiB: Final = 1 << 20
GiB: Final = 1 << 30
TiB: Final = 1 << 40
SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

SECTOR: Final = 4096
# ZFS keeps 1/32 of a pool back, so that a full one can still delete.
SLOP: Final = 32
# What was overwritten after a snapshot was, for this share, already there at the snapshot before:
# destroying a snapshot hands that share down and frees the rest.
SHARED_WITH_OLDER: Final = 0.7

Health = Literal["ONLINE", "DEGRADED", "UNAVAIL"]


@dataclass(slots=True)
class Snapshot:
    """One snapshot; `held` is what only snapshots still keep, overwritten between this one and the next."""

    name: str
    created: int
    refer: int
    held: int = 0
    schedule: str = ""


@dataclass(slots=True)
class Dataset:
    """One file system: the data in it now and the snapshots that keep older data, in usable bytes."""

    name: str
    refer: int
    mountpoint: str
    snapshots: list[Snapshot] = field(default_factory=list)
    held: int = 0
    changed: int = 0  # written since the last replication took it

    @property
    def used(self) -> int:
        return self.refer + self.held

    def write(self, grown: int, overwritten: int = 0) -> None:
        """Add new data and overwrite some of the old, which the newest snapshot then keeps."""
        self.refer += grown
        self.changed += grown + overwritten
        if self.snapshots:
            self.snapshots[-1].held += overwritten
            self.held += overwritten

    def delete(self, size: int) -> int:
        """Delete data; what a snapshot still refers to stays in the pool. Returns the bytes deleted."""
        size = min(size, self.refer)
        self.refer -= size
        if self.snapshots:
            kept = min(size, self.snapshots[-1].refer)
            self.snapshots[-1].held += kept
            self.held += kept
        return size

    def snapshot(self, name: str, now: int, schedule: str = "") -> Snapshot:
        taken = Snapshot(name, now, self.refer, schedule=schedule)
        self.snapshots.append(taken)
        return taken

    def find(self, snapshot: str) -> Snapshot | None:
        return next((one for one in self.snapshots if one.name == snapshot), None)

    def destroy(self, snapshot: Snapshot) -> None:
        index = self.snapshots.index(snapshot)
        del self.snapshots[index]
        self.held -= snapshot.held
        if index:
            handed_down = int(snapshot.held * SHARED_WITH_OLDER)
            self.snapshots[index - 1].held += handed_down
            self.held += handed_down


@dataclass(slots=True)
class Disk:
    name: str
    state: str = "ONLINE"
    replaces: str = ""  # the disk it takes over from, until the resilver is done


class Burst(NamedTuple):
    """A program that writes steadily to one dataset until a time."""

    dataset: str
    bytes_per_second: float
    until: int


@dataclass(slots=True)
class Vdev:
    """One group of disks; `size` is its raw capacity as ``zpool list`` counts it."""

    name: str  # mirror-0, raidz2-0; "" for a lone disk
    disks: list[Disk]
    size: int


@dataclass(slots=True)
class Scan:
    """A scrub or a resilver, under way, paused or done."""

    kind: Literal["scrub", "resilver"]
    began: int
    total: int
    rate: int  # bytes a second
    resumed: int = 0
    done_before: int = 0  # issued before the last pause
    paused: int | None = None
    finished: int | None = None
    canceled: bool = False

    def __post_init__(self) -> None:
        self.resumed = self.began

    @property
    def active(self) -> bool:
        return self.finished is None

    def issued(self, now: int) -> int:
        if self.finished is not None:
            return self.total
        running = 0 if self.paused is not None else (now - self.resumed) * self.rate // SECOND
        return min(self.total, self.done_before + running)

    def due(self) -> int:
        """When it will be done, if nothing pauses it."""
        return self.resumed + -(-(self.total - self.done_before) * SECOND // self.rate)

    def pause(self, now: int) -> None:
        self.done_before, self.paused = self.issued(now), now

    def resume(self, now: int) -> None:
        self.resumed, self.paused = now, None

    def cancel(self, now: int) -> None:
        self.finished, self.canceled = now, True


@dataclass(slots=True)
class Pool:
    """One pool. `raw_per_byte` is what a usable byte costs with this redundancy."""

    name: str
    vdevs: list[Vdev]
    raw_per_byte: float
    scan_rate: int
    datasets: dict[str, Dataset]
    frag: float
    dedup: float = 1.0
    expandsz: int = 0
    scan: Scan | None = None
    size: int = field(init=False)
    _sent: tuple[dict[str, str], dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        self.size = sum(vdev.size for vdev in self.vdevs)

    def add(self, vdev: Vdev) -> None:
        self.vdevs.append(vdev)
        self.size += vdev.size

    def expand(self) -> None:
        """Use the space that larger disks brought (``zpool online -e``)."""
        self.vdevs[0].size += self.expandsz
        self.size += self.expandsz
        self.expandsz = 0

    @property
    def alloc(self) -> int:
        used = 0
        for dataset in self.datasets.values():
            used += dataset.refer + dataset.held
        return int(used * self.raw_per_byte) // SECTOR * SECTOR

    @property
    def health(self) -> Health:
        whole = all(disk.state == "ONLINE" for vdev in self.vdevs for disk in vdev.disks)
        return "ONLINE" if whole else "DEGRADED"

    @property
    def available(self) -> int:
        """Usable bytes that can still be written."""
        size = self.size
        return max(0, int((size - size // SLOP - self.alloc) / self.raw_per_byte))

    @property
    def capacity(self) -> int:
        return self.alloc * 100 // self.size

    def exact(self) -> dict[str, str]:
        """The values of ``zpool list -p``, by their names on the wire."""
        size, alloc = self.size, self.alloc
        return {
            "size": str(size),
            "alloc": str(alloc),
            "free": str(size - alloc),
            "frag": str(int(self.frag)),
            "expandsz": str(self.expandsz) if self.expandsz else "-",
            "dedup": f"{self.dedup:.2f}",
            "altroot": "-",
            "capacity": str(alloc * 100 // size),
            "health": self.health,
        }

    def as_sent(self) -> dict[str, Any]:
        """The pool as a system-state event and ``list_pools`` show it, with exact bytes beside."""
        exact = self.exact()
        if self._sent is None or self._sent[0] != exact:  # at night many a pool stands still
            self._sent = (exact, zfs.pool_object(exact))
        return dict(self._sent[1])

    def datasets_as_sent(self) -> dict[str, dict[str, object]]:
        """Every dataset as ``sysadm/zfs`` ``datasets`` shows it: `used` counts the children too."""
        available = self.available
        sent: dict[str, dict[str, object]] = {}
        for name, dataset in self.datasets.items():
            used = self.used_below(name)
            sent[name] = {
                "used": wire.format_size(used),
                "avail": wire.format_size(available),
                "refer": wire.format_size(dataset.refer),
                "mountpoint": dataset.mountpoint,
                "used_bytes": used,
                "avail_bytes": available,
                "refer_bytes": dataset.refer,
            }
        return sent

    def used_below(self, name: str) -> int:
        """What a dataset and everything under it use."""
        below = name + "/"
        return sum(one.used for key, one in self.datasets.items() if key == name or key.startswith(below))
