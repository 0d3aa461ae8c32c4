"""The demo machine as a source of an event server: its clock, its history, its commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pandas as pd

from sysadm_nb import wire
from sysadm_nb.errors import InputError
from sysadm_nb.server.demo import commands
from sysadm_nb.server.demo.machine import Event, Machine
from sysadm_nb.server.demo.storage import DAY, HOUR, SECOND
from sysadm_nb.server.sockets import stop_accepting
from sysadm_nb.server.source import BadRequest, Call, Publish
from sysadm_nb.tables.spans import is_number, timespan

LEAST_WAIT: Final = 0.05  # seconds: at great speeds events come in batches, twenty a second
FASTEST: Final = 1_000_000  # eleven days a second: a tenth of what the simulation can do
LONGEST_WAIT: Final = 3600.0
LONGEST_HISTORY: Final = 3660 * DAY
STEP: Final = 6 * HOUR  # simulated at once before the loop gets a turn
# Passes of the loop from accepting a stand-in to its first step: transport, connection, task, step.
_PASSES: Final = 4


class DemoMachine:
    """A simulated storage server that lives in an event server.

    Its first `history` is made when asked for (`past`), or skipped; after that it goes on with the wall
    clock, or faster. While it runs, ``zpool``, ``zfs`` and ``pkg`` on the PATH of the server's dispatcher
    act on its pools.

    Parameters
    ----------
    seed : int, default 0
        Equal seeds and equal starting times give equal machines.
    speed : float, default 1
        Seconds of the machine's clock in a second of ours.
    history : str or timedelta, default "30D"
        How long it has been running when it starts; anything ``pandas.Timedelta`` takes, with its unit.
    hold : bool, default False
        Let its clock stand still at the end of the history until `release`: so somebody can connect first
        and miss nothing.

    Raises
    ------
    InputError
        A speed that is not above 0, or a history that is not a length of time.
    """

    name = "demo"

    def __init__(
        self, seed: int = 0, speed: float = 1.0, history: object = "30D", *, hold: bool = False
    ) -> None:
        if not is_number(speed) or not 0 < speed <= FASTEST:
            raise InputError(f"speed={speed!r}: use a number above 0, at most {FASTEST:,}; 1 is real time")
        self.speed = speed
        self._wall = time.time_ns() // 1000
        start = (self._wall - _microseconds(history)) // SECOND * SECOND
        self.machine = Machine(seed, start=start)
        self._last: dict[str, Event] = {}
        self._released = asyncio.Event()
        if not hold:
            self._released.set()
        self._publish: Publish | None = None
        self._resources = contextlib.AsyncExitStack()
        self.calls: dict[str, Call] = {"sysadm/zfs": self._answer}
        self.environment: dict[str, str] = {}
        self._commands: set[asyncio.Task[Any]] = set()

    @property
    def hostname(self) -> str:
        return self.machine.hostname

    def clock(self) -> int:
        """The machine's time, in µs since the epoch (UTC)."""
        if self._publish is None or not self._released.is_set():
            return self._wall
        return self._wall + int((time.time_ns() // 1000 - self._wall) * self.speed)

    def past(self) -> Iterator[tuple[int, str]]:
        """The frames of the history with their times, made as they are read; once, before `start`."""
        for event in self.machine.run(self._wall):
            self._last[event.name] = event
            yield event.time, wire.encode_event(event.name, event.args, event.time)

    async def start(self, publish: Publish) -> None:
        while self.machine.now < self._wall:
            for event in self.machine.advance(min(self._wall, self.machine.now + DAY)):
                self._last[event.name] = event
            await asyncio.sleep(0)
        for name in ("system-state", "life-preserver"):  # so that a first subscriber gets the last of each
            if last := self._last.get(name):
                publish(last.name, last.args, last.time)
        if hasattr(asyncio, "start_unix_server"):
            await self._put_commands_on_path()
        self._publish = publish
        live = asyncio.create_task(self._live())
        self._resources.push_async_callback(_cancel, live)

    async def stop(self) -> None:
        await self._resources.aclose()
        self._publish = None

    def release(self) -> None:
        """Let the clock go on, where it was held; to be called on the server's loop."""
        self._released.set()

    async def _live(self) -> None:
        await self._released.wait()
        while True:
            while self.clock() - self.machine.now > STEP:
                self._advance(self.machine.now + STEP)
                await asyncio.sleep(0)
            self._advance(self.clock())
            wait = (self.machine.next_time() - self.clock()) / self.speed / SECOND
            await asyncio.sleep(min(max(wait, LEAST_WAIT), LONGEST_WAIT))

    def _advance(self, to: int) -> None:
        if self._publish is None:  # a request came in while the server stops
            return
        for event in self.machine.advance(max(to, self.machine.now)):
            self._publish(event.name, event.args, event.time)

    async def _answer(self, args: dict[str, Any]) -> object:
        self._advance(self.clock())
        match args.get("action"):
            case "list_pools":
                return {"list_pools": self.machine.state()["zpools"]}
            case "datasets":
                pool = self.machine.pools.get(str(args.get("zpool")))
                if pool is None:
                    raise BadRequest(f"datasets needs zpool: one of {', '.join(self.machine.pools)}")
                return {"datasets": pool.datasets_as_sent()}
            case action:
                raise BadRequest(f"sysadm/zfs has list_pools and datasets, not {action!r}")

    async def _put_commands_on_path(self) -> None:
        # Only this user can enter the folder, so only this user's processes reach the socket in it.
        # The path of a socket has to be shorter than that of a temporary folder may be.
        parent = tempfile.gettempdir()
        folder = Path(tempfile.mkdtemp(prefix="sysadm-demo-", dir=parent if len(parent) < 70 else "/tmp"))  # noqa: S108
        self._resources.callback(shutil.rmtree, folder, ignore_errors=True)
        shutil.copyfile(Path(__file__).with_name("standin.py"), folder / "standin.py")
        for program in commands.COMMANDS:
            # A shell finds an interpreter whose path has spaces or is too long for a first line.
            python, script = shlex.quote(sys.executable), shlex.quote(str(folder / "standin.py"))
            path = folder / program
            path.write_text(f'#!/bin/sh\nexec {python} -I -S {script} {program} "$@"\n')
            path.chmod(0o700)
        server = await asyncio.start_unix_server(self._command, folder / "machine")
        self._resources.push_async_callback(self._close, server)
        self.environment = {"PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}

    async def _command(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One stand-in: a line with its arguments comes in, lines of output and the exit code go out."""
        task = asyncio.current_task()
        assert task is not None
        self._commands.add(task)
        try:
            argv = json.loads(await reader.readline())
            if argv[0] in commands.COMMANDS:
                await self._run([str(argument) for argument in argv], reader, writer)
        except (OSError, ValueError, LookupError, TypeError):
            pass  # the process was killed, or it is none of ours
        finally:
            writer.close()
            self._commands.discard(task)

    async def _run(self, argv: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def send(stream: str, text: str | int) -> None:
            writer.write(json.dumps([stream, text]).encode() + b"\n")
            await writer.drain()

        self._advance(self.clock())
        command = commands.run(self.machine, argv)
        try:
            while not reader.at_eof():
                piece = next(command)
                await asyncio.sleep(piece.after)
                self._advance(self.clock())
                if piece.text:
                    await send("err" if piece.error else "out", piece.text)
        except StopIteration as end:
            await send("exit", end.value)

    async def _close(self, server: asyncio.Server) -> None:
        stop_accepting(server)
        for _ in range(_PASSES):
            await asyncio.sleep(0)
        server.close()
        for task in list(self._commands):
            await _cancel(task)
        await server.wait_closed()


def _microseconds(history: object) -> int:
    try:
        length = timespan(history) / pd.Timedelta("1us")
    except (ValueError, TypeError):
        length = -1.0
    if not 0 <= length <= LONGEST_HISTORY:  # also not for NaT
        raise InputError(f'history={history!r}: use a length of time up to ten years, such as "30D" or "12h"')
    return int(length)


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])
