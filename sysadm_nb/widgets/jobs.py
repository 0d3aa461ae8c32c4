"""JobsView: the server's jobs as they run, down to the log of each command."""

from __future__ import annotations

import functools
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from traitlets import Enum, Int, Unicode

from ..errors import InputError
from ..tables.columns import NAT
from ..tables.job import Job
from ._base import View, tables_of
from ._state import State
from ._static import moment, seconds, table_html, table_text

# The cells of a row, by position; jobs.js reads them by the same numbers.
CELLS: Final = (
    "server",
    "process_id",
    "run",
    "subsystem",
    "action",
    "state",  # pending | running | finished | failed | unknown
    "commands",  # list of str
    "step",  # which command runs now, from 1; 0: none
    "done",  # how many commands ended
    "percent",  # as the server says it
    "started",  # microseconds since the epoch, by the server's clock
    "finished",
    "since",  # when it started by this kernel's clock, while it runs: what a ticking duration counts from
    "return_code",
    "log_at_end",  # the server sends this job's log only when it ends
)
STATE: Final = CELLS.index("state")
PERCENT: Final = CELLS.index("percent")
STATES: Final = ("pending", "running", "finished", "failed", "unknown")
MAX_ROWS: Final = 10_000  # the newest; the jobs table has more
WATCHED: Final = 8  # newest jobs whose logs are sent unasked: a busy kernel cannot be asked
TAIL: Final = 16 * 1024  # of an unasked log, characters
LONG: Final = 256 * 1024  # of an opened job's log while it runs
CUT: Final = "[earlier text left out here; it is in the jobs table]\n"


@functools.lru_cache(1024)
def subsystem_of(event_system: str | None) -> str:
    """``sysadm/pkg`` → ``pkg``; jobs that no subsystem queued are ``dispatcher`` jobs."""
    return event_system.rpartition("/")[2] if event_system else "dispatcher"


def tail(shown: str, log: str, limit: int) -> str:
    """The end of a log, so chosen that it mostly grows from what is shown already.

    >>> tail("", "short", 100)
    'short'
    >>> shown = tail("", "x" * 300, 100)
    >>> shown == CUT + "x" * 100
    True
    >>> tail(CUT + "abc", "…" * 300 + "abcdef", 100) == CUT + "abcdef"
    True
    """
    if len(log) <= limit:
        return log
    anchor = shown[-256:]
    if shown.startswith(CUT):
        anchor = anchor if len(shown) - len(CUT) >= 256 else shown[len(CUT) :]
    at = log.rfind(anchor) if anchor else -1
    if at >= 0:
        grown = shown + log[at + len(anchor) :]
        if len(grown) <= 2 * limit:
            return grown
    end = log[-limit:]
    return CUT + end[end.find("\n") + 1 if "\n" in end[:2000] else 0 :]


