"""Words of names and descriptions, reduced so that `getCityNames` and "the name of a city" have words in common."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from router.types import Array

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")
_LONGEST = 40
"""Letters of a word that has an ending to cut; what is longer is none, and is not kept."""
STOP = frozenset(
    """a an the of to in on at by for from with and or is are be it its this that these those as into i me my you
    your please can could would want need then also finally after following which what who using use used based given
    e g etc will any all some get so if not no do does how many much there their they them we our us has have s
    """.split()
)


def spoken(name: str) -> str:
    """Return a name as words: `getCity.byName_v2` becomes `get City by Name v2`."""
    return " ".join(_CAMEL.sub(" ", re.sub(r"[_.\-/:]+", " ", name)).split())


def stem(word: str) -> str:
    """Cut the commonest endings of English; crude, and the same on both sides of a comparison."""
    return _stem(word.lower()) if len(word) <= _LONGEST else word.lower()


@lru_cache(maxsize=20_000)
def _stem(word: str) -> str:
    for ending, short in (
        ("ies", "y"),
        ("ations", "at"),
        ("ation", "at"),
        ("ating", "at"),
        ("ated", "at"),
        ("ate", "at"),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return word[: -len(ending)] + short
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) > len(ending) + 2 and not word.endswith("ss"):
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "ls" else word


def stems(text: str) -> list[str]:
    """Return the stems of a text's words that mean something, in order."""
    return [stem(word) for word in _WORD.findall(spoken(text)) if word.lower() not in STOP]


@lru_cache(maxsize=50_000)
def told(text: str) -> frozenset[str]:
    """Return the stems of a name or a description, and keep them: not for what callers ask."""
    return frozenset(stems(text))


class WordMatch:
    """Cosine of weighted words between texts and documents that are known beforehand."""

    def __init__(self, documents: Sequence[Mapping[str, float]]) -> None:
        """Documents are words with their weights."""
        count = Counter(word for document in documents for word in document)
        self._idf = {word: math.log(1 + len(documents) / n) for word, n in count.items()}
        self._column = {word: index for index, word in enumerate(count)}
        table = np.zeros((len(documents), max(len(count), 1)), dtype=np.float32)
        for row, document in enumerate(documents):
            for word, weight in document.items():
                table[row, self._column[word]] = weight * self._idf[word]
        self._table = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)

    def score(self, texts: Sequence[str]) -> Array:
        """Return (texts, documents); 0 where no word is shared."""
        rows = np.zeros((len(texts), self._table.shape[1]), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in set(stems(text)):
                if word in self._column:
                    rows[row, self._column[word]] = self._idf[word]
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        return np.asarray(rows @ self._table.T, dtype=np.float32)


def weighted(parts: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return words with the weight of the heaviest part that each stands in."""
    found: dict[str, float] = {}
    for text, weight in parts:
        for word in stems(text):
            found[word] = max(found.get(word, 0.0), weight)
    return found


_ACTIONS = {
    word: group
    for group, words in enumerate(
        (
            "book reserve buy purchase order rent",
            "find search look lookup show get list fetch retrieve check query browse view see locate discover return",
            "create add make schedule set open register new",
            "play watch listen stream",
            "cancel delete remove drop",
            "change update modify edit adjust alter reschedule",
            "calculate compute determine work",
            "translate",
            "send share email notify text message transfer",
            "encrypt encode",
            "decrypt decode",
            "generate produce",
            "analyze analyse evaluate assess examine",
            "convert exchange transform",
        )
    )
    for word in words.split()
}
_LEAD = frozenset(
    "please could can you i want would like to need help me then also finally next and after that let's".split()
)


def action(text: str) -> int | None:
    """Return the group of the verb that a request or a tool's name begins with; None if it is in none."""
    words = [word.lower() for word in _WORD.findall(spoken(text))]
    for word in words[:8]:
        if word not in _LEAD:
            return _ACTIONS.get(word)
    return None
