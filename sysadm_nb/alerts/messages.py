"""A rule's message: checked when the rule is made, filled in when it fires."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from ..errors import RuleError
from ..tables.schema import Kind
from ..wire import format_size
from .conditions import ForecastWithin
from .durations import Duration, duration_text, duration_us
from .expressions import nearest

if TYPE_CHECKING:
    from .rule import Rule

_SAMPLES: Final[dict[Kind, Any]] = {"float": 0.5, "int": 1, "bool": True, "category": "", "text": ""}
_FORMATS: Final[dict[Kind, str]] = {
    "float": "write a number as {{{0}:.1f}} or {{{0}:size}}",
    "int": "write a number as {{{0}}} or {{{0}:size}}",
    "bool": "write true or false as {{{0}}}",
    "category": "write a text as {{{0}}}",
    "text": "write a text as {{{0}}}",
    "time": "write a time as {{{0}}}, which is UTC",
}


def message_of(rule: Rule, keys: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Fill in a rule's message; what is missing shows as ``?``."""
    out = []
    for literal, name, spec in rule.parts:
        out.append(literal)
        if name is not None:
            out.append(_formatted(keys[name] if name in keys else row.get(name), spec))
    return "".join(out)


def _formatted(value: Any, spec: str) -> str:
    if value is None:
        return "?"
    try:
        if spec == "size":
            return format_size(value)
        if spec == "time":
            return str(pd.Timestamp(value, unit="us", tz="UTC").strftime("%Y-%m-%d %H:%M UTC"))
        return format(value, spec)
    except Exception:
        # an odd value must not cost the message of an incident
        return str(value)


def default_message(rule: Rule) -> str:
    keys = " ".join(f"{{{name}}}" for name in rule.by or ())
    if rule.absent_us is not None:
        return f"{keys}: no {rule.table} row for more than {duration_text(rule.absent_us)}"
    if rule.condition is not None and rule.condition.value is not None and isinstance(rule.when, str):
        return f"{keys}: {rule.when.replace('{', '{{').replace('}', '}}')} (is {{value:.4g}})"
    if isinstance(rule.when, ForecastWithin):
        return f"{keys}: {rule.when.limit_pct:g} % full in about {{days:.0f}} days"
    return f"{keys}: {written(rule.when).replace('{', '{{').replace('}', '}}')}"


def message_parts(
    template: str, schema: Mapping[str, Kind], where: str
) -> tuple[tuple[str, str | None, str], ...]:
    """Plain text, the column after it and its format, for each part of a message."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise RuleError(
            f"{where}: message {template!r}: {error}; write {{{{ and }}}} for plain braces"
        ) from None
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if name != "value" and name not in schema:
            raise RuleError(f"{where}: message names no column: {name!r}{nearest(name, [*schema, 'value'])}")
        if conversion or "{" in (spec or ""):
            raise RuleError(f"{where}: message may format a column as in {{{name}:.1f}}, nothing else")
    return tuple(
        (literal, name, "" if name is None else _checked(name, spec or "", schema.get(name, "float"), where))
        for literal, name, spec, _ in parts
    )


def _checked(name: str, spec: str, kind: Kind, where: str) -> str:
    """The format of a column in a message, if its values can be written so."""
    if kind == "time" and spec in ("", "time"):
        return "time"
    if kind in ("float", "int") and spec == "size":
        return spec
    try:
        # four digits are no width for a message, but would cost memory
        if kind == "time" or re.search(r"\d{4}", spec):
            raise ValueError
        format(_SAMPLES[kind], spec)
    except ValueError:
        raise RuleError(
            f"{where}: message cannot write {name!r} as {{{name}:{spec}}}; {_FORMATS[kind].format(name)}"
        ) from None
    return spec


def written(when: Any) -> str:
    return when if isinstance(when, str) else f"{getattr(when, '__name__', 'function')}()"


def short(value: Duration | None) -> str:
    return "" if value is None else duration_text(duration_us(value))