class JobsModel:
    """Jobs as rows, and the logs of those that are looked at."""

    def __init__(self, tables: Any, may_run: Callable[[], list[str]] = list) -> None:
        self.tables = tables
        self.may_run = may_run  # names of the servers where this login may run and kill jobs
        self.state = State()
        self.selected: int | None = None
        self._version = 0
        self._rows: dict[int, int] = {}  # job's number -> row
        self._jobs: dict[int, int] = {}  # row -> job's number
        self._watched: deque[int] = deque()
        self._first = True

    def refresh(self, now: float) -> None:
        self._version, changed = self.tables.job_changes(self._version, self._read)
        rows, newest = self._rows, len(changed) - WATCHED // 2
        moved = [  # jobs without a row were left out as too old
            (rows[job], cells) for job, cells in changed if cells.__class__ is not list and job in rows
        ]
        if moved:
            self.state.put_cells(PERCENT, moved)
        touched = {row for row, _ in moved}
        if len(moved) < len(changed):
            for number, (job, cells) in enumerate(changed):
                if cells.__class__ is list:
                    row = rows.get(job)
                    if row is None:
                        row = self._add(job)
                        if not self._first or number >= newest or cells[STATE] == "running":
                            self._watch(row)
                    self.state.put(row, cells)
                    touched.add(row)
        for row in touched.intersection((*self._watched, self.selected)):
            if row in self.state.rows:
                self._show_log(row)
        self._first = False
        self.state.set("may_run", self.may_run())

    def _read(self, job: Job) -> tuple[int, Any]:
        """A job's number and cells; the percentage alone where only that, or a log, is new."""
        if job.shaped <= self._version:
            percent = job.percent_done
            return job.key, None if percent != percent else percent
        return job.key, cells_of(job)

    def _add(self, job: int) -> int:
        row = self._rows[job] = next(reversed(self._jobs), 0) + 1
        self._jobs[row] = job
        while len(self._jobs) > MAX_ROWS:
            oldest = next(iter(self._jobs))
            del self._rows[self._jobs.pop(oldest)]
            self._hide_log(oldest)
            self.state.drop(oldest)
        return row

    def _watch(self, row: int) -> None:
        self._watched.append(row)
        while len(self._watched) > WATCHED:
            gone = self._watched.popleft()
            if gone != self.selected:
                self._hide_log(gone)

    def select(self, row: int | None) -> None:
        """Open a job: its whole log is sent, and followed."""
        last, self.selected = self.selected, row
        if last is not None and last != row and last not in self._watched:
            self._hide_log(last)
        if row is not None and row in self.state.rows:
            self._show_log(row)

    def _show_log(self, row: int) -> None:
        job = self.tables.job(*self.key(row))
        if job is None:
            return  # forgotten meanwhile
        limit = TAIL if row != self.selected else LONG if job.state == "running" else 1 << 30
        steps, told = [], set()
        for number, (command, state, code, log) in enumerate(job.steps):
            steps.append([command, state, _int(code)])
            name = f"{row}/{number}"
            if log and command not in told:  # a command that is listed twice has one log for both
                self.state.text(name, tail(self.state.texts.get(name, ""), log, limit))
            else:
                self.state.text(name, None)
            told.add(command)
        self.state.set(f"steps/{row}", steps)

    def _hide_log(self, row: int) -> None:
        for number, _ in enumerate(self.state.values.get(f"steps/{row}") or ()):
            self.state.text(f"{row}/{number}", None)
        self.state.forget(f"steps/{row}")

    def key(self, row: int) -> tuple[str, str, int]:
        """Server, process id and run of a row."""
        try:
            server, process_id, run = self.state.rows[row][:3]
        except KeyError:
            raise InputError(f"There is no job in row {row} (any more).") from None
        return server, process_id, run

    def row(self, process_id: str, server: str | None = None) -> int:
        """The newest row of a process id."""
        for row, cells in reversed(self.state.rows.items()):
            if cells[1] == process_id and server in (None, cells[0]):
                return row
        raise InputError(f"No job with the process id {process_id!r} is known.")

    def summary(self) -> str:
        counts = Counter(cells[STATE] for cells in self.state.rows.values())
        parts = [
            f"{counts[state]:,} {state}"
            for state in ("failed", "running", "pending", "unknown")
            if counts[state]
        ]
        total = len(self.state.rows)
        return ", ".join([f"{total:,} job{'' if total == 1 else 's'}", *parts])

    def _lines(self, limit: int) -> list[list[object]]:
        lines: list[list[object]] = []
        for row in sorted(self.state.rows, reverse=True)[:limit]:
            cells = dict(zip(CELLS, self.state.rows[row], strict=True))
            started, finished = cells["started"], cells["finished"]
            ran = (finished - started) / 1e6 if started is not None and finished is not None else None
            commands = cells["commands"]
            progress = (
                f"{cells['percent']:.0f}%"
                if cells["percent"] is not None
                else f"{cells['done']}/{len(commands)}"
            )
            code = "" if cells["return_code"] is None else cells["return_code"]
            what = cells["action"] or cells["subsystem"]
            lines.append(
                [
                    f"{'✗ ' if cells['state'] == 'failed' else ''}{cells['state']}",
                    what,
                    " && ".join(commands) or cells["process_id"],
                    progress if commands else "",
                    moment(started),
                    seconds(ran),
                    code,
                ]
            )
        return lines

    _HEAD: Final = ("state", "what", "commands", "progress", "started", "took", "code")

    def text(self) -> str:
        return table_text(f"Jobs: {self.summary()}", self._HEAD, self._lines(20), len(self.state.rows) - 20)

    def html(self) -> str:
        return table_html("Jobs", self.summary(), self._HEAD, self._lines(50), len(self.state.rows) - 50)


