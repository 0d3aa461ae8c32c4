"""A small server that does what a test tells it: for faults and odd peers that a real one does not show."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

Handler = Callable[["Scripted", ServerConnection, dict[str, Any]], Any]


class Scripted:
    """Answers as real servers do; ``answers["rpc/query"] = …`` replaces one answer.

    An answer is a JSON value (the reply's ``args``), a callable taking the request's args, an int (an error
    code), or ``SILENCE``.
    """

    SILENCE = object()

    def __init__(self) -> None:
        self.password = "secret"
        self.requests: list[dict[str, Any]] = []
        self.peers: list[ServerConnection] = []
        self.tokens: set[str] = set()
        self.last: dict[str, dict[str, Any]] = {}  # class -> the last event's args
        self.answers: dict[str, Any] = {
            "rpc/identify": {"hostname": "scripted", "type": "server"},
            "rpc/query": {
                "rpc/dispatcher": "read/write",
                "rpc/logs": "read/write",
                "sysadm/zfs": "read/write",
            },
            "rpc/dispatcher": {"jobs": {}},
            "rpc/logs": {},
            "sysadm/zfs": {"list_pools": {}},
        }
        self.url = ""
        self.port = 0

    def asked(self, call: str) -> list[Any]:
        """The arguments of every request for a call, such as ``"rpc/auth"``."""
        return [r["args"] for r in self.requests if f"{r['namespace']}/{r['name']}" == call]

    async def send(self, frame: dict[str, Any] | str) -> None:
        text = frame if isinstance(frame, str) else json.dumps(frame)
        for peer in list(self.peers):
            await peer.send(text)

    async def publish(self, name: str, args: dict[str, Any]) -> None:
        self.last[name] = args
        await self.send({"namespace": "events", "name": name, "id": "", "args": args})

    async def handle(self, peer: ServerConnection) -> None:
        self.peers.append(peer)
        try:
            async for text in peer:
                request = json.loads(text)
                self.requests.append(request)
                await self.answer(peer, request)
        finally:
            self.peers.remove(peer)

    async def answer(self, peer: ServerConnection, request: dict[str, Any]) -> None:
        call, args, number = f"{request['namespace']}/{request['name']}", request.get("args"), request["id"]
        if call not in self.answers:
            if call == "rpc/auth":
                value: Any = [self.token(), 0] if args["password"] == self.password else 401
            elif call == "rpc/auth_token":
                value = [self.token(), 0] if args["token"] in self.tokens else 401
            elif call in ("events/subscribe", "events/unsubscribe"):
                names = [args] if isinstance(args, str) else args
                if request["name"] == "subscribe":
                    for name in names:
                        if name in self.last and name != "dispatcher":
                            event = {"namespace": "events", "name": name, "id": "", "args": self.last[name]}
                            await peer.send(json.dumps(event))
                value = {request["name"]: names[-1]}
            else:
                value = 404
        else:
            value = self.answers[call]
            if callable(value):
                value = value(args)
        if value is self.SILENCE:
            return
        if isinstance(value, int):
            error = {"args": {"code": str(value), "message": "Error"}, "id": number}
            await peer.send(json.dumps(error | {"name": "error", "namespace": "error"}))
            if value == 403:
                await peer.close(1000, "Too Many Authorization Failures - Try again later")
            return
        await peer.send(
            json.dumps({"args": value, "id": number, "name": "response", "namespace": request["namespace"]})
        )

    def token(self) -> str:
        token = f"token{len(self.tokens)}"
        self.tokens.add(token)
        return token


@asynccontextmanager
async def scripted(port: int = 0, ssl: Any = None) -> AsyncIterator[Scripted]:
    script = Scripted()
    async with serve(
        script.handle, "127.0.0.1", port, ssl=ssl, compression=None, close_timeout=0.2
    ) as server:
        script.port = server.sockets[0].getsockname()[1]
        script.url = f"{'wss' if ssl else 'ws'}://127.0.0.1:{script.port}"
        yield script


async def until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Wait until something is true; the assertion fails after the time-out."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)
