"""Readers: a log, what follows it, and what understands it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from sysadm_nb.server.life_preserver import notices
from sysadm_nb.server.life_preserver.follow import LogFollower
from sysadm_nb.server.life_preserver.lpreserver import LpreserverLog, Run
from sysadm_nb.server.life_preserver.memory import Memory
from sysadm_nb.server.life_preserver.notices import Notice, When
from sysadm_nb.server.life_preserver.transfer import SILENCE, Parser
from sysadm_nb.server.life_preserver.zfs_send import ZfsSendLog

log = logging.getLogger(__name__)


class Reader(Protocol):
    """Reads what is new, whenever it is asked."""

    def read(self) -> Iterator[list[Notice]]:
        """Notices of the new lines, in order; after each list the memory is to be saved."""
        ...


class TransferReader:
    """The log of one replication tool."""

    def __init__(self, path: Path, parser: Parser, memory: Memory) -> None:
        self._follower, self._parser = memory.follower(path), parser
        self._last = time.monotonic()
        if not _is_older(path, time.time() - SILENCE):
            _remind(parser, self._follower)

    def read(self) -> Iterator[list[Notice]]:
        for lines in self._follower.read():
            self._last = time.monotonic()
            now = _now()
            yield [notice for line in lines for notice in _feed(self._parser, line, now)]
        if found := self._parser.idle(time.monotonic() - self._last, _now()):
            yield found


class LpreserverReader:
    """lpreserver's log and, while a replication runs, the log that its progress is written to."""

    def __init__(self, path: Path, memory: Memory) -> None:
        self._memory, self._follower = memory, memory.follower(path)
        self._parser = LpreserverLog(memory.run)
        self._send: tuple[LogFollower, ZfsSendLog] | None = None
        if memory.run is not None:
            self._follow(memory.run)

    def read(self) -> Iterator[list[Notice]]:
        for lines in self._follower.read():
            found = self._progress()  # what was sent so far comes before what these lines say of its end
            found += [notice for line in lines if (notice := self._parser.feed(line))]
            if self._parser.run is not self._memory.run:
                self._follow(self._parser.run)
            yield found
        if found := self._progress():
            yield found

    def _follow(self, run: Run | None) -> None:
        resumed, self._memory.run, self._send = run is self._memory.run, run, None
        if run is None or not run.send_log:
            return
        path = Path(run.send_log)
        follower = self._memory.follower(path, old_news=False)
        parser = ZfsSendLog(run.send_log, only_progress=True)
        if resumed:
            _remind(parser, follower)
        elif run.since is not None and _is_older(path, run.since // 1_000_000):
            follower.skip_to_end()  # left over from the replication before
        self._send = follower, parser

    def _progress(self) -> list[Notice]:
        if self._send is None:
            return []
        follower, parser = self._send
        now = _now()
        return [notice for lines in follower.read() for line in lines for notice in _feed(parser, line, now)]


def _remind(parser: Parser, follower: LogFollower) -> None:
    """Let a parser know, over a restart, the beginning of what is under way; it was told already."""
    now = _now()
    for line in follower.recent():
        _feed(parser, line, now)


def _feed(parser: Parser, line: str, now: When) -> list[Notice]:
    try:
        return parser.feed(line, now)
    except (
        ValueError,
        OverflowError,
    ) as error:  # such as an endless number
        log.info("a line of a log cannot be understood (%s): %.200r", error, line)
        return []


def _is_older(path: Path, moment: float) -> bool:
    try:
        return path.stat().st_mtime < moment
    except OSError:
        return False


def _now() -> When:
    return notices.write_date(time.time_ns() // 1000)
