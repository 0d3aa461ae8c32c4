"""What came into the tables since the last look, and what time it is for each server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pandas as pd

from ..tables import job_updates
from ..tables.jobs import Jobs
from ..tables.updates import LOG_LIMIT
from .columns import Columns
from .keys import has_origin

GRACE_US: Final = 10_000_000
"""How far ticks stay behind a server's clock: rows that come no later than this count as if in time."""


class Feed:
    """Reads new rows of some tables; on the thread that writes them, so that all are of one moment.

    Parameters
    ----------
    tables : Tables
    names : iterable of str
        The tables that an evaluator wants.
    logs : bool
        Whether it wants the logs of jobs as well.
    """

    def __init__(self, tables: Any, names: Iterable[str], logs: bool = True) -> None:
        self.tables = tables
        self.logs = logs
        self.names = sorted(names)
        self._jobs = Jobs(LOG_LIMIT) if "jobs" in self.names else None
        self._read = sorted({"events" if name == "jobs" else name for name in self.names})
        self._counts = dict.fromkeys(self._read, 0)
        self.received = -1  # when the newest row came
        self._clock: dict[str, tuple[int, int]] = {}  # server: its time, and ours when it said so

    def anything_new(self) -> bool:
        """Whether `take` would find rows; cheap."""
        return any(self.tables.count(name) != count for name, count in self._counts.items())

    def take(self) -> dict[str, pd.DataFrame]:
        """The rows since the last call, in the order in which they came."""
        out = {}
        for name in self._read:
            if self.tables.count(name) == self._counts[name]:
                continue
            self._counts[name], frame = self.tables.since(name, self._counts[name])
            out[name] = frame
            if len(frame):
                newest = int(Columns(frame)["received"].astype(np.int64).max())
                self.received = max(self.received, newest)
            if name != "connection":  # its times are ours, not the server's
                self._note(frame)
        return out

    def with_jobs(self, frames: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        """The same with changes of jobs rebuilt from events; may take long for many, so not on the loop."""
        if self._jobs is None or "events" not in frames:
            return frames
        updates = job_updates(frames["events"], jobs=self._jobs, logs=self.logs)
        out = {**frames, "jobs": updates.sort_values("seq", kind="stable")}
        if "events" not in self.names:
            del out["events"]
        return out

    @property
    def runs(self) -> list[tuple[str, str, int]]:
        """How many runs of each process id ended, so that whoever goes on later gives the same numbers.

        Of ids from before a restart only the newest: most are never used again.
        """
        if self._jobs is None:
            return []
        now = {
            where: runs[-1].run - (runs[-1].state != "finished") for where, runs in self._jobs.runs.items()
        }
        before = [(where, count) for where, count in self._jobs.numbered.items() if where not in now]
        counted = [*before[-self._jobs.keep :], *now.items()]
        return [(*where, count) for where, count in counted if count]

    def number_from(self, runs: Iterable[tuple[str, str, int]]) -> None:
        """Go on counting runs from what `runs` said, where the tables hold none of them."""
        if self._jobs is not None:
            self._jobs.numbered = {(server, id_): count for server, id_, count in runs}

    def clocks(self, now: int) -> dict[str, int]:
        """What time it is for each server, a little less: the ticks of the evaluator."""
        return {
            server: time + max(now - received, 0) - GRACE_US
            for server, (time, received) in self._clock.items()
        }

    def behind_us(self, server: str | None) -> int:
        """How far a server's time is behind ours, where that is a recorded or a simulated one."""
        time, received = self._clock.get(server or "") or min(self._clock.values(), default=(0, 0))
        behind = received - time
        return behind if abs(behind) > 86_400_000_000 else 0

    def _note(self, frame: pd.DataFrame) -> None:
        if not len(frame):
            return
        columns = Columns(frame)
        told = np.flatnonzero(~(has_origin(columns, "backfill") | has_origin(columns, "last")))
        if not len(told):
            return
        names = frame["server"].astype("str").to_numpy()[told]
        times, received = (columns[n].astype(np.int64)[told] for n in ("time", "received"))
        # the last row of each server
        _, first = np.unique(names[::-1], return_index=True)
        for row in (len(names) - 1 - first).tolist():
            self._clock[str(names[row])] = (int(times[row]), int(received[row]))
