"""The door: WebSockets in, one session each, and frames written straight to their transports."""

from __future__ import annotations

import asyncio
import contextlib
import http
import ipaddress
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import SEND_EOF, State

from sysadm_nb.errors import InputError, PortRefused
from sysadm_nb.server.hub import Batch, frame
from sysadm_nb.server.limits import Limits, Rate

log = logging.getLogger(__name__)

ORIGINS: Final = ("sysadm-client",)
"""Origins let in besides none at all: that of the original client. A web page always names another."""

_ANSWERED_CROWD: Final = 1.25
_STRANGER_BYTES: Final = 64 * 2**10  # that wait for who has not logged in: nobody needs as many for that
_QUEUED: Final = 1  # messages received and not looked at yet; the rest waits at the sender's

TOO_SLOW: Final = 1008
"""Close code (policy violation) for a client that is too far behind."""


def is_loopback(host: str) -> bool:
    """Whether a host name or address to listen on reaches only this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address_of(peer: Any) -> str:
    """What limits count by: the IPv4 address, or the /64 network of an IPv6 one (one host owns it all)."""
    text = str(peer[0]) if isinstance(peer, tuple) and peer else "unknown"
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return str(ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)


class Door:
    """Counts who is inside, and turns away who must not come in."""

    def __init__(self, limits: Limits, *, loopback: bool, origins: Iterable[str] = ()) -> None:
        self._limits, self._loopback = limits, loopback
        self._origins = {*ORIGINS, *origins}
        self._inside: Counter[str] = Counter()
        self._total = 0
        # A process without a file number left cannot even run a command or read a log.
        self._most = min(limits.connections, max(1, _files_at_most() // 2))

    def enter(self, address: str) -> bool:
        """Count a connection; False if there are so many that this one is not even answered."""
        self._inside[address] += 1
        self._total += 1
        return self._crowd(address) <= _ANSWERED_CROWD

    def _crowd(self, address: str) -> float:
        """How full it is: above 1 there are too many, of this address or altogether."""
        of_one = self._inside[address] / self._limits.connections_per_address
        return max(self._total / self._most, of_one)

    def leave(self, address: str) -> None:
        self._total -= 1
        self._inside[address] -= 1
        if not self._inside[address]:
            del self._inside[address]

    def check(self, connection: Socket, request: Request) -> Response | None:
        """Look at the HTTP request: None lets it in."""
        if self._crowd(connection.address) > 1:
            log.warning("too many connections: turned %s away", connection.address)
            return connection.respond(
                http.HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections, from you or altogether.\n"
            )
        origins = request.headers.get_all("Origin")
        if any(origin not in self._origins for origin in origins):
            log.warning("refused %s: a web page of %.100r", connection.address, origins[0])
            return connection.respond(
                http.HTTPStatus.FORBIDDEN, "Web pages may not connect to this server.\n"
            )
        host = request.headers.get_all("Host")
        # A page that had its own name resolve to 127.0.0.1 would say that name here.
        if self._loopback and (len(host) != 1 or not is_loopback(_host_name(host[0]))):
            log.warning("refused %s: it asked for host %.100r", connection.address, host)
            return connection.respond(
                http.HTTPStatus.MISDIRECTED_REQUEST, "This server answers to localhost only.\n"
            )
        return None


def _files_at_most() -> int:
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return 2**31
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def _host_name(host: str) -> str:
    name, colon, port = host.rpartition(":")
    name = name if colon and port.isdigit() else host
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name


class Socket(ServerConnection):
    """A WebSocket that is counted from its first byte on, and that writes ready-made frames."""

    door: Door
    limits: Limits
    track: Callable[[asyncio.Task[None]], None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.address = address_of(transport.get_extra_info("peername"))
        self.closing = False
        self.room = min(_STRANGER_BYTES, self.limits.buffer_bytes)
        if not self.door.enter(self.address):
            # No answer and no line in the log: a flood is to cost as little as can be.
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
        super().connection_made(transport)

    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super().handshake(*args, **kwargs)
        except asyncio.CancelledError:
            self.transport.abort()  # the loop winds up; websockets does this after errors only
            raise

    def trust(self) -> None:
        """The client has logged in: as much may wait for it as the limits say."""
        self.room = self.limits.buffer_bytes

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.leave(self.address)
        super().connection_lost(exc)

    def send_data(self) -> None:
        """What websockets itself has to send: the handshakes, and a pong for every ping.

        In one write, and none to a transport that has lost its peer: asyncio logs a warning for each, and
        strangers could fill the log.
        """
        pieces = self.protocol.data_to_send()
        if self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() > 2 * self.room:
            self.transport.abort()  # somebody who sends pings and reads no pong
            return
        if data := b"".join(pieces):  # asyncio refuses even nothing after the end was written
            self.transport.write(data)
        if SEND_EOF in pieces:
            if self.transport.can_write_eof():
                with contextlib.suppress(OSError, RuntimeError):
                    self.transport.write_eof()
            else:
                self.transport.close()

    def _write(self, data: bytes) -> None:
        if self.closing or self.protocol.state is not State.OPEN or self.transport.is_closing():
            return
        behind = self.transport.get_write_buffer_size()
        if behind > self.room:
            log.warning("closed %s: too slow, %d bytes were waiting", self.address, behind)
            self.shut(TOO_SLOW, f"Too slow: more than {self.room} bytes were waiting for you")
        else:
            self.transport.write(data)

    # The Carrier face; `send` and `close` of the base class are coroutines that wait for the client.

    def send_text(self, text: str) -> None:
        self._write(frame(text))

    def send_batch(self, batch: Batch) -> None:
        self._write(batch.framed)

    def backlog(self) -> int:
        return self.transport.get_write_buffer_size()

    def shut(self, code: int, reason: str) -> None:
        """Close after what was written so far, within the close time-out; never waits."""
        if not self.closing:
            self.closing = True
            self.track(asyncio.get_running_loop().create_task(self._shut(code, reason)))

    async def _shut(self, code: int, reason: str) -> None:
        deadline = asyncio.get_running_loop().call_later(self.close_timeout or 10, self.transport.abort)
        try:
            await self.close(code, reason)
        finally:
            deadline.cancel()


async def listen(
    handle: Callable[[Socket], Awaitable[None]],
    host: str,
    port: int,
    *,
    door: Door,
    limits: Limits,
    track: Callable[[asyncio.Task[None]], None],
    tls: ssl.SSLContext | None,
    ping: tuple[float, float],
) -> Server:
    """Take WebSockets.

    Parameters
    ----------
    handle : coroutine function
        Gets each `Socket`; it is closed when that returns.
    host, port : str, int
        Where; port 0 takes a free one.
    door, limits, track
        What every socket works with.
    tls : SSLContext or None
    ping : (float, float)
        Seconds between pings, and until a missing answer ends the connection.

    Raises
    ------
    PortRefused
        If the port cannot be listened on.
    InputError
        If it is no port.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"port {port} cannot be: use one from 1 to 65535, or 0 for a free one")

    class OurSocket(Socket):  # websockets makes the connections: what they share goes in by the class
        pass

    OurSocket.door, OurSocket.limits = door, limits
    OurSocket.track = staticmethod(track)
    try:
        return await serve(
            handle,  # type: ignore[arg-type]
            host,
            port,
            ssl=tls,
            create_connection=OurSocket,
            process_request=door.check,  # type: ignore[arg-type]
            server_header=None,
            compression=None,
            max_size=limits.frame_bytes,
            max_queue=_QUEUED,
            open_timeout=limits.open_timeout,
            close_timeout=limits.close_timeout,
            ping_interval=ping[0],
            ping_timeout=ping[1],
            logger=_quiet_logger(),
        )
    except OSError as error:
        raise PortRefused(
            f"cannot listen on {host} port {port}: {error.strerror or error}. "
            "Another server may have it: choose another port, or 0 for a free one."
        ) from error


