"""The outer form of a request: how long, how many figures and options, which kind of words.

Such things say as much about which requests a weak model fails as a sentence embedding does, and other things.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.vectors import AnyArray

FAR = 4.0
"""Standard deviations beyond which a figure counts no more."""
MAX_CHARACTERS = 8000
"""Of a longer text, its beginning is looked at."""
_TURNED = re.compile(r"\b(?:not|except|false|incorrect|least)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")


def shape_figures(text: str) -> list[float]:
    """Return figures of one text's form."""
    size = max(len(text), 1)
    words = text.split()
    lines = [len(line) for line in text.split("\n")]
    return [
        np.log(size),
        np.log1p(len(words)),
        sum(map(str.isdigit, text)) / size,
        sum(map(str.isupper, text)) / size,
        sum(not (character.isalnum() or character.isspace()) for character in text) / size,
        float(np.mean([len(word) for word in words] or [0])),
        len(lines),
        np.log1p(np.mean(lines)),
        np.log1p(lines[0]),
        np.log1p(np.mean(lines[1:] or [0])),
        float(np.std(lines)),
        "?" in text,
        "_" in text,
        sum(ord(character) > 127 for character in text) / size,
        len(_TURNED.findall(text)),
        len(_NUMBER.findall(text)),
        text.lower().count("statement"),
        len(set(words)) / max(len(words), 1),
    ]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Puts the figures of texts on one scale, that of the texts it was fitted to."""

    centre: AnyArray
    scale: AnyArray

    @classmethod
    def fit(cls, texts: Sequence[str]) -> Shapes:
        """Learn what is usual."""
        found = _figures(texts)
        return cls(found.mean(axis=0), np.maximum(found.std(axis=0), 1e-6))

    def of(self, texts: Sequence[str]) -> AnyArray:
        """Return (texts, figures) in standard deviations."""
        return np.asarray(np.clip((_figures(texts) - self.centre) / self.scale, -FAR, FAR))


def with_products(figures: AnyArray) -> AnyArray:
    """Return figures, and the products of all pairs of them: a long text means another thing if it is all digits."""
    first, second = np.triu_indices(figures.shape[1])
    return np.concatenate([figures, figures[:, first] * figures[:, second] - (first == second)], axis=1)


def _figures(texts: Sequence[str]) -> AnyArray:
    return np.array([shape_figures(text[:MAX_CHARACTERS]) for text in texts], dtype=np.float64)
