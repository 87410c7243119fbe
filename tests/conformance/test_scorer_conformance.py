"""Every strategy of scoring keeps the same promises."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import pytest

from graph.spec import NodeSpec
from router.scorers.strategies import make_scorer, strategies
from router.types import Array

TEXTS = ["an apple and a pear", "harbour for a boat", "", "completely different words", "apple " * 5000]


class _Words:
    name = "words"

    def encode(self, texts: Sequence[str]) -> Array:
        vectors = np.full((len(texts), 128), 1e-3, dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, int(hashlib.sha256(word.encode()).hexdigest(), 16) % 128] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _specs(examples: int) -> list[NodeSpec]:
    words = {
        "fruit": ("apple", "pear", "plum"),
        "ships": ("boat", "harbour", "sail"),
        "stars": ("moon", "sun", "orbit"),
    }
    return [
        NodeSpec(
            name=name,
            kind="k",
            description=" and ".join(own),
            examples=tuple(f"{own[i % 3]} {own[(i + 1) % 3]} number {i}" for i in range(examples)),
        )
        for name, own in words.items()
    ]


@pytest.fixture(params=sorted(strategies()))
def strategy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("examples", [0, 1, 2, 12])
def test_probabilities_are_probabilities(strategy: str, examples: int) -> None:
    scores = make_scorer(strategy, _specs(examples), _Words()).score(TEXTS)
    assert scores.probabilities.shape == (5, 3) and scores.in_scope.shape == (5,)
    assert np.isfinite(scores.probabilities).all() and np.allclose(scores.probabilities.sum(axis=1), 1, atol=1e-4)
    assert ((scores.in_scope >= 0) & (scores.in_scope <= 1)).all()
    assert [scores.labels[i] for i in scores.probabilities[:2].argmax(axis=1)] == ["fruit", "ships"]


def test_strangers_are_less_in_scope(strategy: str) -> None:
    scores = make_scorer(strategy, _specs(12), _Words()).score(TEXTS)
    assert scores.in_scope[3] < 0.5 < scores.in_scope[0]


def test_fit_is_deterministic_and_order_is_no_matter(strategy: str) -> None:
    specs = _specs(6)
    first = make_scorer(strategy, specs, _Words()).score(TEXTS)
    second = make_scorer(strategy, specs[::-1], _Words()).score(TEXTS)
    assert first.labels == second.labels
    assert np.array_equal(first.probabilities, second.probabilities) and np.array_equal(first.in_scope, second.in_scope)


def test_a_batch_scores_like_single_texts(strategy: str) -> None:
    scorer = make_scorer(strategy, _specs(6), _Words())
    single = np.concatenate([scorer.score([text]).probabilities for text in TEXTS])
    assert np.allclose(scorer.score(TEXTS).probabilities, single, atol=1e-5)


@pytest.mark.parametrize("nodes", [0, 1])
def test_few_nodes_and_no_texts(strategy: str, nodes: int) -> None:
    scorer = make_scorer(strategy, _specs(4)[:nodes], _Words())
    assert scorer.score(TEXTS).probabilities.shape == (5, nodes)
    assert scorer.score([]).probabilities.shape == (0, nodes)
    assert scorer.strategy == strategy and len(scorer.labels) == nodes


def test_an_unknown_strategy_is_named_with_what_there_is() -> None:
    with pytest.raises(ValueError, match="'magic'; there is embedding, indexed, keyword"):
        make_scorer("magic", [], _Words())
