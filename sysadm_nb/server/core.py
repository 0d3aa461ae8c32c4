"""The event server: sockets in, requests answered, events out. (Skeleton: the interface others build on.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class Session:
    """One client of the server, whatever carries its frames (a WebSocket, or a bridge that relays them)."""

    base64: bool
    """True from the second step of a relayed ``auth_ssl`` on: the carrier must base64 the bodies both ways."""

    async def receive(self, text: str) -> None:
        """Take one request frame; replies and events go out through the carrier's ``send``."""

    def end(self) -> None:
        """The carrier is gone: forget the client, its subscriptions and its requests under way."""


class EventServer:
    """Asyncio event server; `serve` and `Server` wrap it for notebooks."""

    url: str

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def publish(self, name: str, args: Mapping[str, Any], time: int | None = None) -> None: ...

    def attach(
        self,
        send: Callable[[str], None],
        close: Callable[[int, str], None],
        address: str,
        *,
        relayed: bool = False,
    ) -> Session:
        """A client that does not come over a socket of ours: a peer behind a bridge (``relayed=True``).

        ``send(text)`` and ``close(code, reason)`` are called on the loop and must not block. The carrier adds
        the peer's first line itself and, while ``session.base64``, encodes the body.
        """
        raise NotImplementedError

    def key_checksums(self) -> list[str]:
        """base64(MD5(public key)) of every registered key: what a bridge asks for (``list_ssl_checksums``)."""
        return []
