"""Which tool each part of a request asks for: sentence vectors and shared words, over tools known by description."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router.planners.clauses import Clause, Splitter, mask
from router.planners.toolset import Tool, Toolset
from router.planners.values import without_values
from router.planners.words import WordMatch, action, spoken, stems, told, weighted
from router.types import Array, Encoder

WORDS = 0.7
"""Weight of shared words beside the cosine of sentence vectors."""
ACTION = 0.1
"""Bonus for a tool whose name begins with the kind of verb that the part begins with, malus for another kind."""
FAMILY = 0.2
CONTEXT = 0.35
"""Weight of the whole clause in the score of a half of it."""
_JOINT = re.compile(r"(?i)\s*,\s*(?:and|then|also|plus)?\s+|\s+(?:and|then|plus|as well as|along with)\s+|\s*;\s*")
_TOO_MANY = 6
_HEAD = re.compile(
    r"(?i)^(?:(?:please|kindly|can|could|would|will|you|i|we|want|need|like|to)\s+)*"
    r"(?:what|which|how)?\s*\w+\s+(?:(?:me|us|out|up|is|are|the|a|an|all|both)\s+)*"
)
"""The verb and what stands between it and what it asks for."""
_MADE = re.compile(
    r"(?i)\b\w{3,40}(?:ed|ing)\s+(?:[\w-]{1,40}\s+){0,1}[\w-]{1,40}"
    r"|(?<![\w-])(?:[\w-]{1,40}\s{1,3}){1,2}\w{3,40}ed\b(?=[.,;!?]|$)"
)
"""Something that was made before: "the resulting depth image", "the sentiment detected"."""
_TAIL = re.compile(r"(?i)\s(?:of|for|in|about|on|near|at|from)\s.*$", re.DOTALL)
GAIN = 0.06
"""By how much two halves of a clause must match better than the whole to be two parts, if the latter has no verb."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a request and how well each tool fits it."""

    text: str
    scores: Array
    """(tools,)"""
    opens: bool = False
    """Whether it begins one of several things that are counted."""

    @property
    def best(self) -> int:
        """Index of the tool that fits best."""
        return int(self.scores.argmax())


class Matcher:
    """Scores parts of requests against one set of tools."""

    def __init__(self, tools: Toolset, encoder: Encoder | None) -> None:
        """Without an encoder only words are compared."""
        self.tools = tools
        self._encoder = encoder
        self._splitter = Splitter(verbs=tool_verbs(tools.tools.values()))
        described = list(tools.tools.values())
        if encoder is not None:
            about = encoder.encode([described_as(tool) for tool in described])
            self._vectors = 0.6 * about + 0.4 * encoder.encode([spoken(tool.name) for tool in described])
        self._actions = [action(tool.name.rpartition(".")[2]) for tool in described]
        self._words = WordMatch([_weights(tool) for tool in described])

    def score(self, texts: Sequence[str]) -> Array:
        """Return (texts, tools): higher is better, about 0 for texts that have nothing to do with a tool."""
        texts = [_asking(text) for text in texts]
        close = 0.0 if self._encoder is None else self._encoder.encode(texts) @ self._vectors.T
        acts = np.array([[ACTION * _acts_alike(action(text), other) for other in self._actions] for text in texts])
        return np.asarray(close + WORDS * self._words.score(texts) + acts, dtype=np.float32)

    def after(self, part: Part, chosen: Sequence[Tool]) -> Array:
        """Return the scores of a part that follows calls of these tools.

        Words that name what those tools give ("the square of the monthly payment") ask for no tool. Tools of one
        family (`Buses.FindBus`, `Buses.BuyBusTicket`) are used together.
        """
        scores, named = part.scores, _named(part.text, chosen)
        if named:
            rest = " ".join(word for word in without_values(part.text).split() if not set(stems(word)) & named)
            if stems(rest):
                scores = 0.3 * scores + 0.7 * self.score([rest])[0]
        families = {_family(tool.name) for tool in chosen} - {""}
        if families:
            kin = np.array([_family(name) in families for name in self.tools.names], dtype=np.float32)
            scores = scores + np.float32(FAMILY) * kin
        return np.asarray(scores, dtype=np.float32)

    def parts(self, request: str) -> list[Part]:
        """Split a request where its parts ask for different tools."""
        clauses = self._splitter.split(request).clauses or (Clause(request),)
        split = [_halves(clause.text) for clause in clauses]
        halved = (half for halves in split for pair in halves for half in pair)
        texts = list(dict.fromkeys([*(clause.text for clause in clauses), *halved]))
        scores = dict(zip(texts, self.score(texts), strict=True))
        found: list[Part] = []
        for clause, halves in zip(clauses, split, strict=True):
            first, *others = self._parted(Part(clause.text, scores[clause.text]), halves, scores)
            found += [replace(first, opens=clause.opens), *others]
        return found

    def _parted(self, whole: Part, halves: list[tuple[str, str]], scores: dict[str, Array]) -> list[Part]:
        """Part a clause in two where each half matches a tool of its own better."""
        best, gain = None, 0.0
        for left, right in halves:
            one = Part(left, scores[left] + CONTEXT * whole.scores)
            two = Part(right, scores[right] + CONTEXT * whole.scores)
            if one.best == two.best:
                continue
            more = min(float(one.scores.max()), float(two.scores.max())) - (0.8 + CONTEXT) * float(whole.scores.max())
            if more > max(gain, GAIN if action(right) is None else 0.0):
                best, gain = (one, two), more
        return [whole] if best is None else [part for half in best for part in self._parted_again(half)]

    def _parted_again(self, half: Part) -> list[Part]:
        """Part a half once more where it asks for several things itself."""
        halves = _halves(half.text)
        texts = [text for pair in halves for text in pair]
        return self._parted(half, halves, dict(zip(texts, self.score(texts), strict=True))) if texts else [half]


