"""The log of one command, put together from deltas and full texts."""

from __future__ import annotations

from typing import Final

CUT: Final = "\n… {} characters cut …\n"


class CommandLog:
    """What one command printed, as far as it is known.

    A *delta* is text since the last event and is appended. A *full* text takes the place of all that
    was there. At most ``limit`` characters are kept, head and tail, and the cut is marked.
    """

    __slots__ = ("_new", "_start", "code", "complete", "cut", "length", "limit", "return_code", "tail")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._start = ""  # of the head
        self._new: list[str] | None = None  # what came since: joining at each delta would be quadratic
        self.tail = ""
        self.cut = 0
        self.length = 0  # of all that was printed, as far as known
        self.complete = False
        self.code: object = None  # as the server sent it
        self.return_code: int | None = None

    @property
    def head(self) -> str:
        """The text up to where it was cut."""
        new = self._new
        if new is not None:
            self._start = "".join([self._start, *new])
            self._new = None
        return self._start

    @head.setter
    def head(self, text: str) -> None:
        self._start = text
        self._new = None

    def append(self, text: str) -> None:
        self.length = length = self.length + len(text)
        if length <= self.limit:
            new = self._new
            if new is None:
                self._new = [text]
                return
            new.append(text)
            if len(new) > 64 + (length >> 10):  # tiny deltas: a list of them takes more than their text
                self.head = self.head
            return
        self._fill(text)

    def replace(self, text: str) -> None:
        """Take the full text. It is exact from now on."""
        self.complete = True
        self.length = len(text)
        self.tail = ""
        self.cut = 0
        if len(text) <= self.limit:
            self.head = text
        else:
            self.head = ""
            self._fill(text)

    def give_up(self) -> None:
        """Keep nothing but the mark."""
        self.head = self.tail = ""
        self.cut = self.length

    @property
    def kept(self) -> int:
        """How many characters are kept."""
        return self.length - self.cut

    def _fill(self, text: str) -> None:
        half = self.limit // 2
        if not self.tail:
            text = self.head + text
            self.head, text = text[:half], text[half:]
        self.tail += text
        # Cutting only when it is half too long again keeps appending linear.
        if len(self.tail) > 2 * half:
            self.cut += len(self.tail) - half
            self.tail = self.tail[-half:] if half else ""

    @property
    def text(self) -> str:
        if not self.tail and not self.cut:
            return self.head
        half = self.limit // 2
        tail = self.tail[-half:] if half else ""
        cut = self.cut + len(self.tail) - len(tail)
        return self.head + (CUT.format(cut) if cut else "") + tail


def already_sent(delta: str, ended: str) -> int:
    """How much of a delta repeats text of commands that ended before it.

    A server's buffer of unsent text is not emptied when a command ends, though the text went out with
    the command's full log. All of it comes again, or, where its end was read too late for the buffer,
    whole lines of it.
    """
    if delta.startswith(ended):
        return len(ended)
    if delta[:1] != ended[:1]:
        return 0
    return delta.rfind("\n", 0, _common(delta, ended)) + 1


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with in common, found by halving: texts may be long."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one.startswith(other[low:middle], low):
            low = middle
        else:
            high = middle - 1
    return low
