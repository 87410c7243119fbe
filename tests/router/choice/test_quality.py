from __future__ import annotations

import numpy as np
import pytest

from graph.spec import NodeSpec
from router.choice.correctness import ChoiceRow, Correctness
from router.choice.quality import choose_blend, fill_gaps, fit_quality
from router.choice.scorer import QualityScorer
from router.evaluation.choice import apgr
from router.scorers.keyword import KeywordScorer

TOPICS = {
    "law": ["contract", "tenant", "court", "statute"],
    "maths": ["integral", "matrix", "prime", "vector"],
    "food": ["soup", "bread", "oven", "salt"],
}
RIGHT = {"law": (0.9, 0.2), "maths": (0.9, 0.8), "food": (0.5, 0.9)}
"""How often (the strong model, the weak model) answers a topic right."""


def rows(count: int, seed: int) -> list[ChoiceRow]:
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        topic = str(random.choice(list(TOPICS)))
        text = " ".join(random.choice(TOPICS[topic], 3)) + f" {random.integers(1000)}"
        strong, weak = (float(random.random() < share) for share in RIGHT[topic])
        found.append(ChoiceRow(text, {"strong": strong, "weak": weak}))
    return found


def test_gains_are_learned_and_tell_when_the_strong_model_is_worth_it(hash_encoder) -> None:
    model = fit_quality(Correctness.of(rows(300, 0)), hash_encoder)
    truth = Correctness.of(rows(400, 1))
    expected = model.expected(truth.texts)
    assert model.models == ("strong", "weak") and expected.min() >= 0 and expected.max() <= 1
    found = apgr(expected[:, 0] - expected[:, 1], truth.scores[:, 0], truth.scores[:, 1])
    assert found is not None and found > 0.9  # random is 0.5; the weak one is better at food, so it passes 1
    by_topic = model.expected(["contract court", "soup oven"])
    assert by_topic[0, 0] - by_topic[0, 1] > 0.4 > by_topic[1, 0] - by_topic[1, 1]
    assert by_topic[0] == pytest.approx(RIGHT["law"], abs=0.2)


def test_the_fit_is_deterministic(hash_encoder) -> None:
    data = Correctness.of(rows(120, 2))
    first, second = (fit_quality(data, hash_encoder).expected(["court bread", "prime"]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_few_rows_and_gaps_are_no_obstacle(hash_encoder) -> None:
    for count in (1, 3, 45):
        data = Correctness.of([*rows(count, 3), ChoiceRow("soup", {"third": 1.0})])
        expected = fit_quality(data, hash_encoder).expected(["soup", "contract"])
        assert expected.shape == (2, 3) and np.isfinite(expected).all()


def test_no_texts_give_no_rows(hash_encoder) -> None:
    assert fit_quality(Correctness.of(rows(50, 4)), hash_encoder).expected([]).shape == (0, 2)


def test_gaps_are_filled_by_the_model_and_the_request() -> None:
    scores = np.array([[1, 1, np.nan], [0, 0, 0], [1, 0, 1], [0, 0, np.nan]])
    filled = fill_gaps(scores)
    assert filled[0, 2] > filled[3, 2] and not np.isnan(filled).any()
    assert (filled[~np.isnan(scores)] == scores[~np.isnan(scores)]).all()


def test_the_blend_is_never_further_from_the_truth_than_the_table_alone() -> None:
    fell_back = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        scores = random.integers(0, 2, (60, 2)).astype(float)
        table = scores.mean(axis=0) + (scores - scores.mean(axis=0)) * (seed + 1) / 20
        found = np.stack([table, random.normal(size=(60, 2)), random.normal(size=(60, 2))])
        blend = choose_blend(found, scores, ("table", "noise", "more noise"))
        blended = blend.of(found, scores.mean(axis=0))
        assert ((blended - scores) ** 2).sum() <= ((table - scores) ** 2).sum() + 1e-9
        fell_back += blend.apart.tolist() == [1.0, 0.0, 0.0]
    assert 0 < fell_back < 20


def test_a_scorer_tells_quality_of_the_nodes_that_the_data_know(hash_encoder) -> None:
    specs = [NodeSpec(name=name, kind="k", description=name) for name in ("strong", "weak", "other")]
    inner = KeywordScorer.fit(specs)
    scorer = QualityScorer(inner, fit_quality(Correctness.of(rows(60, 6)), hash_encoder))
    scores = scorer.score(["soup", "court"])
    assert (scorer.labels, scorer.strategy) == (inner.labels, "keyword")
    assert scores.quality is not None
    assert np.isnan(scores.quality[:, scores.labels.index("other")]).all()
    assert not np.isnan(scores.quality[:, scores.labels.index("weak")]).any()
    empty = scorer.score([])
    assert empty.quality is not None and empty.quality.shape == (0, 3)
