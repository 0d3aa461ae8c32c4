"""Append-only columns that turn into a DataFrame without copying.

Numbers grow by doubling in one numpy buffer; categories are interned codes; text is a list of Arrow
chunks merged geometrically. A snapshot is a set of views on them, so it costs what is new and not what
is there. The views are read-only, and pandas is told that the memory is shared: a reader may write to
a snapshot, which then copies first, and never reaches the table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from sysadm_nb.tables.schema import Kind
from sysadm_nb.wire import LEVELS

NAT: Final = -(2**63)
"""A missing time, as rows carry it."""

Row: TypeAlias = tuple[Any, ...]

_TEXT_DTYPE: Final = pd.StringDtype("pyarrow", na_value=np.nan)
_UTC: Final = pd.DatetimeTZDtype("us", "UTC")
# Larger chunks stay as they are: merging copies, and text is given up by the chunk.
_CHUNK_BYTES: Final = 1 << 18
_CHUNK_ROWS: Final = 8192
_BLOCK_BYTES: Final = 1 << 24
_BLOCK_FROM: Final = 1 << 16
_JOINED: Final = 64
_MANY_CATEGORIES: Final = 1000


@dataclass(frozen=True, slots=True)
class Repeated:
    """Cells for a column, each of them for several rows: what all pools of one sample share."""

    values: Sequence[Any]
    counts: Sequence[int]


class Numbers:
    """A growing array of one dtype. Views handed out keep the old buffer when it is replaced."""

    __slots__ = ("buffer", "end", "start")

    def __init__(self, dtype: str) -> None:
        self.buffer = np.empty(64, dtype)
        self.start = 0
        self.end = 0

    def extend(self, values: Sequence[Any] | Repeated) -> None:
        if isinstance(values, Repeated):
            cells = np.empty(len(values.values), self.buffer.dtype)
            _pack(values.values, cells)
            cells = np.repeat(cells, values.counts)
            self._room(len(cells))[:] = cells
        else:
            _pack(values, self._room(len(values)))

    def _room(self, count: int) -> np.ndarray[Any, Any]:
        """The place of as many new rows."""
        start, end = self.end, self.end + count
        if end > len(self.buffer):
            live = start - self.start
            grown = np.empty(max(2 * (live + count), 64), self.buffer.dtype)
            grown[:live] = self.buffer[self.start : start]
            self.buffer, self.start, start, end = grown, 0, live, live + count
        self.end = end
        return self.buffer[start:end]

    def drop(self, count: int) -> None:
        self.start += count

    def values(self) -> np.ndarray[Any, Any]:
        view = self.buffer[self.start : self.end]
        view.flags.writeable = False
        return view

    def replace(self, values: np.ndarray[Any, Any]) -> None:
        """Take other contents of the same length; what was handed out before stays as it was."""
        self.buffer, self.start, self.end = values, 0, len(values)

    def shown(self, values: np.ndarray[Any, Any]) -> Any:
        return values


def _pack(values: Sequence[Any], place: np.ndarray[Any, Any]) -> None:
    # struct takes numbers out of a list several times as fast as numpy does.
    kind = place.dtype.char
    struct.pack_into(f"{len(values)}{kind if kind in '?bhid' else 'q'}", place.data, 0, *values)


class Times(Numbers):
    """Microseconds since 1970 UTC."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("int64")

    def shown(self, values: np.ndarray[Any, Any]) -> Any:
        moments = values.view("M8[us]")
        try:
            # The public constructors convert, and copy: 15 ms a million.
            return pd.arrays.DatetimeArray._simple_new(moments, dtype=_UTC)  # type: ignore[attr-defined]
        except (AttributeError, TypeError):  # pragma: no cover - another pandas
            return pd.DatetimeIndex(moments).tz_localize("UTC").array


