"""Watch SysAdm servers from a Jupyter notebook: events as DataFrames, live views, trends, alerts, recordings.

>>> import sysadm_nb as sa
>>> tables = sa.Tables()
>>> len(tables.events)
0
"""

from __future__ import annotations

import importlib
from typing import Any

# Nothing is imported before it is first used: sockets, widgets and cryptography are not everybody's.
_HOME = {
    "AlertLab": "widgets",
    "AlertsView": "widgets",
    "Connection": "client",
    "EventsView": "widgets",
    "JobsView": "widgets",
    "Monitor": "monitor",
    "PoolsView": "widgets",
    "Server": "server",
    "SysadmError": "errors",
    "Tables": "tables",
    "close_all": "connecting",
    "connect": "connecting",
    "demo": "connecting",
    "nest": "loop",
    "open_recording": "recording",
    "register_key": "client.keys",
    "replay": "recording",
    "serve": "server",
}
_ROOMS = ("alerts", "client", "errors", "recording", "server", "tables", "trends", "widgets", "wire")

__all__ = [*_HOME, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"{__name__}.{name}")
    elif name == "__version__":
        value = importlib.import_module("importlib.metadata").version("sysadm-nb")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
