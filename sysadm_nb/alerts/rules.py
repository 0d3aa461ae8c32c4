"""What an alert rule is, and sets of rules."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from ..errors import RuleError
from ..tables.schema import SCHEMA, Kind
from ..wire import format_size
from .durations import Duration, duration_text, duration_us
from .expressions import Expression, compile_expression, nearest
from .functions import Function, RowFunction, WindowFunction, check_function

if TYPE_CHECKING:
    from .backtest import Source

SEVERITIES: Final = ("info", "warning", "critical")

FORECAST: Final[dict[str, Kind]] = {
    "time": "time",
    "server": "category",
    "pool": "category",
    "capacity_pct": "float",
    "size_bytes": "float",
    "alloc_bytes": "float",
    "growth_bytes_per_day": "float",
    "days": "float",
    "days_lower": "float",
    "days_upper": "float",
    "probability": "float",
}
"""Columns of the ``forecast`` table: what `trends.forecast` said at a sample of a pool."""

RULE_TABLES: Final[dict[str, dict[str, Kind]]] = {
    **{name: columns for name, columns in SCHEMA.items() if name != "commands"},
    "forecast": FORECAST,
}
DEFAULT_BY: Final[dict[str, tuple[str, ...]]] = {
    "events": ("server",),
    "jobs": ("server", "process_id", "run"),
    "pools": ("server", "pool"),
    "system": ("server",),
    "life_preserver": ("server", "dataset"),
    "bridge": ("server", "peer"),
    "connection": ("server",),
    "forecast": ("server", "pool"),
}
SAMPLED: Final = frozenset({"pools", "system", "forecast"})


@dataclass(frozen=True)
class Absent:
    """A condition: no row for longer than `after`. Made by `absent`."""

    table: str
    by: tuple[str, ...] | None
    after: Duration
    where: str | None = None


@dataclass(frozen=True)
class ForecastWithin:
    """A condition: the limit is forecast to be reached within `days`. Made by `forecast_within`."""

    days: float
    limit_pct: float
    every: Duration
    history: Duration


def absent(
    table: str, *, by: Sequence[str] | None = None, after: Duration = "45min", where: str | None = None
) -> Absent:
    """The condition that rows of a table have stopped coming.

    Parameters
    ----------
    table : str
        A table of the monitor, such as ``"pools"``.
    by : sequence of str, optional
        What must keep coming, each by itself; by default the table's own keys. A key counts from its first
        row on.
    after : duration
        A silence longer than this fires.
    where : str, optional
        Only rows for which this expression holds are signs of life.

    Examples
    --------
    >>> rules = Rules()
    >>> rules.add("no samples", absent("pools", by=["server", "pool"], after="45min"))
    Rule 'no samples': no pools row by server, pool for 45min → warning
    """
    return Absent(table, None if by is None else tuple(by), after, where)


def forecast_within(
    days: float = 14, limit_pct: float = 90, *, every: Duration = "6h", history: Duration = "30D"
) -> ForecastWithin:
    """The condition that a pool is forecast to reach a limit soon.

    Parameters
    ----------
    days : float
        How soon.
    limit_pct : float
        The limit, percent of the pool's size.
    every : duration
        How often each pool is forecast.
    history : duration
        How far back the forecast looks.

    Examples
    --------
    >>> rules = Rules()
    >>> rules.add("full in two weeks", forecast_within(days=14, limit_pct=90), severity="critical")
    Rule 'full in two weeks': forecast days <= 14 (to 90 %) by server, pool → critical
    """
    return ForecastWithin(float(days), float(limit_pct), every, history)


@dataclass(frozen=True)
class Rule:
    """A condition on the rows of a table, and what to make of it.

    Parameters
    ----------
    name : str
        Unique in its set.
    table : str
        ``events``, ``jobs``, ``pools``, ``system``, ``life_preserver``, ``bridge``, ``connection`` or
        ``forecast``. For jobs a row is one change of a job.
    when : str, callable, Absent or ForecastWithin
        The condition: an expression (see `alerts.expressions`), or a function from a DataFrame to a boolean
        Series that judges each row by itself; with `window` the function gets the rows of one key within
        that time, the newest last, and may return one boolean.
    by : sequence of str, optional
        Columns whose values are judged apart, by default the table's own keys.
    for_ : duration
        How long it must hold before it fires.
    keep_for : duration, optional
        How long it goes on firing after the condition ended.
    until : str or callable, optional
        Once firing, only this ends it (hysteresis); by default the end of `when` does.
    window : duration, optional
        Lets `when` see the rows of its key within this time.
    severity : {"info", "warning", "critical"}
    message : str, optional
        Text with columns in braces, ``"{pool} is {capacity_pct:.0f} % full"``; also ``{value}``, the measured
        value. Sizes can be written as ``{free_bytes:size}``.
    labels : mapping of str to str, optional
    max_gap : duration or None
        How long a gap the condition holds through; None lets it hold through any. In pools, system and
        forecast a gap is a time without rows of the key, in other tables one in which the connection to the
        server was down.
    stands : duration, optional
        How long a row stands when no other of its key comes, in tables other than pools, system and
        forecast; for what nothing ever ends, such as a failed job. Unlimited by default.
    reason : str, optional
        Why the rule is worth having; goes along with notifications.

    Raises
    ------
    RuleError
        Something does not fit: an unknown table or column, a bad expression, a function that fails.

    Examples
    --------
    >>> Rule("nearly full", "pools", "capacity_pct > 80", for_="30min", until="capacity_pct < 75")
    Rule 'nearly full': pools capacity_pct > 80 for 30min until capacity_pct < 75 by server, pool → warning
    """

    name: str
    table: str
    when: str | Function | Absent | ForecastWithin
    by: Sequence[str] | None = None
    for_: Duration = 0
    keep_for: Duration | None = None
    until: str | Function | None = None
    window: Duration | None = None
    severity: str = "warning"
    message: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    max_gap: Duration | None = "45min"
    stands: Duration | None = None
    reason: str = ""

    # worked out once, so that the evaluator only looks
    for_us: int = field(init=False, repr=False, compare=False)
    keep_us: int = field(init=False, repr=False, compare=False)
    gap_us: int | None = field(init=False, repr=False, compare=False)
    stands_us: int | None = field(init=False, repr=False, compare=False)
    window_us: int = field(init=False, repr=False, compare=False)
    absent_us: int | None = field(init=False, repr=False, compare=False)
    condition: Expression | RowFunction | WindowFunction | None = field(init=False, repr=False, compare=False)
    ending: Expression | RowFunction | WindowFunction | None = field(init=False, repr=False, compare=False)
    parts: tuple[tuple[str, str | None, str], ...] = field(init=False, repr=False, compare=False)
    fields: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        if not isinstance(self.name, str) or not self.name.strip():
            raise RuleError(f"a rule needs a name, a text such as 'nearly full'; this one has {self.name!r}")
        where = f"rule {self.name!r}"
        if isinstance(self.when, Absent | ForecastWithin):
            table = self.when.table if isinstance(self.when, Absent) else "forecast"
            if self.table != table:
                raise RuleError(f"{where}: its condition is about the table {table!r}, not {self.table!r}")
        if self.table not in RULE_TABLES:
            more = " (rules on commands are written on jobs)" if self.table == "commands" else ""
            raise RuleError(f"{where}: no table {self.table!r}{more}{nearest(str(self.table), RULE_TABLES)}")
        schema = RULE_TABLES[self.table]
        by = self.by
        if by is None and isinstance(self.when, Absent):
            by = self.when.by
        by = DEFAULT_BY[self.table] if by is None else (by,) if isinstance(by, str) else tuple(by)
        for name in by:
            if name not in schema:
                raise RuleError(
                    f"{where}: by names no column of {self.table}: {name!r}{nearest(str(name), schema)}"
                )
            if schema[name] in ("float", "time", "bool"):
                raise RuleError(
                    f"{where}: by={name!r} is a measured value; group by names, as {DEFAULT_BY[self.table]}"
                )
        put("by", by)
        put("for_us", duration_us(self.for_, f"{where}: for_"))
        put("keep_us", 0 if self.keep_for is None else duration_us(self.keep_for, f"{where}: keep_for"))
        put("gap_us", None if self.max_gap is None else duration_us(self.max_gap, f"{where}: max_gap"))
        put("stands_us", None if self.stands is None else duration_us(self.stands, f"{where}: stands"))
        put("window_us", 0 if self.window is None else duration_us(self.window, f"{where}: window"))
        put("labels", {str(k): str(v) for k, v in dict(self.labels).items()})
        if self.stands is not None and (self.sampled or isinstance(self.when, Absent)):
            raise RuleError(f"{where}: stands= is for jobs and events; samples have max_gap=")
        if self.gap_us == 0:
            raise RuleError(f"{where}: max_gap must be longer than 0")
        if self.window is not None and self.window_us == 0:
            raise RuleError(f"{where}: window must be longer than 0")
        if self.severity not in SEVERITIES:
            raise RuleError(f"{where}: severity {self.severity!r} is not one of {', '.join(SEVERITIES)}")
        self._conditions(where, schema, put)
        put("parts", _message_parts(self.message or _default_message(self), schema, where))
        put("fields", tuple({name: 0 for _, name, _ in self.parts if name is not None and name not in by}))

    def _conditions(self, where: str, schema: dict[str, Kind], put: Callable[[str, Any], None]) -> None:
        put("absent_us", None)
        when: Any = self.when
        if isinstance(when, Absent):
            put("absent_us", duration_us(when.after, f"{where}: after"))
            if self.for_us or self.keep_us or self.until is not None or self.window is not None:
                raise RuleError(
                    f"{where}: absent() says by itself when it ends; leave out for_, keep_for, until, window"
                )
            put("condition", when.where and self._compiled(when.where, schema, f"{where}: where"))
            put("ending", None)
            return
        if isinstance(when, ForecastWithin):
            duration_us(when.every, f"{where}: every")
            duration_us(when.history, f"{where}: history")
            if not 0 < when.limit_pct <= 100 or not when.days > 0:
                raise RuleError(
                    f"{where}: forecast_within needs days above 0 and a limit_pct above 0, up to 100"
                )
            when = f"days <= {when.days:g}"
        put("condition", self._compiled(when, schema, where))
        put("ending", None if self.until is None else self._compiled(self.until, schema, f"{where}: until"))
        if self.window is not None and not any(
            c is not None and c.windowed for c in (self.condition, self.ending)
        ):
            raise RuleError(
                f"{where}: window= is for functions, and for expressions with "
                "change(), per_day(), lowest() or highest()"
            )

    def _compiled(
        self, condition: Any, schema: dict[str, Kind], where: str
    ) -> Expression | RowFunction | WindowFunction:
        if callable(condition):
            return check_function(condition, schema, where, self.window is not None)
        expression = compile_expression(condition, schema, where)
        if expression.windowed and self.window is None:
            raise RuleError(f"{where}: {expression.text!r} looks back in time; say how far with window='6h'")
        return expression

    @property
    def sampled(self) -> bool:
        """Whether a row is a sample of its moment, or stands until the next one."""
        return self.table in SAMPLED

    @property
    def falling(self) -> bool:
        """Whether low values are the bad ones."""
        return self.condition is not None and self.condition.falling

    @property
    def needs(self) -> frozenset[str] | None:
        """Columns that must be kept for the window; None for all of them."""
        parts = [c.columns for c in (self.condition, self.ending) if c is not None]
        if any(part is None for part in parts):
            return None
        return frozenset().union(*(part or () for part in parts))

    def described(self) -> str:
        """The rule in one line."""
        text = f"{self.table} {_written(self.when)}"
        if isinstance(self.when, Absent):
            kind = f" where {self.when.where}" if self.when.where else ""
            return f"no {self.table} row{kind} by {', '.join(self.by or ())} for {_short(self.when.after)}"
        if isinstance(self.when, ForecastWithin):
            text = f"forecast days <= {self.when.days:g} (to {self.when.limit_pct:g} %)"
        for word, value in (("within", self.window), ("for", self.for_), ("keep", self.keep_for)):
            text += f" {word} {_short(value)}" if value else ""
        text += f" until {_written(self.until)}" if self.until is not None else ""
        return f"{text} by {', '.join(self.by or ()) or 'nothing'}"

    def __repr__(self) -> str:
        return f"Rule {self.name!r}: {self.described()} → {self.severity}"


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
    if spec == "size":
        return format_size(value)
    if spec == "time":
        return str(pd.Timestamp(value, unit="us", tz="UTC").strftime("%Y-%m-%d %H:%M UTC"))
    try:
        return format(value, spec)
    except ValueError:
        return str(value)


def _default_message(rule: Rule) -> str:
    keys = " ".join(f"{{{name}}}" for name in rule.by or ())
    if rule.absent_us is not None:
        return f"{keys}: no {rule.table} row for more than {duration_text(rule.absent_us)}"
    if rule.condition is not None and rule.condition.value is not None and isinstance(rule.when, str):
        return f"{keys}: {rule.when.replace('{', '{{').replace('}', '}}')} (is {{value:.4g}})"
    if isinstance(rule.when, ForecastWithin):
        return f"{keys}: {rule.when.limit_pct:g} % full in about {{days:.0f}} days"
    return f"{keys}: {_written(rule.when).replace('{', '{{').replace('}', '}}')}"


def _message_parts(
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
    return tuple((literal, name, spec or "") for literal, name, spec, _ in parts)


def _written(when: Any) -> str:
    return when if isinstance(when, str) else f"{getattr(when, '__name__', 'function')}()"


def _short(value: Duration | None) -> str:
    return "" if value is None else duration_text(duration_us(value))


RULE_FIELDS: Final = tuple(f.name for f in fields(Rule) if f.init)


class Rules:
    """A set of rules with unique names.

    Parameters
    ----------
    rules : iterable of Rule, optional

    Examples
    --------
    >>> rules = Rules()
    >>> rules.add("nearly full", table="pools", when="capacity_pct > 80", for_="30min")
    Rule 'nearly full': pools capacity_pct > 80 for 30min by server, pool → warning
    >>> rules
    1 rule
      nearly full   warning   pools capacity_pct > 80 for 30min by server, pool
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules: dict[str, Rule] = {}
        self._source: Source = None
        self._labels: pd.DataFrame | None = None
        self._range: dict[str, Any] = {}
        for rule in rules:
            self.add(rule)

    def add(self, name: str | Rule, table: Any = None, when: Any = None, **options: Any) -> Rule:
        """Add a rule; see `Rule` for the arguments.

        ``table`` may also be a condition that names its table, such as ``absent("pools")``.

        Raises
        ------
        RuleError
            The rule cannot work, or the name is taken.
        """
        if isinstance(name, Rule):
            rule = name
        else:
            if isinstance(table, Absent | ForecastWithin):
                table, when = None, table
            if isinstance(when, Absent | ForecastWithin) and table is None:
                table = when.table if isinstance(when, Absent) else "forecast"
            unknown = [option for option in options if option not in RULE_FIELDS]
            if unknown:
                raise RuleError(f"rule {name!r}: no option {unknown[0]!r}{nearest(unknown[0], RULE_FIELDS)}")
            if table is None or when is None:
                raise RuleError(
                    f"rule {name!r}: say table= and when=, such as table='pools', when='capacity_pct > 80'"
                )
            rule = Rule(name, table, when, **options)
        if rule.name in self._rules:
            raise RuleError(
                f"there is a rule {rule.name!r} already; remove() it first or choose another name"
            )
        self._rules[rule.name] = rule
        return rule

    def remove(self, name: str) -> None:
        """Take a rule out."""
        del self._rules[self[name].name]

    def __getitem__(self, name: str) -> Rule:
        if name not in self._rules:
            raise RuleError(f"no rule {name!r}{nearest(str(name), self._rules)}")
        return self._rules[name]

    def __iter__(self) -> Iterator[Rule]:
        return iter(list(self._rules.values()))

    def __len__(self) -> int:
        return len(self._rules)

    def __contains__(self, name: object) -> bool:
        return name in self._rules

    def backtest(self, source: Source, start: Any = None, end: Any = None) -> pd.DataFrame:
        """When these rules would have fired; see `alerts.backtest.backtest`."""
        from .backtest import backtest

        self._source, self._range = source, {"start": start, "end": end}
        return backtest(self, source, start, end)

    def evaluate(
        self, source: Source, labels: pd.DataFrame, start: Any = None, end: Any = None
    ) -> pd.DataFrame:
        """How well these rules find labelled periods; see `alerts.judge.evaluate`."""
        from .judge import evaluate

        self._source, self._labels, self._range = source, labels, {"start": start, "end": end}
        return evaluate(self, source, labels, start, end)

    def sweep(
        self, name: str, source: Source = None, labels: pd.DataFrame | None = None, **settings: Any
    ) -> pd.DataFrame:
        """One rule under several settings; see `alerts.judge.sweep`.

        Without a source (and labels) those of the last `backtest` or `evaluate` are taken:
        ``rules.sweep("nearly full", threshold=range(60, 96, 5))``.
        """
        from .judge import sweep

        if source is None:
            if self._source is None:
                raise RuleError("sweep() needs a source: sweep(name, past, threshold=…), or backtest first")
            source, labels = self._source, self._labels if labels is None else labels
            settings = self._range | settings
        return sweep(self[name], source, labels, **settings)

    def save(self, path: str | Path) -> None:
        """Write the rules to a TOML file; see `alerts.files.save`."""
        from .files import save

        save(self, path)

    def __repr__(self) -> str:
        if not self._rules:
            return 'no rules yet: rules.add("nearly full", table="pools", when="capacity_pct > 80")'
        width = max(len(name) for name in self._rules)
        lines = [f"  {r.name:<{width}}   {r.severity:<8}  {r.described()}" for r in self]
        return "\n".join([f"{len(self)} rule{'s' if len(self) != 1 else ''}", *lines])

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{escape(r.name)}</td><td>{r.severity}</td><td>{escape(r.described())}</td>"
            f"<td>{escape(r.reason)}</td></tr>"
            for r in self
        )
        return (
            "<table><thead><tr><th>rule</th><th>severity</th><th>condition</th><th>reason</th></tr></thead>"
            f"<tbody>{rows}</tbody></table><p>Next: <code>rules.backtest(past)</code></p>"
        )


def with_options(rule: Rule, **options: Any) -> Rule:
    """A copy of a rule with other settings."""
    unknown = [option for option in options if option not in RULE_FIELDS]
    if unknown:
        raise RuleError(f"rule {rule.name!r}: no option {unknown[0]!r}{nearest(unknown[0], RULE_FIELDS)}")
    return replace(rule, **options)
