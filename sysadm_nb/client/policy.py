"""When to try again, and when not to."""

from __future__ import annotations

from typing import Final

from sysadm_nb.errors import (
    CertificateChanged,
    CertificateUnknown,
    InputError,
    LoginBlocked,
    LoginRefused,
)

BLOCKED_PAUSE_S: Final = 600.0  # a server that blocks an address forgets after ten quiet minutes


def pause_before_retry(outage_s: float, chance: float) -> float:
    """Seconds to wait before the next try: a tenth of the outage so far, a quarter second to a minute.

    Parameters
    ----------
    outage_s : float
        Seconds since the connection was lost.
    chance : float
        0 to 1, at random: up to half of the pause is left out, so that a thousand clients of a server that
        comes back do not all come at once.

    Examples
    --------
    >>> pause_before_retry(0, 1), pause_before_retry(50, 1), pause_before_retry(50, 0)
    (0.25, 5.0, 2.5)
    """
    return min(max(outage_s / 10, 0.25), 60.0) * (0.5 + chance / 2)


def is_permanent(error: BaseException) -> bool:
    """Whether trying again by itself would be useless, or harmful: it counts as a failed login."""
    if isinstance(error, LoginBlocked):
        return False
    return isinstance(error, (LoginRefused, CertificateChanged, CertificateUnknown, InputError))
