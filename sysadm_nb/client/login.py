"""Who logs in: where passwords come from, and where they may go."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from sysadm_nb.client.address import Address, parse_address
from sysadm_nb.errors import (
    ConnectionLost,
    InputError,
    LoginBlocked,
    LoginRefused,
    PasswordNeeded,
    RequestRefused,
    RequestTimeout,
)

if TYPE_CHECKING:
    from sysadm_nb.client.connection import Connection

PASSWORD_VARIABLE = "SYSADM_NB_PASSWORD"  # noqa: S105 - the name of a variable
KEYRING_SERVICE = "sysadm_nb"
BRIDGE_ADVICE = (
    "A bridge lets in keys that its owner has registered, and nobody else: connect with user= and key=True, "
    "after `sysadm-nb bridge key add NAME login.pub` there."
)
TOKEN_LIFE_S = 840.0  # 900 since the last request, less what clocks and networks take


class Login:
    """A user and what proves it; never shows a secret.

    Parameters
    ----------
    user : str or None
        None: no login at all, which only ``identify`` needs.
    password : str or None
        None: looked up with `find_password`.
    key : path or private key, optional
        Logs in by RSA key (``auth_ssl``) instead of a password.
    """

    def __init__(self, user: str | None, password: str | None = None, key: Any = None) -> None:
        self.user = user
        self.key = key
        self._password = password
        self._token: str | None = None
        self._token_used = 0.0

    def __repr__(self) -> str:
        return f"<Login {self.user or 'nobody'}>"

    @property
    def needs_password(self) -> bool:
        return self.user is not None and self.key is None and self._password is None

    def set_password(self, password: str | None) -> None:
        self._password = password

    async def __call__(self, connection: Connection, timeout: float = 10.0, *, fresh: bool = True) -> None:
        """Log a connection in: by token where one still lives, then by key or password.

        Parameters
        ----------
        connection : Connection
        timeout : float
            Seconds for each step.
        fresh : bool
            Whether the connection is new. On one that was logged in already the token would log it out.
        """
        if self.user is None:
            return
        if fresh and self._token is not None and time.time() - self._token_used < TOKEN_LIFE_S:
            with contextlib.suppress(LoginRefused):
                await self._auth(connection, "auth_token", {"token": self._token}, timeout)
                return
        self._token = None
        if self.key is not None:
            from sysadm_nb.client import keys  # loads cryptography

            reply = await keys.login(connection, self.key, timeout=timeout)
            self._accept(connection, reply)
        elif self._password is not None:
            secret = {"username": self.user, "password": self._password}
            await self._auth(connection, "auth", secret, timeout)
        else:
            raise password_needed(self.user, connection.address)

    async def _auth(self, connection: Connection, call: str, args: dict[str, str], timeout: float) -> None:
        try:
            reply = await connection.request("rpc", call, args, timeout=timeout)
        except RequestRefused as error:
            if error.code == 403:
                raise _blocked(connection) from None
            raise LoginRefused(
                f"{connection.name} refused the login of {self.user!r}: wrong user name or password. "
                "After 5 failures servers block an address for an hour."
            ) from None
        except ConnectionLost as error:
            if "Authorization" in str(error):
                raise _blocked(connection) from None
            raise
        except RequestTimeout:
            raise RequestTimeout(
                f"{connection.name} did not answer the login of {self.user!r} within {timeout:g} s."
            ) from None
        self._accept(connection, reply)

    def _accept(self, connection: Connection, reply: Any) -> None:
        token = reply[0] if isinstance(reply, list) and reply else None
        if not isinstance(token, str) or not token:  # a bridge's way of saying no
            raise LoginRefused(f"{connection.name} refused the login of {self.user!r}. {BRIDGE_ADVICE}")
        self._token = token
        self.touch()
        connection.user = self.user

    def touch(self) -> None:
        """A request was made with the token just now, which renews it."""
        self._token_used = time.time()


def _blocked(connection: Connection) -> LoginBlocked:
    return LoginBlocked(
        f"{connection.name} takes no more logins from this address for a while, after too many failures: "
        "try again in an hour, or have the block removed on the server."
    )


def read_target(
    target: Any, user: str | None, password: str | None, key: Any
) -> tuple[Address, Login, str | None]:
    """Address, login and fingerprint; a server of this process tells its own."""
    if isinstance(target, str):
        return parse_address(target), Login(user, password, key), None
    url = getattr(target, "url", None)
    if not isinstance(url, str):
        raise InputError(
            f"A server is a URL such as 'wss://nas:12150' or what serve() returned, not {target!r}."
        )
    credentials = getattr(target, "credentials", None)
    if user is None and credentials is not None:
        user, password = credentials
    return parse_address(url), Login(user, password, key), getattr(target, "fingerprint", None)


def must_have_user(user: str | None, password: str | None, key: Any) -> None:
    """Refuse a proof of nobody: the connection would come about, and every request get a 401."""
    if user is None and (password is not None or key is not None):
        raise InputError("There is a password or key, but nobody to log in: pass user=... too.")


def password_needed(user: str, address: Address) -> PasswordNeeded:
    return PasswordNeeded(
        f"There is no password for {user!r} on {address}, and nobody to ask: pass password=..., set "
        f"{PASSWORD_VARIABLE}, or store it with keyring.set_password({KEYRING_SERVICE!r}, "
        f"'{user}@{address}', ...)."
    )


def find_password(user: str, address: Address) -> str | None:
    """Look a password up: in the environment, then in the keyring where one is installed."""
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is not None:
        return password
    try:
        import keyring
    except ImportError:
        return None
    try:
        found: str | None = keyring.get_password(KEYRING_SERVICE, f"{user}@{address}")
    except Exception:  # no back end, locked, no session bus: as good as not installed
        return None
    return found


def ask_password(user: str, address: Address) -> str:
    """Ask the person at the notebook or terminal."""
    import getpass

    return getpass.getpass(f"Password of {user} on {address}: ")
