"""Live views of jobs, pools, events, backups and connections; each a model and a small browser module."""

from __future__ import annotations

from .alert_lab import AlertLab
from .alerts_view import AlertsView
from .connection import ConnectionBadge
from .dashboard import Dashboard, dashboard
from .events import EventsView
from .jobs import JobsView
from .life_preserver import LifePreserverView
from .pools import PoolsView

__all__ = [
    "AlertLab",
    "AlertsView",
    "ConnectionBadge",
    "Dashboard",
    "EventsView",
    "JobsView",
    "LifePreserverView",
    "PoolsView",
    "dashboard",
]