def _shared(left: str, right: str) -> list[tuple[str, str]]:
    """Return two things that one verb asks for of one thing as two requests: "the reviews and offers for X"."""
    head = _HEAD.match(left)
    if head is None or action(right) is not None:
        return []
    behind, before = _TAIL.search(right), _TAIL.search(left, head.end())
    if behind is not None and before is None:
        return [(f"{left} {behind[0].strip()}", f"{head[0].strip()} {right}")]
    if before is not None and behind is None:
        return [(left, f"{head[0].strip()} {right} {before[0].strip()}")]
    return []


def _asking(text: str) -> str:
    """Return a text without the values in it, unless they are nearly all there is."""
    bare = without_values(text)
    return bare if len(stems(bare)) >= 2 else text


def _acts_alike(asked: int | None, done: int | None) -> float:
    if asked is None or done is None:
        return 0.0
    return 1.0 if asked == done else -1.0


def _family(name: str) -> str:
    return name.rpartition(".")[0]


def _named(text: str, chosen: Sequence[Tool]) -> set[str]:
    """Return the words of a text that name an output of these tools, and the tools' own where it names one.

    Without declared outputs it names one by what was done: "the edited image" after "Image Editing".
    """
    said, found = set(stems(text)), set()
    done = {word for match in _MADE.finditer(text) for word in stems(match[0])}
    for tool in chosen:
        found |= done & told(tool.name)
        for output in tool.outputs:
            words = set(stems(output.names[-1]))
            if words and words <= said:
                found |= words | {word for word in stems(tool.name) if action(word) is None}
    return found


def described_as(tool: Tool) -> str:
    """Return the text that stands for a tool."""
    return f"{spoken(tool.name)}: {tool.description}"[:600]


def tool_verbs(tools: Iterable[Tool]) -> frozenset[str]:
    """Return the words that tools' names and descriptions begin with: verbs that a clause may begin with."""
    first = {spoken(part).split(" ")[0].lower() for tool in tools for part in (tool.name, tool.description) if part}
    return frozenset(word for word in first if word.isalpha() and len(word) > 3 and not word.endswith(("s", "ing")))


def _weights(tool: Tool) -> dict[str, float]:
    return weighted(
        [
            (tool.name, 2.0),
            (tool.description, 1.0),
            (" ".join(item.name for item in tool.parameters), 0.6),
            (" ".join(item.description for item in tool.parameters), 0.25),
            (" ".join(output.names[-1] for output in tool.outputs), 0.3),
        ]
    )


def _halves(text: str) -> list[tuple[str, str]]:
    """Return the ways to part a clause at a comma or an "and", none of them inside quotes."""
    masked = mask(text)
    found = []
    for match in list(_JOINT.finditer(masked))[:_TOO_MANY]:
        left, right = text[: match.start()].strip(), text[match.end() :].strip()
        described = action(right) is None and re.search(
            r"^[^,]{0,40}(?:'[^']+'|\"[^\"]+\"|\d)", right
        )  # "and due date '…'"
        if described:
            continue
        if len(stems(left)) >= 2 and len(stems(right)) >= 2:
            found.append((left, right))
        found += _shared(left, right)
    return found
