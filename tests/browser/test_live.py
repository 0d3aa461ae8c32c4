"""Views in a real notebook: live whatever the kernel does, in step, in control, and back after a reload."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

# 7.4 is what is installed with the project; the others are fetched once into a cache.
KERNELS = ["", "6.29", pytest.param("7.3", marks=pytest.mark.slow)]

SETUP = """
import asyncio, time
import sysadm_nb as sa
server = sa.serve(users={"admin": "secret"}, sources=["local"], allow_run=True)
monitor = sa.connect(server)
jobs = sa.JobsView(monitor)
jobs
"""


def job_cell(name: str, body: str) -> str:
    """A cell that starts a job of real commands that takes 2 s, and then does something else for 4.5 s."""
    command = f"sh -c 'echo {name} begins; sleep 1.5; echo {name} ends'"
    return (
        f'monitor.run(["echo {name} is first", {command!r}], id="{name}")\nuntil = time.time() + 4.5\n{body}'
    )


BODIES = {
    "sleeps": "time.sleep(4.5)",
    "computes": "while time.time() < until: sum(range(20_000))",
    "awaits": "await asyncio.sleep(4.5)",
}


@pytest.fixture(params=KERNELS, ids=["installed", "6.29", "7.3"])
def page(request: pytest.FixtureRequest, notebook: Any) -> Any:
    cells = [SETUP, *(job_cell(name, body) for name, body in BODIES.items()), "display(jobs)"]
    page = notebook(*cells, kernel=request.param)
    if request.param:
        found = page.kernel("import ipykernel; print(ipykernel.__version__)")
        assert found.startswith(request.param)
    page.run(0)
    page.done(0)
    page.tab.wait_for_selector(".jp-OutputArea .sysadm-nb")
    return page


def row(page: Any, text: str, copy: int = 0) -> Any:
    return page.view(nth=copy).locator(".nb-row.jobs-row", has_text=text)


def test_views_are_live_whatever_the_kernel_does(page: Any) -> None:
    for index, name in enumerate(BODIES, 1):
        page.run(index)
        running = page.view().locator('.nb-row.jobs-row[data-state="running"]', has_text=f"{name} begins")
        running.wait_for(timeout=4_000)
        running.click()
        log = page.view().locator(".jobs-log")
        log.get_by_text(f"{name} is first", exact=True).wait_for(timeout=4_000)
        log.get_by_text(f"{name} begins", exact=True).wait_for(timeout=4_000)
        log.get_by_text(f"{name} ends", exact=True).wait_for(timeout=4_000)
        done = page.view().locator('.nb-row.jobs-row[data-state="finished"][aria-selected="true"]')
        done.wait_for(timeout=4_000)
        assert page.busy(index), f"the cell that {name} should still be running"
        page.done(index)

    # idle: nothing runs in the kernel any more, the loop thread goes on
    page.kernel('monitor.run("sleep 1.25", id="idle")')
    page.view().locator('.nb-row.jobs-row[data-state="running"]', has_text="sleep 1.25").wait_for()
    page.tab.wait_for_function(
        """() => [...document.querySelectorAll('.nb-row.jobs-row[data-state="finished"]')]
            .some(row => row.innerText.includes('sleep 1.25'))"""
    )
    copies_in_step(page)
    run_box_runs(page)
    kill_kills(page)
    reload_keeps_the_state(page)
    assert page.problems == []


def copies_in_step(page: Any) -> None:
    page.run(4)
    page.done(4)
    page.view(nth=1).wait_for()
    assert (
        page.view(nth=1).locator(".jobs-heading").inner_text()
        == page.view(nth=0).locator(".jobs-heading").inner_text()
    )
    row(page, "sleep 1.25", copy=1).click()
    for copy in (0, 1):
        page.view(nth=copy).locator(".jobs-heading", has_text="sleep 1.25").wait_for()
    page.view(nth=0).locator('.nb-choice[data-value="failed"]').click()
    page.view(nth=1).locator('.nb-choice[data-value="failed"][aria-pressed="true"]').wait_for()
    assert eventually(lambda: page.kernel("print(jobs.state)").strip() == "failed")
    page.kernel("jobs.state = None")
    for copy in (0, 1):
        row(page, "sleep 1.25", copy=copy).wait_for()


def run_box_runs(page: Any) -> None:
    view = page.view()
    view.get_by_role("button", name="Run …").click()
    view.get_by_role("textbox", name="Commands to run").fill("echo from the box\nsh -c 'exit 3'")
    page.tab.keyboard.press("Enter")
    view.locator('.nb-row.jobs-row[data-state="failed"]', has_text="from the box").wait_for()


def kill_kills(page: Any) -> None:
    page.kernel('monitor.run("sleep 4321", id="long")')
    row(page, "sleep 4321").click()
    assert processes(page, "4321") == 1
    detail = page.view().locator(".jobs-detail")
    detail.get_by_role("button", name="Kill this job").click()
    assert processes(page, "4321") == 1  # it asks once
    detail.get_by_role("button", name="Kill it").click()
    page.view().locator('.jobs-detail[data-state="failed"]').wait_for()
    assert eventually(lambda: processes(page, "4321") == 0)


def reload_keeps_the_state(page: Any) -> None:
    page.kernel("jobs.sort = 'oldest'")
    page.save()
    page.reload()
    page.view().locator(".jobs-heading", has_text="sleep 4321").wait_for()
    assert page.view().locator(".jobs-detail").get_attribute("data-state") == "failed"
    assert re.search("sleeps", row(page, "").first.inner_text())  # the oldest job is on top
    page.kernel('monitor.run("echo after the reload", id="after")')
    page.kernel("jobs.sort = 'newest'")
    row(page, "echo after the reload").wait_for()


def processes(page: Any, argument: str) -> int:
    """How many processes have this argument."""
    code = f"""
import pathlib
found = 0
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        found += path.read_bytes().split(b"\\0")[1:2] == [b"{argument}"]
    except OSError:
        pass
print(found)
"""
    return int(page.kernel(code))


def eventually(condition: Any, timeout: float = 10) -> bool:
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.1)
    return False
