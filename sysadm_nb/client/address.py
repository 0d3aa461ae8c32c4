"""Where a server is: its URL taken apart."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit

from sysadm_nb.errors import InputError

SERVER_PORT = 12150


class Address(NamedTuple):
    """A server's address; ``str()`` of it is ``host:port``."""

    url: str
    host: str
    port: int
    secure: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether it is this machine, so that nobody can listen on the way."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def local(self) -> bool:
        """Whether it is this machine or a private network, where compression costs more than it saves."""
        if self.loopback or "." not in self.host.strip("."):
            return True
        try:
            return ipaddress.ip_address(self.host).is_private
        except ValueError:
            return self.host.lower().endswith((".local", ".lan", ".home.arpa", ".internal"))


def parse_address(url: str) -> Address:
    """Read a server's URL; what is missing becomes ``wss`` and port 12150.

    Parameters
    ----------
    url : str
        ``wss://nas.example:12150``, ``nas.example`` or ``ws://127.0.0.1:8080``.

    Raises
    ------
    InputError
        It is no such URL, or has a user or password in it (which would end up in logs).

    Examples
    --------
    >>> parse_address("nas").url
    'wss://nas:12150/'
    >>> str(parse_address("ws://127.0.0.1:8080"))
    '127.0.0.1:8080'
    """
    if not isinstance(url, str):
        raise InputError(
            f"A server is named by its URL, such as 'wss://nas:12150', not by a {type(url).__name__}."
        )
    text = url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"wss://{text}")
        (parts.hostname or "").encode("idna")
    except ValueError:  # not shown: a password could be in it
        raise InputError("The host in this URL cannot be one: a URL looks like 'wss://nas:12150'.") from None
    if "@" in parts.netloc:
        raise InputError("Leave user and password out of the URL: pass user=... and password=... instead.")
    try:
        port = parts.port or SERVER_PORT
    except ValueError:
        raise InputError(f"The port in the URL {url!r} is no number from 1 to 65535.") from None
    if parts.scheme not in ("ws", "wss"):
        raise InputError(
            f"A SysAdm server's URL begins with wss:// (or ws:// on this machine): {url!r} does not."
        )
    if not parts.hostname or not parts.hostname.isprintable():
        raise InputError(f"There is no host name in the URL {url!r}: it looks like 'wss://nas:12150'.")
    host = parts.hostname
    shown = f"[{host}]" if ":" in host else host
    return Address(f"{parts.scheme}://{shown}:{port}{parts.path or '/'}", host, port, parts.scheme == "wss")
