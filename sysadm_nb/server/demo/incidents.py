"""What goes wrong or is changed by hand: full pools and new disks, a dying disk, runs that fill scratch."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from sysadm_nb.server.demo import plan
from sysadm_nb.server.demo.storage import DAY, HOUR, MINUTE, SECOND, Burst, Disk, GiB, Pool, Scan, Vdev

if TYPE_CHECKING:
    from random import Random

    from sysadm_nb.server.demo.machine import Machine

SATURDAY: Final = 2 * DAY  # the epoch was a Thursday
SUNDAY: Final = 3 * DAY
GROW_AT: Final = 92  # percent; scratch is cleaned and zroot is pruned instead
GROWS: Final = ("tank", "backup", "media", "vault")


def begin(machine: Machine, start: int) -> None:
    midnight = start // DAY * DAY
    machine.every(DAY, midnight + DAY + 9 * HOUR + 30 * MINUTE, Growing(machine).look)
    machine.every(DAY, midnight + DAY + 3 * MINUTE, partial(_fragment, machine, machine.rng("fragmentation")))
    for weekday, hour, dataset, left in (
        (SATURDAY, 6, "tank/lab/raw", 30 * GiB),
        (SUNDAY, 7, "scratch/runs", 240 * GiB),
        (SATURDAY, 5, "zroot/var/log", GiB),
    ):
        first = (start - weekday) // (7 * DAY) * 7 * DAY + weekday + hour * HOUR
        machine.every(7 * DAY, first + 7 * DAY * (first <= start), partial(_purge, machine, dataset, left))
    Runs(machine, midnight)
    DyingDisk(machine, start)
    Renaming(machine, midnight)


def _fragment(machine: Machine, rng: Random, now: int) -> None:
    """Free space gets fragmented as a pool fills and is overwritten, and heals slowly as it empties."""
    for pool in machine.pools.values():
        target = max(1.0, 0.6 * pool.capacity - 12)
        pool.frag = min(95.0, max(0.0, pool.frag + 0.01 * (target - pool.frag) + rng.gauss(0, 0.12)))


def _purge(machine: Machine, name: str, left: int, now: int) -> None:
    if dataset := machine.dataset(name):
        dataset.delete(max(0, dataset.refer - left))


class Growing:
    """Disks are ordered when a pool is nearly full, and come some days later."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.rng = machine.rng("growing")
        self.ordered: set[str] = set()

    def look(self, now: int) -> None:
        for name in GROWS:
            pool = self.machine.pools[name]
            if pool.capacity >= GROW_AT and name not in self.ordered:
                self.ordered.add(name)
                wait = self.rng.randint(3, 6) * DAY + self.rng.randint(0, 5 * 60) * MINUTE
                arrive = self._larger_disks if name == "backup" else self._more_disks
                self.machine.at(now + wait, partial(arrive, pool))

    def _more_disks(self, pool: Pool, now: int) -> None:
        like = pool.vdevs[0]
        kind = like.name.partition("-")[0]
        disks = [Disk(f"da{number}") for number in free_disks(self.machine, len(like.disks))]
        size = 3712 * GiB if pool.name == "media" else like.size
        pool.add(Vdev(f"{kind}-{len(pool.vdevs)}", disks, size))
        pool.frag *= 0.7
        self.ordered.discard(pool.name)

    def _larger_disks(self, pool: Pool, now: int) -> None:
        """Every disk was replaced by a larger one: the space is there, but not used until it is expanded."""
        pool.expandsz = pool.vdevs[0].size // 2 // GiB * GiB
        self.machine.at(now + 20 * HOUR, partial(self._expand, pool))

    def _expand(self, pool: Pool, now: int) -> None:
        pool.expand()
        self.ordered.discard(pool.name)


