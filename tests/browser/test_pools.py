"""PoolsView's forecasts as a browser draws them: dashed line, band, crossing, words, both themes."""

from __future__ import annotations

import re
from typing import Any

SETUP = """
import time
import sysadm_nb as sa
from sysadm_nb import wire
tables = sa.Tables()
now = int(time.time() * 1e6)
def fill(pool, days, start, a_day):
    for hour in range(-24 * days, 1, 6):
        used = start + a_day * hour / 24
        zpool = {"size": "10T", "size_bytes": 10**13, "alloc_bytes": int(used * 1e11),
                 "alloc": "1T", "free": "1T", "capacity": f"{used:.0f}%", "health": "ONLINE"}
        event = wire.encode_event("system-state", {"hostname": "h", "zpools": {pool: zpool}})
        tables.append(event, received=now + hour * 3_600_000_000, server="nas")
fill("growing", 20, 85, 1)        # 85 % now, 90 % in 5 days
fill("still", 20, 30, 0)
fill("new", 0, 50, 0)             # one sample
view = sa.PoolsView(tables, span="all", collapse=False)
view
"""
# The end points of a path in the sparkline's units, 300 wide and 44 high.
PLACES = """element =>
    element.getAttribute('d').match(/-?[0-9.]+ -?[0-9.]+/g).map(place => place.split(' ').map(Number))"""


def test_the_forecast_is_drawn_after_now(notebook: Any) -> None:
    page = notebook(SETUP)
    page.run(0)
    page.done(0)
    card = page.tab.get_by_role("article", name="Pool growing: 85 % used, online")
    card.wait_for()
    page.tab.wait_for_function("() => document.querySelectorAll('.pools-ahead[d^=M]').length === 2")

    # two thirds of the width are the twenty days behind, one third the ten days ahead: the same scale
    past, future = (card.locator(css).evaluate(PLACES) for css in (".pools-line", ".pools-ahead"))
    assert abs(past[0][0]) < 0.5 and abs(past[-1][0] - 200) < 0.5
    assert abs(future[0][0] - 200) < 0.5 and abs(future[-1][0] - 300) < 0.5
    assert future[0] == past[-1]  # where one ends the other begins
    slopes = [(line[-1][1] - line[0][1]) / (line[-1][0] - line[0][0]) for line in (past, future)]
    assert slopes[0] < 0 and abs(slopes[1] / slopes[0] - 1) < 0.1  # 1 % a day, upwards, on both sides
    assert abs(float(card.locator(".pools-now").get_attribute("x1")) - 200) < 0.5
    assert card.locator(".pools-axis").inner_text().split("\n") == ["−20 d", "now", "+10 d"]
    assert page.tab.evaluate(
        """() => { const dashes = css => getComputedStyle(document.querySelector(css)).strokeDasharray;
            return dashes('.pools-ahead') !== 'none' && dashes('.pools-line') === 'none' }"""
    )
    band = card.locator(".pools-band").evaluate(PLACES)
    assert len(band) == 2 * len(future) and band[0] == band[-1] == future[0]
    upper, lower = band[: len(future)], band[: len(future) - 1 : -1]
    assert all(u[1] <= f[1] <= w[1] for u, f, w in zip(upper, future, lower, strict=True))
    crossing = card.locator(".pools-crossings i")
    assert crossing.count() == 1  # of 90 %; it is not full within ten days
    left = float(re.search(r"left: ([0-9.]+)%", crossing.get_attribute("style")).group(1))
    assert abs(left - (200 + 100 * 5 / 10) / 3) < 1.5

    still = page.tab.get_by_role("article", name="Pool still: 30 % used, online")
    assert (
        still.locator(".pools-ahead[d^=M]").count() == 1 and not still.locator(".pools-crossings i").count()
    )
    new = page.tab.get_by_role("article", name="Pool new: 50 % used, online")
    assert not new.locator(".pools-history").is_visible()  # one sample makes no line, and no forecast
    assert "too little to say: 1 sample" in new.inner_text()

    spark = card.locator(".pools-spark")
    label = spark.get_attribute("aria-label")
    assert "Used from" in label and "to 85.0 percent" in label
    assert re.search(
        r"Ahead: reaches 90 percent: forecast 90\.\d+ percent \(.* to .* percent\), \d+ \w+ .*; forecast 9",
        label,
    )

    # what pointer and keys read
    read = card.locator(".pools-readout")
    box = spark.bounding_box()
    page.tab.mouse.move(box["x"] + box["width"] * 0.999, box["y"] + 20)
    number = r"(\d+\.\d+)"
    words = rf"forecast {number} % \({number} to {number} %\), \d+ \w+ \d\d:\d\d"
    value, low, high = map(float, re.fullmatch(words, read.inner_text()).groups())
    assert low <= value <= high and abs(value - 95) < 1  # ten days at 1 % a day
    page.tab.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 20)
    assert re.search(r"· 7\d\.\d\d % · ", read.inner_text())  # the past has values, not forecasts
    page.tab.mouse.move(0, 0)
    spark.focus()
    page.tab.keyboard.press("End")
    assert read.inner_text().startswith("forecast 9")
    page.tab.keyboard.press("Home")
    assert re.search(r"· 6\d\.\d\d % · ", read.inner_text())

    # a shorter span shows less ahead, from the same forecast
    page.tab.get_by_role("button", name="Week", exact=True).click()
    page.tab.wait_for_function("() => document.querySelector('.pools-axis').innerText.includes('+3.5 d')")
    assert not card.locator(".pools-crossings i").count()  # 88.5 % by then
    page.tab.get_by_role("button", name="All", exact=True).click()
    crossing.wait_for()

    # in both themes line and band stand out from the ground
    seen = set()
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        page.theme(theme)
        ground, line, area, mark = page.tab.evaluate(
            """() => { const style = css => getComputedStyle(document.querySelector(css));
                return [style('.sysadm-nb').backgroundColor, style('.pools-ahead').stroke,
                    style('.pools-band').fill, style('.pools-crossings i').borderTopColor] }"""
        )
        assert len({ground, line, area, mark}) == 4 and "rgba(0, 0, 0, 0)" not in (line, area, mark)
        seen.add((ground, line, area))
    assert len(seen) == 2
    assert page.problems == []
