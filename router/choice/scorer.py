"""A scorer that also says how good each node's answer would be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from graph.types import NodeName
from router.choice.quality import QualityModel
from router.types import Scorer, Scores


@dataclass(frozen=True, slots=True, eq=False)
class QualityScorer:
    """Adds estimated quality to the scores of another scorer. Immutable."""

    inner: Scorer
    quality: QualityModel

    @property
    def strategy(self) -> str:
        """The inner scorer's."""
        return self.inner.strategy

    @property
    def labels(self) -> tuple[NodeName, ...]:
        """The inner scorer's: correctness data of other models are no matter."""
        return self.inner.labels

    def score(self, texts: Sequence[str]) -> Scores:
        """Score texts in one batch."""
        scores = self.inner.score(texts)
        expected = self.quality.expected(texts) if texts else np.zeros((0, len(self.quality.models)), np.float32)
        column = {name: index for index, name in enumerate(self.quality.models)}
        found = np.full((len(texts), len(scores.labels)), np.nan, dtype=np.float32)
        for index, name in enumerate(scores.labels):
            if name in column:
                found[:, index] = expected[:, column[name]]
        return replace(scores, quality=found)
