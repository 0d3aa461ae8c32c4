"""A job that this notebook started: a handle to look at it, wait for it and kill it."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

from sysadm_nb import loop, wire
from sysadm_nb.client.fleet import Fleet
from sysadm_nb.tables.spans import seconds_to_wait

if TYPE_CHECKING:
    from sysadm_nb.tables.jobview import JobView

TAIL = 12


class Job:
    """A job started with ``monitor.run(...)``; what it shows is always as of now.

    Attributes
    ----------
    id : str
        Its process id.
    server : str
        Where it runs.
    run : int
        Which use of this process id on that server it is.
    """

    def __init__(self, fleet: Fleet, handle: loop.LoopThread, server: str, id: str, run: int) -> None:
        self.id = id
        self.server = server
        self.run = run
        self._fleet = fleet
        self._loop = handle
        self._seen = fleet.tables.job(server, id, run)

    @property
    def view(self) -> JobView | None:
        """All that is known of it; None while nothing is."""
        view = self._fleet.tables.job(self.server, self.id, self.run)
        if view is not None:
            self._seen = view
        elif self._seen is not None and self._seen.state != "finished":
            self._seen.state = "unknown"  # the tables remember so many jobs, and this is an older one
        return self._seen

    @property
    def state(self) -> str:
        """``pending``, ``running``, ``finished``, or ``unknown``: not connected, or the job is long past."""
        view = self.view
        return "pending" if view is None else view.state

    @property
    def done(self) -> bool:
        """Whether it has finished."""
        return self.state == "finished"

    @property
    def commands(self) -> list[str]:
        """Its commands, as far as they are known."""
        return [] if self.view is None else self.view.commands

    @property
    def log(self) -> str:
        """What its commands printed so far; a generic job of a real server brings it only at the end."""
        return "" if self.view is None else self.view.log

    @property
    def return_codes(self) -> list[int | None]:
        """The return code of each command; None for those that have none (yet)."""
        steps = [] if self.view is None else self.view.steps
        return [None if code is None or math.isnan(code) else int(code) for _, _, code, _ in steps]

    @property
    def return_code(self) -> int | None:
        """The last return code known; 0 of a finished job means that all went well."""
        known = [code for code in self.return_codes if code is not None]
        return known[-1] if known else None

    def wait(self, timeout: float | None = 60.0) -> Job:
        """Wait until it has finished.

        Parameters
        ----------
        timeout : float or None
            Seconds; None waits as long as it takes. The job goes on after a time-out.

        Returns
        -------
        Job
            Itself.

        Raises
        ------
        RequestTimeout
        ConnectionLost
            The connection ended; the session reconnects, and ``wait`` can be called again.
        """
        if self.done:
            return self
        self._fleet.still_open()
        timeout = None if timeout is None else seconds_to_wait(timeout)
        waiting = self._fleet.wait_for(
            "finished", process_id=self.id, run=self.run, server=self.server, timeout=timeout
        )
        self._loop.run(waiting, timeout=None if timeout is None else timeout + 5)
        self._seen = self.view
        return self

    def kill(self, timeout: float = 60.0) -> None:
        """Ask the server to end it; real servers may let it go on to its own end."""
        self._fleet.still_open()
        timeout = seconds_to_wait(timeout)
        self._loop.run(self._fleet.kill(self.id, server=self.server, timeout=timeout), timeout + 5)

    def _facts(self) -> str:
        code = self.return_code
        return f"{self.state}{'' if code is None else f', return code {code}'}"

    def __repr__(self) -> str:
        advice = "" if self.done else "; .wait(), .log, .kill()"
        return f"<Job {self.id} on {self.server}: {self._facts()}{advice}>"

    def _repr_html_(self) -> str:
        lines = wire.shell_text(self.log).splitlines()[-TAIL:]
        shown = html.escape("\n".join(lines))
        commands = html.escape(" && ".join(self.commands))
        return (
            f"<div><b>Job</b> <code>{html.escape(self.id)}</code> on {html.escape(self.server)}: "
            f"{html.escape(self._facts())}<br><code>{commands}</code><pre>{shown}</pre></div>"
        )
