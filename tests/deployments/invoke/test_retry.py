"""Attempts at the same node."""

from __future__ import annotations

import time

import pytest
from fakes import FakeInvoke, Step, answer, chat, spec
from invoke_parts import deltas_of, lookup_of, text_of

from deployments.invoke.budget import RETRIES, Budget, BudgetSettings
from deployments.invoke.retry import FIRST_WAIT_S, LONGEST_WAIT_S, PATIENCE_S, retrying
from graph.errors import (
    ContentRefused,
    ContextTooLong,
    DeadlineExceeded,
    InvalidRequest,
    ModelyardError,
    NodeRejected,
    NodeUnavailable,
    NodeUnreachable,
    Overloaded,
    StreamBroken,
)
from graph.node import Invoke
from graph.types import Delta


class Sleeps:
    """A `sleep` that only notes."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def stack(script: list[list[Step]], **limits: object) -> tuple[Invoke, FakeInvoke, Sleeps]:
    place, sleeps = FakeInvoke({"a": script}), Sleeps()
    return retrying(place, lookup_of(**limits), Budget(RETRIES), sleep=sleeps, jitter=lambda: 1.0), place, sleeps


def down(**fields: object) -> NodeUnavailable:
    return NodeUnavailable("down", **fields)  # type: ignore[arg-type]


async def test_a_failure_that_may_pass_is_tried_again() -> None:
    invoke, place, sleeps = stack([[down(status=500)], [NodeUnreachable("reset")], answer("well")])
    deltas = await deltas_of(invoke, chat())
    assert (text_of(deltas), len(place.calls), deltas[-1].attempt) == ("well", 3, 3)
    assert sleeps.seconds == [FIRST_WAIT_S, 2 * FIRST_WAIT_S]


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("wrong"),
        ContextTooLong("long"),
        ContentRefused("no"),
        NodeRejected("403", status=403),
        DeadlineExceeded("first_token", 1),
        StreamBroken("cut"),
        Overloaded("full"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_cannot_pass_is_tried_once(error: ModelyardError) -> None:
    invoke, place, _ = stack([[error]])
    with pytest.raises(type(error)):
        await deltas_of(invoke, chat())
    assert (len(place.calls), error.attempts) == (1, 1)


async def test_retry_after_is_waited_for() -> None:
    invoke, _, sleeps = stack([[down(status=429, retry_after=2.0)], answer("well")])
    await deltas_of(invoke, chat())
    assert sleeps.seconds == [2.0]


async def test_a_retry_after_beyond_reason_is_given_up_at_once() -> None:
    invoke, place, sleeps = stack([[down(retry_after=LONGEST_WAIT_S + 1)]])
    with pytest.raises(NodeUnavailable):
        await deltas_of(invoke, chat())
    assert (len(place.calls), sleeps.seconds) == (1, [])


async def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    invoke, place, sleeps = stack([[down(retry_after=20.0)]])
    with pytest.raises(NodeUnavailable):
        await deltas_of(invoke, chat().with_context(deadline=time.time() + 5))
    assert (len(place.calls), sleeps.seconds) == (1, [])


@pytest.mark.parametrize(("limit", "budget", "made"), [(3, None, 3), (1, None, 1), (5, 2, 2), (2, 9, 2)])
async def test_attempts_end_with_the_nodes_limit_or_the_calls_budget(limit: int, budget: int | None, made: int) -> None:
    invoke, place, _ = stack([[down()], [down()], [down()], [down()], [down()]], attempts=limit)
    with pytest.raises(NodeUnavailable) as caught:
        await deltas_of(invoke, chat().with_context(attempts=budget))
    assert (len(place.calls), caught.value.attempts) == (made, made)


async def test_an_answer_that_was_begun_to_be_read_is_not_begun_anew() -> None:
    invoke, place, _ = stack([["half ", down()], answer("whole")])
    with pytest.raises(NodeUnavailable):
        await deltas_of(invoke, chat(stream=True))
    assert len(place.calls) == 1


async def test_a_caller_who_takes_resets_gets_one_and_the_answer_anew() -> None:
    invoke, _, _ = stack([["half ", down()], answer("the whole")])
    deltas = await deltas_of(invoke, chat(stream=True, resets=True))
    assert [delta.reset for delta in deltas].count(True) == 1
    assert text_of(deltas) == "the whole"


async def test_a_caller_who_does_not_stream_sees_nothing_of_a_failed_attempt() -> None:
    invoke, _, _ = stack([["half ", down()], answer("the whole")])
    deltas = await deltas_of(invoke, chat())
    assert "".join(delta.text for delta in deltas) == "the whole"
    assert not any(delta.reset for delta in deltas)


async def test_a_node_with_a_fallback_is_not_waited_for_long() -> None:
    place, sleeps = FakeInvoke({"a": [[down(retry_after=PATIENCE_S / 2)]]}), Sleeps()
    law = spec("a", edges={"fallback": ["b"]}, limits={"attempts": 9})
    invoke = retrying(place, lambda name: law, Budget(RETRIES), sleep=sleeps)
    with pytest.raises(NodeUnavailable):
        await deltas_of(invoke, chat())
    assert sleeps.seconds == [PATIENCE_S / 2] * 2


async def test_a_failing_node_gets_no_more_retries_than_its_budget_allows() -> None:
    now = [0.0]
    budget = Budget(BudgetSettings(share=0.5, reserve=2, per_s=1), clock=lambda: now[0])
    place = FakeInvoke({"a": [[down()] for _ in range(20)]})
    invoke = retrying(place, lookup_of(attempts=2), budget, sleep=Sleeps())
    made = []
    for second in (0, 0, 0, 0, 9, 9, 9):
        now[0] = second
        with pytest.raises(NodeUnavailable) as caught:
            await deltas_of(invoke, chat())
        made.append(caught.value.attempts)
    assert made == [2, 2, 2, 1, 2, 2, 2]


async def test_attempts_that_a_call_made_below_count() -> None:
    twice = down()
    twice.attempts = 2
    invoke, place, _ = stack([[twice], [Delta(finish_reason="stop", attempt=2)]], attempts=4)
    assert (await deltas_of(invoke, chat()))[-1].attempt == 4
    assert place.calls[1][1].context.attempts == 2