class Categories(Numbers):
    """Interned text: codes in the smallest integer that fits, -1 for missing."""

    __slots__ = ("codes", "fixed", "known", "ordered", "recoded")

    def __init__(self, known: Iterable[str] = (), ordered: bool = False) -> None:
        super().__init__("int8")
        self.codes: dict[str | None, int] = {None: -1}
        for name in known:
            self.codes[name] = len(self.codes) - 1
        self.fixed = len(self.codes) - 1
        self.ordered = ordered
        self.known: pd.CategoricalDtype | None = None
        self.recoded = 0  # how often the codes got another meaning

    def encode(self, values: Sequence[str | None]) -> list[int]:
        codes = self.codes
        try:
            return list(map(codes.__getitem__, values))
        except KeyError:
            for value in values:
                if value not in codes:
                    codes[value] = len(codes) - 1
            return [codes[value] for value in values]

    def encoded(self, values: Sequence[str | None]) -> np.ndarray[Any, Any]:
        codes = self.encode(values)
        self._fit()
        return np.array(codes, self.buffer.dtype)

    def extend(self, values: Sequence[Any] | Repeated) -> None:
        names: Sequence[str | None] = values.values if isinstance(values, Repeated) else values
        counts = values.counts if isinstance(values, Repeated) else None
        count = len(names) if counts is None else sum(counts)
        # one server, one origin: the rule rather than the exception
        same = names[-1] == names[0] and names.count(names[0]) == len(names)
        encoded = self.encode(names[:1] if same else names)
        self._fit()
        if self.end + count > len(self.buffer) and len(self.codes) > _MANY_CATEGORIES:
            encoded = self._forget_unused(encoded)
        if same:
            self._room(count)[:] = encoded[0]
        else:
            super().extend(encoded if counts is None else Repeated(encoded, counts))

    def _fit(self) -> None:
        highest = len(self.codes) - 2
        needed = "int8" if highest < 2**7 else "int16" if highest < 2**15 else "int32"
        if np.dtype(needed).itemsize > self.buffer.dtype.itemsize:
            self.buffer = self.buffer.astype(needed)

    def _forget_unused(self, encoded: list[int]) -> list[int]:
        """Give up names that no row has any more, so that ever new names cannot fill the memory."""
        live = self.buffer[self.start : self.end]
        used = np.union1d(np.unique(live), np.asarray(encoded, live.dtype))
        used = np.union1d(used[used >= 0], np.arange(self.fixed))
        if len(used) > (len(self.codes) - 1) // 2:
            return encoded
        names = list(self.codes)[1:]
        mapping = np.full(len(names) + 1, -1, "int32")
        mapping[used] = np.arange(len(used))
        self.codes = {None: -1} | {names[code]: new for new, code in enumerate(used.tolist())}
        self.known = None
        self.recoded += 1
        self.replace(mapping[live].astype(self.buffer.dtype))
        return [int(mapping[code]) for code in encoded]

    def shown(self, values: np.ndarray[Any, Any]) -> Any:
        count = len(self.codes) - 1
        if self.known is None or len(self.known.categories) != count:
            names = pd.Index(list(self.codes)[1:], dtype="str")
            self.known = pd.CategoricalDtype(names, ordered=self.ordered)
        return pd.Categorical.from_codes(values, dtype=self.known, validate=False)


