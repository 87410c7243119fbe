"""The decoder that is trained and the one that plans are the same, and its plans keep the links and lengths."""

from __future__ import annotations

import numpy as np
import pytest

from router.planners.decoder import Decoder
from router.planners.rerank import Memory, features, fit
from router.planners.trained import Ranker, worth

NODES, WIDTH = 5, 8


def described() -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((NODES, WIDTH)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def net():
    import torch

    from router.training.plan_net import build

    torch.manual_seed(0)
    return build(described()).eval()


def tokens(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((6, WIDTH)).astype(np.float32)


def test_beam_search_scores_as_the_trained_module_does(net) -> None:
    import torch

    decoder = Decoder(net.arrays(), None, (1, 4))
    for seed in range(3):
        best = decoder.search(tokens(seed))[0]
        steps = torch.tensor([[*best.nodes, NODES]])
        with torch.no_grad():
            logits, classes = net(torch.from_numpy(tokens(seed))[None], torch.ones(1, 6), steps)
        logp = logits.log_softmax(-1)[0].gather(1, steps.T).sum()
        assert best.logp == pytest.approx(float(logp), abs=1e-3)
        assert np.allclose(decoder.classify(tokens(seed)), classes[0].numpy(), atol=1e-3)


def test_plans_keep_links_and_lengths_and_come_best_first(net) -> None:
    allowed = (np.random.default_rng(2).random((NODES, NODES)) < 0.5).astype(np.float32)
    decoder = Decoder(net.arrays(), allowed, (2, 3))
    for seed in range(5):
        found = decoder.search(tokens(seed))
        assert found and len({c.nodes for c in found}) == len(found)
        assert [c.logp for c in found] == sorted((c.logp for c in found), reverse=True)
        for candidate in found:
            assert 2 <= len(candidate.nodes) <= 3
            assert all(allowed[a, b] for a, b in zip(candidate.nodes, candidate.nodes[1:], strict=False))


def test_the_ranker_learns_what_tells_the_right_candidate(net) -> None:
    decoder = Decoder(net.arrays(), None, (1, 3))
    memory = Memory.of(np.eye(WIDTH, dtype=np.float32)[:2], [(0, 1), (2, 3)])
    groups = []
    for seed in range(8):
        own = tokens(seed)
        candidates = decoder.search(own)
        table = features(candidates, decoder.classify(own), own.mean(axis=0), memory)
        groups.append((table, np.array([1.0 if len(c.nodes) == 1 else 0.0 for c in candidates])))
    ranker = Ranker(*fit(groups))
    candidates = decoder.search(tokens(9))
    table = features(candidates, decoder.classify(tokens(9)), tokens(9).mean(axis=0), memory)
    assert len(ranker.best(candidates, table).nodes) == 1


def test_a_plan_is_worth_what_it_shares_with_the_right_one() -> None:
    assert worth((1, 2), (1, 2)) == 1.0
    assert worth((1, 2, 3), (1, 2)) > worth((2, 1), (1, 2)) > worth((4, 5), (1, 2)) == 0.0
