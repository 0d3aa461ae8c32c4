"""What a view shows, and what of it changed: rows of cells, named values and growing texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class State:
    """Rows under integer ids, values under names, texts under names; counts every change.

    A browser that holds version ``base`` and applies the patch holds version ``v``. `full` gives all of it
    for a browser that holds nothing or missed a patch. Cells and values are JSON values; missing is None.

    Examples
    --------
    >>> state = State()
    >>> state.put(1, ["tank", 12.0])
    >>> state.take()
    {'base': 0, 'v': 1, 'rows': {1: ['tank', 12.0]}}
    >>> state.put(1, ["tank", 13.0])
    >>> state.take()
    {'base': 1, 'v': 2, 'changed': [1], 'cells': {1: [13.0]}}
    >>> state.text("log", "one"); state.text("log", "one, two")
    >>> state.take()
    {'base': 2, 'v': 3, 'texts': {'log': ['=', 'one, two']}}
    >>> state.text("log", "one, two, three")
    >>> state.take()
    {'base': 3, 'v': 4, 'texts': {'log': ['+', ', three']}}
    >>> state.take() is None
    True
    >>> state.full()
    {'v': 4, 'rows': {1: ['tank', 13.0]}, 'values': {}, 'texts': {'log': 'one, two, three'}}
    """

    def __init__(self) -> None:
        self.version = 0
        self.rows: dict[int, list[Any]] = {}
        self.values: dict[str, Any] = {}
        self.texts: dict[str, str] = {}
        self._new_rows: dict[int, list[Any]] = {}
        self._sent_rows: dict[int, list[Any]] = {}  # as the browser has them, of the rows that were put since
        self._put_cells: dict[int, None] = {}  # rows of which single cells were put, and in which columns
        self._put_columns: set[int] = set()
        self._dropped: set[int] = set()  # rows the browser has; some may be among the new ones again
        self._new_values: set[str] = set()
        self._sent_texts: dict[str, str] = {}
        self._new_texts: set[str] = set()

    def put(self, row: int, cells: list[Any]) -> None:
        """Add a row, or change the cells that differ."""
        old = self.rows.get(row)
        if old == cells:
            return
        self.rows[row] = cells
        if old is None or row in self._new_rows:
            self._new_rows[row] = cells
        elif row not in self._sent_rows:
            self._sent_rows[row] = old

    def put_cells(self, column: int, cells: Iterable[tuple[int, Any]]) -> None:
        """Change one cell of each of these rows, which are there already."""
        rows, changed = self.rows, self._put_cells
        for row, value in cells:
            rows[row][column] = value
            changed[row] = None
        self._put_columns.add(column)

    def drop(self, row: int) -> None:
        """Take a row away."""
        if self.rows.pop(row, None) is None:
            return
        self._sent_rows.pop(row, None)
        self._put_cells.pop(row, None)
        if self._new_rows.pop(row, None) is None:
            self._dropped.add(row)

    def set(self, name: str, value: Any) -> None:
        """Set a value; it is sent whole when it changed."""
        if name not in self.values or self.values[name] != value:
            self.values[name] = value
            self._new_values.add(name)

    def forget(self, name: str) -> None:
        """Take a value away; the browser is told None."""
        if self.values.pop(name, None) is not None:
            self._new_values.add(name)

    def text(self, name: str, text: str | None) -> None:
        """Set a text, of which only the new end is sent while it grows; None takes it away."""
        if self.texts.get(name) == text:
            return
        if text is None:
            self.texts.pop(name, None)
        else:
            self.texts[name] = text
        self._new_texts.add(name)

    def take(self) -> dict[str, Any] | None:
        """What changed since the last call, or None."""
        patch: dict[str, Any] = {"base": self.version, "v": self.version + 1}
        dropped, self._dropped = self._dropped - self._new_rows.keys(), set()
        if self._new_rows:
            patch["rows"], self._new_rows = self._new_rows, {}
        if self._sent_rows or self._put_cells:
            self._take_cells(patch)
        if dropped:
            patch["drop"] = sorted(dropped)
        if self._new_values:
            patch["values"] = {name: self.values.get(name) for name in sorted(self._new_values)}
            self._new_values.clear()
        if self._new_texts:
            patch["texts"] = {name: self._text_change(name) for name in sorted(self._new_texts)}
            self._new_texts.clear()
        if len(patch) == 2:
            return None
        self.version += 1
        return patch

    def _take_cells(self, patch: dict[str, Any]) -> None:
        """Put what changed in rows into a patch: the columns in which any did, whole."""
        changed, columns = self._put_cells, self._put_columns
        self._put_cells, self._put_columns = {}, set()
        for row, old in self._sent_rows.items():
            now = self.rows[row]
            if now != old:
                changed[row] = None
                columns.update([column for column, value in enumerate(now) if value != old[column]])
        self._sent_rows.clear()
        if changed:
            rows = [self.rows[row] for row in changed]
            patch["changed"] = list(changed)
            patch["cells"] = {column: [cells[column] for cells in rows] for column in sorted(columns)}

    def _text_change(self, name: str) -> list[str] | None:
        old, new = self._sent_texts.get(name), self.texts.get(name)
        if new is None:
            self._sent_texts.pop(name, None)
            return None
        self._sent_texts[name] = new
        if old and new.startswith(old):
            return ["+", new[len(old) :]]
        return ["=", new]

    def full(self) -> dict[str, Any]:
        """All of it, as of the last `take`: call that first."""
        return {"v": self.version, "rows": self.rows, "values": self.values, "texts": self.texts}
