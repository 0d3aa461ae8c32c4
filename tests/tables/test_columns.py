"""Columns of text hold what was put into them, however it is laid out in memory."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sysadm_nb.tables import columns
from sysadm_nb.tables.columns import Text

texts = st.one_of(st.none(), st.sampled_from(["", "a", "snapshot of tank/home", "x" * 50, "Größe", "日本"]))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("extend"), st.lists(texts, min_size=1, max_size=30)),
        st.tuples(st.just("extend"), st.lists(st.just("plain text " * 3), min_size=1, max_size=30)),
        st.tuples(st.just("extend"), st.lists(st.just("y" * 90), min_size=1, max_size=30)),
        st.tuples(st.just("drop"), st.integers(1, 60)),
        st.tuples(st.just("read"), st.none()),
    ),
    max_size=30,
)


@pytest.fixture
def small(monkeypatch):
    """Blocks and chunks so small that a few texts cross them."""
    monkeypatch.setattr(columns, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(columns, "_BLOCK_FROM", 64)
    monkeypatch.setattr(columns, "_CHUNK_BYTES", 300)
    monkeypatch.setattr(columns, "_CHUNK_ROWS", 16)
    monkeypatch.setattr(columns, "_JOINED", 4)


@pytest.mark.parametrize("limit", [None, 2**30, 2000])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(steps=steps)
def test_text_comes_out_as_it_went_in(small, limit, steps):
    column, expected = Text(limit), []
    seen = []  # what a reader got keeps its contents
    for step, value in steps:
        if step == "extend":
            column.extend(value)
            expected += value
        elif step == "drop" and expected:
            column.drop(min(value, len(expected)))
            del expected[:value]
        else:
            read = column.values()
            seen.append((read, read.to_pylist()))
    out = column.values().to_pylist()
    assert len(out) == len(expected)
    if limit != 2000:
        assert out == expected and column.dropped == 0
    else:  # the oldest may be given up, to a chunk
        first = next((n for n, text in enumerate(out) if text is not None), len(out))
        assert out[first:] == expected[first:]
        if first < len(out) and any(text is not None for text in expected[:first]):
            assert column.dropped
        assert column.bytes == sum(chunk.nbytes for chunk in column.chunks)
        empty = [chunk.null_count == len(chunk) for chunk in column.chunks[:-1]]
        assert column.bytes <= 2000 or all(empty)
    assert all(read.to_pylist() == then for read, then in seen)


def test_the_limit_holds_for_many_chunks(small):
    column = Text(2000)
    for number in range(200):
        column.extend([f"{number:040}"] * 10)
    live = [chunk for chunk in column.chunks if chunk.null_count < len(chunk)]
    assert sum(chunk.nbytes for chunk in live) <= 2000
    assert column.values().to_pylist()[-1] == f"{199:040}"
    assert column.dropped == column.values().null_count > 1900
