"""How often one part of a request calls its tool: "the weather in Rome, Oslo and Bern" is three calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from router.planners.fitting import fit
from router.planners.toolset import Tool
from router.planners.values import Mention, mentions, runs
from router.planners.words import stem, stems

MAX_CALLS = 16
_BREAK = re.compile(r"(?i)[.;?!]\s+|,\s+|\s(?:and|then)\s+")


def fan_out(tool: Tool, text: str) -> list[str]:
    """Return the part once for each call, with only that call's items of the lists in it.

    A list fans out when its items fit a parameter that takes one value, and no parameter takes the whole list. Two
    lists of one length go together ("A and B for 5 and 10 minutes"); a parameter that the text gives once is shared.
    """
    known = mentions(text)
    found = [run for run in runs(known, text) if _single(tool, run)]
    if any(item.type == "array" for item in tool.parameters):
        return [text]
    if not found:
        return _again(tool, text, known)
    count = len(found[0])
    together = [run for run in found if len(run) == count]
    if count > MAX_CALLS:
        return [text]
    return [_only(text, together, index) for index in range(count)]


def _again(tool: Tool, text: str, known: Sequence[Mention]) -> list[str]:
    """Part a text where it names a parameter again: "a circle of radius 5 and another of radius 10"."""
    scalars = [item for item in tool.parameters if item.type not in ("array", "object", "boolean")]
    owned: dict[tuple[str, frozenset[str]], list[Mention]] = {}
    for mention in known:
        if mention.kind not in ("number", "quoted", "list") or text[mention.start : mention.end].isalpha():
            continue  # a name said in passing, or "two circles"
        fits = {item.name: fit(item, mention, order, tool) for order, item in enumerate(scalars)}
        best = max(fits, key=lambda name: fits[name], default=None)
        around = {stem(word) for word in (*mention.before[-4:], *mention.after[:2])}
        if best is not None and fits[best] >= 1.0 and around & set(stems(best)):
            owned.setdefault((best, frozenset(around & set(stems(best)))), []).append(mention)
    named = max(owned.values(), key=len, default=[])
    if not 2 <= len(named) <= MAX_CALLS:
        return [text]
    starts = [0]
    for one, two in pairwise(named):
        breaks = [match.end() for match in _BREAK.finditer(text, one.end, two.start)]
        starts.append(breaks[-1] if breaks else one.end)
    return [text[start:end].strip() for start, end in pairwise([*starts, len(text)])]


def _single(tool: Tool, run: Sequence[Mention]) -> bool:
    """Whether the items of a list are values of one parameter, rather than of one each."""
    scalars = [item for item in tool.parameters if item.type not in ("array", "object", "boolean") and not item.choices]
    fitting = [item for order, item in enumerate(scalars) if all(fit(item, m, order, tool) >= 1.0 for m in run)]
    required = [item for item in fitting if item.required] or fitting
    return len(required) == 1 or (len(required) > 1 and len(scalars) < len(run))


def _only(text: str, lists: Sequence[Sequence[Mention]], index: int) -> str:
    """Return the text with each list reduced to its item at this place."""
    for run in sorted(lists, key=lambda run: -run[0].start):
        item = run[index]
        text = text[: run[0].start] + text[item.start : item.end] + text[run[-1].end :]
    return re.sub(r"\s+respectively\b", "", text)
