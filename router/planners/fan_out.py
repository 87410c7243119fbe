"""How often one part of a request calls its tool: "the weather in Rome, Oslo and Bern" is three calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise, product

from graph.plan import Value
from router.planners.columns import BREAK, PAIRED, Column, columns_of
from router.planners.fitting import cast
from router.planners.toolset import Tool

MAX_CALLS = 64
MAX_LENGTH = 4000
"""Characters from which a text is material to work on: it is one call."""
_EACH = re.compile(r"(?i)\b(?:both|each of)(?:\s+the)?\s+$")


@dataclass(frozen=True, slots=True)
class Asked:
    """One call that a text asks for."""

    text: str
    """The words that speak of this call."""
    values: dict[str, Value] = field(default_factory=dict)
    """What is known of its arguments because the text asks for several calls."""


def fan_out(tool: Tool, text: str) -> list[Asked]:
    """Return the calls that a text asks of a tool: more than one where it gives a parameter more than one value.

    Of two lists, every item of one goes with every item of the other, unless the text says "respectively". Where a
    parameter is given again ("a circle of radius 5 and another of radius 10") values go together in order. What is
    said once is shared. Of more than `MAX_CALLS` in a list it returns one more than that, for the caller to refuse.
    """
    columns = columns_of(tool, text) if len(text) <= MAX_LENGTH else []
    several = [column for column in columns if len(column.values) > 1]
    if not several:
        return [Asked(text)]
    picks = _picks(several, text)
    listed_ones = all(column.run for column in several)  # others may be no more than a text with many names in it
    if len(picks) < 2 or (len(picks) > MAX_CALLS and not listed_ones):
        return [Asked(text)]
    shared = {c.item.name: cast(c.item, c.values[0].value) for c in columns if len(c.values) == 1}
    pieces = _pieces(several, picks, text, by_piece=any(item.type == "array" for item in tool.parameters))
    return [
        Asked(
            piece, shared | {c.item.name: cast(c.item, c.values[i].value) for c, i in zip(several, pick, strict=True)}
        )
        for pick, piece in zip(picks, pieces, strict=True)
    ]


def _picks(several: Sequence[Column], text: str) -> list[tuple[int, ...]]:
    """Return for each call which value of each column it has."""
    if all(column.run for column in several) and (len(several) == 1 or not PAIRED.search(text)):
        return list(islice(product(*(range(len(column.values)) for column in several)), MAX_CALLS + 1))
    each = [column for column in several if column.run and _of_all(column, several, text)]
    if each and len(each) < len(several) and not PAIRED.search(text):
        return _of_each(several, each, text)
    longest = max(several, key=lambda column: len(column.values))
    found = []
    for index, anchor in enumerate(longest.values):
        pick = []
        for column in several:
            before = [i for i, value in enumerate(column.values) if value.start <= anchor.start]
            aligned = len(column.values) == len(longest.values)
            pick.append(index if aligned else max(before, default=0))
        found.append(tuple(pick))
    return found


def _of_all(column: Column, several: Sequence[Column], text: str) -> bool:
    """Whether a list is meant for each of the others: after "both", or choices ahead of what goes together in order."""
    if _EACH.search(text, 0, column.values[0].start):
        return True
    ahead = all(column.values[-1].end < other.values[0].start for other in several if other is not column)
    return bool(column.item.choices) and ahead and not any(other.run for other in several if other is not column)


def _of_each(several: Sequence[Column], each: Sequence[Column], text: str) -> list[tuple[int, ...]]:
    """Return the calls in which what goes together in order goes with each item of lists after "both"."""
    rest = [column for column in several if column not in each]
    found = []
    for pick, items in islice(
        product(_picks(rest, text), product(*(range(len(c.values)) for c in each))), MAX_CALLS + 1
    ):
        own = dict(zip([*map(id, rest), *map(id, each)], [*pick, *items], strict=True))
        found.append(tuple(own[id(column)] for column in several))
    return found


def _pieces(several: Sequence[Column], picks: Sequence[tuple[int, ...]], text: str, *, by_piece: bool) -> list[str]:
    """Return the words that speak of each call: its own part of the text, or all of it without the others' values."""
    longest = max(several, key=lambda column: len(column.values))
    if by_piece and not longest.run and len(picks) == len(longest.values):
        starts = [0]
        for one, two in pairwise(longest.values):
            breaks = [match.end() for match in BREAK.finditer(text, one.end, two.start)]
            starts.append(breaks[-1] if breaks else one.end)
        return [text[start:end].strip() for start, end in pairwise([*starts, len(text)])]
    found = []
    for pick in picks:
        cuts: list[tuple[int, int, str]] = []
        for column, index in zip(several, pick, strict=True):
            own = column.values[index]
            if column.run:
                cuts.append((column.values[0].start, column.values[-1].end, text[own.start : own.end]))
            else:
                cuts += [(value.start, value.end, "") for value in column.values if value is not own]
        words = text
        for start, end, kept in sorted(cuts, reverse=True):
            words = words[:start] + kept + words[end:]
        found.append(PAIRED.sub("", words))
    return found
