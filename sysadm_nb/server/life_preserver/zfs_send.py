"""The log of ``zfs send -v``."""

from __future__ import annotations

import re
from typing import Final

from sysadm_nb import wire
from sysadm_nb.server.life_preserver.notices import Notice, When
from sysadm_nb.server.life_preserver.transfer import ERROR, Transfer

_PLAN: Final = re.compile(
    r"(?:full send of|send from \S+ to) (?P<name>.+?)(?: estimated size is (?P<size>\S+))?"
    r"|(?:full|incremental\t[^\t]+)\t(?P<exact_name>[^\t]+)(?:\t(?P<exact>\d+))?"
)
_TOTAL: Final = re.compile(r"total estimated size is (\S+)|size\t(\d+)")
_SENT: Final = re.compile(r"\d\d:\d\d:\d\d\s+([\d.,]+[BKMGTPE]?)\s+(?:\d+\s+)?(\S.*)")


class ZfsSendLog:
    """What ``zfs send -v`` (also ``-P``) writes to standard error, in the forms of OpenZFS 0.8 to 2.3.

    Sources: ``send_print_verbose`` and ``send_progress_thread`` in ``lib/libzfs/libzfs_sendrecv.c``.

    Parameters
    ----------
    logfile : str
        Named in the notice of a failure.
    only_progress : bool
        Where another log tells of start and end, as lpreserver's does.
    """

    def __init__(self, logfile: str, *, only_progress: bool = False) -> None:
        self._transfer = Transfer(logfile)
        self._only_progress = only_progress
        self._sizes: dict[str, str] = {}
        self._total = ""
        self._counting = False

    def feed(self, line: str, now: When) -> list[Notice]:
        line = line.strip()
        if found := _PLAN.fullmatch(line):
            return self._plan(found, now)
        if found := _TOTAL.fullmatch(line):
            self._total = found[1] or _display(found[2])
            return []
        if found := _SENT.fullmatch(line):
            self._counting = True
            name = found[2]
            sent = _display(found[1]) if "\t" in line and found[1].isdecimal() else found[1]
            # of several snapshots each is counted from 0: its own size is what its progress is out of
            return self._transfer.progress(name, sent, self._sizes.get(name) or self._total)
        if ERROR.fullmatch(line):
            return self._tell(self._transfer.fail(now, line))
        return []

    def idle(self, seconds: float, now: When) -> list[Notice]:
        return self._tell(self._transfer.idle(seconds, now))

    def _plan(self, found: re.Match[str], now: When) -> list[Notice]:
        begun: list[Notice] = []
        if self._counting or not self._sizes:  # the first line of a new plan
            self._counting, self._total, self._sizes = False, "", {}
            name = found["name"] or found["exact_name"]
            begun = self._tell(self._transfer.begin(now, name.partition("@")[0]))
        size = found["size"] or (_display(found["exact"]) if found["exact"] else "")
        self._sizes[found["name"] or found["exact_name"]] = size
        return begun

    def _tell(self, told: list[Notice]) -> list[Notice]:
        return [] if self._only_progress else told


def _display(exact: str) -> str:
    return wire.format_size(int(exact))
