# ruff: noqa: RUF001  # the typographic quotes and full-width marks of other languages are meant

"""Splits a request into clauses, each of which asks for one thing.

Boundaries are sentence ends, semicolons, list items, order words ("then", "after that") and coordination before an
imperative verb. Quotes, code and long pasted passages are never split. A sentence that asks for nothing ("It must be
fast.", "I have a contract.") belongs to its neighbour. Runs in linear time.

A boundary is *firm* or *soft*. Soft ones ("to load a file and print it") might join two parts of one request; the
planner keeps them only where the learned scores send the two sides to different nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from router.planners.lexicon import (
    ABBREVIATION,
    COMMAND_SHAPE,
    CONSTRAINT,
    COUNTED,
    FILLER,
    FOREIGN_JOINT,
    HELP,
    NOUNISH,
    ORDER,
    QUESTION,
    WISH,
    compiled_verbs,
)
from router.planners.material import ITEM, LONG_PARAGRAPH, LONGEST, take_material

MAX_CLAUSES = 32

HIDDEN = "\ue000"
"""Stands for each character of a quote or of code."""
_PROTECTED = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]+`|\"[^\"\n]{1,2000}\"|“[^“”]{1,2000}”|«[^«»]{1,2000}»|「[^「」]{1,2000}」"
    r"|(?<![\w'’])'[^'\n]{1,500}'(?!\w)|(?<![\w'’])‘[^‘’\n]{1,500}’(?!\w)|https?://\S+|\([^()\n]{4,300}\)",
    re.DOTALL,
)
_INLINE_ITEM = re.compile(r"(?:(?<=\s)|(?<=^))(?:\(\d{1,2}\)|\d{1,2}[.)])\s+(?=[A-Za-z])")
_SENTENCE = re.compile(r"(?<=[.!?])[\"'”’)\]" + HIDDEN + r"]{0,3}\s+|(?<=[。！？])\s*|\s{0,3}[;；]\s{0,3}|\n\s*\n")
_LEAD = (
    r"(?:(?:please|kindly|also|then|next|finally|lastly|afterwards?|after that|after this|subsequently|additionally|"
    r"separately|besides|"
    r"in addition|step \d+|(?:first|second|third|fourth|fifth)(?:ly)?(?=,)|last(?=,)|based on (?:that|this|it)|"
    r"at the end|in the end)\b[\s,:]*)"
)
_JOINT = re.compile(
    r"(?i)\s{0,3},?\s{1,3}(?:(?:and|but|plus|as well as)\s+(?="
    + _LEAD
    + r"*\w)|(?="
    + _LEAD
    + r"\w))|\s{0,3},\s{1,3}(?=\w)|\s[-–—]{1,3}\s"
)
_LEADS = re.compile("(?i)" + _LEAD + "+")
_OBJECT = re.compile(
    r"(?i)\s+(?:(?:out|up|down|for|about|at|to|me|us|you|him|her)\s+)?(?:a|an|the|this|that|these|those|it|its|"
    r"them|me|us|my|your|our|his|"
    r"her|their|any|all|each|every|some|one|two|three|what|which|how|why|where|whether|who|when|if|\d|(?-i:[A-Z])|"
    + HIDDEN
    + ")"
)
_OPEN = re.compile(r"(?i)\b(?:to|can|could|should|must|will|would|may|might|that|which|who|how to)\s+(?:\w+ly\s+)?\w+")
_DANGLING = re.compile(r"(?i)[\s,;]+(?:and|then|and then|but|also)$")
_OF_THE_LAST = re.compile(r"(?i)(?:it|this|that|they|these|those|he|she|there)\b")
"""How a sentence begins that says more of what was asked before."""
_SENTENCE_START = re.compile(
    r"(?i)(?:what|how|why|when|where|who|which)\b|(?:is|are|does|do|can|could|should|would)\s+(?:a|an|the|it|i|we|"
    r"you|my|this)\b"
)


@dataclass(frozen=True, slots=True)
class Clause:
    """One part of a request that asks for one thing."""

    text: str
    """As the caller wrote it, without the words that only join it to the clause before."""
    ordered: bool = False
    """Whether an order word puts it behind the clause before."""
    soft: bool = False
    """Whether it may be a continuation of the clause before rather than a request of its own."""
    request: bool = True
    """Whether it asks for something."""
    opens: bool = False
    """Whether it begins one of several things that are counted: "Second, I have …"."""
    glue: str = " "
    """What stood between it and the clause before."""


@dataclass(frozen=True, slots=True)
class Split:
    """A request in parts."""

    clauses: tuple[Clause, ...]
    material: str = ""
    """A pasted passage or a fenced block that the clauses speak of."""


class Splitter:
    """Splits requests. Holds the compiled patterns; build one and keep it."""

    def __init__(self, limit: int = MAX_CLAUSES, verbs: Iterable[str] = ()) -> None:
        """`verbs` are those that begin a request besides the ones that everyone uses."""
        self._limit = limit
        self._verb = compiled_verbs(verbs)

    def split(self, text: str) -> Split:
        """Split a request; an empty one has no clauses."""
        text, material = take_material(text.strip())
        if not text:
            text, material = material, ""
        text, rest = text[:LONGEST], text[LONGEST:]
        parts = [part for part in self._parts(text, mask(text)) if re.search(r"\w", part.text)]
        clauses = _bounded(_attached(parts), self._limit)
        if rest and clauses:
            clauses = (*clauses[:-1], replace(clauses[-1], text=clauses[-1].text + rest))
        return Split(clauses, material)

    def _parts(self, text: str, masked: str) -> Iterator[Clause]:
        left = 4 * self._limit
        for item_start, item_end in _spans(masked, ITEM):
            for start, end in _sentences(masked, item_start, item_end):
                if left <= 0:  # nobody asks for so many things: the rest is taken as it is
                    yield Clause(text[start:].strip(), glue="\n")
                    return
                first = "\n" if start == item_start and item_start else " "
                for clause in self._clauses(text, masked, start, end, first):
                    left -= 1
                    yield clause

    def _clauses(self, text: str, masked: str, start: int, end: int, glue: str) -> Iterator[Clause]:
        """Split one sentence at its joints."""
        begin, soft, joint_start = start, False, start
        for match in islice(_JOINT.finditer(masked, start, min(end, start + LONG_PARAGRAPH)), 2 * MAX_CLAUSES):
            kind = self._joint(masked, begin, match, end)
            if kind:
                yield self._clause(text, masked, begin, match.start(), glue, soft, joint_start)
                glue, soft, begin, joint_start = match[0], kind == "soft", match.end(), match.start()
        for match in FOREIGN_JOINT.finditer(masked, begin, end):
            yield self._clause(text, masked, begin, match.start(), glue, soft, joint_start)
            glue, soft, begin, joint_start = match[0], False, match.end(), match.start()
        yield self._clause(text, masked, begin, end, glue, soft, joint_start)

    def _joint(self, masked: str, begin: int, match: re.Match[str], end: int) -> str:
        """Say whether a joint parts two requests: `firm`, `soft`, or empty for no."""
        left = masked[begin : match.start()]
        window = masked[match.end() : min(end, match.end() + 160)]
        lead = _LEADS.match(window)
        right = window[lead.end() :] if lead else window
        if not self._asks(left) and not WISH.match(left):
            return "firm" if lead and ORDER.search(lead[0]) and self._imperative(right) else ""
        if len(_content(left)) < 2 or not self._begins(left, right, bool(lead)):
            return ""
        return "firm" if lead else "soft" if self._open(left) else "firm"

    def _begins(self, left: str, right: str, led: bool) -> bool:
        if re.match(r"(?i)(?:which|who|where|when)\b", right):
            return led or QUESTION.match(left) is not None
        if _SENTENCE_START.match(right) or WISH.match(right):
            return led or bool(
                re.match(r"(?i)(?:what|how|why|could|can|would|is|are|do|does|please|i|should)\b", right)
            )
        return self._imperative(right)

    def _imperative(self, right: str) -> bool:
        verb = self._verb.match(right)
        if not verb:
            return False
        rest = right[verb.end() :]
        if verb[0].lower() in NOUNISH:
            return bool(_OBJECT.match(rest))
        return not re.match(r"\s+(?:and|or)\b|\s*(?:$|[,.])", rest) or bool(re.match(r"\s*$", rest))

    def _open(self, left: str) -> bool:
        """Whether the verb that follows might continue an infinitive or a relative clause of the left side."""
        filler = FILLER.match(left)
        return bool(_OPEN.search(left, filler.end() if filler else 0))

    def _asks(self, text: str) -> bool:
        filler = FILLER.match(text)
        rest = text[filler.end() :] if filler else text
        return bool(self._verb.match(rest) or QUESTION.match(rest))

    def _clause(self, text: str, masked: str, start: int, end: int, glue: str, soft: bool, joint: int) -> Clause:
        head = masked[joint : min(end, start + 60)]
        lead = _LEADS.match(masked, start, end)
        ordered = bool(ORDER.search(glue) or (lead and ORDER.search(lead[0])) or ORDER.match(head.lstrip(" ,")))
        begin = lead.end() if lead and lead.end() < end else start
        shown = masked[begin:end]
        constraint = CONSTRAINT.match(shown) is not None
        asks = (
            self._asks(shown)
            or bool(WISH.match(shown) or COMMAND_SHAPE.match(shown))
            or shown.rstrip().endswith(("?", "？"))
        )
        said = _DANGLING.sub("", text[begin:end].strip(" ,;\n\t"))
        own = asks or not _OF_THE_LAST.match(shown)
        opens = joint == start and own and not constraint and COUNTED.match(masked, start, end) is not None
        return Clause(said, ordered, soft, asks and not constraint, opens, glue)


def mask(text: str) -> str:
    """Return text of the same length in which quotes, code and addresses are hidden."""
    return _PROTECTED.sub(lambda match: HIDDEN * len(match[0]), text)


def _content(text: str) -> list[str]:
    filler = FILLER.match(text)
    return re.findall(r"[\w" + HIDDEN + r"]+", text[filler.end() :] if filler else text)[:3]


def _spans(masked: str, boundary: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    begin = 0
    for match in boundary.finditer(masked):
        yield begin, match.start()
        begin = match.end()
    yield begin, len(masked)


def _sentences(masked: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    begin = start
    marks = sorted(
        [(m.start(), m.end()) for m in _SENTENCE.finditer(masked, start, end)] + _inline_items(masked, start, end)
    )
    for left, right in marks:
        if left < begin or ABBREVIATION.search(masked[max(begin, left - 8) : left].rstrip(".")):
            continue
        yield begin, left
        begin = right
    yield begin, end


def _inline_items(masked: str, start: int, end: int) -> list[tuple[int, int]]:
    """Find "1) … 2) …" inside a line; a single number is no list."""
    found = [(m.start(), m.end()) for m in _INLINE_ITEM.finditer(masked, start, end)]
    return found if len(found) > 1 else []


def _attached(parts: list[Clause]) -> list[Clause]:
    """Give every sentence that asks for nothing to its neighbour; keep all if none asks."""
    if not any(part.request for part in parts):
        return [replace(part, soft=index > 0) for index, part in enumerate(parts)]
    parts = [part for index, part in enumerate(parts) if not _announces(part, parts[index + 1 :][:1])]
    if any(part.opens for part in parts):
        parts = [part for part in parts if not HELP.fullmatch(part.text)]
    joined: list[Clause] = []
    waiting: Clause | None = None
    for part in parts:
        if waiting is not None and waiting.opens and part.opens:
            joined.append(waiting)
            waiting = None
        if part.request:
            joined.append(part if waiting is None else _led(waiting, part))
            waiting = None
        elif waiting is not None:
            waiting = replace(waiting, text=f"{waiting.text} {part.text}")
        elif part.opens or not joined:
            waiting = part
        else:
            joined[-1] = join(joined[-1], part)
    return joined if waiting is None else [*joined, waiting]


def _led(waiting: Clause, part: Clause) -> Clause:
    """Return a request with what was said before it."""
    return replace(part, text=f"{waiting.text} {part.text}", opens=waiting.opens or part.opens)


def _announces(part: Clause, following: list[Clause]) -> bool:
    """Whether a clause only says that a list of requests follows."""
    listed = bool(following) and "\n" in following[0].glue and following[0].request
    return listed and part.text.endswith(":") and len(part.text) < 120


def _seam(part: Clause) -> str:
    return part.glue if part.glue.strip() or "\n" in part.glue else " "


def join(first: Clause, second: Clause) -> Clause:
    """Make one clause of two that belong together."""
    return replace(first, text=f"{first.text}{_seam(second)}{second.text}")


def _bounded(parts: list[Clause], limit: int) -> tuple[Clause, ...]:
    if len(parts) <= limit:
        return tuple(parts)
    rest = "\n".join(part.text for part in parts[limit - 1 :])
    return (*parts[: limit - 1], replace(parts[limit - 1], text=rest))
