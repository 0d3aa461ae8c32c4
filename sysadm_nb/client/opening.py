"""From a URL to a connection that is trusted and logged in, or to the error that says why not."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any

import websockets.asyncio.client as websockets_client
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus, WebSocketException

from sysadm_nb import wire
from sysadm_nb.client import certificates
from sysadm_nb.client.address import Address
from sysadm_nb.client.connection import Connection, Link
from sysadm_nb.client.login import (
    BRIDGE_ADVICE,
    Login,
    find_password,
    must_have_user,
    password_needed,
    read_target,
)
from sysadm_nb.errors import (
    CertificateUnknown,
    ConnectionFailed,
    ConnectionLost,
    HostUnknown,
    LoginRefused,
    NotSysadm,
    PortRefused,
    RequestRefused,
    RequestTimeout,
    ServerSilent,
)

MAX_FRAME = 64 * 2**20  # a finished job's whole log is one frame

_quiet = logging.getLogger("sysadm_nb.websockets")
_quiet.setLevel(logging.INFO)  # at DEBUG it would log frames, a login's password among them

Verify = bool | str | os.PathLike[str]


class _Connect(websockets_client.connect):
    """Stays where it was sent: what is checked of an address would not hold where a redirect leads."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def open_link(address: Address, verify: Verify, fingerprint: str | None, timeout: float) -> Link:
    """Open the socket and check the certificate; nothing secret has been sent yet."""
    if fingerprint is None:
        certificates.warn_insecure(address, verify)
    if not address.secure and not address.loopback and verify is not False:
        raise ConnectionFailed(
            f"{address} is another machine and ws:// is not encrypted: use wss://. "
            "If the network in between is your own, verify=False allows it."
        )
    context = certificates.tls_context(address, verify)
    links: list[Link] = []

    def new_link(*args: Any, **options: Any) -> Link:
        links.append(Link(*args, **options))
        return links[-1]

    try:
        link = await _Connect(
            address.url,
            ssl=context,
            compression=None if address.local else "deflate",
            proxy=None if address.loopback else True,
            open_timeout=timeout,
            close_timeout=2,
            ping_interval=None,  # the connection has its own, which counts half a frame as a sign of life
            max_size=MAX_FRAME,
            logger=_quiet,
            create_connection=new_link,  # type: ignore[arg-type]
        )
    except (OSError, WebSocketException, EOFError) as error:
        spoke = any(link.heard for link in links)
        raise _explain(error, address, timeout, spoke) from error
    assert isinstance(link, Link)
    try:
        tls = link.transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        certificates.check(address, certificate, verify, fingerprint)
    except BaseException:
        link.transport.abort()
        raise
    return link


