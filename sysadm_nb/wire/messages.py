"""What one message is, read: an event, a reply, an error, a request, or none of these."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from sysadm_nb.wire.events import LOOSE
from sysadm_nb.wire.jsontext import Json, parse_json

# The document writes two event names with an underscore, real servers with a hyphen.
CLASSES: Final = ("dispatcher", "life-preserver", "system-state")
EVENT_NAMES: Final = (*CLASSES, "bridge")
CANONICAL: Final = {name: name for name in EVENT_NAMES} | {
    "life_preserver": "life-preserver",
    "system_state": "system-state",
}

ERROR_MESSAGES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
}


class Event(msgspec.Struct, eq=False, gc=False):
    """One event.

    Attributes
    ----------
    name : str
        ``dispatcher``, ``life-preserver``, ``system-state`` or ``bridge``, whichever way the peer spells
        it; another name as it was sent.
    text : str
        The JSON text of the arguments, as sent.
    args : object
        The arguments as Python values.
    said : object
        The arguments typed: a :class:`~sysadm_nb.wire.events.Dispatcher`, a
        :class:`~sysadm_nb.wire.events.SystemState` or a :class:`~sysadm_nb.wire.events.LifePreserver`;
        the same as ``args`` for other events.
    id : object
        As sent: ``""`` from real servers.
    time : int or None
        When it happened, in microseconds since 1970 UTC, where the peer says so.
    peer : str or None
        Which peer of a bridge sent it.
    """

    name: str
    text: str
    said: Json
    id: Json = ""
    time: int | None = None
    peer: str | None = None

    @property
    def args(self) -> Json:
        return parse_json(self.text) if self.name in LOOSE else self.said

    def __repr__(self) -> str:
        return f"Event({self.name!r}, {self.text[:80]!r})"


class Reply:
    """The answer to a request of ours, matched by ``id``."""

    __slots__ = ("args", "id", "name", "namespace", "peer")

    def __init__(self, id: Json, namespace: str, name: str, args: Json) -> None:
        self.id = id
        self.namespace = namespace
        self.name = name
        self.args = args
        self.peer: str | None = None

    def __repr__(self) -> str:
        return f"Reply({self.id!r}, {self.namespace!r})"  # no args: a login's reply carries the token


class ErrorReply:
    """A refusal. ``code`` is a number, whether it came as one or as text; 0 where none was sent."""

    __slots__ = ("args", "code", "id", "message", "namespace", "peer")

    def __init__(self, id: Json, namespace: str, code: int, message: str, args: Json) -> None:
        self.id = id
        self.namespace = namespace
        self.code = code
        self.message = message
        self.args = args
        self.peer: str | None = None

    def __repr__(self) -> str:
        return f"ErrorReply({self.id!r}, {self.code}, {self.message!r})"


class Request:
    """A request: of the peer to us, or, on the server, of a client."""

    __slots__ = ("args", "id", "name", "namespace", "peer")

    def __init__(self, namespace: str, name: str, id: Json, args: Json) -> None:
        self.namespace = namespace
        self.name = name
        self.id = id
        self.args = args
        self.peer: str | None = None

    @property
    def is_login(self) -> bool:
        """Whether it holds a password or, as the reply to a login that came without its id, a token."""
        return self.name.startswith("auth")

    def __repr__(self) -> str:
        return f"Request({self.namespace!r}, {self.name!r}, {self.id!r})"  # no args: they may hold a password


class Malformed:
    """Anything else, with the text as it came and the reason in words."""

    __slots__ = ("peer", "reason", "text")

    def __init__(self, text: str, reason: str) -> None:
        self.text = text
        self.reason = reason
        self.peer: str | None = None

    def __repr__(self) -> str:
        return f"Malformed({self.reason!r}, {self.text[:80]!r})"


class BadRequest:
    """A frame that a server answers with 400.

    ``id`` goes into the answer; ``prefix`` is the line to send before it (a frame that does not begin
    with ``{`` is read as a bridge's, and the error comes back behind the same first line).
    """

    __slots__ = ("id", "prefix", "reason")

    def __init__(self, reason: str, id: str = "", prefix: str = "") -> None:
        self.reason = reason
        self.id = id
        self.prefix = prefix


Message: TypeAlias = Event | Reply | ErrorReply | Request | Malformed
