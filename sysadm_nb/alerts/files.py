"""Rules as TOML files, readable by people and safe to load from anywhere.

A file holds expressions of the checked subset only (see `expressions`): loading one runs nothing. Rules that
are Python functions are named in the file and come from a Python file that the user names.
"""

from __future__ import annotations

import json
import runpy
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import RuleError
from .conditions import Absent, ForecastWithin, absent, forecast_within
from .durations import duration_text, duration_us
from .expressions import nearest
from .rule import RULE_FIELDS, Rule
from .rules import Rules

HEAD: Final = "# Alert rules of sysadm_nb. Try them:  sysadm-nb watch FILE --dry-run RECORDING\n"
_DURATIONS: Final = ("for_", "keep_for", "window", "stands", "max_gap")


def save(rules: Rules, path: str | Path) -> None:
    """Write rules to a TOML file.

    Rules whose condition is a function are written with the function's name; `load` then needs the Python
    file that has it.

    Parameters
    ----------
    rules : Rules
    path : str or Path

    Raises
    ------
    RuleError
        A rule's function has no name to find it by (a lambda).

    Examples
    --------
    >>> import tempfile, pathlib
    >>> rules = Rules()
    >>> _ = rules.add("nearly full", table="pools", when="capacity_pct > 80", for_="30min")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(rules, pathlib.Path(folder, "rules.toml"))
    ...     load(pathlib.Path(folder, "rules.toml"))
    1 rule
      nearly full   warning   pools capacity_pct > 80 for 30min by server, pool
    """
    Path(path).write_text(to_toml(rules), encoding="utf-8")


def to_toml(rules: Rules) -> str:
    """Rules as the text of a TOML file."""
    return HEAD + "".join(f"\n[[rule]]\n{_rule_text(rule)}" for rule in rules)


def load(path: str | Path, functions: str | Path | None = None) -> Rules:
    """Read rules from a TOML file.

    Parameters
    ----------
    path : str or Path
    functions : str or Path, optional
        A Python file, which is run, with the functions that rules of the file name.

    Raises
    ------
    RuleError
        The file is no TOML, or a rule in it cannot work; the message names the rule. Or the file of
        functions cannot be run; why is behind it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RuleError(f"{path} is no file of rules, for it is no text: name another.") from None
    return from_toml(text, str(path), {} if functions is None else _run(functions))


def _run(functions: str | Path) -> dict[str, Any]:
    try:
        return runpy.run_path(str(functions))
    except OSError:
        raise
    except Exception as error:
        raise RuleError(f"{functions} cannot be run: {type(error).__name__}: {error}") from error


def from_toml(text: str, name: str = "the file", functions: Mapping[str, Any] | None = None) -> Rules:
    """Rules from the text of a TOML file.

    Raises
    ------
    RuleError
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RuleError(f"{name} is no TOML: {error}") from None
    unknown = set(data) - {"rule"}
    entries = data.get("rule", [])
    if unknown or not isinstance(entries, list):
        raise RuleError(
            f"{name}: rules are written as [[rule]] tables; {min(unknown, default='rule')!r} is not one"
        )
    rules = Rules()
    for entry in entries:
        if not isinstance(entry, dict):
            raise RuleError(f"{name}: rules are written as [[rule]] tables")
        rules.add(_rule(entry, name, functions or {}))
    return rules


def _rule_text(rule: Rule) -> str:
    lines: dict[str, Any] = {"name": rule.name}
    when = rule.when
    if isinstance(when, Absent):
        lines |= {"table": rule.table, "absent_after": _short(when.after)}
        if when.where:
            lines["where"] = when.where
    elif isinstance(when, ForecastWithin):
        settings = {"days": when.days, "limit_pct": when.limit_pct, "every": _short(when.every)}
        lines["forecast_within"] = settings | {"history": _short(when.history)}
    else:
        lines |= {"table": rule.table, **_condition("when", when, rule)}
    if rule.until is not None:
        lines |= _condition("until", rule.until, rule)
    lines["by"] = list(rule.by or ())
    for name in _DURATIONS:
        value = getattr(rule, name)
        if name == "max_gap" and value is None:
            lines[name] = "unlimited"
        elif value and not (name == "max_gap" and rule.gap_us == duration_us("45min")):
            lines[name.rstrip("_")] = _short(value)
    lines["severity"] = rule.severity
    for name in ("message", "reason", "labels"):
        if getattr(rule, name):
            lines[name] = dict(rule.labels) if name == "labels" else getattr(rule, name)
    return "".join(f"{key} = {_toml(value)}\n" for key, value in lines.items())


def _condition(name: str, condition: Any, rule: Rule) -> dict[str, str]:
    if isinstance(condition, str):
        return {name: condition}
    function = getattr(condition, "__name__", "")
    if not function.isidentifier():
        raise RuleError(
            f"rule {rule.name!r}: its function has no name that a file could give; write it with def, "
            "in a Python file that load(..., functions=) or `sysadm-nb watch --functions` is given"
        )
    return {f"{name}_function": function}


def _rule(entry: Mapping[str, Any], file: str, functions: Mapping[str, Any]) -> Rule:
    options = dict(entry)
    name = options.pop("name", None)
    where = f"{file}: rule {name!r}"
    if not isinstance(name, str):
        raise RuleError(f'{file}: a rule needs name = "…"')
    options = {{"for": "for_"}.get(key, key): value for key, value in options.items()}
    if options.get("max_gap") == "unlimited":
        options["max_gap"] = None
    for part in ("when", "until"):
        wanted = options.pop(f"{part}_function", None)
        if wanted is not None:
            options[part] = _function(wanted, functions, where)
    after, kind = options.pop("absent_after", None), options.pop("where", None)
    soon = options.pop("forecast_within", None)
    if kind is not None and after is None:
        raise RuleError(f"{where}: where= belongs to absent_after; what rows must be like goes into when")
    if ("when" in options) + (after is not None) + (soon is not None) > 1:
        raise RuleError(f"{where}: it has more than one of when, absent_after and forecast_within")
    try:
        if after is not None:
            options["when"] = absent(options.get("table", ""), after=after, where=kind)
        elif soon is not None:
            options["when"] = forecast_within(**soon)
            options.setdefault("table", "forecast")
    except TypeError as error:
        raise RuleError(
            f"{where}: forecast_within takes days, limit_pct, every and history: {error}"
        ) from None
    unknown = [key for key in options if key not in RULE_FIELDS]
    if unknown:
        known = [field.rstrip("_") for field in RULE_FIELDS]
        raise RuleError(f"{where}: no option {unknown[0]!r}{nearest(unknown[0], known)}")
    if "table" not in options or "when" not in options:
        raise RuleError(f'{where}: say table = "…" and when = "…"')
    try:
        return Rule(name, **options)
    except RuleError as error:
        raise RuleError(f"{file}: {error}") from None
    except (TypeError, ValueError) as error:
        raise RuleError(f"{where}: {error}") from None


def _function(name: Any, functions: Mapping[str, Any], where: str) -> Callable[..., Any]:
    found = functions.get(name) if isinstance(name, str) else None
    if not callable(found):
        raise RuleError(
            f"{where}: its condition is the function {name!r}; name the Python file that has it with "
            'load(..., functions="rules.py") or `sysadm-nb watch --functions rules.py`'
        )
    return found  # type: ignore[no-any-return]


def _short(value: Any) -> str:
    return duration_text(duration_us(value))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # a JSON string is a TOML basic string, but for DEL, which TOML wants escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(str(k))} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return repr(value)
