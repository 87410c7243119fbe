"""How much the expressions of one call may look at and give, so that no value makes it long or large."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from graph.errors import PayloadTooLarge
from graph.expressions.syntax import InvalidExpression
from graph.types import Json

MOST: Final = 3_000_000
"""Values that may be looked at: about half a second."""
LARGEST: Final = 32 * 2**20
"""Characters that references and expressions may put into one call, all together."""
_CHARACTERS: Final = 64
"""Characters that take as long as a value to search or to compare; to read them as JSON takes eight times as long."""
_VALUE: Final = 16
"""Characters that a value counts for."""
_KEPT: Final = 16


class Effort:
    """What was looked at and given so far for one call, and the JSON that was read meanwhile."""

    def __init__(self, most: int = MOST, largest: int = LARGEST) -> None:
        self._left = most
        self._room = largest
        self._read: dict[str, Json] = {}
        self._sources: dict[str, Json] = {}

    def look(self, *values: Any) -> None:
        """Count values and all that is inside them. Raises `InvalidExpression` when it is too much."""
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            self._looked(1 + (len(value) // _CHARACTERS if isinstance(value, (str, bytes)) else _count(value)))
            waiting += _inside(value)

    def give(self, value: Any) -> Any:
        """Return a value that a call is made of. Raises `PayloadTooLarge` when the call becomes too large."""
        waiting = [value]
        while waiting:
            item = waiting.pop()
            item = getattr(item, "value", item)  # of a payload
            self._room -= len(item) if isinstance(item, (str, bytes)) else _VALUE * (1 + _count(item))
            if self._room < 0:
                message = f"the references of one task come to more than {LARGEST} characters"
                raise PayloadTooLarge(message, param="plan")
            waiting += _inside(item)
        return value

    def source(self, name: str, make: Callable[[], Json]) -> Json:
        """Return the value of a source, made once."""
        if name not in self._sources:
            self._sources[name] = make()
        return self._sources[name]

    def read(self, text: str) -> Json:
        """Return what a text says that is a JSON object or list, and any other text as it is."""
        if text not in self._read:
            self._looked(1 + len(text) * 8 // _CHARACTERS)
            if len(self._read) >= _KEPT:
                self._read.clear()
            self._read[text] = parsed_object(text)
        return self._read[text]

    def _looked(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise InvalidExpression("looks at too many values; compute a part of it in a task of its own")


def parsed_object(text: str) -> Json:
    """Return the object or list that a text is as JSON, or the text."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, (Mapping, list)) else text


def _count(value: Any) -> int:
    return len(value) if isinstance(value, (Mapping, list, tuple)) else 0


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
