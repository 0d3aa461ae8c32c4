"""Stand-ins for zpool and zfs on PATH, with the state that a test gives them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

STUBS = Path(__file__).parents[2] / "stubs"


@pytest.fixture
def openzfs(tmp_path, monkeypatch):
    """Call it with a state (see tests/stubs/openzfs.py), again whenever that changes; returns its folder."""
    home = tmp_path / "openzfs"
    home.mkdir()
    monkeypatch.setenv("PATH", f"{STUBS}:{os.environ['PATH']}")
    monkeypatch.setenv("STUB_ZFS", str(home))

    def set_state(**state):
        whole = home / "state.json.new"
        whole.write_text(json.dumps({"version": "2.2"} | state))
        whole.replace(home / "state.json")
        return home

    return set_state
