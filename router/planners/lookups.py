"""Tools that look up what a call needs and nobody says: the id of the customer Ana Ruiz, the coordinates of Bergen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from graph.plan import Value
from router.planners.references import NUMBERS, identifies, loose, similar
from router.planners.toolset import ANY, Parameter, Tool, Toolset
from router.planners.words import action, spoken, told

ENOUGH = 0.9
"""Score from which a tool is taken to look something up."""
MAX_CHAIN = 2
"""Tools that are put before a task, one for the other, for one input."""
_SIMILAR = 0.6
"""Likeness of an output to a parameter from which it may be what is looked for."""
_STEP = 0.3
"""What a further step of a chain takes off its score."""
_LOOKS_UP = re.compile(r"(?i)\b(?:find|search|get|list|look ?up|retriev\w*|fetch\w*|return\w*|details?)\b")
_WORKS_OUT = re.compile(_LOOKS_UP.pattern + r"|\b(?:calculat\w*|comput\w*|estimat\w*|measur\w*|determin\w*)\b")
_WITHIN_NAMES = re.compile(r"['\u2019.-]")
_MARKS = frozenset({"id", "key", "cod", "number"})
_SAYS_NOTHING = _MARKS | {"name"}
_OF = frozenset({"of", "from", "for", "by", "with"})
_WORDS = re.compile(r"[\w-]+")


def related(item: Parameter, tool: Tool, tools: Toolset) -> Iterator[tuple[float, Tool]]:
    """Yield the tools that may look up a tool's parameter, each with how well it does.

    An identifier is looked up for any tool; what people say themselves (a name, a title) only for a tool that acts on
    it, never for one that looks up things by it. Both tools speak of the same thing: by their names, or, for a number,
    by a field of the parameter's very name. A tool that changes something is no look-up.
    """
    if not identifies(item) and (_LOOKS_UP.search(spoken(tool.name)) or loose(item)):
        return
    entity = told(item.name) - _SAYS_NOTHING
    for other in tools.tools.values():
        if other.name == tool.name or other.acts or not other.outputs or not tools.linked(other.name, tool.name):
            continue
        kin = _kin(tool, other) | (entity & told(other.name))
        if not kin and item.type in NUMBERS and any(output.names[-1] == item.name for output in other.outputs):
            kin = entity
        ways = _WORKS_OUT if item.type in NUMBERS else _LOOKS_UP
        if kin and ways.search(f"{spoken(other.name)} {other.description[:60]}"):
            outputs = [output for output in other.outputs if not (tool.acts and output.of_several)]
            score = max((similar(item, output, other) for output in outputs), default=0.0)
            if score > _SIMILAR:
                yield score + 0.15 * len(kin), other


def chain_to(item: Parameter, tool: Tool, tools: Toolset, fits: Callable[[Tool], float]) -> tuple[Tool, ...]:
    """Find the tools that lead from a name to an identifier: the first takes the name, others what the one before gave.

    Nothing where there are none. For a tool that changes something, none of them may have found several things.
    """
    return _scored_chain(item, tool, tools, fits, MAX_CHAIN)[1]


def _scored_chain(
    item: Parameter, tool: Tool, tools: Toolset, fits: Callable[[Tool], float], depth: int
) -> tuple[float, tuple[Tool, ...]]:
    found: list[tuple[float, tuple[Tool, ...]]] = []
    for score, other in related(item, tool, tools):
        if len(other.required) != 1:
            continue
        needed = other.required[0]
        if not identifies(needed) and needed.type in ("string", ANY):
            found.append((score + fits(other), (other,)))
        elif identifies(needed) and depth > 1:
            taker = replace(other, acts=tool.acts)
            if inner := _scored_chain(needed, taker, tools, fits, depth - 1)[1]:
                found.append((score + fits(other) - _STEP, (*inner, other)))
    best = max(found, key=lambda entry: (entry[0], entry[1][-1].name), default=(0.0, ()))
    return best if best[0] >= ENOUGH else (0.0, ())


def is_name(value: str) -> bool:
    """Whether a value is what somebody is called (`Mary-Jane O'Neil`, `ana ruiz`, `Paris`), and no identifier."""
    words = value.split()
    parts = [part for word in words for part in _WITHIN_NAMES.split(word) if part]
    if not parts or not all(map(str.isalpha, parts)):
        return False
    caseless = value.upper() == value.lower()
    return len(words) > 1 or caseless or (any(map(str.islower, value)) and all(p == p.capitalize() for p in parts))


def named_otherwise(name: str, item: Parameter, finder: Tool, text: str) -> bool:
    """Whether the words before a name say that it is the identifier itself, and not what the `finder` finds.

    "customer id Acme" and "order Alpha" say so; "the order of Ana Ruiz" and "of the customer Ana Ruiz" do not.
    """
    words = _WORDS.findall(text[: max(text.find(name), 0)])[-2:]
    if words and words[-1].lower() in _OF:
        return False
    before = told(" ".join(words))
    return bool(before & _MARKS or (before & told(item.name) and not before & told(finder.name)))


def _kin(one: Tool, other: Tool) -> frozenset[str]:
    """Return the words that two tools' names share, verbs left out."""
    return frozenset(word for word in told(one.name) & told(other.name) if action(word) is None)


def without_ids(text: str, tool: Tool, arguments: Mapping[str, Value], other: Tool) -> str:
    """Return a text without the identifiers that a call has and that a look-up for it does not ask for."""
    own = {item.name for item in other.parameters}
    for item in tool.parameters:
        value = arguments.get(item.name)
        if isinstance(value, str) and identifies(item) and item.name not in own:
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "", text)
    return text
