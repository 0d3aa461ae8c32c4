"""Alerts as a person uses them: a lab, a rule on guard over a replay, messages over real HTTP, silence."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sysadm_nb.recording.writer import Frame, Writer
from sysadm_nb.wire import encode_event

START = 1_767_225_600_000_000  # 2026-01-01 UTC
QUARTER = 15 * 60_000_000

# A pool that fills overnight, is cleared, and fills once more for a shorter time; samples every 15 minutes.
# Above 80 %: samples 40 to 59 (4 h 45 min) and 100 to 103 (45 min).
CAPACITY = [70] * 40 + [86] * 20 + [70] * 40 + [83] * 4 + [70] * 40


class Receiver(ThreadingHTTPServer):
    """What a web hook talks to: keeps the bodies of the requests."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.bodies.append(json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "night.sysadm"
    writer = Writer(path)
    frames = []
    for number, used in enumerate(CAPACITY):
        pool = {"size": "100G", "alloc": f"{used}G", "free": f"{100 - used}G", "capacity": f"{used}%"}
        pool |= {"frag": "5%", "health": "ONLINE", "dedup": "1.00x", "expandsz": "-", "altroot": "-"}
        args = {"hostname": "nas", "priority": "0 - Information", "zpools": {"tank": pool}}
        time = START + number * QUARTER
        frames.append(Frame(encode_event("system-state", args, time), time, "nas", "live"))
    writer.write(frames)
    writer.close()
    return path


def cells(recorded: Path, port: int) -> list[str]:
    return [
        f"""
import json, time, urllib.request
import sysadm_nb as sa
past = sa.open_recording({str(recorded)!r})

def tell(message):
    body = json.dumps(message.to_json()).encode()
    request = urllib.request.Request("http://127.0.0.1:{port}/", body, {{"Content-Type": "application/json"}})
    urllib.request.urlopen(request, timeout=10).read()
""",
        "lab = sa.AlertLab(past, threshold=80, for_s=0)\nlab",
        f"""
server = sa.replay({str(recorded)!r}, speed=36_000)
monitor = sa.connect(server, name="nas")
rules = sa.alerts.Rules()
rules.add(
    "nearly full",
    table="pools",
    when="capacity_pct > 80",
    for_="1h",
    message="{{pool}} is {{value:.0f}} % full",
)
armed = monitor.arm(rules, notify=tell)
view = sa.AlertsView(armed)
view
""",
    ]


def count(page: Any) -> str:
    return page.view().locator(".lab-fact strong").first.inner_text()


def test_a_replay_fires_and_tells_twice(notebook: Any, recorded: Path, receiver: Receiver) -> None:
    page = notebook(*cells(recorded, receiver.server_port))
    for index in (0, 2):
        page.run(index)
        page.done(index)
    page.tab.wait_for_selector(".alerts-past summary:has-text('1 incident over')", timeout=60_000)
    page.tab.wait_for_selector(".alerts-told:has-text('2 messages')", timeout=20_000)
    fired, resolved = receiver.bodies
    assert [fired["title"], resolved["title"]] == [
        "WARNING nearly full: nas tank",
        "RESOLVED nearly full: nas tank",
    ]
    # the fortieth sample begins it, an hour later it fires, the sixtieth ends it
    (news,) = resolved["news"]
    assert (news["began"], news["fired"], news["resolved"]) == tuple(
        START + n * QUARTER for n in (40, 44, 60)
    )
    assert news["message"] == "tank is 86 % full"
    said = page.kernel(
        "print(armed.incidents.equals(rules.backtest(past)), len(armed.incidents), server.state)"
    )
    assert said.split()[:2] == ["True", "1"]
    page.kernel("armed.disarm(); monitor.close(); server.stop()")
    assert len(receiver.bodies) == 2


