"""A real TCP proxy on loopback that does what networks do: cut, stall, delay, refuse, and worse.

It stands between a client and a server; `FaultProxy` methods bring the faults. Everything runs on the asyncio
loop that it was started on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct


class _Link:
    """One client's connection and the one to the server behind it."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.writers: list[asyncio.StreamWriter] = []
        self.left: int | None = None  # bytes towards the client until the cut; None: no end
        self.running = {"up": asyncio.Event(), "down": asyncio.Event()}
        for event in self.running.values():
            event.set()

    def abort(self) -> None:
        for writer in self.writers:
            with contextlib.suppress(OSError, AttributeError):  # it may be closed already
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
            writer.transport.abort()

    async def pump(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if self.proxy.delay:
                    await asyncio.sleep(self.proxy.delay)
                await self.running[way].wait()
                if way == "down" and self.left is not None:
                    data, self.left = data[: self.left], self.left - len(data)
                    writer.write(data)
                    if self.left <= 0:
                        await asyncio.sleep(0.005)  # so that the half frame arrives before the reset
                        self.abort()
                        return
                    continue
                writer.write(data)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            with contextlib.suppress(OSError):
                writer.close()


class FaultProxy:
    """Listens on a port of its own and passes everything on to ``port``, until told otherwise.

    Attributes
    ----------
    port : int
        Where clients connect.
    delay : float
        Seconds by which everything comes later.
    passed : int
        Connections taken so far.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.target = port
        self.port = 0
        self.delay = 0.0
        self.passed = 0
        self.duplicate = False
        self._tls = tls
        self._mute = False
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FaultProxy:
        await self.listen()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.refuse()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- faults -----------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Take connections (again, after `refuse`), on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._accept, "127.0.0.1", self.port, ssl=self._tls, reuse_address=True
            )
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections; those there are stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)

    def mute(self, on: bool = True) -> None:
        """Take new connections and say nothing, like a server that hangs."""
        self._mute = on

    def cut(self, after: int | None = None) -> None:
        """Reset every connection: now, or in the middle of a frame after so many more bytes to the client."""
        for link in self._links:
            if after is None:
                link.abort()
            else:
                link.left = after

    def stall(self, way: str) -> None:
        """Let nothing through any more, ``up`` (to the server) or ``down``, on the connections there are."""
        for link in self._links:
            link.running[way].clear()

    def resume(self) -> None:
        """End every stall."""
        for link in self._links:
            for event in link.running.values():
                event.set()

    async def swap_certificate(self, tls: ssl.SSLContext) -> None:
        """Show another certificate from the next connection on."""
        await self.refuse()
        self._tls = tls
        await self.listen()

    # -- passing on -------------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.passed += 1
        link = _Link(self)
        link.writers.append(writer)
        self._links.add(link)
        try:
            while self._mute:
                await asyncio.sleep(0.02)
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
            link.writers.append(up_writer)
            sinks = [link.pump("down", up_reader, writer)]
            if self.duplicate:  # what the client sends goes to the server twice, over a connection each
                second_reader, second_writer = await asyncio.open_connection("127.0.0.1", self.target)
                link.writers.append(second_writer)
                sinks += [self._both(reader, up_writer, second_writer), self._swallow(second_reader)]
            else:
                sinks.append(link.pump("up", reader, up_writer))
            await asyncio.gather(*sinks)
        except OSError:
            pass
        finally:
            link.abort()
            self._links.discard(link)
            self._tasks.discard(task)

    @staticmethod
    async def _both(reader: asyncio.StreamReader, *writers: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                for writer in writers:
                    writer.write(data)
        for writer in writers:
            writer.close()

    @staticmethod
    async def _swallow(reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass
