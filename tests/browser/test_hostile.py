"""What a server sends is shown as text: nothing of it runs, wherever it stands."""

from __future__ import annotations

import json
from typing import Any

from tests.browser import lab

HTML = "<img src=x onerror=\"window.pwned='img'\"><script>window.pwned='script'</script>"
LINK = "[click](javascript:window.pwned='link')"
TERMINAL = (
    "\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m"
    "\x1b]8;;javascript:alert(1)\x07here\x1b]8;;\x07\x9b5m\u202egnp.exe"
)
HOSTILE = [HTML, LINK, TERMINAL, "__proto__", "constructor", "\u0000", "${window.pwned=1}", "x" * 5000]


def frames() -> list[str]:
    """Every event with every field hostile, as far as it can be and still be such an event."""
    out = []

    def event(name: str, args: Any) -> None:
        out.append(json.dumps({"namespace": "events", "name": name, "id": "", "args": args}))

    for number, text in enumerate(HOSTILE):
        bad = text + HTML
        process = {
            "process_id": bad,
            "state": "running",
            "cmd_list": [bad, text + "2"],
            "current_cmd": text + "2",
            "time_started": bad,
            bad: bad * 3,
            f"return_codes/{bad}": "0",
            text + "2": bad,
        }
        event(
            "dispatcher",
            {
                "event_system": bad,
                "state": "running",
                "action": bad,
                "pkg_log": bad,
                "process_details": process,
            },
        )
        done = process | {"state": "finished", "process_id": f"{number}{bad}", f"return_codes/{text}2": "1"}
        event(
            "dispatcher", {"event_system": bad, "state": "finished", "action": bad, "process_details": done}
        )
        event("dispatcher", {"process_id": f"generic{bad}", "state": "running", bad: bad})
        pool = dict.fromkeys(("expandsz", "altroot", "health", "priority"), bad)
        pool |= {
            "size": "107G",
            "alloc": "13.1G",
            "free": "93.9G",
            "frag": "6%",
            "capacity": "12%",
            "dedup": "1.00x",
        }
        event(
            "system-state",
            {"hostname": bad, "priority": bad, "zpools": {bad: pool}, "updates": {"status": bad, bad: bad}},
        )
        event(
            "system-state",
            {"hostname": bad, "priority": f"9 - {bad}", "zpools": {text: dict.fromkeys(pool, bad)}},
        )
        for action in (
            "New snapshot of",
            "Starting replication for",
            "Finished replication for",
            "Replication Failed for",
        ):
            message = f"Mon Nov 23 07:21:12 UTC 2026: {action} {bad}\nLogfile available at: {bad}"
            event("life-preserver", {"class": "replication", "message": message, "priority": f"7 - {bad}"})
        event("life-preserver", {"class": bad, "message": bad, "priority": bad, bad: bad})
        event(
            "life-preserver",
            {"class": "replication", "message": f"Replicating {bad}: 1M/2M (50%)", "priority": "0 - x"},
        )
        event("bridge", {"available_connections": [bad, text]})
        event(bad, {bad: bad})
        out.append(bad)
    return out


