"""``sysadm-nb serve``, ``sysadm-nb user`` and ``sysadm-nb bridge``."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import logging
import queue
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sysadm_nb import wire
from sysadm_nb.errors import InputError


def add_commands(subparsers: Any) -> None:
    """Add the three commands to the program's parser."""
    _add_serve(subparsers)
    _add_user(subparsers)
    _add_bridge(subparsers)


# --- serve --------------------------------------------------------------------------------------------------


def _add_serve(subparsers: Any) -> None:
    serve = subparsers.add_parser(
        "serve",
        help="run an event server on this machine",
        description="Runs an event server until SIGTERM, Ctrl-C or the end of its terminal. "
        "Flags count over the configuration file.",
    )
    serve.add_argument("--config", type=Path, metavar="FILE", help="TOML file, see packaging/sysadm-nb.toml")
    serve.add_argument("--host", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, help="port (12150); 0 takes a free one")
    serve.add_argument("--folder", metavar="DIR", help="keeps the certificate, the users and their keys")
    serve.add_argument("--users", metavar="FILE", help="made by: sysadm-nb user add (DIR/users)")
    serve.add_argument(
        "--source", action="append", dest="sources", metavar="NAME", help="local (the default), demo, ..."
    )
    serve.add_argument("--allow-run", action="store_true", default=None, help="wheel users may run commands")
    serve.add_argument(
        "--no-tls", action="store_false", dest="tls", default=None, help="on loopback only: no TLS"
    )
    _add_logging(serve)
    serve.set_defaults(run=_serve)


def _add_logging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log", choices=("lines", "json"), default="lines", help="form of the log on stderr")
    parser.add_argument("--verbose", action="store_true", help="log more")


def _serve(options: argparse.Namespace) -> int:
    from sysadm_nb.server import config
    from sysadm_nb.server.handle import serve

    set_up_logging(options.log, options.verbose)
    settings = config.read(options.config) if options.config else {}
    flags = ("host", "port", "folder", "users", "sources", "allow_run", "tls")
    settings |= {name: value for name in flags if (value := getattr(options, name)) is not None}
    arguments = config.arguments(settings)
    if not arguments["users"].exists():
        raise InputError(
            f"nobody could log in: there is no {arguments['users']}. "
            f"Make it with `sysadm-nb user add NAME --file {arguments['users']}`"
        )
    _allow_files(2 * arguments["limits"].connections)
    with Stop() as stop, serve(**arguments) as server:
        everywhere = arguments["host"] in ("0.0.0.0", "::", "")  # noqa: S104
        print(f"serving {server.url}" + (" and all other addresses" if everywhere else ""), flush=True)
        if server.fingerprint:
            print(f"certificate SHA-256 {server.fingerprint}", flush=True)
        stop.wait()
    return 0


def _allow_files(count: int) -> None:
    """Let this process have that many open files, as far as the system allows: half are for clients."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Stop:
    """Told by SIGTERM, SIGINT and the end of the terminal while it is entered."""

    def __init__(self) -> None:
        # Not an Event: a signal that comes while the main thread holds the Event's lock would wait for
        # that lock for ever. This queue is made to be put into from there.
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __enter__(self) -> Stop:
        numbers = [signal.SIGTERM, signal.SIGINT]
        hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
        if hang_up is not None and signal.getsignal(hang_up) != signal.SIG_IGN:  # nohup goes on
            numbers.append(hang_up)
        self._before = {number: signal.signal(number, self._tell) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _tell(self, *_: object) -> None:
        self._told.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until a signal came, at most so many seconds; whether one came."""
        try:
            self._told.get(timeout=timeout)
        except queue.Empty:
            return False
        self._told.put(None)  # it stays told
        return True


def set_up_logging(form: str, verbose: bool) -> None:
    """Log to stderr, in lines or as JSON, nothing a peer sent being able to forge a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else PlainLines())
    logger = logging.getLogger("sysadm_nb")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)


class PlainLines(logging.Formatter):
    """``2026-11-23T07:15:00.123Z WARNING server: failed login``; a traceback is on one line too."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        return f"{time} {record.levelname} {record.name}: {_message(self, record)}"


