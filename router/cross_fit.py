"""`CrossFitted`: a scorer that has never seen the example it is asked about, so that examples can be held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from graph.spec import NodeSpec
from graph.types import NodeName
from router.scores import join_rows, split_rows
from router.types import Scorer, Scores

Fit: TypeAlias = Callable[[Sequence[NodeSpec]], Scorer]


@dataclass(frozen=True, slots=True, eq=False)
class CrossFitted:
    """Scores each example by a fit that it took no part in, and any other text by the fit on everything."""

    whole: Scorer
    parts: Mapping[int, Scorer]
    """By fold: the scorer that was fitted without that fold's examples."""
    fold_of: Mapping[str, int]

    @property
    def strategy(self) -> str:
        """The strategy of the scorers inside."""
        return self.whole.strategy

    @property
    def labels(self) -> tuple[NodeName, ...]:
        """The nodes that it was fitted for."""
        return self.whole.labels

    def score(self, texts: Sequence[str]) -> Scores:
        """Score texts, each by the scorer that may judge it."""
        if not texts:
            return self.whole.score(texts)
        folds: dict[int, list[int]] = {}
        for row, text in enumerate(texts):
            folds.setdefault(self.fold_of.get(text, -1), []).append(row)
        found: dict[int, Scores] = {}
        for fold, rows in folds.items():
            scores = self.parts.get(fold, self.whole).score([texts[row] for row in rows])
            found.update(zip(rows, split_rows(scores), strict=True))
        return join_rows([found[row] for row in range(len(texts))])


def assign_folds(specs: Sequence[NodeSpec], folds: int) -> dict[str, int]:
    """Return each example's fold: every node's examples are dealt out evenly, and equal texts stay together."""
    found: dict[str, int] = {}
    for spec in sorted(specs, key=lambda spec: spec.name):
        for index, text in enumerate(sorted(set(spec.examples))):
            found.setdefault(text, index % folds)
    return found


def cross_fit(specs: Sequence[NodeSpec], fit: Fit, fold_of: Mapping[str, int], judged: Sequence[int]) -> CrossFitted:
    """Fit once on everything and once without each of the folds that are to be judged."""
    parts = {fold: fit([_without(spec, fold_of, fold) for spec in specs]) for fold in judged}
    return CrossFitted(fit(specs), parts, fold_of)


def _without(spec: NodeSpec, fold_of: Mapping[str, int], fold: int) -> NodeSpec:
    return spec.model_copy(update={"examples": tuple(text for text in spec.examples if fold_of[text] != fold)})
