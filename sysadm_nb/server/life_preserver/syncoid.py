"""The output of syncoid."""

from __future__ import annotations

import re
from typing import Final

from sysadm_nb.server.life_preserver.notices import Notice, When
from sysadm_nb.server.life_preserver.pv import read_meter
from sysadm_nb.server.life_preserver.transfer import ERROR, Transfer

_BEGIN: Final = re.compile(
    r"INFO: (?:--no-stream selected; )?"
    r"(?:sending|resuming|updating new target filesystem|clone is recreated on target)\b(.*)",
    re.IGNORECASE,
)
_SIZE: Final = re.compile(r"\(~ ([\d.]+) ?([KMGT]?)B")
_SAID: Final = re.compile(r"(INFO|WARN(?:ING)?|CRITICAL(?: ERROR)?|DEBUG): ?(.*)", re.IGNORECASE)


class SyncoidLog:
    """What syncoid (of sanoid, 2.0 to 2.3) prints, with pv's meter where its output has one.

    syncoid does not say that a transfer ended well. It did when the meter reached 100 % or fell silent, or
    when the next line is about something else; without a meter (``--pv-options`` with ``-f`` writes one into
    a log) the last transfer of a run stays open until the next run's first line.
    """

    def __init__(self, logfile: str) -> None:
        self._transfer = Transfer(logfile)
        self._total = ""

    def feed(self, line: str, now: When) -> list[Notice]:
        line = line.strip()
        if meter := read_meter(line):
            if not self._transfer.dataset:
                return []  # the rest of a transfer that is over, or one whose start was not seen
            told = self._transfer.progress(self._transfer.dataset, meter[1], self._total, meter[3])
            return told + (self._transfer.end(now) if meter[3] == 100 else [])
        said = _SAID.match(line)
        if said is None:
            return self._transfer.fail(now, line) if ERROR.fullmatch(line) else []
        if said[1].upper().startswith("CRITICAL"):
            return self._transfer.fail(now, said[2])
        if begin := _BEGIN.match(line):
            size = _SIZE.search(line)
            self._total = size[1] + size[2] if size else ""
            return self._transfer.begin(now, _source_dataset(begin[1]))
        return self._transfer.end(now) if said[1].upper() == "INFO" else []

    def idle(self, seconds: float, now: When) -> list[Notice]:
        return self._transfer.idle(seconds, now)


def _source_dataset(text: str) -> str:
    """The dataset that is sent: the first word that names a snapshot or bookmark, else the word after "from".

    Examples
    --------
    >>> _source_dataset("incremental root@nas:tank/home@a ... b to backup/home (~ 4 KB):")
    'tank/home'
    """
    words = text.split()
    named = [word for word in words if re.search(r"[@#][^@/]*$", word) and not word.endswith("@")]
    word = named[0] if named else words[words.index("from") + 1] if "from" in words[:-1] else text.strip()
    host, colon, rest = word.partition(":")
    dataset = rest if colon and "/" not in host else word
    return re.split(r"[@#]", dataset)[0]
