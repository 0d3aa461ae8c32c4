"""The exported datasets, as others read them."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest

import sysadm_nb as sa
from sysadm_nb.recording import parquet
from sysadm_nb.tables import SCHEMA
from tests.recording.samples import DAY, NOON, event, finished, running, snapshot, state, write


@pytest.fixture
def past(tmp_path: Path) -> sa.recording.Recording:
    frames = []
    for day in range(3):
        at = NOON + day * DAY
        frames += [
            (at, state(10 + day, pools=("tank", "backup"))),
            (at + 1, running(f"job{day}")),
            (at + 2, finished(f"job{day}", log=f"grüße {day}\n")),
            (at + 3, snapshot("tank/home")),
            (at + 4, event("bridge", {"available_connections": ["::{1}"]})),
            (at + 5, "no frame"),
        ]
    write(tmp_path / "a.sysadm", frames)
    return sa.open_recording(tmp_path / "a.sysadm")


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Without what file formats cannot tell apart: categories and the order of rows between days."""
    frame = frame.drop(columns="date", errors="ignore").sort_values(["time", "seq"], ignore_index=True)
    for name in frame.select_dtypes("category"):
        frame[name] = frame[name].astype("str")
    return frame


@pytest.mark.parametrize("piece", [parquet.PIECE_FRAMES, 1])
def test_pandas_polars_and_duckdb_read_what_was_recorded(
    past: sa.recording.Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(parquet, "PIECE_FRAMES", piece)
    monkeypatch.setattr(parquet, "STEP_TEXT", 1 if piece == 1 else parquet.STEP_TEXT)
    folder = tmp_path / "out"
    written = past.to_parquet(folder)
    assert written == {
        "events": 18,
        "jobs": 3,
        "commands": 3,
        "pools": 6,
        "system": 3,
        "life_preserver": 3,
        "bridge": 3,
        "connection": 0,
    }
    assert sorted(found.name for found in (folder / "pools").iterdir()) == [
        "date=2026-11-23",
        "date=2026-11-24",
        "date=2026-11-25",
    ]
    for name in SCHEMA:
        expected = plain(past.tables[name])
        read = pd.read_parquet(folder / name)
        assert "date" in read
        pd.testing.assert_frame_equal(plain(read), expected, obj=name)
        lazy = pl.scan_parquet(folder / name / "**/*.parquet", hive_partitioning=True)
        by_polars = lazy.collect()
        assert by_polars.height == len(expected)
        assert set(by_polars.columns) == {*expected.columns, "date"}
        source = f"read_parquet('{folder}/{name}/**/*.parquet', hive_partitioning=true)"
        (rows,) = duckdb.sql(f"SELECT count(*), count(DISTINCT seq) FROM {source}").fetchall()
        assert rows == (len(expected), expected.seq.nunique())


def test_readers_find_a_day_and_the_values(past: sa.recording.Recording, tmp_path: Path) -> None:
    past.to_parquet(tmp_path / "out")
    pools = f"read_parquet('{tmp_path}/out/pools/**/*.parquet', hive_partitioning=true)"
    assert duckdb.sql(
        f"SELECT pool, capacity_pct, epoch_us(time) FROM {pools} WHERE date = '2026-11-24' ORDER BY pool"
    ).fetchall() == [("backup", 11.0, NOON + DAY), ("tank", 11.0, NOON + DAY)]
    jobs = pl.read_parquet(tmp_path / "out/jobs/**/*.parquet", hive_partitioning=True).sort("time")
    assert jobs["log"].to_list() == ["grüße 0\n", "grüße 1\n", "grüße 2\n"]
    assert jobs["time"].dtype == pl.Datetime("us", "UTC")
    events = pd.read_parquet(tmp_path / "out/events", filters=[("date", "=", "2026-11-23")])
    assert len(events) == 6
    assert events.time.dtype == past.events.time.dtype


def test_only_what_was_opened_is_exported(past: sa.recording.Recording, tmp_path: Path) -> None:
    part = sa.open_recording(past.path, start="2026-11-25", events="dispatcher")
    written = part.to_parquet(tmp_path / "out")
    assert (written["events"], written["jobs"], written["pools"]) == (2, 1, 0)


def test_more_rows_than_the_tables_keep(past: sa.recording.Recording, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="holds more rows than max_rows"):
        small = sa.open_recording(past.path, max_rows=4)
    assert len(small.events) == 4
    assert small.to_parquet(tmp_path / "out")["events"] == 18


def test_a_folder_in_use_is_left_alone(past: sa.recording.Recording, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(sa.errors.InputError, match="not empty"):
        past.to_parquet(tmp_path / "out")