def test_nothing_that_a_server_sends_runs(notebook: Any) -> None:
    page = notebook(
        f"""
import json, sysadm_nb as sa
from sysadm_nb import widgets
tables = sa.Tables()
for number, frame in enumerate(json.loads({json.dumps(json.dumps(frames()))})):
    tables.append(frame, server={HTML!r}, origin="live")
tables.append_connection("lost", server={HTML!r}, detail={(HTML + TERMINAL)!r})
rules = sa.alerts.Rules()
every = dict(table="events", when="seq > 0", by=["server", "subject"], reason="all of them")
rules.add("any", message="{{summary}}", **every)
armed = sa.alerts.arm(tables, rules)
names = ("JobsView", "PoolsView", "EventsView", "LifePreserverView", "ConnectionBadge")
views = [*(getattr(widgets, name)(tables) for name in names), sa.AlertsView(armed)]
for view in views:
    display(view)
views[0]._show_error(ValueError({HTML!r}))
""",
        "for view in views: view.close()\narmed.disarm()",
        "display(tables.jobs); tables",
    )
    page.run(0)
    page.done(0)
    page.view().wait_for()
    assert "Traceback" not in page.output(0)
    count = page.tab.locator(".sysadm-nb").count()
    assert count == 6
    page.tab.locator(".alerts-list > li").first.wait_for()
    rows = page.view().locator(".nb-row.jobs-row")
    rows.first.wait_for()
    for index in range(min(6, rows.count())):
        rows.nth(index).click()
        page.view().locator(".jobs-detail").wait_for()
    for button in page.tab.locator(".events-list .nb-row").all()[:10]:
        button.click()
    page.tab.wait_for_timeout(500)

    text = page.tab.evaluate(
        "() => [...document.querySelectorAll('.sysadm-nb')].map(el => el.textContent).join('\\n')"
    )
    assert "<img src=x onerror=" in text  # it is there, as text
    assert "\x1b" not in text
    assert "\u202e" not in text
    check(page)
    page.run(1)  # the static forms take the views' place
    page.done(1)
    page.tab.wait_for_selector(".sysadm-nb-last")
    assert "<img src=x onerror=" in page.output(0)
    check(page)
    page.run(2)
    page.done(2)
    check(page)
    assert page.problems == []


def check(page: Any) -> None:
    outputs = ".jp-OutputArea"
    assert page.tab.evaluate("() => window.pwned ?? null") is None
    assert (
        page.tab.locator(
            f"{outputs} img, {outputs} .sysadm-nb script, {outputs} a[href^='javascript']"
        ).count()
        == 0
    )
    inline = """() => [...document.querySelectorAll('.sysadm-nb *, .sysadm-nb-last *')]
        .flatMap(el => el.getAttributeNames()).filter(name => name.startsWith('on'))"""
    assert page.tab.evaluate(inline) == []


def test_terminal(browser: Any) -> None:
    """The log is shown as a terminal shows it."""
    source = (lab.PROJECT / "sysadm_nb/widgets/terminal.js").read_text()
    tab = browser.new_page()
    tab.add_script_tag(content=source + "\nwindow.Terminal = Terminal;")

    def shown(*parts: str) -> list[str]:
        code = """parts => { const t = new Terminal(); let all = "";
            for (const part of parts) { all += part; t.show(all); } return t.lines.map(l => l.text) }"""
        return list(tab.evaluate(code, list(parts)))

    try:
        assert shown("one\ntwo") == ["one", "two"]
        assert shown("10%\r50%\r100%\ndone\n") == ["100%", "done", ""]
        assert shown("long line\rab") == ["abng line"]
        assert shown("long line\r\x1b[Kab") == ["ab"]
        assert shown("abc\b\bX") == ["aXc"]
        assert shown("a\tb") == ["a       b"]
        assert shown("a\x1b[", "31mb\x1b[0", "mc") == ["abc"]  # a sequence cut in two by two events
        assert shown("\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link") == ["textlink"]
        assert shown("one\ntwo\x1b[A\rONE") == ["ONE", "two"]
        assert shown("1\n2\n3\x1b[2F\x1b[Jx") == ["x"]
        assert shown("a\x1b[999999999Cb")[0].count(" ") <= 4096
        assert shown("\x00\x07\x7fx\x9b") == ["x"]
        assert shown("\x1b[31mred\x1b[0m", " plain") == ["red plain"]
        style = """text => { const t = new Terminal(); t.show(text);
            return t.lines[0].marks.map(mark => t.styles[mark]) }"""
        marks = tab.evaluate(style, "\x1b[1;38;5;196mA\x1b[0mB\x1b[48;2;1;2;999mC\x1b[7mD")
        assert marks == [
            {"bold": True, "front": "rgb(255, 0, 0)"},
            None,
            {"back": "rgb(1, 2, 255)"},
            {"back": "rgb(1, 2, 255)", "inverse": True},
        ]
    finally:
        tab.close()
