"""How much one client, one address and everybody together may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Every bound of the server in one place.

    The time-outs and the token's life are those of the original server, the three about failed logins those
    of its documented configuration.

    Attributes
    ----------
    login_timeout : float
        Seconds until a connection that has not logged in is closed.
    idle_timeout : float
        Seconds without a message from the client until it is closed.
    token_life : float
        Seconds since the last request that used it until a token is forgotten.
    challenge_life : float
        Seconds between the two steps of ``auth_ssl``.
    login_failures : int
        Failed logins from one address that block it.
    login_block : float
        Seconds an address stays blocked.
    login_quiet : float
        Seconds without a failure after which the count starts again.
    frame_bytes : int
        Largest message taken from a client.
    requests_per_second, request_burst : float
        A client that asks faster is read more slowly; nothing is refused.
    calls_at_once : int
        Requests of one client that may be under way at the same time.
    connections, connections_per_address : int
        More are turned away at the door.
    buffer_bytes : int
        Bytes that may wait for one client (64 KiB before it has logged in); one that is further behind is
        closed with the reason.
    open_timeout, close_timeout : float
        Seconds for the opening and the closing handshake (TLS included).
    """

    login_timeout: float = 30
    idle_timeout: float = 30 * 60
    token_life: float = 900
    challenge_life: float = 30
    login_failures: int = 5
    login_block: float = 60 * 60
    login_quiet: float = 10 * 60
    frame_bytes: int = 2**20
    requests_per_second: float = 200
    request_burst: float = 400
    calls_at_once: int = 16
    connections: int = 2000
    connections_per_address: int = 200
    buffer_bytes: int = 8 * 2**20
    open_timeout: float = 10
    close_timeout: float = 10


class Rate:
    """A token bucket: how long to wait before the next request may be taken."""

    __slots__ = ("_burst", "_clock", "_last", "_left", "_rate")

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left, self._last = burst, clock()

    def take(self) -> float:
        """Count one request; return the seconds to pause before reading the next (0 within the rate)."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._last) * self._rate) - 1
        self._last = now
        return max(0.0, -self._left / self._rate)
