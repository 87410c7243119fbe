"""Rollouts in the store, and when a version is taken back."""

from __future__ import annotations

import pytest
from fakes import chat, spec

from deployments.canary_watch import Watch
from deployments.feedback import FeedbackLog
from deployments.rollouts import Rollouts, Tally
from deployments.snapshot import Canary
from deployments.traffic import Traffic
from graph.context import CallContext
from graph.errors import InvalidRequest
from graph.registry import Registry
from graph.spec import Rollout
from graph.stores.memory import MemoryStore

ROLLOUT = Rollout(share=0.5, max_flips=0.1, min_answers=10)


@pytest.mark.parametrize(
    ("tally", "taken_back"),
    [
        (Tally(answers=9, flips=9), False),
        (Tally(answers=10, flips=1), False),
        (Tally(answers=10, flips=2), True),
        (Tally(rated=10, unpaired=10, unpaired_bad=2), True),
        (Tally(rated=10, unpaired=10, unpaired_bad=2, old_rated=10, old_bad=2), False),
        (Tally(rated=10, rated_flips=2, unpaired=0, old_rated=10, old_bad=5), True),
    ],
    ids=["few", "at the limit", "answers", "ratings", "no worse than before", "pairs"],
)
def test_a_version_is_taken_back_past_the_threshold(tally: Tally, taken_back: bool) -> None:
    assert (tally.too_many(ROLLOUT) is not None) is taken_back


async def test_a_rollout_is_begun_once_promoted_once_and_known_after_a_restart() -> None:
    store = MemoryStore()
    registry, rollouts = Registry(store), Rollouts(store)
    first = await registry.put(spec("a"), source="api", author="x")
    second = await registry.put(spec("a", model="new", rollout={"share": 0.1}), source="api", author="x")
    assert await rollouts.of(second, None) is None  # nothing serves: nothing to be careful for
    begun = await rollouts.of(second, first)
    assert begun is not None and (begun.version, begun.stable) == (2, 1)
    assert await Rollouts(store).of(second, None) == begun
    with pytest.raises(InvalidRequest, match="version 1 of node 'a' is in no rollout"):
        await rollouts.promote("a", 1, by="x")
    await rollouts.promote("a", 2, by="x")
    assert await Rollouts(store).of(second, first) is None
    with pytest.raises(InvalidRequest):
        await rollouts.promote("a", 2, by="x")
    assert [entry["act"] for entry in await registry._audit.read()][-1] == "node.promote"


async def test_what_changes_no_answer_needs_no_rollout() -> None:
    registry = Registry(store := MemoryStore())
    first = await registry.put(spec("a", rollout={"share": 0.1}), source="api", author="x")
    second = await registry.put(spec("a", rollout={"share": 0.2}, examples=("hi",)), source="api", author="x")
    assert await Rollouts(store).of(second, first) is None


async def test_what_several_gateways_saw_is_added_up() -> None:
    store = MemoryStore()
    one, other = Rollouts(store), Rollouts(store)
    await one.add("a", 2, Tally(answers=3), [])
    assert (await other.seen("a", 2))[0].answers == 3
    await one.add("a", 2, Tally(answers=2, flips=1), [{"request_id": "r"}])
    tally, flips = await other.seen("a", 2)
    assert (tally.answers, tally.flips, flips) == (5, 1, [{"request_id": "r"}])
    assert (await other.seen("a", 3))[0] == Tally()


async def test_ratings_become_flips_where_the_old_version_was_rated_better() -> None:
    store = MemoryStore()
    rollouts, feedback = Rollouts(store), FeedbackLog(store, Traffic(10))
    watch = Watch(rollouts, store)
    canary = Canary(spec("a", rollout={"share": 0.5}), 2, 0.5)
    await watch.catch_up()

    async def rate(id: str, text: str, new: bool, rating: str) -> None:
        watch.asked(canary, chat(text, context=CallContext(id)), new)
        for _ in range(2):  # who says it twice is counted once
            await feedback.keep({"request_id": id, "rating": rating}, by="x")
        await watch.catch_up()

    await rate("r1", "same", False, "good")
    await rate("r2", "same", True, "bad")
    await rate("r3", "both", False, "bad")
    await rate("r4", "both", True, "bad")
    await rate("r5", "alone", True, "bad")
    await rate("r6", "fine", True, "good")
    tally, flips = await rollouts.seen("a", 2)
    assert tally == Tally(rated=4, rated_flips=1, unpaired=2, unpaired_bad=1, old_rated=2, old_bad=1)
    assert [(flip["request_id"], flip["by"]) for flip in flips] == [("r2", "feedback"), ("r5", "feedback")]


async def test_of_a_plan_that_asked_several_nodes_nobody_knows_who_is_meant() -> None:
    store = MemoryStore()
    rollouts, feedback, watch = Rollouts(store), FeedbackLog(store, Traffic(10)), Watch(Rollouts(store), store)
    await watch.catch_up()
    for name in ("a", "b"):
        watch.asked(Canary(spec(name), 2, 0.5), chat("x", context=CallContext("r1")), True)
    await feedback.keep({"request_id": "r1", "rating": "bad"}, by="x")
    await watch.catch_up()
    assert [(await rollouts.seen(name, 2))[0] for name in ("a", "b")] == [Tally(), Tally()]
