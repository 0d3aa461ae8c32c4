"""Who may log in: users and their roles, from a dict in a notebook or from a file of hashes.

The file has one user a line, ``name:role:scrypt:cost:salt:hash``, and is written by ``sysadm-nb user add``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sysadm_nb.errors import InputError

log = logging.getLogger(__name__)

ROLES: Final = ("wheel", "operator")
"""``wheel`` may do everything, ``operator`` may look but not run, kill or change settings."""

# 16 MiB and about a quarter of a second: one of the settings OWASP's password storage sheet lists for scrypt.
COST: Final = (2**14, 8, 5)
_MAX_MEMORY: Final = 64 * 2**20
_MAX_PASSWORD: Final = 1024


@dataclass(frozen=True, repr=False)
class _Entry:
    role: str
    cost: tuple[int, int, int] | None  # None: known in memory only, and a keyed digest is enough
    salt: bytes
    digest: bytes


def _hash(password: str, cost: tuple[int, int, int] | None, salt: bytes) -> bytes:
    secret = password.encode("utf-8", "surrogatepass")
    if cost is None:
        return hmac.digest(salt, secret, "sha256")
    n, r, p = cost
    return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=32)


def _entry(password: str, role: str, cost: tuple[int, int, int] | None) -> _Entry:
    if role not in ROLES:
        raise InputError(f"there is no role {role!r}: a user is one of {', '.join(ROLES)}")
    if not password or len(password) > _MAX_PASSWORD:
        raise InputError(f"a password needs 1 to {_MAX_PASSWORD} characters")
    salt = secrets.token_bytes(16)
    return _Entry(role, cost, salt, _hash(password, cost, salt))


class Users:
    """The users of a server; checks passwords in constant time, and never shows or keeps one.

    Examples
    --------
    >>> users = Users({"admin": "secret", "eve": ("other", "operator")})
    >>> users
    <Users admin, eve>
    """

    def __init__(self, users: Mapping[str, str | tuple[str, str]] | str | Path) -> None:
        self._path: Path | None = None
        self._stamp: tuple[int, int] | None = None
        self._told = ""
        self._entries: dict[str, _Entry] = {}
        self.turn = asyncio.Semaphore(1)
        """Held around `check`: a flood of logins may take one core and 16 MiB, not more."""
        if isinstance(users, Mapping):
            for name, value in users.items():
                password, role = value if isinstance(value, tuple) else (value, "wheel")
                self._entries[_checked(name)] = _entry(password, role, None)
        else:
            self._path = Path(users)
            if not self._path.exists():
                raise InputError(
                    f"there is no user file {self._path}: "
                    f"make one with `sysadm-nb user add NAME --file {self._path}`"
                )
            self._read()
        self._nobody = _entry("nobody", "operator", self._cost())

    def __repr__(self) -> str:
        return f"<Users {', '.join(sorted(self._entries)) or 'none'}>"

    def __len__(self) -> int:
        return len(self._entries)

    def _cost(self) -> tuple[int, int, int] | None:
        return COST if self._path is not None else None

    def _read(self) -> None:
        assert self._path is not None
        stat = self._path.stat()
        stamp = (stat.st_mtime_ns, stat.st_size)
        if stamp != self._stamp:
            self._stamp = stamp
            self._entries = read_file(self._path)

    def _refresh(self) -> None:
        """See changes of the file at once; while it is broken or away, those it had last count."""
        if self._path is not None:
            try:
                self._read()
            except (OSError, InputError) as error:
                if str(error) != self._told:
                    log.error("the users are those of before: %s", error)
                self._told = str(error)

    def role(self, name: str) -> str | None:
        """The role of a user, or None if there is no such user (any more)."""
        self._refresh()
        entry = self._entries.get(name)
        return entry.role if entry else None

    async def check(self, name: object, password: object) -> str | None:
        """The role of the user if the password is right, else None; an unknown user takes as long.

        Wait for your `turn` first.
        """
        if not isinstance(name, str) or not isinstance(password, str) or len(password) > _MAX_PASSWORD:
            return None
        self._refresh()
        entry = self._entries.get(name, self._nobody)
        if entry.cost is None:
            digest = _hash(password, None, entry.salt)
        else:
            # hashlib releases the GIL: events go out meanwhile
            digest = await asyncio.to_thread(_hash, password, entry.cost, entry.salt)
        right = hmac.compare_digest(digest, entry.digest)
        return entry.role if right and entry is not self._nobody else None


def _checked(name: str) -> str:
    if not name or any(c in ":\n\r" or not c.isprintable() for c in name):
        raise InputError(f"{name!r} cannot be a user name: it needs printable characters and no colon")
    return name


def read_file(path: Path) -> dict[str, _Entry]:
    """Read a user file.

    Raises
    ------
    InputError
        If a line cannot be read; its number is named, its content is not.
    """
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        raise InputError(f"{path} is no user file, for it is no text: name another") from None
    entries = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, role, scheme, cost, salt, digest = line.split(":")
            n, r, p = (int(part) for part in cost.split(","))
            entry = _Entry(role, (n, r, p), base64.b64decode(salt), base64.b64decode(digest))
            if scheme != "scrypt" or role not in ROLES:
                raise ValueError
        except ValueError:
            raise InputError(
                f"{path}, line {number}, is no user: make the line again with `sysadm-nb user add`"
            ) from None
        entries[name] = entry
    return entries


def save_user(path: str | Path, name: str, password: str, role: str = "wheel") -> None:
    """Add a user to a file, or change one; the file is made readable for its owner only.

    Parameters
    ----------
    path : str or Path
    name, password : str
    role : {"wheel", "operator"}

    Raises
    ------
    InputError
        If the name, the password or the role cannot be used, or the file is not a user file.
    """
    path = Path(path)
    entries = read_file(path) if path.exists() else {}
    entries[_checked(name)] = _entry(password, role, COST)
    _write(path, entries)


def remove_user(path: str | Path, name: str) -> None:
    """Take a user out of a file.

    Raises
    ------
    InputError
        If there is no such user.
    """
    path = Path(path)
    entries = read_file(path) if path.exists() else {}
    if entries.pop(name, None) is None:
        raise InputError(f"there is no user {name!r} in {path}")
    _write(path, entries)


def _write(path: Path, entries: Mapping[str, _Entry]) -> None:
    def line(name: str, entry: _Entry) -> str:
        cost = ",".join(str(part) for part in entry.cost or COST)
        salt, digest = (base64.b64encode(value).decode() for value in (entry.salt, entry.digest))
        return f"{name}:{entry.role}:scrypt:{cost}:{salt}:{digest}\n"

    write_private(path, "".join(line(name, entry) for name, entry in sorted(entries.items())))


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, mode 600: readers see the old or the new one, strangers neither."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
