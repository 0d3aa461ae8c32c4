"""Frames: what one text message is, in both directions.

Reading never raises: whatever a peer sends becomes an :class:`Event`, :class:`Reply`,
:class:`ErrorReply`, :class:`Request` or, when it is none of these, :class:`Malformed` with its text.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from sysadm_nb.wire.events import LOOSE, TYPED
from sysadm_nb.wire.units import MAX_TIME, MIN_TIME, format_time, parse_time

Json: TypeAlias = Any

# The document writes two event names with an underscore, real servers with a hyphen.
CLASSES: Final = ("dispatcher", "life-preserver", "system-state")
EVENT_NAMES: Final = (*CLASSES, "bridge")
_CANONICAL: Final = {name: name for name in EVENT_NAMES} | {
    "life_preserver": "life-preserver",
    "system_state": "system-state",
}

ERROR_MESSAGES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
}


class _Envelope(msgspec.Struct, gc=False):
    namespace: str
    name: str
    args: msgspec.Raw = msgspec.Raw()
    id: Json = ""
    time: str | None = None


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

_read_envelope: Final = msgspec.json.Decoder(_Envelope).decode
_decode_any: Final = msgspec.json.Decoder().decode
_encode_any: Final = msgspec.json.Encoder(order="sorted").encode


def scrub(value: Json) -> Json:
    """Replace lone surrogates, which JSON can spell and neither UTF-8 nor Arrow can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode() if not value.isascii() else value
    if isinstance(value, list):
        return [scrub(item) for item in value]
    if isinstance(value, dict):
        return {scrub(key): scrub(item) for key, item in value.items()}
    return value


class NotJson(ValueError):
    """The text is no JSON, or nested too deep to read."""


def parse_json(text: str | bytes) -> Json:
    """Decode any JSON text a peer may send.

    The fast decoder first; what it refuses and Python's takes (lone surrogates, numbers beyond a
    float, ``NaN``) is taken too.

    Raises
    ------
    NotJson
        If it is no JSON.
    """
    try:
        return _decode_any(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        pass
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        return scrub(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)[:200] or type(error).__name__) from None


def dump_json(value: Json) -> str:
    """Compact JSON with sorted keys and non-ASCII as it is: the form of the real servers.

    >>> dump_json({"b": "ä", "a": 1})
    '{"a":1,"b":"ä"}'
    """
    try:
        return _encode_any(value).decode()
    except (TypeError, UnicodeError, OverflowError, RecursionError):
        return json.dumps(
            scrub(value), separators=(",", ":"), sort_keys=True, ensure_ascii=False, default=_plain
        )


def _plain(value: Any) -> Json:
    """A number out of a DataFrame as a number, what JSON does not know as text."""
    plain = value.item() if getattr(value, "shape", None) == () else value
    return plain if isinstance(plain, bool | int | float | str) else str(value)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _microseconds(text: Json) -> int | None:
    """The time, where it names its zone and is one that a datetime can hold."""
    parsed = parse_time(text) if isinstance(text, str) else None
    return parsed[0] if parsed is not None and parsed[1] and MIN_TIME <= parsed[0] <= MAX_TIME else None


# How frames of real servers, and ours, begin and end: keys sorted, no white space. Where both fit, the
# arguments' text is what is between, and is all there is to decode: half the work for most frames.
# Text that only looks like it is no JSON then, and is read the long way.
_HEAD: Final = '{"args":'
_TIME: Final = ',"time":"'
_TIME_LENGTH: Final = len(format_time(0))
_KNOWN_LENGTH: Final = 34  # enough of a frame's end to tell the names apart


class _End(NamedTuple):
    name: str
    text: str
    length: int
    read: Callable[[str], Any]


_ENDS: Final = {
    text[-_KNOWN_LENGTH:]: _End(name, text, len(text), TYPED[name])
    for name in TYPED
    for text in [f',"id":"","name":"{name}","namespace":"events"}}']
}


