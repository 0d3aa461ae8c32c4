"""Playing a capture of the original server to ours: what was sent is sent, what came back is compared."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

CAPTURES = Path(__file__).parent.parent / "data" / "captures"
WAIT = 15.0


@dataclass
class Step:
    """One frame that was sent, and the frames that came back before the next was.

    ``came`` is what came on the same connection until that sent again, ``since`` what came on any connection
    until any sent again.
    """

    frame: str | bytes
    connection: str
    time: float
    notes: list[str] = field(default_factory=list)
    came: list[str] = field(default_factory=list)
    since: list[tuple[str, str]] = field(default_factory=list)
    truncated: bool = False

    @property
    def id(self) -> str:
        """The request's id, or the note before it where it has none."""
        try:
            text = self.frame if isinstance(self.frame, bytes) else self.frame[self.frame.index("{") :]
            value = json.loads(text)["id"]
            return value if isinstance(value, str) and value else self.label
        except (ValueError, TypeError, KeyError, RecursionError):
            return self.label

    @property
    def label(self) -> str:
        return self.notes[-1] if self.notes else ""


_FILLED = re.compile(r"(.)\.\.\.<(\d+) chars total>\.\.\.")


def _whole(frame: str) -> str:
    """Undo what the recorder cut out of frames of a million equal characters."""
    match = _FILLED.search(frame)
    if match is None:
        return frame
    missing = int(match[2]) - (len(frame) - len(match[0]) + 1)
    return frame[: match.start() + 1] + match[1] * missing + frame[match.end() :]


def steps(name: str) -> Iterator[Step]:
    """The sent frames of a capture in order."""
    notes: list[str] = []
    last: dict[str, Step] = {}
    found: list[Step] = []
    for line in (CAPTURES / f"{name}.jsonl").read_text().split("\n")[:-1]:
        entry = json.loads(line)
        connection = entry.get("conn", "A")
        if entry["dir"] == "note":
            notes.append(entry["frame"])
        elif entry["dir"] == "out":
            text = _whole(entry["frame"])
            frame = text.encode("latin-1") if entry.get("binary") else text
            step = Step(frame, connection, entry["t"], notes[-1:], truncated=entry.get("truncated", False))
            last[connection] = step
            found.append(step)
            notes.clear()
        elif connection in last:
            last[connection].came.append(entry["frame"])
            found[-1].since.append((connection, entry["frame"]))
    yield from found


def split(frame: str) -> tuple[str, Any]:
    """A bridge's first line, if there is one, and the JSON."""
    head, newline, body = frame.rpartition("\n{")
    return (head, json.loads("{" + body)) if newline else ("", json.loads(frame))


def is_event(frame: str) -> bool:
    if not frame.endswith("}"):  # cut by the recorder: an event with a long log, or a reply with a long id
        return '"id":"yyy' not in frame
    _, value = split(frame)
    return (
        value.get("namespace") == "events"
        and value.get("name")
        in (
            "dispatcher",
            "system-state",
            "life-preserver",
        )
        and value.get("id") == ""
    )


class Player:
    """One connection to the server under test, and everything that came over it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[str] = []
        self.closed: tuple[int, str] | None = None

    def send(self, frame: str | bytes) -> None:
        try:
            self.connection.send(frame)
        except ConnectionClosed as end:
            self._end(end)

    def receive(self, timeout: float) -> str | None:
        try:
            frame = self.connection.recv(timeout=timeout)
        except TimeoutError:
            return None
        except ConnectionClosed as end:
            self._end(end)
            return None
        assert isinstance(frame, str)
        self.frames.append(frame)
        return frame

    def _end(self, end: ConnectionClosed) -> None:
        if end.rcvd is not None:
            self.closed = (end.rcvd.code, end.rcvd.reason)

    def replies(self, count: int, timeout: float = WAIT) -> list[str]:
        """The next frames up to the ``count``-th that is no event."""
        got: list[str] = []
        while sum(not is_event(frame) for frame in got) < count:
            frame = self.receive(timeout)
            if frame is None:
                break
            got.append(frame)
        return got

    def until(self, done: Callable[[list[str]], bool], timeout: float = WAIT) -> None:
        """Receive until ``done(all frames so far)``."""
        while not done(self.frames) and self.receive(timeout) is not None:
            pass


# --- what of a frame is compared ----------------------------------------------------------------------------


def comparable(frame: str) -> Any:
    """A frame without what cannot be the same twice: tokens, random words, host names, times."""
    prefix, value = split(frame)
    args = value.get("args")
    if isinstance(args, list) and len(args) == 2 and isinstance(args[0], str) and len(args[0]) >= 20:
        value["args"] = ["<token>", "<seconds>"]
    elif isinstance(args, dict):
        for key, mark in (("hostname", "<hostname>"), ("test_string", "<random>")):
            if key in args:
                args[key] = mark
    value.pop("time", None)
    return prefix, value


@dataclass
class Outcome:
    """What one job came to."""

    commands: list[str]
    logs: dict[str, str]
    codes: dict[str, str]


def outcomes(frames: list[str]) -> dict[str, list[Outcome]]:
    """The outcomes of all finished jobs by process id, from either form of the events."""
    found: dict[str, list[Outcome]] = {}
    for frame in frames:
        if not is_event(frame) or '"name":"dispatcher"' not in frame:
            continue
        args = split(frame)[1]["args"]
        details = args.get("process_details", args)
        if args.get("state") != "finished":
            continue
        commands = details["cmd_list"]
        found.setdefault(details["process_id"], []).append(
            Outcome(
                commands,
                {command: details[command] for command in commands if command in details},
                {c: details[f"return_codes/{c}"] for c in commands if f"return_codes/{c}" in details},
            )
        )
    return found


def sign(private_key: Any, challenge: str) -> str:
    """RSA private-key encryption of the text itself, PKCS#1 v1.5 type 1: what `auth_ssl` wants.

    By hand: libraries sign digests only.
    """
    numbers = private_key.private_numbers()
    modulus = numbers.public_numbers.n
    size = (modulus.bit_length() + 7) // 8
    text = challenge.encode()
    padded = b"\x00\x01" + b"\xff" * (size - len(text) - 3) + b"\x00" + text
    return base64.b64encode(pow(int.from_bytes(padded), numbers.d, modulus).to_bytes(size)).decode()
