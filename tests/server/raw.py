"""WebSockets by hand: for what a well-behaved library will not send."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

WAIT = 15.0


def handshake(
    url: str, headers: dict[str, str] | None = None, receive_buffer: int = 0
) -> tuple[socket.socket, str]:
    """Ask for a WebSocket; returns the socket and the status line with what follows."""
    parts = urlsplit(url)
    connection = socket.socket()
    connection.settimeout(WAIT)
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect((parts.hostname, parts.port))
    lines = {
        "Host": f"{parts.hostname}:{parts.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
    } | (headers or {})
    request = "GET / HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    connection.sendall(request.encode())
    answer = b""
    while b"\r\n\r\n" not in answer and (data := connection.recv(4096)):
        answer += data
    return connection, answer.decode()


def masked(payload: bytes, opcode: int = 1, final: bool = True) -> bytes:
    """A client's frame, masked with zeros."""
    head = bytes([(0x80 if final else 0) | opcode])
    if len(payload) < 126:
        head += bytes([0x80 | len(payload)])
    elif len(payload) < 2**16:
        head += bytes([0x80 | 126]) + len(payload).to_bytes(2)
    else:
        head += bytes([0x80 | 127]) + len(payload).to_bytes(8)
    return head + bytes(4) + payload


def request(namespace: str, name: str, args: Any, id: str = "q") -> bytes:
    return masked(json.dumps({"namespace": namespace, "name": name, "id": id, "args": args}).encode())


def subscribed(url: str, *classes: str, receive_buffer: int = 0) -> socket.socket:
    """A socket that has logged in as ``admin`` and subscribed; it reads no further."""
    connection, _ = handshake(url, receive_buffer=receive_buffer)
    for frame in (
        request("rpc", "auth", {"username": "admin", "password": "secret"}),
        request("events", "subscribe", list(classes)),
    ):
        connection.sendall(frame)
        assert b'"response"' in connection.recv(4096)
    return connection
