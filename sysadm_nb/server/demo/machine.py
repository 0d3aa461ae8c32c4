"""The simulated machine: a queue of things to happen and the state they change. No I/O, no wall clock.

Time is passed in, as microseconds since the epoch. Everything happens at its own time, whatever the steps
in which the machine is advanced, and every actor draws from its own stream of random numbers: so a seed
gives one history, in one piece or in a thousand, and a command that somebody runs disturbs nothing else.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Any, Final, NamedTuple

from sysadm_nb import wire
from sysadm_nb.server import zfs
from sysadm_nb.server.demo import incidents, maintenance, plan, retention, status
from sysadm_nb.server.demo.storage import DAY, HOUR, MINUTE, SECOND, Burst, Dataset, GiB, Pool, Scan
from sysadm_nb.server.zpool_status import read_status

CHECK_EVERY: Final = 15 * MINUTE
FIRST_CHECK: Final = MINUTE  # after the server's start
# The epoch was a Thursday; profiles of a week begin on Monday.
EPOCH_HOURS: Final = 72

Action = Callable[[int], None]


class Event(NamedTuple):
    """What the machine's server sends: when (µs since the epoch, UTC), the event's name, its arguments."""

    time: int
    name: str
    args: dict[str, Any]


class Machine:
    """A storage server with six pools, its schedules and its mishaps.

    Parameters
    ----------
    seed : int, default 0
        Equal seeds give equal histories.
    start : int
        When the machine begins, in µs since the epoch (UTC).

    Examples
    --------
    >>> machine = Machine(seed=1, start=1_767_225_600_000_000)
    >>> events = machine.advance(1_767_225_600_000_000 + 3_600_000_000)
    >>> events[0].name, events[0].args["hostname"]
    ('system-state', 'storage1.example.org')
    """

    def __init__(self, seed: int = 0, *, start: int) -> None:
        self.seed = seed
        self.now = start
        self.hostname = plan.HOSTNAMES[0]
        self.hostname_changed = False
        self.updates: dict[str, Any] = {"status": "noupdates"}
        self.packages = maintenance.Packages()
        self.catalogue = self.rng("catalogue")
        self.bursts: list[Burst] = []
        self.pace: dict[str, float] = {}  # how much more than planned is written to a dataset
        self.down = False
        self.pools = plan.build_pools()
        plan.past_snapshots(self.pools, start)
        self._queue: list[tuple[int, int, Action]] = []
        self._serial = count()
        self._events: list[Event] = []
        self._last_flow = start
        self._flows = [
            (
                flow.dataset,
                flow.grown * GiB / DAY,
                flow.overwritten * GiB / DAY,
                flow.week,
                self.rng(flow.dataset),
            )
            for flow in plan.FLOWS
        ]
        retention.begin(self, start)
        maintenance.begin(self, start)
        incidents.begin(self, start)
        self._boots = 0
        self._begin_checks(start)

    def rng(self, actor: str) -> Random:
        """The stream of random numbers of one actor."""
        return Random(f"{self.seed}/{actor}")  # noqa: S311 - a simulation, no secret

    def at(self, time: int, action: Action) -> None:
        """Let `action` happen at `time`; what is due at the same time happens in the order it was planned."""
        heapq.heappush(self._queue, (time, next(self._serial), action))

    def every(self, period: int, first: int, action: Action) -> None:
        """Let `action` happen at `first` and again after each `period`, except while the machine is down."""

        def repeat(now: int) -> None:
            self.at(now + period, repeat)
            if not self.down:
                action(now)

        self.at(first, repeat)

    def emit(self, name: str, args: dict[str, Any]) -> None:
        self._events.append(Event(self.now, name, args))

    def next_time(self) -> int:
        """When something happens next."""
        return self._queue[0][0]

    def advance(self, to: int) -> list[Event]:
        """Let everything happen that is due until `to`; what the server sent meanwhile, in order."""
        queue = self._queue
        while queue[0][0] <= to:
            self.now, _, action = heapq.heappop(queue)
            action(self.now)
        self.now = max(self.now, to)
        events, self._events = self._events, []
        return events

    def run(self, to: int) -> Iterator[Event]:
        """The same, a few hours at a time, so that a year needs no memory."""
        while self.now < to:
            yield from self.advance(min(to, self.now + 6 * HOUR))

    def dataset(self, name: str) -> Dataset | None:
        pool = self.pools.get(name.partition("/")[0])
        return pool.datasets.get(name) if pool else None

    def write(self, name: str, grown: int, overwritten: int = 0) -> int:
        """Write to a dataset as much as its pool has room for; the bytes that were added."""
        pool, dataset = self.pools[name.partition("/")[0]], self.dataset(name)
        if dataset is None:
            return 0
        room = pool.available
        grown = min(grown, room)
        dataset.write(grown, min(overwritten, room - grown) if dataset.snapshots else overwritten)
        return grown

    def start_scan(self, pool: Pool, scan: Scan, done: Action | None = None) -> None:
        """Let a scrub or a resilver run to its end, unless it is paused or stopped before."""
        pool.scan = scan

        def finish(now: int) -> None:
            if pool.scan is scan and scan.active and scan.paused is None and now >= scan.due():
                scan.finished = now
                if done is not None:
                    done(now)

        self.at(scan.due(), finish)

    def state(self) -> dict[str, Any]:
        """The arguments of a system-state event, as of now."""
        pools = {name: pool.as_sent() for name, pool in self.pools.items()}
        for name, pool in self.pools.items():
            if pool.health != "ONLINE" or (pool.scan and pool.scan.active):
                pools[name] |= read_status(status.report(pool, self.now))[name]
        args: dict[str, Any] = {"hostname": self.hostname}
        if self.hostname_changed:
            args["hostnamechanged"] = "true"
        args["priority"] = wire.format_priority(self._priority(pools))
        args["updates"] = self.updates
        args["zpools"] = pools
        return args

    def _priority(self, pools: dict[str, dict[str, object]]) -> int:
        """The most urgent of the reasons that the real server knows."""
        reasons = [zfs.pool_priority(pool) for pool in pools.values()]
        reasons.append({"updatesavailable": 2, "rebootrequired": 9}.get(self.updates["status"], 0))
        reasons.append(3 if self.hostname_changed else 0)
        return max(reasons)

    def reboot(self, now: int, minutes: int) -> None:
        """Be away for some minutes: nothing is written, checked or sent."""
        self.flow(now)
        self.down = True
        self.at(now + minutes * MINUTE, self._boot)

    def _boot(self, now: int) -> None:
        self.down = False
        self._last_flow = now
        self.updates = {"status": "noupdates"}
        self._begin_checks(now)

    def _begin_checks(self, booted: int) -> None:
        self._boots += 1
        boot = self._boots

        def check(now: int) -> None:
            if self.down or boot != self._boots:
                return
            self.flow(now)
            self.emit("system-state", self.state())
            self.hostname_changed = False
            self.at(now + CHECK_EVERY, check)

        self.at(booted + FIRST_CHECK, check)

    def flow(self, now: int) -> None:
        """Write what the machine's users wrote since the last time."""
        span = now - self._last_flow
        self._last_flow = now
        hour = (now // HOUR + EPOCH_HOURS) % 168
        for name, grown, overwritten, week, rng in self._flows:
            amount = span * week[hour] * rng.expovariate(1.0) * self.pace.get(name, 1.0)
            if amount:
                self.write(name, int(grown * amount), int(overwritten * amount))
        running = []
        for burst in self.bursts:
            size = int(burst.bytes_per_second * span / SECOND)
            had_room = self.write(burst.dataset, size) == size  # a program that has none dies
            if had_room and burst.until > now:
                running.append(burst)
        self.bursts = running