def free_disks(machine: Machine, count: int) -> list[int]:
    """Numbers of the next `count` disks nobody uses."""
    used = {
        int(disk.name[2:])
        for pool in machine.pools.values()
        for vdev in pool.vdevs
        for disk in vdev.disks
        if disk.name.startswith("da") and disk.name[2:].isdigit()
    }
    first = max(used, default=-1) + 1
    return list(range(first, first + count))


class Runs:
    """Nightly runs write to scratch; now and then one fills the pool, and is removed at nine."""

    def __init__(self, machine: Machine, midnight: int) -> None:
        self.machine = machine
        self.rng = machine.rng("runs")
        self.nights_until_runaway = self.rng.randint(7, 16)
        self.runaway_wrote = 0
        machine.every(DAY, midnight + 21 * HOUR, self.night)

    def night(self, now: int) -> None:
        machine = self.machine
        pool, dataset = machine.pools["scratch"], machine.dataset("scratch/runs")
        if dataset is None:
            return
        machine.flow(now)
        self.nights_until_runaway -= 1
        if self.nights_until_runaway == 0:
            self.nights_until_runaway = self.rng.randint(14, 45)
            begin = now + self.rng.randint(60, 180) * MINUTE
            hours = self.rng.uniform(3, 6)
            burst = Burst("scratch/runs", 1.1 * pool.available / (hours * 3600), begin + 12 * HOUR)
            machine.at(begin, partial(self._begin, burst))
            cleaned = now + 12 * HOUR + self.rng.randint(0, 50) * MINUTE
            machine.at(cleaned, partial(self._clean, dataset.refer))
            return
        size, hours = self.rng.lognormvariate(3.4, 0.6) * GiB, self.rng.uniform(2, 8)
        self._begin(Burst("scratch/runs", size / (hours * 3600), now + int(hours * 3600) * SECOND), now)

    def _begin(self, burst: Burst, now: int) -> None:
        self.machine.flow(now)
        self.machine.bursts.append(burst)

    def _clean(self, left: int, now: int) -> None:
        self.machine.flow(now)
        self.machine.bursts = [one for one in self.machine.bursts if one.dataset != "scratch/runs"]
        _purge(self.machine, "scratch/runs", left, now)


class DyingDisk:
    """A disk of vault dies, is replaced within a day or two, and the pool resilvers."""

    def __init__(self, machine: Machine, start: int) -> None:
        self.machine = machine
        self.rng = machine.rng("dying disk")
        machine.at(start + self.rng.randint(6 * 24 * 60, 14 * 24 * 60) * MINUTE, self.fail)

    def fail(self, now: int) -> None:
        pool = self.machine.pools["vault"]
        disk = self.rng.choice(pool.vdevs[0].disks)
        disk.state = "UNAVAIL"
        self.machine.at(now + self.rng.randint(5 * 60, 30 * 60) * MINUTE, partial(self.replace, pool, disk))
        self.machine.at(now + self.rng.randint(60, 140) * DAY, self.fail)

    def replace(self, pool: Pool, disk: Disk, now: int) -> None:
        disk.replaces, disk.state = disk.name, "REPLACING"
        disk.name = f"da{free_disks(self.machine, 1)[0]}"
        share = pool.alloc // len(pool.vdevs[0].disks)
        resilver = Scan("resilver", now, max(share, GiB), pool.scan_rate)
        self.machine.start_scan(pool, resilver, partial(self._whole, disk))

    def _whole(self, disk: Disk, now: int) -> None:
        disk.state, disk.replaces = "ONLINE", ""


class Renaming:
    """The machine gets another host name, twice a year or so."""

    def __init__(self, machine: Machine, midnight: int) -> None:
        self.machine = machine
        self.rng = machine.rng("renaming")
        machine.at(midnight + self.rng.randint(12, 24) * DAY + 11 * HOUR, self.rename)

    def rename(self, now: int) -> None:
        names = plan.HOSTNAMES
        self.machine.hostname = names[(names.index(self.machine.hostname) + 1) % len(names)]
        self.machine.hostname_changed = True
        self.machine.at(now + self.rng.randint(150, 260) * DAY, self.rename)
