"""What feeds an event server: the interface of a source, and the sources that have names.

A source watches something (this machine's pools, a log, a simulated machine) and publishes events. It is a
small object with two coroutines; everything else is optional. Ten lines are enough::

    import asyncio
    import sysadm_nb as sa

    class Heartbeat:
        name = "heartbeat"

        async def start(self, publish):
            self.task = asyncio.create_task(self.beat(publish))

        async def beat(self, publish):
            while True:
                publish("heartbeat", {"message": "alive", "priority": "0 - Information"}, None)
                await asyncio.sleep(60)

        async def stop(self):
            self.task.cancel()

    server = sa.serve(sources=[Heartbeat()])

``start`` and ``stop`` run on the server's loop thread, and so must every call of ``publish``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from sysadm_nb.errors import InputError

Publish = Callable[[str, Mapping[str, Any], int | None], None]
"""``publish(name, args, time)``: send one event.

``name`` is ``dispatcher``, ``system-state``, ``life-preserver`` or another word; ``args`` any JSON object;
``time`` when it happened, in microseconds since the epoch, UTC, or None for now. Never blocks.
"""

Call = Callable[[dict[str, Any]], Awaitable[Any]]
"""A request a source answers: gets the request's ``args``, returns the reply's (any JSON value)."""


class BadRequest(Exception):
    """Raised by a :data:`Call` whose arguments make no sense: the client gets a 400."""


@runtime_checkable
class Source(Protocol):
    """Something that publishes events while the server runs.

    Optional attributes, read after ``start`` has returned:

    - ``calls``: ``dict[str, Call]``, requests this source answers, by ``"namespace/name"`` in lower case,
      for example ``"sysadm/zfs"``. Every logged-in user may send them.
    - ``environment``: ``dict[str, str]`` for the dispatcher's processes, such as a ``PATH`` of its own.
    - ``hostname``: ``str``, the name the server gives itself in ``identify``.
    - ``clock``: ``Callable[[], int]``, the time on the watched machine in microseconds since the epoch, UTC;
      the server's own events (jobs) are stamped with it.

    An exception out of ``start`` stops the server from starting; a source that merely has nothing to watch
    should log one warning and stay silent instead.
    """

    name: str

    async def start(self, publish: Publish) -> None:
        """Begin to watch; return once the first state is known or on its way."""
        ...

    async def stop(self) -> None:
        """Stop watching and release everything. Called once, also after a failed start of another source."""
        ...


NAMED = ("local", "demo", "system_state", "life_preserver")


def resolve(
    sources: str | Source | Iterable[str | Source], options: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Source]:
    """Turn names into sources.

    Parameters
    ----------
    sources : str, Source or iterable of them
        ``"local"`` is all that this machine offers: ``system_state`` and ``life_preserver``.
    options : mapping of mappings, optional
        Keyword arguments for the sources made here, by source name: ``{"system_state": {"interval": 60}}``.

    Raises
    ------
    InputError
        If a name is unknown, or an object has no ``start`` and ``stop``.
    """
    options = options or {}
    items = [sources] if isinstance(sources, str) or not isinstance(sources, Iterable) else list(sources)
    resolved: list[Source] = []
    for item in items:
        if isinstance(item, str):
            names = ("system_state", "life_preserver") if item == "local" else (item,)
            resolved.extend(_make(name, options.get(name, {})) for name in names)
        elif isinstance(item, Source):
            resolved.append(item)
        else:
            raise InputError(
                f"{item!r} is not a source: a source has a name, start(publish) and stop(); or use one of "
                + ", ".join(NAMED)
            )
    return resolved


def _make(name: str, options: Mapping[str, Any]) -> Source:
    # Imported where used: each brings its own needs, and a server of one source needs no other.
    if name == "system_state":
        from sysadm_nb.server.system_state import SystemState

        return SystemState(**options)
    if name == "life_preserver":
        from sysadm_nb.server.life_preserver import LifePreserver

        return LifePreserver(**options)
    if name == "demo":
        from sysadm_nb.server.demo import DemoMachine

        return DemoMachine(**options)
    raise InputError(f"there is no source called {name!r}; there are {', '.join(NAMED)}")