def test_silence_and_acknowledge(notebook: Any, recorded: Path, receiver: Receiver) -> None:
    setup = cells(recorded, receiver.server_port)[0]
    live = """
from sysadm_nb.wire import encode_event
tables = sa.Tables()
def sample(used, pool="tank"):
    now = time.time_ns() // 1000
    zpools = {pool: {"capacity": f"{used}%", "health": "ONLINE", "size": "100G", "alloc": f"{used}G"}}
    event = encode_event("system-state", {"hostname": "nas", "zpools": zpools}, now)
    tables.append(event, server="nas", received=now)
rules = sa.alerts.Rules()
rules.add("nearly full", table="pools", when="capacity_pct > 80", reason="why")
armed = sa.alerts.arm(tables, rules, notify=tell, remind="1s")
view = sa.AlertsView(armed)
view
"""
    page = notebook(setup, live)
    for index in (0, 1):
        page.run(index)
        page.done(index)
    view = page.view()
    view.locator(".nb-empty", has_text="All quiet").wait_for()
    page.kernel("sample(85)")
    row = view.locator(".alerts-list > li[data-state='firing']", has_text="nearly full")
    row.wait_for()
    wait_until(page, lambda: len(receiver.bodies) >= 2)  # it fired, and a reminder came
    assert receiver.bodies[1]["title"].startswith("STILL FIRING")
    row.get_by_role("button", name=re.compile("^Acknowledge")).click()
    view.locator(".alerts-badge", has_text="acknowledged").wait_for()
    page.tab.wait_for_timeout(700)  # one that was under way
    before = len(receiver.bodies)
    page.tab.wait_for_timeout(2500)
    assert len(receiver.bodies) == before, "a reminder came for what somebody looks after"

    page.kernel("sample(88, 'vault')")
    vault = view.locator(".alerts-list > li[data-state='firing']", has_text="nas vault")
    vault.wait_for()
    wait_until(page, lambda: any("vault" in b["title"] for b in receiver.bodies))
    vault.get_by_role("combobox").select_option("3600")
    view.locator(".alerts-badge", has_text="silent until").wait_for()
    page.tab.wait_for_timeout(700)
    before = len(receiver.bodies)
    page.kernel("sample(70, 'vault')")
    vault.wait_for(state="detached")
    page.tab.wait_for_timeout(1500)
    assert len(receiver.bodies) == before, "a message came in spite of the silence"

    view.get_by_role("button", name="Disarm").click()
    view.get_by_role("button", name="Really disarm?").click()
    view.locator(".alerts-counts", has_text="disarmed").wait_for()
    page.kernel("sample(90, 'new')")
    page.tab.wait_for_timeout(1500)
    assert len(receiver.bodies) == before
    assert page.kernel("print(armed.armed)").strip() == "False"


def wait_until(page: Any, true: Any, seconds: float = 20.0) -> None:
    for _ in range(int(seconds * 10)):
        if true():
            return
        page.tab.wait_for_timeout(100)
    raise AssertionError("it did not happen in time")


def test_the_lab_without_a_mouse(notebook: Any, recorded: Path, receiver: Receiver) -> None:
    page = notebook(*cells(recorded, receiver.server_port)[:2])
    for index in (0, 1):
        page.run(index)
        page.done(index)
    view = page.view()
    view.locator(".lab-fact").first.wait_for()
    assert count(page) == "2"
    # the slider: 3.5 up, above the shorter rise to 83 %, changes the count
    view.locator(".lab-slider").focus()
    for _ in range(7):
        page.tab.keyboard.press("ArrowRight")
    wait_until(page, lambda: count(page) == "1")
    assert page.kernel("print(lab.rule.when)").strip() == "capacity_pct > 83.5"
    page.tab.keyboard.press("Home")
    wait_until(page, lambda: page.kernel("print(lab.rule.when)").strip() == "capacity_pct > 0")
    for _ in range(3):
        page.tab.keyboard.press("PageUp")
    box = view.get_by_label("Threshold", exact=True)
    box.fill("80")
    wait_until(page, lambda: count(page) == "2")

    # an incident of the list is real: a key says so, and the other is a false alarm
    first = view.locator(".lab-list input").last
    first.focus()
    page.tab.keyboard.press("Space")
    view.locator(".lab-fact", has_text="False alarms").get_by_text("1", exact=True).wait_for()
    labels = page.kernel("print(lab.labels.to_dict('records'))")
    assert "2026-01-01 10:00" in labels and "'pool': 'tank'" in labels

    # compare with a second setting
    view.get_by_role("button", name="Compare").focus()
    page.tab.keyboard.press("Enter")
    box.fill("84")
    view.locator(".lab-than", has_text="other: 2").wait_for()
    wait_until(page, lambda: count(page) == "1")

    # a period marked on the chart with the keyboard
    chart = view.locator(".lab-chart")
    chart.focus()
    page.tab.keyboard.press("Home")
    for _ in range(20):
        page.tab.keyboard.press("Shift+ArrowRight")
    page.tab.keyboard.press("Enter")
    view.locator("h3", has_text="2 periods marked as real").wait_for()
    view.get_by_role("button", name=re.compile("Forget the mark")).first.focus()
    page.tab.keyboard.press("Enter")
    view.locator("h3", has_text="1 period marked as real").wait_for()

    # copy, save and arm
    view.get_by_label("Name of the rule").fill("night")
    page.tab.wait_for_timeout(500)
    view.locator("summary", has_text="As Python").click()
    code = "rules.add('night', table='pools', when='capacity_pct > 84', severity='warning')"
    wait_until(page, lambda: code in view.locator(".lab-code").inner_text())
    made = page.kernel("exec(lab.lab.state.values['code']); print(rules['night'] == lab.rule)")
    assert made.strip() == "True"
    view.get_by_role("button", name="Save").click()
    view.locator(".lab-note", has_text="Saved in rules.toml").wait_for()
    assert page.kernel("print(sa.alerts.load('rules.toml')['night'] == lab.rule)").strip() == "True"
    view.get_by_role("button", name="Arm", exact=True).click()
    view.locator(".lab-note", has_text="is armed").wait_for()
    assert "1 rules" in page.kernel("print(lab.armed)")
    view.get_by_role("button", name="Disarm", exact=True).click()
    view.locator(".lab-note", has_text="Disarmed").wait_for()


