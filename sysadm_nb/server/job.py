"""A job of the dispatcher and the events that tell of it, in the documented form. Pure.

Every event has ``state`` and ``process_id``, and the process itself under ``process_details``. A *running*
event carries, of the command under way, only the text since the last event; of finished commands the full
log and the return code. Commands of a chain that have not begun have no keys, nor have those after a failure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sysadm_nb import wire
from sysadm_nb.server.process import Output

_REPEAT_BYTES: Final = 64 * 1024
"""Logs of finished commands are repeated with every running event up to this size together."""

_EVENT_BYTES: Final = 4 * 2**20
"""All logs in an event together: what goes over a bridge in one piece, and far from a client's 64 MiB."""


@dataclass
class Step:
    """One command of a job."""

    command: str
    log: Output
    code: int | None = None
    told: bool = False  # a running event carried its full log and its return code


@dataclass
class Job:
    """One run of a process id: its commands, where it stands, and what its events have told so far."""

    process_id: str
    queue: str
    steps: list[Step]
    delta: Output
    started: int | None = None  # microseconds since the epoch, UTC
    finished: int | None = None
    current: Step | None = None

    @property
    def state(self) -> str:
        return "finished" if self.finished is not None else "running" if self.current else "pending"

    @property
    def has_news(self) -> bool:
        """Whether a command of the chain has ended that no event told of yet."""
        now = self.current.command if self.current else None
        return any(step.code is not None and not step.told and step.command != now for step in self.steps)

    @property
    def commands(self) -> list[str]:
        return [step.command for step in self.steps]


def local_time(time: int) -> str:
    """ISO 8601 in the server's time zone with its offset, to the millisecond."""
    return datetime.fromtimestamp(time / 1e6).astimezone().isoformat(timespec="milliseconds")


def event(job: Job, delta: str = "") -> dict[str, Any]:
    """The ``args`` of the next event of a job.

    Parameters
    ----------
    job : Job
    delta : str
        What the current command printed since the last event.
    """
    state = job.state
    details: dict[str, Any] = {"process_id": job.process_id, "state": state, "cmd_list": job.commands}
    if job.started is not None:
        details["time_started"] = local_time(job.started)
    if job.finished is not None:
        details["time_finished"] = local_time(job.finished)
    ran = [step for step in job.steps if step.code is not None] if state == "finished" else []
    again = ran[-1:] if _system_of(job) else []  # its log comes a second time
    level = _level(step.log for step in ran + again)
    if state == "finished":
        _tell_all(details, ran, level)
    elif job.current is not None:
        _tell_progress(details, job, delta)
    args = {"process_id": job.process_id, "state": state, "process_details": details}
    return args | _class_fields(job, delta, ran[-1].log if ran else None, level)


def _level(logs: Iterable[Output]) -> float:
    """Bytes that each log may have, so that all of an event fit: only those that are longer are cut."""
    sizes = sorted(_size(log.text()) for log in logs)
    room = _EVENT_BYTES
    for number, size in enumerate(sizes):
        share = room // (len(sizes) - number)
        if size > share:
            return share
        room -= size
    return math.inf


def _size(text: str) -> int:
    return len(wire.dump_json(text).encode("utf-8", "replace"))  # an escaped character takes six bytes


def _cut(log: Output, level: float) -> str:
    text = log.text()
    kept = len(text)
    while kept and level < math.inf and (size := _size(text)) > level:
        kept = int(0.9 * kept * level / size)
        text = log.text(kept)
    return text


def _tell_all(details: dict[str, Any], steps: list[Step], level: float) -> None:
    # The same command twice shares one key: logs joined, the last return code.
    logs: dict[str, list[str]] = {}
    for step in steps:
        logs.setdefault(step.command, []).append(_cut(step.log, level))
        details[f"return_codes/{step.command}"] = str(step.code)
    # Last, so that a command called `state` shows its log, as on a real server: `cmd_list` decides.
    details.update({command: "".join(texts) for command, texts in logs.items()})


def _tell_progress(details: dict[str, Any], job: Job, delta: str) -> None:
    current = job.current
    assert current is not None
    # A command that comes twice has one key: while it runs again the key means the text since the last event.
    done = [step for step in job.steps if step.code is not None and step.command != current.command]
    size = sum(len(step.log.text()) for step in done)
    news = {step.command for step in done if not step.told}
    telling = [step for step in done if size <= _REPEAT_BYTES or step.command in news]
    _tell_all(details, telling, _level(step.log for step in telling))
    for step in done:
        step.told = True
        details[f"return_codes/{step.command}"] = str(step.code)
    details["current_cmd"] = current.command
    if delta:
        details[current.command] = delta


# --- jobs of subsystems, told apart by their process id -----------------------------------------------------


def queue_of(process_id: str) -> str:
    """The queue a job belongs to: packages and jails one at a time each, all others at once."""
    if process_id.startswith("sysadm_pkg"):
        return "pkg_queue"
    return "iocage_queue" if process_id.startswith("sysadm_iocage") else "no_queue"


_SYSTEMS: Final = (
    ("sysadm_pkg", "sysadm/pkg", "pkg_log"),
    ("sysadm_update_runupdates", "sysadm/update", "update_log"),
    ("sysadm_sourcectl", "sysadm/sourcectl", "update_log"),
    ("sysadm_iohyve", "sysadm/iohyve", ""),
)


def _system_of(job: Job) -> tuple[str, str] | None:
    found = [(name, field) for prefix, name, field in _SYSTEMS if job.process_id.startswith(prefix)]
    return found[0] if found else None


def _class_fields(job: Job, delta: str, log: Output | None, level: float) -> dict[str, Any]:
    found = _system_of(job)
    if found is None:
        return {}
    system, log_field = found
    fields: dict[str, Any] = {"event_system": system}
    if log_field:
        fields[log_field] = delta if log is None else _cut(log, level)
    if system == "sysadm/pkg":
        fields["action"] = job.process_id.removeprefix("sysadm_").partition("-")[0]
        if log is not None:
            fields |= _package_news(fields["action"], log.text())
    elif system == "sysadm/iohyve" and (progress := _DOWNLOAD.findall(delta.replace("\r", "\n"))):
        fields |= dict(zip(("filename", "percent_done", "download_rate"), progress[-1], strict=True))
    return fields


_DOWNLOAD: Final = re.compile(r"^\s*(\S+)\s+(\d+)% of\s.*?\s(\S+\s?[kMG]?Bps)", re.MULTILINE)
_VULNERABLE: Final = re.compile(r"^(\S+) is vulnerable:", re.MULTILINE)
_IMPACTS: Final = re.compile(r"^Packages that depend on [^:]+:(.*)$", re.MULTILINE)


def _package_news(action: str, log: str) -> dict[str, Any]:
    if action == "pkg_check_upgrade":
        return {"updates_available": "false" if "packages are up to date" in log else "true"}
    if action == "pkg_audit":
        impacts = {name for line in _IMPACTS.findall(log) for name in re.split(r"[\s,]+", line) if name}
        return {"vulnerable_pkgs": _VULNERABLE.findall(log), "impacts_pkgs": sorted(impacts)}
    return {}
