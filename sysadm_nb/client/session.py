"""The session: one server, kept connected whatever happens in between, and every gap said and filled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from sysadm_nb import wire
from sysadm_nb.client.address import Address
from sysadm_nb.client.backfill import backfill
from sysadm_nb.client.connection import FAR_US, SAME_US, Connection, now_us
from sysadm_nb.client.events import ReceivedEvent
from sysadm_nb.client.login import Login
from sysadm_nb.client.opening import Verify, connect_once
from sysadm_nb.client.policy import BLOCKED_PAUSE_S, is_permanent, pause_before_retry
from sysadm_nb.errors import (
    Closed,
    ConnectionFailed,
    ConnectionLost,
    LoginBlocked,
    RequestRefused,
    RequestTimeout,
    SysadmError,
)
from sysadm_nb.tables import Tables

log = logging.getLogger("sysadm_nb")

_EVER: Final = 2**61

Connect = Callable[..., Awaitable[Connection]]
"""Makes a connection as `connect_once` does."""

FrameHook = Callable[[str, int, str, str], object]
"""Called with ``(text, received in µs, server, origin)`` for every frame that is not a reply."""


@dataclass
class Gap:
    """A time in which events were missed, by our clock and by the server's (µs)."""

    start: int
    end: int = 0
    ahead: int | None = None  # the server's clock less ours
    last_event: int | None = None  # before it, by the server's clock
    asked_for: bool = False  # with since=, so nothing was lost
    told: bool = False
    attempts: int = 0

    def by_server(self) -> tuple[int, int]:
        """Its two ends by the clock that stamps the events."""
        if self.ahead is None or self.last_event is None or abs(self.ahead) < SAME_US:
            return self.start, self.end
        if abs(self.ahead) > FAR_US:  # a demo or a replay lives in another time, which may pass faster
            return self.last_event, _EVER
        return self.start + self.ahead, self.end + self.ahead


