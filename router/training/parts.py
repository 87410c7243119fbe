"""The parts of a router that are fitted to vectors and words: one set for serving, one a fold for calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from router.scorers.evidence import spread
from router.scorers.label_space import FAR, OUTSIDE_MAX, LabelSpace, fit_space
from router.scorers.static_stage import NgramEncoder
from router.scorers.two_stage import WordHead, extend_head, first_evidence, second_evidence
from router.training.calibrate import OUTSIDE_MIN, Held
from router.training.data import Rows
from router.training.finetune import Report
from router.training.heads import fit_cosine_head, fit_words
from router.training.static import StaticTraining, fit_static
from router.types import Array
from router.vectors import AnyArray

EPOCHS_BLIND = 12
"""Epochs of stage one where no rows are held out to stop it."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Everything fitted but the calibration."""

    static: NgramEncoder
    head: Array
    outside: Array
    words: WordHead
    space: LabelSpace

    def look(self, texts: Sequence[str], vectors: Array, hidden: AnyArray | None = None) -> tuple[Held, Held]:
        """Return what the stages see of texts with their sentence vectors.

        `hidden` (texts, labels) is True where a label must not be looked at, as if it did not exist.
        """
        first = first_evidence(self.static, self.head, self.outside, self.words, texts)
        if hidden is not None:
            first.kinds[hidden] = FAR
            first.scope[:, 0] = first.kinds[:, :, 0].max(axis=1)
        return Held(first.kinds, first.scope), Held(*second_evidence(self.space, vectors, first, hidden))

    def extend(self, groups: Sequence[tuple[Sequence[str], Array]]) -> Parts:
        """Return the same with new labels, each given by texts and their sentence vectors."""
        texts, vectors = [own for own, _ in groups], [own for _, own in groups]
        head = extend_head(self.static, self.head, texts)
        return replace(self, head=head, words=self.words.extend(len(groups)), space=self.space.extend(vectors))

    def know(self, rows: Rows, vectors: Array, outside: AnyArray) -> Parts:
        """Return the same, knowing which of the rows fit no label, if those are enough to learn from."""
        if len(outside) < OUTSIDE_MIN:
            return self
        kept = outside[spread(len(outside), OUTSIDE_MAX)]
        static = self.static.encode(rows.take(kept).texts)
        return replace(self, outside=static, space=replace(self.space, outside=vectors[kept]))


def fit_parts(
    rows: Rows,
    finer_owners: AnyArray,
    vectors: Array,
    start: NgramEncoder,
    static: StaticTraining,
    weights: Array | None,
    held: Rows | None,
    report: Report,
) -> Parts:
    """Fit to in-scope rows with their sentence vectors.

    `weights` is the head that the encoder was fine-tuned with; without one, a head is fitted to the vectors as they
    are. `held` rows stop stage one early; without them it is trained for a fixed number of epochs.
    """
    finer, classes = None, None
    labels = int(finer_owners.max()) + 1
    if weights is None:
        weights = fit_cosine_head(vectors, rows.targets, labels)
    if len(finer_owners) > labels:
        present = np.unique(rows.finer)
        compact = np.searchsorted(present, rows.finer)
        finer = fit_cosine_head(vectors, compact, len(present)), finer_owners[present]
        classes = compact, finer_owners[present]
    space = fit_space(vectors, rows.targets, weights, finer)
    train = rows.texts, rows.targets
    if held is None:
        static = replace(static, epochs=EPOCHS_BLIND, patience=EPOCHS_BLIND)
    stop = (held.texts, held.targets) if held is not None else ((), np.zeros(0, dtype=np.int64))
    encoder, head = fit_static(start, train, stop, static, report)
    features = [own for own, _ in encoder.features(rows.texts)]
    words = fit_words(features, len(encoder.vectors), rows.targets, labels, classes, seed=static.seed)
    return Parts(encoder, head, np.zeros((0, head.shape[1]), dtype=np.float32), words, space)