def close_listener(listener: Server, reason: str) -> None:
    """Stop listening and close every connection; ``listener.wait_closed()`` waits for that."""
    stop_accepting(listener)
    listener.close(code=1001, reason=reason)  # in the next pass of the loop


def stop_accepting(server: Server | asyncio.Server) -> None:
    """Accept no more clients: what has to come one pass of the loop, or more, before a server is closed.

    asyncio accepts in one pass and makes the transport in the next. A server closed in between leaves
    that socket open, and nobody to close it (python/cpython#109564).
    """
    loop = server.get_loop()
    for socket in server.sockets:
        with contextlib.suppress(NotImplementedError):  # Windows, whose loop has no readers
            loop.remove_reader(socket.fileno())


def _quiet_logger() -> logging.Logger:
    """Failed handshakes are everyday life on an open port: they are told at level DEBUG only."""
    logger = logging.getLogger(f"{__name__}.websockets")
    logger.setLevel(logging.CRITICAL)
    return logger


class SocketCarrier:
    """The hub's and the session's view of a `Socket`."""

    __slots__ = ("backlog", "close", "send", "send_batch")

    def __init__(self, socket: Socket) -> None:
        self.send = socket.send_text
        self.send_batch = socket.send_batch
        self.close = socket.shut
        self.backlog = socket.backlog


class Listener(Protocol):
    """What a socket's messages go to: a session, or a bridge's peer."""

    @property
    def known(self) -> bool: ...

    async def receive(self, text: str | bytes) -> None: ...

    def end(self) -> None: ...


async def converse(socket: Socket, session: Listener, limits: Limits) -> None:
    """Feed a session with what its socket receives, until either ends."""
    loop = asyncio.get_running_loop()
    rate = Rate(limits.requests_per_second, limits.request_burst, loop.time)
    try:
        while not socket.closing:
            # decode=False: real servers take binary messages as text, and so bytes that are no UTF-8
            message = await socket.recv(decode=False)
            await session.receive(message)
            if session.known:
                socket.trust()
            if pause := rate.take():
                await asyncio.sleep(pause)
        while True:  # returning closes too, and faster: the reason would be lost
            await socket.recv(decode=False)  # dropped; without it the client's own close would not be read
    except ConnectionClosed:
        pass
    finally:
        session.end()
