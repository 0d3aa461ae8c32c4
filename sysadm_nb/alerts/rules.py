"""Sets of rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import RuleError
from .conditions import Absent, ForecastWithin
from .expressions import nearest
from .rule import RULE_FIELDS, Rule

if TYPE_CHECKING:
    from .backtest import Source


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
