"""``sysadm-nb connect`` and ``sysadm-nb doctor``."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from sysadm_nb import wire
from sysadm_nb.errors import SysadmError

NEEDED = (
    ("websockets", (15,)),
    ("pandas", (3,)),
    ("numpy", (2,)),
    ("pyarrow", ()),
    ("msgspec", (0, 19)),
    ("platformdirs", ()),
    ("cryptography", ()),
    ("scipy", ()),
)
FOR_VIEWS = (("ipywidgets", (8, 1)), ("anywidget", (0, 9, 13)))
FOR_LAB = (("jupyterlab", (4,)), ("ipykernel", (6, 29)))

MAX_UNREAD = 100_000
"""Frames kept for a reader of ``connect --json`` that is slower than they come."""


def add_commands(subparsers: Any) -> None:
    """Add the two commands to the program's parser."""
    connect = subparsers.add_parser(
        "connect",
        help="show what servers send, line by line",
        description="Connects and prints every event and every change of the connection. Ctrl-C ends it.",
    )
    connect.add_argument("url", nargs="+", help="wss://nas:12150")
    connect.add_argument("--user", help="who logs in (password: SYSADM_NB_PASSWORD, keyring, or asked)")
    connect.add_argument("--key", help="log in by this private RSA key instead")
    connect.add_argument("--fingerprint", help="SHA-256 of the server's certificate, to trust it")
    connect.add_argument("--ca", help="trust this authority's certificate instead")
    connect.add_argument("--since", metavar="SPAN", help="first what the server's logs have since: 24h")
    connect.add_argument("--event", action="append", choices=wire.CLASSES, help="only this class of events")
    connect.add_argument("--json", action="store_true", help="print the frames, word for word but one a line")
    connect.set_defaults(run=_connect)

    doctor = subparsers.add_parser(
        "doctor",
        help="check this installation, and whether servers can be reached",
        description="Says what is missing or out of date here, and what stands between here and a server.",
    )
    doctor.add_argument("url", nargs="*", help="servers to try (nobody logs in)")
    doctor.set_defaults(run=_doctor)


# -- connect --------------------------------------------------------------------------------------------


def _connect(options: argparse.Namespace) -> int:
    from sysadm_nb import connecting

    target = options.url[0] if len(options.url) == 1 else options.url
    with connecting.connect(
        target,
        user=options.user,
        key=options.key,
        fingerprint=options.fingerprint,
        verify=options.ca or "pin",
        since=options.since,
        subscribe=options.event or wire.CLASSES,
    ) as monitor:
        return _follow(monitor, options.json)


def _follow(monitor: Any, as_json: bool) -> int:
    """Print what is new until Ctrl-C, a closed pipe, or the last server's refusal."""
    import queue
    import time

    # Printed here: on the loop thread a reader that is slow would stop the connections, and one that has gone
    # would be nobody's business.
    frames: queue.Queue[str] = queue.Queue(MAX_UNREAD)
    lost = told = 0

    def keep(text: str, received: int, server: str, origin: str) -> None:
        nonlocal lost
        try:
            frames.put_nowait(text)
        except queue.Full:
            lost += 1

    if as_json:
        monitor.on_frame(keep)
    seen = {"events": 0, "connection": 0}
    try:
        while True:
            while not frames.empty():
                _say(" ".join(frames.get().split("\n")))
            if lost > told:
                told = lost
                _say(f"{told:,} frames were not printed: what reads this is too slow.", to_error=True)
            lines = []
            for table in seen:
                seen[table], rows = monitor.tables.since(table, seen[table])
                line = _event_line if table == "events" else _connection_line
                if table == "connection" or not as_json:
                    lines += [(row.seq, line(row)) for row in rows.itertuples()]
            for _, text in sorted(lines):
                _say(text, to_error=as_json)
            if all(server.state == "refused" for server in monitor.servers):
                return 1
            time.sleep(0.1)
    except BrokenPipeError:
        # whoever read has gone; the interpreter must not try to flush what is left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _say(text: str, to_error: bool = False) -> None:
    """Print a line; what a server sent has no control over the terminal."""
    print(wire.shell_text(text), file=sys.stderr if to_error else sys.stdout, flush=True)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _event_line(row: Any) -> str:
    mark = "" if row.origin == "live" else f" ({row.origin})"
    level = f" {row.level.upper()}" if _text(row.level) not in ("", "Information") else ""
    what = " ".join(filter(None, (_text(row.subject), _text(row.summary))))
    return f"{row.time:%Y-%m-%d %H:%M:%S}Z {row.server} {row.event}{mark}{level}: {wire.one_line(what)}"


