"""How good a rule is: what it finds of the periods a person marked, how soon, and how often it cries wolf."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Any, Final

import numpy as np
import pandas as pd

from ..errors import InputError, RuleError
from .backtest import Moment, Source, backtest, clock_at, everything, moment_us
from .expressions import words_for_signs
from .rule import Rule, with_options

WEEK_US: Final = 7 * 86_400_000_000


def evaluate(
    rules: Iterable[Rule], source: Source, labels: pd.DataFrame, start: Moment = None, end: Moment = None
) -> pd.DataFrame:
    """Hold what rules find against the periods that really were incidents.

    An incident is right when it overlaps a marked period of the same key (labels without key columns are of
    all keys; a column ``rule`` ties a period to one rule). A period is found when an incident overlaps it.

    Parameters
    ----------
    rules : iterable of Rule
    source : monitor, recording, tables, mapping or DataFrame
    labels : DataFrame
        ``start`` and ``end`` of each period (``end`` missing: still going on), and key columns such as
        ``server`` and ``pool``, or some of them.
    start, end : optional
        Part of the past, as in `backtest`.

    Returns
    -------
    DataFrame
        One row a rule: ``rule``, ``incidents``, ``right``, ``false_alarms``, ``periods``, ``found``,
        ``precision`` and ``recall`` (0 to 1, NaN where there is nothing to divide by), ``delay`` (median time
        from the start of a period to the first message, NaT where nothing was found; an alarm that was
        already firing counts as no delay), ``false_alarms_per_week``, ``total`` (time spent firing) and
        ``longest``.

    Raises
    ------
    InputError
        `labels` lacks ``start`` or ``end``.
    """
    rules = list(rules)
    known = backtest(rules, source, start, end)
    span = _span(source, start, end)
    periods = _periods(labels, span[1])
    rows = [_judged(rule, known[known["rule"] == rule.name], periods, span) for rule in rules]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)


_COLUMNS: Final = {
    "rule": "str",
    "incidents": "int64",
    "right": "int64",
    "false_alarms": "int64",
    "periods": "int64",
    "found": "int64",
    "precision": "float64",
    "recall": "float64",
    "delay": "timedelta64[us]",
    "false_alarms_per_week": "float64",
    "total": "timedelta64[us]",
    "longest": "timedelta64[us]",
}


def sweep(
    rule: Rule,
    source: Source,
    labels: pd.DataFrame | None = None,
    *,
    start: Moment = None,
    end: Moment = None,
    **settings: Any,
) -> pd.DataFrame:
    """A rule under several settings.

    Parameters
    ----------
    rule : Rule
    source : monitor, recording, tables, mapping or DataFrame
    labels : DataFrame, optional
        Real incidents, as for `evaluate`; without them nothing is known of false alarms.
    **settings : value or iterable of values
        ``threshold`` (the number that the expression compares with; a threshold in `until` moves along) or
        any option of `Rule`, such as ``for_=["15min", "1h"]``. Several make every combination.

    Returns
    -------
    DataFrame
        A row a setting: the settings, then the columns of `evaluate` but for ``rule``; without labels only
        ``incidents``, ``total`` and ``longest``.
    """
    if not settings:
        raise InputError("sweep() needs a setting to vary, such as threshold=range(60, 96, 5)")
    options = {
        name: [values] if isinstance(values, str) or not isinstance(values, Iterable) else list(values)
        for name, values in settings.items()
    }
    names, rows = list(options), []
    variants, chosen = [], list(product(*options.values()))
    for number, values in enumerate(chosen):
        changed = dict(zip(names, values, strict=True))
        variant = with_threshold(rule, changed.pop("threshold")) if "threshold" in changed else rule
        variants.append(with_options(variant, **{**changed, "name": f"{number}"}))
    known = backtest(variants, source, start, end)
    span = _span(source, start, end)
    periods = _periods(labels if labels is not None else pd.DataFrame({"start": [], "end": []}), span[1])
    for variant, values in zip(variants, chosen, strict=True):
        judged = _judged(variant, known[known["rule"] == variant.name], periods, span, rule.name)
        shown = judged if labels is not None else {k: judged[k] for k in ("incidents", "total", "longest")}
        rows.append(dict(zip(names, values, strict=True)) | {k: v for k, v in shown.items() if k != "rule"})
    frame = pd.DataFrame(rows)
    return frame.astype({name: dtype for name, dtype in _COLUMNS.items() if name in frame.columns})


def with_threshold(rule: Rule, threshold: float) -> Rule:
    """A rule with another number in its first comparison; that of `until` moves by as much.

    >>> rule = Rule("nearly full", "pools", "capacity_pct > 80", until="capacity_pct < 75")
    >>> with_threshold(rule, 90)
    Rule 'nearly full': pools capacity_pct > 90 until capacity_pct < 85 by server, pool → warning
    """
    if not isinstance(rule.when, str) or threshold_of(rule.when) is None:
        raise RuleError(f"rule {rule.name!r} has no number to vary; it needs one as in 'capacity_pct > 80'")
    by = float(threshold) - (threshold_of(rule.when) or 0.0)
    until = rule.until
    if isinstance(until, str) and threshold_of(until) is not None:
        until = _moved(until, by)
    return with_options(rule, when=_moved(rule.when, by), until=until)


def threshold_of(expression: str) -> float | None:
    """The number of the first comparison with one, or None.

    >>> threshold_of("health == 'ONLINE' and capacity_pct > 80")
    80.0
    """
    found = _first_number(ast.parse(words_for_signs(expression), mode="eval"))
    return None if found is None else float(ast.literal_eval(found[1]))


def _first_number(tree: ast.AST) -> tuple[ast.Compare, ast.expr] | None:
    for node in _in_order(tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Gt | ast.GtE | ast.Lt | ast.LtE):
            for part in (node.comparators[0], node.left):
                inner = part.operand if isinstance(part, ast.UnaryOp) else part
                if isinstance(inner, ast.Constant) and type(inner.value) in (int, float):
                    return node, part
    return None


def _in_order(node: ast.AST) -> Iterable[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)


def _moved(expression: str, by: float) -> str:
    text = words_for_signs(expression)
    tree = ast.parse(text, mode="eval")
    found = _first_number(tree)
    assert found is not None
    old = found[1]
    number = f"{round(float(ast.literal_eval(old)) + by, 9):.15g}"
    assert old.end_lineno is not None and old.end_col_offset is not None
    # the parser counts lines from 1 and bytes within the line
    raw = text.encode()
    begins = [0, *accumulate(map(len, raw.splitlines(keepends=True)))]
    start = begins[old.lineno - 1] + old.col_offset
    end = begins[old.end_lineno - 1] + old.end_col_offset
    return (raw[:start] + number.encode() + raw[end:]).decode()


@dataclass(frozen=True)
class _Period:
    start: int
    end: int
    keys: dict[str, Any]


def _periods(labels: pd.DataFrame, now: int) -> list[_Period]:
    missing = [name for name in ("start", "end") if name not in labels.columns]
    if missing:
        raise InputError(
            f"labels lacks the column {missing[0]!r}; it needs start and end of each real incident, and "
            f"may have key columns such as server and pool; it has: {', '.join(map(str, labels.columns))}"
        )
    out = []
    names = [str(n) for n in labels.columns if n not in ("start", "end", "note", "time")]
    for row in labels.to_dict("records"):
        first = moment_us(row["start"])
        last = now if pd.isna(row["end"]) else moment_us(row["end"])
        if first is None or last is None or last < first:
            raise InputError(f"a labelled period ends before it starts: {row['start']} to {row['end']}")
        out.append(_Period(first, last, {n: row[n] for n in names if not pd.isna(row[n])}))
    return out


def against(rule: Rule, known: pd.DataFrame, labels: pd.DataFrame, span: tuple[int, int]) -> dict[str, Any]:
    """One row of `evaluate`, for incidents that are known already; `span` in microseconds."""
    return _judged(rule, known, _periods(labels, span[1]), span)


def _judged(
    rule: Rule, known: pd.DataFrame, periods: list[_Period], span: tuple[int, int], name: str | None = None
) -> dict[str, Any]:
    mine = [p for p in periods if p.keys.get("rule", name or rule.name) == (name or rule.name)]
    fired = known["fired"].to_numpy("datetime64[us]").astype(np.int64)
    resolved = known["resolved"].to_numpy("datetime64[us]")
    over = np.where(np.isnat(resolved), span[1], resolved.astype(np.int64))
    right = np.zeros(len(known), bool)
    delays = []
    for period in mine:
        hit = (fired <= period.end) & (over >= period.start)
        for key, value in period.keys.items():
            if key in (rule.by or ()):
                hit &= (known[key].astype("str") == str(value)).to_numpy(bool)
        right |= hit
        if hit.any():
            delays.append(max(int(fired[hit].min()) - period.start, 0))
    weeks = (span[1] - span[0]) / WEEK_US
    lengths = over - fired
    false = int((~right).sum())
    return {
        "rule": rule.name,
        "incidents": len(known),
        "right": int(right.sum()),
        "false_alarms": false,
        "periods": len(mine),
        "found": len(delays),
        "precision": right.sum() / len(known) if len(known) else float("nan"),
        "recall": len(delays) / len(mine) if mine else float("nan"),
        "delay": pd.Timedelta(microseconds=float(np.median(delays)))
        if delays
        else np.timedelta64("NaT", "us"),
        "false_alarms_per_week": false / weeks if weeks > 0 else float("nan"),
        "total": pd.Timedelta(microseconds=int(lengths.sum())),
        "longest": pd.Timedelta(microseconds=int(lengths.max(initial=0))),
    }


def _span(source: Source, start: Moment, end: Moment) -> tuple[int, int]:
    frames = everything(source)
    first, last = moment_us(start), moment_us(end)
    times = [f["time"].min() for f in frames.values() if len(f) and "time" in f.columns]
    if first is None:
        first = min((int(t.value) // 1000 for t in times), default=0)
    if last is None:
        last = clock_at(frames) or first
    return first, last
