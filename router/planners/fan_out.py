"""How often one part of a request calls its tool: "the weather in Rome, Oslo and Bern" is three calls."""

from __future__ import annotations

import re
from collections.abc import Sequence

from router.planners.fitting import fit
from router.planners.toolset import Tool
from router.planners.values import Mention, mentions, runs

MAX_CALLS = 16


def fan_out(tool: Tool, text: str) -> list[str]:
    """Return the part once for each call, with only that call's items of the lists in it.

    A list fans out when its items fit a parameter that takes one value, and no parameter takes the whole list. Two
    lists of one length go together ("A and B for 5 and 10 minutes"); a parameter that the text gives once is shared.
    """
    known = mentions(text)
    found = [run for run in runs(known, text) if _single(tool, run)]
    if not found or any(item.type == "array" for item in tool.parameters):
        return [text]
    count = len(found[0])
    together = [run for run in found if len(run) == count]
    if count > MAX_CALLS:
        return [text]
    return [_only(text, together, index) for index in range(count)]


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