def test_dragging_marks_a_real_incident(notebook: Any, recorded: Path, receiver: Receiver) -> None:
    page = notebook(*cells(recorded, receiver.server_port)[:2])
    for index in (0, 1):
        page.run(index)
        page.done(index)
    view = page.view()
    view.locator(".lab-fact").first.wait_for()
    box = view.locator(".lab-chart").bounding_box()
    span = len(CAPACITY) - 1
    left, right = (box["x"] + box["width"] * n / span for n in (42, 55))
    page.tab.mouse.move(left, box["y"] + 60)
    page.tab.mouse.down()
    page.tab.mouse.move((left + right) / 2, box["y"] + 80)
    page.tab.mouse.move(right, box["y"] + 80)
    page.tab.mouse.up()
    view.locator("h3", has_text="1 period marked as real").wait_for()
    facts = view.locator(".lab-facts").inner_text()
    assert re.search(r"Real ones found\s+1 of 1", facts)
    assert re.search(r"False alarms\s+1\b", facts)


def test_the_chart_follows_the_slider_at_100_000_rows(notebook: Any) -> None:
    page = notebook(
        """
import numpy as np, pandas as pd, time
import sysadm_nb as sa
from benchmarks.alerts import pool_rows
from sysadm_nb.wire import encode_event
rows = pool_rows(100_000)
tables = sa.Tables()
for time_, part in rows.groupby("time", sort=True):
    at = int(time_.value) // 1000
    for server, mine in part.groupby("server", observed=True):
        zpools = {p: {"capacity": f"{c:.0f}%"} for p, c in zip(mine["pool"], mine["capacity_pct"])}
        event = encode_event("system-state", {"hostname": "h", "zpools": zpools}, at)
        tables.append(event, server=server, received=at)
lab = sa.AlertLab(tables)
lab
"""
    )
    page.run(0)
    page.done(0, timeout=120)
    view = page.view()
    view.locator(".lab-fact").first.wait_for()
    # from the key press to the new incidents in the page, measured in the page
    took = view.evaluate(
        """async (view) => {
            const slider = view.querySelector('.lab-slider'), bands = view.querySelector('.lab-bands');
            const took = [];
            for (let i = 0; i < 12; i++) {
                const begun = performance.now();
                const drawn = new Promise((done) => {
                    const seen = new MutationObserver(() => { seen.disconnect(); done(); });
                    seen.observe(bands, { childList: true });
                });
                slider.value = 70 + i;
                slider.dispatchEvent(new Event('input', { bubbles: true }));
                await drawn;
                took.push(performance.now() - begun);
                await new Promise((done) => setTimeout(done, 150));
            }
            return took.sort((a, b) => a - b);
        }"""
    )
    print(f"from slider to chart, ms: median {took[6]:.0f}, slowest {took[-1]:.0f}")
    assert took[6] < 100 * 4, took  # the promise is 100 ms; this machine is shared while tests run
