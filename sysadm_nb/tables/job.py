"""One run of one process id, and how it looked at one moment."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final

from sysadm_nb.tables.columns import NAT, Row
from sysadm_nb.tables.joblog import CommandLog

NAN: Final = math.nan
SEPARATOR: Final = " && "
RETURN_CODES: Final = "return_codes/"
CONTEXT: Final = ("process_id", "state", "time_started", "current_cmd", "cmd_list")
Step = tuple[str, str, float, str | None]
"""A command, its state, return code and log."""
Lead = tuple[Any, Any, Any, str, str]
"""``(seq, time, received, server, origin)`` of a frame, times in microseconds.

The numbers are integers: so typed, compiled code would unpack and pack them again at every step.
"""


def _plan(commands: tuple[str, ...]) -> tuple[list[str], tuple[tuple[str, str], ...], bool]:
    """Commands, their keys, and whether each stands once and none is called like a key."""
    keys = tuple([(command, RETURN_CODES + command) for command in commands])
    return list(commands), keys, len({*CONTEXT, *commands}) == len(CONTEXT) + len(commands)


# Servers run the same commands again and again: what is kept of them is kept once for all jobs.
_shared_plan: Final = lru_cache(1000)(_plan)
_SHARED: Final = 1000  # characters: longer commands are not kept beyond their job


class Job:
    """One run of one process id. Attributes are named as the columns of the ``jobs`` table."""

    __slots__ = (
        "action",
        "bare_seen",
        "commands",
        "current",
        "ended",
        "event_system",
        "finished",
        "key",
        "keys",
        "large",
        "last_received",
        "last_time",
        "logs",
        "origin",
        "percent_done",
        "plain",
        "process_id",
        "received",
        "repeated",
        "return_code",
        "run",
        "seq",
        "server",
        "server_started",
        "settled",
        "shaped",
        "start_seen",
        "started",
        "state",
        "time",
        "told",
        "updates",
        "version",
    )

    def __init__(self, key: int, process_id: str, run: int, lead: Lead) -> None:
        self.key = key
        self.seq, self.time, self.received, self.server, self.origin = lead
        self.process_id = process_id
        self.run = run
        self.state = "pending"
        self.told: tuple[float, None, str, str] = (NAN, None, process_id, "")  # what `events` says of it
        self.event_system: str | None = None
        self.action: str | None = None
        self.commands: list[str] | None = None
        self.plain = False  # each command once, and none called like a key
        self.keys: tuple[
            tuple[str, str], ...
        ] = ()  # of each command, the keys of its log and of its return code
        self.current: str | None = None
        self.logs: dict[str, CommandLog] = {}
        self.large = 0  # characters by which logs exceed an even share of what is kept of all
        self.started = NAT
        self.start_seen = False  # `started` is from an event that came at the start
        self.finished = NAT
        self.server_started: str | None = None  # as the server wrote it: tells runs apart
        self.percent_done = NAN
        self.return_code: int | None = None
        self.bare_seen = False
        self.last_time = self.time
        self.last_received = self.received
        self.updates = 0
        self.version = 0
        self.shaped = 0  # the version that last changed more than the percentage and the logs
        self.settled = False
        self.ended = ""  # text of commands that ended since the last delta: it may come again
        # The details of an event that brings only more log of the current command, but for that log:
        self.repeated: dict[str, Any] | None = None

    def set_commands(self, commands: list[str]) -> None:
        plan = _shared_plan if sum(map(len, commands)) <= _SHARED else _plan
        self.commands, self.keys, self.plain = plan(tuple(commands))

    def expects_delta(self, details: dict[str, Any]) -> bool:
        """Whether an event like this one again brings more log or another percentage, and nothing else."""
        current, logs = self.current, self.logs
        if not self.plain or current is None or self.server_started is None or self.ended:
            return False
        if details.get("state") != "running" or details.get("time_started") != self.server_started:
            return False
        keys = len(CONTEXT)
        for command, code_key in self.keys:
            log = logs.get(command)
            if log is None:
                continue
            if command not in details:
                return False
            if command == current:
                keys += 1
                if log.complete:
                    return False
            else:
                keys += 2
                if not log.complete or log.cut or code_key not in details:
                    return False
        return len(details) == keys

    def new_log(self, command: str, limit: int) -> CommandLog:
        """Begin the log of a command, where ``limit`` characters are kept of all commands' together.

        Half of it is shared out evenly, the other half is for those that need it first.
        """
        count = len(self.keys)
        share = limit // (2 * count)
        if self.logs:
            before = self.logs[next(reversed(self.logs))]
            self.large += max(before.kept - share, 0)
        log = self.logs[command] = CommandLog(max(limit - (count - 1) * share - self.large, 1))
        return log

    # -- what the rest is derived from ------------------------------------------------------------

    @property
    def commands_done(self) -> float:
        if self.commands is None:
            return NAN
        done = 0
        for command in self.commands:
            log = self.logs.get(command)
            if log is not None and log.return_code is not None:
                done += 1
        return float(done)

    @property
    def current_command(self) -> str | None:
        if self.state != "running" or not self.commands:
            return None
        current = self.current
        log = self.logs.get(current) if current is not None else None
        if current is None or log is None or log.return_code != 0 or self.commands.count(current) != 1:
            return current
        following = self.commands.index(current) + 1  # this one ended well: the next has begun
        return self.commands[following] if following < len(self.commands) else current

    @property
    def failed(self) -> bool:
        return any(log.return_code for log in self.logs.values())

    @property
    def duration_s(self) -> float:
        return (self.finished - self.started) / 1e6 if self.finished != NAT and self.started != NAT else NAN

    @property
    def log(self) -> str:
        logs = self.logs
        commands = self.commands or []
        return "".join(
            [logs[c].text for c in (commands if self.plain else dict.fromkeys(commands)) if c in logs]
        )

    @property
    def kept(self) -> int:
        """How many characters of log are kept."""
        return sum([log.kept for log in self.logs.values()])

    @property
    def log_complete(self) -> bool:
        if self.state == "finished":
            return True
        return bool(self.logs) and all(log.complete for log in self.logs.values())

    @property
    def steps(self) -> list[Step]:
        """For each command: its text, state, return code and log."""
        commands = self.commands or []
        if self.state == "finished":
            return [_ended(command, self.logs.get(command)) for command in commands]
        current = self.current_command
        places = [index for index, command in enumerate(commands) if command == current]
        at = places[-1] if places else -1
        waiting = "pending"
        if self.state == "running" and at < 0:
            if len(commands) == 1 or self.server_started is not None:
                at = next((i for i, c in enumerate(commands) if c not in self.logs), -1)
            else:  # a generic job: which command it has come to is told at its end only
                waiting = "unknown"
        out = []
        for index, command in enumerate(commands):
            log = self.logs.get(command)
            code = None if log is None else log.return_code
            if self.state == "unknown":
                state = "unknown" if code is None else "finished"
            elif index == at and (code is None or commands.count(command) > 1):
                state = "running"
            elif code is not None or index < at:
                state = "finished"
            else:
                state = waiting
            text = None if log is None else log.text
            out.append((command, state, NAN if code is None else float(code), text))
        return out

    def row(self, with_log: bool = True) -> Row:
        """A row of the ``jobs`` table, with the key behind it."""
        commands = self.commands
        return (
            self.seq,
            self.time,
            self.received,
            self.server,
            self.origin,
            self.process_id,
            self.run,
            self.event_system,
            self.action,
            self.state,
            None if commands is None else SEPARATOR.join(commands),
            NAN if commands is None else float(len(commands)),
            self.commands_done,
            self.current_command,
            self.started,
            self.finished,
            self.duration_s,
            self.percent_done,
            NAN if self.return_code is None else float(self.return_code),
            self.failed,
            self.log if with_log else None,
            self.log_complete,
            self.updates,
            self.key,
        )

    def command_rows(self) -> list[Row]:
        """Rows of the ``commands`` table, with the key behind each."""
        lead = (self.seq, self.time, self.received, self.server, self.origin, self.process_id, self.run)
        return [
            (*lead, step, command, state, code, text, self.key)
            for step, (command, state, code, text) in enumerate(self.steps, 1)
        ]


def _ended(command: str, log: CommandLog | None) -> Step:
    """A command of a job that has ended."""
    if log is None:
        return command, "skipped", NAN, None
    return command, "finished", NAN if log.return_code is None else float(log.return_code), log.text
