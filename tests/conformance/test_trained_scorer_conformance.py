"""The scorer of a trained artefact keeps the promises of every strategy, whatever nodes there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures_router import SIGNALS

from graph.spec import NodeSpec
from router.artifact import load_artifact
from router.scorers.trained import TrainedScorer

TEXTS = ["noise1 apple noise2", "harbour noise3 sail noise4", "", "completely different words", "apple " * 5000]


@pytest.fixture(scope="module")
def trained(trained_folder: Path) -> TrainedScorer:
    return load_artifact(trained_folder).scorer


def specs(*names: str, examples: int = 3) -> list[NodeSpec]:
    return [
        NodeSpec(
            name=name,
            kind="k",
            description=f"about {name}",
            examples=tuple(f"{SIGNALS.get(name, ('strange1',))[0]} noise{i}" for i in range(examples)),
        )
        for name in names
    ]


@pytest.mark.parametrize("names", [tuple(SIGNALS), ("fruit", "ships", "new"), ("fruit", "ships"), ("new", "newer")])
@pytest.mark.parametrize("examples", [0, 3])
def test_probabilities_are_probabilities(trained: TrainedScorer, names: tuple[str, ...], examples: int) -> None:
    scorer = trained.for_nodes(specs(*names, examples=examples))
    scores = scorer.score(TEXTS)
    assert set(scores.labels) == set(names) and scores.probabilities.shape == (5, len(names))
    assert np.isfinite(scores.probabilities).all() and np.allclose(scores.probabilities.sum(axis=1), 1, atol=1e-4)
    assert ((scores.in_scope >= 0) & (scores.in_scope <= 1)).all()
    if "fruit" in names:
        assert [scores.labels[i] for i in scores.probabilities[:2].argmax(axis=1)] == ["fruit", "ships"]


def test_order_is_no_matter_and_scoring_is_deterministic(trained: TrainedScorer) -> None:
    wanted = specs("fruit", "new", "ships", "newer")
    first, second = (trained.for_nodes(order).score(TEXTS) for order in (wanted, wanted[::-1]))
    assert first.labels == second.labels
    assert np.array_equal(first.probabilities, second.probabilities) and np.array_equal(first.in_scope, second.in_scope)


def test_a_batch_scores_like_single_texts(trained: TrainedScorer) -> None:
    single = np.concatenate([trained.score([text]).probabilities for text in TEXTS])
    assert np.allclose(trained.score(TEXTS).probabilities, single, atol=1e-5)


@pytest.mark.parametrize("names", [(), ("fruit",), ("new",)])
def test_few_nodes_and_no_texts(trained: TrainedScorer, names: tuple[str, ...]) -> None:
    scorer = trained.for_nodes(specs(*names))
    assert scorer.score(TEXTS).probabilities.shape == (5, len(names))
    assert scorer.score([]).probabilities.shape == (0, len(names))
    assert scorer.strategy == "trained" and scorer.labels == names
