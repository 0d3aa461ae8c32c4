"""``sysadm-nb watch``: rules without a notebook."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any, Final

from ..errors import InputError, SysadmError
from ..wire import shell_text

SAVE_EVERY_S: Final = 30.0


def add_commands(subparsers: Any) -> None:
    """Add ``watch`` to the program's parser."""
    watch = subparsers.add_parser(
        "watch",
        help="run alert rules without a notebook",
        description="Runs the rules of a TOML file on servers, or on a recording with --dry-run. "
        "Prints one line for each incident that fires and that is over. Stops cleanly on SIGTERM and Ctrl-C.",
    )
    watch.add_argument("rules", type=Path, help="written by rules.save() or the alert lab")
    where = watch.add_mutually_exclusive_group(required=True)
    where.add_argument("--server", action="append", metavar="[NAME=]URL", help="may be given more than once")
    where.add_argument("--dry-run", type=Path, metavar="RECORDING", help="when the rules would have fired")
    watch.add_argument(
        "--functions", type=Path, metavar="FILE.py", help="run this file for rules that are functions"
    )
    watch.add_argument(
        "--notify", action="append", default=[], metavar="URL",
        help="an Apprise URL; may be given more than once. Others can read a command line: "
        "SYSADM_NB_NOTIFY holds such URLs, too, parted by blanks",
    )  # fmt: skip
    watch.add_argument("--remind", metavar="SPAN", help="tell again while an incident fires: 4h")
    watch.add_argument("--state", type=Path, metavar="FILE", help="keep the rules' state here, over restarts")
    watch.add_argument(
        "--record", type=Path, metavar="FILE", help="record frames and incidents into this file"
    )
    watch.add_argument("--user", help="who logs in (password: SYSADM_NB_PASSWORD, keyring, or asked)")
    watch.add_argument("--fingerprint", help="SHA-256 of the server's certificate, to trust it")
    watch.add_argument("--ca", type=Path, help="trust this authority's certificate instead")
    watch.add_argument("--poll", metavar="SPAN", help="ask for the pools every so often: 1min")
    watch.add_argument("--start", metavar="TIME", help="with --dry-run: from 2026-11-23T07:00 on")
    watch.add_argument("--end", metavar="TIME", help="with --dry-run")
    watch.set_defaults(run=_watch)


def _watch(args: argparse.Namespace) -> int:
    from .files import load

    rules = load(args.rules, args.functions)
    if not len(rules):
        raise InputError(f"{args.rules} has no rules: write some with rules.save(), or in the alert lab.")
    return _dry_run(args, rules) if args.dry_run is not None else _live(args, rules)


def _dry_run(args: argparse.Namespace, rules: Any) -> int:
    from ..recording import open_recording

    with open_recording(args.dry_run) as past:
        found = rules.backtest(past, start=args.start, end=args.end)
    for row in found.to_dict("records"):
        over = f"for {row['duration']}" if row["duration"] == row["duration"] else "and still fires"
        fired = f"{row['fired']:%Y-%m-%dT%H:%M:%SZ}"
        print(shell_text(f"{fired} {row['severity']} {row['rule']}: {row['message']} ({over})"))
    firing = int(found["resolved"].isna().sum())
    print(f"{len(found)} incidents, {firing} still firing at the end")
    return 0


def _live(args: argparse.Namespace, rules: Any) -> int:
    from ..monitor import Monitor
    from ..recording._cli import named
    from ..server._cli import Stop
    from .armed import arm
    from .durations import duration_us

    targets = [*args.notify, *os.environ.get("SYSADM_NB_NOTIFY", "").split()]
    if args.remind is not None and duration_us(args.remind, "--remind") < 60_000_000:
        raise InputError(f"--remind {args.remind} would tell more than once a minute: write --remind 4h.")
    servers = named(args.server)
    state = _read_state(args.state)
    with Stop() as stop, Monitor() as monitor:
        if args.record is not None:
            monitor.record(args.record)
        armed = arm(monitor, rules, [_say, *targets], remind=args.remind, state=state)
        options = {"user": args.user, "fingerprint": args.fingerprint}
        monitor.add(servers, verify=args.ca or "pin", **options)
        if args.poll is not None:
            monitor.sample_pools(args.poll)
        print(f"watching {', '.join(servers)} by {len(rules)} rules", flush=True)
        saved, error = time.monotonic(), ""
        told: dict[str, str] = {}
        while not stop.wait(0.25):
            for server in monitor.servers:
                _note(told, server.name, f"{server.state} {server.detail}")
            if armed.error != error:
                error = armed.error
                print(shell_text(f"a rule failed: {error}"), flush=True)
            if args.state is not None and time.monotonic() - saved > SAVE_EVERY_S:
                saved = time.monotonic()
                _write_state(args.state, armed.state, told)
            if all(server.state == "refused" for server in monitor.servers):
                raise SysadmError(f"No server is left to watch. {monitor.servers[0].detail}")
        armed.drain(5)
        kept = args.state is None or _write_state(args.state, armed.state, told)
        armed.disarm()
    print("stopped", flush=True)
    return 0 if kept else 1


def _say(message: Any) -> None:
    """A notifier that prints, so that a log of the service tells the whole story."""
    for news in message.news:
        incident = news.incident
        what = "over (no data)" if incident.reason == "no data" else news.what
        text = f"{what} {incident.severity} {incident.rule}: {incident.message}"
        print(shell_text(text), flush=True)


def _note(told: dict[str, str], what: str, state: str) -> None:
    if told.get(what) != state:
        told[what] = state
        print(shell_text(f"{what}: {state}".rstrip()), flush=True)


def _read_state(path: Path | None) -> Any:
    if path is None or not path.exists():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError:
        raise InputError(f"{path} is no saved state: delete it, and the rules start anew.") from None


def _write_state(path: Path, state: dict[str, Any], told: dict[str, str]) -> bool:
    """Whole or not at all: a crash in the middle must not cost the state.

    A full disk may have room again the next time, and the rules go on meanwhile: it is said, not raised.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.write_text(json.dumps(state), "utf-8")
        fresh.replace(path)
    except OSError as error:
        _note(told, str(path), f"the state is not saved: {error.strerror or error}")
        return False
    if str(path) in told:
        _note(told, str(path), "the state is saved again")
    return True
