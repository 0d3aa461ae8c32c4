"""Jobs: what the dispatcher's events say about each run of each process id.

A state machine without I/O. One event at a time goes in through :meth:`Jobs.take`; which run it speaks
of, and what its texts mean, follows the rules below, all read off real servers.

* A run begins with a pending or running event while no run of that process id is going on that the
  event could belong to. A *bare* running event (no command list) belongs to the oldest run that is
  still pending, or begins one: a real server sends exactly one for each run.
* Runs of one process id that overlap are told apart by command list and start. Where a finished event
  fits several, the run whose age is nearest the duration in the event is taken.
* A second finished event with the same commands and start is a killed process' other ending.
* A command with a return code, and every command of a finished event, brings its full log. Any other
  text is new since the last event, except that it can begin with text of commands that ended since,
  which was already sent with their full logs.
* A command's text is itself a key, so only the command list says what is a log.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from msgspec.structs import astuple

from sysadm_nb.tables.columns import NAT
from sysadm_nb.tables.job import CONTEXT, NAN, RETURN_CODES, Job, Lead
from sysadm_nb.tables.joblog import already_sent
from sysadm_nb.wire import dump_json, one_line, parse_percent, parse_time
from sysadm_nb.wire.events import Dispatcher

_QUARTER: Final = 15 * 60 * 1_000_000
_SECOND: Final = 1_000_000
_STATES: Final = ("pending", "running", "finished")
_RECENT_RUNS: Final = 64  # of one process id: more than this never run at once


class Jobs:
    """All runs that are going on, and the newest that ended.

    Parameters
    ----------
    max_log : int
        Characters of log kept for each job.
    keep : int
        How many ended runs are remembered as objects. Older ones are rows of the table only.
    """

    def __init__(self, max_log: int, keep: int = 10_000) -> None:
        self.max_log = max_log
        self.keep = keep
        self.version = 0
        self.runs: dict[tuple[str, str], list[Job]] = {}
        self.changed: OrderedDict[int, Job] = OrderedDict()  # every remembered run, last changed last
        self.unsettled: dict[int, Job] = {}  # runs whose rows in the table are missing or old
        self.offsets: dict[str, int] = {}  # server: how far its wall clock is ahead of UTC, in µs
        self.expecting: dict[tuple[str, str], Job] = {}  # runs of which just more log is expected
        self.numbered: dict[tuple[str, str], int] = {}  # runs that were counted before these, by process id
        self._next_key = 1
        self._forget_at = keep + max(keep // 4, 1)

    # -- events ------------------------------------------------------------------------------------

    def take(self, said: Dispatcher | None, lead: Lead) -> Job | None:
        """Take one dispatcher event's arguments.

        Parameters
        ----------
        said : Dispatcher or None
            In any of the forms seen: flat, or with ``process_details``. It is taken apart.
        lead : tuple
            ``(seq, time, received, server, origin)`` of the frame, times in microseconds.

        Returns
        -------
        Job or None
            The run it speaks of; ``None`` if it names no process.
        """
        if said is None:
            return None
        nested = type(said) is Dispatcher
        details: dict[str, Any]
        details, state, outer_id, action, system, percent = astuple(said)
        process_id: Any = details.get("process_id")
        if nested and "current_cmd" in details and type(process_id) is str:
            job = self.expecting.get((lead[3], process_id))
            if job is not None and self._is_delta(job, details, state, action, system):
                if percent is not None:
                    _read_percent(job, percent)
                if lead[1] > job.last_time:
                    job.last_time = lead[1]
                job.last_received = lead[2]
                job.updates += 1
                self._touch(job)
                return job
        started: Any = details.get("time_started")
        if type(started) is not str:
            started = None
        listed = details.get("cmd_list")
        job = self._only_run(process_id, state, listed, started, details, lead)
        if job is not None:
            commands = job.commands if listed is not None else None
            bare = not nested and commands is None
        else:
            if type(listed) is list:
                commands = [c if type(c) is str else dump_json(c) for c in listed]
            else:
                commands = _commands_without_list(details, listed)
            if commands is not None and ("state" in commands or "process_id" in commands):
                state, process_id = self._untangle(said, commands, lead[3])
            if process_id is None:
                process_id = outer_id
            if type(state) is not str:
                state = details.get("state")
                state = state if isinstance(state, str) else "unknown"
            if type(process_id) is not str:
                if process_id is None:
                    return None
                process_id = dump_json(process_id)
            bare = not nested and commands is None
            job = self._find(process_id, state, commands, started, bare, details, lead)
            if job is None:
                return None
            if commands is not None and job.commands != commands:
                job.set_commands(commands)
        if job.repeated is not None:
            self._differ(job)
        if not bare:
            if type(system) is str:
                job.event_system = system
            if type(action) is str:
                job.action = action
            if percent is not None:
                _read_percent(job, percent)
        if state == "running":
            job.bare_seen = True
        self._read_times(job, state, details, started, lead)
        if commands is not None and state != "pending":
            self._read_logs(job, details, state == "finished")
        job.state = state
        job.current = None
        if state == "finished":
            job.ended = ""
        elif state == "running":
            current = details.get("current_cmd")
            if type(current) is str:
                job.current = current
                if nested and job.expects_delta(details):
                    self._expect(job, details)
        what = job.action or job.current or (job.commands[0] if job.commands else "")
        job.told = (NAN, None, job.process_id, _summary(state, what[:500]))
        job.updates += 1
        self._reshape(job)
        return job

    def _only_run(
        self,
        process_id: Any,
        state: Any,
        listed: Any,
        started: str | None,
        details: dict[str, Any],
        lead: Lead,
    ) -> Job | None:
        """The run an event speaks of where there is but one, and the event goes on with it in plain words.

        Where :meth:`_find` would say the same, at a fraction of the cost.
        """
        if type(process_id) is not str or lead[4] == "backfill":
            return None
        runs = self.runs.get((lead[3], process_id))
        if runs is None or len(runs) > 1:
            return None
        job = runs[0]
        if job.state != "running" and job.state != "pending":
            return None
        if listed is None:  # two keys: the bare event that a real server sends once for each run
            return job if state == "running" and len(details) == 2 and not job.bare_seen else None
        if listed != job.commands or not job.plain or (state != "running" and state != "finished"):
            return None
        return job if started is None or job.server_started is None or started == job.server_started else None

    def _is_delta(self, job: Job, details: dict[str, Any], state: Any, action: Any, system: Any) -> bool:
        """Take the commonest event by a shorter way: more log, or another percentage, of the one run.

        Everything else is as it was in the event before. ``False`` where it is not so.
        """
        current: str = job.current  # type: ignore[assignment]
        delta = details.pop(current, None)
        if (
            details != job.repeated
            or state != "running"
            or action != job.action
            or system != job.event_system
            or (delta is not None and (type(delta) is not str or current not in job.logs))
        ):
            if delta is not None:
                details[current] = delta
            return False
        if delta:
            job.logs[current].append(delta)
        return True

    def _expect(self, job: Job, details: dict[str, Any]) -> None:
        """Remember an event's details: what is like them brings nothing but more log, or a percentage."""
        where = job.server, job.process_id
        if len(self.runs[where]) == 1:
            details.pop(job.current, None)  # type: ignore[arg-type]
            for command, log in job.logs.items():
                if command in details:
                    details[command] = log.text  # the same text, kept once
            job.repeated = details
            self.expecting[where] = job

    def _differ(self, job: Job) -> None:
        """Something about a run is no more as it was when more log was expected of it."""
        job.repeated = None
        self.expecting.pop((job.server, job.process_id), None)

    def _untangle(self, said: Dispatcher, commands: list[str], server: str) -> tuple[Any, Any]:
        """State and process id where a command has one of these very names.

        Such a command's log was appended to the value that stood there; the state is written again at
        the end, the process id is not.
        """
        details, nested = said.details, type(said) is Dispatcher
        state, process_id = details.get("state"), details.get("process_id")
        if "state" in commands and isinstance(state, str) and state not in _STATES:
            outer = said.state
            known = [s for s in _STATES if state.startswith(s)]
            state = outer if nested and isinstance(outer, str) else known[0] if known else state
            if "time_finished" in details:
                state = "finished"
        if "process_id" in commands and isinstance(process_id, str):
            outer = said.process_id
            if nested and isinstance(outer, str):
                process_id = outer
            else:
                text = process_id
                names = (p for s, p in self.runs if s == server and text.startswith(p))
                process_id = max(names, key=len, default=process_id)
        return state, process_id

    def _find(
        self,
        process_id: str,
        state: str,
        commands: list[str] | None,
        started: str | None,
        bare: bool,
        details: dict[str, Any],
        lead: Lead,
    ) -> Job | None:
        runs = self.runs.get((lead[3], process_id))
        if runs is None:
            return self._begin(process_id, lead)
        runs = runs[-_RECENT_RUNS:]
        going = [
            job
            for job in runs
            if job.state != "finished"
            and (commands is None or job.commands is None or job.commands == commands)
            and (started is None or job.server_started is None or job.server_started == started)
        ]
        # What was going on when a connection was lost may be over: what is known to go on comes first.
        going.sort(key=lambda job: job.state == "unknown")
        last = runs[-1]
        if state == "finished":
            ended = [
                job
                for job in runs
                if job.state == "finished"
                and commands is not None
                and job.commands == commands
                and job.server_started == started
            ]
            if ended and commands and (not going or _other_ending(ended[-1], details, commands)):
                return ended[-1]
            if not going:
                return self._begin(process_id, lead)
            return going[0] if len(going) == 1 else _nearest_in_age(going, details, lead[1])
        if lead[4] == "backfill" and lead[1] <= last.last_time:
            # Old news about a time that is already told of: it must not begin a run that nobody ends.
            return going[0] if going else last if last.state != "finished" else None
        if bare:
            begun = ("pending", "unknown") if state == "pending" else ("pending", "running", "unknown")
            for job in going:
                resent = job.state == "unknown" and lead[4] == "last"
                if job.state in begun and (not job.bare_seen or resent):
                    return job
            return self._begin(process_id, lead)
        if state == "pending":
            going = [job for job in going if job.state == "pending" or not job.bare_seen]
        if not going:
            if last.state == "finished" and started is not None and last.server_started == started:
                return None  # late news of a run that has ended: a new one is announced before it is told of
            return self._begin(process_id, lead)
        if len(going) > 1:
            going = [j for j in going if j.server_started == started and j.commands == commands] or going
        return going[0]

    def _begin(self, process_id: str, lead: Lead) -> Job:
        where = (lead[3], process_id)
        runs = self.runs.get(where)
        if runs is None:
            runs = self.runs[where] = []
        for other in runs:
            self._differ(other)
        before = runs[-1].run if runs else self.numbered.get(where, 0)
        job = Job(self._next_key, process_id, before + 1, lead)
        self._next_key += 1
        self.changed[job.key] = job
        runs.append(job)
        return job

    def _reshape(self, job: Job) -> None:
        """Note that more of a job changed than its percentage and its logs."""
        self._touch(job)
        job.shaped = job.version

    def _touch(self, job: Job) -> None:
        self.version = job.version = self.version + 1
        key = job.key
        self.changed.move_to_end(key)
        self.unsettled[key] = job

    def _read_times(
        self,
        job: Job,
        state: str,
        details: dict[str, Any],
        started: str | None,
        lead: Lead,
    ) -> None:
        time, server = lead[1], lead[3]
        if time > job.last_time:
            job.last_time = time
        job.last_received = lead[2]
        if state == "finished":
            moment = self._moment(details.get("time_finished"), server, time, True)
            # Without a start by the same clock the two would not make a duration.
            job.finished = time if moment is None or started is None else moment
        if started is not None:
            if job.server_started is None or state == "finished":
                job.server_started = started
                fresh = _begins(job, details, time)
                moment = self._moment(started, server, time, fresh, job.started if job.start_seen else None)
                if moment is not None:
                    job.started = moment
                    job.start_seen = job.start_seen or fresh
        elif state == "running" and job.started == NAT:
            job.started = time
            job.start_seen = lead[4] != "last"
        if job.started > job.finished and job.finished != NAT:
            job.started = job.finished  # whole seconds on one side, microseconds on the other

    def _moment(self, text: Any, server: str, now: int, fresh: bool, seen: int | None = None) -> int | None:
        """A time that a server wrote, in UTC; ``None`` where it is none, or its zone is not known."""
        parsed = _parse_time(text) if type(text) is str and len(text) < 50 else None
        if parsed is None:
            return None
        wall, zoned = parsed
        return wall if zoned else self.in_utc(wall, server, now, fresh, seen)

    def in_utc(self, wall: int, server: str, now: int, fresh: bool, seen: int | None = None) -> int | None:
        """A server's wall-clock time in UTC; ``None`` where its zone is not known.

        Real servers send local time without a zone. A time that the server wrote just now tells the
        offset, to the quarter of an hour that zones differ by. Where we have ``seen`` ourselves when it
        was, and that is an hour or half of one away, summer time began or ended since.
        """
        if fresh:
            self.offsets[server] = round((wall - now) / _QUARTER) * _QUARTER
        offset = self.offsets.get(server)
        if offset is None:
            return None
        if seen is not None and 1.5 * _QUARTER < abs(wall - offset - seen) < 4.5 * _QUARTER:
            offset = round((wall - seen) / _QUARTER) * _QUARTER
        return wall - offset

    def _read_logs(self, job: Job, details: dict[str, Any], finished: bool) -> None:
        logs = job.logs
        for command, code_key in job.keys:
            text = details.get(command)
            code = details.get(code_key)
            log = logs.get(command)
            if text is None:
                if code is None:
                    continue
                if log is None:
                    log = job.new_log(command, self.max_log)
                log.code = code
                job.return_code = log.return_code = _integer(code)
                continue
            if log is None:
                log = job.new_log(command, self.max_log)
            elif log.complete and code and code == log.code and text == log.head:
                continue  # a full log again, as every event of a chain repeats it
            if type(text) is not str:
                text = dump_json(text)
            if command in _META:
                text = _without_value(text, command, job)
            full = code is not None or finished
            if full and log.complete and not finished and job.commands.count(command) > 1:  # type: ignore[union-attr]
                # The return code may be that of this command's first turn, and the text new.
                full = text.startswith(log.text)
            if full:
                if not log.complete and not finished:
                    job.ended = (job.ended + text[log.length :])[: self.max_log]
                log.replace(text)
                if code is not None:
                    log.code = code
                    job.return_code = log.return_code = _integer(code)
            else:
                if job.ended:
                    text = text[already_sent(text, job.ended) :]
                    job.ended = ""
                if text:
                    log.complete = False
                    log.append(text)

    # -- what is known from elsewhere ----------------------------------------------------------------

    def set_commands(
        self,
        process_id: str,
        commands: list[str],
        state: str,
        asked: int,
        lead: Lead,
    ) -> Job | None:
        """Take a job's commands from the dispatcher's list: generic jobs tell them only at their end.

        A job that nobody told of begins here; one that ended after the list was asked for does not. When
        it ``asked`` for the list is on our own clock, as is the arrival of what told of the end.
        """
        runs = self.runs.get((lead[3], process_id), [])
        for job in runs:
            if job.state != "finished" and (job.commands is None or job.commands == commands):
                if job.commands == commands and job.state != "unknown":
                    return job
                self._differ(job)
                job.set_commands(commands)
                if job.state == "unknown":
                    job.state = state
                self._reshape(job)
                return job
        if any(j.commands == commands and j.last_received >= asked for j in runs) or state == "finished":
            return None
        job = self._begin(process_id, lead)
        job.set_commands(commands)
        job.state = state
        job.bare_seen = state == "running"
        self._reshape(job)
        return job

    def accept(self, process_id: str, commands: list[str], after: int, lead: Lead) -> Job:
        """A server took our request: the run behind number ``after`` is ours, whatever told of it by now."""
        for job in self.runs.get((lead[3], process_id), []):
            if job.run > after:
                if job.commands is None:
                    self._differ(job)
                    job.set_commands(commands)
                    self._reshape(job)
                return job
        job = self._begin(process_id, lead)
        job.set_commands(commands)
        self._reshape(job)
        return job

    def lose(self, server: str) -> None:
        """The connection is gone: what was going on is unknown until somebody tells."""
        for (where, _), runs in self.runs.items():
            if where == server:
                for job in runs:
                    if job.state in ("pending", "running"):
                        self._differ(job)
                        job.state = "unknown"
                        self._reshape(job)

    # -- reading -------------------------------------------------------------------------------------

    def changes(self, since: int) -> list[Job]:
        """Runs that changed after version ``since``, the oldest change first."""
        out = []
        for job in reversed(self.changed.values()):
            if job.version <= since:
                break
            out.append(job)
        out.reverse()
        return out

    def forget_old(self) -> None:
        """Keep about ``keep`` runs: ended ones go first, whatever is oldest at twice that number."""
        if len(self.changed) < self._forget_at:
            return
        gone: list[Job] = []
        excess = len(self.changed) - self.keep
        settled = [job for job in self.changed.values() if job.key not in self.unsettled]
        gone = [job for job in settled if job.state == "finished"][:excess]
        if len(self.changed) - len(gone) > 2 * self.keep:
            gone = settled[:excess]
        for job in gone:
            self._differ(job)
            del self.changed[job.key]
            where = (job.server, job.process_id)
            runs = self.runs[where]
            runs.remove(job)
            if not runs:
                del self.runs[where]
        self._forget_at = len(self.changed) + max(self.keep // 4, 1)

    def forget_logs(self, limit: int) -> None:
        """Keep about ``limit`` characters of the logs of ended runs, the newest; the table has its own."""
        for job in reversed(self.changed.values()):
            if job.state == "finished" and job.key not in self.unsettled:
                limit -= job.kept
                if limit < 0:
                    for log in job.logs.values():
                        log.give_up()

    def __iter__(self) -> Iterator[Job]:
        return iter(self.changed.values())


_parse_time: Final = lru_cache(1000)(parse_time)


@lru_cache(1000)
def _summary(state: str, what: str) -> str:
    return one_line(f"{state} {what}", 120)


def _read_percent(job: Job, said: Any) -> None:
    percent = parse_percent(said)
    if percent == percent:
        job.percent_done = percent


_META: Final = frozenset((*CONTEXT, "time_finished"))


def _without_value(text: str, command: str, job: Job) -> str:
    """The log of a command that is called like a key: what was appended to that key's value."""
    value = {"process_id": job.process_id, "time_started": job.server_started}.get(command)
    if command == "state":
        return next((text[len(s) :] for s in _STATES if text.startswith(s)), text)
    return text[len(value) :] if value and text.startswith(value) else text


def _begins(job: Job, details: dict[str, Any], time: int) -> bool:
    """Whether this event tells of a start that just happened, not of one long ago."""
    if job.started != NAT:
        return time - job.started < 60 * _SECOND
    if job.state == "pending" and job.updates > 0:
        return True
    return job.updates == 1 and not (job.commands and job.commands[0] in details)


def _commands_without_list(details: dict[str, Any], listed: Any) -> list[str] | None:
    named = [key[len(RETURN_CODES) :] for key in details if key.startswith(RETURN_CODES)]
    if isinstance(listed, str) and not named:
        return [listed]
    return named or None


def _integer(code: Any) -> int | None:
    try:
        number = int(code)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if -(2**53) < number < 2**53 else None


def _other_ending(job: Job, details: dict[str, Any], commands: list[str]) -> bool:
    """A process that died of a signal ends twice: with -1, then with the signal's number."""
    if job.return_code != -1:
        return False
    codes = [_integer(details[RETURN_CODES + c]) for c in commands if RETURN_CODES + c in details]
    return bool(codes) and codes[-1] != -1


def _nearest_in_age(going: list[Job], details: dict[str, Any], now: int) -> Job:
    started, finished = (
        parse_time(str(details.get("time_started"))),
        parse_time(str(details.get("time_finished"))),
    )
    if started is None or finished is None:
        return going[0]
    duration = finished[0] - started[0]
    # Of runs of like age, one that may be over already is the less likely: servers tell whole seconds.
    doubt = {job.key: 2 * _SECOND if job.state == "unknown" else 0 for job in going}
    return min(going, key=lambda job: abs((now - job.time) - duration) + doubt[job.key])
