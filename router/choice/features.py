"""What a request looks like to the estimators of quality: its meaning, its words, and what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from router.choice.shape import Shapes
from router.encoders import shorten
from router.types import Encoder
from router.vectors import AnyArray

MAX_TERMS = 60_000


@dataclass(frozen=True, slots=True)
class Features:
    """Features of some texts, one row each."""

    vectors: AnyArray
    """(texts, dimensions): sentence embeddings of length 1."""
    terms: Any
    """(texts, words and pairs of words): TF-IDF, sparse, rows of length 1."""
    shape: AnyArray
    """(texts, figures): the outer form, in standard deviations."""

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: AnyArray) -> Features:
        """Return some of the rows."""
        return Features(self.vectors[rows], self.terms[rows], self.shape[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Featurizer:
    """Turns texts into features; knows the words of the texts that it was fitted to."""

    encoder: Encoder
    vectorizer: Any
    shapes: Shapes

    @classmethod
    def fit(cls, texts: Sequence[str], encoder: Encoder) -> Featurizer:
        """Learn which words there are and how rare each is."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(
            sublinear_tf=True,
            ngram_range=(1, 2),
            min_df=2 if len(texts) > 100 else 1,
            max_features=MAX_TERMS,
            token_pattern=r"(?u)\b\w+\b",  # noqa: S106  # no password: also words of one letter
            dtype=np.float32,
        )
        vectorizer.fit([shorten(text) for text in texts])
        return cls(encoder, vectorizer, Shapes.fit(texts))

    def of(self, texts: Sequence[str]) -> Features:
        """Return the features of texts."""
        terms = self.vectorizer.transform([shorten(text) for text in texts])
        return Features(self._vectors(texts), terms, self.shapes.of(texts))

    def _vectors(self, texts: Sequence[str]) -> AnyArray:
        # Texts of like length side by side: a batch is as long as its longest text.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        found = self.encoder.encode([texts[index] for index in order])
        return found[np.argsort(order)]