def _int(code: float | None) -> int | None:
    return None if code is None or code != code else int(code)


def cells_of(job: Job) -> list[Any]:
    """The cells of a job's row."""
    state = job.state
    commands = [*job.commands] if job.commands else []
    started, finished = job.started, job.finished
    percent = job.percent_done
    step, since = 0, None
    if state == "running":
        current = job.current_command
        if current in commands:
            step = commands.index(current) + 1
        if job.origin == "live":  # by our clock: the server's may differ, and a simulated one runs faster
            since = job.received if started == NAT else job.received - max(0, job.time - started)
    elif state == "finished" and job.failed:
        state = "failed"
    return [
        job.server,
        job.process_id,
        job.run,
        subsystem_of(job.event_system),
        job.action,
        state,
        commands,
        step,
        int(job.commands_done) if job.logs and commands else 0,
        None if percent != percent else percent,
        None if started == NAT else started,
        None if finished == NAT else finished,
        since,
        job.return_code,
        step == 0 and state == "running" and job.event_system is None and not job.logs,
    ]


class JobsView(View):
    """The jobs of one or more servers, live: state, command chain, progress, duration, return code and log.

    Rows are filtered, sorted and opened in the browser or from Python: every option is a trait, the same in
    all copies of the view. A job's *Kill* button and the *Run* box are there where the login may use them.

    Parameters
    ----------
    source : Monitor, Recording or Tables
    state : {None, 'pending', 'running', 'finished', 'failed', 'unknown'}, optional
        Show only jobs in this state.
    subsystem, server : str, optional
        Show only jobs of this subsystem (``pkg``, ``update``, ..., ``dispatcher``) or server.
    search : str, optional
        Show only jobs with this text in a command, action or process id.
    sort : {'newest', 'oldest', 'state', 'longest'}, optional
        The order of rows.

    Examples
    --------
    >>> import sysadm_nb as sa
    >>> view = sa.JobsView(sa.Tables())
    >>> view
    <JobsView: 0 jobs>
    >>> view.close()
    """

    module = "jobs"
    parts = ("terminal.js", "job_detail.js")
    controls = ("state", "subsystem", "server", "search", "sort", "selected")

    state = Enum([*STATES], None, allow_none=True)
    subsystem = Unicode(None, allow_none=True)
    server = Unicode(None, allow_none=True)
    search = Unicode("")
    sort = Enum(["newest", "oldest", "state", "longest"], "newest")
    selected = Int(None, allow_none=True, help="The row that is open.")
    model: JobsModel

    def __init__(self, source: Any, **traits: Any) -> None:
        self._fleet = getattr(source, "_fleet", None)  # what a monitor asks its servers through
        super().__init__(source, JobsModel(tables_of(source), self._may_run), **traits)

    def _may_run(self) -> list[str]:
        if self._fleet is None or self._fleet.closed:
            return []
        sessions = list(self._fleet.sessions.values())
        return [s.name for s in sessions if "write" in s.rights.get("rpc/dispatcher", "")]

    async def do_kill(self, row: int) -> None:
        """Ask the server to end a job."""
        server, process_id, _ = self.model.key(row)
        await self._asked().kill(process_id, server=server, timeout=30.0)

    async def do_run(self, commands: list[str], server: str | None = None) -> None:
        """Have a server run commands, and open the job."""
        from ..client.fleet import new_job_id

        await self._asked().run(commands, new_job_id(), server=server, timeout=30.0)

    def _asked(self) -> Any:
        if self._fleet is None:
            raise InputError("These jobs are from tables or a recording: there is no server to ask.")
        return self._fleet

    def controls_changed(self) -> None:
        if self.selected != self.model.selected:
            self.model.select(self.selected)

    def show(self, process_id: str, server: str | None = None) -> None:
        """Open the newest job with this process id."""
        with self._lock:
            self._refresh()
            self.selected = self.model.row(process_id, server)
