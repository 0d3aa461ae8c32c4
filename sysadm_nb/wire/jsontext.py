"""JSON as peers write it, and as we do."""

from __future__ import annotations

import json
from typing import Any, Final, TypeAlias

import msgspec

Json: TypeAlias = Any

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
