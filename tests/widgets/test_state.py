"""Patches: whoever applies them holds what the state holds."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from sysadm_nb.widgets._state import State


class Browser:
    """What base.js does, in Python."""

    def __init__(self) -> None:
        self.v = 0
        self.rows: dict[str, list[Any]] = {}
        self.values: dict[str, Any] = {}
        self.texts: dict[str, str] = {}

    def apply(self, patch: dict[str, Any]) -> None:
        patch = json.loads(json.dumps(patch))
        assert patch["base"] == self.v
        self.v = patch["v"]
        self.rows |= patch.get("rows", {})
        for number, row in enumerate(patch.get("changed", ())):
            for column, cells in patch["cells"].items():
                self.rows[str(row)][int(column)] = cells[number]
        for row in patch.get("drop", ()):
            del self.rows[str(row)]
        self.values |= patch.get("values", {})
        for name, change in patch.get("texts", {}).items():
            if change is None:
                self.texts.pop(name, None)
            else:
                self.texts[name] = change[1] if change[0] == "=" else self.texts[name] + change[1]


rows = st.integers(1, 4)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), rows, st.lists(st.integers(0, 2) | st.none(), min_size=3, max_size=3)),
        st.tuples(st.just("put_cells"), st.integers(0, 2), st.lists(st.tuples(rows, st.integers(0, 2)))),
        st.tuples(st.just("drop"), rows),
        st.tuples(st.just("set"), st.sampled_from("ab"), st.integers(0, 2)),
        st.tuples(st.just("forget"), st.sampled_from("ab")),
        st.tuples(st.just("text"), st.sampled_from("xy"), st.text("ab", max_size=4) | st.none()),
        st.tuples(st.just("take")),
    )
)


@given(steps)
@example([("put", 1, [0, 0, 0]), ("take",), ("drop", 1), ("put", 1, [0, 0, 1]), ("drop", 1)])
def test_a_browser_that_applies_every_patch_holds_the_state(changes: list[tuple[Any, ...]]) -> None:
    state, browser = State(), Browser()
    for name, *arguments in [*changes, ("take",)]:
        if name == "take":
            patch = state.take()
            if patch is not None:
                browser.apply(patch)
        elif name == "put_cells":
            column, cells = arguments
            state.put_cells(column, [(row, value) for row, value in cells if row in state.rows])
        else:
            getattr(state, name)(*arguments)
    full = json.loads(json.dumps(state.full()))
    assert browser.v == full["v"]
    assert browser.rows == full["rows"]
    assert {k: v for k, v in browser.values.items() if v is not None} == full["values"]
    assert browser.texts == full["texts"]
    assert state.take() is None


def test_a_patch_tells_only_what_changed() -> None:
    state = State()
    for row in range(1000):
        state.put(row, ["tank", 12, None])
    state.take()
    state.put(7, ["tank", 13, None])
    state.put(8, ["tank", 12, None])
    assert state.take() == {"base": 1, "v": 2, "changed": [7], "cells": {1: [13]}}


def test_a_change_taken_back_is_no_change() -> None:
    state = State()
    state.put(1, ["a"])
    state.take()
    state.put(1, ["b"])
    state.put(1, ["a"])
    assert state.take() is None
