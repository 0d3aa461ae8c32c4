"""Rule expressions: the checked subset of ``DataFrame.eval`` that is safe to read from a file.

An expression judges each row by itself: comparisons (chained too), arithmetic, ``and or not`` and their
forms ``& | ~``, ``in`` and ``not in`` with a list, names of columns, constants and the functions of
`FUNCTIONS`. There are no attributes, no ``@``, no other calls and no aggregates, so an expression can
neither reach out of its row nor do anything but compare. The same evaluator serves strings from files and
from notebooks: one text has one meaning.

Missing values compare as in pandas: every comparison with a missing value is false, ``!=`` is true.
"""

from __future__ import annotations

import ast
import difflib
import io
import operator
import re
import tokenize
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from ..errors import RuleError
from ..tables.schema import Kind
from ..tables.spans import timespan
from .columns import Bools, Cat, Columns, Floats, Ints, as_text, text_test

Type = Literal["number", "bool", "text", "time", "span"]
Run = Callable[[Columns], Any]

_YEAR: Final = re.compile(r"\d{4}")
_ONE_EQUALS: Final = re.compile(r"[^<>=!]=[^=]")
_TYPE_OF: Final[dict[Kind, Type]] = {
    "float": "number",
    "int": "number",
    "bool": "bool",
    "category": "text",
    "text": "text",
    "time": "time",
}
_WORD: Final[dict[Type, str]] = {
    "number": "a number",
    "bool": "true or false",
    "text": "a text",
    "time": "a time",
    "span": "a time span",
}
_COMPARE: Final[dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]]] = {
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
}
_ARITHMETIC: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}
_MATH: Final[dict[str, Callable[[Any], Any]]] = {
    "abs": np.abs,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "log10": np.log10,
    "floor": np.floor,
    "ceil": np.ceil,
}
_TEXT_TESTS: Final = ("contains", "startswith", "endswith")
_WINDOWED: Final = ("change", "per_day", "lowest", "highest")
_CLOCK: Final = ("hour", "weekday")

FUNCTIONS: Final[dict[str, str]] = {
    **dict.fromkeys(_MATH, "f(number)"),
    "isna": "f(column): true where the value is missing",
    "notna": "f(column): true where there is a value",
    **dict.fromkeys(_TEXT_TESTS, "f(text, 'part'), the case matters"),
    "hour": "hour(time): 0 to 23, UTC",
    "weekday": "weekday(time): 0 is Monday, UTC",
    "change": "change(number): this row's value less the oldest one in the rule's window",
    "per_day": "per_day(number): that change a day; missing until the rows span half of the window",
    "lowest": "lowest(number): the smallest value in the window",
    "highest": "highest(number): the largest value in the window",
}
"""The functions an expression may call, and how."""

_LONGEST: Final = 4_000  # characters; keeps a hostile file from nesting the parser into the ground


@dataclass(frozen=True)
class Expression:
    """A compiled expression.

    Attributes
    ----------
    text : str
        As it was written.
    columns : frozenset of str
        The columns it reads.
    windowed : bool
        It calls a function of the window, so that its rule needs ``window=``.
    value : callable or None
        The measured number of its first comparison with a constant (``capacity_pct`` of
        ``capacity_pct > 80``), for peaks and charts.
    falling : bool
        That comparison looks for low values, so that the peak is the smallest.
    """

    text: str
    columns: frozenset[str]
    windowed: bool
    run: Run
    value: Run | None
    falling: bool

    def __call__(self, columns: Columns, rows: Ints | None = None) -> Bools:
        """True where the expression holds, one value a row; `rows` are those somebody will look at."""
        with np.errstate(all="ignore"):
            out = self.run(columns)
        return np.broadcast_to(np.asarray(out, bool), len(columns))

    def measure(self, columns: Columns) -> Floats | None:
        """The measured number of each row, or None where the expression measures none."""
        if self.value is None:
            return None
        with np.errstate(all="ignore"):
            return np.broadcast_to(np.asarray(self.value(columns), np.float64), len(columns))


