"""The bandit: it learns, it is repeatable, and its guard rails hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bandit import LEARNED, Bandit, Rails
from router.types import Candidate, Utility

NODES = ("a", "b", "c")


def candidates(*shares: float) -> list[Candidate]:
    found = [Candidate(node, share, Utility(share)) for node, share in zip(NODES, shares, strict=False)]
    return sorted(found, key=lambda item: -item.probability)


class World:
    """Requests of a few subjects; for one of them the router's second choice is the right one."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.middles = np.eye(24)[:4]

    def ask(self) -> tuple[np.ndarray, list[Candidate], dict[str, float]]:
        subject = int(self.random.integers(4))
        vector = self.middles[subject] + 0.1 * self.random.normal(size=24)
        truth = {"a": 0.9, "b": 0.3, "c": 0.1} if subject else {"a": 0.1, "b": 0.9, "c": 0.1}
        return (vector / np.linalg.norm(vector)).astype(np.float32), candidates(0.5, 0.35, 0.15), truth


def play(bandit: Bandit | None, rounds: int, *, seed: int = 1) -> list[float]:
    """Return the regret of every round: what the best node would have earned, less what the chosen one does."""
    world, regrets = World(seed), []
    for _ in range(rounds):
        vector, offered, truth = world.ask()
        index = 0
        if bandit is not None and bandit.concerns(offered):
            context = bandit.context(vector)
            index = bandit.choose(offered, context).index
            chosen = offered[index]
            earned = float(world.random.random() < truth[chosen.node])
            bandit.reward(chosen.node, context, chosen.probability, earned)
        regrets.append(max(truth.values()) - truth[offered[index].node])
    return regrets


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_regret_falls_where_the_router_is_wrong(seed: int) -> None:
    alone = play(None, 3000, seed=seed)
    learned = play(Bandit(Rails(share=0.1), seed=seed), 3000, seed=seed)
    assert sum(learned[-1000:]) < 0.5 * sum(alone[-1000:])
    assert sum(learned[-1000:]) < 0.7 * sum(learned[:1000])


def test_it_does_next_to_no_harm_where_the_router_is_right() -> None:
    bandit, random = Bandit(Rails(share=0.05), seed=0), np.random.default_rng(0)
    chosen = []
    for _ in range(2000):
        offered = candidates(0.6, 0.25, 0.15)
        bandit.concerns(offered)
        context = bandit.context(random.normal(size=24).astype(np.float32))
        index = bandit.choose(offered, context).index
        node = offered[index]
        bandit.reward(node.node, context, node.probability, float(random.random() < node.probability))
        chosen.append(index)
    assert np.mean(np.array(chosen) != 0) < 0.08


def test_without_rewards_the_router_decides() -> None:
    bandit = Bandit(Rails(share=0.0))
    offered = candidates(0.5, 0.4, 0.1)
    assert bandit.concerns(offered)
    assert bandit.choose(offered, bandit.context(np.ones(8, np.float32))).index == 0


def test_equal_seeds_make_equal_choices() -> None:
    assert play(Bandit(seed=7), 400) == play(Bandit(seed=7), 400)
    assert play(Bandit(Rails(share=0.5), seed=7), 400) != play(Bandit(Rails(share=0.5), seed=8), 400)


@settings(max_examples=60, deadline=None)
@given(
    shares=st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=60),
    share=st.floats(0, 1),
    floor=st.floats(0, 1),
    confidence=st.floats(0, 1),
    rewards=st.lists(st.floats(0, 1), min_size=60, max_size=60),
)
def test_the_guard_rails_hold_whatever_happens(
    shares: list[tuple[float, float, float]], share: float, floor: float, confidence: float, rewards: list[float]
) -> None:
    bandit = Bandit(Rails(share, floor, confidence), seed=3)
    context = bandit.context(np.ones(8, np.float32))
    tried = 0
    for count, (found, earned) in enumerate(zip(shares, rewards, strict=False), 1):
        offered = candidates(*found)
        if bandit.concerns(offered):
            assert max(found) < confidence
            choice = bandit.choose(offered, context)
            assert offered[choice.index].probability >= floor
            bandit.reward(offered[choice.index].node, context, offered[choice.index].probability, earned)
        else:
            assert max(found) >= confidence or sum(value >= floor for value in found) < 2
        tried = bandit.describe()["tried"]
        assert tried <= share * count
    assert bandit.describe()["decisions"] == len(shares)


def test_what_is_learned_has_a_bound_and_is_forgotten_with_its_node() -> None:
    bandit = Bandit(Rails(share=0.0, floor=0.1, confidence=1.0))
    context = bandit.context(np.ones(8, np.float32))
    for _ in range(500):
        bandit.reward("b", context, 0.0, 1.0)
    near, far = candidates(0.5, 0.2), candidates(0.85, 0.15)
    assert bandit.concerns(near) and bandit.choose(near, context).index == 1
    assert bandit.choose(near, context).why == LEARNED
    assert bandit.concerns(far) and bandit.choose(far, context).index == 0
    assert bandit.describe()["rewards"] == {"b": 500}
    bandit.forget(["a"])
    assert bandit.choose(near, context).index == 0


@pytest.mark.parametrize("name", ["share", "floor", "confidence"])
def test_rails_are_shares(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must lie between 0 and 1; got 2"):
        Rails(**{name: 2})
