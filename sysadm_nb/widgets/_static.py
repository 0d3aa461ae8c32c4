"""Tables and lines for the forms of a view that have no browser module: static HTML and plain text."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)

# Inline, because notebook sites strip style sheets; what they strip too is decoration only.
_CELL = "padding:3px 12px 3px 0;text-align:left;vertical-align:top;border:0"


def clean(text: object) -> str:
    """Text of a server in one line: without control characters and terminal sequences.

    >>> clean("\\x1b[31mred\\x1b[0m\\nline")
    'red line'
    """
    return _CONTROL.sub(lambda match: " " if match[0] in "\n\t\r" else "", str(text))


def table_html(
    title: str, summary: str, head: Sequence[str], rows: Iterable[Sequence[object]], more: int = 0
) -> str:
    """A caption and a table; every value is escaped."""
    cells = "".join(f'<th style="{_CELL};font-weight:600">{html.escape(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{html.escape(clean(value))}</td>' for value in row) + "</tr>"
        for row in rows
    )
    rest = f"<p><em>and {more:,} more</em></p>" if more > 0 else ""
    head_body = f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody>"
    table = f'<table style="border-collapse:collapse">{head_body}</table>'
    return (
        f"<p><strong>{html.escape(title)}</strong> · {html.escape(summary)}</p>{table if body else ''}{rest}"
    )


def table_text(summary: str, head: Sequence[str], rows: Iterable[Sequence[object]], more: int = 0) -> str:
    """The same for a terminal.

    >>> print(table_text("Pools: 1", ["pool", "used"], [["tank", "12%"]]))
    Pools: 1
    pool  used
    tank  12%
    """
    lines = [[clean(value) for value in row] for row in rows]
    if not lines:
        return summary
    lines.insert(0, list(head))
    widths = [min(max(len(line[i]) for line in lines), 48) for i in range(len(head))]
    text = [
        "  ".join(value[: widths[i]].ljust(widths[i]) for i, value in enumerate(line)).rstrip()
        for line in lines
    ]
    return "\n".join([summary, *text, *([f"... and {more:,} more"] if more > 0 else [])])


def moment(us: int | None) -> str:
    """A time in microseconds since the epoch as UTC text, to the second.

    >>> moment(1795418100000000)
    '2026-11-23 07:15:00Z'
    """
    return "" if us is None else datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def seconds(value: float | None) -> str:
    """A duration, short.

    >>> seconds(3.21), seconds(75), seconds(3700), seconds(None)
    ('3.2 s', '1:15 min', '1:01 h', '')
    """
    if value is None or math.isnan(value):
        return ""
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value // 60)}:{int(value % 60):02} min"
    return f"{int(value // 3600)}:{int(value % 3600 // 60):02} h"
