"""What must be known after a restart, in a small JSON file that is written whenever it changes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from sysadm_nb.server.life_preserver.follow import LogFollower, Position
from sysadm_nb.server.life_preserver.lpreserver import Run

log = logging.getLogger(__name__)


def default_path() -> Path:
    """The file in the user's state folder."""
    import platformdirs  # needed by servers only: importing the library stays light

    return platformdirs.user_state_path("sysadm_nb") / "life_preserver.json"


class Memory:
    """How far each log was read, which snapshots were seen, and which replication was under way.

    Parameters
    ----------
    path : Path
        Where it is kept. Missing is a first start; unreadable is told and taken for one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = ""
        self._saved: dict[str, Any] = {}
        self._followers: dict[str, LogFollower] = {}
        self.snapshots: Any = None
        self.run: Run | None = None
        try:
            saved = json.loads(path.read_text())
            self._saved, self.snapshots = dict(saved["logs"]), saved["snapshots"]
            self.run = Run(*saved["run"]) if saved["run"] else None
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be read (%s): logs are followed from their present end", path, error)

    def follower(self, path: Path, *, old_news: bool = True) -> LogFollower:
        """The follower of a log, where it was left.

        One that was never read begins at its present end, where what it holds is `old_news`.
        """
        key = str(path)
        if key not in self._followers:
            saved = self._saved.get(key)
            self._followers[key] = LogFollower(path, Position.from_json(saved))
            if saved is None and old_news:
                self._followers[key].skip_to_end()
        return self._followers[key]

    def save(self) -> None:
        """Write everything down, in one step, if it changed."""
        positions = {path: follower.position.to_json() for path, follower in self._followers.items()}
        text = json.dumps({"logs": self._saved | positions, "snapshots": self.snapshots, "run": self.run})
        if text == self._written:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            whole = self._path.with_name(self._path.name + ".new")
            whole.write_text(text)
            whole.replace(self._path)
        except OSError as error:
            if not self._written:
                log.warning("how far logs were read cannot be remembered over a restart: %s", error)
        self._written = text
