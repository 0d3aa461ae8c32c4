"""A client that shows every frame: plain websockets, nothing of ours but the words of the protocol."""

from __future__ import annotations

import contextlib
import json
import logging
import ssl
from collections.abc import Callable, Iterator
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

WAIT = 15.0

_QUIET = logging.getLogger("tests.wire_client")  # websockets logs whole frames, passwords too, at DEBUG
_QUIET.setLevel(logging.INFO)


class WireClient:
    """One connection; ``frames`` keeps everything that came, in order."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None

    def send(self, namespace: str, name: str, args: Any, id: Any = "q") -> None:
        self.connection.send(json.dumps({"namespace": namespace, "name": name, "id": id, "args": args}))

    def receive(self, timeout: float = WAIT) -> dict[str, Any] | None:
        """The next frame; None after a while, or at the end of the connection (then see ``closed``)."""
        try:
            frame = json.loads(self.connection.recv(timeout=timeout))
        except TimeoutError:
            return None
        except ConnectionClosed as end:
            self.closed = (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")
            return None
        assert isinstance(frame, dict)
        self.frames.append(frame)
        return frame

    def request(self, namespace: str, name: str, args: Any, id: str = "q") -> dict[str, Any]:
        """Send a request and return its reply; events before it stay in ``frames``."""
        self.send(namespace, name, args, id)
        while (frame := self.receive()) is not None:
            if frame["namespace"] != "events" or frame["name"] in ("response", "error"):
                return frame
        raise AssertionError(f"no reply to {namespace}/{name}; closed: {self.closed}")

    def login(self, user: str = "admin", password: str = "secret") -> str:
        reply = self.request("rpc", "auth", {"username": user, "password": password})
        assert reply["name"] == "response", reply
        return str(reply["args"][0])

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        return [
            frame["args"]
            for frame in self.frames
            if frame["namespace"] == "events"
            and frame["name"] != "response"
            and name in (None, frame["name"])
        ]

    def until(self, done: Callable[[], bool], timeout: float = WAIT) -> None:
        while not done():
            assert self.receive(timeout) is not None, f"closed {self.closed}; last {self.frames[-1:]}"

    def wait_closed(self, timeout: float = WAIT) -> tuple[int, str]:
        while self.closed is None:
            assert self.receive(timeout) is not None or self.closed is not None, "still open"
        return self.closed


@contextlib.contextmanager
def dial(
    url: str, *, origin: str | None = None, tls: ssl.SSLContext | None = None, login: bool = True
) -> Iterator[WireClient]:
    """Connect, and log in as ``admin`` with ``secret``."""
    with connect(
        url,
        origin=None if origin is None else Origin(origin),
        ssl=tls,
        compression=None,
        max_size=None,
        logger=_QUIET,
    ) as connection:
        client = WireClient(connection)
        if login:
            client.login()
        yield client
