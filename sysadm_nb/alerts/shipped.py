"""Rules worth having on day one, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .conditions import absent, forecast_within
from .rule import Rule
from .rules import Rules

RULES: Final = (
    Rule(
        "pool nearly full",
        "pools",
        "capacity_pct > 80",
        until="capacity_pct < 78",
        for_="30min",
        severity="warning",
        message="pool {pool} on {server} is {capacity_pct:.0f} % full, {free_bytes:size} free",
        reason="ZFS slows down and fragments as free space runs out; 80 % leaves time to act. The margin of "
        "2 % keeps snapshots that come and go from ringing twice.",
    ),
    Rule(
        "pool full",
        "pools",
        "capacity_pct > 90",
        until="capacity_pct < 88",
        severity="critical",
        message="pool {pool} on {server} is {capacity_pct:.0f} % full, {free_bytes:size} free",
        reason="Above 90 % the server itself calls its state critical: writes get slow and a full pool can "
        "be hard to free.",
    ),
    Rule(
        "pool filling too fast",
        "pools",
        "change(capacity_pct) > 5",
        window="6h",
        for_="30min",
        severity="warning",
        message="pool {pool} on {server} grew by {value:.1f} % of its size in 6 h, to {capacity_pct:.0f} %",
        reason="A runaway log, dump or copy fills a pool in hours; the forecast, which looks at weeks, is "
        "too calm for it.",
    ),
    Rule(
        "pool full in two weeks",
        "forecast",
        forecast_within(days=14, limit_pct=90),
        until="isna(days) or days > 21",
        severity="warning",
        max_gap="2D",
        message="pool {pool} on {server} reaches 90 % in about {days:.0f} days",
        reason="Ordering and fitting disks takes about two weeks. The margin of a week keeps a forecast that "
        "wavers from ringing twice.",
    ),
    Rule(
        "pool not ONLINE",
        "pools",
        "notna(health) and health != 'ONLINE'",
        severity="critical",
        message="pool {pool} on {server} is {health}",
        reason="A degraded pool still serves, with less or no redundancy: the next fault can lose data.",
    ),
    Rule(
        "pool fragmented",
        "pools",
        "frag_pct > 50 and capacity_pct > 60",
        until="frag_pct < 45",
        for_="6h",
        severity="info",
        message="free space of pool {pool} on {server} is {frag_pct:.0f} % fragmented",
        reason="Fragmented free space makes writes slow once the pool is fuller; in an emptier pool the "
        "number says little.",
    ),
    Rule(
        "job failed",
        "jobs",
        "state == 'finished' and failed",
        severity="warning",
        stands="1h",
        max_gap=None,
        message="job {process_id} on {server} failed with return code {return_code:.0f}",
        reason="A failed chain of commands leaves its later steps undone, and nobody looks at a job that ran "
        "at night. Nothing follows a failed job, so that the incident ends after an hour.",
    ),
    Rule(
        "job stuck",
        "jobs",
        "state == 'running'",
        for_="12h",
        severity="warning",
        message="job {process_id} on {server} has been running for 12 h",
        reason="Package and update jobs take minutes, scrubs some hours; what runs longer usually waits for "
        "something that won't come, and the queue behind it waits too.",
    ),
    Rule(
        "replication failed",
        "life_preserver",
        "kind == 'replication' and action == 'failed'",
        until="kind == 'replication' and action == 'finished'",
        severity="critical",
        max_gap=None,
        message="replication of {dataset} on {server} failed",
        reason="Until the next one is through there is no fresh copy elsewhere. The dataset's next success "
        "ends it.",
    ),
    Rule(
        "replication late",
        "life_preserver",
        absent("life_preserver", after="26h", where="kind == 'replication' and action == 'finished'"),
        severity="warning",
        message="no replication of {dataset} on {server} was finished for 26 h",
        reason="Replications usually run daily; two hours are left for a slow night. A dataset counts from "
        "its first finished replication on.",
    ),
    Rule(
        "snapshot late",
        "life_preserver",
        absent("life_preserver", after="26h", where="kind == 'snapshot' and action == 'created'"),
        severity="warning",
        message="no snapshot of {dataset} on {server} for 26 h",
        reason="Snapshots that stop are noticed when one is needed. A dataset counts from its first snapshot "
        "on.",
    ),
    Rule(
        "server silent",
        "system",
        absent("system", after="45min"),
        severity="critical",
        message="no system state from {server} for 45 min",
        reason="A server reports every 15 minutes, changed or not: three missed reports mean that it, its "
        "service or the network is down.",
    ),
    Rule(
        "server unreachable",
        "connection",
        "what in ['lost', 'waiting', 'refused']",
        for_="10min",
        severity="critical",
        max_gap=None,
        message="no connection to {server} for 10 min: {detail}",
        reason="A restart of the server or of its machine takes a few minutes. It fires also for a server "
        "that was never reached: nothing tells that such a one is silent.",
    ),
    Rule(
        "host name changed",
        "system",
        "hostname_changed",
        severity="warning",
        keep_for="1h",
        message="the host name of {server} changed to {hostname}",
        reason="The server says it once. It is a mistake, or another machine answers at this address.",
    ),
    Rule(
        "update needs reboot",
        "system",
        "updates_status == 'rebootrequired'",
        for_="24h",
        severity="info",
        message="{server} has waited for a reboot since its update",
        reason="Until the reboot the machine runs the old kernel against the new files; a day allows for the "
        "next maintenance window.",
    ),
)


def shipped(names: Iterable[str] | None = None) -> Rules:
    """The shipped rules, all or some, as a set of their own to arm or change.

    Parameters
    ----------
    names : iterable of str, optional
        Which ones; all by default.

    Raises
    ------
    RuleError
        There is no such rule.

    Examples
    --------
    >>> shipped(["pool full"])["pool full"].reason[:29]
    'Above 90 % the server itself '
    """
    every = Rules(RULES)
    return every if names is None else Rules(every[name] for name in names)
