"""How large a plan may be that a caller gives: counted before it is read, so that reading takes a second at most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from graph.errors import InvalidPlan, Problem

MAX_VALUES: Final = 200_000
"""Fields, items and values of a plan, all together."""
MAX_REFERENCES: Final = 20_000
"""References and expressions."""
MAX_EXPRESSIONS: Final = 50_000
"""Characters of all expressions together, those of the answer's template too."""
_CONDITIONS: Final = ("when", "expect", "until", "template")


def check_bounds(*parts: Any) -> None:
    """Raise `InvalidPlan` if a plan, as JSON, is larger than one may be."""
    values = referred = characters = 0
    for part in parts:
        for value in _walk(part):
            values += 1 + (len(value) if isinstance(value, (Mapping, list)) else 0)
            if isinstance(value, Mapping):
                referred += "$ref" in value or "$expr" in value
                characters += sum(_length(value.get(key)) for key in ("$expr", *_CONDITIONS))
            for count, most, what in (
                (values, MAX_VALUES, "values"),
                (referred, MAX_REFERENCES, "references and expressions"),
                (characters, MAX_EXPRESSIONS, "characters of expressions"),
            ):
                if count > most:
                    raise InvalidPlan([Problem("plan", "", f"has more than {most} {what}")])


def _walk(part: Any) -> Iterator[Any]:
    """Yield a value and the lists and objects inside it."""
    waiting = [part]
    while waiting:
        value = waiting.pop()
        yield value
        inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        waiting += [item for item in inside if isinstance(item, (Mapping, list))]


def _length(value: Any) -> int:
    texts = value.values() if isinstance(value, Mapping) else (value,)
    return sum(len(text) for text in texts if isinstance(text, str))
