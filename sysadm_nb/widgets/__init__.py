"""Live views of jobs, pools, events, backups and connections; each a tested model and a small browser module."""

from __future__ import annotations

from .jobs import JobsView
from .pools import PoolsView

__all__ = ["JobsView", "PoolsView"]