def compile_expression(text: str, schema: Mapping[str, Kind], where: str = "the rule") -> Expression:
    """Check an expression and make it ready to run.

    Parameters
    ----------
    text : str
        The expression, for example ``"capacity_pct > 80 and health == 'ONLINE'"``.
    schema : mapping of str to Kind
        The columns it may name.
    where : str
        What the expression belongs to, for error messages.

    Raises
    ------
    RuleError
        It cannot be parsed, names an unknown column or function, compares what cannot be compared, or
        does not give true or false.

    Examples
    --------
    >>> from sysadm_nb.tables.schema import SCHEMA
    >>> compile_expression("capacity_pct > 80", SCHEMA["pools"]).columns
    frozenset({'capacity_pct'})
    >>> compile_expression("capacity > 80", SCHEMA["pools"])
    Traceback (most recent call last):
    ...
    sysadm_nb.errors.RuleError: the rule: no column 'capacity'; did you mean 'capacity_pct'? ...
    """
    if not isinstance(text, str) or not text.strip():
        raise RuleError(f'{where}: an expression is a text such as "capacity_pct > 80", not {text!r}')
    if len(text) > _LONGEST:
        raise RuleError(f"{where}: the expression is {len(text)} characters long; {_LONGEST} is the limit")
    compiler = _Compiler(schema, where, text)
    try:
        tree = ast.parse(words_for_signs(text), mode="eval")
        kind, run = compiler.visit(tree.body)
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        if isinstance(error, RuleError):
            raise
        equals = "; two things are compared with ==" if _ONE_EQUALS.search(text) else ""
        raise RuleError(f"{where}: cannot read {text!r}: {error}{equals}") from None
    except (RecursionError, MemoryError):
        raise RuleError(f"{where}: the expression is nested too deeply") from None
    if kind != "bool":
        raise RuleError(
            f"{where}: {text!r} gives {_WORD[kind]}, not true or false; compare it with something"
        )
    return Expression(
        text, frozenset(compiler.columns), compiler.windowed, run, compiler.value, compiler.falling
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say about an unknown name: the nearest known one, and all there are."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} There are: {', '.join(known)}"


def words_for_signs(text: str) -> str:
    """``&`` and ``|`` bind as ``and`` and ``or`` do, which is what `DataFrame.eval` makes of them.

    >>> words_for_signs("capacity_pct > 80&health != 'A|B'")
    "capacity_pct > 80 and health != 'A|B'"
    """
    text = text.strip()
    if "&" not in text and "|" not in text:
        return text
    words = {"&": "and", "|": "or"}
    lines = list(io.StringIO(text))
    # from the end, so that what is still to be replaced stays where it was
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(text).readline))):
        if token.type == tokenize.OP and token.string in words:
            row, column = token.start
            line = lines[row - 1]
            before, after = line[:column].rstrip(" "), line[column + 1 :].lstrip(" ")
            lines[row - 1] = f"{before} {words[token.string]} {after}"
    return "".join(lines)


