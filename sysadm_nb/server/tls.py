"""Certificates: the self-signed one a server makes at its first start, and its fingerprint."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import ipaddress
import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sysadm_nb.errors import InputError
from sysadm_nb.server.users import write_private

# The original client takes RSA from 2048 bits on, self-signed, with valid dates; names don't matter to it.
_BITS: Final = 3072
_YEARS: Final = 10


def make_certificate(certificate: Path, key: Path, hostname: str) -> None:
    """Make a self-signed certificate and its key, the key readable for its owner only.

    Parameters
    ----------
    certificate, key : Path
        PEM files to write.
    hostname : str
        Goes into the certificate, with ``localhost`` and the loopback addresses.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    private = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64] or "sysadm-nb")])
    now = datetime.now(UTC)
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    if hostname.isascii() and hostname not in ("", "localhost"):
        names.insert(0, x509.DNSName(hostname))
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + timedelta(days=365 * _YEARS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(key, pem.decode())
    certificate.parent.mkdir(parents=True, exist_ok=True)
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def context(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    """A server's TLS context: TLS 1.2 and newer.

    Raises
    ------
    InputError
        If the files cannot be read or do not fit each other, or others may read the key.
    """
    key = key or certificate
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION
    try:
        mode = key.stat().st_mode
        if os.name == "posix" and mode & 0o007:
            raise InputError(f"anybody may read the private key {key}: chmod 600 {key}")
        made.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"the certificate {certificate} with the key {key} cannot be used: {error}"
        ) from None
    return made


def fingerprint(certificate: Path) -> str:
    """SHA-256 of the certificate, as clients show it: ``AB:CD:…``."""
    text = certificate.read_text()
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    first = text[text.index(begin) : text.index(end) + len(end)]
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """The server's own certificate and key in its state folder, made when there is none yet."""
    certificate, key = folder / "server.crt", folder / "server.key"
    if not (certificate.exists() and key.exists()):
        make_certificate(certificate, key, socket.gethostname())
    return certificate, key


@functools.cache
def _public_key() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


async def throwaway_public_key() -> bytes:
    """PEM of a public key whose private one is gone."""
    return await asyncio.to_thread(_public_key)
