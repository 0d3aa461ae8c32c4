"""Events as they reach the user, and telling old news from new."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from sysadm_nb import wire


class ReceivedEvent(NamedTuple):
    """An event as callbacks and ``async for`` get it.

    Attributes
    ----------
    server : str
        Which server sent it, as in the tables.
    name : str
        ``dispatcher``, ``life-preserver``, ``system-state``, ``bridge`` or as sent.
    args : object
        Its arguments: the JSON as Python values.
    time : datetime
        When it happened (UTC): from the event where it says so, else the arrival.
    received : datetime
        When it came (UTC).
    origin : str
        ``live``, ``last`` (old news, resent at a subscribe), ``polled`` or ``backfill``.
    """

    server: str
    name: str
    args: Any
    time: datetime
    received: datetime
    origin: str

    @classmethod
    def of(cls, event: wire.Event, server: str, received: int, origin: str) -> ReceivedEvent:
        came = wire.to_datetime(received)
        happened = came if event.time is None else wire.to_datetime(event.time)
        return cls(server, event.name, event.args, happened, came, origin)


class ResendMarker:
    """Tells the last event, which a server resends at every subscribe, from live ones.

    The resend comes between our request and its reply, at most once for each class. A class that was not
    subscribed before sends nothing else there first, so the first event of it is the resend. A class that may
    have been subscribed already (a subscribe whose reply never came) can send live ones in between: there the
    resend is the one that equals the event before it.
    """

    def __init__(self) -> None:
        # class -> the event seen before it, where live ones may come in between
        self._expected: dict[str, str | None] = {}
        self._seen: dict[str, str] = {}
        self._maybe: set[str] = set()

    def requested(self, classes: Iterable[str]) -> None:
        for name in classes:
            if name != "dispatcher":  # has no resend
                self._expected[name] = self._seen.get(name) if name in self._maybe else None

    def replied(self, classes: Iterable[str]) -> None:
        for name in classes:
            self._expected.pop(name, None)
            self._maybe.discard(name)

    def unanswered(self, classes: Iterable[str]) -> None:
        """The subscribe timed out or was refused: the server may have taken it all the same."""
        for name in classes:
            self._expected.pop(name, None)
            self._maybe.add(name)

    @property
    def watching(self) -> bool:
        return bool(self._expected or self._maybe)

    def origin(self, event: wire.Event) -> str:
        """``last`` or ``live`` for an event that came while `watching`."""
        name = event.name
        before = self._expected.get(name)
        resent = name in self._expected and (before is None or before == event.text)
        if resent:
            del self._expected[name]
        elif before is not None:
            self._expected[name] = event.text
        if self._maybe:
            self._seen[name] = event.text
        return "last" if resent else "live"
