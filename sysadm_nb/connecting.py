"""How monitors come and go: `connect`, `demo`, `close_all`, and re-run cells."""

from __future__ import annotations

import atexit
import gc
import sys
import types
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from sysadm_nb import loop, wire
from sysadm_nb.client import Address, Login, certificates
from sysadm_nb.client.backfill import parse_since
from sysadm_nb.client.connection import now_us
from sysadm_nb.client.login import (
    ask_password,
    find_password,
    must_have_user,
    password_needed,
    read_target,
)
from sysadm_nb.client.opening import Verify
from sysadm_nb.errors import CertificateUnknown, InputError, PasswordNeeded
from sysadm_nb.monitor import Monitor, open_monitors
from sysadm_nb.tables import Tables
from sysadm_nb.tables.spans import is_number, seconds_to_wait


def connect(
    target: Any,
    *,
    user: str | None = None,
    password: str | None = None,
    key: Any = None,
    name: str | None = None,
    verify: Verify = "pin",
    fingerprint: str | None = None,
    subscribe: Iterable[str] = wire.CLASSES,
    since: Any = None,
    timeout: float = 10.0,
    give_up_after: float | None = None,
    record: str | Path | None = None,
    tables: Tables | None = None,
) -> Monitor:
    """Watch a server, or many.

    The monitor stays connected: after a loss it reconnects, logs in and subscribes again, marks the gap in
    ``monitor.connection`` and fills it from the server's logs.

    Parameters
    ----------
    target : str, Server, or a list or dict of them
        ``"wss://nas.example:12150"``, what `serve` returned, or many; a dict names them. One server that
        cannot be reached raises; of many it is tried again in the background.
    user : str, optional
        Who logs in. To a server in this process that made up its own password nobody needs to be named.
    password : str, optional
        By default from the environment (``SYSADM_NB_PASSWORD``), the keyring, or asked for once.
    key : path or True, optional
        A private RSA key that the server knows, instead of a password; True is the one that
        `sysadm_nb.register_key` made. Servers behind a bridge take keys only.
    name : str, optional
        What to call the server in the tables; ``host:port`` by default.
    verify : {"pin", True, False} or path
        Whom to trust. ``"pin"``: the certificate seen at the first connection, after asking. True: the
        system's authorities. A path: those in that file. False: anybody, which every connection warns about.
    fingerprint : str, optional
        SHA-256 of the certificate to trust from now on.
    subscribe : iterable of str
        Classes of events: all three by default.
    since : str, timedelta or datetime, optional
        Also fetch what happened since, from the server's logs: ``"24h"``.
    timeout : float
        Seconds for each step of connecting.
    give_up_after : float, optional
        Seconds after which a lost connection is given up; by default never.
    record : path, optional
        A recording as memory: what is in it already comes into the tables, what was missed since is fetched
        from the server's logs, and what comes now is recorded.
    tables : Tables, optional
        Tables to fill; new ones by default.

    Returns
    -------
    Monitor

    Raises
    ------
    ConnectionFailed
        Or the kind of it that says why: HostUnknown, PortRefused, ServerSilent, NotSysadm,
        CertificateUnknown, CertificateChanged.
    LoginRefused
        Or PasswordNeeded, LoginBlocked.

    Examples
    --------
    >>> import sysadm_nb as sa
    >>> server = sa.serve(sources=[])
    >>> monitor = sa.connect(server, name="here")
    >>> monitor.servers[0].state
    'connected'
    >>> monitor.close(); server.stop()
    """
    monitor = Monitor(tables)
    try:
        add(
            monitor,
            target,
            user=user,
            password=password,
            key=key,
            name=name,
            verify=verify,
            fingerprint=fingerprint,
            subscribe=subscribe,
            since=since,
            timeout=timeout,
            give_up_after=give_up_after,
            record=record,
        )
    except BaseException:
        monitor.close()
        raise
    _watch_cells()
    return monitor


def demo(*, seed: int = 0, speed: float = 1.0, history: str | timedelta = "30D") -> Monitor:
    """A simulated storage server in this kernel, and a monitor on it.

    Pools fill, snapshots come and go, disks fail; commands such as ``zpool scrub tank`` act on the simulated
    pools, and everything else runs for real. Nothing of this machine is looked at or changed by it.

    Parameters
    ----------
    seed : int
        Equal seeds give equal machines.
    speed : float
        Seconds of its clock in a second of ours.
    history : str or timedelta
        How long it has been running; that is in the tables at once, with the origin ``backfill``.

    Returns
    -------
    Monitor
        Its ``server`` stops with it.
    """
    from sysadm_nb.server import serve
    from sysadm_nb.server.demo import DemoMachine

    machine = DemoMachine(seed, speed, history, hold=True)
    tables = Tables()
    for time, frame in machine.past():
        tables.append(frame, received=time, server="demo", origin="backfill")
    server = serve(sources=[machine], allow_run=True)
    try:
        monitor = connect(server, name="demo", tables=tables)
    except BaseException:
        server.stop()
        raise
    monitor.server = server
    monitor.on_close(server.stop)
    monitor.loop.call(machine.release)
    return monitor


@atexit.register
def close_all() -> None:
    """Close every monitor, and stop every server, of this process."""
    for monitor in list(open_monitors):
        monitor.close()
    server = sys.modules.get("sysadm_nb.server.handle")
    if server is not None:
        server.close_all()


