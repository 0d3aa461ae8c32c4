"""The bridge: servers and clients both connect out to it, and it relays frames between them.

It lets in whoever proves to hold a key registered with it, shows each peer those of the other kind that have
a key in common with it, and passes frames on by the line that names their destination. It never looks into
them, but it could: the original's relay is base64, not encryption, and so is ours (docs/bridge.md).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket as sockets_of_the_system
import time as clocks
import uuid
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.server import Server as WebSocketServer

from sysadm_nb import wire
from sysadm_nb.errors import InputError
from sysadm_nb.server import tls as certificates
from sysadm_nb.server.keys import Keys
from sysadm_nb.server.limits import Limits
from sysadm_nb.server.login import Failures, random_word
from sysadm_nb.server.sockets import Door, Socket, SocketCarrier, close_listener, converse, listen

log = logging.getLogger(__name__)

PORT: Final = 12149
"""Where bridges listen."""

LIMITS: Final = Limits(
    frame_bytes=16 * 2**20,  # a finished job's log is one frame
    requests_per_second=5_000,  # each frame of a busy server's is one here
    request_burst=20_000,
)

KEYS_CHECK: Final = 2.0  # seconds between looks at the file of registered keys

_IDENT: Final = "sysadm_bridge_request_ident"
_KEYS: Final = "bridge_request_list_keys"
_MANY_KEYS: Final = 1000
_LONG: Final = 64 * 2**10  # bytes; nobody needs as many to log in


class Bridge:
    """A bridge on the running asyncio loop.

    Parameters
    ----------
    host, port : str, int
        Where to listen; port 0 takes a free one.
    folder : path
        Keeps its certificate and the keys that may log in (`keys`).
    limits : Limits, optional

    Attributes
    ----------
    keys : Keys
        The registered keys; the users' names are just names.
    fingerprint : str
        SHA-256 of its certificate, once it runs.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = PORT, *, folder: str | Path, limits: Limits | None = None
    ) -> None:
        self.host, self.port, self.folder = host, port, Path(folder)
        self.limits = limits or LIMITS
        self._stamp: tuple[int, int] | None = None
        self.read_keys()
        self.fingerprint = ""
        self.hostname = sockets_of_the_system.gethostname()
        self.failures = Failures(self.limits, clocks.monotonic)
        self._peers: dict[str, Peer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: WebSocketServer | None = None

    def __repr__(self) -> str:
        return f"<Bridge {self.url}, {len(self._peers)} connected>"

    @property
    def url(self) -> str:
        """Where to connect to; a bridge always speaks TLS."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"wss://{host}:{self.port}"

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        PortRefused
            If the port cannot be listened on.
        """
        certificate, key = await asyncio.to_thread(certificates.own_certificate, self.folder)
        self.fingerprint = certificates.fingerprint(certificate)
        door = Door(self.limits, loopback=False)
        self._listener = await listen(
            self._handle,
            self.host,
            self.port,
            door=door,
            limits=self.limits,
            track=self._track,
            tls=certificates.context(certificate, key),
            ping=(20, 40),  # who is gone is to be taken off the lists soon
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        self._track(asyncio.create_task(self._watch_keys()))

    async def stop(self) -> None:
        """Stop listening and close every connection. Stopping twice is fine."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        close_listener(listener, "Bridge stopped")
        await listener.wait_closed()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _track(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, socket: Socket) -> None:
        peer = Peer(self, SocketCarrier(socket), socket.address)
        self._peers[peer.id] = peer
        peer.request("identify", "", _IDENT)
        deadline = asyncio.get_running_loop().call_later(self.limits.login_timeout, peer.expire)
        try:
            await converse(socket, peer, self.limits)
        finally:
            deadline.cancel()
            del self._peers[peer.id]
            self.announce()

    def read_keys(self) -> None:
        """Take up the registered keys where their file has changed: another process adds to it."""
        path = self.folder / "bridge_keys.json"
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
        except OSError:
            stamp = None
        if self._stamp is None or stamp != self._stamp:
            self.keys = Keys(path, lambda: clocks.time_ns() // 1000)
            self._stamp = stamp

    async def _watch_keys(self) -> None:
        """Show those out whose key was taken away."""
        while True:
            await asyncio.sleep(KEYS_CHECK)
            try:
                self.read_keys()
            except InputError as error:
                log.error("%s", error)
                continue
            known = self.keys.listed()
            for peer in list(self._peers.values()):
                if peer.user is not None and peer.user not in known:
                    log.info("%s is not registered any more", peer.user)
                    peer.close()

    def relay(self, source: Peer, destination: str, body: str) -> None:
        """Pass a frame on where the source may see the destination; else drop it, as real bridges do."""
        target = self._peers.get(destination)
        if target is not None and target.id in (source.announced or ()):
            target.send(f"{source.id}\n{body}")

    def announce(self) -> None:
        """Tell each peer who is there, where that changed."""
        for peer in list(self._peers.values()):
            if peer.keys is not None:
                peer.announce(sorted(other.id for other in self._peers.values() if peer.sees(other)))


class Peer:
    """One connection to the bridge: a server, or a client."""

    def __init__(self, bridge: Bridge, carrier: SocketCarrier, address: str) -> None:
        self._bridge, self._carrier, self._address = bridge, carrier, address
        self.id = f"::{{{uuid.uuid4()}}}"
        self.kind = ""  # "server" or "client", as it says itself
        self.keys: set[str] | None = None  # checksums, once it has told them
        self.announced: list[str] | None = None
        self.user: str | None = None  # whose key it holds
        self._challenge: tuple[str, float] | None = None

    def send(self, text: str) -> None:
        self._carrier.send(text)

    def request(self, name: str, args: Any, id: str) -> None:
        """Ask the peer."""
        self.send(wire.encode("rpc", name, args, id))

    def expire(self) -> None:
        if self.user is None:
            self.close()

    def close(self) -> None:
        self._carrier.close(1000, "")

    def end(self) -> None:
        self.keys = None

    def sees(self, other: Peer) -> bool:
        """Whether a frame may go from here to the other: of the other kind, and with a key in common."""
        return self.kind != other.kind and bool((self.keys or set()) & (other.keys or set()))

    def announce(self, visible: list[str]) -> None:
        if visible != self.announced:
            self.announced = visible
            now = clocks.time_ns() // 1000
            self.send(wire.encode_event("bridge", {"available_connections": visible}, now))

    @property
    def known(self) -> bool:
        return self.user is not None

    async def receive(self, text: str | bytes) -> None:
        if self.user is None and len(text) > _LONG:
            self._carrier.close(1009, "")
            return
        text = text if isinstance(text, str) else text.decode("utf-8", "replace")
        if text.startswith("{"):
            self._converse(text)
            return
        destination, newline, body = text.partition("\n")
        if newline and self.keys is not None:
            self._bridge.relay(self, destination, body)

    def _converse(self, text: str) -> None:
        """A frame for the bridge itself. What makes no sense gets no answer, as with real bridges."""
        try:
            message = wire.parse_json(text)
        except wire.NotJson:
            return
        if not isinstance(message, dict):
            return
        namespace, name, id, args = (message.get(key) for key in ("namespace", "name", "id", "args"))
        if name == "response":
            self._told(id, args if isinstance(args, dict) else {})
        elif name == "auth_clear":
            self.user, self.keys, self.announced = None, None, None
            self._bridge.announce()
        elif (
            isinstance(namespace, str) and isinstance(name, str) and name != "error" and id not in (None, "")
        ):
            answer = self._answer(f"{namespace}/{name}".lower(), args)
            self.send(
                wire.encode(namespace, "response", answer, id)
            )  # an id of any type goes back as it came

    def _told(self, id: Any, args: dict[str, Any]) -> None:
        """A reply to what the bridge asked."""
        if id == _IDENT and not self.kind:
            self.kind = "server" if args.get("type") == "server" else "client"
        elif id == _KEYS and self.user is not None:
            listed = args.get("md5_keys")
            listed = listed if isinstance(listed, list) else []
            self.keys = {key for key in listed[:_MANY_KEYS] if isinstance(key, str)}
        else:
            return
        self._bridge.announce()

    def _answer(self, call: str, args: Any) -> Any:
        if call == "rpc/identify":
            return {"hostname": self._bridge.hostname, "type": "bridge"}
        if call == "rpc/auth_ssl":
            return self._log_in(args if isinstance(args, dict) else {})
        if call in ("rpc/auth", "rpc/auth_token"):
            return ["", 0]  # a bridge knows no passwords
        return None

    def _log_in(self, args: dict[str, Any]) -> Any:
        now, limits = clocks.monotonic(), self._bridge.limits
        proof = args.get("encrypted_string")
        if proof is None:
            self._challenge = random_word(40), now + limits.challenge_life
            return {"test_string": self._challenge[0]}
        (word, expires), self._challenge = self._challenge or ("", 0.0), None
        failures = self._bridge.failures
        if failures.blocked(self._address):
            self._carrier.close(1000, "Too Many Authorization Failures - Try again later")
            return ["", 0]
        user = None
        if isinstance(proof, str) and now <= expires:
            self._bridge.read_keys()
            user = self._bridge.keys.who(word, proof)
        if user is None:
            log.warning("failed login from %s", self._address)
            failures.failed(self._address)
            return ["", 0]
        failures.succeeded(self._address)
        log.info("%s logged in from %s as a %s", user, self._address, self.kind or "client")
        self.user = user
        asyncio.get_running_loop().call_soon(
            self.request, "settings", {"action": "list_ssl_checksums"}, _KEYS
        )
        return [secrets.token_urlsafe(30), 0]
