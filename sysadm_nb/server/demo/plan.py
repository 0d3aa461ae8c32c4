"""Which machine is simulated: its pools, what writes to them, and its schedules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sysadm_nb.server.demo.storage import (
    DAY,
    HOUR,
    SHARED_WITH_OLDER,
    Dataset,
    Disk,
    GiB,
    KiB,
    MiB,
    Pool,
    Snapshot,
    Vdev,
)

HOSTNAMES: Final = ("storage1.example.org", "nas1.example.org")

# Share of a day's work in each hour, and of a week's in each day from Monday on.
OFFICE_HOURS: Final = (0,) * 7 + (2, 8, 11, 12, 10, 8, 10, 12, 12, 9, 4, 2) + (0,) * 5
EVENING_HOURS: Final = (2,) + (0,) * 8 + (1, 2, 2, 2, 3, 3, 3, 4, 6, 10, 16, 18, 16, 8, 4)
ALL_HOURS: Final = (1,) * 24
WORKDAYS: Final = (11, 12, 12, 12, 9, 1, 1)
WEEKEND: Final = (3, 3, 3, 4, 9, 14, 10)
ALL_DAYS: Final = (1,) * 7


def profile(hours: tuple[int, ...], days: tuple[int, ...]) -> list[float]:
    """Weights of the 168 hours of a week, 1 on average."""
    mean = sum(hours) * sum(days) / 168
    return [day * hour / mean for day in days for hour in hours]


OFFICE: Final = profile(OFFICE_HOURS, WORKDAYS)
HOME: Final = profile(EVENING_HOURS, WEEKEND)
STEADY: Final = profile(ALL_HOURS, ALL_DAYS)


@dataclass(frozen=True, slots=True)
class Flow:
    """What is written to a dataset on an average day, in GiB, and when."""

    dataset: str
    grown: float
    overwritten: float
    week: list[float]


FLOWS: Final = (
    Flow("zroot/usr/home", 0.02, 0.15, OFFICE),
    Flow("zroot/var/log", 0.11, 0.0, STEADY),
    Flow("tank/home", 1.6, 6.0, OFFICE),
    Flow("tank/projects", 4.5, 14.0, OFFICE),
    Flow("tank/db", 0.9, 12.0, STEADY),
    Flow("tank/lab", 2.0, 1.0, OFFICE),
    Flow("tank/lab/raw", 34.0, 0.0, OFFICE),  # cleared every Saturday
    Flow("backup/laptops", 1.8, 3.0, HOME),
    Flow("media/films", 12.0, 0.2, HOME),
    Flow("media/cameras", 16.0, 0.0, STEADY),
    Flow("scratch/build", 0.3, 9.0, OFFICE),
    Flow("vault/records", 0.4, 0.1, OFFICE),
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Snapshots taken of some datasets at a time of day, and how many are kept."""

    name: str
    every: int  # µs, a divisor of a day or whole weeks
    keep: int
    datasets: tuple[str, ...]
    offset: int = 0


SCHEDULES: Final = (
    Schedule("hourly", HOUR, 24, ("tank/home", "tank/projects", "tank/db")),
    Schedule("daily", DAY, 14, ("tank/home", "tank/projects", "tank/db", "tank/lab", "zroot/usr/home")),
    # 1 January 1970 was a Thursday: three days later, every week, is Sunday.
    Schedule("weekly", 7 * DAY, 8, ("tank/home", "tank/projects", "tank/lab", "vault/records"), 3 * DAY),
)
REPLICATED: Final = ("tank/home", "tank/projects", "tank/db", "tank/lab")
REPLICA_KEEP: Final = 30


def _dataset(name: str, gib: float, mountpoint: str | None = None) -> Dataset:
    return Dataset(name, int(gib * GiB), mountpoint or f"/{name}")


def _tib(size: float) -> int:
    return int(size * 1024) * GiB


def _disks(prefix: str, first: int, count: int) -> list[Disk]:
    return [Disk(f"{prefix}{number}") for number in range(first, first + count)]


