"""Every notebook runs from top to bottom in a real kernel, is silent on stderr, and has no output in git."""

import asyncio
import os
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CELL_LIMIT = 120  # seconds; the whole notebook has to stay well under a minute on a quiet machine


@pytest.fixture
def kernel_environment(monkeypatch, tmp_path):
    """The project importable, a home of its own, no network but loopback needed."""
    # Builds the font cache here, where a first run may take its time and say so.
    import matplotlib.font_manager  # noqa: F401

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONWARNINGS", os.environ.get("PYTHONWARNINGS", "default"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # whoever asks the network fails
    return tmp_path


def test_there_are_notebooks():
    names = ["01_explore_events.ipynb", "02_zpool_trends.ipynb", "03_prototype_alerts.ipynb"]
    assert [path.name for path in NOTEBOOKS] == names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_without_output(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client")  # theirs, about their own folders
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_top_to_bottom(path, kernel_environment, record_property):
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_LIMIT,
        kernel_name="python3",
        resources={"metadata": {"path": str(kernel_environment)}},
    )
    began = time.monotonic()
    asyncio.run(client.async_execute())  # a loop of its own, which is closed again
    record_property("seconds", time.monotonic() - began)
    said = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            assert output.output_type != "error", f"cell {number}: {output}"
            if output.output_type == "stream" and output.name == "stderr":
                said.append(f"cell {number}: {output.text}")
    assert not said, "\n".join(said)
