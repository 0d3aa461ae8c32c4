"""What fills the tables: each frame becomes cells that wait, and many at a time go into the columns."""

from __future__ import annotations

import math
import threading
import time as clock
from typing import Any, Final

from msgspec.structs import astuple

from sysadm_nb.errors import InputError
from sysadm_nb.tables.columns import Text
from sysadm_nb.tables.job import Job, Lead
from sysadm_nb.tables.jobs import Jobs
from sysadm_nb.tables.notices import read_notice
from sysadm_nb.tables.pools import PoolStore
from sysadm_nb.tables.schema import ORIGINS, SCHEMA
from sysadm_nb.tables.states import Told, system_columns
from sysadm_nb.tables.store import FLUSH_EVERY, EventStore, Store
from sysadm_nb.wire import (
    Event,
    Malformed,
    Message,
    Reply,
    Request,
    dump_json,
    one_line,
    parse_priority,
    to_microseconds,
)
from sysadm_nb.wire.events import LifePreserver, pools_loosely
from sysadm_nb.wire.reading import read_frame
from sysadm_nb.wire.units import MAX_TIME, MIN_TIME, text_or_none

NAN: Final = math.nan

_KEEP_UNSETTLED: Final = 2000
# A list of jobs may tell of one that ended while the list was on its way: it does not begin again.
_LIST_TAKES_US: Final = 2_000_000
_WAITING_TEXT: Final = 2**24
"""Bytes of text gathered at most before they go into the columns, where they are counted."""

_NO_JOB: Final[Told] = (NAN, None, None, "of a run that has ended, or of no process")


