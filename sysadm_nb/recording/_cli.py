"""``sysadm-nb record`` and ``sysadm-nb replay``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, Final

from sysadm_nb import wire
from sysadm_nb.errors import InputError, SysadmError
from sysadm_nb.server._cli import Stop

_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SPANS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
# Whole words: a month taken for a minute would, with --keep, delete what was to be kept.
_SPAN: Final = re.compile(
    r"(\d+(?:\.\d+)?)\s*(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)", re.IGNORECASE
)


def add_commands(subparsers: Any) -> None:
    """Add the two commands to the program's parser."""
    record = subparsers.add_parser(
        "record",
        help="record servers into a file, for weeks, without a notebook",
        description="Connects to servers and records every frame. Stops cleanly on SIGTERM and Ctrl-C.",
    )
    record.add_argument("path", type=Path, help="the recording; it is gone on with if it exists")
    record.add_argument(
        "--server", action="append", required=True, metavar="[NAME=]URL", help="may be given more than once"
    )
    record.add_argument("--user", help="who logs in (password: SYSADM_NB_PASSWORD, keyring, or asked)")
    record.add_argument("--fingerprint", help="SHA-256 of the server's certificate, to trust it")
    record.add_argument("--ca", type=Path, help="trust this authority's certificate instead")
    record.add_argument("--since", metavar="SPAN", help="fetch earlier events from the server's logs: 24h")
    record.add_argument("--poll", metavar="SPAN", help="ask for the pools every so often: 1min")
    record.add_argument("--rotate-size", metavar="SIZE", type=_size, help="begin a new file at: 500M, 2G")
    record.add_argument("--rotate-age", metavar="SPAN", type=_span, help="begin a new file after: 1d, 1w")
    record.add_argument("--keep", type=int, metavar="N", help="with rotation: delete all but the newest N")
    record.set_defaults(run=_record)

    replay = subparsers.add_parser(
        "replay",
        help="serve a recording as a live server",
        description="Plays a recording to whoever connects. Stops on SIGTERM and Ctrl-C.",
    )
    replay.add_argument("path", type=Path)
    replay.add_argument("--speed", type=float, default=1.0, help="recorded seconds a second, or inf")
    replay.add_argument("--start", metavar="TIME", help="2026-11-23T07:00, or 24h before the end")
    replay.add_argument("--end", metavar="TIME")
    replay.add_argument("--server", metavar="NAME", help="which of the recorded servers")
    replay.add_argument("--host", default="127.0.0.1")
    replay.add_argument("--port", type=int, default=0, help="by default a free one")
    replay.add_argument("--users", type=Path, metavar="FILE", help="made by: sysadm-nb user add")
    replay.set_defaults(run=_replay)


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 500M or 2G")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _span(text: str) -> float:
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no span of time: write 30min, 12h, 1d or 1w")
    return float(match[1]) * _SPANS[match[2][0].lower()]


def _record(args: argparse.Namespace) -> int:
    from sysadm_nb.monitor import Monitor
    from sysadm_nb.recording import remember
    from sysadm_nb.tables import Tables

    if args.keep is not None and (args.keep < 1 or (args.rotate_size is None and args.rotate_age is None)):
        raise InputError("--keep needs --rotate-size or --rotate-age, and a number of at least 1.")
    targets = named(args.server)
    options = {"user": args.user, "fingerprint": args.fingerprint, "since": args.since}
    tables = Tables(max_rows=20_000, max_text=32 * 2**20)  # for a backfill to compare with
    with Stop() as stop, Monitor(tables) as monitor:
        heard = remember(tables, args.path)
        recorder = monitor.record(
            args.path, rotate_bytes=args.rotate_size, rotate_s=args.rotate_age, keep=args.keep
        )
        # As many, even if it is one: a server that is down is tried again, now as at any time.
        monitor.add(targets, heard=heard, verify=args.ca or "pin", **options)
        if args.poll is not None:
            monitor.sample_pools(args.poll)
        print(f"recording {', '.join(targets)} into {recorder.path}", flush=True)
        told: dict[str, str] = {}
        while not stop.wait(0.5):
            _tell(told, str(recorder.path), f"{recorder.state} {recorder.detail}")
            for server in monitor.servers:
                _tell(told, server.name, f"{server.state} {server.detail}")
            if all(server.state == "refused" for server in monitor.servers):
                raise SysadmError(f"No server is left to record. {monitor.servers[0].detail}")
    print(f"stopped: {recorder.written} frames recorded, {recorder.lost} lost", flush=True)
    return 1 if recorder.lost else 0


def _tell(told: dict[str, str], what: str, state: str) -> None:
    """Print how something stands when that has changed."""
    if told.get(what) != state:
        told[what] = state
        print(wire.shell_text(f"{what}: {state}".rstrip()), flush=True)


def named(servers: list[str]) -> dict[str, str]:
    """What ``--server`` was given, as names and addresses."""
    from sysadm_nb.client import parse_address

    targets: dict[str, str] = {}
    for target in servers:
        name, equals, url = target.partition("=")
        if not equals or "/" in name or ":" in name:
            name, url = "", target
        name = name or str(parse_address(url))
        if name in targets:  # one of them would be left out
            raise InputError(f"Two servers have the name {name}: give each its own, --server NAME=URL.")
        targets[name] = url
    return targets


def _replay(args: argparse.Namespace) -> int:
    from sysadm_nb.recording.player import replay

    server = replay(
        args.path,
        args.speed,
        start=args.start,
        end=args.end,
        server=args.server,
        host=args.host,
        port=args.port,
        users=args.users,
    )
    with Stop() as stop, server:
        print(f"replaying {args.path} at {server.url}", flush=True)
        if args.users is None and server.credentials is not None:
            user, password = server.credentials
            print(f"user {user}, password {password} (made up for this run)", flush=True)
        if server.fingerprint:
            print(f"certificate SHA-256 {server.fingerprint}", flush=True)
        told = ""
        while not stop.wait(0.5):
            if told != server.state:
                told = server.state
                print(f"{told} at {server.position:%Y-%m-%dT%H:%M:%SZ}", flush=True)
    return 0
