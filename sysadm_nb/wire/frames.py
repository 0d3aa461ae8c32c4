"""Frames: what one text message is, in both directions.

Reading never raises: whatever a peer sends becomes an :class:`Event`, :class:`Reply`,
:class:`ErrorReply`, :class:`Request` or, when it is none of these, :class:`Malformed` with its text.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sysadm_nb.wire.jsontext import Json, NotJson, dump_json, parse_json
from sysadm_nb.wire.messages import ERROR_MESSAGES, BadRequest, Message, Request
from sysadm_nb.wire.reading import read_frame
from sysadm_nb.wire.relay import split_relay
from sysadm_nb.wire.units import format_time


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
    return read_frame(frame)


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
