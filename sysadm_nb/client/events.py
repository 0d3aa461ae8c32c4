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

    The resend of a class comes between our request and its reply, once for each request. To a class that was
    not subscribed before nothing else can come there, so the first event of it is the resend. A class that is
    subscribed already, because an earlier request was answered late, can send live ones in between: there the
    resend is the one that equals the event before it.
    """

    def __init__(self) -> None:
        self._open: dict[
            str, set[str]
        ] = {}  # requests without a reply -> classes whose resend may still come
        self._subscribed: set[str] = set()
        self._seen: dict[str, str] = {}

    @property
    def watching(self) -> bool:
        """Whether a resend may come; otherwise `origin` need not be asked."""
        return bool(self._open)

    def requested(self, id: str, classes: Iterable[str]) -> None:
        """A subscribe goes out."""
        self._open[id] = set(classes) - {"dispatcher"}  # it has no resend

    def replied(self, id: str, granted: bool) -> None:
        """The reply to a request has come, however late."""
        classes = self._open.pop(id, set())
        if granted:
            self._subscribed |= classes
        if not self._open:
            self._seen.clear()

    def unsubscribed(self, classes: Iterable[str]) -> None:
        """Nothing comes of these any more."""
        self._subscribed.difference_update(classes)

    def origin(self, event: wire.Event) -> str:
        """``last`` or ``live`` for an event that came while `watching`."""
        name, origin = event.name, "live"
        for expected in self._open.values():
            if name in expected:
                if name not in self._subscribed or self._seen.get(name) == event.text:
                    expected.discard(name)
                    self._subscribed.add(name)
                    origin = "last"
                break
        self._seen[name] = event.text
        return origin