class _Compiler:
    def __init__(self, schema: Mapping[str, Kind], where: str, text: str) -> None:
        self.schema, self.where, self.text = schema, where, text
        self.columns: set[str] = set()
        self.windowed = False
        self.value: Run | None = None
        self.falling = False

    def fail(self, what: str) -> RuleError:
        return RuleError(f"{self.where}: {what}")

    def visit(self, node: ast.expr) -> tuple[Type, Run]:
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise self.fail(
                f"{ast.unparse(node)!r} is not allowed in an expression; it may use comparisons, arithmetic, "
                f"and, or, not, in, columns, constants and the functions {', '.join(FUNCTIONS)}"
            )
        result: tuple[Type, Run] = method(node)
        return result

    def need(self, node: ast.expr, *wanted: Type) -> Run:
        kind, run = self.visit(node)
        if kind not in wanted:
            options = " or ".join(_WORD[w] for w in wanted)
            raise self.fail(f"{ast.unparse(node)!r} is {_WORD[kind]}; {options} is needed there")
        return run

    def _constant(self, node: ast.Constant) -> tuple[Type, Run]:
        value = node.value
        if isinstance(value, bool):
            return "bool", lambda _: value
        if isinstance(value, int | float):
            number = np.float64(value)
            return "number", lambda _: number
        if isinstance(value, str):
            return "text", lambda _: value
        raise self.fail(f"{value!r} is not allowed in an expression; for missing values use isna(column)")

    def _name(self, node: ast.Name) -> tuple[Type, Run]:
        name = node.id
        if name not in self.schema:
            if name in FUNCTIONS:
                raise self.fail(f"{name} is a function: {FUNCTIONS[name]}")
            raise self.fail(f"no column {name!r}{nearest(name, self.schema)}")
        self.columns.add(name)
        return _TYPE_OF[self.schema[name]], lambda columns: columns[name]

    def _boolop(self, node: ast.BoolOp) -> tuple[Type, Run]:
        parts = [self.need(part, "bool") for part in node.values]
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or

        def run(columns: Columns) -> Any:
            out = parts[0](columns)
            for part in parts[1:]:
                out = join(out, part(columns))
            return out

        return "bool", run

    def _unaryop(self, node: ast.UnaryOp) -> tuple[Type, Run]:
        if isinstance(node.op, ast.Not | ast.Invert):
            inner = self.need(node.operand, "bool")
            return "bool", lambda columns: np.logical_not(inner(columns))
        inner = self.need(node.operand, "number")
        if isinstance(node.op, ast.USub):
            return "number", lambda columns: np.negative(inner(columns))
        return "number", inner

    def _binop(self, node: ast.BinOp) -> tuple[Type, Run]:
        apply = _ARITHMETIC.get(type(node.op))
        if apply is None:
            raise self.fail(f"the operator in {ast.unparse(node)!r} is not allowed in an expression")
        (a_kind, a), (b_kind, b) = self.visit(node.left), self.visit(node.right)
        if (a_kind, b_kind) == ("time", "time") and isinstance(node.op, ast.Sub):
            return "span", lambda columns: a(columns) - b(columns)
        if a_kind != "number" or b_kind != "number":
            raise self.fail(
                f"cannot calculate {ast.unparse(node)!r} with {_WORD[a_kind]} and {_WORD[b_kind]}; "
                "numbers go with numbers, and a time may be taken from a time"
            )
        return "number", lambda columns: apply(a(columns), b(columns))

    def _compare(self, node: ast.Compare) -> tuple[Type, Run]:
        operands = [node.left, *node.comparators]
        tests = [
            self._pair(left, op, right)
            for left, op, right in zip(operands, node.ops, operands[1:], strict=False)
        ]

        def run(columns: Columns) -> Any:
            out = tests[0](columns)
            for test in tests[1:]:
                out = np.logical_and(out, test(columns))
            return out

        return "bool", run

    def _pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Run:
        if isinstance(op, ast.In | ast.NotIn):
            return self._membership(left, op, right)
        if type(op) not in _COMPARE:
            raise self.fail("'is' is not allowed in an expression; use == or isna(column)")
        sign, compare = _COMPARE[type(op)]
        (a_kind, a), (b_kind, b) = self.visit(left), self.visit(right)
        if a_kind in ("time", "span") and b_kind == "text" and isinstance(right, ast.Constant):
            b_kind, b = a_kind, self._moment(a_kind, right)
        elif b_kind in ("time", "span") and a_kind == "text" and isinstance(left, ast.Constant):
            a_kind, a = b_kind, self._moment(b_kind, left)
        if a_kind != b_kind:
            raise self.fail(
                f"{ast.unparse(left)!r} is {_WORD[a_kind]} and {ast.unparse(right)!r} is {_WORD[b_kind]}: "
                "they cannot be compared"
            )
        if a_kind == "text":
            return self._text_pair(sign, a, b, left, right)
        if a_kind in ("time", "span"):
            return lambda columns: compare(a(columns), b(columns))
        if a_kind == "number" and self.value is None:
            if _is_constant(right) and not _is_constant(left):
                self.value, self.falling = a, sign in ("<", "<=")
            elif _is_constant(left) and not _is_constant(right):
                self.value, self.falling = b, sign in (">", ">=")
        return lambda columns: compare(a(columns), b(columns))

    def _moment(self, kind: Type, node: ast.Constant) -> Run:
        text = str(node.value)
        try:
            if kind == "span":
                span = timespan(text)
                if pd.isna(span):
                    raise ValueError
                moment = span.as_unit("us").to_timedelta64()
                return lambda _: moment
            stamp = pd.Timestamp(text)
            if pd.isna(stamp) or not _YEAR.search(text):  # 'now' would be when the rule was read
                raise ValueError
            stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
            time = stamp.as_unit("us").tz_localize(None).to_datetime64()
            return lambda _: time
        except ValueError:
            raise self.fail(
                f"{node.value!r} is no {kind}; write a time as '2026-11-23 07:00' and a span as '6h'"
            ) from None

    def _text_pair(self, sign: str, a: Run, b: Run, left: ast.expr, right: ast.expr) -> Run:
        if sign not in ("==", "!="):
            raise self.fail(f"texts are compared with == and != only, not {sign!r}")
        if isinstance(left, ast.Constant):
            a, b, right = b, a, left
        equal = sign == "=="
        if isinstance(right, ast.Constant):
            word = right.value
            return lambda columns: text_test(a(columns), lambda s: (s == word).to_numpy(bool), False) == equal

        def run(columns: Columns) -> Any:
            x, y = as_text(a(columns), len(columns)), as_text(b(columns), len(columns))
            return (x == y).to_numpy(bool) == equal

        return run

    def _membership(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Run:
        if not isinstance(right, ast.List | ast.Tuple | ast.Set) or not right.elts:
            raise self.fail(
                f"'in' needs a list of constants, such as in ['a', 'b'], not {ast.unparse(right)!r}"
            )
        kind, run = self.visit(left)
        parts = [self.visit(part) for part in right.elts]
        if not all(_is_constant(part) for part in right.elts) or any(k != kind for k, _ in parts):
            raise self.fail(f"the list after 'in' must be constants of one kind, here {_WORD[kind]}")
        inside = isinstance(op, ast.In)
        if kind == "text":
            words = [part.value for part in right.elts if isinstance(part, ast.Constant)]
            return lambda columns: (
                text_test(run(columns), lambda s: s.isin(words).to_numpy(bool), False) == inside
            )
        if kind != "number":
            raise self.fail(f"'in' works with texts and numbers, not with {_WORD[kind]}")
        return lambda columns: np.isin(run(columns), [part(columns) for _, part in parts]) == inside

    def _call(self, node: ast.Call) -> tuple[Type, Run]:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name not in FUNCTIONS:
            what = ast.unparse(node.func)
            raise self.fail(f"{what!r} cannot be called in an expression{nearest(what, FUNCTIONS)}")
        wanted = 2 if name in _TEXT_TESTS else 1
        if node.keywords or len(node.args) != wanted:
            raise self.fail(f"{name} is called as {FUNCTIONS[name]}")
        first = node.args[0]
        if name in _MATH:
            inner, function = self.need(first, "number"), _MATH[name]
            return "number", lambda columns: function(inner(columns))
        if name in ("isna", "notna"):
            _, inner = self.visit(first)
            missing = name == "isna"
            return "bool", lambda columns: _is_missing(inner(columns)) == missing
        if name in _CLOCK:
            inner, hour = self.need(first, "time"), name == "hour"
            return "number", lambda columns: _clock(inner(columns), hour)
        if name in _WINDOWED:
            self.windowed = True
            inner = self.need(first, "number")
            return "number", lambda columns: columns.over_window(name, inner(columns))
        inner, part = self.need(first, "text"), node.args[1]
        if not isinstance(part, ast.Constant) or not isinstance(part.value, str):
            raise self.fail(f"{name} looks for a constant text, not {ast.unparse(part)!r}")
        return "bool", _text_function(name, inner, part.value)


def _text_function(name: str, inner: Run, part: str) -> Run:
    def test(words: pd.Series[str]) -> Any:
        if name == "contains":
            return words.str.contains(part, regex=False, na=False).to_numpy(bool)
        found = (
            words.str.startswith(part, na=False)
            if name == "startswith"
            else words.str.endswith(part, na=False)
        )
        return found.to_numpy(bool)

    return lambda columns: text_test(inner(columns), test, False)


def _is_constant(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        node = node.operand
    return isinstance(node, ast.Constant)


def _is_missing(value: Any) -> Any:
    if isinstance(value, Cat):
        return value.codes < 0
    if isinstance(value, np.ndarray) and value.dtype.kind in "mM":
        return np.isnat(value)
    return np.asarray(pd.isna(value))


def _clock(time: Any, hour: bool) -> Any:
    missing = np.isnat(time)
    micro = np.asarray(time).astype("datetime64[us]").astype(np.int64)
    # 1970-01-01 was a Thursday, day 3 when Monday is 0
    out = micro // 3_600_000_000 % 24 if hour else (micro // 86_400_000_000 + 3) % 7
    return np.where(missing, np.nan, out.astype(np.float64))
