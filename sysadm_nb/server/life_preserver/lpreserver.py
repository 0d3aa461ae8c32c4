"""The log of lpreserver, the snapshot and replication tool of TrueOS.

Its lines were read from lpreserver's scripts (``backend/functions.sh``, ``backend/runsnap.sh``). Names of
datasets are kept as written: ZFS tells upper from lower case.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sysadm_nb.server.life_preserver import notices
from sysadm_nb.server.life_preserver.notices import Notice, When

_LINE: Final = re.compile(r"(\w{3} .{0,60}?\d{4}): +(.*\S)")
_CREATING: Final = re.compile(r"Creating snapshot on (.+)", re.IGNORECASE)
_CREATE_FAILED: Final = re.compile(r"ERROR: Failed creating snapshot on (.+)", re.IGNORECASE)
_DESTROYING: Final = re.compile(r"Destroying snapshot (\S+) on (.+?)(?:, with \d+ refs)?$", re.IGNORECASE)
_PRUNE_FAILED: Final = re.compile(
    r"ERROR: (?:\(.*\) )?Failed pruning snapshot (?P<snap>\S+) on (?P<dataset>.+)"
    r"|FAILED Removing old snapshot (?P<full>.+)"
    r"|ERROR: .* userrefs .*?(?P<refs>\S+@\S+)",
    re.IGNORECASE,
)
_PRUNE_SKIPPED: Final = re.compile(
    r"WARNING: Skipping (.+?@.+?) (because .*)|WARNING: Skipped pruning snapshots on (.+?) (while .*)",
    re.IGNORECASE,
)
_STARTING: Final = re.compile(r"Starting replication (?:\w+ )?task on (.+?)(?:: +(\S.*))?$", re.IGNORECASE)
_FINISHED: Final = re.compile(r"Finished replication task on (.+?)(?: -> .*)?$", re.IGNORECASE)
_FAILED: Final = re.compile(
    r"FAILED replication task on (.+?)(?: -> (.*?))?(?:: LOGFILE: *(.*))?$", re.IGNORECASE
)
_NO_REMOTE: Final = re.compile(r"(Cannot locate remote dataset .+?)(?:: LOGFILE: *(.*))?$", re.IGNORECASE)
_SKIPPED: Final = re.compile(r"Skipped replication on (.+?), (.*)", re.IGNORECASE)


class Run(NamedTuple):
    """A replication under way: what is sent, where its progress is written, and since when."""

    dataset: str
    send_log: str
    since: int | None


class LpreserverLog:
    """Turns lines of lpreserver's log into notices.

    Attributes
    ----------
    run : Run or None
        The replication under way.
    """

    def __init__(self, run: Run | None = None) -> None:
        self.run = run

    def feed(self, line: str) -> Notice | None:
        """The notice that `line` is worth; None for lines that are about something else.

        Examples
        --------
        >>> line = "Mon Nov 23 07:21:06 UTC 2026: Creating snapshot on tank/Home"
        >>> LpreserverLog().feed(line).args["message"]
        'Mon Nov 23 07:21:06 UTC 2026: New snapshot of tank/Home'
        """
        dated = _LINE.fullmatch(line.strip())
        if dated is None:
            return None
        when, text = notices.read_date(dated[1]), dated[2]
        return self._snapshot(when, text) or self._replication(when, text)

    def _snapshot(self, when: When, text: str) -> Notice | None:
        if found := _CREATING.fullmatch(text):
            return notices.created(when, found[1])
        if found := _CREATE_FAILED.fullmatch(text):
            return notices.create_failed(when, found[1])
        if found := _DESTROYING.fullmatch(text):
            return notices.deleted(when, f"{found[2]}@{found[1]}")
        if found := _PRUNE_FAILED.fullmatch(text):
            name = found["full"] or found["refs"] or f"{found['dataset']}@{found['snap']}"
            return notices.delete_failed(when, name)
        if found := _PRUNE_SKIPPED.fullmatch(text):
            return notices.delete_skipped(when, found[1] or found[3], found[2] or found[4])
        return None

    def _replication(self, when: When, text: str) -> Notice | None:
        if found := _STARTING.fullmatch(text):
            self.run = Run(found[1], found[2] or "", when.us)
            return notices.started(when, found[1])
        if found := _FINISHED.fullmatch(text):
            self.run = None
            return notices.finished(when, found[1])
        if found := _FAILED.fullmatch(text):
            self.run = None
            return notices.failed(when, found[1], found[3] or "")
        if found := _NO_REMOTE.fullmatch(text):
            dataset, self.run = self.run.dataset if self.run else "?", None
            return notices.failed(when, dataset, found[2] or "", found[1])
        if found := _SKIPPED.fullmatch(text):
            return notices.skipped(when, found[1], found[2])
        return None