class JsonLines(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        return json.dumps(
            {
                "time": time,
                "level": record.levelname,
                "logger": record.name,
                "message": _message(self, record),
            }
        )


def _message(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text += " | " + formatter.formatException(record.exc_info).replace("\n", " | ")
    return wire.one_line(text, 4000)


# --- user ---------------------------------------------------------------------------------------------------


def _add_user(subparsers: Any) -> None:
    user = subparsers.add_parser("user", help="who may log in to the server of this machine")
    actions = user.add_subparsers(metavar="ACTION", required=True)
    add = actions.add_parser("add", help="add a user, or change the password or role of one")
    add.add_argument("name")
    add.add_argument("--role", choices=("wheel", "operator"), default="wheel", help="operators may only look")
    remove = actions.add_parser("remove", help="take a user out")
    remove.add_argument("name")
    listed = actions.add_parser("list", help="show who there is")
    for parser, run in ((add, _user_add), (remove, _user_remove), (listed, _user_list)):
        parser.add_argument("--file", type=Path, help="the server's user file")
        parser.set_defaults(run=run)


def _user_file(options: argparse.Namespace) -> Path:
    from sysadm_nb.server.core import state_folder

    return options.file or state_folder() / "users"


def _user_add(options: argparse.Namespace) -> int:
    from sysadm_nb.server.users import save_user

    save_user(_user_file(options), options.name, _new_password(), options.role)
    print(f"{options.name} ({options.role}) is in {_user_file(options)}")
    return 0


def _new_password() -> str:
    """Asked twice at a terminal, else the first line of stdin; never an argument, which others could see."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if password != getpass.getpass("Again: "):
        raise InputError("the two passwords are not the same: nothing was changed")
    return password


def _user_remove(options: argparse.Namespace) -> int:
    from sysadm_nb.server.users import remove_user

    remove_user(_user_file(options), options.name)
    return 0


def _user_list(options: argparse.Namespace) -> int:
    from sysadm_nb.server.users import read_file

    path = _user_file(options)
    if not path.exists():
        raise InputError(f"there is no user file {path}: add somebody with `sysadm-nb user add NAME`")
    for name, entry in sorted(read_file(path).items()):
        print(f"{name}\t{entry.role}")
    return 0


# --- bridge -------------------------------------------------------------------------------------------------


def _add_bridge(subparsers: Any) -> None:
    bridge = subparsers.add_parser(
        "bridge",
        help="relay between servers and clients that both dial out",
        description="What a bridge relays it could read: it hides nobody's events from its owner.",
    )
    bridge.add_argument("--folder", type=Path, metavar="DIR", help="keeps its certificate and the keys")
    bridge.set_defaults(run=_bridge)
    bridge.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    bridge.add_argument("--port", type=int, default=None, help="port (12149)")
    _add_logging(bridge)
    actions = bridge.add_subparsers(metavar="ACTION")
    key = actions.add_parser("key", help="the keys that may log in to the bridge")
    key_actions = key.add_subparsers(metavar="ACTION", required=True)
    add = key_actions.add_parser("add", help="let a server or a client in")
    add.add_argument("name", help="who it is, for the list")
    add.add_argument("file", type=Path, help="its public key (.pub, PEM)")
    add.set_defaults(run=_bridge_key_add)
    key_actions.add_parser("list", help="show who there is").set_defaults(run=_bridge_key_list)
    remove = key_actions.add_parser("remove", help="let somebody in no more")
    remove.add_argument("name")
    remove.set_defaults(run=_bridge_key_remove)


def _bridge_folder(options: argparse.Namespace) -> Path:
    from sysadm_nb.server.core import state_folder

    return options.folder or state_folder().with_name("bridge")


def _bridge_keys(options: argparse.Namespace) -> Any:
    from sysadm_nb.server.bridge import Bridge

    return Bridge(folder=_bridge_folder(options)).keys


def _bridge(options: argparse.Namespace) -> int:
    from sysadm_nb import loop
    from sysadm_nb.server.bridge import PORT, Bridge

    set_up_logging(options.log, options.verbose)
    port = PORT if options.port is None else options.port
    bridge = Bridge(options.host, port, folder=_bridge_folder(options))
    handle = loop.acquire()
    try:
        with Stop() as stop:
            handle.run(bridge.start())
            print(f"bridge at {bridge.url}", flush=True)
            print(f"certificate SHA-256 {bridge.fingerprint}", flush=True)
            stop.wait()
            handle.run(bridge.stop())
    finally:
        handle.release()
    return 0


def _bridge_key_add(options: argparse.Namespace) -> int:
    import base64

    try:
        pem = options.file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {options.file}: {error.strerror}") from None
    if b"PUBLIC KEY-----" not in pem:
        raise InputError(f"{options.file} is no public key: register the .pub file that lies beside the .pem")
    _bridge_keys(options).register(options.name, base64.b64encode(pem).decode())
    return 0


def _bridge_key_list(options: argparse.Namespace) -> int:
    from sysadm_nb.server.keys import checksum

    for name, keys in sorted(_bridge_keys(options).listed().items()):
        for key in keys:
            print(f"{name}\tMD5 {checksum(key)}")
    return 0


def _bridge_key_remove(options: argparse.Namespace) -> int:
    keys = _bridge_keys(options)
    registered = keys.listed().get(options.name)
    if not registered:
        raise InputError(f"there is no key of {options.name!r}")
    for key in registered:
        keys.revoke(options.name, key)
    return 0