def add(
    monitor: Monitor,
    target: Any,
    *,
    user: str | None = None,
    password: str | None = None,
    key: Any = None,
    name: str | None = None,
    fingerprint: str | None = None,
    since: Any = None,
    timeout: float = 10.0,
    record: str | Path | None = None,
    heard: Mapping[str, int] | None = None,
    **options: Any,
) -> None:
    """Connect a monitor to one more server, or many; the arguments are those of `connect`.

    ``heard`` says up to when (µs) each server is known already, by name: what was missed since is fetched.
    """
    since_us = parse_since(since, now_us())
    if "subscribe" in options:
        classes = options["subscribe"]
        options["subscribe"] = (classes,) if isinstance(classes, str) else tuple(classes)
    give_up = options.get("give_up_after")
    if not (give_up is None or is_number(give_up)):  # found out at the first loss it would end the session
        raise InputError(f"give_up_after={give_up!r} is no number of seconds, such as 3600 for an hour.")
    timeout = seconds_to_wait(timeout)
    must_have_user(user, password, key)
    heard = heard or {}
    if record is not None:
        from sysadm_nb import recording

        heard = recording.remember(monitor.tables, record)
        monitor.record(record)
    many = not (isinstance(target, str) or hasattr(target, "url"))
    if many and name is not None:
        raise InputError("name= is for one server: for many pass a dict, {name: url, ...}.")
    servers = []
    for called, one in _named(target) if many else [(name, target)]:
        address, login, known = read_target(one, user, password, key)
        settings = options | {
            "name": called or str(address),
            "fingerprint": fingerprint,
            "since": since_us,
            "missing_since": heard.get(called or str(address)),
            "timeout": timeout,
        }
        if known is not None and fingerprint is None:
            settings |= {
                "fingerprint": known,
                "verify": False,
            }  # checked, and not kept: it is of this process
        servers.append((address, login, settings))
    if many:
        _find_passwords(servers)
        monitor.loop.run(monitor._fleet.add_many(servers, timeout + 5), timeout + 30)
    else:
        _add_one(monitor, *servers[0])


def _named(targets: Any) -> list[tuple[str | None, Any]]:
    if isinstance(targets, Mapping):
        return list(targets.items())
    try:
        return [(None, target) for target in targets]
    except TypeError:
        raise InputError(
            "connect() takes a URL such as 'wss://nas:12150', a server, or many; not "
            f"{type(targets).__name__}."
        ) from None


def _add_one(monitor: Monitor, address: Address, login: Login, options: dict[str, Any]) -> None:
    """Connect one server, asking for what is missing where somebody can answer."""
    if login.needs_password and login.user is not None:
        login.set_password(find_password(login.user, address))
    longest = 6 * options["timeout"] + 10
    while True:
        try:
            monitor.loop.run(monitor._fleet.add(address, login, **options), longest)
            return
        except CertificateUnknown as error:
            if not error.fingerprint or not loop.can_ask():
                raise
            if not certificates.ask_to_trust(address, error.fingerprint):
                raise
        except PasswordNeeded:
            if login.user is None or not loop.can_ask():
                raise
            login.set_password(ask_password(login.user, address))


def _find_passwords(servers: Iterable[tuple[Address, Login, dict[str, Any]]]) -> None:
    """Find the passwords of many servers; what is asked is asked once and serves all."""
    answer: str | None = None
    for address, login, _ in servers:
        if login.needs_password and login.user is not None:
            found = find_password(login.user, address) or answer
            if found is None:
                if not loop.can_ask():
                    raise password_needed(login.user, address)
                found = answer = ask_password(login.user, address)
            login.set_password(found)


# -- re-run cells -----------------------------------------------------------------------------------------
# A monitor that nobody holds closes itself. In a notebook IPython's history of outputs holds it as well, when
# it was a cell's last line, so a cell run 50 times would leave 50 connections. History is not somebody.

_watched: set[int] = set()


def _watch_cells() -> None:
    shell = loop.ipython()
    if shell is not None and id(shell) not in _watched:
        _watched.add(id(shell))
        shell.events.register("post_run_cell", _close_forgotten)


def _close_forgotten(result: Any = None) -> None:
    """After a cell: close the monitors that a newer one replaces and that only IPython's history holds."""
    newest: dict[frozenset[str], Monitor] = {}
    monitors = sorted((m for m in open_monitors if not m.closed), key=lambda m: m.number)
    for monitor in monitors:
        urls = frozenset(server.url for server in monitor.servers)
        # Each demo has a server, and so a URL, of its own: by that a cell run again would replace none.
        newest[frozenset({"demo"}) if monitor.server is not None else urls] = monitor
    current = set(map(id, newest.values()))
    old = [monitor for monitor in monitors if id(monitor) not in current]
    newest.clear()
    monitors.clear()
    while old:
        forgotten = old.pop()
        if not _is_held(forgotten, [old, result]):
            forgotten.close()


def _is_held(monitor: Monitor, mine: list[Any]) -> bool:
    """Whether somebody holds a monitor, other than the caller and IPython's history."""
    shell = loop.ipython()
    names = {} if shell is None else shell.user_ns
    places = ("displayhook", "user_ns_hidden", "last_execution_result")
    history = [*mine, shell, names, names.get("_oh"), *(getattr(shell, place, None) for place in places)]
    ignored = {id(item) for item in history} | {id(getattr(item, "__dict__", None)) for item in history}
    # Loops, not generator expressions: those would hold the monitor themselves, in a cell.
    for key, value in names.items():
        if value is monitor and not key.startswith("_"):
            return True
    for holder in gc.get_referrers(monitor):
        if id(holder) not in ignored and not isinstance(holder, types.FrameType):
            return True
    return False
