"""The functions of expressions, and what they and the operators ask of values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from graph.expressions.effort import parsed_object
from graph.expressions.syntax import Absent, InvalidExpression
from graph.types import Json

MAX_TEXT = 1_000_000
"""Characters of a text that an expression may make."""
MAX_ITEMS = 100_000
"""Items of a list that an expression may make."""
INDEX = re.compile(r"-?[0-9]{1,9}")
"""A place in a list, as a text says it."""


def member(value: Json, key: Json, path: str, read: Callable[[str], Json] = parsed_object) -> Json:
    """Return a field of an object or an element of a list; raise `Absent` naming what there is instead.

    A text that is JSON has its fields, and every text has `text`: models answer in text.
    """
    if isinstance(value, str):
        said = read(value)
        if key == "text" and not (isinstance(said, Mapping) and key in said):
            return value
        value = said
    if isinstance(value, Mapping):
        if isinstance(key, str) and key in value:
            return value[key]
        raise Absent(f"{path}: no field {show(key)}; there is {', '.join(map(str, list(value)[:20])) or 'none'}")
    if isinstance(value, list):
        index = int(key) if isinstance(key, str) and INDEX.fullmatch(key) else key
        if not isinstance(index, int) or isinstance(index, bool):
            raise Absent(f"{path}: {show(key)} is no index of a list; indices are whole numbers")
        if -len(value) <= index < len(value):
            return value[index]
        raise Absent(f"{path}: no item {index}; the list has {len(value)}")
    raise Absent(f"{path}: {show(value)} has no field {show(key)}")


def equal(left: Json, right: Json) -> bool:
    """Compare as JSON does: true is not 1."""
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    return bool(left == right)


def boolean(value: Json, sign: str) -> bool:
    """Return a truth value; raise for anything else."""
    if isinstance(value, bool):
        return value
    raise InvalidExpression(f"{sign}: {show(value)} is neither true nor false: compare it")


def number(value: Json, name: str) -> Any:
    """Return a number; raise for anything else, true and false too."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    hint = ": use number()" if isinstance(value, str) else ""
    raise InvalidExpression(f"{name}: {show(value)} is no number{hint}")


def text_of(value: Json, name: str) -> str:
    """Return a text; raise for anything else."""
    if isinstance(value, str):
        return value
    raise InvalidExpression(f"{name}: {show(value)} is no text: use text()")


def _list(value: Json, name: str) -> list[Json]:
    if isinstance(value, list):
        return value
    raise InvalidExpression(f"{name}: {show(value)} is no list")


def bounded(value: Json) -> Json:
    """Return a value that has not grown too large; raise for one that has."""
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise InvalidExpression(f"makes a text of {len(value)} characters; at most {MAX_TEXT} are allowed")
    if isinstance(value, list) and len(value) > MAX_ITEMS:
        raise InvalidExpression(f"makes a list of {len(value)} items; at most {MAX_ITEMS} are allowed")
    return value


def _size(value: Json) -> int:
    if isinstance(value, (str, list, Mapping)):
        return len(value)
    raise InvalidExpression(f"size: {show(value)} is no text, list or object")


def _contains(value: Json, part: Json) -> bool:
    if isinstance(value, str):
        return text_of(part, "contains") in value
    return any(equal(item, part) for item in _list(value, "contains"))


def _split(value: Json, separator: Json) -> list[str]:
    if separator == "":
        raise InvalidExpression("split: the separator is empty")
    return text_of(value, "split").split(text_of(separator, "split"))


def _join(value: Json, separator: Json) -> str:
    texts = [as_plain_text(item) for item in _list(value, "join")]
    between = text_of(separator, "join")
    total = sum(map(len, texts)) + len(between) * len(texts)
    if total > 2 * MAX_TEXT:
        raise InvalidExpression(f"makes a text of {total} characters; at most {MAX_TEXT} are allowed")
    return between.join(texts)


def _flatten(value: Json) -> list[Json]:
    flat: list[Json] = []
    for item in _list(value, "flatten"):
        flat.extend(item if isinstance(item, list) else [item])
        bounded(flat)
    return flat


def _pluck(value: Json, name: Json) -> list[Json]:
    return [member(item, name, f"pluck, item {index}") for index, item in enumerate(_list(value, "pluck"))]


def _end(index: int) -> Callable[[Json], Json]:
    return lambda value: member(
        _list(value, "first" if index == 0 else "last"), index, "first" if index == 0 else "last"
    )


def _of_numbers(name: str, compute: Callable[[list[Any]], Any]) -> Callable[[Json], Json]:
    def run(value: Json) -> Json:
        numbers = [number(item, name) for item in _list(value, name)]
        if not numbers and name != "sum":
            raise Absent(f"{name}: the list is empty")
        found = compute(numbers)
        if abs(found) > 1e300 or found != found:
            raise InvalidExpression(f"{name}: the result is no finite number")
        return found

    return run


def _to_number(value: Json) -> Json:
    if isinstance(value, str):
        text = value.strip().replace("_", "x")  # Python reads 1_000, which is no number to anybody else
        try:
            found: float = int(text) if text.lstrip("+-").isdigit() and len(text) < 300 else float(text)
        except ValueError:
            raise InvalidExpression(f"number: {show(value)} is no number") from None
        if math.isfinite(found):
            return found
        raise InvalidExpression(f"number: {show(value)} is no finite number")
    return number(value, "number")


def _round(value: Json) -> Json:
    found = number(value, "round")
    if not math.isfinite(found):
        raise InvalidExpression(f"round: {found} is no finite number")
    return round(found)


def as_plain_text(value: Json) -> str:
    """Return a text as it is, and any other value as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


FUNCTIONS: Mapping[str, Callable[..., Json]] = {
    "size": _size,
    "lower": lambda value: text_of(value, "lower").lower(),
    "upper": lambda value: text_of(value, "upper").upper(),
    "trim": lambda value: text_of(value, "trim").strip(),
    "contains": _contains,
    "starts_with": lambda value, part: text_of(value, "starts_with").startswith(text_of(part, "starts_with")),
    "ends_with": lambda value, part: text_of(value, "ends_with").endswith(text_of(part, "ends_with")),
    "split": _split,
    "join": _join,
    "flatten": _flatten,
    "pluck": _pluck,
    "first": _end(0),
    "last": _end(-1),
    "sum": _of_numbers("sum", sum),
    "min": _of_numbers("min", min),
    "max": _of_numbers("max", max),
    "round": _round,
    "number": _to_number,
    "text": as_plain_text,
}


def show(value: Json) -> str:
    """Return a value as an error shows it."""
    shown = as_plain_text(value) if not isinstance(value, str) else f"text {value[:60]!r}"
    return shown if len(shown) <= 80 else shown[:77] + "..."
