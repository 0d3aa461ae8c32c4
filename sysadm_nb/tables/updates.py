"""How jobs changed, rebuilt from the events: what a rule about jobs is tried on."""

from __future__ import annotations

from typing import Final

import pandas as pd

from sysadm_nb.errors import InputError
from sysadm_nb.tables.jobs import Jobs
from sysadm_nb.tables.schema import LEAD
from sysadm_nb.tables.store import Store
from sysadm_nb.wire import parse_json
from sysadm_nb.wire.events import dispatcher

LOG_LIMIT: Final = 2**16
"""Characters of a job's log in a row of the updates. Every row has the whole log so far, and there is
a row for each line a chatty command prints: with the tables' own limit they could fill the memory."""


def job_updates(
    events: pd.DataFrame, max_log: int = LOG_LIMIT, jobs: Jobs | None = None, logs: bool = True
) -> pd.DataFrame:
    """Rebuild from events how every job changed: one row for each change, in the columns of ``jobs``.

    Parameters
    ----------
    events : pandas.DataFrame
        Rows of the ``events`` table, at least its first six columns and ``args``.
    max_log : int
        Characters of log kept for each job: head and tail of its commands', with the cut marked.
    jobs : Jobs, optional
        The state machine that took the events before these, to go on with.
    logs : bool
        Whether the ``log`` is wanted; without it the column is empty, and many updates take little memory.

    Returns
    -------
    pandas.DataFrame
        In order of time; ``time`` and ``received`` are those of the change.
    """
    missing = [name for name in (*LEAD, "event", "args") if name not in events]
    if missing:
        raise InputError(
            f"events lacks the column {missing[0]!r}; pass the events table of a monitor or recording"
        )
    store = Store("jobs", max(len(events), 1), keyed=True)
    jobs = Jobs(max_log) if jobs is None else jobs
    told = events[(events["event"] == "dispatcher") & events["args"].notna()]
    times = [told[name].to_numpy("datetime64[us]").astype("int64").tolist() for name in ("time", "received")]
    servers, origins = (told[name].astype("str").tolist() for name in ("server", "origin"))
    leads = zip(told["seq"].tolist(), *times, servers, origins, strict=True)
    for lead, text in zip(leads, told["args"].tolist(), strict=True):
        job = jobs.take(dispatcher(parse_json(text)), lead)
        if job is not None:
            store.add((*lead, *job.row(logs)[5:]))
            jobs.unsettled.clear()
            jobs.forget_old()
    return store.snapshot()
