"""Logging in by an RSA key (``auth_ssl``) instead of a password.

The server sends a word, the client returns it encrypted with its private key (PKCS#1 v1.5, type 1, no
digest), and the server tries the public keys registered with it. Whoever gets such an answer can pass it on
to another server that knows the same key, so a key answers only to servers whose certificate is pinned or
verified, and only words that could not be the digest of anything.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sysadm_nb.errors import InputError, LoginRefused, RequestRefused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from sysadm_nb.client.connection import Connection

BITS: Final = 3072
LEAST_BITS: Final = 2048
_WORD: Final = re.compile(r"[!-~]{8,190}")  # a digest's encoding has control characters in it
_BRIDGE_CALL: Final = "rpc/settings"  # by which a bridge asks for key checksums


def default_path() -> Path:
    """Where the key of ``key=True`` is kept: ``login.pem`` in the user's configuration folder."""
    import platformdirs

    return platformdirs.user_config_path("sysadm_nb") / "login.pem"


def load(key: Any) -> RSAPrivateKey:
    """The private key meant by ``key=``.

    Parameters
    ----------
    key : True, path or RSAPrivateKey
        True: the one at `default_path`, which `register_key` makes.

    Raises
    ------
    InputError
        There is none, it is no RSA key of 2048 bits or more, needs a passphrase, or others may read it.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not isinstance(key, RSAPrivateKey):
        path = default_path() if key is True else Path(key).expanduser()
        try:
            if os.name == "posix" and path.stat().st_mode & 0o077:
                raise InputError(f"Others may read the private key {path}: chmod 600 {path}")
            key = load_pem_private_key(path.read_bytes(), password=None)
        except FileNotFoundError:
            raise InputError(
                f"There is no key {path}: log in by password once and call register_key(monitor)."
            ) from None
        except TypeError:
            raise InputError(f"The key {path} needs a passphrase, which cannot be given here.") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is no private key in PEM form: {error}") from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < LEAST_BITS:
        raise InputError(f"Servers take RSA keys of {LEAST_BITS} bits or more, and no others.")
    return key


def make(path: Path) -> RSAPrivateKey:
    """Make a private key, readable for its owner only, and beside it the public one (``….pub``)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    path.with_suffix(".pub").write_bytes(_public_pem(key))
    return key


def load_or_make(path: Path) -> RSAPrivateKey:
    """The key at `path`, made where there is none yet."""
    return load(path) if path.exists() else make(path)


def _public_pem(key: RSAPrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def public_text(key: RSAPrivateKey) -> str:
    """The public key as servers take it: base64 of its PEM text."""
    return base64.b64encode(_public_pem(key)).decode()


def checksum(key: RSAPrivateKey) -> str:
    """What bridges call a key: base64 of the MD5 of the public one's PEM text."""
    return base64.b64encode(hashlib.md5(_public_pem(key), usedforsecurity=False).digest()).decode()


def prove(key: RSAPrivateKey, word: object) -> str:
    """Encrypt a server's word with the private key; base64.

    Raises
    ------
    LoginRefused
        The word is none: it could be the digest of a document, and the answer a signature under it.
    """
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo

    if not isinstance(word, str) or not _WORD.fullmatch(word):
        raise LoginRefused(
            "The server asked to sign something that is no word of plain characters. That may be a trick: "
            "nothing was signed."
        )
    return base64.b64encode(key.sign(word.encode(), PKCS1v15(), NoDigestInfo())).decode()


async def login(connection: Connection, key: Any, *, timeout: float) -> Any:
    """Log a connection in by key; returns the reply, ``[token, seconds]``.

    Raises
    ------
    LoginRefused
        The server does not know the key, or nobody checked whose certificate it shows.
    """
    private = load(key)
    if not connection.certified:
        raise LoginRefused(
            f"A key answers only to a server whose certificate was checked, and {connection.name}'s was not. "
            'Connect with wss:// and verify="pin", True or a CA file.'
        )
    # a bridge wants to know, as soon as the login is done, whom this key may talk to
    connection.answers.setdefault(_BRIDGE_CALL, lambda args: {"md5_keys": [checksum(private)]})
    return await _two_steps(connection, private, "", timeout)


async def login_relayed(
    connection: Connection, key: Any, *, encode: Callable[[], None], timeout: float
) -> Any:
    """Log in to a server behind a bridge, over a connection that the bridge relays.

    `encode` is called when the first step is done: from then on bodies are base64, both ways.
    """
    private = load(key)
    which = {"action": "auth_ssl", "md5_key": checksum(private)}

    def read(word: object) -> str | None:
        encode()
        try:
            return base64.b64decode(str(word), validate=True).decode("ascii")
        except ValueError:
            return None

    return await _two_steps(connection, private, which, timeout, read)


async def _two_steps(
    connection: Connection,
    key: RSAPrivateKey,
    first: Any,
    timeout: float,
    read: Callable[[object], object] = lambda word: word,
) -> Any:
    try:
        reply = await connection.request("rpc", "auth_ssl", first, timeout=timeout)
        word = read(reply.get("test_string") if isinstance(reply, Mapping) else None)
        proof = {"encrypted_string": prove(key, word)}
        return await connection.request("rpc", "auth_ssl", proof, timeout=timeout)
    except RequestRefused as error:
        raise LoginRefused(
            f"{connection.name} does not take this key ({error.code}): register it there, with "
            "register_key(monitor) while logged in by password."
        ) from None


def register_key(
    monitor: Any,
    *,
    server: str | None = None,
    key: str | os.PathLike[str] | None = None,
    nickname: str | None = None,
    email: str = "",
    timeout: float = 60.0,
) -> Path:
    """Let a key of this machine log in, from now on, as the user whom a monitor is logged in as.

    Parameters
    ----------
    monitor : Monitor
        Logged in by password.
    server : str, optional
        Which of its servers; need not be named where there is only one.
    key : path, optional
        The private key, made where there is none yet; by default ``login.pem`` in the user's configuration
        folder, which ``key=True`` means.
    nickname, email : str, optional
        What the server's list of keys says of it; by default this host's name.
    timeout : float
        Seconds to wait for the server.

    Returns
    -------
    Path
        The private key's file: pass it, or True, as ``key=`` of `sysadm_nb.connect`.

    Raises
    ------
    RequestRefused
        The server takes no keys from this user.

    Examples
    --------
    ::

        monitor = sa.connect("wss://nas.example:12150", user="admin")
        sa.register_key(monitor)
        monitor = sa.connect("wss://nas.example:12150", user="admin", key=True)   # no password any more
    """
    path = default_path() if key is None else Path(key).expanduser()
    args = {
        "action": "register_ssl_cert",
        "pub_key": public_text(load_or_make(path)),
        "nickname": socket.gethostname() if nickname is None else nickname,
        "email": email,
    }
    monitor.request("rpc", "settings", args, server=server, timeout=timeout)
    return path
