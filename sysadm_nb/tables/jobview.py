"""A job as it was at one moment."""

from __future__ import annotations

from typing import Final

from sysadm_nb.tables.columns import NAT
from sysadm_nb.tables.job import NAN, Job, Step

_COPIED: Final = (
    "action",
    "commands_done",
    "current_command",
    "duration_s",
    "event_system",
    "failed",
    "log_complete",
    "origin",
    "percent_done",
    "process_id",
    "received",
    "run",
    "seq",
    "server",
    "state",
    "steps",
    "time",
    "updates",
    "version",
)


class JobView:
    """A job as it was at one moment: what views and waiting code read, from any thread.

    Attributes are named as the columns of the ``jobs`` table, with times in microseconds since 1970 UTC
    (``None`` where unknown) and ``commands`` as a list. ``steps`` holds ``(command, state, return_code,
    log)`` for each command; ``version`` is the number of the change that made it so.
    """

    __slots__ = (*_COPIED, "command_count", "commands", "finished", "return_code", "started")

    seq: int
    time: int
    received: int
    server: str
    origin: str
    process_id: str
    run: int
    event_system: str | None
    action: str | None
    state: str
    commands_done: float
    current_command: str | None
    duration_s: float
    percent_done: float
    failed: bool
    log_complete: bool
    updates: int
    steps: list[Step]
    version: int

    def __init__(self, job: Job) -> None:
        for name in _COPIED:
            setattr(self, name, getattr(job, name))
        self.commands: list[str] = list(job.commands or ())
        self.command_count = NAN if job.commands is None else float(len(job.commands))
        self.started: int | None = None if job.started == NAT else job.started
        self.finished: int | None = None if job.finished == NAT else job.finished
        self.return_code = NAN if job.return_code is None else float(job.return_code)

    @property
    def log(self) -> str:
        """All commands' logs, one after another; a text that serves two commands once."""
        return "".join({command: text or "" for command, _, _, text in self.steps}.values())

    def __repr__(self) -> str:
        return f"<job {self.process_id!r} run {self.run}: {self.state}>"
