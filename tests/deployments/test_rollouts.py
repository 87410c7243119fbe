"""Rollouts in the store, and when a version is taken back."""

from __future__ import annotations

import pytest
from fakes import chat, spec

from deployments.access.principal import OPERATOR, Principal
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
            await feedback.keep({"request_id": id, "rating": rating}, by=OPERATOR)
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
    await feedback.keep({"request_id": "r1", "rating": "bad"}, by=OPERATOR)
    await watch.catch_up()
    assert [(await rollouts.seen(name, 2))[0] for name in ("a", "b")] == [Tally(), Tally()]


def key(name: str, *scopes: str) -> Principal:
    return Principal(name, name, frozenset(scopes or ("call",)))


async def rated(*ratings: tuple[Principal, Principal, int]) -> tuple[Rollouts, Tally]:
    """Let callers ask a newer version, and others say that its answers are bad."""
    store = MemoryStore()
    rollouts, feedback = Rollouts(store), FeedbackLog(store, Traffic(10))
    watch, canary = Watch(rollouts, store), Canary(spec("a", rollout={"share": 0.5}), 2, 0.5)
    await watch.catch_up()
    for turn, (asks, rates, times) in enumerate(ratings):
        for number in range(times):
            context = CallContext(f"r{turn}-{number}", caller=asks.caller)
            watch.asked(canary, chat(f"{turn} {number}", context=context), True)
            await feedback.keep({"request_id": context.request_id, "rating": "bad"}, by=rates)
    await watch.catch_up()
    return rollouts, (await rollouts.seen("a", 2))[0]


ANN, BOB, ADMIN = key("key_ann"), key("key_bob"), key("key_root", "admin")


@pytest.mark.parametrize(
    ("ratings", "taken_back"),
    [
        ([(ANN, ANN, 30)], False),
        ([(ANN, ANN, 30), (BOB, BOB, 9)], False),
        ([(ANN, ANN, 10), (BOB, BOB, 10)], True),
        ([(ANN, ADMIN, 10)], True),
        ([(OPERATOR, OPERATOR, 10)], True),
    ],
    ids=["one key", "another too seldom", "two keys", "an admin", "the operator"],
)
async def test_no_one_keys_ratings_take_a_version_back(
    ratings: list[tuple[Principal, Principal, int]], taken_back: bool
) -> None:
    rollouts, tally = await rated(*ratings)
    assert tally.rated == sum(times for *_, times in ratings)
    assert (await rollouts.too_many("a", 2, ROLLOUT) is not None) is taken_back


async def test_who_did_not_ask_does_not_rate_and_takes_nobodys_request_by_its_id() -> None:
    assert (await rated((ANN, BOB, 3)))[1] == Tally()
    store = MemoryStore()
    rollouts, feedback = Rollouts(store), FeedbackLog(store, Traffic(10))
    watch, canary = Watch(rollouts, store), Canary(spec("a", rollout={"share": 0.5}), 2, 0.5)
    await watch.catch_up()
    for asks in (ANN, BOB):
        watch.asked(canary, chat("x", context=CallContext("r1", caller=asks.caller)), True)
    for rates, rating in ((BOB, "bad"), (ANN, "good")):
        await feedback.keep({"request_id": "r1", "rating": rating}, by=rates)
    await watch.catch_up()
    assert (await rollouts.seen("a", 2))[0] == Tally(rated=1, unpaired=1)
