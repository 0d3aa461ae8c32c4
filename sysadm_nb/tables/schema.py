"""The columns of every table: one fixed schema each, the same when the table is empty."""

from __future__ import annotations

from typing import Final, Literal

Kind = Literal["time", "float", "int", "bool", "category", "text"]
"""How a column is stored and what pandas shows.

========  ==============================================  =================
kind      pandas dtype                                    missing
========  ==============================================  =================
time      ``datetime64[us, UTC]``                         ``NaT``
float     ``float64`` (bytes, percent 0 to 100, seconds)  ``NaN``, never 0
int       ``int64``                                       does not occur
bool      ``bool``                                        does not occur
category  ``category``                                    ``NaN``
text      ``str``                                         ``NaN``
========  ==============================================  =================
"""

LEAD: Final[dict[str, Kind]] = {
    "seq": "int",  # the frame's number, counted from 1 over all tables: rows of one frame share it
    "time": "time",  # when it happened: the event's own time where it tells, else the arrival
    "received": "time",  # when it came
    "server": "category",
    "origin": "category",  # live | last | polled | backfill | file
}

ORIGINS: Final = ("live", "last", "polled", "backfill", "file")

SCHEMA: Final[dict[str, dict[str, Kind]]] = {
    # one frame that was not a reply, whatever it was, unknown and malformed included
    "events": LEAD
    | {
        "event": "category",  # dispatcher | system-state | … | malformed | request | as sent
        "priority": "float",
        "level": "category",  # Information | Warning | Critical | Urgent
        "subject": "text",  # process id, host name, dataset, ...
        "summary": "text",  # one short line
        "args": "text",  # the JSON text of `args`; for malformed frames the whole frame
    },
    # one run of one process id
    "jobs": LEAD
    | {
        "process_id": "text",
        "run": "int",  # 1 for the first use of this process id on this server
        "event_system": "category",  # sysadm/pkg, sysadm/update, ...; missing for generic jobs
        "action": "category",
        "state": "category",  # pending | running | finished | unknown
        "commands": "text",  # joined with " && "
        "command_count": "float",  # missing until the command list is known
        "commands_done": "float",
        "current_command": "text",
        "started": "time",
        "finished": "time",
        "duration_s": "float",
        "percent_done": "float",
        "return_code": "float",  # the last one known
        "failed": "bool",
        "log": "text",
        "log_complete": "bool",  # every finished command's log came in full
        "updates": "int",  # how many events told of this run
    },
    # one command of a job
    "commands": LEAD
    | {
        "process_id": "text",
        "run": "int",
        "step": "int",  # 1 for the first command
        "command": "text",
        "state": "category",  # pending | running | finished | skipped | unknown
        "return_code": "float",
        "log": "text",
    },
    # one pool in one sample
    "pools": LEAD
    | {
        "hostname": "category",
        "pool": "category",
        "size_bytes": "float",
        "alloc_bytes": "float",
        "free_bytes": "float",
        "expandsz_bytes": "float",
        "frag_pct": "float",
        "capacity_pct": "float",
        "dedup_ratio": "float",
        "altroot": "text",
        "health": "category",
        "priority": "float",  # where the server sends one for the pool
        "repaired": "bool",  # the server's columns were shifted by one and were put back
    },
    # one system-state event
    "system": LEAD
    | {
        "hostname": "category",
        "hostname_changed": "bool",
        "priority": "float",
        "level": "category",
        "pool_count": "int",
        "updates_status": "category",
    },
    # one life-preserver event
    "life_preserver": LEAD
    | {
        "kind": "category",  # snapshot | replication
        "action": "category",  # created | started | progress | finished | failed | other
        "dataset": "text",
        "sent_bytes": "float",
        "total_bytes": "float",
        "percent_done": "float",
        "logfile": "text",
        "priority": "float",
        "level": "category",
        "message": "text",
    },
    # one peer that came, stayed or left, at one bridge event
    "bridge": LEAD | {"peer": "text", "change": "category"},  # joined | left | present
    # one change of our own connection
    "connection": LEAD
    | {
        "what": "category",  # connected | lost | gap | backfilled | subscribed | refused | ...
        "gap_start": "time",
        "gap_end": "time",
        "detail": "text",
    },
}

TABLES: Final = tuple(SCHEMA)

VOCABULARY: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "jobs": {"state": ("pending", "running", "finished", "unknown")},
    "commands": {"state": ("pending", "running", "finished", "skipped", "unknown")},
    "life_preserver": {
        "kind": ("snapshot", "replication"),
        "action": ("created", "started", "progress", "finished", "failed", "other"),
    },
    "bridge": {"change": ("joined", "left", "present")},
}
"""Categories that are there from the start, so that an empty table has the same dtype as a full one.
Every table's ``origin`` and ``level`` have theirs too; ``level`` is ordered, so that
``df.level >= "Warning"`` works."""
