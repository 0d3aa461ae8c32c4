"""The committed notebooks in a real JupyterLab: Run All goes to the end, nothing is red, the views draw."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

# What is drawn for a cell that shows a view, by the source of the cell.
DRAWN = {
    "01_explore_events": {
        "sa.JobsView(monitor)": '.nb-row.jobs-row[data-state="finished"]',
        "sa.PoolsView(monitor)": "text=tank",
    },
    "03_prototype_alerts": {
        "lab": "svg, canvas",
        "sa.AlertsView(armed)": "text=filling fast",
    },
}

CELLS = "window.jupyterapp.shell.currentWidget.content.widgets"


def run_all(page: Any, seconds: float) -> None:
    page.tab.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    page.tab.wait_for_function(
        f"""() => {CELLS}.filter(cell => cell.model.type === 'code').every(
            cell => cell.model.executionCount !== null && cell.model.executionState !== 'running')""",
        timeout=seconds * 1000,
    )


def sources(page: Any) -> list[str]:
    return list(page.tab.evaluate(f"() => {CELLS}.map(cell => cell.model.sharedModel.source)"))


def red(page: Any) -> list[str]:
    """Errors and texts on stderr in any output."""
    outputs = page.tab.evaluate(
        f"() => {CELLS}.flatMap(cell => cell.model.type === 'code' ? cell.model.outputs.toJSON() : [])"
    )
    bad = [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    return [str(output)[:3000] for output in bad]


def bring_into_view(page: Any, cell: int, output: Any) -> None:
    """Scroll until a cell's output is drawn: cells far from the window are not in the page at all."""
    for attempt in range(8):
        page.tab.evaluate(
            """i => { const notebook = window.jupyterapp.shell.currentWidget.content;
                notebook.activeCellIndex = i; return notebook.scrollToItem(i, 'start') }""",
            cell,
        )
        try:
            output.wait_for(timeout=3_000)
            return
        except Exception:
            if attempt == 7:
                raise


@pytest.mark.parametrize("name", DRAWN)
def test_run_all_goes_to_the_end_and_the_views_draw(name: str, browser: Any, labs: Any) -> None:
    lab = labs("")
    shutil.copyfile(NOTEBOOKS / f"{name}.ipynb", lab.root / f"{name}.ipynb")
    page = lab.open(browser, f"{name}.ipynb")
    try:
        run_all(page, 120)
        assert red(page) == []
        cells = sources(page)
        for source, css in DRAWN[name].items():
            (cell,) = [index for index, text in enumerate(cells) if text.splitlines()[-1:] == [source]]
            here = f'.jp-Cell[data-windowed-list-index="{cell}"]'  # closed with its monitor: the last state
            output = page.tab.locator(f"{here} .sysadm-nb, {here} .sysadm-nb-last")
            bring_into_view(page, cell, output)
            output.locator(css).first.wait_for(state="attached", timeout=20_000)
        assert page.problems == []
    finally:
        page.shut()
