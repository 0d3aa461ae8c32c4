"""What a notebook holds: a monitor of one or many servers."""

from __future__ import annotations

import contextlib
import html
import itertools
import logging
import weakref
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sysadm_nb import loop, wire
from sysadm_nb.client import ReceivedEvent
from sysadm_nb.client.fleet import Fleet, Until, new_job_id
from sysadm_nb.client.session import FrameHook
from sysadm_nb.errors import Closed, InputError
from sysadm_nb.job import Job
from sysadm_nb.tables import Tables
from sysadm_nb.tables.spans import seconds_to_wait

if TYPE_CHECKING:
    import pandas as pd

    from sysadm_nb.tables.jobview import JobView
    from sysadm_nb.trends.sampling import DatasetSamples

__all__ = ["Monitor", "ServerState"]

log = logging.getLogger("sysadm_nb")

_numbers = itertools.count(1)
open_monitors: weakref.WeakSet[Monitor] = weakref.WeakSet()


class ServerState(NamedTuple):
    """How one server of a monitor stands.

    Attributes
    ----------
    name, url : str
    state : str
        ``connected``, ``connecting``, ``waiting`` (to try again), ``refused`` (for good) or ``closed``.
    detail : str
        Why, in a sentence.
    since : datetime
        When it came to be so (UTC).
    """

    name: str
    url: str
    state: str
    detail: str
    since: datetime


