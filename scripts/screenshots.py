"""Take the pictures in ``docs/img``: every view in JupyterLab, light and dark, wide and narrow.

    python scripts/screenshots.py [--out docs/img] [view ...]

It starts a JupyterLab and a Chromium of its own, with the seeded demo machine in the kernel. A browser test
takes the same pictures into a folder of pytest's and looks at a few things in them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import lab  # noqa: E402

WIDTHS = {"wide": 1600, "narrow": 480}
SETUP = """
import time
import sysadm_nb as sa
from sysadm_nb import wire, widgets

monitor = sa.demo()
server = monitor.tables.jobs["server"].iloc[-1]

def event(name, args):
    monitor.tables.append(wire.encode_event(name, args), server=server)

# What a month of the demo machine may not show at this very moment.
event("life-preserver", {"class": "replication", "priority": "7 - Critical", "message":
    time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(time.time() - 4000))
    + ": Replication Failed for tank/media\\nLogfile available at: /var/log/lpreserver/lastrep-send.log"})
event("life-preserver", {"class": "replication", "priority": "0 - Information",
    "message": "Replicating tank/home@auto-2026-11-23: 1.28G/4.20G (30.5%)"})
LINES = "".join(f"\\x1b[32m[{n}/42]\\x1b[0m Fetching \\x1b[1m{p}\\x1b[0m: done\\n" for n, p in enumerate(
    ["openssl-3.5.4", "curl-8.17.0", "python311-3.11.14", "nginx-1.29.3", "bash-5.3.3", "zfs-utils-2.4.0",
     "ca_root_nss-3.118", "git-2.52.0", "pcre2-10.47", "libxml2-2.15.1", "tmux-3.6", "rsync-3.4.1"], 1))
LINES += "\\x1b[33mwarning:\\x1b[0m git-2.52.0 has a message for you\\n[13/42] Fetching vim:  61%"
chain = ["pkg update", "pkg upgrade -y", "pkg autoremove -y"]
process = {"process_id": "sysadm_pkg_upgrade-{7f2c}", "state": "running", "cmd_list": chain,
    chain[0]: "Updating FreeBSD repository catalogue...\\nAll repositories are up to date.\\n",
    f"return_codes/{chain[0]}": "0", "current_cmd": chain[1], chain[1]: LINES,
    "time_started": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())}
event("dispatcher", {"event_system": "sysadm/pkg", "action": "pkg_upgrade", "state": "running",
    "process_details": process})
monitor.run("zpool status tank")
_ = monitor.run(["zfs snapshot tank/home@before-upgrade", "false", "zpool scrub tank"]).wait()
"""
VIEWS = {
    "jobs": "view = sa.JobsView(monitor)\nview.show('sysadm_pkg_upgrade-{7f2c}')\nview",
    "pools": "view = sa.PoolsView(monitor, span='all')\nview",
    "events": "view = sa.EventsView(monitor)\nview.selected = int(monitor.events['seq'].iloc[-3])\nview",
    "backups": "view = widgets.LifePreserverView(monitor)\nview",
    "connection": "view = widgets.ConnectionBadge(monitor)\nview",
    "alert-lab": """
now = int(monitor.pools["time"].max().value // 1000)
view = sa.AlertLab(monitor, threshold=70.0, until=66.0, name="nearly full")
for one in view.lab.state.values["result"]["incidents"][:2]:
    view.lab.toggle(one[0], one[1], one[2])
view.lab.compare(True)
view.edit(threshold=74.0, until=70.0)
view
""",
    "alerts": """
rules = sa.alerts.shipped()
rules.add("tank fills", table="pools", when="capacity_pct > 50", severity="info")
armed = monitor.arm(rules, notify=print)
armed.caught_up()
view = sa.AlertsView(armed)
view
""",
    "dashboard": "view = monitor.dashboard()\nview",
}
BARE = """
.jp-Cell-inputWrapper, .jp-OutputPrompt, .jp-cell-menu, .jp-Notebook-footer { display: none !important }
.jp-Notebook { padding: 8px !important } .jp-Cell.jp-mod-active { outline: none !important }
"""


def take(context: Any, running: Any, out: Path, names: Iterable[str]) -> list[Path]:
    """The pictures of these views; returns their paths."""
    taken = []
    for name in names:
        lab.write_notebook(running.root / f"{name}.ipynb", [SETUP, VIEWS[name]])
        page = running.open(context, f"{name}.ipynb")
        for cell in (0, 1):
            page.run(cell)
            page.done(cell)
        page.view().wait_for()
        page.tab.add_style_tag(content=BARE)
        page.tab.wait_for_timeout(2500)  # the forecasts
        for theme in ("Light", "Dark"):
            page.theme(f"JupyterLab {theme}")
            for size, width in WIDTHS.items():
                page.tab.set_viewport_size({"width": width + 90, "height": 4000})
                page.tab.wait_for_timeout(700)
                path = out / f"{name}-{theme.lower()}-{size}.png"
                page.tab.locator(".jp-OutputArea-output:has(.sysadm-nb)").first.screenshot(
                    path=path, animations="disabled"
                )
                taken.append(path)
        if page.problems:
            raise SystemExit(f"{name}: {page.problems}")
        page.shut()
    return taken


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/img")
    parser.add_argument("views", nargs="*", default=list(VIEWS), help=f"of {', '.join(VIEWS)}")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        lab.running_lab(Path(folder)) as running,
        lab.chromium() as context,
    ):
        for path in take(context, running, options.out, options.views):
            print(path)


if __name__ == "__main__":
    main()
