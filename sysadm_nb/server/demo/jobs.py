"""The events of a dispatcher process of known output and timing, as a real server sends them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sysadm_nb.server.demo.clock import local
from sysadm_nb.server.demo.storage import SECOND

# Times seen on a real server (captures of subsystem jobs): from the request to the start, and from the first
# text that was not yet sent to the event that sends it.
START_DELAY: Final = 33_000
READ_AFTER: Final = 1_050_000


@dataclass(frozen=True, slots=True)
class Step:
    """One command: what it prints and when (seconds after its start), how long it takes, how it ends."""

    command: str
    output: tuple[tuple[float, str], ...] = ()
    seconds: float = 0.0
    code: int = 0

    @property
    def log(self) -> str:
        return "".join(text for _, text in self.output)


@dataclass(frozen=True, slots=True)
class Subsystem:
    """What the events of a subsystem's job carry beside the process."""

    event_system: str  # sysadm/pkg
    log_key: str = ""  # pkg_log, update_log; iohyve has none
    fields: dict[str, Any] = field(default_factory=dict)
    finished: dict[str, Any] = field(default_factory=dict)  # only known at the end


Timed = tuple[int, dict[str, Any]]


def generic(process_id: str, steps: list[Step], queued: int) -> Iterator[Timed]:
    """Two flat events: running, and finished with every log."""
    started = queued + START_DELAY
    yield started, {"process_id": process_id, "state": "running"}
    details = _details(process_id, steps, "finished", started)
    finished = started
    for step in _run(steps):
        _end(details, step)
        finished += int(step.seconds * SECOND)
    details["time_finished"] = local(finished)
    yield finished, details


def subsystem(process_id: str, steps: list[Step], queued: int, kind: Subsystem) -> Iterator[Timed]:
    """pending, a bare flat running, running, log deltas, finished.

    A running event carries what was printed since the last one; at the end of a command within a chain it
    carries that command's whole log, and the next command's first delta begins with that log once more.
    """

    def event(
        state: str, log: str, details: dict[str, Any], more: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        log_field = {kind.log_key: log} if kind.log_key else {}
        return {
            "event_system": kind.event_system,
            "state": state,
            **kind.fields,
            **log_field,
            **(more or {}),
            "process_details": details,
        }

    pending = _details(process_id, steps, "pending", None)
    yield queued, event("pending", "", pending)
    started = queued + START_DELAY
    yield started, {"process_id": process_id, "state": "running"}
    base = _details(process_id, steps, "running", started)
    yield started, event("running", "", dict(base))

    done = list(_run(steps))
    time, repeated = started, ""
    for step in done:
        for delay, text in _reads(step):
            log = repeated + text
            repeated = ""
            yield (
                time + delay,
                event("running", log, {**base, step.command: log, "current_cmd": step.command}),
            )
        time += int(step.seconds * SECOND)
        _end(base, step)
        repeated = base[step.command]
        if step is not done[-1]:
            yield time, event("running", repeated, {**base, "current_cmd": step.command})
    base |= {"state": "finished", "time_finished": local(time)}
    yield time, event("finished", base.get(steps[-1].command, ""), base, kind.finished)


def _details(process_id: str, steps: list[Step], state: str, started: int | None) -> dict[str, Any]:
    details: dict[str, Any] = {
        "cmd_list": [step.command for step in steps],
        "process_id": process_id,
        "state": state,
    }
    return details if started is None else details | {"time_started": local(started)}


def _run(steps: list[Step]) -> Iterator[Step]:
    """The steps that run: the first that fails is the last."""
    for step in steps:
        yield step
        if step.code:
            return


def _end(details: dict[str, Any], step: Step) -> None:
    details[step.command] = details.get(step.command, "") + step.log
    details[f"return_codes/{step.command}"] = str(step.code)


def _reads(step: Step) -> Iterator[tuple[int, str]]:
    """What the server reads before the command ends, and when: a while after the first text not yet read."""
    text, due = "", 0
    for seconds, part in (*step.output, (step.seconds, "")):
        at = int(seconds * SECOND)
        if text and at > due:
            yield due, text
            text = ""
        if not text:
            due = at + READ_AFTER
        text += part
