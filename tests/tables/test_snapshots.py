"""Snapshots: ordinary DataFrames, in order, bounded, and never a way into the tables."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stream import frames
from sysadm_nb import wire
from sysadm_nb.errors import InputError
from sysadm_nb.tables import SCHEMA, Tables
from sysadm_nb.tables.store import Store

DTYPES = {
    "time": "datetime64[us, UTC]",
    "float": "float64",
    "int": "int64",
    "bool": "bool",
    "category": "category",
    "text": "str",
}
BASE = 1_795_418_000_000_000


def filled(count=300, **options):
    tables = Tables(**options)
    for number, text in enumerate(frames(count)):
        tables.append(text, received=BASE + number * 1_000_000, server="nas")
    tables.append(wire.encode_event("bridge", {"available_connections": ["a"]}), received=BASE)
    tables.append_connection("connected", server="nas", time=BASE)
    return tables


@pytest.mark.parametrize("name", SCHEMA)
def test_the_schema_is_the_same_when_empty(name):
    for tables in (Tables(), filled()):
        found = {column: str(dtype) for column, dtype in tables[name].dtypes.items()}
        assert found == {column: DTYPES[kind] for column, kind in SCHEMA[name].items()}


@pytest.mark.parametrize("name", SCHEMA)
def test_a_write_works_and_never_reaches_the_table(name):
    tables = filled()
    before = tables[name].copy(deep=True)
    assert len(before)
    for keep_parent in (True, False):
        frame = tables[name]
        derived = [
            frame,
            frame[list(frame.columns)],
            frame.iloc[:5],
            frame.loc[:, "seq":],
            frame.copy(deep=False),
        ]
        if not keep_parent:
            del frame
            derived = [derived[0].iloc[0:], *derived[1:]]
            gc.collect()
        for one in derived:
            for column, kind in SCHEMA[name].items():
                if column not in one:
                    continue
                value = {
                    "time": pd.Timestamp("2001-01-01", tz="UTC"),
                    "float": -1.0,
                    "int": -1,
                    "bool": True,
                    "category": np.nan,
                    "text": "changed",
                }[kind]
                one.loc[one.index[0], column] = value
                one[column] = one[column].iloc[::-1].to_numpy() if kind == "float" else one[column]
            one.loc[:, "seq"] = -5
    pd.testing.assert_frame_equal(tables[name], before)


def test_the_arrays_of_a_snapshot_cannot_be_written_to():
    tables = filled()
    values = tables.pools["alloc_bytes"].to_numpy()
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 0


def test_a_snapshot_stays_as_it_was():
    tables = filled(200)
    frame = tables.events
    copy = frame.copy(deep=True)
    for text in frames(3000, seed=1):
        tables.append(text, server="other")
    pd.testing.assert_frame_equal(frame, copy)
    assert len(tables.events) == 3201


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=20),
        min_size=1,
        max_size=8,
    ),
    st.integers(5, 60),
)
def test_rows_are_in_order_of_time_however_they_came(batches, max_rows):
    """Against a plain list: sorted by time, ties in order of arrival, the newest arrivals kept."""
    store = Store("connection", max_rows, 2**20)
    model = []
    number = 0
    for batch in batches:
        for time, look in batch:
            number += 1
            row = (
                number,
                time,
                number,
                f"s{time % 7}",
                "live",
                f"what{time % 3}",
                time,
                -(2**63),
                f"text {number}",
            )
            store.add(row)
            model.append(row)
            if look:
                store.flush()
        frame = store.snapshot()
        expected = sorted(model[-max_rows:], key=lambda row: row[1])
        assert frame["seq"].tolist() == [row[0] for row in expected]
        assert frame["detail"].tolist() == [row[8] for row in expected]
        assert frame["server"].astype(str).tolist() == [row[3] for row in expected]
        assert frame["time"].astype("int64").tolist() == [row[1] for row in expected]
        assert store.since(max(0, number - 3))["seq"].tolist() == [r[0] for r in model[-max_rows:][-3:]]


def test_ever_new_names_do_not_fill_the_memory():
    store = Store("connection", 500, 2**20)
    for number in range(20_000):
        store.add((number, number, number, f"server {number}", "live", "lost", 0, 0, None))
        if number % 100 == 0:
            store.flush()
    frame = store.snapshot()
    assert frame["server"].astype(str).tolist() == [f"server {n}" for n in range(19_500, 20_000)]
    assert len(frame["server"].cat.categories) < 5000


def test_memory_is_bounded_and_what_was_dropped_is_said():
    tables = filled(4000, max_rows=1000, max_text=400_000)
    assert len(tables.events) == 1000
    assert tables.dropped["events"] == tables.count("events") - 1000
    big = filled(6000, max_rows=100_000, max_text=2_000_000)
    events = big.events
    assert len(events) == 6001
    assert events["args"].isna().sum() == big.dropped["events.text"] > 1000
    assert events["args"].iloc[-1] is not None
    assert events["args"].str.len().sum() < 4_500_000


def test_many_jobs_stay_readable():
    tables = Tables(max_rows=500)
    for number in range(3000):
        tables.append(
            wire.encode_event("dispatcher", {"process_id": f"p{number}", "state": "running"}), received=number
        )
        args = {
            "cmd_list": ["x"],
            "x": f"log {number}",
            "return_codes/x": "0",
            "process_id": f"p{number}",
            "state": "finished",
            "time_started": "2026-11-23T07:15:43",
            "time_finished": "2026-11-23T07:15:43",
        }
        tables.append(wire.encode_event("dispatcher", args), received=number)
        if number % 400 == 0:
            assert tables.jobs["process_id"].iloc[-1] == f"p{number}"
    jobs = tables.jobs
    assert len(jobs) == 500
    assert jobs["log"].iloc[-1] == "log 2999"
    assert (jobs["state"] == "finished").all()


def test_a_settled_job_that_changes_is_one_row_still():
    tables = Tables()
    running = wire.encode_event("dispatcher", {"process_id": "a", "state": "running"})
    tables.append(running, received=5)
    args = {
        "cmd_list": ["x", "y"],
        "process_id": "a",
        "state": "finished",
        "time_started": "2026-11-23T07:15:43",
        "time_finished": "2026-11-23T07:15:43",
    }
    tables.append(wire.encode_event("dispatcher", args | {"x": "", "return_codes/x": "-1"}), received=6)
    assert tables.jobs["return_code"].tolist() == [-1]
    tables.append(wire.encode_event("dispatcher", args | {"x": "", "return_codes/x": "15"}), received=7)
    tables.append(wire.encode_event("dispatcher", {"process_id": "b", "state": "running"}), received=4)
    assert tables.jobs[["process_id", "return_code"]].fillna(0).to_numpy().tolist() == [["b", 0], ["a", 15]]
    assert tables.commands["command"].tolist() == ["x", "y"]


def test_job_changes_tell_what_is_new():
    tables = filled()
    version, views = tables.job_changes()
    assert len(views) == len(tables.jobs)
    assert tables.job_changes(version) == (version, [])
    tables.append(wire.encode_event("dispatcher", {"process_id": "new", "state": "running"}), server="nas")
    later, changed = tables.job_changes(version)
    assert later == version + 1
    assert [(view.process_id, view.state, view.run) for view in changed] == [("new", "running", 1)]


def test_since_gives_rows_as_they_came():
    tables = Tables()
    for time in (30, 10, 20):
        tables.append_connection("x", server="s", time=time)
    count, frame = tables.since("connection", 0)
    assert (count, frame["time"].astype("int64").tolist()) == (3, [30, 10, 20])
    tables.append_connection("x", server="s", time=5)
    count, frame = tables.since("connection", count)
    assert (count, frame["time"].astype("int64").tolist()) == (4, [5])
    with pytest.raises(InputError, match="job_changes"):
        tables.since("jobs", 0)


def test_latest_pools_and_polled_samples():
    tables = Tables()
    reply = wire.encode("sysadm", "response", {"list_pools": {"tank": {"size": "1G", "alloc": "512M"}}}, "q1")
    tables.append(reply, server="nas", received=7)
    assert tables.pools[["pool", "origin"]].astype(str).to_numpy().tolist() == [["tank", "polled"]]
    assert len(tables.events) == 0
    pool = tables.latest_pools()[("nas", "tank")]
    assert (pool.size_bytes, pool.alloc_bytes, pool.time) == (2**30, 2**29, 7)


def test_exact_bytes_are_preferred():
    tables = Tables()
    pool = {
        "size": "1G",
        "alloc": "512M",
        "capacity": "50%",
        "size_bytes": 1000,
        "alloc_bytes": 333,
        "free_bytes": 667,
    }
    tables.append(wire.encode_event("system-state", {"zpools": {"tank": pool}}))
    row = tables.pools.iloc[0]
    assert (row["size_bytes"], row["alloc_bytes"], row["free_bytes"]) == (1000, 333, 667)
    assert row["capacity_pct"] == pytest.approx(33.3)


def test_a_health_in_other_letters_is_the_word_of_zfs():
    tables = Tables()
    said = ["online", "Degraded", "ONLINE", "Healing", "-", None, 7]
    tables.append(
        wire.encode_event("system-state", {"zpools": {f"p{n}": {"health": h} for n, h in enumerate(said)}})
    )
    assert tables.pools["health"].astype(object).fillna("missing").tolist() == [
        *("ONLINE", "DEGRADED", "ONLINE", "Healing"),
        *("missing", "missing", "missing"),
    ]


@pytest.mark.parametrize(
    "key", ["size_bytes", "alloc_bytes", "free_bytes", "expandsz_bytes", "dedup", "frag"]
)
def test_a_number_too_long_for_a_float_takes_no_other_sample_with_it(key):
    tables = Tables()
    good = wire.encode_event("system-state", {"zpools": {"tank": {"size": "1G", "capacity": "5%"}}})
    bad = '{"tank":{"size":"2G","size_bytes":7,"%s":%s},"dozer":{"size":"3G"}}' % (key, "9" * 400)  # noqa: UP031
    frame = '{"args":{"zpools":%s},"id":"","name":"system-state","namespace":"events"}' % bad  # noqa: UP031
    for one in (good, frame, good):
        tables.append(one)
    assert tables.pools["pool"].tolist() == ["tank", "tank", "dozer", "tank"]
    size = 2 * 2**30 if key == "size_bytes" else 7
    assert tables.pools["size_bytes"].tolist() == [2**30, size, 3 * 2**30, 2**30]
    assert len(tables.events) == len(tables.system) == 3


def test_unreadable_input_is_an_event_too():
    tables = Tables()
    for frame in ("hello", b"\xff\xfe", '{"namespace":"events","name":"news","args":[1]}', "{"):
        tables.append(frame)
    assert tables.events["event"].astype(str).tolist() == ["malformed", "malformed", "news", "malformed"]
    assert tables.events["args"].iloc[0] == "hello"


def test_what_a_peer_asks_is_an_event_too():
    tables = Tables()
    tables.append('{"namespace":"rpc","name":"identify","id":"7","args":{"é":1}}', server="nas")
    tables.append('{"namespace":"events","name":"error","id":"","args":{"message":"out of space"}}')
    tables.append('{"namespace":"events","name":"error","id":"q0","args":{"code":404,"message":"Not Found"}}')
    tables.append('{"namespace":"rpc","name":"auth","id":"","args":["token",900]}')
    rows = tables.events[["event", "summary", "args"]].astype(object).fillna("").to_dict("split")["data"]
    assert rows == [
        ["request", "rpc/identify", '{"é":1}'],
        ["error", "out of space", '{"message":"out of space"}'],
        ["request", "rpc/auth", ""],
    ]


def test_bad_arguments():
    tables = Tables()
    with pytest.raises(InputError, match="no time zone"):
        tables.append("{}", received=pd.Timestamp("2026-01-01").to_pydatetime())
    with pytest.raises(InputError, match="origin"):
        tables.append("{}", origin="elsewhere")
    with pytest.raises(InputError, match="there are events, jobs"):
        tables["job"]
    with pytest.raises(InputError, match="at least 1"):
        Tables(max_rows=0)


def test_many_threads_read_while_one_writes():
    tables = Tables()
    texts = frames(2000)
    problems = []
    done = threading.Event()

    def read():
        while not done.is_set():
            try:
                for name in SCHEMA:
                    frame = tables[name]
                    assert frame["time"].is_monotonic_increasing
                    assert not frame["seq"].duplicated().any() or name in ("pools", "commands", "bridge")
                tables.job_changes()
                tables.latest_pools()
            except Exception as error:
                problems.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for text in texts:
        tables.append(text, server="nas")
    done.set()
    for reader in readers:
        reader.join(30)
    assert not problems
    assert len(tables.events) == 2000
