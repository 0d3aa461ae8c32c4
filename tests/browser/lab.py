"""A real JupyterLab on loopback and a real Chromium that can reach nothing else.

with running_lab(folder) as lab, chromium() as browser:
    page = lab.open(browser, "views.ipynb")     # one notebook, its kernel idle
    page.run(0)                                 # start a cell; page.done(0) waits for its end
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    # every host but loopback fails to resolve: what draws here draws offline
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


def find_chromium() -> str | None:
    """The browser to drive: ``CHROMIUM``, or one on the PATH; Playwright's own is not downloaded."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def write_notebook(path: Path, cells: list[str]) -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell.strip("\n")) for cell in cells],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
    )
    nbformat.write(notebook, path)


@contextlib.contextmanager
def http_server(argv: list[str], url: str, log: Path, env: dict[str, str]) -> Iterator[None]:
    """A process that serves HTTP: started, waited for, ended by its own process id."""
    with log.open("w") as out:
        process = subprocess.Popen(
            argv, stdout=out, stderr=subprocess.STDOUT, env=env, start_new_session=True
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            until = time.monotonic() + 90
            while True:
                try:
                    opener.open(url, timeout=2).read()
                    break
                except urllib.error.HTTPError:
                    break  # it answers
                except OSError:
                    if time.monotonic() > until or process.poll() is not None:
                        raise RuntimeError(f"The server did not start:\n{log.read_text()[-3000:]}") from None
                    time.sleep(0.05)
            yield
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)  # the lab ends its kernels on SIGTERM
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(5)


class Page:
    """One notebook in one browser tab."""

    def __init__(self, tab: Any, path: Path) -> None:
        self.tab = tab
        self.path = path
        self.problems: list[str] = []
        tab.on("pageerror", lambda error: self.problems.append(f"pageerror: {error}"))
        tab.on(
            "console",
            lambda m: self.problems.append(f"console: {m.text[:500]}") if m.type == "error" else None,
        )

    def wait_ready(self) -> None:
        self.tab.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        self.tab.wait_for_function(
            """() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session
                ?.kernel?.status === 'idle'""",
            timeout=60_000,
        )

    def run(self, index: int) -> None:
        """Start a cell."""
        self.tab.evaluate(
            """i => { const nb = window.jupyterapp.shell.currentWidget.content;
                nb.activeCellIndex = i; nb.deselectAll();
                window.jupyterapp.commands.execute('notebook:run-cell') }""",
            index,
        )

    def done(self, index: int, timeout: float = 60) -> None:
        """Wait for a cell's end."""
        self.tab.wait_for_function(
            """i => { const c = window.jupyterapp.shell.currentWidget.content.widgets[i].model;
                return c.executionCount !== null && c.executionState !== 'running' }""",
            arg=index,
            timeout=timeout * 1000,
        )

    def busy(self, index: int) -> bool:
        """Whether a cell is still running."""
        return bool(
            self.tab.evaluate(
                """i => { const c = window.jupyterapp.shell.currentWidget.content.widgets[i].model;
                    return c.executionCount === null || c.executionState === 'running' }""",
                index,
            )
        )

    def output(self, index: int) -> str:
        return str(
            self.tab.evaluate(
                "i => window.jupyterapp.shell.currentWidget.content.widgets[i].outputArea.node.innerText",
                index,
            )
        )

    def kernel(self, code: str) -> str:
        """Run code in the notebook's kernel outside any cell; its printed output."""
        return str(
            self.tab.evaluate(
                """async code => {
                    const k = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                    let out = ''; const f = k.requestExecute({code, store_history: false});
                    f.onIOPub = m => {
                        if (m.header.msg_type === 'stream') out += m.content.text;
                        if (m.header.msg_type === 'error') out += 'ERROR ' + m.content.evalue; };
                    await f.done; return out }""",
                code,
            )
        )

    def shut(self) -> None:
        """End the kernel and close the tab."""
        with contextlib.suppress(Exception):
            self.tab.evaluate(
                "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown() }"
            )
        self.tab.close()

    def reload(self) -> None:
        self.tab.reload()
        self.wait_ready()

    def save(self) -> None:
        self.tab.evaluate("async () => { await window.jupyterapp.shell.currentWidget.context.save() }")

    def theme(self, name: str) -> None:
        """``JupyterLab Light`` or ``JupyterLab Dark``."""
        self.tab.evaluate(
            "async theme => { await window.jupyterapp.commands.execute('apputils:change-theme', {theme}) }",
            name,
        )
        dark = "false" if "Dark" in name else "true"
        self.tab.wait_for_selector(f'body[data-jp-theme-light="{dark}"]', state="attached", timeout=15_000)

    def view(self, css: str = ".sysadm-nb", nth: int = 0) -> Any:
        return self.tab.locator(css).nth(nth)


class Lab:
    """A running JupyterLab; notebooks live in ``root``."""

    def __init__(self, root: Path, base: str, token: str) -> None:
        self.root, self.base, self.token = root, base, token

    def open(self, context: Any, name: str) -> Page:
        last: Exception | None = None
        for _ in range(2):  # about one notebook in some hundred does not open
            page = Page(context.new_page(), self.root / name)
            try:
                page.tab.goto(f"{self.base}/doc/tree/{name}?token={self.token}&reset")
                page.wait_ready()
                return page
            except Exception as error:
                last = error
                page.tab.close()
        assert last is not None
        raise last


def kernel_environment(home: Path, overlay: Path | None = None) -> dict[str, str]:
    """An environment where Jupyter has settings of its own, and kernels find ``overlay`` and this project."""
    settings = home / "settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )
    spec = home / "data/kernels/python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    path = os.pathsep.join([str(folder) for folder in (overlay, PROJECT) if folder is not None])
    kernel = {"argv": argv, "display_name": "Python 3", "language": "python", "env": {"PYTHONPATH": path}}
    (spec / "kernel.json").write_text(json.dumps(kernel))
    return os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTER_PREFER_ENV_PATH": "0",  # our kernel, not the one that was installed
        "IPYTHONDIR": str(home / "ipython"),
        "XDG_CONFIG_HOME": str(home / "xdg"),
        "XDG_DATA_HOME": str(home / "xdg"),
    }


@contextlib.contextmanager
def running_lab(root: Path, overlay: Path | None = None) -> Iterator[Lab]:
    """JupyterLab on a free port, with settings of its own; kernels find the packages in ``overlay`` first."""
    home = Path(tempfile.mkdtemp(prefix="sysadm-nb-lab-"))
    try:
        env = kernel_environment(home, overlay)
        port, token = free_port(), secrets.token_hex(12)
        base = f"http://127.0.0.1:{port}"
        argv = [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            "--ip=127.0.0.1",
            f"--port={port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={token}",
            f"--ServerApp.root_dir={root}",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            "--ServerApp.terminals_enabled=False",
            "--KernelSpecManager.ensure_native_kernel=False",
        ]
        with http_server(argv, f"{base}/api?token={token}", home / "lab.log", env):
            yield Lab(root, base, token)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def chromium(width: int = 1200, height: int = 900, **options: Any) -> Iterator[Any]:
    """A browser context of a headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=CHROMIUM_ARGS, headless=True
        )
        try:
            yield browser.new_context(viewport={"width": width, "height": height}, **options)
        finally:
            browser.close()
