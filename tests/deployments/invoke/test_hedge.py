"""A second call to a node that is slow to begin."""

from __future__ import annotations

import asyncio
import time

import pytest
from fakes import DONE, HANG, FakeInvoke, Step, answer, chat
from invoke_parts import deltas_of, lookup_of, text_of
from waiting import until

from deployments.invoke.budget import HEDGES, Budget, BudgetSettings
from deployments.invoke.bulkhead import Bulkhead
from deployments.invoke.hedge import hedged
from deployments.invoke.limits import limited
from graph.errors import DeadlineExceeded, NodeUnavailable, StreamBroken
from graph.node import Invoke, close_stream

SOON = 0.01
NEVER = 60


class Service:
    """Scripts of a node's attempts, and the hedged call of it."""

    def __init__(self, *script: list[Step], budget: Budget | None = None, **limits: object) -> None:
        self.place = FakeInvoke({"a": list(script)})
        lookup = lookup_of(**({"hedge_s": SOON, "concurrency": 2} | limits))
        self.bulkhead = Bulkhead(lookup)
        self.budget = budget or Budget(HEDGES)
        inner = hedged(limited(self.place, lookup), lookup, self.budget, self.bulkhead.take_place)
        self.invoke: Invoke = self.bulkhead.wrap(inner)

    def free_places(self) -> int:
        return self.bulkhead._gate("a")._semaphore._value


async def test_the_second_call_answers_when_the_first_is_silent_and_the_first_is_cancelled() -> None:
    service = Service([HANG], answer("second one"))
    deltas = await deltas_of(service.invoke, chat())
    assert (text_of(deltas), deltas[-1].attempt) == ("second one", 2)
    assert (service.place.asked(), service.place.running, service.free_places()) == (["a", "a"], 0, 2)


async def test_the_slower_call_is_cancelled_as_soon_as_the_other_has_begun() -> None:
    service = Service([HANG], ["one ", HANG])
    stream = service.invoke("a", chat(stream=True))
    assert (await anext(stream)).text == "one "
    assert (service.place.running, service.free_places()) == (1, 1)
    await close_stream(stream)
    assert (service.place.running, service.free_places()) == (0, 2)


async def test_the_first_call_may_still_win() -> None:
    service = Service([0.05, "first", DONE], [HANG])
    deltas = await deltas_of(service.invoke, chat())
    assert (text_of(deltas), deltas[-1].attempt, service.place.running) == ("first", 2, 0)


@pytest.mark.parametrize("limits", [{"hedge_s": NEVER}, {"hedge_s": None}, {"attempts": 1}], ids=str)
async def test_who_is_in_time_does_not_ask_or_has_no_attempt_left_is_not_hedged(limits: dict[str, object]) -> None:
    service = Service([0.05, "first", DONE], answer("never"), **limits)
    assert text_of(await deltas_of(service.invoke, chat())) == "first"
    assert len(service.place.calls) == 1


async def test_the_calls_own_cap_counts() -> None:
    service = Service([0.05, "first", DONE], answer("never"))
    assert text_of(await deltas_of(service.invoke, chat().with_context(attempts=1))) == "first"


async def test_a_call_without_hedging_has_no_layer_more() -> None:
    place = FakeInvoke({"a": [answer("x")]})
    inner = place("a", chat())
    invoke = hedged(lambda node, call: inner, lookup_of(), Budget(HEDGES), Bulkhead(lookup_of()).take_place)
    assert invoke("a", chat()) is inner
    await close_stream(inner)


async def test_the_budget_bounds_hedges() -> None:
    budget = Budget(BudgetSettings(share=0.0, reserve=1, per_s=0.0))
    service = Service([0.05, "a", DONE], [0.05, "b", DONE], [0.05, "c", DONE], budget=budget)
    for _ in range(2):
        await deltas_of(service.invoke, chat())
    assert len(service.place.calls) == 3
    assert service.free_places() == 2


async def test_no_place_no_hedge() -> None:
    service = Service([0.05, "first", DONE], answer("never"), concurrency=1)
    assert text_of(await deltas_of(service.invoke, chat())) == "first"
    assert service.budget.spend("a")  # and nothing was spent


async def test_one_that_fails_leaves_it_to_the_other() -> None:
    service = Service([0.05, NodeUnavailable("first")], [0.1, "second", DONE])
    assert text_of(await deltas_of(service.invoke, chat())) == "second"
    service = Service([0.05, "first", DONE], [NodeUnavailable("second")])
    assert text_of(await deltas_of(service.invoke, chat())) == "first"


async def test_when_both_fail_the_first_ones_error_is_raised_with_both_counted() -> None:
    service = Service([0.05, NodeUnavailable("first")], [NodeUnavailable("second")])
    with pytest.raises(NodeUnavailable, match="first") as caught:
        await deltas_of(service.invoke, chat())
    assert (caught.value.attempts, service.place.running, service.free_places()) == (2, 0, 2)


async def test_one_that_fails_before_it_is_late_is_left_to_whoever_retries() -> None:
    service = Service([NodeUnavailable("first")], answer("never"))
    with pytest.raises(NodeUnavailable) as caught:
        await deltas_of(service.invoke, chat())
    assert (caught.value.attempts, len(service.place.calls)) == (1, 1)


async def test_an_answer_that_breaks_later_counts_both() -> None:
    service = Service([HANG], ["half ", StreamBroken("cut")])
    with pytest.raises(StreamBroken) as caught:
        await deltas_of(service.invoke, chat(stream=True))
    assert (caught.value.attempts, service.place.running) == (2, 0)


async def test_time_limits_hold_for_both() -> None:
    service = Service([HANG], first_token_s=0.1)
    with pytest.raises(DeadlineExceeded) as caught:
        await deltas_of(service.invoke, chat())
    assert (caught.value.limit, caught.value.attempts, service.place.running) == ("first_token", 2, 0)
    with pytest.raises(DeadlineExceeded):
        await deltas_of(service.invoke, chat().with_context(deadline=time.time() + 0.05))


async def test_cancelling_ends_both() -> None:
    service = Service([HANG])
    task = asyncio.create_task(deltas_of(service.invoke, chat()))
    await until(lambda: service.place.running == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (service.place.running, service.free_places()) == (0, 2)
