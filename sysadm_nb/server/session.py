"""One client of the server: its login, its subscriptions, the order of its replies. No socket in here."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sysadm_nb import wire
from sysadm_nb.server import tls
from sysadm_nb.server.calls import Caller, Parts, Refused, call
from sysadm_nb.server.hub import Carrier, Hub
from sysadm_nb.server.limits import Limits
from sysadm_nb.server.login import Failures, Login, Tokens, is_token, random_word
from sysadm_nb.server.users import Users

log = logging.getLogger(__name__)

TOO_MANY: Final = "Too Many Authorization Failures - Try again later"
"""Why a connection is closed after a 403, or once its address is blocked: the words of real servers."""


@dataclass
class Services:
    """What all sessions of a server share."""

    users: Users
    tokens: Tokens
    failures: Failures
    hub: Hub
    parts: Parts
    limits: Limits
    hostname: str
    clock: Callable[[], float]


class Session:
    """One client, whatever carries its frames.

    Attributes
    ----------
    address : str
        By which failed logins are counted.
    base64 : bool
        True once a relayed client took the first step of ``auth_ssl``: bodies are base64 both ways then.
    since, heard : float
        When it came, and when it last said something, in seconds of the server's clock.
    known : bool
        It has logged in at some time.
    """

    def __init__(self, services: Services, carrier: Carrier, address: str, *, relayed: bool = False) -> None:
        self._services, self._carrier, self._relayed = services, carrier, relayed
        self.address = address
        self.base64 = False
        self.known = False
        self.since = self.heard = services.clock()
        self._token: str | None = None
        self._challenge: tuple[str, float, str | None] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Session {self.address} {'logged in' if self._token else 'not logged in'}>"

    async def receive(self, text: str | bytes) -> None:
        """Take one request; returns when the next may be taken."""
        self.heard = self._services.clock()
        request = wire.decode_request(text)
        if isinstance(request, wire.BadRequest):
            # Real servers end the first line at a NUL as well.
            self._send(wire.encode_error(400, request.id), request.prefix.partition("\0")[0])
            return
        try:
            args = await self._answer(request)
        except Refused as refusal:
            self._refuse(request, refusal)
            return
        if args is not _ANSWERED:
            self._reply(request, args)

    def end(self) -> None:
        """The carrier is gone."""
        self._services.hub.leave(self._carrier)
        for task in list(self._calls):
            task.cancel()

    # --- answers --------------------------------------------------------------------------------------------

    async def _answer(self, request: wire.Request) -> Any:
        namespace, name = request.namespace.lower(), request.name
        if namespace == "rpc":
            if name == "identify":
                return {"hostname": self._services.hostname, "type": "server"}
            if name.startswith("auth"):
                return await self._authenticate(name, request.args)
        login = self._login()
        if login is None:
            raise Refused(401)
        if namespace == "events":
            return self._subscribe(request)
        # The rest may take its time: it must not hold up the client's other requests.
        if len(self._calls) >= self._services.limits.calls_at_once:
            await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._call(request, login))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return _ANSWERED

    async def _call(self, request: wire.Request, login: Login) -> None:
        try:
            caller = Caller(self.address, self._relayed)
            args = await call(
                self._services.parts, login, request.namespace, request.name, request.args, caller
            )
        except Refused as refusal:
            self._refuse(request, refusal)
        except Exception:
            # The request is data and may hold a secret: its name is enough to find the fault.
            log.exception("request %.60r/%.60r failed", request.namespace, request.name)
            self._refuse(request, Refused(400))
        else:
            self._reply(request, args)

    def _reply(self, request: wire.Request, args: Any) -> None:
        name = "response" if request.id else request.name
        self._send(wire.encode(request.namespace, name, args, request.id), request.peer)

    def _refuse(self, request: wire.Request, refusal: Refused) -> None:
        self._send(wire.encode_error(refusal.code, request.id), request.peer)
        if refusal.closes:
            self._carrier.close(1000, TOO_MANY)

    def _send(self, text: str, prefix: str | None = None) -> None:
        self._services.hub.flush()  # a reply does not overtake what happened before it
        self._carrier.send(f"{prefix}\n{text}" if prefix else text)

    # --- login ----------------------------------------------------------------------------------------------

    def _login(self) -> Login | None:
        """The login as of now; every request that asks for it lets the token live on."""
        if self._token is None:
            return None
        login = self._services.tokens.use(self._token)
        role = None if login is None else self._services.users.role(login.user)
        if login is None or role is None:  # the token is too old, or the user was taken out
            self._logout()
            return None
        login.role = role
        return login

    def _logout(self) -> None:
        if self._token is not None:
            self._services.tokens.revoke(self._token)
            self._token = None

    async def _authenticate(self, name: str, args: Any) -> Any:
        fields = args if isinstance(args, dict) else {}
        if name == "auth_ssl" and "encrypted_string" not in fields:
            return await self._challenge_key(fields.get("md5_key"))
        # As on real servers: whoever tries to log in anew is logged out first, also with the token in use.
        self._logout()
        if name == "auth_clear":
            return _ANSWERED
        self._refuse_blocked()
        if name == "auth":
            token = await self._by_password(fields)
        elif name == "auth_token":
            token = self._by_token(fields)
        elif name == "auth_ssl":
            token = self._by_key(fields)
        else:
            raise Refused(401)
        if token is None:
            log.warning("failed login (%s) from %s", name, self.address)
            blocks = self._services.failures.failed(self.address)
            if blocks:
                log.warning("logins from %s are blocked", self.address)
            raise Refused(401, closes=blocks)
        self._services.failures.succeeded(self.address)
        self._token = token
        if not self.known:
            self.known = True
            self._services.hub.join(self._carrier)
        return [token, int(self._services.limits.token_life)]

    def _refuse_blocked(self) -> None:
        if self._services.failures.blocked(self.address):
            raise Refused(401, closes=True)

    async def _by_password(self, fields: dict[str, Any]) -> str | None:
        user, password = fields.get("username"), fields.get("password")
        if not isinstance(user, str) or not isinstance(password, str):
            raise Refused(401)  # no attempt at anybody's password: not counted
        if not password:
            # Nobody has an empty one. The original client tries it from 127.0.0.1, again every minute, and
            # would have everybody on this machine blocked.
            raise Refused(401)
        if self._relayed:
            raise Refused(401)  # a bridge's owner could read it
        async with self._services.users.turn:
            # Others of this address may have failed while it waited. Nobody has a turn before the failure of
            # the one before is counted: from here to there nothing else is awaited.
            self._refuse_blocked()
            role = await self._services.users.check(user, password)
        return self._issue(user, role)

    def _by_token(self, fields: dict[str, Any]) -> str | None:
        token = fields.get("token")
        if not isinstance(token, str):
            raise Refused(401)
        login = self._services.tokens.use(token)
        if login is None and is_token(token):
            # A token ends with the server that gave it; whoever comes back after a restart tries it first.
            # It is not counted: nobody can guess one, and monitors of one address must not block each other.
            log.info("outdated token from %s", self.address)
            raise Refused(401)
        return token if login is not None and self._services.users.role(login.user) is not None else None

    def _by_key(self, fields: dict[str, Any]) -> str | None:
        proof = fields.get("encrypted_string")
        if self._challenge is None or not isinstance(proof, str):
            raise Refused(401)
        word, expires, md5_key = self._challenge
        if self._services.clock() > expires:
            raise Refused(401)
        user = self._services.parts.keys.who(word, proof, md5_key)
        if user is None:
            return None
        self._challenge = None  # good for one login
        return self._issue(user, self._services.users.role(user))

    def _issue(self, user: str, role: str | None) -> str | None:
        return None if role is None else self._services.tokens.issue(user, role)

    async def _challenge_key(self, md5_key: Any) -> dict[str, str]:
        word = random_word(40)
        expires = self._services.clock() + self._services.limits.challenge_life
        if not self._relayed:
            self._challenge = (word, expires, None)
            return {"test_string": word}
        if md5_key not in self._services.parts.keys.checksums():
            raise Refused(401)
        self._challenge = (word, expires, md5_key)
        self.base64 = True
        # The original means to encrypt what follows with this key and does not: it is asked for, not used.
        pem = await tls.throwaway_public_key()
        return {
            "new_ssl_key": base64.b64encode(pem).decode(),
            "test_string": base64.b64encode(word.encode()).decode(),
        }

    # --- subscriptions --------------------------------------------------------------------------------------

    def _subscribe(self, request: wire.Request) -> dict[str, str]:
        action, args = request.name, request.args
        names = [args] if isinstance(args, str) else args
        if action not in ("subscribe", "unsubscribe") or not isinstance(names, list) or not names:
            raise Refused(400)
        valid = list(dict.fromkeys(name for name in names if isinstance(name, str) and name in wire.CLASSES))
        hub = self._services.hub
        now = hub.classes(self._carrier)
        if action == "unsubscribe":
            hub.join(self._carrier, now - set(valid))
        else:
            hub.join(self._carrier, now | set(valid))
            for name in valid:
                last = hub.last(name)
                if last is not None:
                    self._send(last, request.peer)
        last_valid = [name for name in names if isinstance(name, str) and name in wire.CLASSES][-1:]
        return {action: last_valid[0]} if last_valid else {}


_ANSWERED: Final = object()
"""The reply is on its way already, or there is none."""
