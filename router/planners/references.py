"""Which output of an earlier task a parameter takes: by name, description and type, and by what the words say of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from graph.plan import Ref, Value
from router.planners.toolset import Output, Parameter, Tool
from router.planners.words import stems, told

REFERENCE = 0.75
"""Score from which an earlier output is taken for a required parameter."""
MENTIONED = 0.4
"""Likeness of an output that is named by the words that ask for the tool, whatever the parameter is called."""
UNSAID = 0.99
"""Most that such an output scores: it does not take the place of a value that the words give."""
WORKED_ON = 2.0
"""Likeness of the output of a tool that did what the words say was done: "the translated sentence"."""
NUMBERS = ("number", "integer")
_IDENTIFIES = re.compile(
    r"(?:^|_)(?:id|key|code|token|cik|uuid)s?$|Ids?$|(?<=[a-z])(?:Code|Key|Token|Number)$|_?geo_?id", re.IGNORECASE
)
_IT = re.compile(r"(?i)\b(?:it|this|that|the results?)\b")
_FIRST = re.compile(r"(?i)\bthe (?:very )?first(?: one)?\W*$")
"""At the end of a clause: "and cancel the first one"."""
_WORKED_ON = re.compile(
    r"(?i)\b(\w{3,}(?:ed|en))\s+((?:(?!(?:and|or|with|in|on|to|for|from|of|by|using|at)\b)[\w-]+\s*){1,5})"
)
_OTHERWISE = re.compile(r"(?i)\b(?:not|never|but|except|without|only if|unless)\b|n't\b")


@dataclass(frozen=True, slots=True)
class Given:
    """A task that comes before: its id, tool and the words that asked for it."""

    id: str
    tool: Tool
    text: str
    arguments: dict[str, Value] = field(default_factory=dict)


def refer(
    item: Parameter,
    clause: str,
    earlier: Sequence[Given],
    pointing: bool,
    spent: Collection[Ref] = (),
    *,
    one_of_several: bool = True,
) -> tuple[float, Ref] | None:
    """Find the earlier output that a parameter takes; None if none comes near.

    Of a list it is the first thing's, if that is said or `one_of_several` will do.
    """
    best: tuple[float, Ref] | None = None
    one_of_several = one_of_several or (_FIRST.search(clause) is not None and not _OTHERWISE.search(clause))
    words = _Words(frozenset(stems(clause)), _done_to(item, clause), pointing, _IT.search(clause) is not None)
    for age, given in enumerate(reversed(earlier)):
        for output in given.tool.outputs:
            if Ref(given.id, output.path) in spent or (output.of_several and not one_of_several):
                continue
            score = _score(item, output, given.tool, words, age)
            if score >= REFERENCE and (best is None or score > best[0] + 1e-9):
                best = score, Ref(given.id, output.path)
    return best


@dataclass(frozen=True, slots=True)
class _Words:
    """What the words that ask for a tool say."""

    said: frozenset[str]
    done: frozenset[str]
    """What was done to that which the parameter takes."""
    pointing: bool
    """Whether they point back: "it", "the translated text"."""
    it: bool
    """Whether they do so without saying what it is."""


def _score(item: Parameter, output: Output, source: Tool, words: _Words, age: int) -> float:
    """Say how well an output of an earlier tool, `age` tasks back, fits a parameter; 0 for not at all."""
    score = similar(item, output, source)
    named = told(output.names[-1])
    if told(source.name) & words.done and _alike(item.type, output.type) and not identifies(item):
        score += WORKED_ON + (0.3 if named & words.done else 0.0)
    it = words.it and age == 0 and len(source.outputs) == 1
    mentioned = it or (bool(named) and named <= words.said)
    only_mentioned = score < MENTIONED and mentioned and item.type in NUMBERS and output.type in NUMBERS
    score = (MENTIONED if only_mentioned else score) - 0.06 * age
    if score <= 0.0:
        return 0.0
    if mentioned:
        score += 0.7 if len(named) > 1 else 0.5
    if words.pointing and age == 0:
        score += 0.3
    if loose(item) and (len(source.outputs) == 1 or named & told(source.name)):
        score += 0.2
    if words.pointing and told(source.name) & words.said:
        score += 0.25
    return min(score, UNSAID) if only_mentioned else score


def _done_to(item: Parameter, clause: str) -> frozenset[str]:
    """Return the stems of what a text says was done to a parameter's value: "the translated joke as the title"."""
    found = _WORKED_ON.finditer(clause)
    return frozenset(word for match in found if told(item.name) & set(stems(match[2])) for word in stems(match[1]))


def origin(ref: Ref, earlier: Sequence[Given]) -> Value:
    """Return where a value comes from: what a tool was given under a field's name is what it gives back there."""
    given = next(given for given in earlier if given.id == ref.task)
    return given.arguments.get(ref.path[0], ref) if len(ref.path) == 1 else ref


_LOOSE = frozenset(
    {"text", "data", "messag", "content", "input", "word", "number", "num", "queri", "query", "q", "argument", "valu"}
)


def loose(item: Parameter) -> bool:
    """Whether a parameter's name says nothing of what it holds."""
    return bool({word.rstrip("0123456789") for word in told(item.name)} & _LOOSE)


def similar(item: Parameter, output: Output, source: Tool) -> float:
    """Say how well an output's field fits a parameter, by name, description and type."""
    if not _types_fit(item.type, output.type):
        return 0.0
    path = output.names
    wanted, given = told(item.name), told(path[-1])
    if len(path) > 1 and len(given) == 1:
        given |= told(path[-2]) if given & {"id", "name", "code"} else set()
    about = told(source.name)
    shared = wanted & (given | (about if given & {"id", "name"} else set()))
    score = 1.2 * len(shared) / max(len(wanted | given), 1) if given & wanted else 0.0
    if wanted == given:
        score += 0.3
    if "id" in wanted and "id" not in given and not given & {"cik", "key", "code"}:
        return 0.3 * score
    said, heard = told(item.description), told(output.description)
    if said and heard:
        score += 0.6 * len(said & heard) / len(said | heard) ** 0.5 / 2
    if loose(item):
        score += 0.35
    return score - 0.03 * (len(path) - 1)


def _alike(wanted: str, given: str) -> bool:
    """Whether two types are of one kind: numbers, or words."""
    return (wanted in NUMBERS and given in NUMBERS) or wanted == given == "string"


def _types_fit(wanted: str, given: str) -> bool:
    if "any" in (wanted, given) or wanted in (given, "array"):
        return True
    if wanted in NUMBERS:
        return given in NUMBERS
    if wanted == "string":
        return given in ("integer", "number", "string")
    return False


def identifies(item: Parameter) -> bool:
    """Whether a parameter's value is an identifier, which is looked up rather than said."""
    return _IDENTIFIES.search(item.name) is not None
