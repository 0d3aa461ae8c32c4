"""What the parsers of replication logs have in common: one for each format, all used in the same way.

A parser is fed the lines of one log and answers with notices. Some tools never say that they are done; where
one shows progress every second, its silence says so (`idle`).
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from sysadm_nb.server.life_preserver import notices
from sysadm_nb.server.life_preserver.notices import Notice, When

SILENCE: Final = 15.0  # seconds without progress, of tools that show it every second, that mean the end


class Parser(Protocol):
    """What follows one log. `now` is the time of reading: most of these logs have no dates."""

    def feed(self, line: str, now: When) -> list[Notice]:
        """Notices that `line` is worth."""
        ...

    def idle(self, seconds: float, now: When) -> list[Notice]:
        """Notices that are due because nothing was written for `seconds`."""
        ...


class Transfer:
    """One sending after another, as a log tells of them: at most one is under way.

    Each notice comes once: a start, progress when the amount changed, and an end or a failure. Progress of a
    transfer whose start was not seen (it began before this program did) is told without a start.
    """

    def __init__(self, logfile: str) -> None:
        self._logfile = logfile
        self.dataset = ""
        self._shown = ""  # the amount last told; empty until there was progress

    def begin(self, when: When, dataset: str) -> list[Notice]:
        ended = self.end(when)
        self.dataset = dataset
        return [*ended, notices.started(when, dataset)]

    def progress(
        self, subject: str, sent: str, total: str = "", percent: float | None = None
    ) -> list[Notice]:
        self.dataset = self.dataset or subject.partition("@")[0]
        if sent == self._shown:
            return []
        self._shown = sent
        return [notices.progress(subject, sent, total, percent)]

    def end(self, when: When) -> list[Notice]:
        dataset, self.dataset, self._shown = self.dataset, "", ""
        return [notices.finished(when, dataset)] if dataset else []

    def fail(self, when: When, reason: str) -> list[Notice]:
        dataset, self.dataset, self._shown = self.dataset, "", ""
        return [notices.failed(when, dataset, self._logfile, reason)] if dataset else []

    def idle(self, seconds: float, when: When) -> list[Notice]:
        return self.end(when) if self._shown and seconds >= SILENCE else []


ERROR: Final = re.compile(
    r"(?:warning: )?(?:cannot |internal error|lost connection|broken pipe).*", re.IGNORECASE
)
"""What ``zfs send``, ``zfs receive`` and the pipe between them say when they fail."""
