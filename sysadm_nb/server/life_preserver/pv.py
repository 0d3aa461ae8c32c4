"""The progress meter of pv."""

from __future__ import annotations

import re
from typing import Final

from sysadm_nb.server.life_preserver.notices import Notice, When
from sysadm_nb.server.life_preserver.transfer import ERROR, Transfer

_PV: Final = re.compile(
    r"(?:(?P<name>\S.*?):\s+)?(?P<sent>[\d.,]+) ?(?P<unit>[KMGTPE]?)i?B\s+"
    r"(?P<timer>(?:\d+:)?\d+:\d\d:\d\d)\b(?P<rest>.*)"
)
_PERCENT: Final = re.compile(r"\b(\d{1,3})%")


class PvLog:
    """The progress meter of ``pv -f`` (bytes and timer shown, as by default).

    The dataset is the name given by ``pv -N``, else the name of the log without its ending. A timer that
    goes back is a new transfer; 100 %, or silence, is the end of one.
    """

    def __init__(self, logfile: str) -> None:
        self._transfer = Transfer(logfile)
        self._default = re.sub(r"\.\w+$", "", logfile.rpartition("/")[2])
        self._timer = 0
        self._sent = ""

    def feed(self, line: str, now: When) -> list[Notice]:
        meter = read_meter(line)
        if meter is None:
            return self._transfer.fail(now, line.strip()) if ERROR.fullmatch(line.strip()) else []
        name, sent, timer, percent = meter
        told: list[Notice] = []
        if timer < self._timer or not self._transfer.dataset:
            if percent == 100 and timer >= self._timer and sent == self._sent:
                return []  # pv shows its last line twice when the end and an update coincide
            told = self._transfer.begin(now, name or self._default)
        self._timer, self._sent = timer, sent
        told += self._transfer.progress(self._transfer.dataset, sent, percent=percent)
        return told + self._transfer.end(now) if percent == 100 else told

    def idle(self, seconds: float, now: When) -> list[Notice]:
        return self._transfer.idle(seconds, now)


def read_meter(line: str) -> tuple[str, str, int, float | None] | None:
    """Name, amount, seconds and percentage of a line of pv's; None for any other line.

    Examples
    --------
    >>> read_meter("1.32GiB 0:00:12 [ 110MiB/s] [=====>          ] 31% ETA 0:00:26")
    ('', '1.32G', 12, 31.0)
    """
    found = _PV.fullmatch(line.strip())
    if found is None:
        return None
    seconds = 0
    for part in found["timer"].split(":"):
        seconds = seconds * 60 + int(part)
    percent = _PERCENT.search(found["rest"])
    return found["name"] or "", found["sent"] + found["unit"], seconds, float(percent[1]) if percent else None
