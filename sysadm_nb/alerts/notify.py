"""Telling people: functions and Apprise URLs, each isolated, retried, time-limited and rate-limited."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

import pandas as pd

from .. import loop
from ..errors import InputError
from ..wire import shell_text
from .durations import duration_words
from .incidents import Incident

log = logging.getLogger("sysadm_nb.alerts")

TIMEOUT_S: Final = 20.0
RETRY_S: Final = (1.0, 4.0, 15.0)  # pauses before the second try and those after
GROUP_S: Final = 0.5  # what fires within this becomes one message
BURST: Final = 10  # messages at once, then one every PACE_S
PACE_S: Final = 6.0
LONGEST_QUEUE: Final = 10_000  # changes waiting for one notifier
MOST_LINES: Final = 20

What = Literal["fired", "resolved", "reminder"]
_WORST: Final = {"info": 0, "warning": 1, "critical": 2}


@dataclass(frozen=True)
class News:
    """One thing to tell of one incident."""

    what: What
    incident: Incident
    reason: str = ""


@dataclass(frozen=True)
class Notification:
    """A message, given to notifier functions.

    Attributes
    ----------
    title, body : str
        Ready to show; free of control characters.
    severity : {"info", "warning", "critical"}
        The worst of its incidents.
    news : tuple of News
        What fired, was resolved or is called to mind, each with its incident as it was then.
    """

    title: str
    body: str
    severity: str
    news: tuple[News, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a web hook."""
        return {
            "title": self.title,
            "body": self.body,
            "severity": self.severity,
            "news": [{"what": n.what, **n.incident.to_json()} for n in self.news],
        }


Target: TypeAlias = Callable[[Notification], Any] | str
"""A function (also ``async def``) that takes a `Notification`, or an Apprise URL."""


def compose(news: Sequence[News]) -> Notification:
    """One message of all that is new."""
    severity = max((n.incident.severity for n in news), key=lambda s: _WORST.get(s, 0))
    if len(news) == 1:
        (one,) = news
        return Notification(_title(one), _body(one), severity, tuple(news))
    kinds = [f"{count} {word}" for word, count in _counted(n.what for n in news)]
    lines = [f"{_title(n)}: {_clean(n.incident.message)}" for n in news[:MOST_LINES]]
    if len(news) > MOST_LINES:
        lines.append(f"and {len(news) - MOST_LINES} more")
    return Notification(f"{len(news)} alerts: {', '.join(kinds)}", "\n".join(lines), severity, tuple(news))


def in_messages(news: Sequence[News]) -> list[list[News]]:
    """What fired, what ended, and what fires again after that: at most three messages.

    After an outage the end of an incident and the beginning of the next come at once. Told the other way
    round, the last thing said of a key that fires would be that it is over.
    """
    keys = [(one.incident.rule, one.incident.subject) for one in news]
    ends = [one.what == "resolved" for one in news]
    ended = {key: place for place, (key, end) in enumerate(zip(keys, ends, strict=True)) if end}
    parts: list[list[News]] = [[], [], []]
    for place, (one, key, end) in enumerate(zip(news, keys, ends, strict=True)):
        parts[1 if end else 2 if place > ended.get(key, len(news)) else 0].append(one)
    return [part for part in parts if part]


