"""Whom to trust: certificates pinned on first use, or checked by an authority.

SysAdm servers sign their certificates themselves as a rule, so by default the SHA-256 fingerprint is what
counts: asked about once, before any password is sent, kept in the user's configuration folder, and compared
ever after. One small file a server, so that several kernels can write at once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import ssl
import tempfile
import warnings
from pathlib import Path
from urllib.parse import quote

from sysadm_nb.client.address import Address
from sysadm_nb.errors import CertificateChanged, CertificateUnknown, InputError

log = logging.getLogger("sysadm_nb")


class InsecureWarning(UserWarning):
    """A connection whose other end nobody checked."""


def tls_context(address: Address, verify: object) -> ssl.SSLContext | None:
    """Build the TLS settings for a connection; None for ``ws://``.

    Parameters
    ----------
    address : Address
    verify : {"pin", True, False} or path
        ``"pin"``: any certificate is taken, `check` decides. True: the system's authorities. A path: the
        authorities in that PEM file. False: nobody checks.
    """
    if not address.secure:
        return None
    if verify is True or (isinstance(verify, (str, os.PathLike)) and verify != "pin"):
        try:
            return ssl.create_default_context(cafile=None if verify is True else verify)
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                f"verify={verify!r} is no readable file of CA certificates in PEM form ({error}). "
                'Use verify="pin", True, False or the path of such a file.'
            ) from None
    if verify != "pin" and verify is not False:
        raise InputError(f'verify={verify!r}: use "pin", True, False or the path of a CA file.')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def fingerprint_of(certificate: bytes) -> str:
    """SHA-256 of a certificate in DER form, as pairs of hex digits.

    >>> fingerprint_of(b"")[:11]
    'E3:B0:C4:42'
    """
    return hashlib.sha256(certificate).digest().hex(":").upper()


def _normal(fingerprint: str) -> str:
    digits = fingerprint.upper().removeprefix("SHA256:").replace(":", "").replace(" ", "")
    if len(digits) != 64 or not set(digits) <= set("0123456789ABCDEF"):
        raise InputError(
            f"fingerprint={fingerprint!r} is no SHA-256 fingerprint: 64 hex digits, with or without colons "
            "(openssl x509 -noout -fingerprint -sha256 -in cert.pem prints it)."
        )
    return ":".join(digits[i : i + 2] for i in range(0, 64, 2))


def check(address: Address, certificate: bytes | None, verify: object, fingerprint: str | None) -> None:
    """Decide about the certificate that a server showed, before anything secret is sent.

    Raises
    ------
    CertificateUnknown
        Never seen and no ``fingerprint=`` given; the error's ``fingerprint`` is what the server showed.
    CertificateChanged
        Another one than is pinned, or than ``fingerprint=`` names.
    """
    if certificate is None or (verify is not False and verify != "pin" and fingerprint is None):
        return  # plain ws, or the authority has checked it in the handshake
    shown = fingerprint_of(certificate)
    if fingerprint is not None:
        wanted = _normal(fingerprint)
        if shown != wanted:
            raise CertificateChanged(
                f"{address} shows a certificate with the fingerprint {shown}, but fingerprint= names "
                f"{wanted}. "
                "Nothing was sent. If the server was set up anew, check the fingerprint there and pass the "
                "new one."
            )
        if verify == "pin":
            try:
                if pinned(address) != shown:
                    trust(address, shown)
            except OSError as error:  # a service may have no folder of its own, and was told whom to trust
                why = error.strerror or error
                log.warning("The fingerprint of %s cannot be kept in %s: %s", address, folder(), why)
        return
    if verify is False:
        return
    known = pinned(address)
    if known is None:
        raise CertificateUnknown(
            f"{address} was never met before; its certificate has the SHA-256 fingerprint {shown}. Compare "
            "it with "
            f'the one on the server, then connect once with fingerprint="{shown}" to trust it from now on.',
            shown,
        )
    if known != shown:
        raise CertificateChanged(
            f"{address} shows another certificate than before: trusted is {known}, shown is {shown}. "
            "Somebody may "
            "be listening in between; nothing was sent. If the server was set up anew, check the "
            "fingerprint there "
            f'and accept it by connecting once with fingerprint="{shown}".'
        )


def ask_to_trust(address: Address, fingerprint: str) -> bool:
    """Show a new server's fingerprint, ask whether to trust it, and keep the answer if it is yes."""
    answer = input(
        f"{address} was never met before. The SHA-256 fingerprint of its certificate is\n{fingerprint}\n"
        "Trust it from now on? [y/N] "
    )
    if answer.strip().lower() not in ("y", "yes"):
        return False
    trust(address, fingerprint)
    return True


def warn_insecure(address: Address, verify: object) -> None:
    """Say on every connect that nobody knows who is at the other end."""
    if verify is False and (address.secure or not address.loopback):
        what = "its certificate is not checked" if address.secure else "ws:// is not encrypted"
        # With a registry of its own the warning comes every time, not once for each line of code.
        warnings.warn_explicit(
            f"The connection to {address} is insecure (verify=False): {what}, and the password goes to "
            "whoever answers.",
            InsecureWarning,
            __file__,
            0,
            registry={},
        )


def folder() -> Path:
    """Where the fingerprints are kept."""
    import platformdirs

    return platformdirs.user_config_path("sysadm_nb") / "servers"


def _file(address: Address) -> Path:
    return folder() / f"{quote(address.host.lower(), safe='')}_{address.port}.sha256"


def pinned(address: Address) -> str | None:
    """The fingerprint trusted for a server, or None."""
    try:
        return _normal(_file(address).read_text("ascii").strip())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # not "none": another certificate would be asked about as if it were the first
        raise CertificateChanged(
            f"The file with the trusted fingerprint of {address} cannot be read ({error.strerror}): "
            f"{_file(address)}. Make it readable, or name the certificate with fingerprint=."
        ) from None
    except (InputError, UnicodeDecodeError):
        raise CertificateChanged(
            f"The file with the trusted fingerprint of {address} is damaged: {_file(address)}. Delete it, "
            "and the "
            "next connection asks again."
        ) from None


def trust(address: Address, fingerprint: str) -> None:
    """Keep a server's fingerprint, in place of the one before."""
    file = _file(address)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent)  # mode 600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as out:
            out.write(_normal(fingerprint) + "\n")
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def forget(address: Address) -> None:
    """Trust a server no longer; the next connection asks again."""
    _file(address).unlink(missing_ok=True)
