"""Following a growing log so that no line is lost and none comes twice.

A log is known by its first bytes, not by its inode: that holds when it is renamed, copied and truncated, or
compressed, also while this program was not running. Whenever the file at the path is no longer the one that
was read, the rest of that one is looked for among its rotated copies, then every newer copy is read, then
the new file from its beginning. Where that one is gone for good, the copies changed since it was read are.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import logging
import lzma
import os
import re
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

log = logging.getLogger(__name__)

HEAD: Final = 256  # bytes that tell one log from another: more than one dated line
CHUNK: Final = 1 << 20  # bytes read at a time, so that a large log does not hold up the loop
LONGEST: Final = 16 << 20  # a line that long is no line: taken as it is, not kept in memory until it ends

_OPEN: Final[dict[str, Callable[[Path], Any]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass(frozen=True, slots=True)
class Position:
    """How far a log has been read: its first bytes (up to `HEAD` of those read), the bytes read, and how new
    it was then (in nanoseconds; 0 before the first look)."""

    head: bytes = b""
    offset: int = 0
    mtime_ns: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"head": self.head.hex(), "offset": self.offset, "mtime_ns": self.mtime_ns}

    @classmethod
    def from_json(cls, saved: Any) -> Position:
        """The saved position; the beginning where `saved` is none."""
        try:
            return cls(bytes.fromhex(saved["head"]), int(saved["offset"]), int(saved["mtime_ns"]))
        except (TypeError, KeyError, ValueError):
            return cls()


class LogFollower:
    """Reads the new lines of one log, over rotations and truncations.

    Parameters
    ----------
    path : Path
        The log; it need not exist yet.
    position : Position
        Where to go on. Save `position` after the lines of `read` have been dealt with.
    """

    def __init__(self, path: Path, position: Position = Position()) -> None:
        self.path = path
        self.position = position

    def skip_to_end(self) -> None:
        """Leave out what the log has now: it is old news."""
        self.position = Position(mtime_ns=time.time_ns())
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            whole = size = file.seek(0, os.SEEK_END)
            # whatever stands after the last line's end is still being written
            end = 0
            while size and not end:
                start = max(0, size - CHUNK)
                end = _last_end(_read_at(file, start, size - start))
                size = start + end
            newest = os.fstat(file.fileno()).st_mtime_ns - (size < whole)
            self.position = Position(_read_at(file, 0, min(size, HEAD)), size, newest)

    def recent(self) -> list[str]:
        """The last lines before the position, as far as they are still there: what a parser must know of."""
        start = max(0, self.position.offset - CHUNK)
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            if self._is_the_one(file):
                return _lines(_read_at(file, start, self.position.offset - start))
        return []

    def read(self) -> Iterator[list[str]]:
        """The lines that are new, in lists of a moderate size; `position` moves on with each list.

        A line that has no end yet waits for it, unless its log was rotated away: then it never gets one.

        Raises
        ------
        OSError
            The log is there and cannot be read.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return  # rotated away just now, or not there yet: the next time tells
        with file:
            mtime_ns = os.fstat(file.fileno()).st_mtime_ns
            if self.position.offset == 0 or not self._is_the_one(file):
                yield from self._read_rotated()
                self.position = Position()
            self.position = replace(self.position, mtime_ns=mtime_ns)
            if (yield from self._read_on(file, final=False)):
                # a line without its end: if this log is gone the next time, it was newer than what was read
                self.position = replace(self.position, mtime_ns=mtime_ns - 1)

    def _is_the_one(self, file: IO[bytes]) -> bool:
        """Whether `file` begins with what was read, and is no shorter."""
        head, offset = self.position.head, self.position.offset
        return _read_at(file, 0, len(head)) == head and _read_at(file, offset - 1, 1) != b""

    def _read_rotated(self) -> Iterator[list[str]]:
        """The rest of the log that was read until now, and of whatever was rotated after it."""
        if not self.position.mtime_ns:
            return
        copies = sorted(self._rotated(), reverse=True)
        later: list[tuple[int, Path]] = []
        for mtime_ns, path in copies:
            with _open(path) as file:
                if self.position.offset and self._is_the_one(file):
                    self.position = replace(self.position, mtime_ns=mtime_ns)
                    yield from self._read_on(file, final=True)
                    break
            later.append((mtime_ns, path))
        else:
            later = [copy for copy in later if copy[0] > self.position.mtime_ns]
        for mtime_ns, path in reversed(later):
            self.position = Position(mtime_ns=mtime_ns)
            with _open(path) as file:
                yield from self._read_on(file, final=True)

    def _rotated(self) -> Iterator[tuple[int, Path]]:
        """Copies as newsyslog, logrotate and lpreserver name them: ``log.0``, ``log.1.gz``, ``log.old``."""
        name = re.escape(self.path.name)
        pattern = re.compile(rf"{name}([.-](\d[\w:-]*|old|bak))(\.gz|\.bz2|\.xz)?$")
        for path in self.path.parent.iterdir():
            if not pattern.match(path.name):
                continue
            if os.access(path, os.R_OK):
                with contextlib.suppress(FileNotFoundError):  # rotated once more just now
                    yield path.stat().st_mtime_ns, path
            else:
                log.warning("%s cannot be read: what was logged before it was rotated may be missing", path)

    def _read_on(self, file: IO[bytes], *, final: bool) -> Generator[list[str], None, bool]:
        """Lines from the position on; then, whether there is a beginning of a line after them."""
        rest = b""  # a line whose end is not there yet
        while chunk := _read_at(file, self.position.offset + len(rest)):
            rest += chunk
            end = _last_end(rest) or (len(rest) if len(rest) > LONGEST else 0)
            if end:
                self._advance(rest[:end])
                yield _lines(rest[:end])
                rest = rest[end:]
        if final and rest:
            self._advance(rest)
            yield _lines(rest)
        return bool(rest)

    def _advance(self, read: bytes) -> None:
        head, offset = self.position.head, self.position.offset
        head = (head + read[:HEAD])[:HEAD] if len(head) < HEAD else head
        self.position = replace(self.position, head=head, offset=offset + len(read))


def _open(path: Path) -> IO[bytes]:
    opener = _OPEN.get(path.suffix)
    opened: IO[bytes] = path.open("rb") if opener is None else opener(path)
    return opened


def _read_at(file: IO[bytes], offset: int, size: int = CHUNK) -> bytes:
    """Bytes from `offset` on; none where a compressed copy is damaged or the log cannot be read any more."""
    try:
        file.seek(offset)
        return file.read(size)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return b""


def _last_end(data: bytes) -> int:
    """Bytes up to and with the last line's end; progress meters end lines with a carriage return."""
    return max(data.rfind(b"\n"), data.rfind(b"\r")) + 1


def _lines(data: bytes) -> list[str]:
    # a writer that does not append leaves zero bytes where its log was truncated under it
    text = data.replace(b"\0", b"").decode("utf-8", "replace")
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()]
