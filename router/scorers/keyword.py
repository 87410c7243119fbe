"""A baseline that needs no model: TF-IDF over words, with the same blend and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graph.spec import NodeSpec
from graph.types import NodeName
from router.scorers.head import GENERIC, Head, fit_head, node_examples, node_text
from router.scores import empty_scores
from router.types import Array, Scores

MAX_TERMS = 4096
MAX_CHARACTERS = 8000


@dataclass(frozen=True, slots=True, eq=False)
class KeywordScorer:
    """Scores nodes by shared words. Immutable."""

    labels: tuple[NodeName, ...]
    vectorizer: Any
    head: Head | None
    strategy: str = "keyword"

    @classmethod
    def fit(cls, specs: Sequence[NodeSpec]) -> KeywordScorer:
        """Learn the words of descriptions and examples."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        ordered = sorted(specs, key=lambda spec: spec.name)
        if not ordered:
            return cls((), None, None)
        vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), max_features=MAX_TERMS)
        texts, owners = node_examples(ordered)
        vectors = _dense(vectorizer.fit_transform([*map(node_text, ordered), *texts]))
        head = fit_head(
            vectors[: len(ordered)],
            vectors[len(ordered) :],
            owners,
            _dense(vectorizer.transform(list(GENERIC))),
            linear=False,
        )
        return cls(tuple(spec.name for spec in ordered), vectorizer, head)

    def score(self, texts: Sequence[str]) -> Scores:
        """Score texts in one batch."""
        if self.head is None or not texts:
            return empty_scores(self.labels, len(texts))
        vectors = _dense(self.vectorizer.transform([text[:MAX_CHARACTERS] for text in texts]))
        probabilities, in_scope = self.head.score(vectors)
        return Scores(self.labels, probabilities, in_scope)


def _dense(matrix: Any) -> Array:
    return np.asarray(matrix.toarray(), dtype=np.float32)
