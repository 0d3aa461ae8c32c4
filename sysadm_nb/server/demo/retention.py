"""Snapshots by schedule, their pruning, and the nightly replication of tank to backup."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from sysadm_nb import wire
from sysadm_nb.server.demo import plan
from sysadm_nb.server.demo.clock import log_date, stamp
from sysadm_nb.server.demo.storage import DAY, HOUR, SECOND, GiB, MiB, Snapshot

if TYPE_CHECKING:
    from sysadm_nb.server.demo.machine import Machine

REPLICATION_AT: Final = 2 * HOUR  # after midnight
PROGRESS_EVERY: Final = 30 * SECOND
FAILED_LOG: Final = "/var/log/lpreserver/lpreserver_failed.log"


def begin(machine: Machine, start: int) -> None:
    for schedule in plan.SCHEDULES:
        first = (
            (start - schedule.offset) // schedule.every * schedule.every + schedule.every + schedule.offset
        )
        machine.every(schedule.every, first, partial(_snapshot_all, machine, schedule))
    replication = Replication(machine, start)
    midnight = start // DAY * DAY
    machine.every(DAY, midnight + DAY + REPLICATION_AT, replication.start)


def _snapshot_all(machine: Machine, schedule: plan.Schedule, now: int) -> None:
    name = plan.snapshot_name(schedule.name, now)
    for second, dataset in enumerate(schedule.datasets, 1):
        machine.at(now + second * SECOND, partial(_snapshot, machine, schedule, dataset, name))


def _snapshot(machine: Machine, schedule: plan.Schedule, name: str, snapshot: str, now: int) -> None:
    dataset = machine.dataset(name)
    if dataset is None:  # destroyed by a person
        return
    dataset.snapshot(snapshot, now, schedule.name)
    _tell(machine, "snapshot", f"{log_date(now)}: New snapshot of {name}", 1)
    ours = [one for one in dataset.snapshots if one.schedule == schedule.name]
    for old in ours[: -schedule.keep]:
        dataset.destroy(old)


def _tell(machine: Machine, kind: str, message: str, priority: int) -> None:
    machine.emit(
        "life-preserver", {"class": kind, "message": message, "priority": wire.format_priority(priority)}
    )


class Replication:
    """tank to backup/tank, every night: what changed since the last success; now and then it fails."""

    def __init__(self, machine: Machine, start: int) -> None:
        self.machine = machine
        self.rng = machine.rng("replication")
        self.nights_until_failure = self.rng.randint(8, 20)
        self.taken_refer = self._refer()
        self.running = False
        target = machine.pools["backup"].datasets["backup/tank"]
        # Only the oldest is ever pruned, so each keeps all that its night replaced.
        nightly = int(sum(flow.overwritten for flow in plan.FLOWS if flow.dataset in plan.REPLICATED) * GiB)
        for night in range(plan.REPLICA_KEEP, 0, -1):
            taken = start // DAY * DAY + REPLICATION_AT - night * DAY
            target.snapshots.append(Snapshot(f"auto-{stamp(taken)}", taken, target.refer, nightly, "replica"))
            target.held += nightly

    def _refer(self) -> int:
        pool = self.machine.pools["tank"]
        return sum(pool.datasets[name].refer for name in plan.REPLICATED if name in pool.datasets)

    def start(self, now: int) -> None:
        if self.running:  # last night's is still sending
            return
        self.running = True
        self.snapshot = f"auto-{stamp(now)}"
        _tell(self.machine, "replication", f"{log_date(now)}: Starting replication for tank", 1)
        # The datasets themselves: until the end one may be destroyed, and another made under its name.
        datasets = [dataset for name in plan.REPLICATED if (dataset := self.machine.dataset(name))]
        self.changed = [(dataset, dataset.changed) for dataset in datasets]
        refer = self._refer()
        total = sum(changed for _, changed in self.changed)
        self.grown, self.taken_now = min(refer - self.taken_refer, total), refer
        # zfs estimates what it will send; the stream's own headers come on top.
        self.sent, self.stream, self.estimate = 0, int(total * self.rng.uniform(1.0, 1.03)), total
        self.nights_until_failure -= 1
        self.fails_at = self.stream + 1
        if self.nights_until_failure == 0:
            self.nights_until_failure = self.rng.randint(9, 40)
            self.fails_at = int(self.stream * self.rng.uniform(0.1, 0.9))
        self.machine.at(now + PROGRESS_EVERY, self.progress)

    def progress(self, now: int) -> None:
        step = int(self.rng.uniform(150, 260) * MiB * PROGRESS_EVERY / SECOND)
        before, self.sent = self.sent, min(self.sent + step, self.stream)
        self._receive(before, self.sent)
        if self.sent >= self.fails_at:
            self.running = False
            message = f"{log_date(now)}: Replication Failed for tank\nLogfile available at: {FAILED_LOG}"
            _tell(self.machine, "replication", message, 7)
            return
        if self.estimate:
            sent, total = wire.format_size(self.sent), wire.format_size(self.estimate)
            share = 100 * self.sent / self.estimate
            _tell(
                self.machine,
                "replication",
                f"Replicating tank@{self.snapshot}: {sent}/{total} ({share:.1f}%)",
                0,
            )
        after = self.finish if self.sent >= self.stream else self.progress
        self.machine.at(now + (2 * SECOND if self.sent >= self.stream else PROGRESS_EVERY), after)

    def _receive(self, before: int, after: int) -> None:
        if not self.stream:
            return
        grown = self.grown * after // self.stream - self.grown * before // self.stream
        # Where it shrank, all that is sent takes the place of older data, and the rest is deleted.
        replaced = (self.estimate - max(self.grown, 0)) * (after - before) // self.stream
        if grown >= 0:
            self.machine.write("backup/tank", grown, replaced)
        elif target := self.machine.dataset("backup/tank"):
            target.delete(-grown)
            self.machine.write("backup/tank", 0, replaced)

    def finish(self, now: int) -> None:
        self.running = False
        self.taken_refer = self.taken_now
        for dataset, changed in self.changed:
            dataset.changed -= changed
        target = self.machine.dataset("backup/tank")
        if target is not None:
            target.snapshot(self.snapshot, now, "replica")
            ours = [one for one in target.snapshots if one.schedule == "replica"]
            for old in ours[: -plan.REPLICA_KEEP]:
                target.destroy(old)
        _tell(self.machine, "replication", f"{log_date(now)}: Finished replication for tank", 1)
