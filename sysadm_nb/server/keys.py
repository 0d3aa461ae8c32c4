"""Public keys that may log in, and the proof that somebody holds the private one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sysadm_nb.errors import InputError
from sysadm_nb.server.users import write_private

_MANY: Final = 1000
_LONGEST: Final = 16 * 1024
_LEAST_BITS: Final = 2048


class Keys:
    """The registered keys of all users, in memory and, given a path, in a file of mode 600.

    A key is known by what real servers call it: base64 of its PEM text.
    """

    def __init__(self, path: str | Path | None, clock: Callable[[], int]) -> None:
        self._path = Path(path) if path is not None else None
        self._clock = clock
        self._users: dict[str, dict[str, dict[str, str]]] = {}
        if self._path is not None and self._path.exists():
            try:
                self._users = json.loads(self._path.read_text())["keys"]
            except (ValueError, KeyError, TypeError):
                raise InputError(
                    f"{self._path} is no key file of this server: repair it, or move it away"
                ) from None

    def listed(self) -> dict[str, dict[str, str]]:
        """``{user: {key: description}}``, the reply to ``list_ssl_certs``."""
        return {
            user: {
                key: "Nickname: {nickname}\nEmail: {email}\nDate Registered: {date}".format(**about)
                for key, about in keys.items()
            }
            for user, keys in self._users.items()
        }

    def checksums(self) -> list[str]:
        """base64 of the MD5 of each key, by which a bridge knows who may talk to whom."""
        return sorted({checksum(key) for keys in self._users.values() for key in keys})

    def register(self, user: str, key: str, nickname: str = "", email: str = "") -> None:
        """Let the holder of a key log in as a user.

        Raises
        ------
        InputError
            If it is no RSA public key of 2048 bits or more, or there are a thousand already.
        """
        _load(key)
        if sum(len(keys) for keys in self._users.values()) >= _MANY:
            raise InputError(f"there are {_MANY} keys already: revoke some")
        date = datetime.fromtimestamp(self._clock() // 10**6).isoformat()
        self._users.setdefault(user, {})[key] = {"nickname": nickname, "email": email, "date": date}
        self._save()

    def revoke(self, user: str, key: str) -> bool:
        """Forget a key; False if there was none."""
        keys = self._users.get(user, {})
        if keys.pop(key, None) is None:
            return False
        if not keys:
            del self._users[user]
        self._save()
        return True

    def _save(self) -> None:
        if self._path is not None:
            write_private(self._path, json.dumps({"keys": self._users}, indent=1))

    def who(self, challenge: str, proof: str, md5_key: str | None = None) -> str | None:
        """The user whose private key encrypted the challenge, or None.

        Parameters
        ----------
        challenge : str
            What was sent.
        proof : str
            base64 of its RSA private-key encryption: PKCS#1 v1.5, type 1, no digest.
        md5_key : str, optional
            Only the key with this checksum.
        """
        try:
            signature = base64.b64decode(proof, validate=True)
        except (binascii.Error, ValueError):
            return None
        for user, keys in self._users.items():
            for key in keys:
                if md5_key is None or checksum(key) == md5_key:
                    recovered = _recover(key, signature)
                    if recovered is not None and hmac.compare_digest(recovered, challenge.encode()):
                        return user
        return None


def checksum(key: str) -> str:
    """base64 of the MD5 of the key's PEM text: a name for it, not a protection."""
    pem = base64.b64decode(key)
    return base64.b64encode(hashlib.md5(pem, usedforsecurity=False).digest()).decode()


def _load(key: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        if len(key) > _LONGEST:
            raise ValueError
        public = load_pem_public_key(base64.b64decode(key, validate=True))
    except Exception:  # binascii, ValueError, UnsupportedAlgorithm: it comes from a stranger
        raise InputError("a key is base64 of the PEM text of an RSA public key") from None
    if not isinstance(public, RSAPublicKey) or public.key_size < _LEAST_BITS:
        raise InputError(f"only RSA keys of {_LEAST_BITS} bits or more are taken")
    return public


def _recover(key: str, signature: bytes) -> bytes | None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    try:
        recovered: bytes = _load(key).recover_data_from_signature(signature, PKCS1v15(), None)
    except (InvalidSignature, ValueError, InputError):
        return None
    return recovered
