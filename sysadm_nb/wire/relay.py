"""Frames that a bridge passes on: who sent them in the first line, or whom they are for."""

from __future__ import annotations

import base64
import binascii


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


def encode_relay(destination: str, text: str, base64_body: bool = False) -> str:
    """Address a frame to a peer behind a bridge.

    >>> encode_relay("::{1}", "{}")
    '::{1}\\n{}'
    """
    body = base64.b64encode(text.encode("utf-8", "replace")).decode() if base64_body else text
    return f"{destination}\n{body}"
