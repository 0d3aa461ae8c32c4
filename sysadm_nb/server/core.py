"""The event server: its life from start to stop, and everything it is put together from."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
import socket as sockets_of_the_system
import time as clocks
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from websockets.asyncio.server import Server as WebSocketServer

from sysadm_nb import wire
from sysadm_nb.errors import InputError
from sysadm_nb.server import tls as certificates
from sysadm_nb.server.calls import Parts
from sysadm_nb.server.dispatcher import Dispatcher, default_environment
from sysadm_nb.server.hub import Batch, Hub
from sysadm_nb.server.keys import Keys
from sysadm_nb.server.limits import Limits
from sysadm_nb.server.login import Failures, Tokens
from sysadm_nb.server.logs import Logs
from sysadm_nb.server.session import Services, Session
from sysadm_nb.server.sockets import (
    Door,
    Socket,
    SocketCarrier,
    close_listener,
    converse,
    is_loopback,
    listen,
)
from sysadm_nb.server.source import Source
from sysadm_nb.server.users import Users

if TYPE_CHECKING:
    from sysadm_nb.server.bridge_link import BridgeLink

log = logging.getLogger(__name__)

PORT: Final = 12150
"""Where SysAdm servers listen."""

Tls = bool | None | str | Path | tuple[str | Path, str | Path]


def now() -> int:
    """Microseconds since the epoch, UTC."""
    return clocks.time_ns() // 1000


def state_folder() -> Path:
    """Where a server keeps its certificate and keys, unless told otherwise."""
    import platformdirs

    return Path(platformdirs.user_config_dir("sysadm_nb")) / "server"


class EventServer:
    """An event server on the running asyncio loop; `sysadm_nb.serve` is its face for notebooks.

    Parameters
    ----------
    host : str
        Address to listen on.
    port : int
        0 takes a free one.
    tls : bool, path, pair of paths or None
        False: none, allowed on loopback only. True: with the server's own certificate, made at its first
        start. A PEM file, or a certificate and its key. None: as the address asks for.
    users : mapping, path or None
        ``{"admin": "secret", "eve": ("other", "operator")}``, or a file written by ``sysadm-nb user add``.
        None, on loopback only: a user ``admin`` with a password made up here.
    sources : iterable of Source
        See `sysadm_nb.server.source.resolve`.
    allow_run : bool
        Whether ``wheel`` users may run commands on this machine.
    limits : Limits
    folder : path or None
        Where the certificate and registered keys are kept; None: `state_folder` for the certificate, and
        keys in memory.
    environment : mapping
        Added to the processes' environment.
    cwd : str
        Working directory of the processes.
    origins : iterable of str
        Origins of web pages that may connect.
    bridge : str, optional
        URL of a bridge to dial out to, ``wss://bridge.example:12149``: its clients are served too.
    bridge_fingerprint : str, optional
        SHA-256 of the bridge's certificate, to trust it from now on.

    Raises
    ------
    InputError
        If the arguments do not fit each other, for example an address beyond loopback without TLS.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: Tls = None,
        users: Mapping[str, str | tuple[str, str]] | str | Path | None = None,
        sources: Iterable[Source] = (),
        allow_run: bool = False,
        limits: Limits | None = None,
        folder: str | Path | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: str = "/",
        origins: Iterable[str] = (),
        bridge: str | None = None,
        bridge_fingerprint: str | None = None,
    ) -> None:
        # With port 0 each address of localhost would get a port of its own.
        self.host, self.port = "127.0.0.1" if host == "localhost" and port == 0 else host, port
        self.loopback = is_loopback(host)
        self.limits = limits or Limits()
        self._sources = list(sources)
        self._allow_run = allow_run
        self._folder = Path(folder) if folder is not None else None
        self._environment, self._cwd = dict(environment or {}), cwd
        self._origins = tuple(origins)
        self._tls = self._decide_tls(tls)
        self.credentials: tuple[str, str] | None = None
        """A user and the password, where they are known here: for whoever holds the server in hand."""
        self._users = self._decide_users(users)
        self.fingerprint: str | None = None
        """SHA-256 of the certificate; None without TLS."""
        self._clock: Callable[[], int] = now
        self._started: list[Source] = []
        self._sessions: set[Session] = set()
        self._carriers: dict[Session, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: WebSocketServer | None = None
        self._services: Services | None = None
        self._bridge = (bridge, bridge_fingerprint)
        self._link: BridgeLink | None = None

    def __repr__(self) -> str:
        return f"<EventServer {self.url if self._listener else 'not running'}>"

    # --- decisions on the arguments -------------------------------------------------------------------------

    def _decide_tls(self, tls: Tls) -> Tls:
        if tls is None:
            tls = not self.loopback
        if tls is False and not self.loopback:
            raise InputError(
                f"TLS is needed to listen on {self.host}: "
                "beyond this machine passwords would be read on the way. "
                "Leave tls out for a certificate made here, or pass your own as (certificate, key)."
            )
        return tls

    def _decide_users(self, users: Mapping[str, str | tuple[str, str]] | str | Path | None) -> Users:
        if users is None:
            if not self.loopback:
                raise InputError(
                    f"users are needed to listen on {self.host}: "
                    "pass a dict, or a file made with `sysadm-nb user add`"
                )
            users = {"admin": secrets.token_urlsafe(18)}
        checked = Users(users)
        if not len(checked):
            raise InputError("nobody could log in: there are no users")
        if isinstance(users, Mapping):
            best = sorted(
                users, key=lambda name: isinstance(users[name], tuple) and users[name][1] != "wheel"
            )
            value = users[best[0]]
            self.credentials = (best[0], value[0] if isinstance(value, tuple) else value)
        return checked

    # --- life -----------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where to connect to from this machine: ``ws://127.0.0.1:41234``."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(self.host)  # noqa: S104
        host = host or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"{'wss' if self._tls else 'ws'}://{host}:{self.port}"

    async def start(self) -> None:
        """Start the sources, then listen.

        Raises
        ------
        PortRefused
            If the port cannot be listened on.
        InputError
            If the certificate cannot be used.
        """
        loop = asyncio.get_running_loop()
        self._logs = Logs(self._time)
        self._hub = Hub(loop)
        self._dispatcher = Dispatcher(
            lambda args: self.publish("dispatcher", args), self._time, default_environment(), cwd=self._cwd
        )
        keys = Keys(self._folder / "keys.json" if self._folder else None, now)
        parts = Parts(self._dispatcher, self._logs, keys, self._allow_run)
        self._services = Services(
            users=self._users,
            tokens=Tokens(self.limits.token_life, loop.time),
            failures=Failures(self.limits, loop.time),
            hub=self._hub,
            parts=parts,
            limits=self.limits,
            hostname=sockets_of_the_system.gethostname(),
            clock=loop.time,
        )
        try:
            await self._start_sources(parts)
            await self._listen()
            await self._dial_out(*self._bridge)
        except BaseException:
            await self.stop()
            raise
        self._track(loop.create_task(self._sweep()))

    async def _start_sources(self, parts: Parts) -> None:
        assert self._services is not None
        environment = dict(self._dispatcher.environment)
        for source in self._sources:
            self._started.append(source)  # before its start: what it began must be stopped if it fails
            await source.start(self.publish)
            environment |= getattr(source, "environment", {})
            parts.sources = dict(getattr(source, "calls", {})) | parts.sources
            self._services.hostname = getattr(source, "hostname", self._services.hostname)
            self._clock = getattr(source, "clock", self._clock)
        self._dispatcher.environment = environment | self._environment

    async def _listen(self) -> None:
        context = None
        if self._tls:
            certificate, key = await self._certificate()
            context = certificates.context(certificate, key)
            self.fingerprint = certificates.fingerprint(certificate)
        door = Door(self.limits, loopback=self.loopback, origins=self._origins)
        self._listener = await listen(
            self._handle,
            self.host,
            self.port,
            door=door,
            limits=self.limits,
            track=self._track,
            tls=context,
            ping=(60, 120),  # a busy notebook may be slow to answer
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _dial_out(self, bridge: str | None, fingerprint: str | None) -> None:
        if bridge is not None:
            from sysadm_nb.server.bridge_link import KEY, BridgeLink  # loads the client

            key = (self._folder or state_folder()) / KEY
            self._link = BridgeLink(self, bridge, key, fingerprint=fingerprint)
            await self._link.start()

    async def _certificate(self) -> tuple[Path, Path | None]:
        if isinstance(self._tls, str | Path):
            return Path(self._tls), None
        if isinstance(self._tls, tuple):
            return Path(self._tls[0]), Path(self._tls[1])
        # Making a key takes a second or two, in which the loop has others to serve.
        return await asyncio.to_thread(certificates.own_certificate, self._folder or state_folder())

    async def stop(self) -> None:
        """Stop listening, close every connection, kill every job, stop every source."""
        listener, self._listener = self._listener, None
        link, self._link = self._link, None
        if link is not None:
            await link.stop()
        started, self._started = self._started, []
        for source in reversed(started):
            try:
                await source.stop()
            except Exception:
                log.exception("source %s did not stop cleanly", source.name)
        if self._services is None:
            return
        await self._dispatcher.stop()
        self._hub.flush()
        if listener is not None:
            close_listener(listener, "Server stopped")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(listener.wait_closed(), self.limits.close_timeout + 1)
        for session in list(self._sessions):
            session.end()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _time(self) -> int:
        return self._clock()

    def _track(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- clients --------------------------------------------------------------------------------------------

    async def _handle(self, socket: Socket) -> None:
        session = self._open(SocketCarrier(socket), socket.address)
        try:
            await converse(socket, session, self.limits)
        finally:
            self._forget(session)

    def _open(self, carrier: Any, address: str, *, relayed: bool = False) -> Session:
        assert self._services is not None, "the server is not running"
        session = Session(self._services, carrier, address, relayed=relayed)
        self._sessions.add(session)
        self._carriers[session] = carrier
        self._logs.note(f"New Connection: {address}")
        return session

    def _forget(self, session: Session) -> None:
        self._sessions.discard(session)
        self._carriers.pop(session, None)

    def attach(
        self,
        send: Callable[[str], None],
        close: Callable[[int, str], None],
        address: str,
        *,
        relayed: bool = False,
    ) -> Session:
        """A client that does not come over a socket of ours: a peer behind a bridge (``relayed=True``).

        ``send(text)`` and ``close(code, reason)`` are called on the loop and must not block. The carrier adds
        the peer's first line itself and, while ``session.base64``, encodes the body. Call ``session.end()``
        when the client is gone.
        """
        session = self._open(_Attached(send, close), address, relayed=relayed)
        end = session.end
        session.end = functools.partial(self._end_attached, session, end)  # type: ignore[method-assign]
        return session

    def _end_attached(self, session: Session, end: Callable[[], None]) -> None:
        end()
        self._forget(session)

    async def _sweep(self) -> None:
        """Close who did not log in, and who says nothing any more: one timer for all."""
        limits = self.limits
        pause = min(5.0, max(0.05, min(limits.login_timeout, limits.idle_timeout) / 4))
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(pause)
            time = loop.time()
            for session in list(self._sessions):
                late = not session.known and time - session.since >= limits.login_timeout
                if late or time - session.heard >= limits.idle_timeout:
                    self._carriers[session].close(1000, "")

    # --- events ---------------------------------------------------------------------------------------------

    def publish(self, name: str, args: Mapping[str, Any], time: int | None = None) -> None:
        """Send an event to its subscribers; call it on the loop.

        Parameters
        ----------
        name : str
            ``dispatcher``, ``life-preserver``, ``system-state`` (underscores are taken too), or another word,
            which goes to every client that has logged in.
        args : mapping
            The event: anything that is JSON.
        time : int, optional
            When it happened, in microseconds since the epoch, UTC; by default now.
        """
        name = name.replace("_", "-") if name.replace("_", "-") in wire.CLASSES else name
        time = self._clock() if time is None else time
        text = msgspec.Raw(wire.dump_json(args).encode("utf-8", "replace"))
        self._logs.add_event(name, args, bytes(text), time)
        self._hub.publish(name, wire.encode_event(name, text, time))

    def publish_frame(self, name: str, text: str) -> None:
        """Send a frame word for word, to those who are subscribed to ``name``; call it on the loop."""
        message = wire.decode(text)
        args = message.args if isinstance(message, wire.Event) else None
        if isinstance(message, wire.Event) and isinstance(args, dict):
            time = self._clock() if message.time is None else message.time
            self._logs.add_event(name, args, message.text.encode("utf-8", "replace"), time)
        self._hub.publish(name, text)

    def keep_last(self, name: str, text: str | None) -> None:
        """Set what is sent again at a subscribe to a class, without sending it now; call it on the loop."""
        self._hub.keep_last(name, text)

    @property
    def subscribers(self) -> int:
        """How many clients are subscribed to something."""
        return self._hub.subscribers

    @property
    def backlog(self) -> int:
        """Bytes that wait for the client that is furthest behind."""
        return max((carrier.backlog() for carrier in self._carriers.values()), default=0)

    @property
    def hostname(self) -> str:
        """The name of the watched machine, as ``identify`` gives it."""
        assert self._services is not None, "the server is not running"
        return self._services.hostname

    def key_checksums(self) -> list[str]:
        """base64(MD5(key)) of every registered key: what a bridge asks for (``list_ssl_checksums``)."""
        assert self._services is not None, "the server is not running"
        return self._services.parts.keys.checksums()

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._sessions)


class _Attached:
    """The hub's view of a client that others carry."""

    def __init__(self, send: Callable[[str], None], close: Callable[[int, str], None]) -> None:
        self.send, self.close = send, close

    def send_batch(self, batch: Batch) -> None:
        for text in batch.texts:
            self.send(text)

    def backlog(self) -> int:
        return 0  # the carrier's own business
