"""Frames read, fast: :func:`sysadm_nb.wire.decode` is the public face of this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from sysadm_nb.wire.events import LOOSE, TYPED, read_envelope
from sysadm_nb.wire.jsontext import Json, NotJson, dump_json, parse_json, scrub
from sysadm_nb.wire.messages import CANONICAL, ErrorReply, Event, Malformed, Message, Reply, Request
from sysadm_nb.wire.relay import split_relay
from sysadm_nb.wire.units import MAX_TIME, MIN_TIME, format_time, parse_time


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


def read_frame(frame: str | bytes) -> Message:
    """Read one frame from a peer. Never raises."""
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
        envelope = read_envelope(frame)
        text = str(envelope.args, "utf-8")
        time = None if envelope.time is None else _microseconds(envelope.time)
        if envelope.namespace == "events":
            name = CANONICAL.get(envelope.name)
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
        message = read_frame(body)
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
        name = CANONICAL.get(name, name)
        loose = LOOSE.get(name)
        return Event(name, text or "null", args if loose is None else loose(args), id, time)
    # A reply to a request without a proper id carries the request's own name: such a frame and a
    # request of the peer look alike. We always send an id, so this is the peer asking.
    return Request(namespace, name, id, args)
