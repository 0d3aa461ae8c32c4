"""A server that dials out to a bridge, and serves the clients there as it serves those of its own sockets.

To the bridge it is a client: it checks the bridge's certificate and logs in by key with what clients use.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sysadm_nb import wire
from sysadm_nb.client import keys
from sysadm_nb.client.address import parse_address
from sysadm_nb.client.connection import Connection
from sysadm_nb.client.login import Login
from sysadm_nb.client.opening import Verify, connect_once
from sysadm_nb.client.policy import is_permanent, pause_before_retry
from sysadm_nb.client.relay import Relay
from sysadm_nb.errors import ConnectionLost, InputError, LoginRefused, SysadmError
from sysadm_nb.server.bridge import LIMITS as BRIDGE_LIMITS
from sysadm_nb.server.limits import Limits, Rate

if TYPE_CHECKING:
    from sysadm_nb.server.core import EventServer

log = logging.getLogger(__name__)

KEY: Final = "bridge.pem"
"""File name of the key by which a server logs in to bridges."""

REFUSED_PAUSE: Final = 660.0  # seconds; a bridge that counts failures forgets them after ten quiet minutes
KEYS_CHECK: Final = 1.0  # seconds between looks whether other keys may log in here by now
INBOX: Final = 1000  # frames of one client that may wait
_LONGEST: Final = BRIDGE_LIMITS.frame_bytes // 4  # characters that fit into a frame, whatever they are


class BridgeLink:
    """Keeps a server connected to a bridge.

    Parameters
    ----------
    server : EventServer
    url : str
        The bridge's, such as ``wss://bridge.example:12149``.
    key : Path
        The server's private key, made where there is none yet; the public one (``.pub``) must be registered
        at the bridge.
    verify, fingerprint
        Whom to trust, as in `sysadm_nb.connect`; a key answers to nobody else.
    timeout : float
        Seconds for each step of connecting.
    """

    def __init__(
        self,
        server: EventServer,
        url: str,
        key: Path,
        *,
        verify: Verify = "pin",
        fingerprint: str | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._server, self._address, self._key = server, parse_address(url), key
        self._verify, self._fingerprint, self._timeout = verify, fingerprint, timeout
        self._guests: dict[str, Guest] = {}
        self._told: list[str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None

    async def start(self) -> None:
        """Connect, and stay connected; a bridge that does not answer is tried again, after a warning.

        Raises
        ------
        CertificateUnknown, CertificateChanged, InputError
            What no later try would mend. A key that is not registered at the bridge yet may be later.
        """
        error = None
        try:
            await self._connect()
        except SysadmError as failure:
            if is_permanent(failure) and not isinstance(failure, LoginRefused):
                raise
            error = failure
            log.warning("no connection to the bridge yet: %s", self._why(error))
        self._task = asyncio.create_task(self._live(error), name=f"sysadm_nb bridge {self._address}")

    async def stop(self) -> None:
        """Leave the bridge. Stopping twice is fine."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._leave()

    async def _live(self, error: SysadmError | None) -> None:
        loop = asyncio.get_running_loop()
        lost = loop.time()
        while True:
            if self._connection is not None:
                await self._stay(self._connection)
                log.warning("the bridge is gone: %s", self._connection.lost)
                await self._leave()
                lost = loop.time()
            pause = pause_before_retry(loop.time() - lost, random.random())  # noqa: S311 - nothing secret
            await asyncio.sleep(REFUSED_PAUSE if isinstance(error, LoginRefused) else pause)
            error = None
            try:
                await self._connect()
            except SysadmError as failure:
                error = failure
                if is_permanent(error) and not isinstance(error, LoginRefused):
                    log.error("the bridge was given up: %s", error)
                    return
                log.info("no connection to the bridge: %s", self._why(error))

    def _why(self, error: SysadmError) -> object:
        if not isinstance(error, LoginRefused):
            return error
        public = self._key.with_suffix(".pub")
        return (
            f"{self._address} does not know {public}: register it there (sysadm-nb bridge key add NAME FILE)"
        )

    async def _connect(self) -> None:
        key = await asyncio.to_thread(keys.load_or_make, self._key)
        connection = await connect_once(
            self._address,
            Login("server", key=key),
            verify=self._verify,
            fingerprint=self._fingerprint,
            timeout=self._timeout,
            answers={
                "rpc/identify": lambda args: {"type": "server", "hostname": self._server.hostname},
                "rpc/settings": lambda args: self._checksums(),
            },
        )
        if connection.relay is None:
            await connection.close()
            raise InputError(f"{self._address} is a server, and no bridge to dial out to.")
        connection.relay.on_stranger = self._received
        connection.relay.on_peers = self._peers_changed
        self._connection = connection
        log.info("connected to the bridge %s", self._address)

    def _checksums(self) -> dict[str, list[str]]:
        """The keys of clients that may log in here; not this server's own."""
        self._told = self._server.key_checksums()
        return {"md5_keys": self._told}

    async def _stay(self, connection: Connection) -> None:
        """Tell the bridge whenever other keys may log in; returns when it is gone."""
        gone = asyncio.ensure_future(connection.wait_lost())
        try:
            while not (await asyncio.wait([gone], timeout=KEYS_CHECK))[0]:
                if self._told is not None and self._server.key_checksums() != self._told:
                    news = wire.encode("rpc", "response", self._checksums(), "bridge_request_list_keys")
                    with contextlib.suppress(ConnectionLost):
                        await connection.send_frame(news)
        finally:
            gone.cancel()

    async def _leave(self) -> None:
        connection, self._connection, self._told = self._connection, None, None
        for guest in list(self._guests.values()):
            guest.end()
        await asyncio.gather(*(guest.task for guest in self._guests.values()), return_exceptions=True)
        self._guests.clear()
        if connection is not None:
            await connection.close()

    # --- clients behind the bridge --------------------------------------------------------------------------

    def _peers_changed(self, relay: Relay) -> None:
        for peer in [peer for peer in self._guests if peer not in (relay.peers or ())]:
            self._guests.pop(peer).end()

    def _received(self, peer: str, body: str) -> None:
        if self._connection is None:
            return
        guest = self._guests.get(peer)
        if guest is None or guest.ended:
            guest = self._guests[peer] = Guest(self._server, self._connection, peer)
        guest.take(body)


