"""Servers watched together: one set of tables, a session each, and what waits for something to happen.

The async core of a monitor. It runs on the loop thread, but for what its docstring says any thread may call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from sysadm_nb import wire
from sysadm_nb.client.address import Address
from sysadm_nb.client.events import ReceivedEvent
from sysadm_nb.client.login import Login
from sysadm_nb.client.session import FrameHook, Session
from sysadm_nb.errors import (
    Closed,
    ConnectionLost,
    InputError,
    RequestRefused,
    RequestTimeout,
    SysadmError,
)
from sysadm_nb.tables import Tables
from sysadm_nb.tables.jobview import JobView

if TYPE_CHECKING:
    from sysadm_nb.client.relay import Peers

log = logging.getLogger("sysadm_nb")

AT_ONCE = 50  # connections opened side by side
JOB_STATES = ("pending", "running", "finished")

Until = str | Callable[[ReceivedEvent], object]


class _Waiter(NamedTuple):
    matches: Callable[[ReceivedEvent], Any]
    server: str | None
    found: asyncio.Future[Any]


class Fleet:
    """Sessions that fill one set of tables.

    Attributes
    ----------
    tables : Tables
    sessions : dict of str to Session
        By the server's name in the tables.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.sessions: dict[str, Session] = {}
        self.closed = False
        self._waiters: list[_Waiter] = []
        self._starting: set[asyncio.Task[None]] = set()
        self._bridges: dict[str, Peers] = {}  # by the bridge's name
        # Tuples, replaced when they change: any thread may, while the loop thread goes through them.
        self._frame_hooks: tuple[FrameHook, ...] = ()
        self._event_hooks: tuple[Callable[[ReceivedEvent], object], ...] = ()

    # -- hooks (any thread) -----------------------------------------------------------------------------

    def on_frame(self, callback: FrameHook) -> Callable[[], None]:
        self._frame_hooks = (*self._frame_hooks, callback)
        self._rewire()

        def undo() -> None:
            self._frame_hooks = tuple(hook for hook in self._frame_hooks if hook is not callback)
            self._rewire()

        return undo

    def on_event(self, callback: Callable[[ReceivedEvent], object]) -> Callable[[], None]:
        self._event_hooks = (*self._event_hooks, callback)
        self._rewire()

        def undo() -> None:
            self._event_hooks = tuple(hook for hook in self._event_hooks if hook is not callback)
            self._rewire()

        return undo

    def _rewire(self) -> None:
        """Let sessions call only where somebody listens: an event costs half as much without."""
        for session in list(self.sessions.values()):
            self._wire_up(session)

    def _wire_up(self, session: Session) -> None:
        session.on_frame = self._frame_came if self._frame_hooks else None
        session.on_event = self._event_came if self._event_hooks or self._waiters else None

    def _frame_came(self, text: str, received: int, server: str, origin: str) -> None:
        for hook in self._frame_hooks:
            try:
                hook(text, received, server, origin)
            except Exception:
                log.exception("A callback for frames failed")

    def _event_came(self, event: ReceivedEvent) -> None:
        for waiter in list(self._waiters):
            if waiter.found.done() or waiter.server not in (None, event.server):
                continue
            try:
                found = waiter.matches(event)
            except StopIteration as error:  # next() found nothing, and a future cannot hold that
                waiter.found.set_exception(RuntimeError(repr(error)))
            except Exception as error:  # the caller's own condition
                waiter.found.set_exception(error)
            else:
                if found:
                    waiter.found.set_result(found)
        for hook in self._event_hooks:
            try:
                hook(event)
            except Exception:
                log.exception("A callback for events failed")

    def _session_changed(self, session: Session) -> None:
        if session.state == "connected":
            relay = session.connection.relay if session.connection else None
            if relay is not None:
                self._peers_of(session).attach(relay)
            return
        for waiter in self._waiters:
            concerned = waiter.server == session.name or (waiter.server is None and len(self.sessions) < 2)
            if concerned and not waiter.found.done():
                waiter.found.set_exception(
                    ConnectionLost(f"Waited on {session.name}, but: {session.detail or session.state}")
                )

    def _peers_of(self, bridge: Session) -> Peers:
        if bridge.name not in self._bridges:
            from sysadm_nb.client.relay import Peers

            self._bridges[bridge.name] = Peers(self, bridge)
        return self._bridges[bridge.name]

    # -- servers ----------------------------------------------------------------------------------------

    def still_open(self) -> None:
        """Raise where the monitor was closed. Any thread may ask."""
        if self.closed:
            raise Closed(
                "This monitor was closed: connect again. (One that is in no variable closes itself: "
                "monitor = sa.connect(...) first, then monitor.run(...).)"
            )

    def session(self, server: str | None = None) -> Session:
        """The session of a server; it need not be named where there is only one. Any thread may ask."""
        self.still_open()
        if server is None:
            if len(self.sessions) == 1:
                return next(iter(self.sessions.values()))
            raise InputError(f"Say which server, with server=...: there are {self._names()}.")
        try:
            return self.sessions[server]
        except KeyError:
            raise InputError(f"There is no server {server!r} here: there are {self._names()}.") from None

    def _names(self) -> str:
        names = list(self.sessions)
        return (", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")) or "none"

    def new_session(self, address: Address, login: Login, options: dict[str, Any]) -> Session:
        """A session of a name that is not taken, not started yet."""
        session = Session(address, login, self.tables, on_change=self._session_changed, **options)
        if session.name in self.sessions:
            raise InputError(f"There is a server called {session.name!r} already: give this one a name=...")
        self._wire_up(session)
        self.sessions[session.name] = session
        return session

    async def add(self, address: Address, login: Login, **options: Any) -> None:
        """Connect one more server; raises where that fails."""
        session = self.new_session(address, login, options)
        try:
            await session.start()
        except BaseException:
            self._forget(session)
            raise
        if self.closed:
            await session.close()
        elif session.name in self._bridges:
            await self._bridges[session.name].settle(options.get("timeout", 10.0))

    async def add_many(
        self, servers: Iterable[tuple[Address, Login, dict[str, Any]]], patience: float
    ) -> None:
        """Connect many; those that do not answer keep being tried in the background and disturb nobody.

        Returns when all were tried, at the latest after ``patience`` seconds.
        """
        gate = asyncio.Semaphore(AT_ONCE)

        async def start(session: Session) -> None:
            async with gate:
                await session.start(retry=True)

        before = set(self.sessions)
        try:
            sessions = [self.new_session(*server) for server in servers]
        except BaseException:  # a name that is taken: then none is added
            for name in self.sessions.keys() - before:
                del self.sessions[name]
            raise
        for session in sessions:
            task = asyncio.create_task(start(session))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
        if self._starting:
            await asyncio.wait(list(self._starting), timeout=patience)

    async def remove(self, server: str) -> None:
        """Disconnect a server; its rows stay."""
        session = self.session(server)
        peers = self._bridges.pop(session.name, None)
        if peers is not None:
            await peers.close()
            for behind in [one for one in peers.sessions if self.sessions.get(one.name) is one]:
                await self.remove(behind.name)
        await session.close()
        self._forget(session)

    def _forget(self, session: Session) -> None:
        if self.sessions.get(session.name) is session:  # not another one of that name, added since
            del self.sessions[session.name]

    async def close(self) -> None:
        """Disconnect all; whoever waits is told."""
        self.closed = True
        for waiter in self._waiters:
            if not waiter.found.done():
                waiter.found.set_exception(Closed("The monitor was closed while this call waited."))
        for peers in self._bridges.values():
            await peers.close()
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(session.close() for session in self.sessions.values()))

    # -- asking -----------------------------------------------------------------------------------------

    async def request(
        self, namespace: str, name: str, args: Any = None, *, server: str | None = None, timeout: float = 60.0
    ) -> Any:
        return await self.session(server).live().request(namespace, name, args, timeout=timeout)

    async def subscribe(self, *classes: str, server: str | None = None, timeout: float = 60.0) -> None:
        await self._each(server, lambda session: session.subscribe(*classes, timeout=timeout))

    async def unsubscribe(self, *classes: str, server: str | None = None, timeout: float = 60.0) -> None:
        await self._each(server, lambda session: session.unsubscribe(*classes, timeout=timeout))

    async def _each(self, server: str | None, ask: Callable[[Session], Awaitable[None]]) -> None:
        """Ask one server or all; where some fail, the others are asked all the same."""
        sessions = self._those(server)
        results = await asyncio.gather(*map(ask, sessions), return_exceptions=True)
        failed = {
            session.name: result
            for session, result in zip(sessions, results, strict=True)
            if isinstance(result, BaseException)
        }
        if not failed:
            return
        error = next(iter(failed.values()))
        if len(sessions) > 1:
            names = ", ".join(list(failed)[:5]) + (", ..." if len(failed) > 5 else "")
            error.add_note(f"It failed at {len(failed)} of {len(sessions)} servers: {names}.")
        raise error

    def _those(self, server: str | None) -> list[Session]:
        return list(self.sessions.values()) if server is None else [self.session(server)]

    async def sample_pools(self) -> None:
        """Ask every connected server for its pools; the replies become rows by themselves."""

        async def ask(session: Session) -> None:
            with contextlib.suppress(SysadmError):
                await session.live().request("sysadm", "zfs", {"action": "list_pools"}, timeout=30)

        await asyncio.gather(*(ask(session) for session in list(self.sessions.values())))

    # -- jobs -------------------------------------------------------------------------------------------

    async def run(self, commands: list[str], id: str, *, server: str | None, timeout: float) -> int:
        """Have a server run commands; returns which run of the process id it is."""
        session = self.session(server)
        await self._may_run(session, timeout)
        before = self.tables.job(session.name, id)
        args = {"action": "run", id: commands[0] if len(commands) == 1 else commands}
        reply = await session.live().request("rpc", "dispatcher", args, timeout=timeout)
        started = reply.get("started") if isinstance(reply, dict) else None
        if not isinstance(started, list) or id not in started:
            raise RequestRefused(f"{session.name} did not start the job {id!r}: it answered {reply!r}.")
        return self.tables.add_run(session.name, id, commands, 0 if before is None else before.run)

    async def kill(self, id: str, *, server: str | None, timeout: float) -> None:
        session = self.session(server)
        await self._may_run(session, timeout)
        args = {"action": "kill", "job_id": id}
        await session.live().request("rpc", "dispatcher", args, timeout=timeout)

    async def _may_run(self, session: Session, timeout: float) -> None:
        """Look before the call: a server ends the connection after one that is not allowed."""
        if not session.rights:
            reply = await session.live().request("rpc", "query", timeout=timeout)
            session.rights = reply if isinstance(reply, dict) else {}
        right = session.rights.get("rpc/dispatcher")
        user = session.login.user or "nobody"
        if right is None:
            raise RequestRefused(f"{session.name} has no dispatcher: it runs no commands.", 404)
        if "write" not in str(right):
            raise RequestRefused(
                f"{session.name} lets {user!r} read jobs, not run or kill them: log in as a user of the "
                "group wheel"
                " (of a server started here: serve(allow_run=True)).",
                403,
            )

    # -- waiting ----------------------------------------------------------------------------------------

    async def wait_for(
        self,
        what: Until,
        *,
        process_id: str | None = None,
        run: int | None = None,
        server: str | None = None,
        timeout: float | None = 60.0,
    ) -> JobView | ReceivedEvent:
        """Wait for a job's state, for the next event of a class, or for an event that a function accepts."""
        if self.closed or server is not None:
            self.session(server)
        matches = self._condition(what, process_id, run)
        if what in JOB_STATES and process_id is not None:
            job = self._reached(str(what), process_id, run, self._those(server))
            if job is not None:
                return job
        for session in self._those(server) if server or len(self.sessions) == 1 else ():
            session.live()  # tells at once that there is nothing to wait for
        waiter = _Waiter(matches, server, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._rewire()
        try:
            async with asyncio.timeout(timeout):
                found: JobView | ReceivedEvent = await waiter.found
                return found
        except TimeoutError:
            whom = f" of {process_id!r}" if process_id is not None else ""
            name = what if isinstance(what, str) else getattr(what, "__name__", "the condition")
            raise RequestTimeout(f"{name}{whom} did not come about within {timeout:g} s.") from None
        finally:
            self._waiters.remove(waiter)
            self._rewire()

    def _condition(
        self, what: Until, process_id: str | None, run: int | None
    ) -> Callable[[ReceivedEvent], Any]:
        if callable(what):
            return lambda event: event if what(event) else None
        if what in JOB_STATES:

            def job_there(event: ReceivedEvent) -> JobView | None:
                if event.name != "dispatcher" or event.origin not in ("live", "backfill"):
                    return None
                if process_id is not None:
                    return self._reached(what, process_id, run, [self.sessions[event.server]])
                job = self.tables.job(event.server, _process_of(event.args))
                return job if job is not None and job.state == what else None

            return job_there
        name = what.replace("_", "-")
        if name in wire.EVENT_NAMES and process_id is None:
            return lambda event: event if event.name == name and event.origin != "last" else None
        raise InputError(
            f"Cannot wait for {what!r}: wait for a job's state ({', '.join(JOB_STATES)}), an event "
            f"({', '.join(wire.EVENT_NAMES)}), or a function that takes an event and says yes."
        )

    def _reached(
        self, state: str, process_id: str, run: int | None, sessions: Iterable[Session]
    ) -> JobView | None:
        """The job, if it is in that state or has passed it."""
        for session in sessions:
            job = self.tables.job(session.name, process_id, run)
            if job is None or job.state not in JOB_STATES:
                continue
            if JOB_STATES.index(job.state) >= JOB_STATES.index(state):
                return job
        return None


def _process_of(args: Any) -> str:
    details = args.get("process_details", args) if isinstance(args, dict) else {}
    found = args.get("process_id") if isinstance(args, dict) else None
    return str(found or (details.get("process_id") if isinstance(details, dict) else "") or "")


def new_job_id() -> str:
    """A process id that nobody else uses."""
    return f"nb-{uuid.uuid4().hex[:10]}"
