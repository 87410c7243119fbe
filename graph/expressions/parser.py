"""Expressions of a plan, such as `t1.score > 0.5 && size(t2.items) > 0`: a small part of CEL's grammar, read once.

The grammar has no loops, no assignment, no attributes of objects and a closed set of functions, so an expression can
only compute a JSON value from JSON values, in a time that its length bounds. What it refers to is known before it is
evaluated (`sources`): that makes the edges of a plan.

    expression := or [ "?" expression ":" expression ]
    or         := and { "||" and }              and := relation { "&&" relation }
    relation   := sum [ ("=="|"!="|"<"|"<="|">"|">="|"in") sum ]
    sum        := product { ("+"|"-") product }   product := unary { ("*"|"/"|"%") unary }
    unary      := { "!" | "-" } member            member  := primary { "." name | "[" expression "]" }
    primary    := number | text | true | false | null | name | name "(" arguments ")" | "[" items "]" | "(" … ")"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from graph.expressions.syntax import (
    GUARDS,
    Constant,
    Function,
    InvalidExpression,
    Items,
    Member,
    Operation,
    Source,
    Syntax,
    walk,
)
from graph.types import Json

MAX_LENGTH = 2000
"""Characters of an expression."""
MAX_DEPTH = 40
"""Brackets, functions, fields and operators inside each other."""
TASKS = "tasks"
"""`tasks['my-task'].field` names a task whose id is no name of the grammar."""
ARITIES = {
    "has": (1, 1),
    "default": (2, 8),
    "status": (1, 1),
    "size": (1, 1),
    "lower": (1, 1),
    "upper": (1, 1),
    "trim": (1, 1),
    "contains": (2, 2),
    "starts_with": (2, 2),
    "ends_with": (2, 2),
    "split": (2, 2),
    "join": (2, 2),
    "flatten": (1, 1),
    "pluck": (2, 2),
    "first": (1, 1),
    "last": (1, 1),
    "sum": (1, 1),
    "min": (1, 1),
    "max": (1, 1),
    "round": (1, 1),
    "number": (1, 1),
    "text": (1, 1),
}
"""Every function, with the least and the most arguments that it takes."""

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.])
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<name>[A-Za-z_]\w*)
    |(?P<sign>\|\||&&|==|!=|<=|>=|[-+*/%<>!?:.,()\[\]]))""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_CONSTANTS: dict[str, Json] = {"true": True, "false": False, "null": None}
_RELATIONS = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})
_Part: TypeAlias = Callable[[], Syntax]


@dataclass(frozen=True)
class Expression:
    """An expression that was read: its text, its tree, and what it refers to."""

    text: str
    tree: Syntax
    sources: frozenset[str]
    guarded: frozenset[str]
    """Sources that a guard looks at: they may have failed or been skipped."""

    def __str__(self) -> str:
        return self.text

    def renamed(self, names: Mapping[str, str]) -> Expression:
        """Return the same expression with other names of its sources."""
        if not self.sources & names.keys():
            return self
        made, place, before = list[str](), 0, ["", ""]
        for kind, value, at in _tokens(self.text):
            named = kind == "name" and before[-1] != "." and not self.text[at + len(value) :].lstrip().startswith("(")
            quoted = kind == "text" and before == [TASKS, "["]
            old = value if named else _ESCAPE.sub(_unescape, value[1:-1]) if quoted else ""
            if old in names:
                new = f"'{names[old]}'" if quoted else f"{TASKS}['{names[old]}']"
                made += [self.text[place:at], new]
                place = at + len(value)
            before = [before[-1], value]
        return Expression.parse("".join(made) + self.text[place:])

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Read an expression; raise `InvalidExpression` naming the place, what stands there and what could."""
        if len(text) > MAX_LENGTH:
            raise InvalidExpression(f"is {len(text)} characters long; at most {MAX_LENGTH} are allowed")
        tree = _Parser(text).whole()
        if max(depth for _, depth in walk(tree)) > MAX_DEPTH:
            raise _too_deep(text)
        guards = [node for node, _ in walk(tree) if isinstance(node, Function) and node.name in GUARDS]
        guarded = {name for guard in guards for name in _names(guard)}
        return cls(text, tree, frozenset(_names(tree)), frozenset(guarded))


def _too_deep(text: str) -> InvalidExpression:
    return InvalidExpression(
        f"{text[:80]!r}: nested deeper than {MAX_DEPTH}; compute a part of it in a task of its own"
    )


