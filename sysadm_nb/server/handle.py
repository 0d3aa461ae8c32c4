"""`serve` and `Server`: an event server for people who are not writing asyncio programs."""

from __future__ import annotations

import contextlib
import html
import logging
import weakref
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sysadm_nb import loop, wire
from sysadm_nb.errors import Closed, InputError, PortRefused, SysadmError
from sysadm_nb.server.core import EventServer, Tls
from sysadm_nb.server.limits import Limits
from sysadm_nb.server.source import Source, resolve

log = logging.getLogger(__name__)

_running: weakref.WeakSet[Server] = weakref.WeakSet()


class Server:
    """A running event server; get one from `serve`. It stops with ``stop()``, or when nobody holds it.

    Examples
    --------
    >>> from sysadm_nb.server import serve
    >>> with serve(sources=[]) as server:
    ...     server.publish("ups", {"battery": "97%"})
    """

    def __init__(self, server: EventServer) -> None:
        self._server = server
        self._loop = loop.acquire()
        try:
            self._loop.run(server.start())
        except PortRefused as error:
            self._loop.release()
            for other in list(_running):
                if not other.closed and other._server.port == server.port:
                    raise PortRefused(
                        f"Port {server.port} is that of {other.url}, a server of this process that runs: "
                        "stop() it first, as a cell that is run again has to, or choose 0 for a free port."
                    ) from error
            raise
        except BaseException:
            self._loop.release()
            raise
        # Without a reference to self: a server that nobody holds any more is to stop.
        self._finalizer = weakref.finalize(self, _abandon, server, self._loop)
        self._finalizer.atexit = False  # what is still held then is stopped by close_all, which waits
        self._stopped = False
        _running.add(self)

    @property
    def url(self) -> str:
        """Where to connect to, for example ``ws://127.0.0.1:41234``."""
        return self._server.url

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 of the certificate, to compare with what a client shows; None without TLS."""
        return self._server.fingerprint

    @property
    def credentials(self) -> tuple[str, str] | None:
        """A user and the password, where this process knows them, for `sysadm_nb.connect(server)`."""
        return self._server.credentials

    @property
    def closed(self) -> bool:
        """Whether the server has been stopped."""
        return self._stopped

    def publish(self, name: str, args: Mapping[str, Any], time: datetime | int | None = None) -> None:
        """Send an event to all subscribers, from any thread.

        Parameters
        ----------
        name : str
            ``dispatcher``, ``life-preserver``, ``system-state``, or another word, which every client that
            has logged in gets.
        args : mapping
            The event: anything that is JSON.
        time : datetime or int, optional
            When it happened (an int is microseconds since the epoch, UTC); by default now.

        Raises
        ------
        Closed
            If the server was stopped.
        InputError
            If `time` has no zone, or is neither a datetime nor an int.
        """
        if self._stopped:
            raise Closed("this server was stopped: start another with sysadm_nb.serve(...)")
        if not isinstance(time, datetime | int | None):
            raise InputError(f"time={time!r} is no datetime, and no number of microseconds either")
        # A copy made now: the caller may go on changing the dict.
        frozen = wire.parse_json(wire.dump_json(args))
        moment = wire.to_microseconds(time) if isinstance(time, datetime) else time
        self._loop.call(self._server.publish, name, frozen, moment)

    def stop(self) -> None:
        """Close every connection, kill every job, stop every source. Stopping twice is fine."""
        if self._stopped:
            return
        self._stopped = True
        self._finalizer.detach()
        if loop.on_loop_thread():  # in a callback: it goes on by itself
            _abandon(self._server, self._loop)
            return
        with contextlib.suppress(Closed):  # the loop thread is gone, and with it all that ran on it
            self._loop.run_and_release(self._server.stop(), timeout=60)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _facts(self) -> tuple[str, str]:
        if self._stopped:
            return "stopped", "start another with sysadm_nb.serve(...)"
        clients = self._server.clients
        users = "nobody connected" if not clients else f"{clients} client{'s' if clients > 1 else ''}"
        return f"{self.url}, {users}", "connect with sysadm_nb.connect(server), stop with .stop()"

    def __repr__(self) -> str:
        state, advice = self._facts()
        return f"<Server {state}; {advice}>"

    def _repr_html_(self) -> str:
        state, advice = self._facts()
        lines = [f"<b>Event server</b> {html.escape(state)}"]
        if self.fingerprint and not self._stopped:
            lines.append(f"certificate SHA-256 <code>{html.escape(self.fingerprint)}</code>")
        lines.append(f"<i>{html.escape(advice)}</i>")
        return "<div>" + "<br>".join(lines) + "</div>"


def _abandon(server: EventServer, handle: loop.LoopThread) -> None:
    """Stop a server without waiting for it: on the loop thread, or on any where its handle is collected."""
    try:
        stopping = handle.start(server.stop())
    except SysadmError:
        handle.release(wait=False)
        return
    handle.release_after(stopping)


def close_all() -> None:
    """Stop every server of this process."""
    for server in list(_running):
        server.stop()


def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tls: Tls = None,
    users: Mapping[str, str | tuple[str, str]] | str | Path | None = None,
    sources: str | Source | Iterable[str | Source] = "local",
    allow_run: bool = False,
    limits: Limits | None = None,
    folder: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: str = "/",
    origins: Iterable[str] = (),
    bridge: str | None = None,
    bridge_fingerprint: str | None = None,
) -> Server:
    """Start an event server in this process.

    It runs on a thread of its own: cells and scripts go on meanwhile.

    Parameters
    ----------
    host : str
        Address to listen on; beyond loopback TLS and ``users`` are needed.
    port : int
        0 takes a free one; SysAdm servers use 12150.
    tls : bool, path, pair of paths or None
        False: none, on loopback only. True: with the server's own certificate, made at its first start. A PEM
        file, or a certificate and its key. None: True beyond loopback.
    users : mapping or path, optional
        ``{"admin": "secret", "eve": ("other", "operator")}``, or a file written by ``sysadm-nb user add``. On
        loopback it may be left out: then a password is made up, and ``sysadm_nb.connect(server)`` knows it.
    sources : str, Source or list of them
        What to report: ``"local"`` (this machine's pools, snapshots and replications), ``"demo"`` (a
        simulated machine), or objects of your own, see `sysadm_nb.server.source`.
    allow_run : bool
        Whether ``wheel`` users may run commands here, with the rights of this process.
    limits : Limits, optional
        Time-outs and bounds.
    folder : path, optional
        Keeps the certificate and registered keys.
    environment : mapping, optional
        Added to the environment of commands.
    cwd : str
        Working directory of commands.
    origins : iterable of str, optional
        Origins of web pages that may connect; others are refused.
    bridge : str, optional
        URL of a bridge to dial out to, ``wss://bridge.example:12149``: its clients are served too. They log
        in by key; what a bridge relays it could read.
    bridge_fingerprint : str, optional
        SHA-256 of the bridge's certificate, to trust it from now on.

    Returns
    -------
    Server

    Raises
    ------
    InputError
        If the arguments do not fit each other.
    PortRefused
        If the port is taken.

    Examples
    --------
    >>> from sysadm_nb.server import serve
    >>> server = serve(users={"admin": "secret"}, sources=[])
    >>> server.url.startswith("ws://127.0.0.1:")
    True
    >>> server.stop()
    """
    return Server(
        EventServer(
            host,
            port,
            tls=tls,
            users=users,
            sources=resolve(sources),
            allow_run=allow_run,
            limits=limits,
            folder=folder,
            environment=environment,
            cwd=cwd,
            origins=origins,
            bridge=bridge,
            bridge_fingerprint=bridge_fingerprint,
        )
    )
