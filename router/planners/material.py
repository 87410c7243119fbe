"""Pasted passages beside the instructions of a request."""

from __future__ import annotations

import re

LONG_PARAGRAPH = 1200
"""Characters from which a paragraph is material to work on, not instructions."""
LONGEST = 50_000
"""Characters that are looked at for instructions."""
ITEM = re.compile(r"(?m)^[ \t]*(?:\d{1,3}[.)]|[-*•‣]|[a-hA-H]\)|(?i:step \d+[:.]))[ \t]+")
"""Begins an item of a list."""


def take_material(text: str) -> tuple[str, str]:
    """Part a pasted passage from the instructions: long paragraphs, and what follows "…:" on a line of its own.

    Of a very long text, all is pasted but the paragraphs of its two ends.
    """
    if len(text) > LONGEST:
        first, last = text.rfind("\n\n", 0, LONGEST // 2), text.find("\n\n", len(text) - LONGEST // 2)
        first, last = max(first, 0), last if last >= 0 else len(text)
        (before, above), (after, below) = take_material(text[:first]), take_material(text[last:])
        material = (above, text[first:last].strip(), below)
        return "\n\n".join(filter(None, (before, after))), "\n\n".join(filter(None, material))
    kept: list[str] = []
    pasted: list[str] = []
    fenced = False
    for block in re.split(r"(\n\s*\n)", text):
        odd = block.count("```") % 2 == 1
        long = len(block) > LONG_PARAGRAPH and not fenced and not odd and len(ITEM.findall(block)) < 2
        after_colon = bool(kept) and not fenced and "".join(kept).rstrip().endswith(":") and not ITEM.match(block)
        if (long or (after_colon and block.strip())) and "```" not in block:
            pasted.append(block.strip())
            kept.append("\n\n")
        else:
            kept.append(block)
        fenced ^= odd
    return "".join(kept).strip(), "\n\n".join(pasted)