def _connection_line(row: Any) -> str:
    gap = ""
    if row.gap_start == row.gap_start:  # not missing
        end = f"{row.gap_end:%H:%M:%S}Z" if row.gap_end == row.gap_end else "now"
        gap = f" from {row.gap_start:%Y-%m-%d %H:%M:%S}Z to {end}"
    detail = _text(row.detail)
    return f"{row.time:%Y-%m-%d %H:%M:%S}Z {row.server} -- {row.what}{gap}{f': {detail}' if detail else ''}"


# -- doctor ---------------------------------------------------------------------------------------------


def _doctor(options: argparse.Namespace) -> int:
    """Print one line for each thing looked at; 1 if something has to be done."""
    problems = 0
    for good, text in (*_environment(), *(line for url in options.url for line in _reach(url))):
        problems += good is False
        _say(f"{ {True: 'ok  ', False: 'BAD ', None: '    '}[good] } {text}")
    _say(f"{problems} problem{'' if problems == 1 else 's'} found." if problems else "All is well.")
    return 1 if problems else 0


Line = tuple[bool | None, str]


def _environment() -> list[Line]:
    python = ".".join(map(str, sys.version_info[:3]))
    lines: list[Line] = [(sys.version_info >= (3, 11), f"Python {python} (3.11 or newer is needed)")]
    lines += [_package(name, floor, True) for name, floor in NEEDED]
    lines += [_package(name, floor, True) for name, floor in FOR_VIEWS]
    lines += [_package(name, floor, False) for name, floor in FOR_LAB]
    lines.append(_package("keyring", (), False))
    lines.append(_nesting())
    lines.append(_folder())
    variables = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    proxies = [name for name in variables if os.environ.get(name)]
    if proxies:
        lines.append((None, f"{proxies[0]} is set: connections beyond this machine go through that proxy"))
    if os.environ.get("SYSADM_NB_PASSWORD"):
        lines.append((None, "SYSADM_NB_PASSWORD is set: it is used where no password is given"))
    return lines


def _package(name: str, floor: tuple[int, ...], needed: bool) -> Line:
    wanted = ".".join(map(str, floor))
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return (False if needed else None, f"{name} is not installed: pip install {name}")
    have = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    if have < floor:
        return False, f"{name} {version} is too old: pip install --upgrade '{name}>={wanted}'"
    return True, f"{name} {version}"


def _nesting() -> Line:
    from sysadm_nb import loop

    module = loop.nest_module()
    if importlib.util.find_spec(module) is None:
        return False, f"nest() needs {module} here: pip install {module.replace('_', '-')}"
    return True, f"nest() would use {module}"


def _folder() -> Line:
    from sysadm_nb.client import certificates

    folder = certificates.folder()
    pins = len(list(folder.glob("*.sha256"))) if folder.is_dir() else 0
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(place, os.W_OK):
        return False, f"{place} cannot be written: trusted certificates cannot be kept in {folder}"
    if Path(folder).is_dir() and folder.stat().st_mode & 0o077 and os.name == "posix":
        return False, f"others can read {folder}: chmod 700 it"
    return True, f"{pins} trusted certificate{'' if pins == 1 else 's'} in {folder}"


def _reach(url: str) -> list[Line]:
    """What stands between here and a server, without logging in."""
    from sysadm_nb import loop
    from sysadm_nb.client import Login, certificates, connect_once, parse_address
    from sysadm_nb.errors import CertificateUnknown

    async def visit() -> list[Line]:
        lines: list[Line] = []
        try:
            connection = await connect_once(address, Login(None))
        except CertificateUnknown as error:
            if not error.fingerprint:
                raise
            lines.append((None, f"{address}: not trusted yet, fingerprint {error.fingerprint}"))
            # Not "pin": looking is not trusting.
            connection = await connect_once(address, Login(None), verify=False, fingerprint=error.fingerprint)
        identity = connection.identity
        await connection.close()
        kind, host = identity.get("type", "server"), identity.get("hostname", "")
        return [*lines, (True, f"{address}: a SysAdm {kind} called {host!r} answers")]

    handle = loop.acquire()
    try:
        address = parse_address(url)
        pinned = certificates.pinned(address)
        lines: list[Line] = [(None, f"{address}: trusted is {pinned}")] if pinned else []
        return lines + handle.run(visit(), 60)
    except SysadmError as error:
        return [(False, f"{url}: {error}")]
    finally:
        handle.release()
