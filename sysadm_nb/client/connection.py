"""One connection: requests matched with replies, subscriptions, and what keeps it alive."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import websockets.asyncio.client as websockets_client
from websockets.exceptions import ConnectionClosed

from sysadm_nb import wire
from sysadm_nb.client.address import Address
from sysadm_nb.client.events import ReceivedEvent, ResendMarker
from sysadm_nb.errors import ConnectionLost, InputError, LoginRefused, RequestRefused, RequestTimeout

if TYPE_CHECKING:
    from sysadm_nb.client.relay import Relay

log = logging.getLogger("sysadm_nb")

KEEP_ALIVE_S = 240.0  # a token lives 900 s, an idle connection 10 to 30 minutes, and only requests count
PING_INTERVAL_S = 10.0
PING_TIMEOUT_S = 20.0
CLOCK_JUMP_S = 5.0
SAME_US = 1_000_000  # clocks that differ by less are taken for the same
FAR_US = 60_000_000  # clocks that differ by more are not two views of the same time
CLOSE_S = 5.0
QUEUE_LIMIT = 100_000
REPLY_LIMIT = 1000  # on their way to a peer that asks and does not read

Answer = wire.Reply | wire.ErrorReply
Deliver = Callable[[str | bytes, int, str], wire.Message]
"""Takes a frame, its time of arrival (µs) and its origin; returns the frame decoded."""


def now_us() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


class Link(websockets_client.ClientConnection):
    """The socket, which remembers when it last heard anything: also half a frame is a sign of life."""

    heard = 0.0  # on the loop's clock
    heard_us = 0  # on the wall clock, which goes on while a laptop sleeps

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        self.heard_us = now_us()
        super().data_received(data)


class Connection:
    """One open connection to a SysAdm server; get one from `open_connection`.

    Iterating over it gives the events, as `ReceivedEvent`, until the connection is closed.

    Attributes
    ----------
    address : Address
    name : str
        What the server is called in the tables.
    identity : dict
        What the peer says it is: ``type`` (``server`` or ``bridge``) and ``hostname``.
    user : str or None
        Who is logged in.
    subscriptions : set of str
        Classes of events that the server sends here.
    lost : ConnectionLost or None
        Why the connection ended; None while it is open.
    dropped : int
        Events that an iteration too slow has lost.
    certified : bool
        Whether the server's certificate is pinned or verified: only then may a key answer it.
    answers : dict of str to callable
        What the peer's own requests are answered with, by ``namespace/name``.
    """

    def __init__(
        self,
        link: Link,
        address: Address,
        *,
        name: str = "",
        deliver: Deliver | None = None,
        keep_alive: float = KEEP_ALIVE_S,
        ping_interval: float = PING_INTERVAL_S,
        ping_timeout: float = PING_TIMEOUT_S,
        certified: bool = False,
        answers: Mapping[str, Callable[[Any], Any]] | None = None,
    ) -> None:
        self.address = address
        self.name = name or str(address)
        self.identity: dict[str, Any] = {}
        self.user: str | None = None
        self.subscriptions: set[str] = set()
        self.lost: ConnectionLost | None = None
        self.dropped = 0
        self.certified = certified
        self.answers: dict[str, Callable[[Any], Any]] = {"rpc/identify": _identify, **(answers or {})}
        self.relogin: Callable[[], Awaitable[None]] | None = None
        self.on_send: Callable[[], None] | None = None
        self.on_clock_jump: Callable[[float], None] | None = None
        self.certain_us = now_us()
        """What the server sent up to this time (µs) has come, as far as it can be known."""
        self.relay: Relay | None = None
        """Where the peer is a bridge: what it relays."""
        self.ahead_us: int | None = None
        """The clock that stamps the events less ours, from those that were shortest on their way (µs)."""
        self._link = link
        self._deliver = deliver or self._queue_up
        self._keep_alive = keep_alive
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._pending: dict[str, asyncio.Future[Answer]] = {}
        self._numbers = itertools.count(1)
        self._resends = ResendMarker()
        self._events: asyncio.Queue[ReceivedEvent | None] = asyncio.Queue()
        self._asked = link.loop.time()
        self._logins = 0
        self._login_lock = asyncio.Lock()
        self._subscribe_lock = asyncio.Lock()
        self._closing = False
        self._tasks = [
            asyncio.create_task(self._read(), name=f"sysadm_nb read {self.name}"),
            asyncio.create_task(self._watch(), name=f"sysadm_nb watch {self.name}"),
        ]

    def __repr__(self) -> str:
        classes = ", ".join(sorted(self.subscriptions)) or "no events"
        return f"<Connection {self.name} {f'lost: {self.lost}' if self.lost else f'open, {classes}'}>"

    # -- requests ---------------------------------------------------------------------------------------

    async def request(self, namespace: str, name: str, args: Any = None, *, timeout: float = 60.0) -> Any:
        """Ask the server for something and wait for the reply.

        Parameters
        ----------
        namespace, name : str
            The call, such as ``"sysadm", "zfs"``.
        args : JSON value, optional
            Its arguments, such as ``{"action": "list_pools"}``.
        timeout : float
            Seconds to wait for the reply.

        Returns
        -------
        JSON value
            The ``args`` of the reply.

        Raises
        ------
        RequestRefused
            The server answered with an error; its ``code`` says which.
        RequestTimeout
            No reply in time.
        ConnectionLost
            The connection ended meanwhile.
        """
        return await self._request(namespace, name, {} if args is None else args, timeout)

    async def _request(
        self,
        namespace: str,
        name: str,
        args: Any,
        timeout: float,
        numbered: Callable[[str], object] | None = None,
    ) -> Any:
        reply = await self._ask(namespace, name, args, timeout, numbered)
        if isinstance(reply, wire.ErrorReply) and reply.code == 401 and self.user and name[:4] != "auth":
            # A token lives a quarter of an hour; after a long sleep the connection can outlive it.
            await self._login_again()
            reply = await self._ask(namespace, name, args, timeout, numbered)
        if isinstance(reply, wire.Reply):
            return reply.args
        raise _refused(f"{namespace}/{name}", reply, self.name, self.user)

    async def _login_again(self) -> None:
        before = self._logins
        async with self._login_lock:
            if self._logins == before and self.user and self.relogin is not None:
                try:
                    await self.relogin()
                except LoginRefused:
                    self.user = None  # trying again would only get this address blocked
                    raise
                self._logins += 1

    async def _ask(
        self,
        namespace: str,
        name: str,
        args: Any,
        timeout: float,
        numbered: Callable[[str], object] | None,
    ) -> Answer:
        if self.lost:
            raise ConnectionLost(str(self.lost)) from None
        number = f"nb{next(self._numbers)}"
        if numbered is not None:
            numbered(number)
        reply: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[number] = reply
        try:
            async with asyncio.timeout(timeout):
                await self.send_frame(wire.encode(namespace, name, args, number))
                return await reply
        except TimeoutError:
            raise RequestTimeout(
                f"{self.name} did not answer {namespace}/{name} within {timeout:g} s: "
                "pass a longer timeout, or look at the server."
            ) from None
        finally:
            self._pending.pop(number, None)

    async def send_frame(self, text: str) -> None:
        """Send a frame as it is."""
        self._asked = self._link.loop.time()
        if self.on_send is not None:
            self.on_send()
        try:
            await self._link.send(text)
        except ConnectionClosed:
            await asyncio.wait([self._tasks[0]], timeout=5)  # it knows why
            raise self.lost or ConnectionLost(f"The connection to {self.name} ended.") from None

    async def subscribe(self, *classes: str, timeout: float = 60.0) -> None:
        """Have the server send events.

        Parameters
        ----------
        *classes : str
            ``dispatcher``, ``life-preserver``, ``system-state``; all three when none is named.
        timeout : float
            Seconds to wait for the reply.
        """
        names = _classes(classes)
        async with self._subscribe_lock:
            new = [name for name in names if name not in self.subscriptions]
            if not new:
                return  # asking again would only bring the last event once more
            asked = now_us()
            await self._request(
                "events", "subscribe", new, timeout, lambda number: self._resends.requested(number, new)
            )
            self.certain_us = max(self.certain_us, asked)
            self.subscriptions.update(new)

    async def unsubscribe(self, *classes: str, timeout: float = 60.0) -> None:
        """Have the server send no more events of these classes; of all when none is named."""
        names = _classes(classes)
        async with self._subscribe_lock:
            gone = [name for name in names if name in self.subscriptions]
            if gone:
                await self.request("events", "unsubscribe", gone, timeout=timeout)
                self.subscriptions.difference_update(gone)
                self._resends.unsubscribed(gone)

    # -- what comes -------------------------------------------------------------------------------------

    async def _read(self) -> None:
        cause: BaseException | None = None
        try:
            async for frame in self._link:
                try:
                    self._handle(frame, now_us())
                except Exception:
                    log.exception("A frame from %s could not be handled", self.name)
        except ConnectionClosed as error:
            cause = error.__cause__
        except asyncio.CancelledError:  # the loop ends, and nobody closes this any more
            self._link.transport.abort()
            raise
        finally:
            self._end(cause)

    def _handle(self, frame: str | bytes, received: int) -> None:
        origin = "live"
        if self._resends.watching:
            message = wire.decode(frame)
            if isinstance(message, wire.Event):
                origin = self._resends.origin(message)
        message = self._deliver(frame, received, origin)
        if isinstance(message, wire.Event):
            if origin == "live":
                self.certain_us = max(self.certain_us, self._happened(message.time, received))
        elif isinstance(message, (wire.Reply, wire.ErrorReply)):
            number = message.id if isinstance(message.id, str) else ""
            # At once, not when the waiter wakes up: the next frame may be a live event.
            self._resends.replied(number, isinstance(message, wire.Reply))
            waiter = self._pending.get(number)
            if waiter is not None and not waiter.done():
                waiter.set_result(message)
        elif isinstance(message, wire.Request):
            self._answer(message)

    def _happened(self, time: int | None, received: int) -> int:
        """When an event happened, by our clock; less than the arrival where it was longer on its way."""
        if time is None:
            return received
        ahead = time - received
        if self.ahead_us is None or ahead > self.ahead_us or ahead < self.ahead_us - FAR_US:
            self.ahead_us = ahead
        if abs(self.ahead_us) < SAME_US:
            return min(time, received)
        return received - (self.ahead_us - ahead)

    def _answer(self, request: wire.Request) -> None:
        if len(self._tasks) > REPLY_LIMIT:
            return
        answer = self.answers.get(f"{request.namespace}/{request.name}")
        try:
            args = None if answer is None else answer(request.args)
        except Exception:
            log.exception("A request of %s could not be answered", self.name)
            args = None
        if args is not None:
            text = wire.encode(request.namespace, "response", args, request.id)
        elif request.namespace in ("rpc", "sysadm") and isinstance(request.id, str) and request.id:
            text = wire.encode_error(404, request.id)
        else:
            return
        task = asyncio.create_task(self._reply(text))
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def _reply(self, text: str) -> None:
        with contextlib.suppress(ConnectionLost):
            await self.send_frame(text)

    def _queue_up(self, frame: str | bytes, received: int, origin: str) -> wire.Message:
        message = wire.decode(frame)
        if isinstance(message, wire.Event):
            if self._events.qsize() >= QUEUE_LIMIT:
                self._events.get_nowait()
                self.dropped += 1
            self._events.put_nowait(ReceivedEvent.of(message, self.name, received, origin))
        return message

    async def __aiter__(self) -> AsyncIterator[ReceivedEvent]:
        while True:
            event = await self._events.get()
            if event is None:
                self._events.put_nowait(None)  # the end, for whoever else iterates
                if self._closing:
                    return
                raise ConnectionLost(str(self.lost))
            yield event

    # -- staying alive ----------------------------------------------------------------------------------

    async def _watch(self) -> None:
        loop = self._link.loop
        tick = min(self._ping_interval, self._keep_alive, 5.0)
        wall, clock = time.time(), loop.time()
        while True:
            await asyncio.sleep(tick)
            jump = (time.time() - wall) - (loop.time() - clock)
            wall, clock = time.time(), loop.time()
            if abs(jump) > CLOCK_JUMP_S and self.on_clock_jump is not None:
                self.on_clock_jump(jump)
            slept = jump > CLOCK_JUMP_S  # the machine was asleep, or its clock was set
            silent = slept or loop.time() - self._link.heard >= self._ping_interval
            patience = min(self._ping_timeout, 5.0) if slept else self._ping_timeout
            if silent and not await self._answers_ping(patience):
                self._give_up(f"it did not answer a ping for {patience:g} s")
                return
            if loop.time() - self._asked >= self._keep_alive:
                await self._renew()

    async def _answers_ping(self, timeout: float) -> bool:
        """Whether anything came within the time-out: bytes of a large frame count as much as the pong."""
        sent, sent_us = self._link.loop.time(), now_us()
        try:
            async with asyncio.timeout(timeout):
                await (await self._link.ping())
            self.certain_us = max(self.certain_us, sent_us)
            return True
        except TimeoutError:
            return self._link.heard > sent
        except ConnectionClosed:
            return True  # the reader says so

    async def _renew(self) -> None:
        """Make a small request, because the server counts nothing else; ``query`` renews the token too."""
        try:
            await self.request("rpc", "query" if self.user else "identify", timeout=self._ping_timeout)
        except LoginRefused as error:  # events go on coming
            log.warning("The login at %s has run out: %s", self.name, error)
        except (RequestTimeout, RequestRefused) as error:
            log.warning("The keep-alive of %s: %s", self.name, error)
        except ConnectionLost:
            pass

    def _give_up(self, why: str) -> None:
        self.lost = ConnectionLost(f"The connection to {self.name} was given up: {why}.")
        self._link.transport.abort()

    def _end(self, cause: BaseException | None) -> None:
        if self.lost is None:
            self.lost = ConnectionLost(_why(self._link, cause, self.name, self._closing))
        for waiter in self._pending.values():
            if not waiter.done():
                waiter.set_exception(ConnectionLost(str(self.lost)))
                waiter.exception()  # a waiter that has timed out meanwhile must not be reported as forgotten
        self._events.put_nowait(None)
        self._tasks[1].cancel()  # nothing left to watch, and close() may not get that far

    async def wait_lost(self) -> ConnectionLost:
        """Wait until the connection has ended and return the reason."""
        await asyncio.wait([self._tasks[0]])
        assert self.lost is not None
        return self.lost

    async def close(self) -> None:
        """Close the connection; waiting requests end with ConnectionLost. Closing twice is fine."""
        self._closing = True
        try:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CLOSE_S):
                    await self._link.close()
        finally:  # without a farewell where it was cancelled, or no frame gets through any more
            self._link.transport.abort()
        for task in list(self._tasks[1:]):
            task.cancel()
        await asyncio.wait(self._tasks)


def _identify(args: Any) -> dict[str, str]:
    return {"type": "client", "hostname": socket.gethostname()}


def _classes(classes: tuple[str, ...]) -> list[str]:
    names = list(dict.fromkeys(name.replace("_", "-") for name in classes)) or list(wire.CLASSES)
    for name in names:
        if name not in wire.CLASSES:
            known = ", ".join(wire.CLASSES)
            raise InputError(f"There is no class of events called {name!r}: there are {known}.")
    return names


def _refused(call: str, reply: wire.ErrorReply, server: str, user: str | None) -> RequestRefused:
    advice = {
        400: f"it did not understand the arguments of {call}",
        401: f"{call} needs a login" if user is None else f"the login of {user} is no longer valid",
        403: f"{user or 'this login'} is not allowed to use {call} (a real server hangs up after this)",
        404: f"it has no {call}; request('rpc', 'query') lists what it has",
    }.get(reply.code, f"{call} failed")
    said = f"{reply.code} {wire.shell_text(reply.message)}"
    return RequestRefused(f"{server} answered {said}: {advice}.", reply.code)


def _why(link: Link, cause: BaseException | None, server: str, closing: bool) -> str:
    if closing:
        return f"The connection to {server} was closed here."
    code, reason = link.close_code, link.close_reason
    if code in (None, 1006):
        sent = link.protocol.close_sent  # websockets ended it, over what it says there
        if cause is None and sent is not None and sent.reason:
            return f"The connection to {server} was ended here: {sent.reason}."
        return f"The connection to {server} broke off{f' ({cause})' if cause else ''}."
    said = f": {wire.shell_text(reason)}" if reason else ""
    return f"{server} closed the connection (code {code}{said})."
