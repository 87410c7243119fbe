"""Which tool each part of a request asks for, by descriptions, values and what came before."""

from __future__ import annotations

import re
from collections.abc import Sequence

from graph.plan import Ref
from router.planners.binding import bind
from router.planners.matching import Matcher, Part
from router.planners.references import Given, identifies
from router.planners.toolset import Tool, Toolset
from router.planners.values import mentions, without_mentions
from router.planners.words import action, stems, told
from router.types import Array

MIN_SCORE = 0.3
"""Score below which a part of a request asks for no tool here, unless it is all there is."""
SHARE = 0.55
"""Of the best part's score; a part that scores below it goes with the part before."""
_VALUED = re.compile(r"(?i)^(?:with |the |and )*((?:\w+ ){1,2}?)(?:(?:is|of|as) )?['\"\d]")
_OF_A_VALUE = frozenset({"address", "number", "cod"})  # by their stems
LIKELY = 6
"""Tools whose parameters are held against a part of a request."""
TAKEN, LACKING = 0.15, 0.1
"""Weights of the share of values that a tool takes, and of required parameters that it is not given."""


def choose(matcher: Matcher, parts: Sequence[Part]) -> list[tuple[Part, int]]:
    """Return the parts that ask for something, each with its tool; what asks for nothing joins the part before.

    A part that asks in the words of an earlier one, of another value, asks for the same tool.
    """
    top = max((float(part.scores.max()) for part in parts), default=0.0)
    found: list[tuple[Part, int]] = []
    asked: dict[frozenset[str], int] = {}
    for part in parts:
        score = float(part.scores.max())
        asks = action(part.text) is not None
        weak = score < max(MIN_SCORE, (0.3 if asks else SHARE) * top)
        described = found and _describes(part.text, matcher.tools.tools[matcher.tools.names[found[-1][1]]])
        if found and not part.opens and (weak or described):
            last, tool = found[-1]
            found[-1] = (Part(f"{last.text}. {part.text}", last.scores), tool)
            continue
        chosen = [matcher.tools.tools[matcher.tools.names[index]] for _, index in found]
        words = frozenset(stems(without_mentions(part.text)))
        scores = part.scores if words in asked else matcher.after(part, chosen)
        index = asked[words] if words in asked else best_bound(matcher.tools, part.text, scores, chosen)
        found.append((Part(part.text, scores), index))
        if words:
            asked[words] = index
    return found if top >= 0.1 else []


def _describes(text: str, tool: Tool) -> bool:
    """Whether a text only names a parameter of a tool and its value: "email 'jo@doe.org'"."""
    match = _VALUED.match(text)
    if match is None:
        return False
    words = told(match[1]) - _OF_A_VALUE
    return bool(words) and words <= {word for item in tool.parameters for word in told(item.name)}


def best_bound(tools: Toolset, text: str, scores: Array, earlier: Sequence[Tool]) -> int:
    """Return the tool that fits best, of the likeliest, counting how much of the text its parameters take.

    A required parameter that nothing gives speaks against a tool; an identifier, which can be looked up, does not.
    """
    likely = [int(index) for index in scores.argsort()[::-1][:LIKELY]]
    there = mentions(text)
    given = [Given(f"g{index}", tool, "") for index, tool in enumerate(earlier)]
    worth = {}
    for index in likely:
        tool = tools.tools[tools.names[index]]
        bound = bind(tool, text, text, given, borrow=False)
        literal = sum(1 for value in bound.arguments.values() if not isinstance(value, Ref))
        taken = min(literal, len(there)) / max(len(there), 1)
        lacking = sum(not identifies(item) for item in bound.missing) / max(len(tool.required), 1)
        worth[index] = float(scores[index]) + TAKEN * taken - LACKING * lacking
    return max(worth, key=lambda index: worth[index])


def aligned(parts: Sequence[Part], columns: Sequence[int]) -> list[str]:
    """Give each tool, in order, the part that speaks of it; never an earlier part than the tool before has."""
    count, width = len(parts), len(columns)
    best = [[float("-inf")] * count for _ in range(width)]
    back = [[0] * count for _ in range(width)]
    for row, column in enumerate(columns):
        for at, part in enumerate(parts):
            before = [(best[row - 1][i] + (0.0 if i == at else 0.15), i) for i in range(at + 1)] if row else [(0.0, 0)]
            value, back[row][at] = max(before)
            best[row][at] = value + float(part.scores[column])
    at = max(range(count), key=lambda index: best[-1][index])
    found = []
    for row in reversed(range(width)):
        found.append(parts[at].text)
        at = back[row][at]
    return found[::-1]
