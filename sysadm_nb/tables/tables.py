"""All tables of a monitor or a recording, filled frame by frame."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any, TypeVar, overload

import pandas as pd

from sysadm_nb.errors import InputError
from sysadm_nb.tables.columns import NAT
from sysadm_nb.tables.intake import Intake
from sysadm_nb.tables.job import Job
from sysadm_nb.tables.jobview import JobView
from sysadm_nb.tables.schema import SCHEMA
from sysadm_nb.wire import Message, to_microseconds

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
        self._intake = intake = Intake(max_rows, max_text, max_log)
        self._lock, self._stores, self._pools, self._jobs = (
            intake.lock,
            intake.stores,
            intake.pools,
            intake.jobs,
        )

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
        return self._intake.append(frame, received, server, origin)

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
        self._intake.append_connection(what, server, now, start, end, detail or None, origin)

    def add_run(self, server: str, process_id: str, commands: list[str], after: int) -> int:
        """Note that a server took a request to run commands; returns which run of the process id that is.

        Events may have told of it before the reply came. Runs up to ``after`` were there before the request.
        """
        return self._intake.add_run(server, process_id, commands, after)

    def lose_jobs(self, server: str) -> None:
        """Mark what was going on at a server as unknown: the connection to it is gone."""
        with self._lock:
            self._jobs.lose(server)

    # -- reading -------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._stores:
            raise InputError(f"there is no table {name!r}; there are {', '.join(SCHEMA)}")
        store = self._stores[name]
        with self._lock:
            self._intake.take_states()
            if not store.keyed:
                return store.snapshot()
            unsettled = self._jobs.unsettled
            self._intake.settle([job for job in unsettled.values() if job.state == "finished" or job.settled])
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
            self._intake.take_states()
            return self._stores[name].count

    def since(self, name: str, count: int = 0) -> tuple[int, pd.DataFrame]:
        """Rows that came after the first ``count``, in order of arrival, and the new count.

        For ``jobs`` and ``commands``, whose rows change, see :meth:`job_changes`.
        """
        if name in ("jobs", "commands"):
            raise InputError("rows of jobs change; read them with job_changes()")
        store = self._stores[name]
        with self._lock:
            self._intake.take_states()
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
            self._intake.take_states()
            return self._pools.latest()

    def offset(self, server: str) -> int | None:
        """How far a server's wall clock is ahead of UTC, in microseconds, as worked out from its events."""
        return self._jobs.offsets.get(server)

    @property
    def dropped(self) -> dict[str, int]:
        """What the memory bound took: rows gone, by table, and texts given up, as ``TABLE.text``."""
        with self._lock:
            self._intake.take_states()
            out = {name: store.dropped for name, store in self._stores.items() if store.dropped}
            return out | {f"{n}.text": s.dropped_text for n, s in self._stores.items() if s.dropped_text}

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(self[name])}" for name in SCHEMA)
        return f"<Tables: {counts}>"
