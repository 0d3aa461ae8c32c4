"""Incidents kept in a recording: which were there before a restart, and reading them back."""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd

from ..recording import reader
from .incidents import Incident, incidents_frame

log = logging.getLogger("sysadm_nb.alerts")


def kept_before(source: Any) -> set[str]:
    """Incidents that fired before a restart, as the recording that is continued says."""
    found: set[str] = set()
    for recorder in getattr(source, "recorders", ()):
        try:
            notes = reader.notes(recorder.base, "incident")
        except Exception as error:  # the recording may be brand new, or unreadable: then all is told
            log.debug("no incidents read from %s: %s", recorder.path, error)
            continue
        found.update(str(note.data.get("id")) for note in notes if isinstance(note.data, dict))
    return found


def recorded_incidents(recording: Any) -> pd.DataFrame:
    """The incidents that were kept in a recording, as `Rules.backtest` gives them.

    Parameters
    ----------
    recording : Recording
    """
    newest: dict[str, dict[str, Any]] = {}
    for row in recording.records("incident").to_dict("records"):
        newest[row["id"]] = {k: row[k] for k in Incident.__dataclass_fields__}
    incidents = []
    for data in newest.values():
        plain = {k: None if isinstance(v, float) and v != v else v for k, v in data.items()}
        for name in ("began", "fired", "resolved", "rows"):
            value: Any = plain[name]
            plain[name] = None if value is None else int(value)
        incidents.append(Incident.from_json(plain))
    # JSON sorts keys; the server comes first everywhere else
    names = {name for incident in incidents for name in incident.keys}
    return incidents_frame(incidents, sorted(names, key=lambda name: (name != "server", name)))
