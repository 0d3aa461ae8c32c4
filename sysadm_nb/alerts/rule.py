"""What an alert rule is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from ..errors import RuleError
from ..tables.schema import Kind
from .conditions import DEFAULT_BY, RULE_TABLES, SAMPLED, Absent, ForecastWithin
from .durations import Duration, duration_us
from .expressions import Expression, compile_expression, nearest
from .functions import Function, RowFunction, WindowFunction, check_function
from .messages import default_message, message_parts, short, written

SEVERITIES: Final = ("info", "warning", "critical")


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
        value. Numbers take Python's formats and ``{free_bytes:size}``, times are written in UTC, and what is
        missing shows as ``?``.
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
        put("parts", message_parts(self.message or default_message(self), schema, where))
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

    @property
    def reads_logs(self) -> bool:
        """Whether it looks at the logs of jobs: then every change of a job has to carry them."""
        read = None if self.needs is None else {*self.needs, *self.fields, *(self.by or ())}
        return self.table == "jobs" and (read is None or "log" in read)

    def described(self) -> str:
        """The rule in one line."""
        text = f"{self.table} {written(self.when)}"
        if isinstance(self.when, Absent):
            kind = f" where {self.when.where}" if self.when.where else ""
            return f"no {self.table} row{kind} by {', '.join(self.by or ())} for {short(self.when.after)}"
        if isinstance(self.when, ForecastWithin):
            text = f"forecast days <= {self.when.days:g} (to {self.when.limit_pct:g} %)"
        for word, value in (("within", self.window), ("for", self.for_), ("keep", self.keep_for)):
            text += f" {word} {short(value)}" if value else ""
        text += f" until {written(self.until)}" if self.until is not None else ""
        return f"{text} by {', '.join(self.by or ()) or 'nothing'}"

    def __repr__(self) -> str:
        return f"Rule {self.name!r}: {self.described()} → {self.severity}"


RULE_FIELDS: Final = tuple(f.name for f in fields(Rule) if f.init)


def with_options(rule: Rule, **options: Any) -> Rule:
    """A copy of a rule with other settings."""
    unknown = [option for option in options if option not in RULE_FIELDS]
    if unknown:
        raise RuleError(f"rule {rule.name!r}: no option {unknown[0]!r}{nearest(unknown[0], RULE_FIELDS)}")
    return replace(rule, **options)
