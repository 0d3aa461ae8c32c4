"""Frames on disk: recording them, opening, exporting and replaying recordings."""

from sysadm_nb.recording.opened import Recording, open_recording, remember
from sysadm_nb.recording.recorder import Recorder, record

__all__ = ["Recorder", "Recording", "open_recording", "record", "remember"]
