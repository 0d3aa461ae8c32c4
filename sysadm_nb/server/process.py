"""Running one command as a real process: no shell, a process group of its own, bounded output."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import shlex
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

CANNOT_START: Final = -1
"""Return code of a command that could not be started, as real servers give it."""

_BYTES_PER_SECOND: Final = 32 * 2**20  # a command that prints faster waits: the loop has others to serve
_DRAIN_S: Final = 1.0


class Output:
    """Text of any length in bounded memory: its beginning, its end, and a mark where something is missing.

    Parameters
    ----------
    limit : int
        Characters kept; half of them from the beginning.

    Examples
    --------
    >>> output = Output(limit=8)
    >>> for word in ("abcdef", "ghij", "klmn"): output.add(word)
    >>> print(output.text())
    abcd
    [... 6 characters left out ...]
    klmn
    """

    def __init__(self, limit: int) -> None:
        self._room = limit // 2
        self._tail_limit = limit - limit // 2
        self._head: list[str] = []
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self._dropped = 0

    def add(self, text: str) -> None:
        if self._room:
            self._head.append(text[: self._room])
            self._room -= len(self._head[-1])
            text = text[len(self._head[-1]) :]
        if not text:
            return
        self._tail.append(text)
        self._tail_size += len(text)
        while self._tail_size > self._tail_limit:
            first = self._tail.popleft()
            excess = min(self._tail_size - self._tail_limit, len(first))
            if excess < len(first):
                self._tail.appendleft(first[excess:])
            self._tail_size -= excess
            self._dropped += excess

    def text(self, limit: int | None = None) -> str:
        """What was kept, or less of it."""
        head, tail, dropped = "".join(self._head), "".join(self._tail), self._dropped
        if limit is not None and len(head) + len(tail) > limit:
            kept = head + tail
            head, tail = kept[: limit // 2], kept[len(kept) - (limit - limit // 2) :]
            dropped += len(kept) - limit
        if not dropped:
            return head + tail
        return f"{head}\n[... {dropped} characters left out ...]\n{tail}"

    def __bool__(self) -> bool:
        return bool(self._head)


def split(command: str) -> list[str]:
    """The program and its arguments; quotes as in a shell, but no shell: ``|``, ``$`` and ``*`` are text.

    Raises
    ------
    ValueError
        If a quote is not closed.

    Examples
    --------
    >>> split('echo "two  words" | cat')
    ['echo', 'two  words', '|', 'cat']
    """
    return shlex.split(command)


class Process:
    """Runs the commands of one job, one at a time, and can kill the one under way."""

    def __init__(self, environment: Mapping[str, str], cwd: str, grace: float) -> None:
        self._environment, self._cwd, self._grace = dict(environment), cwd, grace
        self._group: int | None = None
        self._killing: asyncio.Task[None] | None = None
        self.killed = False

    async def run(self, command: str, received: Callable[[str], None]) -> int:
        """Run a command to its end.

        Parameters
        ----------
        command : str
            Program and arguments.
        received : callable
            Gets what it prints, standard output and error as they come, as text (UTF-8, with U+FFFD for
            what is not).

        Returns
        -------
        int
            The exit status; the number of the signal that ended it; -1 if it could not be started.
        """
        if self.killed:
            return CANNOT_START
        loop = asyncio.get_running_loop()
        try:
            arguments = split(command)
            if not arguments:
                return CANNOT_START
            transport, watch = await loop.subprocess_exec(
                lambda: _Watch(received, loop),
                *arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._cwd,
                start_new_session=True,
            )
        except (OSError, ValueError):
            return CANNOT_START
        self._group = transport.get_pid()
        if self.killed:  # while it was being started
            self.kill()
        try:
            await watch.exited
            # A child that went to the background may hold the pipe open for ever.
            await asyncio.wait([watch.closed], timeout=_DRAIN_S)
        except asyncio.CancelledError:
            self._signal(signal.SIGKILL)
            raise
        finally:
            watch.finish()
            if self._killing is not None:
                # The leader is gone; what is left of its group must not outlive it.
                self._killing.cancel()
                self._signal(signal.SIGKILL)
            self._group = None
            transport.close()
        code = transport.get_returncode()
        assert code is not None
        return code if code >= 0 else -code

    def kill(self) -> None:
        """Ask the whole process group to end, and end it when it does not within the grace."""
        self.killed = True
        if self._group is not None and self._killing is None:
            self._killing = asyncio.ensure_future(self._terminate())

    async def _terminate(self) -> None:
        self._signal(signal.SIGTERM)
        await asyncio.sleep(self._grace)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, number)


class _Watch(asyncio.SubprocessProtocol):
    """Decodes what a process prints, no faster than the loop can bear."""

    def __init__(self, received: Callable[[str], None], loop: asyncio.AbstractEventLoop) -> None:
        self._received, self._loop = received, loop
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._began, self._count = loop.time(), 0
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        pipe = transport.get_pipe_transport(1)
        assert isinstance(pipe, asyncio.ReadTransport)
        self._pipe = pipe

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if text := self._decoder.decode(data):
            self._received(text)
        self._count += len(data)
        ahead = self._count / _BYTES_PER_SECOND - (self._loop.time() - self._began)
        if ahead > 0.05:
            self._pipe.pause_reading()
            self._loop.call_later(ahead, self._resume)
        elif ahead < -1:
            self._began, self._count = self._loop.time(), 0

    def _resume(self) -> None:
        if not self._pipe.is_closing():
            self._pipe.resume_reading()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)

    def finish(self) -> None:
        """No more output counts: give out what the decoder still holds."""
        if text := self._decoder.decode(b"", final=True):
            self._received(text)
        self._received = lambda text: None