class Intake:
    """The stores of all tables and the jobs, and how frames get into them.

    Who reads ``stores`` or ``jobs`` holds the ``lock``, and calls :meth:`take_states` first.
    """

    def __init__(self, max_rows: int, max_text: int, max_log: int) -> None:
        self.lock = threading.RLock()
        self.pools = PoolStore(max_rows)
        self.stores: dict[str, Store] = {
            name: Store(name, max_rows, max_text, keyed=name in ("jobs", "commands")) for name in SCHEMA
        }
        self.stores["pools"] = self.pools
        self.stores["events"] = self._events = EventStore(max_rows, max_text)
        self.jobs = Jobs(max_log, keep=min(10_000, max_rows))
        self._max_text = max_text
        self._waiting_text = min(max_text // 8, _WAITING_TEXT)
        self._row_bytes = max(self._waiting_text // FLUSH_EVERY, 1)  # what a row counts as, beside its text
        self._room = self._waiting_text  # for what may still come before it goes into the columns
        self._text_seen = 0  # when job logs were last counted
        self._seq = 0
        self._hostnames: dict[str, str] = {}
        self._peers: dict[str, set[str]] = {}
        self._states: list[Any] = []  # system-state events that wait, cell after cell: lead and state
        self._add_state = self._states.extend
        self._add_event = self._events.add
        self._add_notice = self.stores["life_preserver"].add

    def append(self, frame: str | bytes, received: Any, server: str, origin: str) -> Message:
        """See :meth:`sysadm_nb.tables.Tables.append`."""
        message = read_frame(frame)
        if type(received) is not int:
            received = clock.time_ns() // 1000 if received is None else to_microseconds(received)
        if origin not in ORIGINS:
            raise InputError(f"origin {origin!r} is not one of {', '.join(ORIGINS)}")
        with self.lock:
            if type(message) is Event:
                name, text, said, _, told_time, peer = astuple(message)
                if peer is not None:
                    server = _behind(server, peer)
                time = told_time
                if time is None or not MIN_TIME <= time <= MAX_TIME:
                    time = received
                self._seq += 1
                seq: Any = self._seq
                told: Any
                if name == "dispatcher":
                    job = self.jobs.take(said, (seq, time, received, server, origin))
                    told = _NO_JOB if job is None else job.told
                elif name == "system-state":
                    self._add_state((seq, time, received, server, origin, said))
                    told = None  # it waits for take_states
                elif name == "life-preserver":
                    lead = (seq, time, received, server, origin)
                    time, told = self._take_life_preserver(said, lead, told_time is None)
                elif name == "bridge":
                    told = self._take_bridge(said, (seq, time, received, server, origin))
                else:
                    told = _told_by_other(said)
                self._add_event((seq, time, received, server, origin, name, told, text))
                self._room -= len(frame) + self._row_bytes
            elif type(message) is Malformed:
                self._append_strange("malformed", message.reason, message.text, received, server, origin)
            elif type(message) is Request:
                what = one_line(f"{message.namespace}/{message.name}")
                where = _behind(server, message.peer)
                args = None if message.is_login else dump_json(message.args)
                self._append_strange("request", what, args, received, where, origin)
            elif type(message) is Reply and type(message.args) is dict:
                self._append_reply(message, received, server)
            if self._room < 0:
                self._flush()
        return message

    def _append_strange(
        self, name: str, what: str, text: str | None, received: int, server: str, origin: str
    ) -> None:
        self._seq += 1
        told = (NAN, None, None, what)
        self._add_event((self._seq, received, received, server, origin, name, told, text))
        self._room -= len(text or "") + self._row_bytes

    def take_states(self) -> None:
        """Make rows of the system-state events that wait."""
        cells = self._states
        if not cells:
            return
        leads, states = [cells[first::6] for first in range(5)], cells[5::6]
        cells.clear()
        columns, told, pools = system_columns(states)
        self._events.told += told
        self.stores["system"].extend([*leads, *columns], len(states))
        hostnames = columns[0]
        self._hostnames.update(
            (s, name) for s, name in zip(leads[3], hostnames, strict=True) if name is not None
        )
        self.pools.take([*leads, hostnames], pools)

    def _take_life_preserver(self, said: LifePreserver, lead: Lead, undated: bool) -> tuple[int, Told]:
        """When it happened, and what `events` says of it."""
        message, said_priority, said_kind = astuple(said)
        action, dataset, sent, total, percent, logfile, wall, zoned = read_notice(message)
        priority, level = parse_priority(said_priority)
        seq, time, received, server, origin = lead
        if undated and wall is not None:
            moment = wall if zoned else self.jobs.in_utc(wall, server, time, origin == "live")
            # Messages tell whole seconds. Where one tells the second of its arrival, that says it finer, and
            # rows stay in order of time.
            if moment is not None and not 0 <= received - moment < 1_000_000:
                time = moment
        kind = text_or_none(said_kind)
        cells = (kind, action, dataset, sent, total, percent, logfile, priority, level, message)
        self._add_notice((seq, time, received, server, origin, *cells))
        what = one_line(message) if action == "other" else f"{kind or 'event'} {action}"
        return time, (priority, level, dataset, what)

    def _take_bridge(self, args: Any, lead: Lead) -> Told:
        listed = args.get("available_connections") if isinstance(args, dict) else None
        if not isinstance(listed, list):
            return NAN, None, None, "no list of connections"
        now = {peer if isinstance(peer, str) else str(peer): None for peer in listed}
        before = self._peers.get(lead[3], set())
        add = self.stores["bridge"].add
        for peer in now:
            add((*lead, peer, "present" if peer in before else "joined"))
        for peer in sorted(before - now.keys()):
            add((*lead, peer, "left"))
        self._peers[lead[3]] = set(now)
        return NAN, None, None, f"{len(now)} connections"

    def _append_reply(self, reply: Reply, received: int, server: str) -> None:
        server = _behind(server, reply.peer)
        listed = reply.args.get("list_pools")
        if isinstance(listed, dict) and listed:
            self._seq += 1
            lead = (self._seq, received, received, server, "polled")
            self.take_states()
            self.pools.take(
                [[cell] for cell in (*lead, self._hostnames.get(server))], [pools_loosely(listed)]
            )
        queues = reply.args.get("jobs")
        if isinstance(queues, dict):
            self._take_job_list(queues, received, server)

    def _take_job_list(self, queues: dict[str, Any], received: int, server: str) -> None:
        for queue in queues.values():
            for process_id, said in queue.items() if isinstance(queue, dict) else ():
                commands = said.get("commands") if isinstance(said, dict) else None
                if not isinstance(commands, list):
                    continue
                self._seq += 1
                lead = (self._seq, received, received, server, "polled")
                state = said.get("state")
                self.jobs.set_commands(
                    process_id,
                    [c if isinstance(c, str) else str(c) for c in commands],
                    state if isinstance(state, str) else "unknown",
                    received - _LIST_TAKES_US,
                    lead,
                )

    def append_connection(
        self,
        what: str,
        server: str,
        time: int,
        gap_start: int,
        gap_end: int,
        detail: str | None,
        origin: str,
    ) -> None:
        """Add a row of ``connection``; times in microseconds."""
        with self.lock:
            self._seq += 1
            row = (self._seq, time, time, server, origin, what, gap_start, gap_end, detail)
            self.stores["connection"].add(row)
            self._room -= self._row_bytes

    def add_run(self, server: str, process_id: str, commands: list[str], after: int) -> int:
        """See :meth:`sysadm_nb.tables.Tables.add_run`."""
        now = clock.time_ns() // 1000
        with self.lock:
            self._seq += 1
            return self.jobs.accept(process_id, commands, after, (self._seq, now, now, server, "polled")).run

    def _flush(self) -> None:
        self._room = self._waiting_text
        self.take_states()
        for store in self.stores.values():
            store.flush()
        jobs = self.jobs
        if len(jobs.unsettled) > _KEEP_UNSETTLED:
            self.settle(list(jobs.unsettled.values())[: -_KEEP_UNSETTLED // 2])
        jobs.forget_old()
        args = self.stores["events"].columns["args"]
        assert isinstance(args, Text)
        if args.taken - self._text_seen > self._max_text // 8:
            self._text_seen = args.taken
            self.settle([job for job in jobs.unsettled.values() if job.state == "finished"])
            jobs.forget_logs(self._max_text)

    def settle(self, jobs: list[Job]) -> None:
        """Give jobs their rows in the stores; rows that are there already are replaced."""
        if not jobs:
            return
        old = [job.key for job in jobs if job.settled]
        store, commands = self.stores["jobs"], self.stores["commands"]
        if old:
            store.remove(old)
            commands.remove(old)
        text = 0
        for job in jobs:
            job.settled = True
            del self.jobs.unsettled[job.key]
            store.add(job.row())
            for row in job.command_rows():
                commands.add(row)
            text += job.kept
            if store.waiting >= FLUSH_EVERY or text > self._waiting_text:
                store.flush()
                commands.flush()
                text = 0


def _behind(server: str, peer: str | None) -> str:
    """Who sent it: a server, or one of the peers behind a bridge."""
    return server if peer is None else f"{server}/{peer}" if server else peer


def _told_by_other(args: Any) -> Told:
    if not isinstance(args, dict):
        return NAN, None, None, "unknown event"
    message = args.get("message")
    what = one_line(message) if isinstance(message, str) else "unknown event"
    return (*parse_priority(args.get("priority")), None, what)