class Session:
    """Keeps one server connected; everything in here runs on the loop thread.

    Attributes
    ----------
    state : str
        ``connecting``, ``connected``, ``waiting`` (to try again), ``refused`` (for good) or ``closed``.
    detail : str
        Why, in a sentence.
    connection : Connection or None
        The open connection, where there is one.
    rights : dict
        What the server lets this user do, from ``rpc/query``; empty while it is not known.
    """

    def __init__(
        self,
        address: Address,
        login: Login,
        tables: Tables,
        *,
        name: str = "",
        subscribe: Iterable[str] = wire.CLASSES,
        verify: Verify = "pin",
        fingerprint: str | None = None,
        timeout: float = 10.0,
        since: int | None = None,
        missing_since: int | None = None,
        give_up_after: float | None = None,
        on_frame: FrameHook | None = None,
        on_event: Callable[[ReceivedEvent], object] | None = None,
        on_change: Callable[[Session], object] | None = None,
        connect: Connect = connect_once,
        **options: Any,
    ) -> None:
        self.address = address
        self.name = name or str(address)
        self.login = login
        self.classes = list(dict.fromkeys(subscribe))
        self.state = "connecting"
        self.detail = ""
        self.changed_us = now_us()
        self.connection: Connection | None = None
        self.rights: dict[str, str] = {}
        self.on_frame = on_frame
        self.on_event = on_event
        self.on_change = on_change
        self._tables = tables
        self._verify = verify
        self._fingerprint = fingerprint
        self._timeout = timeout
        self._give_up_after = give_up_after
        self._options = options
        self._connect = connect
        self.settings = options | {
            "subscribe": self.classes,
            "timeout": timeout,
            "give_up_after": give_up_after,
        }
        """What the sessions of servers behind it, where this is a bridge, are to have too."""
        self._missing: Gap | None = None if since is None else Gap(since, asked_for=True)
        if missing_since is not None:  # a recording ends there
            self._missing = Gap(missing_since)
        self._gaps: list[Gap] = []  # over, and not fetched from the logs yet
        self._last_event: int | None = None  # by the server's clock (µs)
        self._closing = False
        self._opening: asyncio.Task[Connection] | None = None  # the first try
        self._task: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Session {self.name} {self.state}>"

    # -- life -------------------------------------------------------------------------------------------

    async def start(self, *, retry: bool = False) -> None:
        """Connect, and from then on stay connected.

        Parameters
        ----------
        retry : bool
            False raises when the first try fails; True goes on trying in the background.

        Raises
        ------
        Closed
            It was closed meanwhile, and there was no ``retry``.
        """
        connection = None
        if not self._closing:
            # A task of its own: close() can end the try without cancelling the caller.
            self._opening = asyncio.create_task(self._open(), name=f"sysadm_nb open {self.name}")
            try:
                connection = await self._opening
            except asyncio.CancelledError:
                if not self._closing:
                    if self.connection is not None:  # it came about at that very moment
                        await self.close()
                    raise
            except SysadmError as error:
                if not retry:
                    raise
                if not self._closing:
                    if is_permanent(error):
                        self._refuse(error)
                        return
                    self._note("waiting", str(error))
            except Exception as error:  # a bug of ours must not leave a session that looks as if it tried
                if not retry:
                    raise
                log.exception("The session with %s did not begin", self.name)
                self._refuse(error)
                return
        if not self._closing:
            self._task = asyncio.create_task(self._live(connection), name=f"sysadm_nb session {self.name}")
        elif not retry:
            raise Closed(f"{self.name} was removed, or its monitor closed, while it was being connected.")

    async def close(self) -> None:
        """Disconnect for good; what waits is told. Closing twice is fine."""
        if self.state == "closed":
            return
        self._closing = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        for task in (self._task, self._catching_up):
            if task is not None:
                task.cancel()
        if self.connection is not None:
            await self.connection.close()
        for task in (self._task, self._catching_up):
            if task is not None:
                await asyncio.wait([task])
        self._leave_open()
        self._note("closed", "")

    def _note(self, state: str, detail: str, row: str | None = None) -> None:
        """Change the state, and say so in the table where it is news."""
        if (state, detail) == (self.state, self.detail):
            return
        self.state, self.detail, self.changed_us = state, detail, now_us()
        self._tables.append_connection(row or state, server=self.name, time=self.changed_us, detail=detail)
        if self.on_change is not None:
            self.on_change(self)

    def _refuse(self, error: object) -> None:
        self._leave_open()
        self._note("refused", str(error))

    def _leave_open(self) -> None:
        """Say of a gap that nobody will close it."""
        if self._missing is not None and not self._missing.asked_for:
            self._row("gap", "it lasts: there is no connection any more", (self._missing.start, None))
        self._missing = None

    async def _live(self, connection: Connection | None) -> None:
        lost = asyncio.get_running_loop().time()
        try:
            while True:
                if connection is None:
                    connection = await self._reconnect(lost)
                    if connection is None:
                        return
                why = await connection.wait_lost()
                lost = asyncio.get_running_loop().time()
                await self._lose(connection, why)
                connection = None
        except Exception as error:  # a bug of ours must not leave a session that looks alive
            log.exception("The session with %s ended", self.name)
            self._refuse(error)

    async def _reconnect(self, lost: float) -> Connection | None:
        clock = asyncio.get_running_loop().time
        blocked = False
        while True:
            outage = clock() - lost
            if self._give_up_after is not None and outage > self._give_up_after:
                self._refuse(f"no connection for {outage:.0f} s: given up, as told. {self.detail}")
                return None
            pause = pause_before_retry(outage, random.random())  # noqa: S311 - nothing secret
            await asyncio.sleep(max(pause, BLOCKED_PAUSE_S) if blocked else pause)
            try:
                return await self._open()
            except SysadmError as error:
                if is_permanent(error):
                    self._refuse(error)
                    return None
                blocked = isinstance(error, LoginBlocked)
                self._note("waiting", str(error))

    async def _lose(self, connection: Connection, why: ConnectionLost) -> None:
        self.connection = None
        if self._missing is None:
            self._missing = Gap(connection.certain_us, ahead=connection.ahead_us, last_event=self._last_event)
        if self._catching_up is not None:
            self._catching_up.cancel()
            await asyncio.wait([self._catching_up])
        await connection.close()
        self._tables.lose_jobs(self.name)
        self._note("waiting", str(why), row="lost")

    # -- connecting -------------------------------------------------------------------------------------

    async def _open(self) -> Connection:
        """Connect, log in and subscribe; after that no event is missed any more."""
        connected = now_us()
        connection = await self._connect(
            self.address,
            self.login,
            verify=self._verify,
            fingerprint=self._fingerprint,
            timeout=self._timeout,
            name=self.name,
            deliver=self._take,
            **self._options,
        )
        try:
            connection.on_clock_jump = self._clock_jumped
            if self.classes and connection.relay is None:  # a bridge has no events but its own
                await connection.subscribe(*self.classes, timeout=self._timeout)
        except BaseException as error:
            await connection.close()
            if isinstance(error, ConnectionLost):
                raise ConnectionFailed(f"{self.name} hung up at the subscription: {error}") from None
            raise
        if self._missing is not None:
            self._missing.end = now_us()
            self._gaps.append(self._missing)
            self._missing = None
        self.connection = connection
        who = f"{self.login.user} at " if self.login.user else ""
        kind = "bridge" if connection.identity.get("type") == "bridge" else "server"
        host = wire.shell_text(str(connection.identity.get("hostname", "")))
        self._note("connected", f"{who}{kind} {host}".strip())
        if connection.relay is not None:
            self._gaps.clear()  # it says who is there anew, and has no logs
            return connection
        if self.classes:
            self._row("subscribed", ", ".join(self.classes))
        self._catching_up = asyncio.create_task(
            self._catch_up(connection, connected), name=f"sysadm_nb catch up {self.name}"
        )
        return connection

    def _row(self, what: str, detail: str, gap: tuple[int, int | None] | None = None) -> None:
        start, end = gap or (None, None)
        self._tables.append_connection(what, server=self.name, detail=detail, gap_start=start, gap_end=end)

    def _clock_jumped(self, seconds: float) -> None:
        way = "forward" if seconds > 0 else "back"
        by = f"{way} by {abs(seconds):.0f} s"
        self._row("clock", f"the clock jumped {by}: the machine slept, or its clock was set")

    def _take(self, frame: str | bytes, received: int, origin: str) -> wire.Message:
        message = self._tables.append(frame, received=received, server=self.name, origin=origin)
        if isinstance(message, wire.Event):
            if message.time is not None and origin == "live":
                self._last_event = message.time
        elif isinstance(message, wire.Reply):
            # of replies, those go on that made rows; never a login's, which carries the token
            if not isinstance(message.args, dict) or not message.args.keys() & {"list_pools", "jobs"}:
                return message
            origin = "polled"
        elif isinstance(message, wire.ErrorReply) or (isinstance(message, wire.Request) and message.is_login):
            return message
        if self.on_frame is not None:
            text = frame if isinstance(frame, str) else frame.decode("utf-8", "replace")
            self.on_frame(text, received, self.name, origin)
        # Last: what is nested very deep can fail to be read, and is recorded all the same.
        if self.on_event is not None and isinstance(message, wire.Event):
            self.on_event(ReceivedEvent.of(message, self.name, received, origin))
        return message

    # -- catching up ------------------------------------------------------------------------------------

    async def _catch_up(self, connection: Connection, connected: int) -> None:
        """Ask what the server lets us do, for its state as of now, and for what gaps hid."""
        try:
            try:
                self.rights = await self._ask_rights(connection)
            finally:
                for gap in self._gaps:
                    if not gap.told and not gap.asked_for:
                        self._row("gap", self._gap_detail(), (gap.start, gap.end))
                    gap.told = True
            if "sysadm/zfs" in self.rights:
                await self._quietly(connection, "sysadm", "zfs", {"action": "list_pools"})
            if "rpc/dispatcher" in self.rights:
                await self._quietly(connection, "rpc", "dispatcher", {"action": "list"})
            while self._gaps:
                # The newest first: of two in the same second it is the likelier place of an entry that
                # names only the second, and the older one then finds it there.
                await self._backfill(connection, self._gaps[-1], connected)
                self._gaps.pop()
        except ConnectionLost:
            pass  # what is left is fetched on the next connection
        except Exception:
            log.exception("Catching up with %s failed", self.name)

    async def _ask_rights(self, connection: Connection) -> dict[str, str]:
        try:
            reply = await connection.request("rpc", "query", timeout=self._timeout)
        except (RequestRefused, RequestTimeout):
            return {}
        return reply if isinstance(reply, dict) else {}

    async def _quietly(self, connection: Connection, namespace: str, name: str, args: Any) -> None:
        with contextlib.suppress(RequestRefused, RequestTimeout):  # the reply goes into the tables by itself
            await connection.request(namespace, name, args, timeout=self._timeout)

    def _gap_detail(self) -> str:
        if not self.rights:
            return "the server did not say what it offers, so its logs were not asked"
        if "rpc/logs" not in self.rights:
            return "the server has no logs to ask (or this user may not): what happened then is lost"
        return "the server's logs are asked for it"

    async def _backfill(self, connection: Connection, gap: Gap, connected: int) -> None:
        ends = (gap.start, gap.end)
        gap.attempts += 1
        if "rpc/logs" not in self.rights:
            self._row("unrecovered", self._gap_detail(), ends)
            return
        if gap.attempts > 2:  # a reply too large ends the connection, time after time
            self._row("unrecovered", "the connection broke twice while the logs were fetched", ends)
            return
        start, end = gap.by_server()
        try:
            report = await backfill(
                connection,
                self._tables,
                start=start,
                end=end,
                connected=connected,
                insert=lambda frame: self._take(frame, now_us(), "backfill"),
            )
        except (RequestRefused, RequestTimeout) as error:
            self._row("unrecovered", str(error), ends)
        else:
            self._row("backfilled", report, ends)

    # -- what others use --------------------------------------------------------------------------------

    def live(self) -> Connection:
        """The open connection.

        Raises
        ------
        ConnectionLost, Closed
            There is none now; the message says how it stands.
        """
        if self.connection is not None and self.connection.lost is None:
            return self.connection
        if self.state == "closed":
            raise Closed(f"The connection to {self.name} was closed: connect again.")
        raise ConnectionLost(f"There is no connection to {self.name} now ({self.state}): {self.detail}")

    async def subscribe(self, *classes: str, timeout: float = 60.0) -> None:
        """Subscribe now and on every connection to come."""
        await self.live().subscribe(*classes, timeout=timeout)
        self.classes = list(dict.fromkeys([*self.classes, *self.live().subscriptions]))

    async def unsubscribe(self, *classes: str, timeout: float = 60.0) -> None:
        """Unsubscribe, now and on every connection to come."""
        connection = self.live()
        await connection.unsubscribe(*classes, timeout=timeout)
        self.classes = [name for name in self.classes if name in connection.subscriptions]
