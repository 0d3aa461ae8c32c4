"""One JupyterLab for each ipykernel release and one Chromium for all browser tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import lab

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sysadm-nb-tests"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Last of all: while Playwright's synchronous face is in use, the main thread has a running event loop,
    # and whoever calls asyncio.run() there is refused.
    items.sort(key=lambda item: Path(__file__).parent in item.path.parents)
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.leaves("the lab and the browser serve all tests of this folder"))
            item.add_marker(pytest.mark.timeout(170))


def _missing(what: str) -> None:
    """Browser tests are skipped loudly on a user's machine; in CI a missing browser is a failure."""
    message = f"{what}: the browser tests cannot run"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)  # told at the end of the run: pytest's -ra is on


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        _missing("playwright is not installed (pip install playwright)")
    if lab.find_chromium() is None:
        _missing("no chromium on the PATH (or in $CHROMIUM)")
    with lab.chromium() as context:
        context.set_default_timeout(20_000)
        yield context


def kernel_overlay(release: str) -> Path:
    """A folder with another release of ipykernel, to be put in front of the installed one."""
    folder = CACHE / f"ipykernel-{release}"
    if not (folder / "ipykernel").is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check"]
        done = subprocess.run(
            [*argv, "--target", str(folder), f"ipykernel=={release}.*"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode:
            _missing(f"ipykernel {release} could not be installed ({done.stderr.strip()[-200:]})")
    return folder


@pytest.fixture(scope="session")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """``labs("")`` is a JupyterLab with the installed ipykernel, ``labs("6.29")`` one with that release."""
    running: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:

        def get(release: str) -> Any:
            if release not in running:
                overlay = kernel_overlay(release) if release else None
                root = tmp_path_factory.mktemp(f"lab{release}")
                running[release] = stack.enter_context(lab.running_lab(root, overlay=overlay))
            return running[release]

        yield get


@pytest.fixture
def notebook(
    browser: Any, labs: Callable[[str], Any], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Any]]:
    """Opens a notebook of these cells in a tab: ``page = notebook(cell, cell, kernel="6.29")``."""
    pages: list[Any] = []

    def open_notebook(*cells: str, kernel: str = "") -> Any:
        running = labs(kernel)
        name = f"{request.node.originalname}-{len(pages)}.ipynb"
        lab.write_notebook(running.root / name, list(cells))
        page = running.open(browser, name)
        pages.append(page)
        return page

    yield open_notebook
    for page in pages:
        page.shut()