def decode(frame: str | bytes) -> Message:
    """Read one frame from a peer. Never raises.

    Parameters
    ----------
    frame : str or bytes
        A whole text (or binary) message.

    Returns
    -------
    Event, Reply, ErrorReply, Request or Malformed

    Examples
    --------
    >>> event = decode('{"args":{"state":"running"},"id":"","name":"dispatcher","namespace":"events"}')
    >>> event.name, event.args
    ('dispatcher', {'state': 'running'})
    >>> decode("hello").reason
    'not a JSON object'
    """
    try:
        if not isinstance(frame, str):
            frame = str(frame, "utf-8")
        known = _ENDS.get(frame[-_KNOWN_LENGTH:])
        if known is not None:
            name, end, length, read = known
            if frame.startswith(_HEAD) and frame.endswith(end):
                text = frame[8:-length]
                return Event(name, text, read(text))
        elif frame.endswith('Z"}') and frame.startswith(_HEAD):
            return _decode_timed(frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    return _decode_envelope(frame)


def _decode_timed(frame: str) -> Message:
    """Read a frame of our own servers, which has the time of the event behind the rest."""
    cut = len(frame) - _TIME_LENGTH - 11
    known = _ENDS.get(frame[cut + 1 - _KNOWN_LENGTH : cut] + "}")
    if known is None or not frame.startswith(_TIME, cut):
        return _decode_envelope(frame)
    time = _microseconds(frame[-2 - _TIME_LENGTH : -2])
    name, end, length, read = known
    if time is None or not frame.endswith(end[:-1], 0, cut):
        return _decode_envelope(frame)
    text = frame[8 : cut + 1 - length]
    return Event(name, text, read(text), "", time)


def _decode_envelope(frame: str | bytes) -> Message:
    """Read a frame of any shape."""
    try:
        envelope = _read_envelope(frame)
        text = str(envelope.args, "utf-8")
        time = None if envelope.time is None else _microseconds(envelope.time)
        if envelope.namespace == "events":
            name = _CANONICAL.get(envelope.name)
            if name in TYPED:
                try:
                    return Event(name, text, TYPED[name](text), envelope.id, time)
                except msgspec.DecodeError:
                    pass
        args = parse_json(text) if text else None
        return _classify(envelope.namespace, envelope.name, envelope.id, args, text, time)
    except (msgspec.DecodeError, UnicodeError, RecursionError, NotJson):
        return _decode_slowly(frame)


def _decode_slowly(frame: str | bytes) -> Message:
    """Read what the strict envelope refused: relayed frames, odd types, text that is no JSON at all."""
    text = frame if isinstance(frame, str) else frame.decode("utf-8", "replace")
    peer, body = split_relay(text)
    if peer is not None:
        message = decode(body)
        if isinstance(message, Malformed):
            return _malformed(text, message.reason)
        message.peer = scrub(peer)
        return message
    try:
        value = parse_json(text)
    except NotJson as error:
        return _malformed(text, f"broken JSON: {error}" if text.startswith("{") else "not a JSON object")
    if not isinstance(value, dict):
        return _malformed(text, "not a JSON object")
    namespace, name = value.get("namespace"), value.get("name")
    if not isinstance(namespace, str) or not isinstance(name, str):
        return _malformed(text, "no namespace and name")
    args = value.get("args")
    time = _microseconds(value.get("time"))
    return _classify(namespace, name, value.get("id", ""), args, scrub(dump_json(args)), time)


def _malformed(text: str, reason: str) -> Malformed:
    return Malformed(scrub(text), reason)


def _classify(namespace: str, name: str, id: Json, args: Json, text: str, time: int | None) -> Message:
    fields = args if isinstance(args, dict) else {}
    # The document gives an error the namespace of the request; an event of that name has no code.
    if namespace == "error" or (name == "error" and (namespace != "events" or id or "code" in fields)):
        code = fields.get("code", 0)
        try:
            code = int(code)
        except (TypeError, ValueError, OverflowError):
            code = 0
        return ErrorReply(id, namespace, code, _text(fields.get("message")), args)
    if name == "response":
        return Reply(id, namespace, name, args)
    if namespace == "events":
        name = _CANONICAL.get(name, name)
        loose = LOOSE.get(name)
        return Event(name, text or "null", args if loose is None else loose(args), id, time)
    # A reply to a request without a proper id carries the request's own name: such a frame and a
    # request of the peer look alike. We always send an id, so this is the peer asking.
    return Request(namespace, name, id, args)


def split_relay(text: str) -> tuple[str | None, str]:
    """Take a bridge's frame apart.

    Returns
    -------
    tuple of (str or None, str)
        The peer in the first line, and the JSON behind it (base64 undone); ``None`` and the text as it
        is when this is no relayed frame.

    Examples
    --------
    >>> split_relay('::{1}\\n{"a":1}')
    ('::{1}', '{"a":1}')
    >>> split_relay('::{1}\\neyJhIjoxfQ==')
    ('::{1}', '{"a":1}')
    >>> split_relay('{"a":1}')
    (None, '{"a":1}')
    """
    if text.startswith("{"):
        return None, text
    peer, newline, body = text.partition("\n")
    if not newline or not peer:
        return None, text
    if body.startswith("{"):
        return peer, body
    try:
        plain = base64.b64decode(body.strip(), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return None, text
    return (peer, plain) if plain.startswith("{") else (None, text)


def encode(namespace: str, name: str, args: Json, id: Json = "", time: int | datetime | None = None) -> str:
    """Write a frame the way real servers do: compact, keys sorted, non-ASCII as it is.

    >>> encode("events", "subscribe", ["dispatcher"], "q1")
    '{"args":["dispatcher"],"id":"q1","name":"subscribe","namespace":"events"}'
    """
    envelope: dict[str, Json] = {"args": args, "id": id, "name": name, "namespace": namespace}
    if time is not None:
        envelope["time"] = format_time(time)
    return dump_json(envelope)


def encode_event(name: str, args: Json, time: int | datetime | None = None) -> str:
    """Write an event; ``time`` is our addition to the envelope, which other clients pass over.

    >>> encode_event("bridge", {"available_connections": []})
    '{"args":{"available_connections":[]},"id":"","name":"bridge","namespace":"events"}'
    """
    return encode("events", name, args, "", time)


def encode_error(code: int, id: Json = "") -> str:
    """Write an error as real servers do: the code as text, the namespace ``error``.

    >>> encode_error(401, "q0")
    '{"args":{"code":"401","message":"Unauthorized"},"id":"q0","name":"error","namespace":"error"}'
    """
    args = {"code": str(code), "message": ERROR_MESSAGES.get(code, "Error")}
    return encode("error", "error", args, id)


def encode_relay(destination: str, text: str, base64_body: bool = False) -> str:
    """Address a frame to a peer behind a bridge.

    >>> encode_relay("::{1}", "{}")
    '::{1}\\n{}'
    """
    body = base64.b64encode(text.encode("utf-8", "replace")).decode() if base64_body else text
    return f"{destination}\n{body}"


def decode_request(text: str | bytes) -> Request | BadRequest:
    """Read a frame as a server does.

    A frame must begin with ``{``; another is taken for a bridge's ``SOURCE\\nBODY``. An id that is
    missing, null, empty or no text counts as ``""``. Where ``args`` is missing the whole body stands
    in for it.

    Examples
    --------
    >>> decode_request('{"namespace":"rpc","name":"identify","id":7}').id
    ''
    >>> decode_request("hello").prefix
    'hello'
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    body, prefix = text, ""
    if not text.startswith("{"):
        prefix, _, body = text.partition("\n")
        relay, plain = split_relay(text)
        if relay is not None:
            body = plain
    body = body.removesuffix("\n")
    try:
        value = parse_json(body)
    except NotJson:
        return BadRequest("not JSON", prefix=prefix)
    if body.count("[") + body.count("{") > _DEEPEST and _is_deeper(value, _DEEPEST):
        return BadRequest("nested too deep", prefix=prefix)
    # Real servers look at the first and the last character; a line end is the only thing allowed behind.
    if not isinstance(value, dict) or not body.endswith("}") or (text[:1] != "{" and not prefix):
        return BadRequest("not a JSON object", prefix=prefix)
    id = value.get("id")
    id = id if isinstance(id, str) else ""
    namespace, name = value.get("namespace"), value.get("name")
    if not (isinstance(namespace, str) and isinstance(name, str) and namespace and name):
        return BadRequest("no namespace and name", id=id, prefix=prefix)
    request = Request(namespace, name, id, value.get("args", value))
    request.peer = prefix or None
    return request


_DEEPEST: Final = 1024  # as far as the reader of real servers goes; Python's own bound differs by release


def _is_deeper(value: Json, limit: int) -> bool:
    """Whether arrays and objects stand in one another more than ``limit`` deep."""
    level: list[Json] = [[value]]
    for _ in range(limit + 1):
        inner = [item for outer in level for item in (outer.values() if isinstance(outer, dict) else outer)]
        level = [item for item in inner if isinstance(item, dict | list)]
        if not level:
            return False
    return True
