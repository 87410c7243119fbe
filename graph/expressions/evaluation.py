"""Computes an expression from JSON values. No value can grow past a bound, and nothing but values is reached."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from graph.expressions.effort import Effort
from graph.expressions.functions import FUNCTIONS, boolean, bounded, equal, member, number, show, text_of
from graph.expressions.parser import Expression
from graph.expressions.syntax import (
    GUARDS,
    Absent,
    Constant,
    Function,
    InvalidExpression,
    Items,
    Member,
    Operation,
    Source,
    Syntax,
)
from graph.types import Json

Values: TypeAlias = Callable[[str], Json]
"""Gives the value of a source; raises `Absent` if it has none."""
States: TypeAlias = Callable[[str], str]
"""Gives how a task ended: `ok`, `failed` or `skipped`."""


def evaluate(expression: Expression, values: Values, states: States, effort: Effort | None = None) -> Json:
    """Return the value; raise `InvalidExpression` naming the expression, the value at fault and what would be right.

    `effort` counts what several evaluations look at together.
    """
    try:
        return _Evaluation(values, states, effort or Effort()).of(expression.tree)
    except InvalidExpression as error:
        error.message = f"{str(expression)[:200]!r}: {error.message}"
        error.args = (error.message,)
        raise


def holds(expression: Expression, values: Values, states: States, effort: Effort | None = None) -> bool:
    """Say whether a condition is true; raise `InvalidExpression` when it is neither true nor false."""
    found = evaluate(expression, values, states, effort)
    if not isinstance(found, bool):
        raise InvalidExpression(f"{str(expression)[:200]!r} is {show(found)}; a condition is true or false: compare it")
    return found


class _Evaluation:
    def __init__(self, values: Values, states: States, effort: Effort) -> None:
        self._values = values
        self._states = states
        self._effort = effort

    def of(self, tree: Syntax) -> Json:
        match tree:
            case Constant(value):
                return value
            case Source(name):
                return self._values(name)
            case Member(of, key):
                return member(self.of(of), self.of(key), _path(tree), self._effort.read)
            case Items(items):
                return [self.of(item) for item in items]
            case Function(name, arguments) if name in GUARDS:
                return self._guard(name, arguments)
            case Function(name, arguments):
                given = [self.of(argument) for argument in arguments]
                if name != "size":
                    self._effort.look(*given)
                return bounded(FUNCTIONS[name](*given))
            case Operation(sign, operands):
                return self._operation(sign, operands)

    def _guard(self, name: str, arguments: tuple[Syntax, ...]) -> Json:
        if name == "status":
            if not isinstance(arguments[0], Source):
                raise InvalidExpression("status() takes a task, such as status(t1)")
            return self._states(arguments[0].name)
        if name == "has":
            try:
                return self.of(arguments[0]) is not None
            except Absent:
                return False
        for argument in arguments[:-1]:
            try:
                found = self.of(argument)
            except Absent:
                continue
            if found is not None:
                return found
        return self.of(arguments[-1])

    def _operation(self, sign: str, operands: tuple[Syntax, ...]) -> Json:
        first = self.of(operands[0])
        match sign:
            case "&&" | "||":
                decided = sign == "||"
                return decided if boolean(first, sign) is decided else boolean(self.of(operands[1]), sign)
            case "?":
                return self.of(operands[1 if boolean(first, "?") else 2])
            case "!":
                return not boolean(first, "!")
            case "-" if len(operands) == 1:
                return -number(first, "-")
            case _:
                second = self.of(operands[1])
                self._effort.look(first, second)
                return bounded(_binary(sign, first, second))


def _binary(sign: str, left: Json, right: Json) -> Json:
    if sign in ("==", "!="):
        return equal(left, right) is (sign == "==")
    if sign == "in":
        if isinstance(right, str):
            return text_of(left, "in") in right
        if isinstance(right, (list, Mapping)):
            return any(equal(left, item) for item in right)
        raise InvalidExpression(f"in: {show(right)} is no list, object or text")
    if sign in _COMPARISONS:
        if isinstance(left, str) and isinstance(right, str):
            return _COMPARISONS[sign](left, right)
        return _COMPARISONS[sign](number(left, sign), number(right, sign))
    if sign == "+" and isinstance(left, str) and isinstance(right, str):
        return left + right
    if sign == "+" and isinstance(left, list) and isinstance(right, list):
        return left + right
    if sign == "+" and isinstance(left, str) is not isinstance(right, str):
        raise InvalidExpression(f"+: {show(left)} and {show(right)} are not alike: use text() or number()")
    return _arithmetic(sign, number(left, sign), number(right, sign))


def _arithmetic(sign: str, left: float, right: float) -> float:
    if sign in "/%" and right == 0:
        raise InvalidExpression(f"{left} {sign} 0: division by zero")
    try:
        found = _ARITHMETIC[sign](left, right)
    except OverflowError:
        found = math.inf
    if abs(found) > 1e300 or found != found:
        raise InvalidExpression(f"{left} {sign} {right}: the result is no finite number")
    return found


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: Mapping[str, Callable[[Any, Any], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
}


def _path(tree: Syntax) -> str:
    match tree:
        case Source(name):
            return name
        case Member(of, Constant(key)):
            return f"{_path(of)}.{key}"
        case Member(of, _):
            return f"{_path(of)}[…]"
    return "…"
