"""The strategy of a trained artefact: two stages, for the nodes that there are now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graph.spec import NodeSpec
from graph.types import NodeName
from router.scorers.head import node_text
from router.scorers.two_stage import TwoStage
from router.scores import empty_scores
from router.types import Scores
from router.vectors import AnyArray


@dataclass(frozen=True, slots=True, eq=False)
class TrainedScorer:
    """Scores nodes by a trained router. Immutable: a change of nodes makes a new one."""

    labels: tuple[NodeName, ...]
    model: TwoStage
    strategy: str = "trained"

    def for_nodes(self, specs: Sequence[NodeSpec]) -> TrainedScorer:
        """Return a scorer of exactly these nodes.

        Nodes that the artefact was trained on are scored as trained, those that it has no rows of by their description
        and examples; labels without a node get no probability. The order of nodes is no matter.
        """
        ordered = sorted(specs, key=lambda spec: spec.name)
        names = {spec.name for spec in ordered}
        trained = [index for index, count in enumerate(self.model.added) if not count]
        kept = [index for index in trained if self.labels[index] in names]
        new = [spec for spec in ordered if spec.name not in {self.labels[index] for index in kept}]
        texts = [[node_text(spec), *sorted(set(spec.examples))] for spec in new]
        labels = (*(self.labels[index] for index in kept), *(spec.name for spec in new))
        if not kept and not new:
            return TrainedScorer((), self.model, self.strategy)
        model = self.model.extend(texts).select([*kept, *range(len(self.labels), len(self.labels) + len(new))])
        return TrainedScorer(labels, model, self.strategy)

    def score(self, texts: Sequence[str]) -> Scores:
        """Score texts in one batch."""
        return self.explain(texts)[0]

    def explain(self, texts: Sequence[str]) -> tuple[Scores, AnyArray]:
        """Return the scores, and which texts the sentence encoder was asked about."""
        if not self.labels or not texts:
            return empty_scores(self.labels, len(texts)), empty_scores(self.labels, len(texts)).in_scope > 1
        probabilities, in_scope, escalated = self.model.score(texts)
        return Scores(self.labels, probabilities, in_scope), escalated
