"""The model of JobsView: rows from events, the logs of the jobs that are looked at."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sysadm_nb import Tables, wire
from sysadm_nb.widgets import jobs as jobs_module
from sysadm_nb.widgets.jobs import CELLS, CUT, JobsModel, tail


def cells(model: JobsModel, row: int) -> dict[str, Any]:
    return dict(zip(CELLS, model.state.rows[row], strict=True))


@pytest.fixture
def model(tables: Tables) -> JobsModel:
    model = JobsModel(tables)
    model.refresh(0)
    return model


def test_a_job_from_pending_to_done(model: JobsModel, job: Any) -> None:
    chain = ["pkg update", "pkg upgrade -y"]
    job("one", "pending", chain)
    model.refresh(0)
    assert cells(model, 1)["state"] == "pending" and cells(model, 1)["done"] == 0
    job("one", "running", chain, logs=["Updating\n"], current="pkg update")
    model.refresh(0)
    running = cells(model, 1)
    assert (running["state"], running["step"], running["done"]) == ("running", 1, 0)
    assert running["subsystem"] == "pkg" and running["action"] == "pkg_install"
    job("one", "running", chain, logs=["Updating\ndone\n"], codes=[0], current="pkg update")
    model.refresh(0)
    assert (cells(model, 1)["step"], cells(model, 1)["done"]) == (2, 1)
    assert model.state.texts == {"1/0": "Updating\ndone\n"}
    job("one", "finished", chain, logs=["Updating\ndone\n", "Upgraded\n"], codes=[0, 0])
    model.refresh(0)
    done = cells(model, 1)
    assert (done["state"], done["done"], done["return_code"]) == ("finished", 2, 0)
    assert done["finished"] - done["started"] == 10_000_000
    assert model.state.texts == {"1/0": "Updating\ndone\n", "1/1": "Upgraded\n"}
    assert model.state.values["steps/1"] == [["pkg update", "finished", 0], ["pkg upgrade -y", "finished", 0]]


def test_a_failed_chain_says_which_step_failed_and_which_did_not_run(model: JobsModel, job: Any) -> None:
    job("one", "finished", ["a", "b", "c"], logs=["ok", "bad"], codes=[0, 3])
    model.refresh(0)
    assert cells(model, 1)["state"] == "failed" and cells(model, 1)["return_code"] == 3
    assert model.state.values["steps/1"] == [
        ["a", "finished", 0],
        ["b", "finished", 3],
        ["c", "skipped", None],
    ]
    assert model.summary() == "1 job, 1 failed"


def test_a_generic_job_brings_its_log_at_the_end(model: JobsModel, tables: Tables) -> None:
    tables.append(wire.encode_event("dispatcher", {"process_id": "one", "state": "running"}), server="nas")
    model.refresh(0)
    assert cells(model, 1)["log_at_end"] and cells(model, 1)["subsystem"] == "dispatcher"


def test_the_percentage_is_the_servers(model: JobsModel, job: Any) -> None:
    job("one", "running", ["fetch"], percent_done="42.5%")
    model.refresh(0)
    assert cells(model, 1)["percent"] == 42.5


def test_the_same_id_again_is_another_row(model: JobsModel, job: Any) -> None:
    for minute in (15, 16):
        job("one", "running", ["sleep 1"], minute=minute)
        job("one", "finished", ["sleep 1"], logs=[""], codes=[0], minute=minute)
    model.refresh(0)
    assert [row[2] for row in model.state.rows.values()] == [1, 2]


def test_a_lost_connection_makes_running_jobs_unknown(model: JobsModel, tables: Tables, job: Any) -> None:
    job("one", "running", ["sleep 1"])
    tables.lose_jobs("nas")
    model.refresh(0)
    assert cells(model, 1)["state"] == "unknown"


def test_logs_of_new_jobs_are_sent_unasked_but_not_of_many(model: JobsModel, job: Any) -> None:
    for number in range(20):
        job(f"job {number}", "running", ["x"], logs=[f"log {number}"])
        model.refresh(0)
    shown = {name.split("/")[0] for name in model.state.texts}
    assert shown == {str(row) for row in range(13, 21)}
    model.select(1)  # an old one is opened: its log comes, and stays in step
    assert model.state.texts["1/0"] == "log 0"
    job("job 0", "finished", ["x"], logs=["log 0 and its end"], codes=[0])
    model.refresh(0)
    assert model.state.texts["1/0"] == "log 0 and its end"
    model.select(None)
    assert "1/0" not in model.state.texts and "steps/1" not in model.state.values


def test_an_opened_log_is_whole_and_an_unasked_one_is_its_end(model: JobsModel, job: Any) -> None:
    log = "".join(f"line {number}\n" for number in range(10_000))
    job("one", "finished", ["x"], logs=[log], codes=[0])
    model.refresh(0)
    short = model.state.texts["1/0"]
    assert short.startswith(CUT + "line ") and short.endswith("line 9999\n") and len(short) < 17_000
    model.select(1)
    assert model.state.texts["1/0"] == log


def test_a_growing_log_sends_what_is_new_even_when_it_is_cut(model: JobsModel, job: Any) -> None:
    log, sent = "", 0
    for number in range(400):
        log += f"{number:05} " + "x" * 100 + "\n"
        job("one", "running", ["x"], logs=[log])
        model.refresh(0)
        patch = model.state.take()
        sent += len(json.dumps(patch))
    assert sent < 8 * len(log)  # not its end anew each time, which would be 150 times as much


def test_tail_never_loses_the_end() -> None:
    shown = log = ""
    for number in range(500):
        log += f"line {number}\n"
        shown = tail(shown, log, 200)
        assert shown.endswith(log[-100:]) and len(shown) <= 2 * 200 + len(CUT)


def test_rows_are_bounded(model: JobsModel, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "MAX_ROWS", 50)
    for number in range(120):
        job(f"job {number}", "finished", ["x"], logs=["y"], codes=[0])
    model.refresh(0)
    assert list(model.state.rows) == list(range(71, 121))
    assert len(model._rows) == len(model._jobs) == len(model.state.rows) == 50
    model.state.take()
    assert len([name for name in model.state.values if name.startswith("steps/")]) <= 8


def test_a_thousand_jobs_of_which_a_tenth_changes_are_less_than_4_kB(model: JobsModel, job: Any) -> None:
    chain = ["pkg update", "pkg upgrade -y", "pkg autoremove"]
    for number in range(1000):
        job(f"sysadm_pkg_{number}", "running", chain, percent_done="1%", current=chain[0])
    model.refresh(0)
    model.state.take()
    for number in range(0, 1000, 10):
        job(f"sysadm_pkg_{number}", "running", chain, percent_done=f"{number / 10:.1f}%", current=chain[1])
    model.refresh(0)
    patch = model.state.take()
    assert patch is not None and len(patch["changed"]) == 100
    import msgspec

    assert len(msgspec.json.encode(patch)) <= 4096
