"""Logging in: tokens, the challenge of a key login, and the count of failed attempts."""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sysadm_nb.server.limits import Limits

Clock = Callable[[], float]

_ALPHABET: Final = string.ascii_letters + string.digits
_MANY: Final = 10_000


def random_word(length: int) -> str:
    """Letters and digits from the system's random source: 5.95 bits each."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


TOKEN_LENGTH: Final = 40


def is_token(text: str) -> bool:
    """Whether it looks like a token that a server of ours gave out, at whatever time."""
    return len(text) == TOKEN_LENGTH and text.isascii() and text.isalnum()


@dataclass
class Login:
    """Somebody who logged in."""

    user: str
    role: str
    expires: float


class Tokens:
    """Tokens by which a login is taken up again, forgotten some time after their last use.

    They are looked up by hash: how long a lookup takes tells nothing about a token, and a wrong one, a part
    of one or an old one finds nothing.
    """

    def __init__(self, life: float, clock: Clock) -> None:
        self._life, self._clock = life, clock
        self._logins: dict[bytes, Login] = {}

    def _key(self, token: str) -> bytes:
        return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()

    def issue(self, user: str, role: str) -> str:
        if len(self._logins) >= _MANY:
            self._forget_old()
        token = random_word(TOKEN_LENGTH)
        self._logins[self._key(token)] = Login(user, role, self._clock() + self._life)
        return token

    def use(self, token: str) -> Login | None:
        """The login of a token, whose life begins again; None if it is wrong or too old."""
        key = self._key(token)
        login = self._logins.get(key)
        if login is None:
            return None
        if login.expires < self._clock():
            del self._logins[key]
            return None
        login.expires = self._clock() + self._life
        return login

    def revoke(self, token: str) -> None:
        self._logins.pop(self._key(token), None)

    def _forget_old(self) -> None:
        now = self._clock()
        self._logins = {key: login for key, login in self._logins.items() if login.expires >= now}


class Failures:
    """Failed logins by address: five block it for an hour, ten quiet minutes or a success start again."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self._counts: dict[str, tuple[int, float]] = {}
        self._blocked: dict[str, float] = {}

    def blocked(self, address: str) -> bool:
        until = self._blocked.get(address)
        if until is None:
            return False
        if until <= self._clock():
            del self._blocked[address]
            return False
        return True

    def failed(self, address: str) -> bool:
        """Count a failure; True if it blocked the address."""
        now = self._clock()
        if len(self._counts) >= _MANY:
            self._forget_old(now)
        count, last = self._counts.get(address, (0, now))
        count = 1 if now - last > self._limits.login_quiet else count + 1
        if count < self._limits.login_failures:
            self._counts[address] = (count, now)
            return False
        self._counts.pop(address, None)
        self._blocked[address] = now + self._limits.login_block
        return True

    def succeeded(self, address: str) -> None:
        self._counts.pop(address, None)

    def _forget_old(self, now: float) -> None:
        quiet = self._limits.login_quiet
        self._counts = {key: value for key, value in self._counts.items() if now - value[1] <= quiet}
        self._blocked = {key: until for key, until in self._blocked.items() if until > now}