def _names(tree: Syntax) -> set[str]:
    return {node.name for node, _ in walk(tree) if isinstance(node, Source)}


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield (kind, text, place); the last has neither kind nor text."""
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None or found.lastgroup is None:
            if not text[place:].strip():
                break
            rest = text[place:].lstrip()
            at = len(text) - len(rest)
            raise InvalidExpression(
                f"{text[:80]!r}: {rest[:20]!r} at character {at + 1} is no part of an expression; "
                "texts stand in quotes, other task ids in tasks['…']"
            )
        yield found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)
        place = found.end()
    yield "", "", len(text)


def _unescape(found: re.Match[str]) -> str:
    code = found[1]
    return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPES.get(code, code)


class _Parser:
    """Reads one expression, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0

    def whole(self) -> Syntax:
        tree = self._choice()
        if self._kind:
            raise self._wrong("an operator or the end")
        return tree

    @property
    def _kind(self) -> str:
        return self._tokens[self._next][0]

    @property
    def _value(self) -> str:
        return self._tokens[self._next][1]

    def _wrong(self, expected: str) -> InvalidExpression:
        _, value, place = self._tokens[self._next]
        found = f"{value[:40]!r} at character {place + 1}" if value else "the end"
        return InvalidExpression(f"{self._text[:80]!r}: expected {expected}, found {found}")

    def _take(self, *signs: str) -> str | None:
        if self._value in signs and self._kind in ("sign", "name"):
            self._next += 1
            return self._tokens[self._next - 1][1]
        return None

    def _need(self, sign: str) -> None:
        if self._take(sign) is None:
            raise self._wrong(repr(sign))

    def _choice(self) -> Syntax:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _too_deep(self._text)
        tree = self._left(("||",), lambda: self._left(("&&",), self._relation))
        if self._take("?"):
            yes = self._choice()
            self._need(":")
            tree = Operation("?", (tree, yes, self._choice()))
        self._depth -= 1
        return tree

    def _left(self, signs: tuple[str, ...], part: _Part) -> Syntax:
        tree = part()
        while sign := self._take(*signs):
            tree = Operation(sign, (tree, part()))
        return tree

    def _relation(self) -> Syntax:
        left = self._sum()
        sign = self._take(*_RELATIONS)
        return Operation(sign, (left, self._sum())) if sign else left

    def _sum(self) -> Syntax:
        return self._left(("+", "-"), lambda: self._left(("*", "/", "%"), self._unary))

    def _unary(self) -> Syntax:
        signs: list[str] = []
        while sign := self._take("!", "-"):
            signs.append(sign)
        tree = self._member()
        for sign in reversed(signs):
            tree = Operation(sign, (tree,))
        return tree

    def _member(self) -> Syntax:
        tree = self._primary()
        while True:
            if self._take("."):
                if self._kind != "name":
                    raise self._wrong("a field's name (items of a list are read by [0])")
                tree = Member(tree, Constant(self._value))
                self._next += 1
            elif self._take("["):
                key = self._choice()
                self._need("]")
                named = tree == Source(TASKS) and isinstance(key, Constant) and isinstance(key.value, str)
                tree = Source(key.value) if named and isinstance(key, Constant) else Member(tree, key)
            else:
                return tree

    def _primary(self) -> Syntax:
        kind, value, _ = self._tokens[self._next]
        if kind == "number":
            self._next += 1
            found = int(value) if value.isdigit() else float(value)
            if abs(found) > 1e300:
                raise InvalidExpression(f"{self._text[:80]!r}: {value[:40]} is larger than any number here")
            return Constant(found)
        if kind == "text":
            self._next += 1
            return Constant(self._unescaped(value[1:-1]))
        if self._take("("):
            tree = self._choice()
            self._need(")")
            return tree
        if self._take("["):
            return Items(self._list("]"))
        if kind != "name" or value == "in":
            raise self._wrong("a value, a task or a function")
        self._next += 1
        if value in _CONSTANTS:
            return Constant(_CONSTANTS[value])
        return self._function(value) if self._take("(") else Source(value)

    def _unescaped(self, text: str) -> str:
        plain = _ESCAPE.sub(_unescape, text)
        try:  # two escapes may be one character
            return plain.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise InvalidExpression(f"{self._text[:80]!r}: \\u of half a character; write both halves") from None

    def _function(self, name: str) -> Function:
        if name not in ARITIES:
            known = ", ".join(sorted(ARITIES))
            raise InvalidExpression(f"{self._text[:80]!r}: no function is called {name!r}; there is {known}")
        arguments = self._list(")")
        least, most = ARITIES[name]
        if not least <= len(arguments) <= most:
            takes = str(least) if least == most else f"{least} to {most}"
            raise InvalidExpression(f"{self._text[:80]!r}: {name}() takes {takes} argument(s), got {len(arguments)}")
        return Function(name, arguments)

    def _list(self, end: str) -> tuple[Syntax, ...]:
        items: list[Syntax] = []
        while self._take(end) is None:
            if items:
                self._need(",")
            items.append(self._choice())
        return tuple(items)
