"""The default strategy: sentence embeddings of descriptions and examples, blended and calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graph.spec import NodeSpec
from graph.types import NodeName
from router.scorers.head import GENERIC, Head, fit_head, node_examples, node_text
from router.scores import empty_scores
from router.types import Encoder, Scores


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingScorer:
    """Scores nodes by the meaning of a text. Immutable: a change of nodes makes a new one."""

    labels: tuple[NodeName, ...]
    encoder: Encoder
    head: Head | None
    strategy: str = "embedding"

    @classmethod
    def fit(cls, specs: Sequence[NodeSpec], encoder: Encoder) -> EmbeddingScorer:
        """Learn from descriptions and whatever examples there are. Deterministic; the order of nodes is no matter."""
        ordered = sorted(specs, key=lambda spec: spec.name)
        if not ordered:
            return cls((), encoder, None)
        texts, owners = node_examples(ordered)
        vectors = encoder.encode([*map(node_text, ordered), *GENERIC, *texts])
        first, second = len(ordered), len(ordered) + len(GENERIC)
        head = fit_head(vectors[:first], vectors[second:], owners, vectors[first:second])
        return cls(tuple(spec.name for spec in ordered), encoder, head)

    def score(self, texts: Sequence[str]) -> Scores:
        """Score texts in one batch."""
        if self.head is None or not texts:
            return empty_scores(self.labels, len(texts))
        probabilities, in_scope = self.head.score(self.encoder.encode(texts))
        return Scores(self.labels, probabilities, in_scope)
