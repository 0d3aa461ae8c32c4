"""Fan-out: who gets which events, and one frame for all of them.

An event is encoded and framed once. The first after a pause leaves at once; those that follow within two
milliseconds leave together in one write, which is worth far more than framing once. Nothing here waits: a
carrier that cannot keep up bounds its own buffer and closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cached_property
from typing import Final, Protocol

from websockets.frames import Frame, Opcode

from sysadm_nb import wire

RESENT: Final = ("system-state", "life-preserver")
"""Classes whose last event is sent again at every subscribe."""

_FLUSH_BYTES: Final = 256 * 1024
_FLUSH_PAUSE_S: Final = 0.002


def frame(text: str) -> bytes:
    """One text message as a server sends it: unmasked, in one frame, not compressed."""
    return Frame(Opcode.TEXT, text.encode("utf-8", "replace")).serialize(mask=False)


class Batch:
    """Some events in order, and their frames, made when the first socket asks for them."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    @cached_property
    def framed(self) -> bytes:
        return b"".join([frame(text) for text in self.texts])


class Carrier(Protocol):
    """What brings frames to one client."""

    def send(self, text: str) -> None: ...

    def send_batch(self, batch: Batch) -> None: ...

    def close(self, code: int, reason: str) -> None: ...


class Hub:
    """The subscriptions of all clients that have logged in."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # Clients with the same subscriptions get the same bytes: there are at most eight groups.
        self._groups: dict[frozenset[str], set[Carrier]] = {}
        self._classes: dict[Carrier, frozenset[str]] = {}
        self._last: dict[str, str] = {}
        self._pending: list[tuple[str, str]] = []
        self._pending_bytes = 0
        self._next_flush = 0.0  # not before this, in seconds of the loop's clock
        self._timer: asyncio.Handle | None = None

    def __len__(self) -> int:
        return len(self._classes)

    @property
    def subscribers(self) -> int:
        return sum(len(carriers) for classes, carriers in self._groups.items() if classes)

    def classes(self, carrier: Carrier) -> frozenset[str]:
        return self._classes.get(carrier, frozenset())

    def join(self, carrier: Carrier, classes: Iterable[str] = ()) -> None:
        """Set what a client is subscribed to (no class: only events that need no subscription)."""
        self.flush()  # what was published before goes to those who were subscribed then
        self._remove(carrier)
        wanted = frozenset(classes)
        self._classes[carrier] = wanted
        self._groups.setdefault(wanted, set()).add(carrier)

    def leave(self, carrier: Carrier) -> None:
        self._remove(carrier)

    def _remove(self, carrier: Carrier) -> None:
        old = self._classes.pop(carrier, None)
        if old is not None:
            group = self._groups[old]
            group.discard(carrier)
            if not group:
                del self._groups[old]

    def last(self, name: str) -> str | None:
        """The event to send again at a subscribe to this class."""
        return self._last.get(name)

    def keep_last(self, name: str, text: str | None) -> None:
        """Set the event to send again at a subscribe to this class; None: there is none."""
        if text is None:
            self._last.pop(name, None)
        else:
            self._last[name] = text

    def publish(self, name: str, text: str) -> None:
        """Send an event to its subscribers, within two milliseconds."""
        if name in RESENT:
            self._last[name] = text
        if not self._classes:
            return
        if self._timer is None:
            self._timer = self._loop.call_at(self._next_flush, self.flush)
        self._pending.append((name, text))
        self._pending_bytes += len(text)
        if self._pending_bytes >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand over what is waiting."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer, self._next_flush = None, self._loop.time() + _FLUSH_PAUSE_S
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        for wanted, carriers in list(self._groups.items()):
            # Other names than the three need no subscription, as the bridge's do not.
            texts = [text for name, text in pending if name in wanted or name not in wire.CLASSES]
            if texts:
                batch = Batch(texts)
                for carrier in list(carriers):
                    carrier.send_batch(batch)
