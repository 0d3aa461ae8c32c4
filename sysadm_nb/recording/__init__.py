"""Frames on disk: recording them, opening, exporting and replaying recordings."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sysadm_nb.recording.opened import Recording, open_recording, remember
from sysadm_nb.recording.recorder import Recorder, record
from sysadm_nb.recording.salvage import salvage

if TYPE_CHECKING:
    from sysadm_nb.recording.player import Replay, replay

__all__ = [
    "Recorder",
    "Recording",
    "Replay",
    "open_recording",
    "record",
    "remember",
    "replay",
    "salvage",
]


def __getattr__(name: str) -> Any:
    if name in ("Replay", "replay"):  # brings the server and its sockets, which reading a file needs not
        module = importlib.import_module("sysadm_nb.recording.player")
        globals().update(Replay=module.Replay, replay=module.replay)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
