"""Every error this library raises on purpose, as one tree.

::

    SysadmError
    ├── ConnectionFailed            no usable connection came about
    │   ├── HostUnknown             the name does not resolve
    │   ├── PortRefused             nothing listens there
    │   ├── ServerSilent            connected, but no answer in time
    │   ├── NotSysadm               something answers, but it is no SysAdm server
    │   ├── CertificateUnknown      first contact, and nobody there to ask
    │   └── CertificateChanged      not the certificate that was trusted before
    ├── LoginRefused                wrong user, password, token or key
    │   ├── PasswordNeeded          no password given, and nobody there to ask
    │   └── LoginBlocked            too many failures from this address
    ├── RequestRefused              the server answered with an error (``.code``)
    ├── RequestTimeout              no reply in time (also a ``TimeoutError``)
    ├── ConnectionLost              the connection ended while somebody waited
    ├── Closed                      used after ``close()`` or ``stop()``
    ├── RecordingError              not a recording, torn, or written by a newer version
    ├── RuleError                   an alert rule that cannot work (also a ``ValueError``)
    └── InputError                  an argument or table that cannot be used (also a ``ValueError``)

Each message is a sentence that says what happened and what to do about it.
"""

from __future__ import annotations


class SysadmError(Exception):
    """Base of every error raised by this library."""


class ConnectionFailed(SysadmError, OSError):
    """No usable connection to the server came about."""


class HostUnknown(ConnectionFailed):
    """The host name does not resolve to an address."""


class PortRefused(ConnectionFailed):
    """The host answers, but nothing listens on that port."""


class ServerSilent(ConnectionFailed, TimeoutError):
    """The connection was accepted, but nothing came back in time."""


class NotSysadm(ConnectionFailed):
    """Something answers there, but it is not a SysAdm server."""


class CertificateUnknown(ConnectionFailed):
    """The server's certificate was never seen before and nobody can be asked.

    Attributes
    ----------
    fingerprint : str
        SHA-256 of the certificate that the server showed; empty where no authority signed it.
    """

    def __init__(self, message: str, fingerprint: str = "") -> None:
        super().__init__(message)
        self.fingerprint = fingerprint


class CertificateChanged(ConnectionFailed):
    """The server shows another certificate than the one trusted before."""


class LoginRefused(SysadmError):
    """The server refused the user name, password, token or key."""


class PasswordNeeded(LoginRefused):
    """No password is known for this login and nobody can be asked."""


class LoginBlocked(LoginRefused):
    """The server takes no more logins from this address for a while."""


class RequestRefused(SysadmError):
    """The server answered a request with an error.

    Attributes
    ----------
    code : int
        400 bad request, 401 not logged in, 403 not allowed, 404 no such call.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class RequestTimeout(SysadmError, TimeoutError):
    """No reply, or no awaited event, came within the time allowed."""


class ConnectionLost(SysadmError):
    """The connection ended while something waited on it."""


class Closed(SysadmError):
    """The monitor, server or connection was closed before this call."""


class RecordingError(SysadmError):
    """The file is not a usable recording."""


class RuleError(SysadmError, ValueError):
    """An alert rule that cannot work as written."""


class InputError(SysadmError, ValueError):
    """An argument or a table that cannot be used as it is."""
