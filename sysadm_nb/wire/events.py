"""What the arguments of an event look like, typed, and the fast way to read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

# The tables take these apart by the order of their fields: `msgspec.structs.astuple` is the quickest way.


class Pool(msgspec.Struct, gc=False):
    """A pool as a server shows it: display values, and from our own servers the exact bytes beside them."""

    size: Any = None
    alloc: Any = None
    free: Any = None
    frag: Any = None
    expandsz: Any = None
    dedup: Any = None
    altroot: Any = None
    capacity: Any = None
    cap: Any = None
    health: Any = None
    priority: Any = None
    size_bytes: int | float | None = None
    alloc_bytes: int | float | None = None
    free_bytes: int | float | None = None
    expandsz_bytes: int | float | None = None


class SystemState(msgspec.Struct, gc=False):
    """Arguments of a system-state event."""

    hostname: Any = None
    hostnamechanged: Any = None
    priority: Any = None
    zpools: dict[str, Pool] = {}
    updates: Any = None


class Dispatcher(msgspec.Struct, gc=False):
    """Arguments of a dispatcher event of a subsystem's job, as far as anybody reads them."""

    details: Any = msgspec.field(name="process_details", default=None)
    state: Any = None
    process_id: Any = None
    action: Any = None
    event_system: Any = None
    percent_done: Any = None


class FlatDispatcher(Dispatcher, gc=False):
    """The same of a generic job: ``details`` are all of the arguments."""


class LifePreserver(msgspec.Struct, gc=False):
    """Arguments of a life-preserver event."""

    message: str = ""
    priority: Any = None
    kind: Any = msgspec.field(name="class", default=None)


_BYTES: Final = ("size_bytes", "alloc_bytes", "free_bytes", "expandsz_bytes")


def pools_loosely(pools: Any) -> dict[str, Pool]:
    """Pools in which something has another type than expected: take what can be read."""
    out = {}
    for name, values in pools.items() if isinstance(pools, dict) else ():
        if not isinstance(values, dict):
            values = {"health": values}
        known = {key: values[key] for key in Pool.__struct_fields__ if key in values}
        for key in _BYTES:
            number = known.get(key)
            if isinstance(number, bool) or not isinstance(number, (int, float)) or abs(number) > 2.0**80:
                known.pop(key, None)
        out[name] = Pool(**known)
    return out


def system_state(args: Any) -> SystemState:
    """Read the arguments of a system-state event from plain values, whatever their types are."""
    if not isinstance(args, dict):
        return SystemState()
    return SystemState(
        hostname=args.get("hostname"),
        hostnamechanged=args.get("hostnamechanged"),
        priority=args.get("priority"),
        zpools=pools_loosely(args.get("zpools")),
        updates=args.get("updates"),
    )


def dispatcher(args: Any) -> Dispatcher | None:
    """Read the arguments of a dispatcher event from plain values; ``None`` where they are no object."""
    if not isinstance(args, dict):
        return None
    details = args.get("process_details")
    flat = not isinstance(details, dict)
    return (FlatDispatcher if flat else Dispatcher)(
        args if flat else details,
        args.get("state"),
        args.get("process_id"),
        args.get("action"),
        args.get("event_system"),
        args.get("percent_done"),
    )


def life_preserver(args: Any) -> LifePreserver:
    """Read the arguments of a life-preserver event from plain values, whatever their types are."""
    if not isinstance(args, dict):
        return LifePreserver()
    message = args.get("message")
    return LifePreserver(message if isinstance(message, str) else "", args.get("priority"), args.get("class"))


_read_details: Final = msgspec.json.Decoder(Dispatcher).decode
_read_flat: Final = msgspec.json.Decoder(dict[str, Any]).decode


def read_dispatcher(text: str) -> Dispatcher | None:
    """Read the JSON text of a dispatcher event's arguments.

    A subsystem's job brings its log twice, in the details and in a field of its class (``pkg_log``); what
    nobody reads is not decoded. A flat event has commands for keys: nothing can be typed about them.

    Raises
    ------
    msgspec.DecodeError
        It is not the JSON of an object, or one that Python's reader has to be asked about.
    """
    said = _read_details(text)
    return said if type(said.details) is dict else dispatcher(_read_flat(text))


class _Envelope(msgspec.Struct, gc=False):
    namespace: str
    name: str
    args: msgspec.Raw = msgspec.Raw()
    id: Any = ""
    time: str | None = None


read_envelope: Final = msgspec.json.Decoder(_Envelope).decode

# Decoders for the text of the arguments alone.
TYPED: Final[dict[str, Callable[[str], Any]]] = {
    "dispatcher": read_dispatcher,
    "system-state": msgspec.json.Decoder(SystemState).decode,
    "life-preserver": msgspec.json.Decoder(LifePreserver).decode,
}

LOOSE: Final[dict[str, Callable[[Any], Any]]] = {
    "dispatcher": dispatcher,
    "system-state": system_state,
    "life-preserver": life_preserver,
}
