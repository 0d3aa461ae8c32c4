"""A recording served as a live server: real frames in their real order, in scaled time."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pandas as pd

from sysadm_nb import wire
from sysadm_nb.errors import InputError, RecordingError
from sysadm_nb.recording import file, reader
from sysadm_nb.recording.opened import Moment, moment
from sysadm_nb.recording.reader import Place, Row, Selection
from sysadm_nb.server.core import EventServer
from sysadm_nb.server.handle import Server
from sysadm_nb.server.hub import RESENT
from sysadm_nb.server.source import BadRequest, Publish
from sysadm_nb.tables.spans import is_number

log = logging.getLogger("sysadm_nb.recording")

AHEAD: Final = 500  # frames read at once
TURN: Final = 100  # frames sent before the loop serves others
BACKLOG: Final = 2**20
"""Bytes that may wait for the slowest client; replaying slows down rather than losing it."""
PATIENCE: Final = 2000  # looks at a client that takes nothing: 10 s
LOOK_AGAIN_S: Final = 1.0  # at the end: the recording may grow


class Player:
    """A source that plays a recording; all of it runs on the loop thread.

    Attributes
    ----------
    position : int
        Recorded time reached, in microseconds since 1970 UTC.
    state : str
        ``waiting`` (for the first subscriber), ``playing``, ``paused``, ``finished`` or ``failed``.
    """

    name = "replay"

    def __init__(self, path: Path, server: str, speed: float, start: int, end: int) -> None:
        self.path = path
        self.recorded = server
        self.position = start
        self.state = "waiting"
        self.detail = ""
        self.calls = {"sysadm/zfs": self._answer_zfs}
        self.clock = lambda: self.position
        self.server: EventServer
        self._end = end
        self._speed = speed
        self._from = start
        self._over = False  # the last row read was beyond the end
        self._anchor = (0.0, start)  # the loop's time and the recorded time that went with it
        self._changed = asyncio.Event()
        self._place = Place()
        self._rows: Iterator[reader.Entry] = iter(())
        self._ahead: list[Row] = []
        self._state_frame: str | bytes | None = None  # the newest that told of pools
        self._task: asyncio.Task[None] | None = None

    # -- source -----------------------------------------------------------------------------------------

    async def start(self, publish: Publish) -> None:
        await self._go_to(self._from)
        self._task = asyncio.create_task(self._run(), name="sysadm_nb replay")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._rows = iter(())

    async def _answer_zfs(self, args: dict[str, Any]) -> Any:
        if args.get("action") != "list_pools":
            raise BadRequest("a replay knows its pools only: list_pools")
        if self._state_frame is None:
            return {"list_pools": {}}
        message = wire.decode(self._state_frame)
        told = message.args if isinstance(message, wire.Event | wire.Reply) else None
        told = told if isinstance(told, dict) else {}
        return {"list_pools": told.get("zpools") or told.get("list_pools") or {}}

    # -- control ----------------------------------------------------------------------------------------

    def pause(self) -> None:
        self._settle()
        self.state = "paused"

    def resume(self) -> None:
        if self.state == "paused":
            self._settle()
            self.state = "waiting"

    @property
    def speed(self) -> float:
        return self._speed

    @speed.setter
    def speed(self, value: float) -> None:
        self._settle()
        self._speed = value

    async def seek(self, time: int) -> None:
        await self._go_to(time)
        if self.state in ("finished", "failed"):
            self.state, self.detail = "waiting", ""
        self._changed.set()

    def _settle(self) -> None:
        """Let time run on from where it stands, and the player look again at what it waits for."""
        now = asyncio.get_running_loop().time()
        since, reached = self._anchor
        if self.state not in ("paused", "waiting"):
            run = 0.0 if math.isinf(self._speed) else (now - since) * 1e6 * self._speed
            reached = max(self.position, reached + int(run))
        self._anchor = (now, reached)
        self._changed.set()

    # -- playing ----------------------------------------------------------------------------------------

    async def _go_to(self, time: int) -> None:
        """Stand at a time: what comes next, and what those who come now are told of before."""
        place, before = await asyncio.to_thread(self._look_up, time)
        self._from = self.position = time
        self._anchor = (asyncio.get_running_loop().time(), time)
        self._over = False
        self._ahead = []
        self._place = place
        self._rows = reader.read(self.path, Selection(), place)
        for event, row in before.items():  # those who are connected already have seen what they have seen
            self.server.keep_last(event, None if row is None else _text(row))
        state = before["system-state"]
        self._state_frame = None if state is None else state.frame

    def _look_up(self, time: int) -> tuple[Place, dict[str, Row | None]]:
        before = {event: reader.newest(self.path, event, time, self.recorded) for event in RESENT}
        return reader.place_at(self.path, time), before

    async def _run(self) -> None:
        while True:
            try:
                await self._play()
            except RecordingError as error:
                log.warning("The replay stopped: %s", error)
                self.state, self.detail = "failed", str(error)
            except Exception as error:  # a bug of ours must not leave a replay that looks alive
                log.exception("The replay stopped")
                self.state, self.detail = "failed", str(error)
            await self._wait(None)  # for a seek

    async def _play(self) -> None:
        sent = 0
        while True:
            if self.state == "paused" or (self.state == "waiting" and not self.server.subscribers):
                await self._wait(None if self.state == "paused" else 0.02)
                self._anchor = (asyncio.get_running_loop().time(), self._anchor[1])
                continue
            more = bool(self._ahead) or await self._read()
            if self.state == "paused":
                continue  # it was paused while it read
            if not more:
                self.state = "finished"
                await self._wait(LOOK_AGAIN_S)
                continue
            self.state = "playing"
            pause = self._until_due(self._ahead[0])
            if pause > 0:
                await self._wait(pause)
                continue
            row = self._ahead.pop(0)
            if row.event not in reader.TIMELESS:
                self.position = max(self.position, row.time)
            self._send(row)
            sent += 1
            if sent % TURN == 0:
                await self._let_others()

    def _until_due(self, row: Row) -> float:
        if math.isinf(self._speed) or row.event in reader.TIMELESS:
            return 0.0
        since, position = self._anchor
        return since + (row.time - position) / 1e6 / self._speed - asyncio.get_running_loop().time()

    async def _let_others(self) -> None:
        await asyncio.sleep(0)
        if self.server.backlog <= BACKLOG:
            return
        for _ in range(PATIENCE):  # then the stalled client is the server's to close, and the others go on
            await asyncio.sleep(0.005)
            if self.server.backlog <= BACKLOG // 2:
                break
        self._anchor = (asyncio.get_running_loop().time(), self.position)  # no rush to make up for it

    async def _wait(self, seconds: float | None) -> None:
        """Until something was changed, or so many seconds."""
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            pass

    async def _read(self) -> bool:
        """Read some frames ahead; False at the end."""
        while not self._ahead:
            rows = self._rows
            entries = await asyncio.to_thread(_take, rows, AHEAD)
            if rows is not self._rows:
                continue  # somebody went elsewhere meanwhile
            if not entries:
                self._rows = reader.read(self.path, Selection(), self._place)  # what comes later
                return False
            self._ahead = [entry for entry in entries if isinstance(entry, Row) and self._is_played(entry)]
        return True

    def _is_played(self, row: Row) -> bool:
        if row.event in reader.TIMELESS:  # they belong to the event before
            in_range = not self._over
        else:
            in_range = self._from <= row.time < self._end
            self._over = row.time >= self._end
        # The last event sent again at a subscribe is not news: this server sends its own again.
        return in_range and row.server == self.recorded and row.origin != "last" and row.event != "request"

    def _send(self, row: Row) -> None:
        if row.event in ("system-state", "polled"):
            self._state_frame = row.frame
        if row.event != "polled":
            self.server.publish_frame(row.event, _text(row))


def _take(rows: Iterator[reader.Entry], count: int) -> list[reader.Entry]:
    return list(itertools.islice(rows, count))


def _text(row: Row) -> str:
    """What is sent of a frame."""
    text = row.frame if isinstance(row.frame, str) else row.frame.decode("utf-8", "replace")
    return with_time(text, row.time)


def with_time(text: str, time: int) -> str:
    """A frame with the time it happened in its envelope, and otherwise word for word.

    >>> with_time('{"args":{},"id":"","name":"bridge","namespace":"events"}', 0)
    '{"args":{},"id":"","name":"bridge","namespace":"events","time":"1970-01-01T00:00:00.000000Z"}'
    """
    message = wire.decode(text)
    if not isinstance(message, wire.Event) or message.time is not None:
        return text
    peer, body = wire.split_relay(text)
    body = f'{body.rstrip()[:-1]},"time":"{wire.format_time(time)}"}}'
    return body if peer is None else wire.encode_relay(peer, body)


class Replay(Server):
    """A server that plays a recording; made by `replay`. ``stop()`` ends it."""

    def __init__(self, server: EventServer, player: Player) -> None:
        self._player = player
        super().__init__(server)

    @property
    def state(self) -> str:
        """``waiting`` for a subscriber, ``playing``, ``paused``, ``finished``, ``failed`` or ``stopped``."""
        return "stopped" if self.closed else self._player.state

    @property
    def position(self) -> pd.Timestamp:
        """The recorded time reached."""
        return pd.Timestamp(self._player.position, unit="us", tz="UTC")

    @property
    def speed(self) -> float:
        """Recorded seconds a second; can be set."""
        return self._player.speed

    @speed.setter
    def speed(self, value: float) -> None:
        self._do(lambda: setattr(self._player, "speed", _checked_speed(value)))

    def pause(self) -> None:
        """Stop sending; clients stay connected."""
        self._do(self._player.pause)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._do(self._player.resume)

    def seek(self, time: Moment) -> None:
        """Go on from another time: ``"2026-11-23 07:15"`` (UTC), a datetime, or ``"24h"`` before the end."""
        self._loop.run(self._player.seek(_start(self._player.path, time)))

    def _do(self, change: Any) -> None:
        async def on_loop() -> None:
            change()

        self._loop.run(on_loop())

    def _facts(self) -> tuple[str, str]:
        state, advice = super()._facts()
        if self.closed:
            return state, "start another with sysadm_nb.replay(...)"
        at = f"{self.position:%Y-%m-%d %H:%M:%S} UTC"
        player = self._player
        how = f"{player.state} {player.detail}".strip()
        return f"{state}, {how} {player.path.name} at {at}, {player.speed:g} times as fast", advice


def replay(
    recording: str | Path | Any,
    speed: float = 1.0,
    *,
    start: Moment = None,
    end: Moment = None,
    server: str | None = None,
    **options: Any,
) -> Replay:
    """Serve a recording as a live server, to try views, alerts and other clients on the past.

    It sends the recorded frames word for word and in the order in which they came, each with the time when
    it happened, and begins when the first client has subscribed. Time is what the events say, so that the
    history of a sped-up demo machine keeps its length. A client that is too slow slows the replay down.

    Parameters
    ----------
    recording : str, Path or Recording
    speed : float
        Recorded seconds a second; ``float("inf")`` for as fast as the clients take it.
    start, end : str, datetime or int, optional
        Play only ``start <= time < end``; as for `open_recording`.
    server : str, optional
        Which of the recorded servers to play; needed where there are several.
    **options
        As for `serve`: ``host``, ``port``, ``tls``, ``users``, ``limits``, ….

    Returns
    -------
    Replay
        A `Server` with ``pause()``, ``resume()``, ``seek(time)``, ``speed``, ``position`` and ``state``.

    Raises
    ------
    RecordingError
        If the recording cannot be read, or is empty.
    InputError
        If the arguments do not fit.

    Examples
    --------
    >>> server = sa.replay("tank.sysadm", speed=600, start="24h")                     # doctest: +SKIP
    >>> monitor = sa.connect(server)                                                  # doctest: +SKIP
    """
    player, events = prepare(recording, speed, start=start, end=end, server=server, **options)
    return Replay(events, player)


def prepare(
    recording: str | Path | Any,
    speed: float,
    *,
    start: Moment = None,
    end: Moment = None,
    server: str | None = None,
    **options: Any,
) -> tuple[Player, EventServer]:
    """Player and server for a recording; neither is running yet."""
    path = file.locate(getattr(recording, "path", recording))
    names = reader.servers(path)
    if not names:
        raise RecordingError(f"{path} is empty: there is nothing to replay.")
    if server is None and len(names) > 1:
        raise InputError(
            f"{path} holds {len(names)} servers: pass server= with one of {', '.join(names[:10])}."
        )
    if server is not None and server not in names:
        raise InputError(f"{path} has no server {server!r}; there are {', '.join(names[:10])}.")
    span = reader.span(path)
    assert span is not None
    player = Player(
        path,
        server or names[0],
        _checked_speed(speed),
        span[0] if start is None else moment(start, span[1]),
        reader.FOREVER if end is None else moment(end, span[1]),
    )
    events = EventServer(sources=[player], **options)
    player.server = events
    return player, events


def _start(path: Path, time: Moment) -> int:
    span = reader.span(path)
    if time is None or span is None:
        raise InputError("pass the time to go to.")
    return moment(time, span[1])


def _checked_speed(speed: float) -> float:
    if not is_number(speed) or not speed > 0:
        raise InputError(f"speed {speed!r} must be more than 0; use pause() to stand still.")
    return float(speed)
