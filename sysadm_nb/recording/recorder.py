"""Recording what comes in, without ever making the loop thread wait for the disk."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from sysadm_nb import loop, wire
from sysadm_nb.errors import Closed, InputError, RecordingError
from sysadm_nb.recording import file
from sysadm_nb.recording.writer import Frame, Item, Record, Writer
from sysadm_nb.tables.spans import is_number

log = logging.getLogger("sysadm_nb.recording")

COMMIT_EVERY_S: Final = 0.25
BATCH: Final = 4096
"""Frames in one transaction: two recorders in one file take turns, and none waits long."""
OVERHEAD: Final = 200  # bytes of a queued frame beside its text
RETRY_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
CLOSE_TIMEOUT_S: Final = 60.0


class Source(Protocol):
    """What can be recorded: a monitor."""

    @property
    def tables(self) -> Any: ...

    def on_frame(self, callback: Callable[[str | bytes, int, str, str], object]) -> Callable[[], None]: ...


class Recorder:
    """Writes frames to a file from a bounded queue; made by ``monitor.record(path)`` or `record`.

    Frames are queued on the loop thread, which never waits for the disk, and committed four times a second
    by a worker thread. When the disk is full or the file cannot be written, the recorder *pauses*: what is
    in the file stays whole, the queue holds what it can, it tries again, and what did not fit is a gap row
    in the recording, with its two times.

    Parameters
    ----------
    path : str or Path
        Gone on with if it is a recording already. Two recorders may write into the same file.
    rotate_bytes : int, optional
        Begin a new file, named after the time, when one has this many bytes.
    rotate_s : float, optional
        Begin a new file when one is so many seconds old.
    keep : int, optional
        With rotation: delete all but the newest files.
    max_queue : int
        Bytes that may wait for the disk.

    Raises
    ------
    RecordingError
        If the file is something else, damaged, of a newer version, or cannot be made.
    InputError
        A bound is no number above 0.

    Attributes
    ----------
    state : str
        ``recording``, ``paused`` or ``closed``.
    detail : str
        Why it is paused.
    written, lost : int
        Frames committed, and what was not: frames that did not fit into the queue while paused, and all that
        was left in it when the recorder closed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        rotate_bytes: int | None = None,
        rotate_s: float | None = None,
        keep: int | None = None,
        max_queue: int = 64 * 2**20,
    ) -> None:
        if not is_number(max_queue) or not max_queue > 0:  # first used where nobody would hear of it
            raise InputError(f"max_queue={max_queue!r} must be a number of bytes above 0.")
        self._writer = Writer(file.locate(path), rotate_bytes=rotate_bytes, rotate_s=rotate_s, keep=keep)
        self.state = "recording"
        self.detail = ""
        self.written = 0
        self.lost = 0
        self._on_state: Callable[[str, str], object] = lambda state, detail: None
        self._queue: collections.deque[Item] = collections.deque()
        self._queued = 0  # characters
        self._max_queue = max_queue
        self._gaps: dict[str, tuple[int, int, int]] = {}  # server: first and last time lost, how many
        self._collect: Callable[[], list[Record]] = list
        self._undo: list[Callable[[], None]] = []
        self._failures = 0
        self._ending = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._loop = loop.acquire()
        self._task = self._loop.start(self._run())
        if not loop.on_loop_thread():  # a task that ends before it began would write nothing
            self._loop.run(asyncio.sleep(0))

    @property
    def base(self) -> Path:
        """The recording's name, with which all its files are opened again."""
        return self._writer.base

    @property
    def path(self) -> Path:
        """The file that is written to; with rotation it changes."""
        return self._writer.path

    def __repr__(self) -> str:
        about = f": {self.detail}" if self.detail else ""
        lost = f", {self.lost:,} lost" if self.lost else ""
        return f"<Recorder {self.path.name} {self.state}{about}, {self.written:,} frames{lost}>"

    def frame(self, text: str | bytes, received: int, server: str, origin: str) -> None:
        """Queue a frame; on the loop thread only, and cheap.

        Parameters
        ----------
        text : str or bytes
            Word for word as it came.
        received : int
            Microseconds since 1970 UTC.
        server, origin : str
            As in the tables.
        """
        if self._gaps or self._queued > self._max_queue:
            self._lose(server, received)
            return
        self._queue.append(Frame(text, received, server, origin))
        self._queued += len(text) + OVERHEAD

    def append_record(self, kind: str, time_us: int, data: dict[str, Any]) -> None:
        """Keep something that is no frame: an incident, a label. Any thread.

        Parameters
        ----------
        kind : str
            A word to find it by: ``incident``, ``label``, …
        time_us : int
            Microseconds since 1970 UTC.
        data : dict
            Plain JSON values.

        Raises
        ------
        Closed
            After ``close()``.

        See Also
        --------
        Recording.records : reads them back.
        """
        record = Record(kind, time_us, wire.dump_json(data))
        if self.state == "closed":
            raise Closed(f"The recording {self.path} is closed: nothing more can be put into it.")
        self._loop.call(self._queue.append, record)

    def follow(self, source: Source) -> None:
        """Record a monitor: its frames, and the changes of its connections."""
        tables = source.tables
        counted = 0

        def collect() -> list[Record]:
            nonlocal counted
            if tables.count("connection") == counted:
                return []
            counted, rows = tables.since("connection", counted)
            return connection_records(rows)

        def tell(state: str, detail: str) -> None:
            what = "recording paused" if state == "paused" else "recording resumed"
            tables.append_connection(what, server="", detail=f"{self.path} {detail}".strip())

        self._collect = collect
        self._on_state = tell
        self._undo.append(source.on_frame(self.frame))

    def _lose(self, server: str, received: int) -> None:
        first, _, count = self._gaps.get(server, (received, received, 0))
        self._gaps[server] = (first, received, count + 1)
        self.lost += 1

    async def _run(self) -> None:
        while not self._ending.is_set():
            pause = RETRY_S[min(self._failures, len(RETRY_S)) - 1] if self._failures else COMMIT_EVERY_S
            try:
                await asyncio.wait_for(self._ending.wait(), pause)
            except TimeoutError:
                pass
            except asyncio.CancelledError:  # the process ends and nobody closed the recorder
                self._ending.set()
            await self.flush()
        self.state = "closed"
        self._writer.close()

    async def flush(self) -> None:
        """Commit what is queued; on the loop thread. While paused some may be left."""
        async with self._flushing:
            self._take_records()
            while self._queue:
                batch = list(itertools.islice(self._queue, BATCH))
                try:
                    self.written += await self._in_thread(batch)
                except (sqlite3.Error, OSError, RecordingError) as error:
                    self._pause(error)
                    return
                except Exception as error:  # a bug of ours must not end the recording without a word
                    log.exception("Recording failed")
                    self._pause(error)
                    return
                for item in batch:
                    self._queue.popleft()
                    if isinstance(item, Frame):
                        self._queued -= len(item.text) + OVERHEAD
                self._resume()

    async def _in_thread(self, batch: list[Item]) -> int:
        try:
            work = asyncio.get_running_loop().run_in_executor(None, self._writer.write, batch)
        except RuntimeError:  # the interpreter shuts down: no worker any more, and nobody to wait for us
            return self._writer.write(batch)
        while not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError:  # first the worker ends, so that the file isn't closed under it
                self._ending.set()
        return work.result()

    def _take_records(self) -> None:
        """Put new records among the frames, each before the first that came later than it."""
        records = collections.deque(self._collect())
        if not records:
            return
        items: list[Item] = []
        for item in self._queue:
            while records and isinstance(item, Frame) and records[0].time <= item.received:
                items.append(records.popleft())
            items.append(item)
        # Not another queue: append_record has perhaps asked the loop to put something into this one.
        self._queue.clear()
        self._queue.extend([*items, *records])

    def _pause(self, error: Exception) -> None:
        self._failures += 1
        code = getattr(error, "sqlite_errorname", "")
        reason = "the disk is full" if code == "SQLITE_FULL" else str(error)
        if (self.state, self.detail) != ("paused", reason):
            self.state, self.detail = "paused", reason
            log.warning("Recording into %s is paused: %s", self.path, reason)
            self._on_state(self.state, reason)

    def _resume(self) -> None:
        for server, (first, last, count) in self._gaps.items():
            reason = self.detail or "the disk was too slow"
            detail = f"{count} frames came while the recording was paused ({reason}) and are not in it"
            self._queue.append(_gap(server, first, last, detail))
        self._gaps.clear()
        if self._failures:
            self._failures = 0
            self.state, self.detail = "recording", ""
            log.warning("Recording into %s goes on", self.path)
            self._on_state(self.state, "")

    async def aclose(self) -> None:
        """Commit what is queued and close the file; on the loop thread."""
        for undo in self._undo:
            undo()
        self._ending.set()
        await asyncio.wrap_future(self._task)
        if self._queue:
            log.warning("%d frames are not in %s: %s", len(self._queue), self.path, self.detail)
            self.lost += len(self._queue)
            self._queue.clear()  # whoever closes once more finds nothing to count

    def close(self, *, wait: bool = True) -> None:
        """Commit what is queued and close the file; closing twice is fine.

        A recorder that is paused tries once more; what it cannot write then is lost, and a warning says so.

        Parameters
        ----------
        wait : bool
            False where blocking could dead-lock: in a finalizer, or on the loop thread.
        """
        if not self._task.done():
            with contextlib.suppress(Closed):
                if wait and not loop.on_loop_thread():
                    self._loop.run_and_release(self.aclose(), CLOSE_TIMEOUT_S)
                else:
                    self._loop.release_after(self._loop.start(self.aclose()))
                return
        self._loop.release(wait=wait)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _gap(server: str, first: int, last: int, detail: str) -> Record:
    row = {"server": server, "what": "gap", "gap_start": first, "gap_end": last, "detail": detail}
    return Record("connection", last, json.dumps(row))


def connection_records(rows: Any) -> list[Record]:
    """Rows of the table ``connection`` as records; those that came out of a recording are left out."""
    import pandas as pd

    def microseconds(value: Any) -> int | None:
        return None if pd.isna(value) else int(value.value // 1000)

    return [
        Record(
            "connection",
            int(row.received.value // 1000),
            json.dumps(
                {
                    "server": row.server,
                    "what": row.what,
                    "time": microseconds(row.time),
                    "gap_start": microseconds(row.gap_start),
                    "gap_end": microseconds(row.gap_end),
                    "detail": None if pd.isna(row.detail) else row.detail,
                }
            ),
        )
        for row in rows.itertuples(index=False)
        if row.origin != "file"
    ]


def record(source: Source, path: str | Path, **options: Any) -> Recorder:
    """Record a monitor into a file, going on with it if it is there.

    Parameters
    ----------
    source : Monitor
    path : str or Path
    **options
        As for `Recorder`: ``rotate_bytes``, ``rotate_s``, ``keep``, ``max_queue``.
    """
    recorder = Recorder(path, **options)
    recorder.follow(source)
    return recorder
