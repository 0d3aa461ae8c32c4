"""Pictures of each view as test artefacts, and the memory of a page that stays open all day; minutes long."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import pytest

from tests.browser import lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_narrow_and_a_wide_picture_of_each_view(browser: Any, labs: Any, tmp_path: Path) -> None:
    from PIL import Image

    spec = importlib.util.spec_from_file_location("screenshots", lab.PROJECT / "scripts/screenshots.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    pictures = script.take(browser, labs(""), tmp_path, script.VIEWS)
    assert len(pictures) == 4 * len(script.VIEWS)
    for path in pictures:
        picture = Image.open(io.BytesIO(path.read_bytes())).convert("L")
        light = sum(picture.resize((64, 64)).tobytes()) / 64**2
        assert light > 200 if "-light-" in path.name else light < 80, path
        assert picture.width == 1570 if "wide" in path.name else picture.width == 450, path
        assert (lab.PROJECT / "docs/img" / path.name).exists()


def test_a_page_that_stays_open_all_day_does_not_grow(notebook: Any) -> None:
    """A day of a busy server, a thousand times as fast: the page's heap after each six hours."""
    page = notebook(
        """
import time
import sysadm_nb as sa
from sysadm_nb import wire
tables = sa.Tables(max_rows=20_000, max_text=8 * 2**20)
board = sa.widgets.dashboard(tables)
board
""",
        """
hour = 0
def hours(count):
    global hour
    for hour in range(hour, hour + count):
        for minute in range(60):
            for part in range(20):
                name = f"sysadm_pkg_{hour}_{minute}_{part}"
                for state, log in (("running", "some\\n"), ("finished", "some log\\n" * 50)):
                    process = {"process_id": name, "state": state, "cmd_list": ["upgrade"], "upgrade": log}
                    if state == "finished":
                        process["return_codes/upgrade"] = str(part // 19)
                    args = {"event_system": "sysadm/pkg", "state": state, "process_details": process}
                    tables.append(wire.encode_event("dispatcher", args), server="nas")
            used = {"alloc": f"{1 + minute / 60:.3f}T", "size": "10T", "capacity": "10%", "health": "ONLINE"}
            state = {"hostname": "h", "zpools": {"tank": used}}
            tables.append(wire.encode_event("system-state", state), server="nas")
            time.sleep(0.025)
    hour += 1
""",
    )
    for cell in (0, 1):
        page.run(cell)
        page.done(cell)
    page.view().wait_for()
    devtools = page.tab.context.new_cdp_session(page.tab)
    heaps = []
    for _ in range(4):
        assert page.kernel("hours(6)") == ""
        page.tab.wait_for_timeout(1000)
        devtools.send("HeapProfiler.collectGarbage")
        heaps.append(devtools.send("Runtime.getHeapUsage")["usedSize"] / 2**20)
    print("heap of the page after 6, 12, 18 and 24 hours, MiB:", [round(heap, 1) for heap in heaps])
    assert page.tab.locator(".nb-row.jobs-row").count() < 60
    assert (
        heaps[3] < heaps[1] * 1.15
    )  # from 10,000 jobs on, which 12 hours bring, old rows make room for new ones
    assert page.problems == []
