"""Whether a text asks for a tool at all: a logistic decision on four signs of what the two have in common."""

from __future__ import annotations

import math

from router.planners.binding import bind
from router.planners.toolset import Tool
from router.planners.values import without_mentions
from router.planners.words import stems, told

WEIGHTS = (3.5, 2.4, 0.8, 0.8)
BIAS = -4.3
"""Fitted on every second row of BFCL v4, NESTFUL, WorFBench and MetaTool: requests with their own tools, against the
same with one of the nearest, or any, of the others' tools. MetaTool's are said as people say them, without the tools'
own words; small talk stays below all of them."""
_SAID_OF_ANY = frozenset(
    stems(
        "find search look lookup show get list fetch retrieve check query browse view see locate discover return "
        "create add make set open calculate compute determine work generate produce give tell provide know help like "
        "want detail details information info data value values result results given based specific"
    )
)
"""Words that do not say what a tool is about."""


def relevance(tool: Tool, text: str, score: float) -> float:
    """Return the probability that a text asks for a tool, given the matcher's score of the two."""
    odds = BIAS + sum(weight * sign for weight, sign in zip(WEIGHTS, signs(tool, text, score), strict=True))
    return 1.0 / (1.0 + math.exp(-odds))


def signs(tool: Tool, text: str, score: float) -> tuple[float, float, float, float]:
    """Return what speaks for a tool, each from 0 to about 1.

    The matcher's score; the shares of required parameters that a value of the text fits, of the words of the tool's
    name that the text says, and of the text's words that the tool's name, description and parameters say.
    """
    bound = bind(tool, text, text, [], borrow=False).arguments
    filled = [item.name in bound for item in tool.required]
    words = stems(text)
    named = [word in words for word in told(tool.name) - _SAID_OF_ANY]
    known = {word for part in _texts(tool) for word in told(part)}
    covered = [word in known for word in set(_about(without_mentions(text)) or _about(text))]
    return score, _share(filled, 1.0), _share(named, 0.5), _share(covered, 0.5)


def _share(found: list[bool], otherwise: float) -> float:
    return sum(found) / len(found) if found else otherwise


def _about(text: str) -> list[str]:
    return [word for word in stems(text) if word not in _SAID_OF_ANY and not word.isdigit() and len(word) > 2]


def _texts(tool: Tool) -> list[str]:
    of_parameters = [
        text for item in tool.parameters for text in (item.name, item.description, *map(str, item.choices))
    ]
    return [tool.name, tool.description, *of_parameters]