def _explain(error: Exception, address: Address, timeout: float, spoke: bool) -> ConnectionFailed:
    """The error in our tree for what the network said."""
    if isinstance(error, socket.gaierror):
        return HostUnknown(
            f"The host name {address.host!r} is not known: check its spelling, or use the IP address."
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateUnknown(
            f"The certificate of {address} is not signed by a trusted authority ({error.verify_message}). "
            "SysAdm "
            'servers sign their own: use verify="pin" to trust it by its fingerprint, or pass the CA file.'
        )
    if isinstance(error, ssl.SSLError):
        return NotSysadm(
            f"{address} does not speak TLS ({error.reason or 'broken handshake'}): is it the right port, "
            "and not a ws:// one?"
        )
    if isinstance(error, TimeoutError) and not spoke:
        return ServerSilent(
            f"{address} did not answer within {timeout:g} s: the host may be down, a firewall in between, "
            "or the "
            "server hung. Pass a longer timeout= if the way is slow."
        )
    if isinstance(error, ConnectionRefusedError) or "refused" in str(error).lower():
        return PortRefused(
            f"Nothing listens on {address}: check the port (a SysAdm server has 12150, a bridge 12149) and "
            "whether "
            "the server runs."
        )
    if isinstance(error, InvalidStatus):
        elsewhere = error.response.headers.get_all("Location")
        if elsewhere:
            return NotSysadm(
                f"{address} sends its visitors on to {wire.shell_text(elsewhere[0])!r}, which is not "
                "followed: if that is the server, connect to it by its own address."
            )
        return NotSysadm(
            f"{address} answers with HTTP status {error.response.status_code} instead of a WebSocket: that "
            "is a web "
            "server's port, or the server does not take connections from here."
        )
    if isinstance(error, (InvalidHandshake, InvalidMessage, EOFError, TimeoutError)):
        other = "wss" if not address.secure else "ws"
        return NotSysadm(
            f"{address} closed the connection or answered without a WebSocket handshake: it is no SysAdm "
            "server, or "
            f"wants {other}://."
        )
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return ConnectionFailed(
            f"There is no way to {address}: {error.strerror}. Is the network (or VPN) up?"
        )
    return ConnectionFailed(f"The connection to {address} failed: {error or type(error).__name__}.")


async def identify(connection: Connection, timeout: float) -> None:
    """Ask the peer what it is, so that a password never goes to something else.

    Raises
    ------
    ServerSilent, NotSysadm
    """
    strange: list[str] = []
    asked = asyncio.create_task(connection.request("rpc", "identify", {}, timeout=timeout))
    deliver = connection._deliver

    def look(frame: str | bytes, received: int, origin: str) -> wire.Message:
        message = deliver(frame, received, origin)
        if isinstance(message, wire.Malformed) or (isinstance(message, wire.Request) and message.id == "nb1"):
            strange.append(type(message).__name__)
            asked.cancel()
        return message

    connection._deliver = look
    try:
        identity = await asked
    except asyncio.CancelledError:
        if not strange:
            raise
        raise NotSysadm(
            f"{connection.address} is a WebSocket server, but does not speak SysAdm's protocol."
        ) from None
    except RequestTimeout:
        raise ServerSilent(
            f"{connection.address} took the connection and then said nothing for {timeout:g} s: it hangs, "
            "or is no "
            "SysAdm server."
        ) from None
    except RequestRefused:
        identity = {}  # in SysAdm's own form, so it is one
    finally:
        connection._deliver = deliver
        asked.cancel()
    if not isinstance(identity, dict) or identity.get("type") not in (None, "server", "bridge"):
        raise NotSysadm(f"{connection.address} does not say that it is a SysAdm server or bridge.")
    connection.identity = identity


async def connect_once(
    address: Address,
    login: Login,
    *,
    verify: Verify = "pin",
    fingerprint: str | None = None,
    timeout: float = 10.0,
    **options: Any,
) -> Connection:
    """Open, check, identify and log in: one try.

    Parameters
    ----------
    address, login, verify, fingerprint
        Where, who, and whom to trust.
    timeout : float
        Seconds for each step.
    **options
        Passed to `Connection`.
    """
    certified = address.secure and (verify is not False or fingerprint is not None)
    link = await open_link(address, verify, fingerprint, timeout)
    connection = Connection(link, address, certified=certified, **options)
    try:
        await identify(connection, timeout)
        if connection.identity.get("type") == "bridge":
            from sysadm_nb.client.relay import Relay

            connection.relay = Relay(connection)
            if login.user is None:
                raise LoginRefused(f"{connection.name} is a bridge. {BRIDGE_ADVICE}")
        await login(connection, timeout)
    except BaseException as error:
        await connection.close()
        if isinstance(error, ConnectionLost):
            raise ConnectionFailed(
                f"{address} ended the connection before the login was done: {error}"
            ) from None
        raise

    async def relogin() -> None:
        await login(connection, timeout, fresh=False)

    connection.relogin = relogin
    connection.on_send = login.touch
    return connection


@contextlib.asynccontextmanager
async def open_connection(
    target: Any,
    *,
    user: str | None = None,
    password: str | None = None,
    key: Any = None,
    name: str | None = None,
    verify: Verify = "pin",
    fingerprint: str | None = None,
    subscribe: Iterable[str] = (),
    timeout: float = 10.0,
) -> AsyncIterator[Connection]:
    """Open a connection to a SysAdm server: the async face, for scripts and services.

    It never asks anything: where a password or a decision about a certificate is missing, it raises. It does
    not reconnect; ``sysadm_nb.connect`` gives a monitor that does.

    Parameters
    ----------
    target : str or Server
        Such as ``wss://nas.example:12150``; port 12150 and wss where they are left out. Or what
        `sysadm_nb.serve` returned, whose login and certificate are known.
    user : str, optional
        Who logs in; nobody by default.
    password : str, optional
        By default from the environment (``SYSADM_NB_PASSWORD``) or the keyring.
    key : path or True, optional
        A private RSA key that the server knows, instead of a password; True is the one that
        `sysadm_nb.register_key` made. Servers behind a bridge take keys only.
    name : str, optional
        What to call the server; ``host:port`` by default.
    verify : {"pin", True, False} or path
        Whom to trust: see `sysadm_nb.client.certificates`.
    fingerprint : str, optional
        SHA-256 of the certificate to trust from now on.
    subscribe : iterable of str
        Classes of events to subscribe at once; none by default.
    timeout : float
        Seconds for each step of connecting.

    Yields
    ------
    Connection

    Raises
    ------
    ConnectionFailed
        Or one of its kinds: HostUnknown, PortRefused, ServerSilent, NotSysadm, CertificateUnknown,
        CertificateChanged.
    LoginRefused
        Or PasswordNeeded, LoginBlocked.
    """
    must_have_user(user, password, key)
    address, login, known = read_target(target, user, password, key)
    if known is not None and fingerprint is None:
        fingerprint, verify = known, False  # checked, and not kept: it is of this process
    if login.needs_password and login.user is not None:
        found = find_password(login.user, address)
        if found is None:
            raise password_needed(login.user, address)
        login.set_password(found)
    connection = await connect_once(
        address, login, verify=verify, fingerprint=fingerprint, timeout=timeout, name=name or ""
    )
    try:
        classes = (subscribe,) if isinstance(subscribe, str) else tuple(subscribe)
        if classes:
            await connection.subscribe(*classes)
        yield connection
    finally:
        await connection.close()