def build_pools() -> dict[str, Pool]:
    """The six pools as they are when a simulation starts, snapshots not yet taken."""
    pools = (
        Pool(
            "zroot",
            [Vdev("mirror-0", [Disk("ada0p3"), Disk("ada1p3")], 220 * GiB)],
            1.0,
            420 * MiB,
            {
                "zroot": _dataset("zroot", 88 * KiB / GiB, "none"),
                "zroot/ROOT": _dataset("zroot/ROOT", 88 * KiB / GiB, "none"),
                "zroot/ROOT/default": _dataset("zroot/ROOT/default", 27.6, "/"),
                "zroot/usr/home": _dataset("zroot/usr/home", 6.4, "/usr/home"),
                "zroot/var/log": _dataset("zroot/var/log", 1.3, "/var/log"),
                "zroot/var/cache/pkg": _dataset("zroot/var/cache/pkg", 2.2, "/var/cache/pkg"),
            },
            frag=14.0,
        ),
        Pool(
            "tank",
            [Vdev("raidz2-0", _disks("da", 0, 6), _tib(21.75))],
            1.5,
            640 * MiB,
            {
                "tank": _dataset("tank", 192 * KiB / GiB),
                "tank/home": _dataset("tank/home", 1890.0),
                "tank/projects": _dataset("tank/projects", 3310.0),
                "tank/db": _dataset("tank/db", 1240.0),
                "tank/lab": _dataset("tank/lab", 1450.0),
                "tank/lab/raw": _dataset("tank/lab/raw", 60.0),
            },
            frag=11.0,
        ),
        Pool(
            "backup",
            [Vdev("raidz1-0", _disks("da", 6, 4), _tib(14.5))],
            4 / 3,
            460 * MiB,
            {
                "backup": _dataset("backup", 140 * KiB / GiB),
                "backup/tank": _dataset("backup/tank", 7930.0),
                "backup/laptops": _dataset("backup/laptops", 560.0),
            },
            frag=4.0,
        ),
        Pool(
            "media",
            [Vdev("mirror-0", _disks("da", 10, 2), _tib(7.25))],
            1.0,
            190 * MiB,
            {
                "media": _dataset("media", 96 * KiB / GiB),
                "media/films": _dataset("media/films", 4260.0),
                "media/cameras": _dataset("media/cameras", 2140.0),
            },
            frag=19.0,
        ),
        Pool(
            "scratch",
            [Vdev("", [Disk("nda0")], 952 * GiB), Vdev("", [Disk("nda1")], 952 * GiB)],
            1.0,
            1500 * MiB,
            {
                "scratch": _dataset("scratch", 96 * KiB / GiB),
                "scratch/build": _dataset("scratch/build", 210.0),
                "scratch/runs": _dataset("scratch/runs", 380.0),
            },
            frag=37.0,
        ),
        Pool(
            "vault",
            [Vdev("raidz1-0", _disks("ada", 2, 3), _tib(5.44))],
            1.5,
            120 * MiB,
            {
                "vault": _dataset("vault", 128 * KiB / GiB),
                "vault/records": _dataset("vault/records", 2380.0),
            },
            frag=2.0,
            dedup=1.12,
        ),
    )
    return {pool.name: pool for pool in pools}


def past_snapshots(pools: dict[str, Pool], start: int) -> None:
    """Give every dataset the snapshots that its schedules would have left by `start`.

    Each keeps what the average flow overwrote in its interval, thinned once for every finer schedule that
    was pruned since: so the sawtooth is in its steady state from the first hour on.
    """
    overwritten = {flow.dataset: flow.overwritten * GiB / DAY for flow in FLOWS}
    for pool in pools.values():
        for dataset in pool.datasets.values():
            kept: list[Snapshot] = []
            thinned = 1.0
            oldest = start
            for schedule in SCHEDULES:
                if dataset.name not in schedule.datasets:
                    continue
                last = (start - schedule.offset) // schedule.every * schedule.every + schedule.offset
                times = [last - n * schedule.every for n in range(schedule.keep)]
                for taken in times:
                    held = overwritten[dataset.name] * schedule.every * thinned if taken < oldest else 0.0
                    kept.append(
                        Snapshot(
                            snapshot_name(schedule.name, taken),
                            taken,
                            dataset.refer,
                            int(held),
                            schedule.name,
                        )
                    )
                oldest = min(oldest, times[-1])
                thinned *= SHARED_WITH_OLDER
            kept.sort(key=lambda one: one.created)
            dataset.snapshots = kept
            dataset.held = sum(one.held for one in kept)


def snapshot_name(schedule: str, time: int) -> str:
    from sysadm_nb.server.demo.clock import stamp

    return f"auto-{schedule}-{stamp(time)}"
