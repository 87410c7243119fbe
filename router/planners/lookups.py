"""Tools that look up what a call needs and nobody says: the id of the customer Ana Ruiz, the coordinates of Bergen."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from router.planners.binding import loose, similar
from router.planners.toolset import ANY, Parameter, Tool, Toolset
from router.planners.words import action, spoken, stems

ENOUGH = 0.9
"""Score from which a tool is taken to look something up."""
MAX_CHAIN = 2
"""Tools that are put before a task, one for the other, for one input."""
_STEP = 0.3
"""What a further step of a chain takes off its score."""
_LOOKS_UP = re.compile(r"(?i)\b(?:find|search|get|list|look ?up|retriev\w*|fetch\w*|return\w*|details?)\b")
_IDENTIFIES = re.compile(
    r"(?:^|_)(?:id|key|code|token|cik|uuid)s?$|Ids?$|(?<=[a-z])(?:Code|Key|Token|Number)$|_?geo_?id", re.IGNORECASE
)
_WITHIN_NAMES = re.compile(r"['\u2019.-]")
_NUMBERS = ("number", "integer")
_SAYS_NOTHING = frozenset({"id", "name", "key", "cod", "number"})


def identifies(item: Parameter) -> bool:
    """Whether a parameter's value is an identifier, which is looked up rather than said."""
    return _IDENTIFIES.search(item.name) is not None


def producers(item: Parameter, consumer: Tool, tools: Sequence[Tool]) -> Iterator[tuple[float, Tool]]:
    """Yield the tools that look up what a parameter takes, each with how well it does.

    An identifier is looked up for any tool; what people say themselves (a name, a title) only for a tool that acts on
    it, never for one that looks up things by it.
    """
    if not identifies(item) and (_LOOKS_UP.search(spoken(consumer.name)) or loose(item)):
        return
    for tool in tools:
        if not _LOOKS_UP.search(f"{spoken(tool.name)} {tool.description[:60]}"):
            continue
        outputs = [output for output in tool.outputs if not (consumer.acts and output.of_several)]
        best = max((similar(item, output, tool) for output in outputs), default=0.0)
        if best > 0.6:
            yield best, tool


def related(item: Parameter, tool: Tool, tools: Toolset, had: Collection[str]) -> Iterator[tuple[float, Tool]]:
    """Yield the tools that may look up a tool's parameter, each with how well it does.

    They speak of the same thing: by their names, or, for a number, by giving a field of the parameter's very name.
    """
    entity = set(stems(item.name)) - _SAYS_NOTHING
    others = [other for name, other in tools.tools.items() if name != tool.name and name not in had]
    for score, other in producers(item, tool, others):
        kin = _kin(tool, other) | (entity & set(stems(other.name)))
        if not kin and item.type in _NUMBERS and any(output.names[-1] == item.name for output in other.outputs):
            kin = entity
        if kin and tools.linked(other.name, tool.name):
            yield score + 0.15 * len(kin), other


def chain_to(item: Parameter, tool: Tool, tools: Toolset, fits: Callable[[Tool], float]) -> tuple[Tool, ...]:
    """Find the tools that lead from a name to an identifier: the first takes the name, others what the one before gave.

    Nothing where there are none.
    """
    return _scored_chain(item, tool, tools, fits, MAX_CHAIN)[1]


def _scored_chain(
    item: Parameter, tool: Tool, tools: Toolset, fits: Callable[[Tool], float], depth: int
) -> tuple[float, tuple[Tool, ...]]:
    found: list[tuple[float, tuple[Tool, ...]]] = []
    for score, other in related(item, tool, tools, ()):
        if len(other.required) != 1:
            continue
        needed = other.required[0]
        if not identifies(needed) and needed.type in ("string", ANY):
            found.append((score + fits(other), (other,)))
        elif identifies(needed) and depth > 1 and (inner := _scored_chain(needed, other, tools, fits, depth - 1)[1]):
            found.append((score + fits(other) - _STEP, (*inner, other)))
    best = max(found, key=lambda entry: (entry[0], entry[1][-1].name), default=(0.0, ()))
    return best if best[0] >= ENOUGH else (0.0, ())


def is_name(value: Any) -> bool:
    """Whether a value is what somebody is called (`Mary-Jane O'Neil`, `Guido van Rossum`), and no identifier."""
    words = value.split() if isinstance(value, str) else []
    if not words or not any(map(str.islower, value)):
        return False
    return all(map(_capital, (words[0], words[-1]))) and all(_capital(word) or word.islower() for word in words)


def _capital(word: str) -> bool:
    """Whether a word is letters, with capitals at the beginning of its parts alone."""
    parts = [part for part in _WITHIN_NAMES.split(word) if part]
    return bool(parts) and all(part.isalpha() and part == part.capitalize() for part in parts)


def _kin(one: Tool, other: Tool) -> set[str]:
    """Return the words that two tools' names share, verbs left out."""
    return {word for word in set(stems(one.name)) & set(stems(other.name)) if action(word) is None}
