"""All tables of a monitor or a recording, filled frame by frame."""

from __future__ import annotations

import math
import threading
import time as clock
from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any, Final, TypeVar, overload

import pandas as pd

from sysadm_nb.errors import InputError
from sysadm_nb.tables.columns import NAT, Text
from sysadm_nb.tables.job import Job, JobView, Lead
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
    decode,
    dump_json,
    one_line,
    parse_priority,
    to_microseconds,
)
from sysadm_nb.wire.events import LifePreserver, pools_loosely
from sysadm_nb.wire.units import MAX_TIME, MIN_TIME, text_or_none

NAN: Final = math.nan

_KEEP_UNSETTLED: Final = 2000
_QUARTER: Final = 15 * 60 * 1_000_000
# A list of jobs may tell of one that ended while the list was on its way: it does not begin again.
_LIST_TAKES_US: Final = 2_000_000
_WAITING_TEXT: Final = 2**24
"""Bytes of text gathered at most before they go into the columns, where they are counted."""

T = TypeVar("T")
_NO_JOB: Final[Told] = (NAN, None, None, "of a run that has ended, or of no process")


class Tables:
    """The eight tables. Frames go in with :meth:`append`, DataFrames come out as attributes.

    Any thread may read at any time. A DataFrame is the table as it was when it was asked for: an
    ordinary one, to be kept, changed and thrown away without touching the table.

    Parameters
    ----------
    max_rows : int
        Rows kept in each table, the newest.
    max_text : int
        Bytes of event arguments, of messages and of job logs kept in memory, of each. Of older rows the
        text is missing then, the row stays.
    max_log : int
        Characters of log kept for each job: head and tail of its commands', with the cut marked.

    Attributes
    ----------
    events, jobs, commands, pools, system, life_preserver, bridge, connection : pandas.DataFrame
        The tables, with the columns and dtypes of :data:`sysadm_nb.tables.schema.SCHEMA`, in order of
        ``time``.

    Examples
    --------
    >>> tables = Tables()
    >>> from sysadm_nb.wire import encode_event
    >>> _ = tables.append(encode_event("dispatcher", {"process_id": "a", "state": "running"}), server="nas")
    >>> tables.jobs[["server", "process_id", "state"]].to_dict("records")
    [{'server': 'nas', 'process_id': 'a', 'state': 'running'}]
    """

    def __init__(self, max_rows: int = 1_000_000, max_text: int = 256 * 2**20, max_log: int = 2**20) -> None:
        if min(max_rows, max_text, max_log) < 1:
            raise InputError("max_rows, max_text and max_log must be at least 1")
        self.max_rows = max_rows
        self._max_text = max_text
        self._waiting_text = min(max_text // 8, _WAITING_TEXT)
        self._row_bytes = max(self._waiting_text // FLUSH_EVERY, 1)  # what a row counts as, beside its text
        self._text_seen = 0  # when job logs were last counted
        self._lock = threading.RLock()
        self._pools = PoolStore(max_rows)
        self._stores = {
            name: Store(name, max_rows, max_text, keyed=name in ("jobs", "commands")) for name in SCHEMA
        }
        self._stores["pools"] = self._pools
        self._seq = 0
        self._jobs = Jobs(max_log, keep=min(10_000, max_rows))
        self._hostnames: dict[str, str] = {}
        self._peers: dict[str, set[str]] = {}
        self._room = self._waiting_text  # for what may still come before it goes into the columns
        self._stores["events"] = self._events = EventStore(max_rows, max_text)
        self._states: list[Any] = []  # system-state events that wait, cell after cell: lead and state
        self._add_state = self._states.extend
        self._add_event = self._events.add
        self._add_notice = self._stores["life_preserver"].add

    # -- writing -------------------------------------------------------------------------------------

    def append(
        self,
        frame: str | bytes,
        *,
        received: datetime | int | None = None,
        server: str = "",
        origin: str = "live",
    ) -> Message:
        """Take one frame, word for word as it came.

        An event becomes a row of ``events`` and what it says rows of the other tables. A reply that
        lists pools becomes rows of ``pools`` with origin ``polled``; one that lists the dispatcher's
        jobs tells their commands. Other replies leave no row. Nothing that a peer can send raises.

        Parameters
        ----------
        frame : str or bytes
            The text of the message.
        received : datetime or int, optional
            When it came: aware, or microseconds since 1970 UTC. Now, if not given.
        server : str
            Name for the ``server`` column.
        origin : {"live", "last", "polled", "backfill", "file"}
            Where it came from.

        Returns
        -------
        sysadm_nb.wire.Message
            The frame, decoded.
        """
        message = decode(frame)
        if received.__class__ is not int:
            received = clock.time_ns() // 1000 if received is None else to_microseconds(received)  # type: ignore[arg-type]
        if origin not in ORIGINS:
            raise InputError(f"origin {origin!r} is not one of {', '.join(ORIGINS)}")
        with self._lock:
            if message.__class__ is Event:
                if message.peer is not None:
                    server = _behind(server, message.peer)
                time = message.time
                if time is None or not MIN_TIME <= time <= MAX_TIME:
                    time = received
                self._seq = seq = self._seq + 1
                name = message.name
                told: Told | None
                if name == "dispatcher":
                    job = self._jobs.take(message.said, (seq, time, received, server, origin))
                    told = _NO_JOB if job is None else job.told
                elif name == "system-state":
                    self._add_state((seq, time, received, server, origin, message.said))
                    told = None  # it waits for _take_states
                elif name == "life-preserver":
                    lead = (seq, time, received, server, origin)
                    time, told = self._take_life_preserver(message.said, lead, message.time is None)
                elif name == "bridge":
                    told = self._take_bridge(message.said, (seq, time, received, server, origin))
                else:
                    told = _told_by_other(message.said)
                self._add_event((seq, time, received, server, origin, name, told, message.text))
                self._room -= len(frame) + self._row_bytes
            elif message.__class__ is Malformed:
                self._append_strange("malformed", message.reason, message.text, received, server, origin)
            elif message.__class__ is Request:
                what = one_line(f"{message.namespace}/{message.name}")
                where = _behind(server, message.peer)
                args = None if message.is_login else dump_json(message.args)
                self._append_strange("request", what, args, received, where, origin)
            elif message.__class__ is Reply and message.args.__class__ is dict:
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

    def _take_states(self) -> None:
        """Make rows of the system-state events that wait."""
        cells = self._states
        if not cells:
            return
        leads, states = [cells[first::6] for first in range(5)], cells[5::6]
        cells.clear()
        columns, told = system_columns(states)
        self._events.told += told
        self._stores["system"].extend([*leads, *columns], len(states))
        hostnames = columns[0]
        self._hostnames.update(
            (s, name) for s, name in zip(leads[3], hostnames, strict=True) if name is not None
        )
        self._pools.take([*leads, hostnames], [state.zpools for state in states])

    def _take_life_preserver(self, said: LifePreserver, lead: Lead, undated: bool) -> tuple[int, Told]:
        """When it happened, and what `events` says of it."""
        notice = read_notice(said.message)
        action, dataset, *_, wall, zoned = notice
        priority, level = parse_priority(said.priority)
        time = self._moment(wall, zoned, lead) if undated and wall is not None else lead[1]
        kind = text_or_none(said.kind)
        self._add_notice((lead[0], time, *lead[2:], kind, *notice[:6], priority, level, said.message))
        what = one_line(said.message) if action == "other" else f"{kind or 'event'} {action}"
        return time, (priority, level, dataset, what)

    def _moment(self, wall: int, zoned: bool, lead: Lead) -> int:
        """When a wall clock without a zone showed this; the arrival, where that cannot be worked out."""
        if zoned:
            return wall
        server = lead[3]
        if lead[4] == "live":  # just written: what is off by whole quarters of an hour is the zone
            self._jobs.offsets[server] = round((wall - lead[1]) / _QUARTER) * _QUARTER
        offset = self._jobs.offsets.get(server)
        return lead[1] if offset is None else wall - offset

    def _take_bridge(self, args: Any, lead: Lead) -> Told:
        listed = args.get("available_connections") if isinstance(args, dict) else None
        if not isinstance(listed, list):
            return NAN, None, None, "no list of connections"
        now = {peer if isinstance(peer, str) else str(peer): None for peer in listed}
        before = self._peers.get(lead[3], set())
        add = self._stores["bridge"].add
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
            self._take_states()
            self._pools.take(
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
                self._jobs.set_commands(
                    process_id,
                    [c if isinstance(c, str) else str(c) for c in commands],
                    state if isinstance(state, str) else "unknown",
                    received - _LIST_TAKES_US,
                    lead,
                )

    def append_connection(
        self,
        what: str,
        *,
        server: str,
        time: datetime | int | None = None,
        gap_start: datetime | int | None = None,
        gap_end: datetime | int | None = None,
        detail: str = "",
        origin: str = "live",
    ) -> None:
        """Add a row of ``connection``: a change of our own connection to a server.

        Times are aware datetimes or microseconds since 1970 UTC; ``time`` is now if not given.
        """
        moments = [
            moment if moment is None or isinstance(moment, int) else to_microseconds(moment)
            for moment in (time, gap_start, gap_end)
        ]
        now = clock.time_ns() // 1000 if moments[0] is None else moments[0]
        start, end = (NAT if moment is None else moment for moment in moments[1:])
        with self._lock:
            self._seq += 1
            self._stores["connection"].add(
                (self._seq, now, now, server, origin, what, start, end, detail or None)
            )
            self._room -= self._row_bytes

    def add_run(self, server: str, process_id: str, commands: list[str], after: int) -> int:
        """Note that a server took a request to run commands; returns which run of the process id that is.

        Events may have told of it before the reply came. Runs up to ``after`` were there before the request.
        """
        now = clock.time_ns() // 1000
        with self._lock:
            self._seq += 1
            return self._jobs.accept(process_id, commands, after, (self._seq, now, now, server, "polled")).run

    def lose_jobs(self, server: str) -> None:
        """Mark what was going on at a server as unknown: the connection to it is gone."""
        with self._lock:
            self._jobs.lose(server)

    def _flush(self) -> None:
        self._room = self._waiting_text
        self._take_states()
        for store in self._stores.values():
            store.flush()
        jobs = self._jobs
        if len(jobs.unsettled) > _KEEP_UNSETTLED:
            self._settle(list(jobs.unsettled.values())[: -_KEEP_UNSETTLED // 2])
        jobs.forget_old()
        args = self._stores["events"].columns["args"]
        assert isinstance(args, Text)
        if args.taken - self._text_seen > self._max_text // 8:
            self._text_seen = args.taken
            self._settle([job for job in jobs.unsettled.values() if job.state == "finished"])
            jobs.forget_logs(self._max_text)

    def _settle(self, jobs: list[Job]) -> None:
        """Give jobs their rows in the stores; rows that are there already are replaced."""
        if not jobs:
            return
        old = [job.key for job in jobs if job.settled]
        store, commands = self._stores["jobs"], self._stores["commands"]
        if old:
            store.remove(old)
            commands.remove(old)
        text = 0
        for job in jobs:
            job.settled = True
            del self._jobs.unsettled[job.key]
            store.add(job.row())
            for row in job.command_rows():
                commands.add(row)
            text += job.kept
            if store.waiting >= FLUSH_EVERY or text > self._waiting_text:
                store.flush()
                commands.flush()
                text = 0

    # -- reading -------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._stores:
            raise InputError(f"there is no table {name!r}; there are {', '.join(SCHEMA)}")
        store = self._stores[name]
        with self._lock:
            self._take_states()
            if not store.keyed:
                return store.snapshot()
            unsettled = self._jobs.unsettled
            self._settle([job for job in unsettled.values() if job.state == "finished" or job.settled])
            if name == "jobs":
                return store.snapshot([job.row() for job in unsettled.values()])
            return store.snapshot([row for job in unsettled.values() for row in job.command_rows()])

    events = property(lambda self: self["events"], doc="One row a frame that was not a reply.")
    jobs = property(lambda self: self["jobs"], doc="One row a run of a process id.")
    commands = property(lambda self: self["commands"], doc="One row a command of a job.")
    pools = property(lambda self: self["pools"], doc="One row a pool in a sample.")
    system = property(lambda self: self["system"], doc="One row a system-state event.")
    life_preserver = property(lambda self: self["life_preserver"], doc="One row a life-preserver event.")
    bridge = property(lambda self: self["bridge"], doc="One row a peer at a bridge event.")
    connection = property(lambda self: self["connection"], doc="One row a change of our connection.")

    def count(self, name: str) -> int:
        """Rows ever appended to a table: what changed since is new. For jobs, the number of changes."""
        if name in ("jobs", "commands"):
            return self._jobs.version
        with self._lock:
            self._take_states()
            return self._stores[name].count

    def since(self, name: str, count: int = 0) -> tuple[int, pd.DataFrame]:
        """Rows that came after the first ``count``, in order of arrival, and the new count.

        For ``jobs`` and ``commands``, whose rows change, see :meth:`job_changes`.
        """
        if name in ("jobs", "commands"):
            raise InputError("rows of jobs change; read them with job_changes()")
        store = self._stores[name]
        with self._lock:
            self._take_states()
            frame = store.since(count)
            return store.count, frame

    @overload
    def job_changes(self, since: int = 0) -> tuple[int, list[JobView]]: ...

    @overload
    def job_changes(self, since: int, read: Callable[[Job], T]) -> tuple[int, list[T]]: ...

    def job_changes(self, since: int = 0, read: Callable[[Job], Any] = JobView) -> tuple[int, list[Any]]:
        """Jobs that changed after version ``since``, the oldest change first, and the new version.

        The newest 10,000 jobs are remembered this way; older ones are in the ``jobs`` table only.

        Parameters
        ----------
        since : int
            The version that is known already.
        read : callable
            Takes what is wanted of each job while it stands still; it must be quick and keep nothing of the
            job itself, which goes on changing. By default the whole of it, as a `JobView`.
        """
        with self._lock:
            return self._jobs.version, [read(job) for job in self._jobs.changes(since)]

    def job(self, server: str, process_id: str, run: int | None = None) -> JobView | None:
        """One job as of now: the newest run, if none is named. ``None`` if it is not known."""
        with self._lock:
            runs = self._jobs.runs.get((server, process_id), [])
            for job in reversed(runs):
                if run is None or job.run == run:
                    return JobView(job)
        return None

    def latest_pools(self) -> dict[tuple[str, str], SimpleNamespace]:
        """The newest sample of each pool by ``(server, pool)``: the columns as attributes, times in µs."""
        with self._lock:
            self._take_states()
            return self._pools.latest()

    def offset(self, server: str) -> int | None:
        """How far a server's wall clock is ahead of UTC, in microseconds, as worked out from its events."""
        return self._jobs.offsets.get(server)

    @property
    def dropped(self) -> dict[str, int]:
        """What the memory bound took: rows gone, by table, and texts given up, as ``TABLE.text``."""
        with self._lock:
            self._take_states()
            out = {name: store.dropped for name, store in self._stores.items() if store.dropped}
            return out | {f"{n}.text": s.dropped_text for n, s in self._stores.items() if s.dropped_text}

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(self[name])}" for name in SCHEMA)
        return f"<Tables: {counts}>"


def _behind(server: str, peer: str | None) -> str:
    """Who sent it: a server, or one of the peers behind a bridge."""
    return server if peer is None else f"{server}/{peer}" if server else peer


def _told_by_other(args: Any) -> Told:
    if not isinstance(args, dict):
        return NAN, None, None, "unknown event"
    message = args.get("message")
    what = one_line(message) if isinstance(message, str) else "unknown event"
    return (*parse_priority(args.get("priority")), None, what)
