"""A view's browser module alone: in a real browser, with a state that was made up, and no kernel."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sysadm_nb import Tables
from sysadm_nb.widgets.alert_lab import AlertLab
from sysadm_nb.widgets.alert_lab_model import LabModel
from sysadm_nb.widgets.alerts_view import AlertsView
from sysadm_nb.widgets.jobs import JobsView
from sysadm_nb.wire import encode_event

START = 1_767_225_600_000_000  # 2026-01-01 UTC

MOUNT = """async ({esm, css, state}) => {
    const source = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
    const module = (await import(source)).default();
    const handlers = [];
    window.sent = [];
    window.tell = (kind, body) => handlers.forEach((handle) => handle({ kind, body: JSON.stringify(body) }));
    module.initialize({ model: {
        get: () => JSON.stringify(state), on: (_, handle) => handlers.push(handle), off() {},
        send: (message) => window.sent.push(message),
    } });
    document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
    const el = document.body.appendChild(document.createElement("div"));
    el.style.width = "900px";
    window.close_ = module.render({ el });
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""


@pytest.fixture
def mount(browser: Any) -> Iterator[Callable[..., Any]]:
    """``mount(PoolsView, {"values": {...}})``: a page with this view; its errors fail the test."""
    tabs, problems = [], []

    def show(view: Any, state: dict[str, Any]) -> Any:
        tab = browser.new_page()
        tab.clock.install()  # it goes on by itself, and a test may put it forward
        tabs.append(tab)
        tab.on("pageerror", lambda error: problems.append(str(error)))
        whole = {"rows": {}, "values": {}, "texts": {}} | state | {"v": 1}
        tab.evaluate(MOUNT, {"esm": view._esm, "css": view._css, "state": whole})
        return tab

    yield show
    for tab in tabs:
        tab.close()
    assert problems == []


def lab_state(server: str = "nas", **values: Any) -> dict[str, Any]:
    tables = Tables()
    for hour in range(20):
        pool = {"size": "100G", "alloc": f"{50 + hour}G", "capacity": f"{50 + hour}%", "health": "ONLINE"}
        event = encode_event(
            "system-state", {"hostname": "nas", "zpools": {"tank": pool}}, START + hour * 3_600_000_000
        )
        tables.append(event, server=server)
    model = LabModel(tables)
    model.edit(threshold=55.0, for_s=0)
    state = json.loads(json.dumps(model.state.full()))
    state["values"] |= values
    return dict(state)


def test_the_slider_follows_the_hand_whatever_was_answered_before(mount: Callable[..., Any]) -> None:
    long_ago = {"answered": 57, "error": "an old error"}  # another copy's, or of before a reload
    tab = mount(AlertLab, lab_state(**long_ago))
    drag = """async () => {
        const slider = document.querySelector(".lab-slider"), seen = [];
        slider.focus();
        for (let i = 0; i < 4; i++) {
            slider.value = 60 + i;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
            await new Promise((done) => setTimeout(done, 60));
            seen.push(document.querySelector(".lab-number").value);
        }
        return seen;
    }"""
    edits = "() => window.sent.filter((m) => m.do === 'edit').map((m) => [m.setting.threshold, m.n])"
    assert tab.evaluate(drag) == ["60", "61", "62", "63"]
    ((first, n),) = tab.evaluate(edits)  # one at a time
    assert first == 60
    tab.evaluate("n => window.tell('patch', {base: 1, v: 2, values: {answered: n}})", n)
    tab.wait_for_function("() => window.sent.filter((m) => m.do === 'edit').length === 2")
    assert tab.evaluate(edits)[1][0] == 63


def test_more_log_leaves_the_reader_at_the_match_it_was_at(mount: Callable[..., Any]) -> None:
    job = [
        "nas",
        "one",
        1,
        "dispatcher",
        None,
        "running",
        ["long"],
        1,
        0,
        None,
        START,
        None,
        START,
        None,
        False,
    ]
    controls = {
        "state": None,
        "subsystem": None,
        "server": None,
        "search": "",
        "sort": "newest",
        "selected": 1,
    }
    log = "".join(f"line {i} {'match' if i % 50 == 0 else ''}\n" for i in range(400))
    values = {"may_run": [], "controls": controls, "steps/1": [["long", "running", None]]}
    tab = mount(JobsView, {"rows": {"1": job}, "values": values, "texts": {"1/0": log}})
    found = "() => document.querySelector('.jobs-found').textContent"
    where = "() => document.querySelector('.jobs-log').scrollTop"
    tab.fill(".jobs-detail input[type=search]", "match")
    for number in range(2, 5):
        tab.click("[aria-label='Next match']")
        tab.wait_for_function(f"() => ({found})() === '{number} of 8'")
    before = tab.evaluate(where)
    more = "line 400 match\\nline 401\\n"
    tab.evaluate(f"() => window.tell('patch', {{base: 1, v: 2, texts: {{'1/0': ['+', '{more}']}}}})")
    tab.wait_for_function(f"() => ({found})() === '4 of 9'")
    assert tab.evaluate(where) == before > 0


def test_how_long_an_alert_fires_goes_on_by_itself_and_by_the_clock_of_its_server(
    mount: Callable[..., Any],
) -> None:
    now, year = time.time_ns() // 1000, 365 * 86_400_000_000
    told = {"counts": {"firing": 2, "pending": 0, "rules": 1}, "armed": True}
    rows = {
        str(number): ["firing", "r", "critical", "nas", at, at, None, "silent", False, None, behind]
        for number, (at, behind) in enumerate([(now, 0), (now - year, year)])
    }
    tab = mount(AlertsView, {"rows": rows, "values": told})
    shown = "() => [...document.querySelectorAll('.alerts-what .nb-quiet')].map((el) => el.textContent)"
    assert all("(just now)" in text for text in tab.evaluate(shown))
    tab.clock.run_for(130_000)
    assert all("(2 min ago)" in text for text in tab.evaluate(shown))


def test_the_lab_says_whose_times_it_shows_and_shows_names_as_they_are(mount: Callable[..., Any]) -> None:
    tab = mount(AlertLab, lab_state(server="nas\u202egnp"))
    tab.locator(".lab-list li").first.wait_for()
    tab.locator(".lab-chart").hover()
    said = tab.evaluate("() => document.body.innerText")
    assert "nas\ufffdgnp tank" in said and "\u202e" not in said
    assert " incidents, times in UTC" in said
    assert tab.locator(".lab-times span").last.inner_text() == "2026-01-01 19:00 UTC"
    assert " UTC · nas\ufffdgnp tank" in tab.locator(".lab-readout").inner_text()
