"""The requests of a logged-in client, one small function each.

A call gets the server's parts, the client's login, the request's ``args`` and where it comes from; it returns
the ``args`` of the reply, or raises `Refused`.
"""

from __future__ import annotations

import base64
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sysadm_nb import wire
from sysadm_nb.errors import InputError
from sysadm_nb.server.dispatcher import Dispatcher, Full
from sysadm_nb.server.keys import Keys
from sysadm_nb.server.login import Login
from sysadm_nb.server.logs import RELAYED_BYTES, REPLY_BYTES, Logs
from sysadm_nb.server.source import BadRequest, Call


class Refused(Exception):
    """A request that is answered with an error.

    Attributes
    ----------
    code : int
        400, 401, 403 or 404.
    closes : bool
        The connection is closed after the error; always so after a 403.
    """

    def __init__(self, code: int, *, closes: bool = False) -> None:
        super().__init__(wire.ERROR_MESSAGES[code])
        self.code = code
        self.closes = closes or code == 403


@dataclass
class Parts:
    """What the calls of a server work on."""

    dispatcher: Dispatcher
    logs: Logs
    keys: Keys
    allow_run: bool
    sources: dict[str, Call] = field(default_factory=dict)

    def may_write(self, login: Login) -> bool:
        return login.role == "wheel"


class Caller(NamedTuple):
    """Where a request comes from."""

    address: str
    relayed: bool  # over a bridge


Handler = Callable[[Parts, Login, Any, Caller], Any | Awaitable[Any]]


async def call(parts: Parts, login: Login, namespace: str, name: str, args: Any, caller: Caller) -> Any:
    """Answer one request.

    Raises
    ------
    Refused
        404 for a call that is not there, 403 for one the user's role may not make, 400 for arguments that
        make no sense.
    """
    where = f"{namespace.lower()}/{name}"
    handler = _HANDLERS.get(where)
    if handler is not None:
        answer = handler(parts, login, args, caller)
        return await answer if inspect.isawaitable(answer) else answer
    source = parts.sources.get(where)
    if source is None:
        raise Refused(404)
    if not isinstance(args, dict):
        raise Refused(400)
    try:
        return await source(args)
    except BadRequest:
        raise Refused(400) from None


def _query(parts: Parts, login: Login, args: Any, caller: Caller) -> dict[str, str]:
    """What is there, and what this user may do with it; look here before a call that needs ``wheel``."""
    write = "read/write" if parts.may_write(login) else "read"
    found = {
        "rpc/dispatcher": write if parts.allow_run else "read",
        "rpc/logs": write,
        "rpc/settings": write,
    }
    return dict(sorted((found | dict.fromkeys(parts.sources, write)).items()))


def _action(args: Any) -> str:
    if not isinstance(args, dict) or not isinstance(args.get("action"), str):
        raise Refused(400)
    return str(args["action"]).lower()


def _dispatcher(parts: Parts, login: Login, args: Any, caller: Caller) -> dict[str, Any]:
    action = _action(args)
    if action == "list":
        return {"jobs": parts.dispatcher.jobs()}
    if action not in ("run", "kill"):
        raise Refused(400)
    if not (parts.allow_run and parts.may_write(login)):
        raise Refused(403)
    return _run(parts, args, caller.address) if action == "run" else _kill(parts, args)


def _run(parts: Parts, args: Mapping[str, Any], address: str) -> dict[str, Any]:
    jobs = {
        key: commands
        for key, value in args.items()
        if key != "action" and (commands := _commands(value)) is not None
    }
    started: list[str] = []
    for process_id in sorted(jobs):
        try:
            parts.dispatcher.run(process_id, jobs[process_id])
        except Full:
            if not started:
                raise Refused(400) from None
            break  # the reply names those that were taken
        started.append(process_id)
    if started:
        parts.logs.note(f"Client Launched Processes[{address}]: {', '.join(started)}")
    return {"started": started}


def _commands(value: Any) -> list[str] | None:
    """The commands of a job: one text or a list; anything else is no job, as on real servers."""
    if isinstance(value, str):
        return [value]
    return [_command(item) for item in value] if isinstance(value, list) else None


def _command(item: Any) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, bool):
        return "true" if item else "false"
    return f"{item:g}" if isinstance(item, int | float) else ""


def _kill(parts: Parts, args: Mapping[str, Any]) -> dict[str, Any]:
    wanted = args.get("job_id")
    ids = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(ids, list):
        raise Refused(400)
    return {"killed": {"jobs": parts.dispatcher.kill([item for item in ids if isinstance(item, str)])}}


def _logs(parts: Parts, login: Login, args: Any, caller: Caller) -> dict[str, Any]:
    if _action(args) != "read_logs":
        raise Refused(400)
    return parts.logs.read(args, RELAYED_BYTES if caller.relayed else REPLY_BYTES)


def _settings(parts: Parts, login: Login, args: Any, caller: Caller) -> dict[str, Any]:
    action = _SETTINGS.get(_action(args))
    if action == "list":
        return dict(parts.keys.listed())
    if action == "checksums":
        return {"md5_keys": parts.keys.checksums()}
    if action is None:
        raise Refused(400)
    if not parts.may_write(login):
        raise Refused(403)
    key = args.get("pub_key")
    if not isinstance(key, str):
        raise Refused(400)
    if key.lstrip().startswith("-----BEGIN"):
        key = base64.b64encode(key.encode()).decode()
    if action == "revoke":
        if not parts.keys.revoke(str(args.get("user") or login.user), key):
            raise Refused(400)
        return {}
    try:
        parts.keys.register(login.user, key, _line(args.get("nickname")), _line(args.get("email")))
    except InputError:
        raise Refused(400) from None
    return {}


def _line(value: Any) -> str:
    return wire.one_line(value, 200) if isinstance(value, str) else ""


# Real servers know the short names, the document the long ones.
_SETTINGS: Final = {
    "list_ssl_certs": "list",
    "list_ssl_certificates": "list",
    "register_ssl_cert": "register",
    "register_ssl_certificate": "register",
    "revoke_ssl_cert": "revoke",
    "revoke_ssl_certificate": "revoke",
    "list_ssl_checksums": "checksums",
}

_HANDLERS: Final[dict[str, Handler]] = {
    "rpc/query": _query,
    "rpc/dispatcher": _dispatcher,
    "rpc/logs": _logs,
    "rpc/settings": _settings,
    "sysadm/settings": _settings,
}
