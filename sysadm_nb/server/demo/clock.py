"""The simulated machine's dates as text. Its clock is UTC; the names of days do not follow the locale."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sysadm_nb.server.demo.storage import SECOND

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def moment(time: int) -> datetime:
    return datetime.fromtimestamp(time // SECOND, UTC)


def log_date(time: int) -> str:
    """``Mon Nov 23 07:21:12 UTC 2026``, as date(1) prints it."""
    at = moment(time)
    return f"{DAYS[at.weekday()]} {MONTHS[at.month - 1]} {at.day:2} {at:%H:%M:%S} UTC {at.year}"


def status_date(time: int) -> str:
    """``Mon Nov 23 07:21:12 2026``, as ``zpool status`` prints it."""
    return log_date(time).replace("UTC ", "")


def stamp(time: int) -> str:
    """``2026-11-23-07-21-12``, as snapshots are named."""
    return f"{moment(time):%Y-%m-%d-%H-%M-%S}"


def local(time: int) -> str:
    """ISO 8601 without a zone, as the dispatcher writes its times."""
    return moment(time).isoformat().removesuffix("+00:00")


def span(time: int) -> str:
    """``09:12:44`` or ``1 days 02:11:00``, as ``zpool status`` prints a duration."""
    seconds = time // SECOND
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} days {clock}" if days else clock
