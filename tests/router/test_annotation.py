"""Selective annotation: what is chosen to be labelled, and what belongs together."""

from __future__ import annotations

import numpy as np
import pytest

from router.annotation import cluster, naming_words, vote_k
from router.suggestions import Asked, suggest
from router.types import Encoder
from router.vectors import AnyArray, unit


def blobs(sizes: tuple[int, ...], *, noise: float = 0.1, seed: int = 0) -> AnyArray:
    """Groups of unit vectors around axes of their own."""
    random = np.random.default_rng(seed)
    rows = [np.eye(16)[index] + noise * random.normal(size=(size, 16)) for index, size in enumerate(sizes)]
    return unit(np.concatenate(rows).astype(np.float32))


def test_vote_k_follows_the_definition() -> None:
    vectors = blobs((6, 5, 4))
    k, chosen = 3, []
    similar = vectors @ vectors.T - 2 * np.eye(len(vectors))
    edges = [set(np.argsort(-row, kind="stable")[:k].tolist()) for row in similar]
    for _ in range(4):  # the formula of the paper, word for word
        free = [u for u in range(len(vectors)) if u not in chosen]
        score = {
            u: sum(10.0 ** -len(edges[v] & set(chosen)) for v in range(len(vectors)) if u in edges[v]) for u in free
        }
        chosen.append(max(free, key=lambda u: (round(score[u], 9), -u)))
    assert vote_k(vectors, 4, k=k) == chosen


def test_a_small_group_is_not_forgotten_beside_large_ones() -> None:
    sizes = (30, 20, 10, 5)
    chosen = vote_k(blobs(sizes), 8, k=4)
    assert set(np.repeat(np.arange(4), sizes)[chosen].tolist()) == {0, 1, 2, 3}


def test_more_of_them_cover_better_than_chance() -> None:
    vectors = blobs((40, 20, 10, 5, 5), noise=0.25)
    chosen = vote_k(vectors, 8, k=6)
    covered = (vectors @ vectors[chosen].T).max(axis=1).mean()
    random = np.random.default_rng(1)
    luck = [(vectors @ vectors[random.choice(80, 8, replace=False)].T).max(axis=1).mean() for _ in range(50)]
    assert covered > np.mean(luck)


def test_weights_zero_are_never_chosen_and_budgets_are_kept() -> None:
    vectors = blobs((5, 5))
    weights = np.array([0.0] * 5 + [1.0] * 5)
    assert set(vote_k(vectors, 10, weights=weights)) == {5, 6, 7, 8, 9}
    assert len(vote_k(vectors, 3)) == 3 and vote_k(vectors, 0) == []
    assert vote_k(vectors[:1], 5) == [0] and vote_k(vectors[:0], 5) == []


def test_groups_are_found_and_strangers_left_out() -> None:
    vectors = blobs((8, 5, 1))
    first, second = cluster(vectors, similarity=0.5, least=3)
    assert (sorted(first), sorted(second)) == (list(range(8)), list(range(8, 13)))
    assert cluster(vectors[:2], similarity=0.5, least=3) == []


def test_a_group_is_named_by_what_the_others_do_not_say() -> None:
    groups = [["water the roses please", "prune the roses"], ["feed the cat please", "the cat sneezes"]]
    words = naming_words(groups, ["please help with the contract"])
    assert words[0][0] == "roses" and words[1][0] == "cat"
    assert naming_words([["?? 12"]], []) == [[]]
    assert naming_words([], ["x"]) == []


def asked(text: str, probability: float, margin: float, *, outside: bool = False) -> Asked:
    return Asked(text, None if outside else "law", probability, margin, outside)


def test_doubtful_requests_are_suggested_and_sure_ones_are_not(hash_encoder: Encoder) -> None:
    sure = [asked(f"contract clause {index}", 0.99, 0.98) for index in range(5)]
    doubtful = [asked(f"ripe apple pie {index}", 0.5, 0.1) for index in range(6)]
    doubtful += [asked(f"old harbour boat {index}", 0.5, 0.1) for index in range(4)]
    found = suggest([*sure, *doubtful], hash_encoder, budget=2)
    assert (found.requests, found.doubtful) == (15, 10)
    first, second = (item.request.text for item in found.to_label)
    assert {first.split()[0], second.split()[0]} == {"ripe", "old"}
    assert [item.stands_for for item in found.to_label] == [6, 4]


def test_what_is_out_of_scope_becomes_a_proposal_with_a_free_name(hash_encoder: Encoder) -> None:
    garden = [asked(f"prune roses garden {word}", 0.2, 0.1, outside=True) for word in ("now", "soon", "later", "well")]
    stranger = [asked("entirely other words here", 0.1, 0.1, outside=True)]
    found = suggest([*garden, *stranger], hash_encoder, budget=5)
    (proposal,) = found.missing
    assert proposal.count == 4 and set(proposal.samples) == {item.text for item in garden}
    assert set(proposal.words) <= {"prune", "roses", "garden"} and found.to_label == ()
    again = suggest(garden, hash_encoder, budget=5, taken=[proposal.name])
    assert again.missing[0].name == f"{proposal.name}_2"


def test_equal_texts_count_once_and_nothing_asked_is_nothing_suggested(hash_encoder: Encoder) -> None:
    assert suggest([asked("same", 0.5, 0.1)] * 9, hash_encoder, budget=5).requests == 1
    empty = suggest([], hash_encoder, budget=5)
    assert (empty.requests, empty.to_label, empty.missing) == (0, (), ())


@pytest.mark.parametrize(("probability", "margin", "doubt"), [(0.95, 0.9, 0.0), (0.6, 0.2, 0.8), (0.4, 0.0, 1.0)])
def test_doubt_is_how_near_the_second_node_comes(probability: float, margin: float, doubt: float) -> None:
    assert asked("x", probability, margin).doubt == pytest.approx(doubt)