class Text:
    """Text in Arrow chunks, of which neighbours merge while they are small: O(log n) of them.

    With a ``limit`` in bytes the oldest text is given up where there is more.
    """

    __slots__ = ("at", "block", "bytes", "chunks", "dropped", "given_up", "limit", "size", "taken", "waiting")

    def __init__(self, limit: int | None = None) -> None:
        self.chunks: list[pa.Array] = []
        self.waiting: list[str | None] = []
        self.size = 0  # characters of what waits, where there is a limit
        self.limit = limit
        self.bytes = 0
        self.taken = 0  # bytes that came, ever
        self.dropped = 0
        self.given_up = 0  # leading chunks that hold nothing any more
        self.block: memoryview | None = None
        self.at = 0  # up to where the block is filled

    def extend(self, values: Sequence[str | None]) -> None:
        self.waiting += values
        # Short text waits for more: large chunks need no merging. Where there is a limit, it may be long.
        if self.limit is not None:
            self.size += sum(map(len, filter(None, values)))
        if len(self.waiting) >= _CHUNK_ROWS or self.size >= _CHUNK_BYTES:
            self._store()

    def _store(self) -> None:
        if not self.waiting:
            return
        chunk = self._array(self.waiting)
        self.waiting.clear()
        self.size = 0
        chunks = self.chunks
        chunks.append(chunk)
        self.bytes += chunk.nbytes
        self.taken += chunk.nbytes
        while len(chunks) - 1 > self.given_up and len(chunks[-2]) <= len(chunks[-1]):
            apart = chunks[-2].nbytes + chunks[-1].nbytes
            if apart > _CHUNK_BYTES:
                break
            chunks[-2:] = [pa.concat_arrays(chunks[-2:])]
            self.bytes += chunks[-1].nbytes - apart
        if self.limit is not None and self.bytes > self.limit:
            self._forget()

    def _array(self, values: list[str | None]) -> pa.Array:
        """Make an Arrow array; of plain text in a third of the time that Arrow's own conversion takes."""
        count = len(values)
        offsets = np.zeros(count + 1, "int64")
        try:
            _pack(list(map(len, values)), offsets[1:])  # type: ignore[arg-type]
        except TypeError:  # something is missing
            return pa.array(values, pa.large_string())
        np.cumsum(offsets, out=offsets)
        before = self.block, self.at
        place = self._place(int(offsets[-1]))
        end = 0
        for first in range(0, count, _JOINED):  # a little at a time stays in the processor's cache
            text = "".join(values[first : first + _JOINED])  # type: ignore[arg-type]
            if not text.isascii():
                self.block, self.at = before
                return pa.array(values, pa.large_string())
            place[end : end + len(text)] = text.encode()
            end += len(text)
        return pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(place))

    def _place(self, size: int) -> memoryview:
        """Memory for some text.

        Much text goes into blocks, for which numpy asks the system for large pages: new memory in pages
        of 4 KiB costs more than all else that is done with the text.
        """
        if self.limit is None or not _BLOCK_FROM <= size <= _BLOCK_BYTES <= self.limit // 8:
            return memoryview(bytearray(size))
        if self.block is None or self.at + size > _BLOCK_BYTES:
            self.block, self.at = memoryview(np.empty(_BLOCK_BYTES, "uint8")), 0  # type: ignore[arg-type]
        self.at += size
        return self.block[self.at - size : self.at]

    def _forget(self) -> None:
        """Replace the oldest text by missing values until what is left fits."""
        assert self.limit is not None
        while self.bytes > self.limit and self.given_up < len(self.chunks) - 1:
            chunk = self.chunks[self.given_up]
            nothing = pa.nulls(len(chunk), pa.large_string())
            self.chunks[self.given_up] = nothing
            self.given_up += 1
            self.bytes += nothing.nbytes - chunk.nbytes
            self.dropped += len(chunk) - chunk.null_count

    def drop(self, count: int) -> None:
        self._store()
        while count:
            first = self.chunks[0]
            self.bytes -= first.nbytes
            if len(first) <= count:
                del self.chunks[0]
                self.given_up = max(self.given_up - 1, 0)
                count -= len(first)
            else:
                self.chunks[0] = first.slice(count)
                self.bytes += self.chunks[0].nbytes
                count = 0

    def values(self) -> pa.ChunkedArray:
        self._store()
        return pa.chunked_array(self.chunks, pa.large_string())

    def replace(self, values: pa.ChunkedArray) -> None:
        self.waiting.clear()
        self.size = 0
        self.chunks = [chunk for chunk in values.chunks if len(chunk)]
        self.bytes = sum(chunk.nbytes for chunk in self.chunks)
        self.given_up = 0

    def shown(self, values: pa.ChunkedArray) -> Any:
        return pd.arrays.ArrowStringArray(values, dtype=_TEXT_DTYPE)  # type: ignore[call-arg]


Column: TypeAlias = Numbers | Text


def make_column(name: str, kind: Kind, known: Iterable[str] = (), text_limit: int | None = None) -> Column:
    """Build the column for one entry of the schema."""
    match kind:
        case "time":
            return Times()
        case "float":
            return Numbers("float64")
        case "int":
            return Numbers("int64")
        case "bool":
            return Numbers("bool")
        case "category":
            return Categories(LEVELS if name == "level" else known, ordered=name == "level")
        case "text":
            return Text(text_limit)


# Every block of a snapshot refers to this one as well, so that pandas always finds its memory shared
# and copies before the first write, however the frame was derived and whatever else is gone by then.
_OTHER_OWNER: Final = pd.DataFrame({"": np.zeros(1)})


def frame_of(columns: dict[str, Any]) -> pd.DataFrame:
    """Make an ordinary DataFrame over memory that belongs to a table.

    Reading costs no copy. Writing copies the column first, whether or not the frame it was taken from
    still lives.
    """
    frame = pd.DataFrame(columns, copy=False)
    try:
        other = _OTHER_OWNER._mgr.blocks[0]
        for block in frame._mgr.blocks:
            block.refs.add_reference(other)
    except AttributeError:  # pragma: no cover - another pandas: slower, as safe
        return frame.copy()
    return frame
