"""The log of zrepl, in its three formats: human, logfmt and JSON, at its default level (info)."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Final

from sysadm_nb.server.life_preserver import notices
from sysadm_nb.server.life_preserver.notices import Notice, When

_HUMAN: Final = re.compile(
    r"(?:(?P<time>\d{4}-\d\d-\d\dT\S+) )?(?P<brackets>(?:\[[^\]]*\]){2,}): (?P<rest>.*)"
)
_FIELD: Final = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')
_LEVELS: Final = {"DEBG": "debug", "INFO": "info", "WARN": "warn", "ERRO": "error"}


class ZreplLog:
    """Replications and failures of zrepl's jobs; its snapshots are seen in ZFS itself.

    A job replicates many datasets in one go and says only that it started and went on to pruning, so the
    notices are about the job.

    Parameters
    ----------
    logfile : str
        Named in the notice of a failure.
    """

    def __init__(self, logfile: str) -> None:
        self._logfile = logfile
        self._errors: dict[str, str] = {}  # by job under way: the last error that was not overcome

    def feed(self, line: str, now: When) -> list[Notice]:
        fields = read_line(line)
        job, message = fields.get("job", ""), fields.get("msg", "")
        when = _when(fields.get("time", ""), now)
        if message == "start replication":
            self._errors[job] = ""
            return [notices.started(when, job)]
        if message == "start pruning sender" and job in self._errors:
            error = self._errors.pop(job)
            return [notices.failed(when, job, self._logfile, error) if error else notices.finished(when, job)]
        if job in self._errors and message.startswith("most recent error in this attempt"):
            self._errors[job] = fields.get("err", message)
        elif job in self._errors and message == "reconnect successful":
            self._errors[job] = ""
        elif message == "cannot create snapshot":
            return [notices.create_failed(when, fields.get("fs", job), fields.get("err", ""))]
        elif message == "target could not destroy snapshots":
            return [notices.delete_failed(when, fields.get("fs", job), fields.get("err", ""))]
        return []

    def idle(self, seconds: float, now: When) -> list[Notice]:
        return []


def read_line(line: str) -> dict[str, str]:
    """The fields of a line in any of zrepl's formats, also behind what syslog puts before it.

    Examples
    --------
    >>> read_line('2026-11-23T07:21:06Z [INFO][push][job][x]: start replication')["msg"]
    'start replication'
    >>> read_line('level=info job=push subsystem=job msg="start replication"')["job"]
    'push'
    """
    start = line.find("{")
    if start >= 0 and line.rstrip().endswith("}"):
        try:
            return {key: str(value) for key, value in json.loads(line[start:]).items()}
        except (ValueError, AttributeError):
            pass  # a message with braces in it
    if human := _HUMAN.search(line):
        level, job, *_ = [*re.findall(r"\[([^\]]*)\]", human["brackets"]), ""]
        message, _, _ = re.split(r' \w+="', human["rest"], maxsplit=1)[0].partition("\n")
        fields = _fields(human["rest"][len(message) :])
        return fields | {
            "time": human["time"] or "",
            "level": _LEVELS.get(level, level),
            "job": job,
            "msg": message,
        }
    return _fields(line)


def _fields(text: str) -> dict[str, str]:
    return {key: _unquote(value) for key, value in _FIELD.findall(text)}


def _unquote(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:  # Go escapes some characters in ways of its own
        return value[1:-1]


def _when(text: str, now: When) -> When:
    try:
        seconds = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return now
    return notices.write_date(int(seconds * 1_000_000)) if 0 <= seconds < notices.YEAR_10000 else now
