"""What every view does: when it sends what, how it hears, and that closing it frees everything."""

from __future__ import annotations

import gc
import json
import threading
import time
from typing import Any

import pytest

from sysadm_nb import JobsView, Tables
from sysadm_nb.errors import InputError
from sysadm_nb.widgets import PoolsView, _base


@pytest.fixture
def view(comms: Any, clock: Any, tables: Tables) -> Any:
    view = JobsView(tables)
    yield view
    view.close()


def sent(view: Any) -> list[dict[str, Any]]:
    out = list(view.comm.sent)
    view.comm.sent.clear()
    return out


def answered(view: Any) -> None:
    """Let the browser have come up."""
    view.comm.say(do="open")
    deadline = time.perf_counter() + 10
    while not view._answered and time.perf_counter() < deadline:
        time.sleep(0.005)
    view._tick()
    assert [message["kind"] for message in sent(view)] == ["full"]


def test_the_state_goes_out_with_the_comm(comms: Any, clock: Any, tables: Tables, job: Any) -> None:
    job("one", "running", ["sleep 1"])
    view = JobsView(tables)
    state = json.loads(view.comm.state["_state"])
    assert [row[1] for row in state["rows"].values()] == ["one"]
    assert "export default" in view.comm.state["_esm"]
    view.close()


def test_many_changes_are_one_message_and_no_change_is_none(view: Any, job: Any) -> None:
    answered(view)
    for number in range(50):
        job("one", "running", ["sleep 1"], logs=[f"line {number}\n"])
    view._tick()
    (patch,) = sent(view)
    assert patch["kind"] == "patch"
    assert list(patch["rows"]) == ["1"]
    view._tick()
    view._tick()
    assert sent(view) == []


def test_until_a_browser_answers_all_is_repeated_at_growing_pauses(view: Any, job: Any, clock: Any) -> None:
    seen = []
    for _ in range(240):  # a minute
        clock(0.25)
        view._tick()
        seen += [message["kind"] for message in sent(view)]
    assert seen.count("full") == 7
    answered(view)
    for _ in range(240):
        clock(0.25)
        view._tick()
    assert all(message["kind"] == "version" for message in sent(view))


def test_the_last_version_is_confirmed(view: Any, job: Any, clock: Any) -> None:
    answered(view)
    for _ in range(200):
        clock(0.25)
        view._tick()
    sent(view)
    job("one", "running", ["sleep 1"])
    view._tick()
    (patch,) = sent(view)
    confirmed = []
    for _ in range(400):
        clock(0.25)
        view._tick()
        confirmed += sent(view)
    assert [(message["kind"], message["v"]) for message in confirmed] == [("version", patch["v"])] * 3


def test_at_most_one_message_a_refresh(view: Any, job: Any, clock: Any) -> None:
    for number in range(100):
        job("one", "running", ["sleep 1"], logs=[f"{number}\n"])
        if number % 10 == 0:
            view.comm.say(do="open")
        clock(0.25)
        view._tick()
        assert len(sent(view)) <= 1


def test_the_browser_sets_controls_and_all_copies_hear_of_it(view: Any) -> None:
    heard = []
    view.observe(lambda change: heard.append(change["new"]), "state")
    view.comm.say(do="set", values={"state": "failed", "comm": "not a control"})
    assert view.state == "failed" and heard == ["failed"]
    view._tick()
    assert sent(view)[-1]["values"]["controls"]["state"] == "failed"


def test_a_wrong_control_is_told_beside_the_view(view: Any) -> None:
    view.comm.say(do="set", values={"state": "nonsense"})
    view._tick()
    assert "nonsense" in sent(view)[-1]["values"]["error"]
    assert view.state is None


def test_a_failing_action_is_told_beside_the_view(view: Any, clock: Any) -> None:
    for message in (
        {"do": "kill", "row": 99},
        {"do": "run", "commands": ["true"]},
        {"do": "kill", "nonsense": 1},
    ):
        view.model.state.set("error", None)
        view.comm.say(**message)
        deadline = time.perf_counter() + 10
        while not view.model.state.values.get("error") and time.perf_counter() < deadline:
            time.sleep(0.005)
        assert view.model.state.values["error"]
    view.comm.say(do="nonsense")
    view.comm.say(do="close")  # only methods called do_... are to be had
    view._tick()
    assert view.comm is not None


def test_a_failing_refresh_is_told_and_the_view_goes_on(view: Any, job: Any) -> None:
    answered(view)
    good = view.model.refresh
    view.model.refresh = lambda now: 1 / 0
    view._tick()
    assert "ZeroDivisionError" in sent(view)[-1]["values"]["error"]
    view.model.refresh = good
    job("one", "running", ["sleep 1"])
    view._tick()
    assert "rows" in sent(view)[-1]


def test_closing_frees_everything_and_twice_is_fine(comms: Any, tables: Tables) -> None:
    before = threading.active_count()
    views = [JobsView(tables), PoolsView(tables)]
    assert threading.active_count() == before + 1  # the loop thread, for both
    for view in views:
        view.close()
        view.close()
    assert all(kept.closed for kept in comms) and len(comms) == 4  # each has a layout
    assert threading.active_count() == before


def test_the_timer_runs_on_the_loop_thread(comms: Any, tables: Tables, job: Any) -> None:
    view = JobsView(tables)
    job("one", "running", ["sleep 1"])
    deadline = time.monotonic() + 10
    while not view.model.state.rows and time.monotonic() < deadline:
        time.sleep(0.01)
    assert view.model.state.rows
    view.close()


def test_a_view_does_not_keep_its_monitor(comms: Any, clock: Any, tables: Tables) -> None:
    class Source:
        def __init__(self) -> None:
            self.tables = tables
            self.callbacks: list[Any] = []

        def on_close(self, callback: Any) -> Any:
            callbacks = self.callbacks
            callbacks.append(callback)
            return lambda: callbacks.remove(callback)

    def show() -> JobsView:
        source = Source()
        view = JobsView(source)
        view.close()
        view.close()
        if source.callbacks:
            raise AssertionError("a closed view is still called")
        return JobsView(source)  # which nobody else holds

    view = show()
    gc.collect()
    assert view.source is None
    view.close()


def test_a_wrong_source_or_option_says_what_to_do(comms: Any, clock: Any, tables: Tables) -> None:
    with pytest.raises(TypeError, match="pass what connect"):
        JobsView("wss://nas")
    with pytest.raises(TypeError, match="has no option 'colour'; it has state"):
        JobsView(tables, colour="red")
    with pytest.raises(Exception, match="warning_pct"):
        PoolsView(tables, warning_pct=800)
    for kept in list(comms):
        kept.close()


def test_show_opens_a_job(view: Any, job: Any) -> None:
    job("one", "running", ["sleep 1"])
    view.show("one")
    assert view.selected == 1
    with pytest.raises(InputError, match="'two'"):
        view.show("two")


def test_static_and_text_forms_escape(view: Any, job: Any) -> None:
    job("<b>x</b>", "finished", ["<img src=x onerror=1>\x1b[31m"], logs=["x"], codes=[1])
    assert "<img" not in view.html() and "&lt;img src=x onerror=1&gt;" in view.html()
    assert "\x1b" not in view.text() and "✗ failed" in view.text()
    assert repr(view) == "<JobsView: 1 job, 1 failed>"


def test_a_period_is_never_more_than_four_a_second() -> None:
    assert _base.PERIOD_S >= 0.25