class Monitor:
    """Watches servers and fills tables with what they send; get one from `connect` or `demo`.

    It works in the background until ``close()``, or until nobody holds it any more. The tables can be read at
    any time, also after that: ``events``, ``jobs``, ``commands``, ``pools``, ``system``, ``life_preserver``,
    ``bridge`` and ``connection`` are DataFrames as of now.

    Attributes
    ----------
    tables : Tables
        The tables themselves.
    loop : LoopThread
        The handle on the loop thread on which all callbacks run.
    server : Server or None
        The server in this kernel that came with the monitor (see `demo`) and stops with it.
    """

    def __init__(self, tables: Tables | None = None) -> None:
        self.tables = tables or Tables()
        self.loop = loop.acquire()
        self.server: Any = None
        self.number = next(_numbers)
        self._fleet = Fleet(self.tables)
        self._sampling: dict[str, Callable[[], None]] = {}
        self._datasets: DatasetSamples | None = None
        # These two outlive self: whoever is in them is told when the monitor closes or is collected.
        self._closers: list[Callable[[], object]] = []
        self._recorders: list[Any] = []
        self._finalizer = weakref.finalize(
            self, _abandon, self._fleet, self.loop, self._closers, self._recorders
        )
        self._finalizer.atexit = False  # what is still held then is closed by close_all, which waits
        open_monitors.add(self)

    events = property(lambda self: self.tables.events, doc="Every event, one a row.")
    jobs = property(lambda self: self.tables.jobs, doc="One row a run of a process.")
    commands = property(lambda self: self.tables.commands, doc="One row a command of a job.")
    pools = property(lambda self: self.tables.pools, doc="One row a pool in a sample.")
    system = property(lambda self: self.tables.system, doc="One row a system-state event.")
    life_preserver = property(lambda self: self.tables.life_preserver, doc="Snapshots and replications.")
    bridge = property(lambda self: self.tables.bridge, doc="Peers of a bridge.")
    connection = property(lambda self: self.tables.connection, doc="How the connections stood, and gaps.")

    def __getitem__(self, table: str) -> pd.DataFrame:
        return self.tables[table]

    # -- servers ----------------------------------------------------------------------------------------

    @property
    def servers(self) -> list[ServerState]:
        """How each server stands."""
        return [
            ServerState(s.name, s.address.url, s.state, s.detail, wire.to_datetime(s.changed_us))
            for s in list(self._fleet.sessions.values())
        ]

    @property
    def recorders(self) -> list[Any]:
        """The recordings that are being made of it."""
        return [recorder for recorder in self._recorders if recorder.state != "closed"]

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._fleet.closed

    def add(self, target: Any, **options: Any) -> None:
        """Watch one more server, with the arguments of `connect`."""
        from sysadm_nb import connecting

        self._fleet.still_open()
        connecting.add(self, target, **options)

    def remove(self, server: str) -> None:
        """Watch a server no longer; its rows stay."""
        self._fleet.still_open()
        self.loop.run(self._fleet.remove(server))

    def close(self) -> None:
        """Disconnect and free everything; the tables stay. Closing twice is fine."""
        if not self._finalizer.detach():
            return
        self._fleet.closed = True
        if loop.on_loop_thread():
            _abandon(self._fleet, self.loop, self._closers, self._recorders)
            return
        try:
            with contextlib.suppress(Closed):
                self.loop.run(self._fleet.close())
        except BaseException:  # Ctrl-C at a server that is stuck: it goes on by itself
            _abandon(self._fleet, self.loop, self._closers, self._recorders)
            raise
        try:
            _close_rest(self._closers, self._recorders, wait=True)
        finally:
            self.loop.release()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def on_close(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Have a function called when this monitor closes; returns what undoes it."""
        self._closers.append(callback)
        return _remover(self._closers, callback)

    # -- asking and waiting -----------------------------------------------------------------------------

    def request(
        self, namespace: str, name: str, args: Any = None, *, server: str | None = None, timeout: float = 60.0
    ) -> Any:
        """Ask a server for something and wait for the reply: any call it has.

        Parameters
        ----------
        namespace, name : str
            The call, such as ``"sysadm", "zfs"``.
        args : JSON value, optional
            Its arguments, such as ``{"action": "list_pools"}``.
        server : str, optional
            Which server, where there are several.
        timeout : float
            Seconds to wait for the reply.

        Returns
        -------
        JSON value

        Raises
        ------
        RequestRefused, RequestTimeout, ConnectionLost
        """
        self._fleet.still_open()
        timeout = seconds_to_wait(timeout)
        asked = self._fleet.request(namespace, name, args, server=server, timeout=timeout)
        return self.loop.run(asked, timeout + 5)

    def subscribe(self, *classes: str, server: str | None = None, timeout: float = 60.0) -> None:
        """Have events sent: ``dispatcher``, ``life-preserver``, ``system-state``; all when none is named."""
        self._fleet.still_open()
        timeout = seconds_to_wait(timeout)
        self.loop.run(self._fleet.subscribe(*classes, server=server, timeout=timeout), timeout + 5)

    def unsubscribe(self, *classes: str, server: str | None = None, timeout: float = 60.0) -> None:
        """Have no more events of these classes sent; of none when none is named."""
        self._fleet.still_open()
        timeout = seconds_to_wait(timeout)
        self.loop.run(self._fleet.unsubscribe(*classes, server=server, timeout=timeout), timeout + 5)

    def run(
        self,
        commands: str | Iterable[str],
        *,
        id: str | None = None,
        server: str | None = None,
        timeout: float = 60.0,
    ) -> Job:
        """Have a server run commands, one after another until one fails.

        Parameters
        ----------
        commands : str or iterable of str
            ``program arguments``, not shell lines.
        id : str, optional
            The process id; a new one by default.
        server : str, optional
            Which server, where there are several.
        timeout : float
            Seconds to wait for the server to take it.

        Returns
        -------
        Job

        Raises
        ------
        RequestRefused
            The user may not run commands there. This is looked up first, because a server ends the connection
            of somebody who tries.
        """
        self._fleet.still_open()
        timeout = seconds_to_wait(timeout)
        lines = [commands] if isinstance(commands, str) else list(commands or ())
        if not lines or not all(isinstance(line, str) and line.strip() for line in lines):
            raise InputError("run() takes a command such as 'zpool scrub tank', or a list of them.")
        id = new_job_id() if id is None else id
        if not isinstance(id, str) or not id or id == "action":
            raise InputError(f"A job cannot have the id {id!r}.")
        name = self._fleet.session(server).name
        run = self.loop.run(self._fleet.run(lines, id, server=name, timeout=timeout), 2 * timeout + 5)
        return Job(self._fleet, self.loop, name, id, run)

    def wait_for(
        self,
        what: Until,
        *,
        process_id: str | None = None,
        server: str | None = None,
        timeout: float | None = 60.0,
    ) -> JobView | ReceivedEvent:
        """Wait until something happens.

        Parameters
        ----------
        what : str or callable
            A job's state (``running``, ``finished``), an event (``system-state``, ...), or a function that
            takes a `ReceivedEvent` and returns whether it is the one.
        process_id : str, optional
            Of which job; then the wait is over at once where the job is that far already.
        server : str, optional
            At which server; any by default.
        timeout : float or None
            Seconds; None waits as long as it takes.

        Returns
        -------
        JobView or ReceivedEvent

        Raises
        ------
        RequestTimeout, ConnectionLost
        """
        self._fleet.still_open()
        timeout = None if timeout is None else seconds_to_wait(timeout)
        waiting = self._fleet.wait_for(what, process_id=process_id, server=server, timeout=timeout)
        return self.loop.run(waiting, None if timeout is None else timeout + 5)

    def sample_pools(self, every: str | float | timedelta | None) -> Callable[[], None]:
        """Ask for the pools now and then, not only wait for the server to tell (every 15 minutes).

        Parameters
        ----------
        every : str, float, timedelta or None
            ``"1min"``, seconds, or None to stop. It replaces what was set before.

        Returns
        -------
        callable
            Stops it.
        """
        fleet, handle = self._fleet, self.loop  # the timer must not keep the monitor alive
        return self._sample("pools", every, lambda: handle.start(fleet.sample_pools()))

    def sample_datasets(self, every: str | float | timedelta | None) -> Callable[[], None]:
        """Ask for the datasets of all pools now and then; ``datasets`` is what was answered.

        Parameters
        ----------
        every : str, float, timedelta or None
            ``"1h"``, seconds, or None to stop. It replaces what was set before.

        Returns
        -------
        callable
            Stops it.
        """
        from sysadm_nb.trends import sampling

        fleet, handle, samples = self._fleet, self.loop, self._dataset_samples()
        return self._sample("datasets", every, lambda: handle.start(sampling.ask(fleet, samples)))

    def ask_datasets(self, timeout: float = 60.0) -> int:
        """Ask for the datasets once, now; returns how many pools were told of."""
        from sysadm_nb.trends import sampling

        self._fleet.still_open()
        timeout = seconds_to_wait(timeout)
        return self.loop.run(sampling.ask(self._fleet, self._dataset_samples(), timeout / 2), timeout + 5)

    @property
    def datasets(self) -> pd.DataFrame:
        """One row a dataset in a sample; `sysadm_nb.trends.datasets` tells their growth."""
        frame: pd.DataFrame = self._dataset_samples().frame()
        return frame

    def _dataset_samples(self) -> DatasetSamples:
        from sysadm_nb.trends.sampling import DatasetSamples

        if self._datasets is None:
            self._datasets = DatasetSamples()
        return self._datasets

    def _sample(
        self, what: str, every: str | float | timedelta | None, ask: Callable[[], object]
    ) -> Callable[[], None]:
        """Ask now and every so often, instead of what was set for the same before."""
        self._fleet.still_open()
        seconds = None if every is None else _seconds(every)
        if seconds is not None and not seconds >= 1:
            raise InputError(f"sample_{what}({every!r}): once a second is the most.")
        self._sampling.pop(what, _nothing)()
        if seconds is None:
            return _nothing
        self._sampling[what] = undo = self.loop.every(seconds, ask)
        self._closers.append(undo)
        ask()
        return undo

    # -- listening --------------------------------------------------------------------------------------

    def on_event(self, callback: Callable[[ReceivedEvent], object]) -> Callable[[], None]:
        """Have a function called with every event, as `ReceivedEvent`, on the loop thread.

        It must not block or wait for this monitor. When it raises, that is logged and hurts nobody else.

        Returns
        -------
        callable
            Undoes it.
        """
        return self._fleet.on_event(callback)

    def on_frame(self, callback: FrameHook) -> Callable[[], None]:
        """Have a function called with every frame: ``(text, received in µs, server, origin)``."""
        return self._fleet.on_frame(callback)

    def record(self, path: str | Path, **options: Any) -> Any:
        """Record every frame, word for word, into a file; see `sysadm_nb.recording.Recorder`.

        Called again for the same file, as by a cell that is run again, the new recorder takes the place of
        the old one, without a hole between them.

        Returns
        -------
        Recorder
            Its ``close()`` ends the recording; so does closing the monitor.
        """
        from sysadm_nb import recording

        self._fleet.still_open()
        recorder = recording.record(self, path, **options)
        before = self.recorders
        self._recorders[:] = [*before, recorder]
        for old in before:
            if old.base == recorder.base:
                old.close()
        return recorder

    def arm(self, rules: Any, **options: Any) -> Any:
        """Have rules watch what comes; see `sysadm_nb.alerts.arm`."""
        from sysadm_nb import alerts

        self._fleet.still_open()
        return alerts.arm(self, rules, **options)

    @property
    def armed(self) -> list[Any]:
        """Who is on guard over it: what `arm` returned and nobody disarmed, in that order."""
        from sysadm_nb.alerts.armed import guards_of

        return guards_of(self)

    def dashboard(self, **options: Any) -> Any:
        """All views in one; see `sysadm_nb.widgets`."""
        from sysadm_nb import widgets

        return widgets.dashboard(self, **options)

    # -- showing ----------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        if self.closed:
            return f"<Monitor closed; {self._counts()}; the tables stay, connect(...) again for more>"
        return f"<Monitor {self._standing()}; {self._counts()}; .events .jobs .pools .dashboard() .close()>"

    def _standing(self) -> str:
        servers = self.servers
        if len(servers) == 1:
            (only,) = servers
            why = f" ({wire.shell_text(only.detail)})" if only.state != "connected" and only.detail else ""
            return f"{only.name} {only.state}{why}"
        states: dict[str, int] = {}
        for server in servers:
            states[server.state] = states.get(server.state, 0) + 1
        told = ", ".join(f"{count} {state}" for state, count in states.items())
        return f"{len(servers)} servers{': ' if told else ''}{told}"

    def _counts(self) -> str:
        running = int((self.jobs["state"] == "running").sum())
        jobs = len(self.jobs)
        counts = [
            _plural(self.tables.count("events"), "event"),
            f"{_plural(jobs, 'job')}{f' ({running} running)' if running else ''}",
            _plural(len(self.tables.latest_pools()), "pool"),
        ]
        gaps = int((self.connection["what"] == "gap").sum())
        return ", ".join(counts + ([_plural(gaps, "gap")] if gaps else []))

    def _repr_html_(self) -> str:
        shown = self.servers[:20]
        rows = "".join(
            f"<tr><td><b>{html.escape(s.name)}</b></td><td>{s.state}</td>"
            f"<td>{html.escape(wire.shell_text(s.detail))}</td><td>since {s.since:%Y-%m-%d %H:%M:%S} "
            "UTC</td></tr>"
            for s in shown
        )
        more = len(self.servers) - len(shown)
        rest = f"<tr><td colspan=4>and {more} more: <code>.servers</code></td></tr>" if more else ""
        state = "closed" if self.closed else self._standing()
        advice = (
            "<code>.events</code> <code>.jobs</code> <code>.pools</code> are DataFrames; "
            "<code>.dashboard()</code> shows all; <code>.close()</code> ends it."
        )
        return (
            f"<div><b>Monitor</b> {html.escape(state)}<br>{self._counts()}"
            f"<table>{rows}{rest}</table>{advice}</div>"
        )


def _nothing() -> None:
    """Stop nothing."""


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _remover(items: list[Any], item: Any) -> Callable[[], None]:
    def undo() -> None:
        with contextlib.suppress(ValueError):
            items.remove(item)

    return undo


def _seconds(span: str | float | timedelta) -> float:
    from sysadm_nb.tables import spans

    if spans.is_number(span):
        return float(span)
    try:
        return float(spans.timespan(span).total_seconds())
    except ValueError:
        raise InputError(
            f'{span!r} is no span of time: use "1min", a number of seconds or a timedelta.'
        ) from None


def _close_rest(closers: list[Callable[[], object]], recorders: list[Any], *, wait: bool) -> None:
    """Close all, in order, also where one of them fails or is interrupted."""
    with contextlib.ExitStack() as last_first:
        for recorder in recorders:
            last_first.callback(recorder.close, wait=wait)
        for closer in reversed(closers):
            last_first.callback(closer)


def _abandon(
    fleet: Fleet, handle: loop.LoopThread, closers: list[Callable[[], object]], recorders: list[Any]
) -> None:
    """Close what a collected monitor left. May run on any thread, inside anybody's lock: never waits."""
    fleet.closed = True

    async def close() -> None:
        try:
            await fleet.close()
            _close_rest(closers, recorders, wait=False)
        except Exception:  # nobody is there to be told
            log.exception("Closing a monitor failed")

    try:
        closing = handle.start(close())
    except Closed:
        handle.release(wait=False)
        return
    handle.release_after(closing)
