"""All tables of a monitor or a recording, filled frame by frame."""

from __future__ import annotations

import math
import threading
import time as clock
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any, Final, TypeVar, overload

import pandas as pd

from sysadm_nb.errors import InputError
from sysadm_nb.tables import rows as make
from sysadm_nb.tables.columns import NAT
from sysadm_nb.tables.job import Job, JobView, Lead
from sysadm_nb.tables.jobs import Jobs
from sysadm_nb.tables.schema import ORIGINS, SCHEMA
from sysadm_nb.tables.store import FLUSH_EVERY, Store
from sysadm_nb.wire import (
    Event,
    Malformed,
    Message,
    Reply,
    decode,
    one_line,
    parse_priority,
    to_microseconds,
)
from sysadm_nb.wire.events import Pool, pools_loosely
from sysadm_nb.wire.units import MAX_TIME, MIN_TIME

NAN: Final = math.nan

_KEEP_UNSETTLED: Final = 2000
_QUARTER: Final = 15 * 60 * 1_000_000
# A list of jobs may tell of one that ended while the list was on its way: it does not begin again.
_LIST_TAKES_US: Final = 2_000_000

T = TypeVar("T")


class Tables:
    """The eight tables. Frames go in with :meth:`append`, DataFrames come out as attributes.

    Any thread may read at any time. A DataFrame is the table as it was when it was asked for: an
    ordinary one, to be kept, changed and thrown away without touching the table.

    Parameters
    ----------
    max_rows : int
        Rows kept in each table, the newest.
    max_text : int
        Bytes of event arguments, and of job logs, kept in memory. Of older rows the text is missing
        then, the row stays.
    max_log : int
        Characters of log kept for each command: head and tail, with the cut marked.

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
        self._lock = threading.RLock()
        self._stores = {
            name: Store(name, max_rows, max_text, keyed=name in ("jobs", "commands")) for name in SCHEMA
        }
        self._seq = 0
        self._jobs = Jobs(max_log, keep=min(10_000, max_rows))
        self._hostnames: dict[str, str] = {}
        self._peers: dict[str, set[str]] = {}
        self._latest: OrderedDict[tuple[str, str], tuple[Any, ...]] = OrderedDict()
        self._rows_since_flush = 0
        self._add_event = self._stores["events"].add
        self._add_pool = self._stores["pools"].add
        self._add_system = self._stores["system"].add
        self._take: dict[str, Callable[[Event, Lead], tuple[Any, ...]]] = {
            "dispatcher": self._take_dispatcher,
            "system-state": self._take_system_state,
            "life-preserver": self._take_life_preserver,
            "bridge": self._take_bridge,
        }

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
        if received is None:
            received = clock.time_ns() // 1000
        elif received.__class__ is not int:
            received = to_microseconds(received)  # type: ignore[arg-type]
        if origin not in ORIGINS:
            raise InputError(f"origin {origin!r} is not one of {', '.join(ORIGINS)}")
        kind = message.__class__
        with self._lock:
            if kind is Event:
                peer, time = message.peer, message.time  # type: ignore[union-attr]
                if peer is not None:
                    server = f"{server}/{peer}" if server else peer
                self._seq = seq = self._seq + 1
                if time is None or not MIN_TIME <= time <= MAX_TIME:
                    time = received
                name = message.name  # type: ignore[union-attr]
                take = self._take.get(name, self._take_other)
                row = take(message, (seq, time, received, server, origin))  # type: ignore[arg-type]
                time, priority, level, subject, summary = row
                text = message.text  # type: ignore[union-attr]
                self._add_event(
                    (seq, time, received, server, origin, name, priority, level, subject, summary, text)
                )
                self._rows_since_flush += 1
            elif kind is Malformed:
                self._seq = seq = self._seq + 1
                what = ("malformed", NAN, None, None, message.reason, message.text)  # type: ignore[union-attr]
                self._add_event((seq, received, received, server, origin, *what))
                self._rows_since_flush += 1
            elif kind is Reply and message.args.__class__ is dict:  # type: ignore[union-attr]
                self._append_reply(message, received, server)  # type: ignore[arg-type]
            if self._rows_since_flush >= FLUSH_EVERY:
                self._flush()
        return message

    def _take_dispatcher(self, event: Event, lead: Lead) -> tuple[Any, ...]:
        args = event.said
        if args.__class__ is not dict:
            return lead[1], NAN, None, None, "no arguments to read"
        job = self._jobs.take(args, lead)
        if job is None:
            return lead[1], NAN, None, None, "of a run that has ended, or of no process"
        return lead[1], NAN, None, job.process_id, job.summary

    def _take_system_state(self, event: Event, lead: Lead) -> tuple[Any, ...]:
        state = event.said
        hostname = make.text_or_none(state.hostname)
        server = lead[3]
        if hostname is not None:
            self._hostnames[server] = hostname
        priority, level = parse_priority(state.priority)
        pools = state.zpools
        # The last event, sent again at a subscribe, is old news: its age is unknown and it is no sample.
        if pools:
            self._take_pools(lead, hostname, pools, sample=lead[4] != "last")
        self._add_system(
            (
                *lead,
                hostname,
                make.is_true(state.hostnamechanged),
                priority,
                level,
                len(pools),
                make.updates_status(state.updates),
            )
        )
        count = len(pools)
        names = ", ".join(list(pools)[:4]) if count <= 4 else f"{count} pools"
        return lead[1], priority, level, hostname, names or "no pools"

    def _take_pools(self, lead: Lead, hostname: str | None, pools: dict[str, Pool], sample: bool) -> None:
        latest, server, add = self._latest, lead[3], self._add_pool
        for name, pool in pools.items():
            row = make.pool_row(lead, hostname, name, pool)
            add(row)
            key = (server, name)
            known = latest.get(key)
            if known is None or (sample and known[1] <= lead[1]) or known[4] == "last":
                latest[key] = row
        self._rows_since_flush += len(pools)
        while len(latest) > 100_000:
            latest.popitem(last=False)

    def _take_life_preserver(self, event: Event, lead: Lead) -> tuple[Any, ...]:
        said = event.said
        told = make.Told(said.message)
        priority, level = parse_priority(said.priority)
        time = lead[1]
        if told.wall is not None and event.time is None:
            time = self._moment(told.wall, told.zoned, lead)
        kind = make.text_or_none(said.kind)
        self._stores["life_preserver"].add(
            (
                lead[0],
                time,
                *lead[2:],
                kind,
                told.action,
                told.dataset,
                told.sent,
                told.total,
                told.percent,
                told.logfile,
                priority,
                level,
                said.message,
            )
        )
        self._rows_since_flush += 1
        what = f"{kind or 'event'} {told.action}" if told.action != "other" else one_line(said.message)
        return time, priority, level, told.dataset, what

    def _moment(self, wall: int, zoned: bool, lead: Lead) -> int:
        """When a wall clock without a zone showed this; the arrival, where that cannot be worked out."""
        if zoned:
            return wall
        server = lead[3]
        if lead[4] == "live":  # just written: what is off by whole quarters of an hour is the zone
            self._jobs.offsets[server] = round((wall - lead[1]) / _QUARTER) * _QUARTER
        offset = self._jobs.offsets.get(server)
        return lead[1] if offset is None else wall - offset

    def _take_bridge(self, event: Event, lead: Lead) -> tuple[Any, ...]:
        args = event.args
        listed = args.get("available_connections") if isinstance(args, dict) else None
        if not isinstance(listed, list):
            return lead[1], NAN, None, None, "no list of connections"
        now = {peer if isinstance(peer, str) else str(peer): None for peer in listed}
        before = self._peers.get(lead[3], set())
        add = self._stores["bridge"].add
        for peer in now:
            add((*lead, peer, "present" if peer in before else "joined"))
        for peer in sorted(before - now.keys()):
            add((*lead, peer, "left"))
        self._peers[lead[3]] = set(now)
        self._rows_since_flush += len(now)
        return lead[1], NAN, None, None, f"{len(now)} connections"

    def _take_other(self, event: Event, lead: Lead) -> tuple[Any, ...]:
        args = event.args
        if isinstance(args, dict):
            priority, level = parse_priority(args.get("priority"))
            message = args.get("message")
            return (
                lead[1],
                priority,
                level,
                None,
                one_line(message) if isinstance(message, str) else "unknown event",
            )
        return lead[1], NAN, None, None, "unknown event"

    def _append_reply(self, reply: Reply, received: int, server: str) -> None:
        if reply.peer is not None:
            server = f"{server}/{reply.peer}" if server else reply.peer
        listed = reply.args.get("list_pools")
        if isinstance(listed, dict) and listed:
            self._seq += 1
            lead = (self._seq, received, received, server, "polled")
            self._take_pools(lead, self._hostnames.get(server), pools_loosely(listed), sample=True)
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
            self._rows_since_flush += 1

    def set_job_commands(
        self, server: str, process_id: str, commands: list[str], state: str = "running"
    ) -> None:
        """Tell a job's commands, known from the request that queued it, before its events do."""
        now = clock.time_ns() // 1000
        with self._lock:
            self._seq += 1
            lead = (self._seq, now, now, server, "polled")
            self._jobs.set_commands(process_id, commands, state, now - _LIST_TAKES_US, lead)

    def lose_jobs(self, server: str) -> None:
        """Mark what was going on at a server as unknown: the connection to it is gone."""
        with self._lock:
            self._jobs.lose(server)

    def _flush(self) -> None:
        self._rows_since_flush = 0
        for store in self._stores.values():
            store.flush()
        if len(self._jobs.unsettled) > _KEEP_UNSETTLED:
            self._settle(list(self._jobs.unsettled.values())[: -_KEEP_UNSETTLED // 2])
        self._jobs.forget_old()

    def _settle(self, jobs: list[Job]) -> None:
        """Give jobs their rows in the stores; rows that are there already are replaced."""
        if not jobs:
            return
        old = [job.key for job in jobs if job.settled]
        store, commands = self._stores["jobs"], self._stores["commands"]
        if old:
            store.remove(old)
            commands.remove(old)
        for job in jobs:
            job.settled = True
            del self._jobs.unsettled[job.key]
            store.add(job.row())
            for row in job.command_rows():
                commands.add(row)
        if len(store.rows) >= FLUSH_EVERY:
            store.flush()
            commands.flush()

    # -- reading -------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._stores:
            raise InputError(f"there is no table {name!r}; there are {', '.join(SCHEMA)}")
        store = self._stores[name]
        with self._lock:
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
        return self._stores[name].count

    def since(self, name: str, count: int = 0) -> tuple[int, pd.DataFrame]:
        """Rows that came after the first ``count``, in order of arrival, and the new count.

        For ``jobs`` and ``commands``, whose rows change, see :meth:`job_changes`.
        """
        if name in ("jobs", "commands"):
            raise InputError("rows of jobs change; read them with job_changes()")
        store = self._stores[name]
        with self._lock:
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
        names = tuple(SCHEMA["pools"])
        with self._lock:
            rows = list(self._latest.items())
        out = {}
        for key, row in rows:
            values = dict(zip(names, row, strict=True))
            for name, memo in make.DISPLAYED.items():
                values[name] = memo.of(values[name])
            out[key] = SimpleNamespace(**values)
        return out

    def offset(self, server: str) -> int | None:
        """How far a server's wall clock is ahead of UTC, in microseconds, as worked out from its events."""
        return self._jobs.offsets.get(server)

    @property
    def dropped(self) -> dict[str, int]:
        """What the memory bound took: rows gone, by table, and texts given up, as ``TABLE.text``."""
        with self._lock:
            out = {
                name: store.first for name, store in self._stores.items() if store.first and not store.keyed
            }
            return out | {f"{n}.text": s.dropped_text for n, s in self._stores.items() if s.dropped_text}

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(self[name])}" for name in SCHEMA)
        return f"<Tables: {counts}>"
