from __future__ import annotations

import numpy as np
import pytest

from router.scorers.label_space import REMEMBERED, LabelSpace, fit_space, likeness, remembered
from router.vectors import unit


@pytest.fixture
def space() -> LabelSpace:
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(4), 12)
    centres = np.eye(4, 8, dtype=np.float32)
    vectors = unit(centres[targets] + rng.normal(scale=0.1, size=(48, 8)))
    return fit_space(vectors, targets, centres)


def test_a_hidden_label_leaves_no_trace(space: LabelSpace) -> None:
    vectors = np.eye(4, 8, dtype=np.float32)
    hidden = np.eye(4, dtype=bool)
    evidence, scope = space.evidence(vectors)
    blind, far = space.evidence(vectors, hidden)
    assert evidence[:, :, 0].argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert (blind[hidden] == -1).all() and (blind[~hidden][:, 0] == evidence[~hidden][:, 0]).all()
    assert (far[:, 0] < scope[:, 0] - 0.5).all() and (far[:, 1] < scope[:, 1]).all()


def test_likeness_is_to_the_nearest_that_fit_nothing() -> None:
    outside = np.eye(8, dtype=np.float32)[[6, 6, 6, 7]]
    vectors = np.eye(8, dtype=np.float32)[[6, 7, 0]]
    assert likeness(vectors, outside).tolist() == pytest.approx([1.0, 1 / 3, 0.0])
    assert likeness(vectors, outside[:0]).tolist() == [0.0, 0.0, 0.0]


def test_a_new_label_claims_what_fitted_nothing_before(space: LabelSpace) -> None:
    corners = np.eye(8, dtype=np.float32)
    known = LabelSpace(**{**space.arrays(), "outside": corners[[6, 7]]})
    assert known.claimed([corners[[6]]]).tolist() == [True, False]
    assert known.claimed([]).tolist() == [False, False]


def test_few_labels_remember_more_examples_each() -> None:
    assert remembered(17) == 176 and remembered(1000) == REMEMBERED
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(3), 40)
    vectors = unit(rng.normal(size=(120, 8)).astype(np.float32))
    assert len(fit_space(vectors, targets, np.eye(3, 8, dtype=np.float32)).memory) == 120
