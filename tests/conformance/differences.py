"""Where our server answers otherwise than the original did in the captures, on purpose.

Each row: why, the line it rests on (of events-api.txt, ``doc:``, or of WIRE.md, ``wire:``), the requests it
concerns by capture and id, and what our answer must be instead. What is not in this table must be the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Check = Callable[[list[Any]], bool]


@dataclass(frozen=True)
class Difference:
    why: str
    rests_on: str
    requests: frozenset[tuple[str, str]]
    ours: Check


def _is_error(code: int) -> Check:
    return lambda frames: len(frames) == 1 and frames[0][1]["args"].get("code") == str(code)


def _jobs(wanted: list[str]) -> Check:
    """The reply lists exactly these jobs."""

    def check(frames: list[Any]) -> bool:
        jobs = frames[-1][1]["args"]["jobs"]
        return sorted(name for queue in jobs.values() for name in queue) == wanted

    return check


def _logged(wanted: list[str]) -> Check:
    return lambda frames: frames == [["", {"events-dispatcher": wanted} if wanted else {}]]


def _only(names: tuple[str, ...]) -> Check:
    return lambda frames: set(frames[0][1]["args"]) <= set(names)


def _settings_read_only(frames: list[Any]) -> bool:
    return set(frames[0][1]["args"].values()) == {"read"}


def _one_last_event(frames: list[Any]) -> bool:
    return [value["name"] for _, value in frames] == ["system-state", "response"]


def _lists_certificates(frames: list[Any]) -> bool:
    return "root" in frames[0][1]["args"]


def _requests(capture: str, *ids: str) -> frozenset[tuple[str, str]]:
    return frozenset((capture, id) for id in ids)


OURS = ("rpc/dispatcher", "rpc/logs", "rpc/settings", "sysadm/zfs", "sysadm/systemmanager")

DIFFERENCES = (
    Difference(
        "a wrong password is refused, from this machine too",
        "wire: From localhost a real server asks no password of a non-root user. ✗ Ours asks one by default.",
        _requests("01_auth", "a10"),
        _is_error(401),
    ),
    Difference(
        "`query` lists what this server has: the classes outside the events, rpc and zfs scope are not there",
        "doc: Currently, there are three trackable subsystems; wire: `query` lists what is there",
        _requests("01_auth", "q1", "q2", "q4", "q7")
        | _requests("07b_order_ping", "p1", "p3", "p5", "p7", "p9", "fast")
        | _requests("07a_malformed", "br2"),
        _only(OURS),
    ),
    Difference(
        "an operator may read settings, not write them",
        "wire: ✗ The real server lets operators write settings and everything else.",
        _requests("01_auth", "q8"),
        _settings_read_only,
    ),
    Difference(
        "the documented name of the settings action is taken too",
        "wire: the document's `…_certificates` names and `sysadm` namespace get 400/404: accept both",
        _requests("01d_auth_ssl", "l3 (documented name)"),
        _lists_certificates,
    ),
    Difference(
        "the documented namespace of the settings is taken too",
        "wire: the document's `…_certificates` names and `sysadm` namespace get 400/404: accept both",
        _requests("01d_auth_ssl", "l4 (documented namespace)"),
        _lists_certificates,
    ),
    Difference(
        "a class named many times in one request is answered with its last event once: no amplifier",
        "wire: Subscribing twice does not double the events",
        _requests("02_subscribe", "t3"),
        _one_last_event,
    ),
    Difference(
        "a killed job is dead: it is not in the list any more",
        'wire: which meant *asked*: on the real server the process went on to its own end; issue: "kill"',
        _requests("03a_dispatcher_generic", "l4"),
        _jobs(["sleeper2"]),
    ),
    Difference(
        "a killed job is dead: it is not in the list any more (both were killed)",
        'wire: which meant *asked*: on the real server the process went on to its own end; issue: "kill"',
        _requests("03a_dispatcher_generic", "l5", "x4", "run without id of the request (empty id)", "noargs"),
        _jobs([]),
    ),
    Difference(
        "`end_time` ends the range",
        "wire: `end_time` does not trim",
        _requests("06_read_logs", "t2", "t4", "q2"),
        _logged(["job0", "job1"]),
    ),
    Difference(
        "times may be numbers",
        "wire: numbers for times are ignored (send strings)",
        _requests("06_read_logs", "t5"),
        _logged(["job2", "job3"]),
    ),
    Difference(
        "milliseconds since the epoch are read as such",
        "wire: `epoch_mseconds` overflows (use `time_t_seconds`)",
        _requests("06_read_logs", "e1"),
        _logged(["job2", "job3"]),
    ),
    Difference(
        "milliseconds since the epoch are read as such, at both ends",
        "wire: `epoch_mseconds` overflows (use `time_t_seconds`)",
        _requests("06_read_logs", "e2"),
        _logged(["job0"]),
    ),
)
"""Besides these, four differences of form are taken out of both sides before comparing:

- dispatcher events come in the documented form for every job (doc: 2.1), so jobs are compared by what they
  came to: commands, logs, return codes;
- a login's reply tells the token's life in seconds, where the original says 0 (wire: "The real server sends 0
  seconds always (the document: 300)");
- `read_logs` has no ``""`` key and loses no entry of the same second (wire: "entries of the same second
  overwrite each other, there is an extra "" key"), so its entries are compared by what they tell of;
- a command's quotes are a shell's: single quotes count too (wire: "Commands are `program arguments…`").
"""

assert len(DIFFERENCES) + 4 <= 20


def find(capture: str, id: str) -> Difference | None:
    """The row for a request, if there is one."""
    return next((row for row in DIFFERENCES if (capture, id) in row.requests), None)
