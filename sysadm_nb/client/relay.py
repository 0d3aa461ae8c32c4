"""Servers behind a bridge: one socket to the bridge, and over it a connection to each of them.

A bridge relays frames by a first line that names the peer. A `RelayLink` looks like a socket to one peer, so
that everything above it (requests, logins, sessions, gaps) is the same as for a server met directly.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from sysadm_nb import wire
from sysadm_nb.client import opening
from sysadm_nb.client.address import Address
from sysadm_nb.client.connection import Connection, Link, now_us
from sysadm_nb.client.login import Login
from sysadm_nb.errors import ConnectionFailed, ConnectionLost, LoginRefused, SysadmError

if TYPE_CHECKING:
    from sysadm_nb.client.fleet import Fleet
    from sysadm_nb.client.session import Session

log = logging.getLogger("sysadm_nb")

LEFT = 1001  # close code of a peer that is not behind the bridge any more


class RelayLink:
    """Stands for a socket (`Link`) to one peer behind a bridge.

    Parameters
    ----------
    peer : str
        The bridge's name for it: ``::{uuid}``.
    send : coroutine function
        Sends a frame to the bridge.
    """

    def __init__(self, peer: str, send: Callable[[str], Awaitable[None]]) -> None:
        self.peer = peer
        self.encoded = False
        self.loop = asyncio.get_running_loop()
        self.heard = self.loop.time()
        self.heard_us = now_us()
        self.close_code: int | None = None
        self.close_reason = ""
        self.close_exc = ConnectionError()
        self.transport = SimpleNamespace(abort=self.end)
        self._send = send
        self._frames: asyncio.Queue[str | None] = asyncio.Queue()
        self._numbers = itertools.count(1)
        self._pings: dict[str, asyncio.Future[None]] = {}

    def receive(self, body: str) -> None:
        """A frame of the peer's has come."""
        self.heard, self.heard_us = self.loop.time(), now_us()
        if self._pings and '"ping-' in body:
            message = wire.decode(body)
            waiter = self._pings.pop(str(getattr(message, "id", "")), None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
                return
        self._frames.put_nowait(body)

    def end(self, reason: str = "") -> None:
        """No more frames will come, nor go."""
        if self.close_code is None:
            self.close_code, self.close_reason = LEFT, reason
            self._frames.put_nowait(None)
            for waiter in self._pings.values():
                if not waiter.done():
                    waiter.set_result(None)  # the reader learns that it is over

    async def send(self, text: str) -> None:
        if self.close_code is not None:
            raise ConnectionLost(f"{self.peer} is not behind the bridge any more.")
        await self._send(wire.encode_relay(self.peer, text, self.encoded))

    async def ping(self) -> Awaitable[None]:
        """Ask the peer itself, not the bridge: not every bridge says that a peer has gone."""
        number = f"ping-{next(self._numbers)}"
        self._pings[number] = self.loop.create_future()
        await self.send(wire.encode("rpc", "identify", {}, number))
        return self._pings[number]

    async def close(self) -> None:
        self.end("closed here")

    async def __aiter__(self) -> AsyncIterator[str]:
        while (body := await self._frames.get()) is not None:
            yield body


class Relay:
    """What a bridge relays over one connection: frames of its peers, and the list of who is there.

    Attributes
    ----------
    peers : list of str or None
        Who is behind the bridge, as it said last; None before it said anything.
    on_peers : callable, optional
        Called when it says so anew.
    on_stranger : callable, optional
        Called with the peer and the body of a frame that no link is open for.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.peers: list[str] | None = None
        self.on_peers: Callable[[Relay], object] | None = None
        self.on_stranger: Callable[[str, str], object] | None = None
        self._links: dict[str, RelayLink] = {}
        self._deliver = connection._deliver
        connection._deliver = self._take
        self._watch = asyncio.create_task(self._end_with_the_bridge(), name="sysadm_nb relay")

    def _take(self, frame: str | bytes, received: int, origin: str) -> wire.Message:
        text = frame if isinstance(frame, str) else frame.decode("utf-8", "replace")
        if not text.startswith("{"):
            peer, body = wire.split_relay(text)
            if peer is not None:
                self._pass_on(peer, body)
                return wire.Malformed(text, "relayed")
        message = self._deliver(frame, received, origin)
        if isinstance(message, wire.Event) and message.name == "bridge" and isinstance(message.args, dict):
            listed = message.args.get("available_connections")
            self._update([str(peer) for peer in listed] if isinstance(listed, list) else [])
        return message

    def _pass_on(self, peer: str, body: str) -> None:
        if peer in self._links:
            self._links[peer].receive(body)
        elif self.on_stranger is not None:
            self.on_stranger(peer, body)

    def _update(self, peers: list[str]) -> None:
        self.peers = peers
        for peer in [peer for peer in self._links if peer not in peers]:
            self.drop(peer, "it left the bridge")
        if self.on_peers is not None:
            self.on_peers(self)

    async def _end_with_the_bridge(self) -> None:
        why = await self.connection.wait_lost()
        for peer in list(self._links):
            self.drop(peer, f"the bridge is gone: {why}")

    def link(self, peer: str) -> RelayLink:
        """A new link to a peer; the one before, if there was one, ends."""
        self.drop(peer, "taken up anew")
        self._links[peer] = RelayLink(peer, self.connection.send_frame)
        return self._links[peer]

    def drop(self, peer: str, why: str) -> None:
        """End the link to a peer, if there is one."""
        if peer in self._links:
            self._links.pop(peer).end(why)

    async def answers(self, peer: str, timeout: float) -> bool:
        """Whether a peer is there: not every bridge says that one has gone."""
        link = self._links.get(peer)
        if link is None or link.close_code is not None:
            link = self.link(peer)
        with contextlib.suppress(TimeoutError, ConnectionLost):
            async with asyncio.timeout(timeout):
                await (await link.ping())
            return peer in self._links  # it answered, or somebody else took it up
        return False

    async def identify(self, peer: str, timeout: float) -> dict[str, Any]:
        """What a peer says it is: ``type`` and ``hostname``."""
        connection = Connection(cast(Link, self.link(peer)), self.connection.address, name=peer)
        try:
            await opening.identify(connection, timeout)
            return connection.identity
        finally:
            await connection.close()

    async def open(self, peer: str, login: Login, timeout: float, **options: Any) -> Connection:
        """Connect to a peer and log in, by key: bridges pass no passwords on.

        Raises
        ------
        ConnectionFailed, LoginRefused
        """
        from sysadm_nb.client import keys  # loads cryptography

        if login.key is None:
            raise LoginRefused(
                "Servers behind a bridge take no passwords: connect with key=True, after "
                "register_key(monitor) on each of them and on the bridge."
            )
        link = self.link(peer)
        connection = Connection(
            cast(Link, link), self.connection.address, certified=self.connection.certified, **options
        )

        def encode() -> None:
            link.encoded = True

        async def log_in() -> None:
            reply = await keys.login_relayed(connection, login.key, encode=encode, timeout=timeout)
            login._accept(connection, reply)

        try:
            await opening.identify(connection, timeout)
            await log_in()
        except BaseException as error:
            await connection.close()
            if isinstance(error, ConnectionLost):
                raise ConnectionFailed(
                    f"{connection.name} left the bridge before the login was done."
                ) from None
            raise
        connection.relogin = log_in
        return connection


class Peers:
    """Keeps a session of a fleet for each server behind a bridge.

    A server is known by its host name: its name at the bridge changes with every connection it makes.
    """

    def __init__(self, fleet: Fleet, bridge: Session) -> None:
        self._fleet, self._bridge = fleet, bridge
        self._timeout: float = bridge.settings["timeout"]
        self._relay: Relay | None = None
        self._names: dict[str, str] = {}  # of the peers that are there now, by the bridge's name for them
        self._naming = asyncio.Lock()
        self._settled = asyncio.Event()
        self._meetings: set[asyncio.Task[None]] = set()
        self.sessions: list[Session] = []

    def attach(self, relay: Relay) -> None:
        """Go on with a new connection to the bridge."""
        self._relay, self._names = relay, {}
        relay.on_peers = self._changed
        if relay.peers is not None:
            self._changed(relay)

    def _changed(self, relay: Relay) -> None:
        present = relay.peers or []
        self._names = {peer: name for peer, name in self._names.items() if peer in present}
        for peer in present:
            if peer not in self._names:
                self._names[peer] = ""  # being met
                task = asyncio.create_task(self._meet(relay, peer), name=f"sysadm_nb meet {peer}")
                self._meetings.add(task)
                task.add_done_callback(self._met)
        if not self._meetings:
            self._settled.set()

    def _met(self, task: asyncio.Task[None]) -> None:
        self._meetings.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("A server behind %s could not be met: %s", self._bridge.name, task.exception())
        if not self._meetings:
            self._settled.set()

    async def _meet(self, relay: Relay, peer: str) -> None:
        identity = None
        began = asyncio.get_running_loop().time()
        while identity is None:
            try:
                identity = await relay.identify(peer, self._timeout)
            except SysadmError as error:
                log.info("A server behind %s does not answer yet: %s", self._bridge.name, error)
                await asyncio.sleep(min(60.0, 1.0 + asyncio.get_running_loop().time() - began))
            if relay is not self._relay or peer not in self._names:
                return
        if identity.get("type") != "server":
            return
        async with self._naming:
            name = await self._name(relay, wire.shell_text(str(identity.get("hostname") or peer)))
            self._names[peer] = name
        session = self._fleet.sessions.get(name)
        if session is not None and session.state != "refused":
            return  # it is trying already, and finds its server again by its name
        if session is not None:  # refused before, and may be welcome by now
            self.sessions.remove(session)
            await self._fleet.remove(name)
        login = Login(self._bridge.login.user, key=self._bridge.login.key)
        session = self._fleet.new_session(
            self._bridge.address, login, {**self._bridge.settings, "name": name, "connect": self._connect}
        )
        self.sessions.append(session)
        await session.start(retry=True)

    async def _name(self, relay: Relay, hostname: str) -> str:
        """The host's name; with a number where another one that is there has it already."""
        for number in itertools.count(1):
            name = hostname if number == 1 else f"{hostname} {number}"
            holder = next((peer for peer, known in self._names.items() if known == name), None)
            taken = name in self._fleet.sessions and self._fleet.sessions[name] not in self.sessions
            if not taken and (holder is None or not await relay.answers(holder, self._timeout)):
                if holder is not None:  # gone, and the bridge did not say so
                    self._names.pop(holder, None)
                    relay.drop(holder, "it does not answer, and is there anew")
                return name
        raise AssertionError("there are always more numbers")

    async def _connect(
        self, address: Address, login: Login, *, timeout: float = 10.0, name: str = "", **options: Any
    ) -> Connection:
        """What a peer's session connects with, in place of a socket of its own."""
        options.pop("verify", None)
        options.pop("fingerprint", None)
        peer = next((peer for peer, known in self._names.items() if known == name), None)
        if peer is None or self._relay is None or self._relay.connection.lost is not None:
            raise ConnectionFailed(f"{name} is not connected to the bridge {self._bridge.name} now.")
        return await self._relay.open(peer, login, timeout, name=name, **options)

    async def settle(self, timeout: float) -> None:
        """Wait until everybody whom the bridge named was met, or the time is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), timeout)

    async def close(self) -> None:
        """Meet nobody any more; the sessions are the fleet's to close."""
        for task in list(self._meetings):
            task.cancel()
        await asyncio.gather(*self._meetings, return_exceptions=True)
