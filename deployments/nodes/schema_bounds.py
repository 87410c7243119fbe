"""How large a JSON schema may be that a model's answer is held to.

llama.cpp makes a grammar of it and follows every alternative at every token, in the one loop that answers all callers,
and nothing stops it: a list of a few thousand allowed values keeps a node from answering anybody for hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from graph.errors import InvalidRequest

MOST: Final = 2000
"""Parts of a schema, each counted as often as it is repeated."""
MAX_DEPTH: Final = 40
"""Objects and lists inside each other, of a schema for a grammar."""
_CHOICES: Final = ("enum", "anyOf", "oneOf", "allOf")
_CHOICE: Final = 4
"""Parts that an alternative counts for: all of them are followed at once."""
_LENGTHS: Final = ("minItems", "maxItems")
_CHARACTERS: Final = 16
"""Characters of an allowed value or a name that count for a part."""
_WORDS: Final = ("description", "title", "$comment", "examples", "default")


def check_schema(value: Any, param: str, node: str) -> None:
    """Raise `InvalidRequest` if a value that holds schemas is larger than a grammar may be."""
    waiting: list[tuple[Any, int]] = [(value, 1)]
    parts = MOST + 1 if is_deeper(value, MAX_DEPTH) else 0
    while waiting:
        item, times = waiting.pop()
        parts += times * (1 + (len(item) // _CHARACTERS if isinstance(item, str) else 0))
        if parts > MOST:
            message = f"the schema is too large: at most {MOST} parts, repeated ones counted, and {MAX_DEPTH} levels"
            raise InvalidRequest(message, param=param, node=node)
        if isinstance(item, list):
            waiting += [(inner, times) for inner in item[: MOST + 1]]
        elif isinstance(item, Mapping):
            waiting += [(name, 1) for name in list(item)[: MOST + 1] if len(name) > _CHARACTERS]
            waiting += [
                (inner, times * _repeats(item, key))
                for key, inner in list(item.items())[: MOST + 1]
                if isinstance(inner, (Mapping, list)) or (key in ("const", "pattern") and isinstance(inner, str))
                if key not in _WORDS
            ]


def is_deeper(value: Any, levels: int) -> bool:
    """Say whether objects and lists lie more than so many levels inside each other."""
    within = [value]
    for _ in range(levels):
        within = [item for item in within if isinstance(item, (dict, list))]
        if not within:
            return False
        within = [inner for item in within for inner in (item.values() if isinstance(item, dict) else item)]
    return any(isinstance(item, (dict, list)) for item in within)


def _repeats(schema: Mapping[str, Any], key: str) -> int:
    """Return how often a grammar has what stands under a key of a schema."""
    if key in _CHOICES:
        return _CHOICE
    if key not in ("items", "prefixItems"):
        return 1
    lengths = (schema.get(name) for name in _LENGTHS)
    return max([1, *(int(n) for n in lengths if isinstance(n, (int, float)) and 0 < n < 2**53)])