def _counted(words: Iterable[str]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return list(counts.items())


def _clean(text: str) -> str:
    return shell_text(text)


def _title(news: News) -> str:
    incident = news.incident
    sign = {"fired": incident.severity.upper(), "resolved": "RESOLVED", "reminder": "STILL FIRING"}[news.what]
    if news.what == "resolved" and incident.reason == "no data":
        sign = "NO DATA"
    return _clean(f"{sign} {incident.rule}: {incident.subject}")


def _body(news: News) -> str:
    incident = news.incident
    lines = [incident.message]
    if news.what == "fired":
        if incident.fired > incident.began:
            lines.append(f"since {_moment(incident.began)}")
        else:
            lines.append(f"at {_moment(incident.fired)}")
    elif news.what == "resolved":
        after = duration_words(incident.duration_s * 1e6)
        if incident.reason == "no data":
            lines.append(f"no samples since; it had been firing for {after}")
        else:
            lines.append(f"over after {after}, at {_moment(incident.resolved or 0)}")
    else:
        lines.append(f"firing since {_moment(incident.fired)}")
    if news.reason and news.what == "fired":
        lines.append(news.reason)
    if incident.labels:
        lines.append(" ".join(f"{k}={v}" for k, v in incident.labels.items()))
    return "\n".join(_clean(line) for line in lines)


def _moment(us: int) -> str:
    return str(pd.Timestamp(us, unit="us", tz="UTC").strftime("%Y-%m-%d %H:%M UTC"))


class Notifier:
    """One place to tell, with a queue of its own; lives on the loop thread.

    It tells one thing after another: what comes in meanwhile goes into the next message. A call that takes
    too long is given up, not repeated (it may have arrived); one that raises is tried again after pauses.

    Attributes
    ----------
    name : str
        Function's name, or the scheme of the URL: never the URL, which holds secrets.
    sent, failed : int
        Messages that were taken, and that were given up.
    error : str
        Why the last one failed; empty after a success.
    """

    def __init__(self, target: Target) -> None:
        self.name, self._tell = _teller(target)
        self.sent = self.failed = 0
        self.error = ""
        self._queue: deque[News] = deque()
        self._wake = asyncio.Event()
        self._busy: asyncio.Future[Any] | None = None
        self._tokens, self._paced = float(BURST), time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._sending = False

    def __repr__(self) -> str:
        state = f", failing: {self.error}" if self.error else ""
        return f"<notifier {self.name}: {self.sent} sent, {self.failed} given up{state}>"

    def start(self) -> None:
        """Begin to work; on the loop thread."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    def put(self, news: Iterable[News]) -> None:
        """Queue news; returns at once."""
        # as it is now: the incident goes on changing
        self._queue += [replace(n, incident=replace(n.incident)) for n in news]
        while len(self._queue) > LONGEST_QUEUE:
            self._queue.popleft()
            self.failed += 1
            self.error = f"more than {LONGEST_QUEUE} messages wait; the oldest are dropped"
        self._wake.set()

    def stop(self) -> None:
        """Tell nothing more, from this moment on."""
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        return not self._queue and not self._sending

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._sending = True
            await asyncio.sleep(GROUP_S)
            self._wake.clear()
            news, self._queue = list(self._queue), deque()
            for part in in_messages(news):
                await self._tell_all(part)
            self._sending = bool(self._queue)

    async def _tell_all(self, news: list[News]) -> None:
        await self._pace()
        try:
            await self._send(compose(news))
        except Exception:  # a bug here must not end the telling
            self.failed += 1
            log.exception("The notifier %s failed", self.name)

    async def _pace(self) -> None:
        now = time.monotonic()
        self._tokens = min(float(BURST), self._tokens + (now - self._paced) / PACE_S)
        self._paced = now
        if self._tokens < 1:
            await asyncio.sleep((1 - self._tokens) * PACE_S)
            self._tokens, self._paced = 1.0, time.monotonic()
        self._tokens -= 1

    async def _send(self, message: Notification) -> None:
        for pause in (*RETRY_S, None):
            try:
                await self._try(message)
            except _HangsError as error:
                self.error = str(error)
                break
            except Exception as error:
                self.error = _told(error)
            else:
                self.sent += 1
                self.error = ""
                return
            if pause is None:
                break
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311
        self.failed += 1
        log.warning("The notifier %s did not take %r: %s", self.name, message.title, self.error)

    async def _try(self, message: Notification) -> None:
        if self._busy is not None and not self._busy.done():
            # it still hangs in an earlier call: one thread for each notifier, no more
            done, _ = await asyncio.wait([self._busy], timeout=TIMEOUT_S)
            if not done:
                raise _HangsError("it still hangs in an earlier call")
        self._busy = asyncio.ensure_future(loop.in_thread(self._tell, message))
        self._busy.add_done_callback(_look_at)
        done, _ = await asyncio.wait([self._busy], timeout=TIMEOUT_S)
        if not done:
            raise _HangsError(f"no answer within {TIMEOUT_S:g} s")
        self._busy.result()


class _HangsError(Exception):
    """The call did not come back in time; it may have arrived, so it isn't repeated."""


def _look_at(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # or asyncio complains that nobody did


def _told(error: BaseException) -> str:
    """An error in one line, without what looks like a URL: it may hold a token."""
    words = [w if "://" not in w else w.split("://")[0] + "://…" for w in str(error).split()]
    return f"{type(error).__name__}: {' '.join(words)}"[:300]


def _teller(target: Target) -> tuple[str, Callable[[Notification], Any]]:
    if callable(target):
        return getattr(target, "__name__", type(target).__name__), target
    if not isinstance(target, str) or "://" not in target:
        raise InputError(
            "notify= takes functions and Apprise URLs such as 'mailto://…' or 'json://host/path', "
            f"not {type(target).__name__}"
        )
    scheme = target.split("://")[0]
    try:
        import apprise
    except ImportError:
        raise InputError("Apprise URLs need the package apprise: pip install 'sysadm-nb[alerts]'") from None
    service = apprise.Apprise()
    if not service.add(target):
        raise InputError(
            f"Apprise does not understand this {scheme}:// URL; see its documentation for the form"
        )
    kinds = {"info": "info", "warning": "warning", "critical": "failure"}

    def tell(message: Notification) -> None:
        over = all(n.what == "resolved" for n in message.news)
        kind = "success" if over else kinds[message.severity]
        # said to be text, or a service that sends HTML would send what a server wrote as HTML
        text = apprise.NotifyFormat.TEXT
        if not service.notify(title=message.title, body=message.body, notify_type=kind, body_format=text):
            raise ConnectionError(f"the {scheme} service did not take it")

    return f"{scheme}://…", tell


def targets_of(notify: Target | Iterable[Target] | None) -> list[Target]:
    """The places to tell, from what the user gave."""
    if notify is None:
        return []
    if callable(notify) or isinstance(notify, str):
        return [notify]
    return list(notify)