class Guest:
    """One client behind the bridge: its requests one after another, its session, and the way back to it."""

    def __init__(self, server: EventServer, connection: Connection, peer: str) -> None:
        self._connection, self._peer = connection, peer
        self._limits: Limits = server.limits
        self._inbox: asyncio.Queue[str] = asyncio.Queue(INBOX)
        self._outbox: asyncio.Queue[str] = asyncio.Queue()
        self._waiting = 0  # characters in the outbox
        self._encoded = False  # from the second step of the login on, and only there
        self.ended = False
        self._session = server.attach(self._send, self._close, f"bridge {peer}", relayed=True)
        self.task = asyncio.create_task(self._live(), name=f"sysadm_nb guest {peer}")

    def take(self, body: str) -> None:
        """A request has come."""
        if self._inbox.full():
            log.warning("dropped %s: it asked faster than it could be answered", self._peer)
            self.end()
        else:
            self._inbox.put_nowait(body)

    def end(self) -> None:
        """The client is gone, or is to be."""
        if not self.ended:
            self.ended = True
            self._session.end()
            self.task.cancel()

    def _close(self, code: int, reason: str) -> None:
        log.info("closed %s: %s", self._peer, reason or code)
        self.end()

    def _send(self, text: str) -> None:
        frame = wire.encode_relay(self._peer, text, self._encoded)
        if len(frame) > _LONGEST and len(frame.encode("utf-8", "replace")) > BRIDGE_LIMITS.frame_bytes:
            # The bridge would close the connection, and with it those of all clients.
            log.warning("%d characters are too many for the bridge: not sent to %s", len(frame), self._peer)
            self._refuse(text)
            return
        self._waiting += len(frame)
        if self._waiting > self._limits.buffer_bytes + len(frame):
            log.warning("dropped %s: too slow, %d characters were waiting", self._peer, self._waiting)
            self.end()
        else:
            self._outbox.put_nowait(frame)

    def _refuse(self, text: str) -> None:
        """Let nobody wait for a reply that is too long to be sent."""
        message = wire.decode(text)
        if isinstance(message, wire.Reply):
            self._send(wire.encode_error(400, message.id))

    async def _live(self) -> None:
        sending = asyncio.create_task(self._send_on())
        rate = Rate(
            self._limits.requests_per_second, self._limits.request_burst, asyncio.get_running_loop().time
        )
        try:
            while True:
                await self._session.receive(await self._inbox.get())
                self._encoded = self._session.base64
                if pause := rate.take():
                    await asyncio.sleep(pause)
        finally:
            sending.cancel()

    async def _send_on(self) -> None:
        with contextlib.suppress(ConnectionLost):
            while True:
                frame = await self._outbox.get()
                await self._connection.send_frame(frame)
                self._waiting -= len(frame)
