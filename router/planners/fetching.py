"""Tools that fetch what another works on: "translate the weather forecast for Oslo" needs the forecast first."""

from __future__ import annotations

import re
from collections.abc import Iterator

from router.planners.toolset import ANY, Output, Parameter, Tool, Toolset
from router.planners.words import action, stems, told

NAMED = 0.5
"""Share of the words that a tool's name has for what it gives, from which a text speaks of that."""
_MATERIAL = frozenset({"text", "data", "messag", "content", "input", "sentenc", "passag", "body"})
_THING = re.compile(r"(?i)\b(?:the|an?|some|latest|current|today'?s|this|these)\s+((?:[\w-]+\s*){1,4})")
"""Words behind an article: what a text speaks of as a thing."""
_SAYS = re.compile(r"(?i)\b(?:say|says|saying|tell|tells|telling|reads|reading|about)\b")
"""What comes before words that are themselves the text: "saying the weather in Rome is fine"."""


def works_on(item: Parameter) -> bool:
    """Whether a parameter takes a text to work on, whatever it says."""
    return item.type in ("string", ANY) and bool(told(item.name) & _MATERIAL)


def sources(item: Parameter, tool: Tool, text: str, tools: Toolset) -> Iterator[tuple[Tool, Output]]:
    """Yield tools whose answer a text names as what this tool works on, the best first, with the field that it is.

    A tool that changes something is none. For a tool that changes something only those that need a value are, so that
    a word in passing ("with a joke") fetches nothing, nor does what it is to say.
    """
    if tool.acts and _SAYS.search(text):
        return
    things = {word for match in _THING.finditer(text) for word in stems(match[1])} - told(tool.name) - told(item.name)
    found = []
    for other in tools.tools.values():
        texts = [output for output in other.outputs if output.type in ("string", ANY) and not output.of_several]
        if other.name == tool.name or other.acts or not texts or (tool.acts and not other.required):
            continue
        if not tools.linked(other.name, tool.name):
            continue
        named = _named(other, things)
        output = max(texts, key=lambda output: len(told(output.names[-1]) & things))
        if named >= NAMED:
            found.append((named + len(told(output.names[-1]) & things), other.name, other, output))
    for _, _, other, output in sorted(found, key=lambda entry: (-entry[0], entry[1])):
        yield other, output


def _named(tool: Tool, things: set[str]) -> float:
    """Return how much of what a tool gives is named: by the nouns of its name, or by a field of its answer."""
    nouns = {word for word in told(tool.name) if action(word) is None}
    fields = [told(output.names[-1]) for output in tool.outputs]
    share = len(nouns & things) / len(nouns) if nouns else 0.0
    return max(share, *(float(bool(field) and field <= things) for field in fields), 0.0)
